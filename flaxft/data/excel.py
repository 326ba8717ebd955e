"""Excel workbooks (.xlsx): the first sheet as a table."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from flaxft.data.compression import FLOOR, LIMIT, RATIO, DataStream
from flaxft.data.content import Content, Placed
from flaxft.data.headers import check_header, unique
from flaxft.data.survey import Column
from flaxft.data.tables import list_in
from flaxft.errors import UserError, reason

Row = tuple[int, tuple[Any, ...]]  # its number in the sheet, and its cells


def read_excel(file: Content) -> Placed:
    """A row a record under the names of the first row: texts, numbers, true or false, dates, lists where a column of texts holds lists; None for an empty cell.

    Raises UserError.
    """
    _check_size(file)
    rows = _rows(file)
    first = next(rows, None)
    if first is None:
        return
    names, columns = [_name(cell) for cell in first[1]], [Column() for _ in first[1]]
    for _, cells in rows:
        for column, cell in zip(columns, cells, strict=False):
            column.add("" if cell is None else str(cell), is_counted=True)
    width = max((i + 1 for i, name in enumerate(names) if name or columns[i].num_filled), default=0)
    names, columns, where = names[:width], columns[:width], f"{file.path}: row {first[0]}"
    unique(names, where)
    check_header(names, columns, where)
    lists = {name for name, column in zip(names, columns, strict=True) if column.holds_lists}
    for number, cells in _rows(file):
        if number > first[0]:
            record = dict(zip(names, (*cells, *[None] * (width - len(cells))), strict=False))
            read = {name: list_in(str(record[name] or ""), name, f"{file.path}: row {number}") for name in lists}
            yield number, record | read


def is_excel(file: Content) -> bool:
    """Whether a file is a ZIP archive of a workbook; a file of another kind in it is told by its name when it is read."""
    return file.data[:4] == b"PK\x03\x04" and file.data.find(b"xl/workbook.xml") >= 0


def _name(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _check_size(file: Content) -> None:
    """Raises UserError for a bomb: the archive says how large its files are, and Python reads no more of them."""
    try:
        with zipfile.ZipFile(BufferedReader(DataStream(file.data))) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{file.path}: not a whole Excel workbook ({reason(error)}); save it again, or as CSV UTF-8") from None
    if size > LIMIT or size > max(FLOOR, RATIO * len(file.data)):
        raise UserError(f"{file.path}: {len(file.data):,} bytes of a workbook become {size // 2**20:,} MiB, which no table does; save it as CSV UTF-8")


def _rows(file: Content) -> Iterator[Row]:
    """The rows of the first sheet that are not empty. Raises UserError."""
    try:
        import openpyxl
    except ImportError:
        raise UserError(f'{file.path}: an Excel workbook is read by openpyxl; pip install "flaxft[excel]", or save the sheet as CSV UTF-8') from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that a workbook may have
            book = openpyxl.load_workbook(BufferedReader(DataStream(file.data)), read_only=True, data_only=True)
            sheet = book.worksheets[0]
            if len(book.worksheets) > 1:
                logging.getLogger("flaxft").info("%s: of %d sheets the first is read, %r", file.path, len(book.worksheets), sheet.title)
            for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                if any(cell is not None and cell != "" for cell in cells):
                    yield number, cells
    except Exception as error:  # noqa: BLE001  openpyxl raises KeyError, TypeError, its own and those of zipfile and the XML parser
        raise UserError(f"{file.path}: not a whole Excel workbook ({reason(error)}); save it again, or as CSV UTF-8") from None
