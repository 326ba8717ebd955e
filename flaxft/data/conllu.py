"""CoNLL-U files (https://universaldependencies.org/format.html): a word a line with ten columns, comments, ranges of words and empty nodes."""

from __future__ import annotations

import itertools
import re

from flaxft.data.content import NEWLINE, Content, Placed
from flaxft.errors import UserError

# Its columns in order; FORM is the word.
NAMES = ("id", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
NUMBER = re.compile(r"\d+(?:[-.]\d+)?")  # of a word, of a range of words that are written as one (1-2), of a word that is understood (5.1)


def read_conllu(file: Content) -> Placed:
    """A sentence a record, a list for each of `NAMES` but the first: comments, ranges and empty nodes are no words. Raises UserError."""
    start = 0
    rows: list[list[str]] = []
    for number, line in enumerate(itertools.chain(file.lines(), [""]), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            if rows:
                yield start, {name: list(column) for name, column in zip(NAMES[1:], list(zip(*rows, strict=True))[1:], strict=True)}
            rows = []
        elif not line.startswith("#"):
            cells = line.split("\t")
            if len(cells) != len(NAMES) or not NUMBER.fullmatch(cells[0]):
                hint = "CoNLL-U has ten columns with a TAB between and a word's number in the first; set format='columns' for others"
                raise UserError(f"{file.path}:{number}: found {len(cells)} column(s) in {line[:80]!r}, expected {len(NAMES)}: {hint}")
            if cells[0].isdecimal():
                start = start if rows else number
                rows.append(cells)


def looks_like_conllu(file: Content) -> bool:
    """Ten columns with a TAB between, of which the first counts from 1."""
    lines = (line.removesuffix("\r") for line in file.head.split(NEWLINE))
    rows = [line.split("\t") for line in itertools.islice((line for line in lines if line.strip() and not line.startswith("#")), 20)]
    sound = all(len(cells) == len(NAMES) and NUMBER.fullmatch(cells[0]) for cells in rows)
    return bool(rows) and sound and re.fullmatch(r"1(-\d+)?|0\.1", rows[0][0]) is not None
