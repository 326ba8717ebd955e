"""Files to predict: what a split may be, and beside that plain text, one text a line."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from flaxft.data.base import Record
from flaxft.data.compression import unpack
from flaxft.data.content import NEWLINE, Content, check_text, read_bytes
from flaxft.data.formats import FORMATS, Format, find_format, guess_format, read, suffix_of
from flaxft.data.magic import refuse
from flaxft.data.source import open_source, read_records
from flaxft.errors import UserError

PLAIN = (".txt", ".text", ".md")
KNOWN = sorted({suffix for format in FORMATS for suffix in format.suffixes} - set(PLAIN))
HUB = "hub:"
LINES = 200  # that are looked at to tell text from a table
WIDTH = 12  # cells of a column file at most; OntoNotes has as many


def read_raw(
    path: str, *, takes_columns: bool, labels: Collection[str] = (), format: str | None = None, comment: str = "", like: Collection[str] = ()
) -> Iterator[tuple[str, Record]]:
    """`(place, record)` of each record of a file to predict, one by one. Raises UserError.

    A .txt file is one text a line, blank ones included; for a task that reads column files (`takes_columns`) it is one where it looks so: a cell between tabs
    behind each token, or one of the task's `labels`. A pipe is texts or JSON lines. `-` is the standard input.

    `format` and `comment` are the task's settings, and hold for a file with the suffix of one of its splits (their paths are `like`).
    """
    if path.startswith(HUB):
        source = open_source(path, split="test")
        return ((source.where(i), record) for i, record in enumerate(source))
    suffix = suffix_of(path)
    if (format or comment) and suffix in map(suffix_of, like):
        return read_records(path, format=format, comment=comment)
    if suffix in KNOWN or os.path.isdir(path):
        return read_records(path)
    data = read_bytes("/dev/stdin" if path == "-" else path)
    if not data:
        return iter(())
    file = Content(path, unpack(data, path))
    kind = _format(file, suffix=suffix, takes_columns=takes_columns, labels=labels)
    if kind is not None:
        return ((path + kind.where.format(place), record) for place, record in read(file, kind))
    refuse(file, read_as="text")
    check_text(file.data, path)
    return ((f"{path}:{number}", {"text": line.removesuffix("\r")}) for number, line in enumerate(file.lines(), 1))


def _format(file: Content, *, suffix: str, takes_columns: bool, labels: Collection[str]) -> Format | None:
    """None for plain text."""
    is_pipe = not suffix and not Path(file.path).is_file()
    if suffix not in PLAIN and (not is_pipe or file.head.lstrip()[:1] in ("{", "[")):
        try:
            kind = guess_format(file)
        except UserError:
            kind = None
        if kind is not None and kind.name != "columns":
            return kind
    looks = _looks_like_columns(file, labels)
    if looks and takes_columns:
        logging.getLogger("flaxft").info("%s: read as a column file, whose first column are the words, as each line has as many cells", file.path)
        return find_format("columns")
    if suffix not in PLAIN and not is_pipe:
        refuse(file, read_as="")
        check_text(file.data, file.path)
        ending = f"the suffix {suffix!r}" if suffix else "a name without suffix"
        raise UserError(f"{file.path}: {ending} does not say what it holds; name it .txt for one text a line, or one of {', '.join(KNOWN)}")
    if looks and NEWLINE in file.head.strip() and "\t" in file.head:
        what = f"every line has {file.head.split(NEWLINE, 1)[0].count(chr(9)) + 1} cells with a TAB between, so it is a table"
        raise UserError(f"{file.path}: {what}; name it .tsv, with the columns' names in its first line")
    return None


def _looks_like_columns(file: Content, labels: Collection[str]) -> bool:
    """The same number of cells in every line that is not blank: between tabs, or between blanks with a label of the task in the last one."""
    lines = [line.strip(" \r") for line in file.head.split(NEWLINE)[:LINES]]
    lines = [line for line in lines if line and not line.startswith("-DOCSTART-")]
    if not lines:
        return False
    tabs = {line.count("\t") for line in lines}
    if len(tabs) == 1 and 0 < tabs.pop() < WIDTH:
        return True
    cells = [line.split() for line in lines]
    return len({len(line) for line in cells}) == 1 and 1 < len(cells[0]) <= WIDTH and all(line[-1] in labels for line in cells)
