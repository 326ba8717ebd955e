"""Excel workbooks are read as tables, or one line says what to install."""

from __future__ import annotations

import datetime
import io
import logging
import sys
import zipfile
from pathlib import Path

import pytest

from flaxft.data import excel
from flaxft.data.source import open_source
from flaxft.errors import UserError

ROWS = [["text", "label", "when", None], ["good film", 1, datetime.datetime(2024, 5, 1), None], [], ["bad film", 0, None, None], [None, None, None, None]]
RECORDS = [{"text": "good film", "label": 1, "when": datetime.datetime(2024, 5, 1)}, {"text": "bad film", "label": 0, "when": None}]


def workbook(file: Path, *sheets: list[list]) -> Path:
    book = pytest.importorskip("openpyxl").Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(file)
    return file


def refused(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_source(str(file), split="train")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).removeprefix(str(file))


def archive(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["a.xlsx", "a.XLSX", "a", "a.download"])
def test_the_first_sheet_is_read(name, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="flaxft")
    file = workbook(tmp_path / name, ROWS, [["other"], ["sheet"]])
    source = open_source(str(file), split="train")
    assert list(source) == RECORDS
    assert [source.where(i) for i in range(2)] == [f"{file}: row 2", f"{file}: row 4"]
    assert f"{file}: of 2 sheets the first is read, 'sheet 1'" in caplog.messages


def test_lists_in_cells(tmp_path):
    file = workbook(tmp_path / "a.xlsx", [["tokens", "tags"], ["['a', 'b']", '["O", "O"]'], ["['c']", "['O']"]])
    assert list(open_source(str(file), split="train")) == [{"tokens": ["a", "b"], "tags": ["O", "O"]}, {"tokens": ["c"], "tags": ["O"]}]


def test_what_is_no_table(tmp_path):
    rows = [["good film", "pos"], ["bad film", "neg"], ["so so", "pos"], ["no", "neg"], ["yes", "pos"]]
    assert refused(workbook(tmp_path / "a.xlsx", rows)).startswith(": row 1: the first row is taken for names of columns, but 'pos' is a cell of 2 other rows")
    assert refused(workbook(tmp_path / "b.xlsx", [["a", "a"], [1, 2]])).startswith(": row 1: the column name(s) 'a' stand more than once")
    assert refused(workbook(tmp_path / "c.xlsx", [])).startswith(": no records")
    assert refused(workbook(tmp_path / "d.xlsx", [["text", "label"]])).startswith(": no records; expected at least one row below the header")


def test_damaged_workbooks(tmp_path, monkeypatch):
    whole = workbook(tmp_path / "a.xlsx", ROWS).read_bytes()
    file = tmp_path / "b.xlsx"
    for content in (archive(**{"xl/workbook.xml": "<a"}), archive(**{"xl/worksheets/sheet1.xml": "text,label"})):
        file.write_bytes(content)
        assert refused(file).startswith(": not a whole Excel workbook")
    file.write_bytes(whole[:-30])
    assert "is cut off or damaged" in refused(file)
    monkeypatch.setattr(excel, "FLOOR", 1000)
    file.write_bytes(archive(**{"xl/workbook.xml": "a" * 3_000_000}))
    assert "bytes of a workbook become 2 MiB, which no table does" in refused(file)


def test_without_openpyxl_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    file = tmp_path / "a.xlsx"
    file.write_bytes(archive(**{"xl/workbook.xml": "<a/>"}))
    assert refused(file) == ': an Excel workbook is read by openpyxl; pip install "flaxft[excel]", or save the sheet as CSV UTF-8'
