"""Files that are no text, by how they begin: what each is, and the one thing to do with it."""

from __future__ import annotations

import re
import zipfile
from io import BufferedReader
from typing import NamedTuple

from flaxft.data.compression import DataStream
from flaxft.data.content import Content
from flaxft.errors import UserError

SHOWN = 3  # names of an archive's files


class Kind(NamedTuple):
    """`format` is the name of the format that reads it, where one does."""

    name: str
    mend: str = ""
    format: str = ""


PANDAS = "write it as a table instead (df.to_parquet or df.to_csv)"
ARCHIVE = "unpack it, and name the file in it"
WORKBOOK = Kind("an Excel workbook", format="excel")
# How the files of each kind begin. What are letters alone could begin a text too, so that a byte which no text has must follow.
MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (rb"PAR1", Kind("a Parquet file", format="parquet")),
    (rb"ARROW1\0\0", Kind("an Arrow file", format="arrow")),
    (rb"\xff\xff\xff\xff", Kind("an Arrow stream", format="arrow")),
    (rb"(?s)FEA1.*?[\0-\x08]", Kind("a Feather file of version 1", "write it anew (df.to_feather writes version 2), or as Parquet")),
    (rb"(?s)PARE.*?[\0-\x08]", Kind("an encrypted Parquet file", "decrypt it first")),
    (rb"(?s)ORC.*?[\0-\x08]", Kind("an ORC file", "write it as Parquet (pyarrow.orc.read_table, then pyarrow.parquet.write_table)")),
    (rb"Obj\x01", Kind("an Avro file", "write it as Parquet or JSON lines")),
    (rb"SQLite format 3\0", Kind("an SQLite database", 'write its table as CSV (sqlite3 -header -csv FILE "select * from TABLE")')),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("an old Office file (.xls or .doc)", "save it as .xlsx or as CSV UTF-8")),
    (rb"%PDF-\d", Kind("a PDF", "write its texts into a table, a record a line")),
    (rb"\{\\rtf\d", Kind("an RTF document", "save it as plain text or CSV")),
    (rb"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", ARCHIVE)),
    (rb"Rar!\x1a\x07", Kind("a RAR archive", ARCHIVE)),
    (rb"\x1f\x9d", Kind("a file packed by compress (.Z)", "unpack it (uncompress FILE)")),
    (rb"\x04\x22\x4d\x18", Kind("a file packed by LZ4", "unpack it (lz4 -d FILE)")),
    (rb"LZIP[\0\x01]", Kind("a file packed by lzip", "unpack it (lzip -d FILE)")),
    (rb"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", PANDAS)),
    (rb"\x93NUMPY", Kind("a NumPy array", PANDAS)),
    (rb"RD[AX]\d\n", Kind("an R data file", "write it as CSV from R (write.csv)")),
    (rb"[XA]\n\0\0\0", Kind("an R data file", "write it as CSV from R (write.csv)")),
    (rb"<stata_dta>", Kind("a Stata file", PANDAS)),
    (rb'(?s).{6}\0\0\{"', Kind("a safetensors file, the weights of a model", "name a file of texts")),
    (rb"\$FL[23]@\(#\)", Kind("an SPSS file", PANDAS)),
    (rb"\x89PNG", Kind("a PNG picture", "name a file of texts")),
    (rb"\xff\xd8\xff", Kind("a JPEG picture", "name a file of texts")),
    (rb"GIF8[79]a", Kind("a GIF picture", "name a file of texts")),
    (rb"\x7fELF", Kind("a program", "name a file of texts")),
    (rb"version https://git-lfs\.github\.com/spec/", Kind("a pointer of Git LFS, not the file itself", "fetch the file (git lfs pull)")),
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")
TAR = (b"ustar", 257)  # and where it stands
PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html[\s>])", re.IGNORECASE)
XML = re.compile(rb"(\xef\xbb\xbf)?\s*<\?xml\s")


def kind_of(file: Content) -> Kind | None:
    """What a file is that no reader of text can read; None for what may be text. Raises nothing."""
    start = file.data[:1024]
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _kind_of_zip(file)
    for magic, kind in MAGIC:
        if re.match(magic, start):
            return kind
    if PICKLE.match(start):
        return Kind("a pickle, which may run any program when it is loaded and never is here", PANDAS)
    if start[TAR[1] :].startswith(TAR[0]):
        return Kind("a tar archive", ARCHIVE)
    if not file.is_asked and PAGE.match(start):
        return Kind("an HTML page, perhaps of a failed download or a login", "download the file itself")
    if not file.is_asked and XML.match(start):
        return Kind("an XML file", "write its texts as JSON lines or CSV, a record a line")
    return None


def refuse(file: Content, *, read_as: str) -> None:
    """Raises UserError for a file that is of another kind than the format it is to be read as ("" for none yet)."""
    kind = kind_of(file)
    if kind is None or kind.format == read_as != "":
        return
    if kind.format:
        raise UserError(f"{file.path}: is {kind.name}, not {read_as or 'text'}; set task.format={kind.format}")
    raise UserError(f"{file.path}: is {kind.name}; {kind.mend}")


def _kind_of_zip(file: Content) -> Kind:
    try:
        with zipfile.ZipFile(BufferedReader(DataStream(file.data))) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Kind("a ZIP archive that is cut off or damaged", "download it again")
    if any(name.startswith("xl/") for name in names):
        return WORKBOOK if not any(name.endswith(".bin") and name.startswith("xl/workbook") for name in names) else Kind(
            "a binary Excel workbook (.xlsb)", "save it as .xlsx or as CSV UTF-8"
        )  # fmt: skip
    if any(name.startswith("word/") for name in names):
        return Kind("a Word document", "write its texts into a table, and save that as CSV UTF-8")
    if any(name.startswith("ppt/") for name in names):
        return Kind("a PowerPoint file", "write its texts into a table, a record a line")
    if "mimetype" in names and "content.xml" in names:
        return Kind("an OpenDocument file", "save it as .xlsx or as CSV UTF-8")
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        return Kind("a file of PyTorch, a pickle that never is loaded here", PANDAS)
    if names and all(name.endswith(".npy") for name in names):
        return Kind("a file of NumPy arrays (.npz)", PANDAS)
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return Kind(f"a ZIP archive{f' of {shown}' if shown else ' without files'}", f"{ARCHIVE} (unzip FILE)")
