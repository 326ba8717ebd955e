"""Files that are no text are called by their names, and packed ones are unpacked or refused as bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from flaxft.data import compression
from flaxft.data.source import open_source
from flaxft.errors import UserError

CSV = b"text,label\ngood film,pos\nbad film,neg\n"
RECORDS = [{"text": "good film", "label": "pos"}, {"text": "bad film", "label": "neg"}]
TABLE = pa.table({"text": ["good film", "bad film"], "label": ["pos", "neg"]})


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def written(write, *arguments, **options) -> bytes:
    stream = io.BytesIO()
    write(*arguments, stream, **options)
    return stream.getvalue()


def tarred(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))
    return stream.getvalue()


def database() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table a (text, label)")
    return connection.serialize()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(2))
    return stream.getvalue()


# name, content, what the line says
NAMED = {
    "zip": ("a.zip", zipped(**{"train.csv": CSV, "test.csv": CSV}), "a ZIP archive of train.csv, test.csv; unpack it"),
    "zip by a table's name": ("a.csv", zipped(**{"a.csv": CSV}), "a ZIP archive of a.csv; unpack it"),
    "empty zip": ("a.zip", zipped(), "a ZIP archive without files"),
    "cut zip": ("a.zip", zipped(**{"a.csv": CSV})[:40], "a ZIP archive that is cut off or damaged; download it again"),
    "docx": ("a.docx", zipped(**{"word/document.xml": b""}), "a Word document"),
    "ods": ("a.ods", zipped(**{"mimetype": b"", "content.xml": b""}), "an OpenDocument file; save it as .xlsx"),
    "xlsb": ("a.xlsb", zipped(**{"xl/workbook.bin": b""}), "a binary Excel workbook (.xlsb); save it as .xlsx"),
    "xlsx by another name": ("a.csv", zipped(**{"xl/workbook.xml": b""}), "an Excel workbook, not csv; set task.format=excel"),
    "torch": ("a.pt", zipped(**{"archive/data.pkl": b""}), "a file of PyTorch"),
    "npz": ("a.npz", npz(), "a file of NumPy arrays (.npz)"),
    "npy": ("a.npy", written(lambda array, stream: np.save(stream, array), np.zeros(2)), "a NumPy array"),
    "7z": ("a.7z", b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive; unpack it"),
    "rar": ("a.rar", b"Rar!\x1a\x07\1\0", "a RAR archive; unpack it"),
    "tar": ("a.tar", tarred("w"), "a tar archive; unpack it"),
    "tar.gz": ("a.tar.gz", tarred("w:gz"), "a tar archive; unpack it"),
    "xls": ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(8), "an old Office file (.xls or .doc); save it as .xlsx"),
    "pickle": ("a.pkl", pickle.dumps(["a"]), "a pickle, which may run any program when it is loaded and never is here; write it as a table"),
    "orc": ("a.orc", written(pyarrow.orc.write_table, TABLE), "an ORC file; write it as Parquet"),
    "sqlite": ("a.db", database(), "an SQLite database; write its table as CSV"),
    "pdf": ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\n", "a PDF"),
    "rtf": ("a.txt", b"{\\rtf1\\ansi text}", "an RTF document"),
    "hdf5": ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(8), "an HDF5 file"),
    "html": ("a.csv", b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page, perhaps of a failed download"),
    "xml": ("a.xml", b"<?xml version='1.0'?><a/>", "an XML file"),
    "git lfs": ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a pointer of Git LFS, not the file itself; fetch"),
    "git lfs csv": ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a pointer of Git LFS"),
    "parquet by another name": ("a.csv", written(pq.write_table, TABLE), "a Parquet file, not csv; set task.format="),
    "safetensors": ("a.jsonl", (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}', "a safetensors file, the weights of a model"),
    "png": ("a.txt", b"\x89PNG\r\n\x1a\n\0", "a PNG picture"),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_binary_file_is_called_by_its_name(case: str, tmp_path: Path):
    name, content, message = NAMED[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_source(str(tmp_path / name), split="train")
    assert str(caught.value).startswith(f"{tmp_path / name}: is {message}")


@pytest.mark.parametrize("text", ["ORC,label\na,b\n", "BZh91,label\na,b\n", "RDX,label\na,b\n", "LZIP,GIF8\na,b\n", "PARE,FEA1\na,b\n", "7z,Rar!\na,b\n"])
def test_a_text_that_begins_like_one_is_read(text: str, tmp_path: Path):
    (tmp_path / "a.csv").write_text(text)
    assert len(open_source(str(tmp_path / "a.csv"), split="train")) == 1


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}
NAMES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_are_read(suffix: str, tmp_path: Path):
    file = tmp_path / f"a.csv{suffix}"
    file.write_bytes(PACK[suffix](CSV))
    assert list(open_source(str(file), split="train")) == RECORDS
    (tmp_path / "a.csv").write_bytes(PACK[suffix](CSV))  # known by its content
    assert list(open_source(str(tmp_path / "a.csv"), split="train")) == RECORDS


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_of_several_parts_are_read(suffix: str, tmp_path: Path):
    file = tmp_path / f"a.csv{suffix}"
    file.write_bytes(PACK[suffix](CSV[:20]) + PACK[suffix](CSV[20:]))
    assert list(open_source(str(file), split="train")) == RECORDS


@pytest.mark.parametrize("suffix", PACK)
def test_damaged_packed_files_are_refused(suffix: str, tmp_path: Path):
    file = tmp_path / f"a.csv{suffix}"
    packed = PACK[suffix](CSV * 100)
    flipped = [packed[:20] + b"\xff" * 9 + packed[29:]] if suffix != ".zst" else []  # which has a checksum only where it is asked for
    for content in (packed[:-5], *flipped):
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"the {NAMES[suffix]} data is cut off or corrupt"):
            open_source(str(file), split="train")
    file.write_bytes(CSV)
    with pytest.raises(UserError, match=f"ends in {suffix} but holds no {NAMES[suffix]} data"):
        open_source(str(file), split="train")
    file.write_bytes(PACK[suffix](b""))
    with pytest.raises(UserError, match=f"empty .0 bytes after {NAMES[suffix]}|cut off"):
        open_source(str(file), split="train")


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_refused_as_soon_as_it_shows(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compression, "FLOOR", 1 << 16)
    monkeypatch.setattr(compression, "BLOCK", 1 << 12)
    file = tmp_path / f"a.csv{suffix}"
    file.write_bytes(PACK[suffix](b"a,b\n" + bytes(20_000_000)))
    with pytest.raises(UserError, match=r"become more than .* MiB, which no table does; download it again"):
        open_source(str(file), split="train")
    monkeypatch.setattr(compression, "LIMIT", 1 << 10)
    monkeypatch.setattr(compression, "RATIO", 10**6)
    file.write_bytes(PACK[suffix](b"a,b\n" + bytes(20_000)))
    with pytest.raises(UserError, match="become more than"):
        open_source(str(file), split="train")


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        ("text,label\nM\u00fcnchen,a\n".encode("latin-1"), "iconv -f LATIN1 -t UTF-8 if it is Latin-1"),
        ("text,label\n\u201cM\u00fcnchen\u201d \u2013 4 \u20ac,a\n".encode("cp1252"), "iconv -f WINDOWS-1252 -t UTF-8"),
        ("text,label\nIt\u2019s fine,a\n".encode("cp1252"), "iconv -f WINDOWS-1252 -t UTF-8"),
        ("text,label\n\u043f\u043b\u043e\u0445\u043e\u0439 \u0444\u0438\u043b\u044c\u043c,a\n".encode("cp1251"), "WINDOWS-1251 for Cyrillic"),
        ("text,label\n\u5f88\u597d\u7684\u7535\u5f71,a\n".encode("gb18030"), "GB18030 for Chinese"),
        (b"text,label\nM\x81nchen is a large town in Bavaria,a\n", "with the name of the encoding that it was saved in"),
        ("text,label\nabc,a\n".encode("utf-32"), "iconv -f UTF-32 -t UTF-8"),
        ("text,label\nabc,a\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
        ("text,label\nabc,a\n".encode("utf-16-be"), "iconv -f UTF-16BE -t UTF-8"),
    ],
)
def test_another_encoding_is_told(content: bytes, mend: str, tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_source(str(tmp_path / "a.csv"), split="train")
    assert mend in str(caught.value)
