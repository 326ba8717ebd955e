"""The content of a file: its bytes without compression, and its text line by line."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import itertools
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flaxft.data.spool import Spool
from flaxft.errors import UserError, nearest

BLOCK = 1 << 20  # bytes of a file that are looked at together
HEAD = 1 << 16  # bytes that a sniffer sees
NEWLINE = "\n"  # nothing else ends a line: U+2028 and U+0085, where str.splitlines cuts, are found inside tokens
LINE_END = NEWLINE.encode()
MAX_LOOKED_AT = 16  # blocks of a file whose encoding is guessed
OTHER_SCRIPT = 0.3  # share of bytes beyond ASCII, blanks aside: 0.1 in French or German, 0.8 in Chinese or Russian
NOT_IN_WINDOWS_1252 = (0x81, 0x8D, 0x8F, 0x90, 0x9D)

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


def _byte_blocks(data: Data) -> Iterator[bytes]:
    start = len(codecs.BOM_UTF8) if data[:3] == codecs.BOM_UTF8 else 0
    while start < len(data):
        end = data.find(LINE_END, start + BLOCK) + 1 or len(data)
        yield data[start:end]
        start = end


def check_text(data: Data, path: str) -> None:
    """All of it, before a line is read. Raises UserError."""
    if data[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        raise UserError(f"{path}:1: the text is UTF-32; save it as UTF-8 (iconv -f UTF-32 -t UTF-8)")
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(f"{path}:1: the text is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    nul, line = 0, 1
    for block in _byte_blocks(data):
        try:
            block.decode()
        except UnicodeDecodeError as error:
            where = f"{path}:{line + block.count(LINE_END, 0, error.start)}"
            raise UserError(f"{where}: byte 0x{block[error.start]:02x} is not UTF-8; save the file as UTF-8 ({_recoding(data)})") from None
        if not nul and (at := block.find(b"\0")) >= 0:
            nul = line + block.count(LINE_END, 0, at)
        line += block.count(LINE_END)
    if nul:
        zeros = [data[i:HEAD:2].count(0) / max(1, len(data[i:HEAD:2])) for i in range(2)]
        if max(zeros) > 0.4 and min(zeros) < 0.1:
            order = "LE" if zeros[1] > zeros[0] else "BE"
            raise UserError(f"{path}:{nul}: a NUL byte in every second place, so this is UTF-16; save it as UTF-8 (iconv -f UTF-16{order} -t UTF-8)")
        raise UserError(f"{path}:{nul}: a NUL byte, so this is no UTF-8 text file; save it as UTF-8 text without NUL")
    if line == 1 and data.find(b"\r") >= 0:
        raise UserError(f"{path}:1: the line ends are lone CR; turn them into LF (tr '\\r' '\\n')")


def _recoding(data: Data) -> str:
    """How to make UTF-8 of a text that is none. Bytes 0x80 to 0x9f are letters and quotes in Windows-1252; in Latin-1 they are control characters."""
    text = b"".join(itertools.islice(_byte_blocks(data), MAX_LOOKED_AT))
    counts = [text.count(byte) for byte in range(256)]
    if sum(counts[0x80:]) > OTHER_SCRIPT * sum(counts[0x21:]):
        return "iconv -f ENCODING -t UTF-8, with GB18030 for Chinese, SHIFT_JIS for Japanese, CP949 for Korean, WINDOWS-1251 for Cyrillic"
    if any(counts[byte] for byte in NOT_IN_WINDOWS_1252):
        return "iconv -f ENCODING -t UTF-8, with the name of the encoding that it was saved in"
    return "iconv -f WINDOWS-1252 -t UTF-8 if it is from Windows" if any(counts[0x80:0xA0]) else "iconv -f LATIN1 -t UTF-8 if it is Latin-1"


def line_number(text: str, position: int) -> int:
    """The number of the line in which a character stands."""
    return text.count(NEWLINE, 0, position) + 1
