"""Column files: a token a line with its labels, and a blank line after each sentence."""

from __future__ import annotations

import itertools
import logging
import re

from flaxft.data.conllu import looks_like_conllu, read_conllu
from flaxft.data.content import Content, Placed
from flaxft.errors import UserError

log = logging.getLogger("flaxft")
KEY = re.compile(r"#\s*[A-Za-z][\w. ]*=\s*\S")  # a comment that says what it is of


def read_columns(file: Content) -> Placed:
    """A sentence a record, `{"0": [token, ...], "1": [...], ...}`: a list for each column. Raises UserError."""
    path, comment = file.path, file.comment
    if looks_like_conllu(file):
        log.info("%s: read as CoNLL-U; its comments, ranges of words (1-2) and empty nodes (5.1) are no words", path)
        yield from read_conllu(file)
        return
    if not comment and _begins_with_comments(file):
        log.info("%s: each sentence begins with a line of its own behind #, which is read as a comment", path)
        comment = "#"
    start, width = 0, 0
    sentence: list[list[str]] = []
    for number, line in enumerate(itertools.chain(file.lines(), [""]), 1):
        line = line.removesuffix("\r")
        if not line.strip(" \t") or line.startswith("-DOCSTART-"):
            if sentence:
                yield start, {str(i): list(column) for i, column in enumerate(zip(*sentence, strict=True))}
            sentence = []
            continue
        if comment and not sentence and line.startswith(comment):
            continue
        cells = _cells(line)
        if not sentence and KEY.match(line) and len(cells) != width:  # "# newdoc id = 3"
            continue
        width = width or max(len(cells), 2)
        if len(cells) != width:
            hint = "a token and its labels, with a TAB or spaces between, and a blank line after each sentence"
            hint = "if it is a comment, set task.comment='#'" if line.startswith("#") and not sentence and not comment else hint
            raise UserError(f"{path}:{number}: found {len(cells)} column(s) in {line[:80]!r}, expected {width}: {hint}")
        start = start if sentence else number
        sentence.append(cells)


def _begins_with_comments(file: Content) -> bool:
    """Whether the first line of each sentence is a comment behind #, and not the word # of a tweet: it has other columns, or values that no other line has."""
    firsts: list[list[str]] = []
    others: set[str] = set()
    is_first, width = True, 0
    for line in file.lines():
        line = line.removesuffix("\r")
        if not line.strip(" \t") or line.startswith("-DOCSTART-"):
            is_first = True
        elif is_first and not line.startswith("#"):
            return False
        elif is_first:
            firsts.append(_cells(line))
            is_first = False
        else:
            cells = _cells(line)
            width = width or len(cells)
            others.add(cells[-1])
    if not others or not firsts:
        return False
    if all(len(cells) != width for cells in firsts):
        return True
    return len(firsts) > 2 and not others & {cells[-1] for cells in firsts}


def _cells(line: str) -> list[str]:
    """The cells of a line that is not blank. Empty ones at its end do not count, nor do blanks around one; NBSP and the like are part of a cell."""
    cells = [cell.strip(" ") or cell for cell in line.split("\t")] if "\t" in line else re.split(" +", line.strip(" "))
    while not cells[-1].strip(" "):
        cells.pop()
    return cells


def looks_like_columns(file: Content) -> bool:
    """Running text has several columns too, but not the same number in each line."""
    lines = (line.strip(" \t\r") for line in file.head.split("\n"))
    first = itertools.islice((line for line in lines if line and not line.startswith("-DOCSTART-")), 10)
    widths = {len(_cells(line)) for line in first}
    return len(widths) == 1 and widths.pop() >= 2
