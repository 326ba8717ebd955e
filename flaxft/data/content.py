"""The content of a file: its bytes without compression, and its text line by line."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import gzip
import mmap
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flaxft.data.spool import Spool
from flaxft.errors import UserError, nearest

BLOCK = 1 << 20  # bytes of a file that are looked at together
HEAD = 1 << 16  # bytes that a sniffer sees
NEWLINE = "\n"  # nothing else ends a line: U+2028 and U+0085, where str.splitlines cuts, are found inside tokens
LINE_END = NEWLINE.encode()

Data = bytes | mmap.mmap  # of a file; the latter where it is large
Placed = Iterator[tuple[int | str, dict[str, Any]]]  # what a reader gives: the place of each record, for most formats the number of its line, and the record


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """A file that was opened: what a reader is given."""

    path: str  # as the user gave it, for messages
    data: Data  # without compression
    comment: str = ""  # how a line begins that is to be skipped; only formats that take comments are given one
    is_asked: bool = False  # the user named the format, so that nothing is to be guessed
    beside: Mapping[str, bytes] = dataclasses.field(default_factory=dict)  # further files that belong to this one (`Format.beside`), by path

    @functools.cached_property
    def head(self) -> str:
        """The first lines, for a sniffer: whole ones where there are several. What is no UTF-8 is replaced."""
        start = self.data[:HEAD]
        if len(self.data) > HEAD and LINE_END in start:
            start = start[: start.rindex(LINE_END) + 1]
        return start.removeprefix(codecs.BOM_UTF8).decode(errors="replace")

    def lines(self) -> Iterator[str]:
        """The lines of a sound text, without their ends; a CR before the end stays."""
        return (line for block in self.blocks() for line in block.removesuffix(NEWLINE).split(NEWLINE))

    def blocks(self) -> Iterator[str]:
        """A sound text, some whole lines at a time."""
        return (block.decode() for block in _byte_blocks(self.data))

    def text(self) -> str:
        """A sound text as a whole."""
        return "".join(self.blocks())


def read_bytes(path: str) -> Data:
    """All of a file, or of a pipe. Raises UserError."""
    if re.match(r"[A-Za-z][\w+.-]+://", path):
        raise UserError(f"{path}: an address, and only files and hub:NAME are read; download it, and name the file")
    file = Path(path).expanduser()
    spool = Spool()  # a copy: the file itself may change, and a pipe is read once
    try:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                spool.write(block)
        return spool.content()
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise UserError(f"{path}: no such file, nor is there a folder {str(file.parent)!r}; correct the path") from None
        raise UserError(f"{path}: no such file; correct the path{nearest(file.name, os.listdir(file.parent))}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; name one file in it") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read; give yourself the right to (chmod u+r)") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{path}: cannot be read ({error}); correct the path") from None


def unpack(data: Data, path: str) -> Data:
    """The content without gzip. Gzip is known by its first two bytes, which begin neither UTF-8 text nor Parquet."""
    if not data:
        raise UserError(f"{path}: the file is empty (0 bytes); write or download it again")
    if data[:2] != b"\x1f\x8b":
        if path.endswith(".gz"):
            raise UserError(f"{path}: ends in .gz but holds no gzip data; download it again, or drop .gz from its name if it is plain text")
        return data
    try:
        unpacked = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip data is cut off or corrupt ({error}); download it again") from None
    if not unpacked:
        raise UserError(f"{path}: the file is empty (0 bytes after gzip); write or download it again")
    return unpacked


def _byte_blocks(data: Data) -> Iterator[bytes]:
    start = len(codecs.BOM_UTF8) if data[:3] == codecs.BOM_UTF8 else 0
    while start < len(data):
        end = data.find(LINE_END, start + BLOCK) + 1 or len(data)
        yield data[start:end]
        start = end


def check_text(data: Data, path: str) -> None:
    """All of it, before a line is read. Raises UserError."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(f"{path}:1: the text is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    nul, line = 0, 1
    for block in _byte_blocks(data):
        try:
            block.decode()
        except UnicodeDecodeError as error:
            where = f"{path}:{line + block.count(LINE_END, 0, error.start)}"
            byte = f"byte 0x{block[error.start]:02x}"
            raise UserError(f"{where}: {byte} is not UTF-8; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 if it is Latin-1)") from None
        if not nul and (at := block.find(b"\0")) >= 0:
            nul = line + block.count(LINE_END, 0, at)
        line += block.count(LINE_END)
    if nul:
        raise UserError(f"{path}:{nul}: a NUL byte, so this is no UTF-8 text file; save it as UTF-8 text without NUL")
    if line == 1 and data.find(b"\r") >= 0:
        raise UserError(f"{path}:1: the line ends are lone CR; turn them into LF (tr '\\r' '\\n')")


def line_number(text: str, position: int) -> int:
    """The number of the line in which a character stands."""
    return text.count(NEWLINE, 0, position) + 1
