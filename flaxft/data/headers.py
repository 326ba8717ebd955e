"""The first row of a table: whether it holds names, or is a record of a table without names."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from flaxft.errors import UserError

# Names that tables of texts have; one of them, if it is no cell of its own column too, says that the first row is a header.
USUAL = frozenset(
    """text texts sentence sentence1 sentence2 label labels title tokens token words word tag tags ner_tags id idx index guid question context answer answers
    category class target score rating stars review body content message comment tweet utterance intent query sentiment premise hypothesis url date name author
    description summary document passage topic language lang y x""".split()
)
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?$")
WORD = re.compile(r"[^\W\d][\w.#/-]{0,39}$")
TAG = re.compile(r"(O|[BIESLUMW][-_].+)$")
LONG = 6  # words that no name of a column has, but a text
HINT = "put a row of names above it, such as text,label"


class Column(Protocol):
    """What is known of the cells below a name."""

    counts: Counter[str]  # how often each short cell stands in the first records
    num_cells: int  # that are not blank, in these records
    num_texts: int  # of these, that have blanks inside


def unique(names: Sequence[str], where: str) -> list[str]:
    """The names of columns, each of which stands once. Raises UserError."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        hint = "rename all but one" if not any(map(_is_value, twice)) else f"rename all but one, or, if this row is a record, {HINT}"
        raise UserError(f"{where}: the column name(s) {', '.join(map(repr, twice))} stand more than once; {hint}")
    return list(names)


def check_header(names: Sequence[str], columns: Sequence[Column], where: str, *, num_blank_lines: int = 0, has_tabs: bool = True) -> None:
    """Raises UserError where the first row is a record, or the table a column file; warns where it may be. `where` is the place of the first row.

    num_blank_lines: between rows; has_tabs: between cells, as a column file needs them.
    """
    has_name = any(map(_is_name, names, columns))
    tags = next((name for name, column in zip(names, columns, strict=True) if _holds_tags(column)), None)
    if num_blank_lines and tags is not None:
        shown = f"has a word a line and blank lines between sentences (column {tags!r} holds tags), so it is no table"
        setting = "set format=columns and comment='#'" if names[0].startswith("#") else "set format=columns"
        steps = ["delete this line of names"] * has_name + ["write TABs between the cells"] * (not has_tabs) + [setting]
        raise UserError(f"{where}: {shown}; {', '.join(steps[:-1])}{' and ' if steps[1:] else ''}{steps[-1]}")
    if has_name or list(names) == [str(number) for number in range(len(names))]:
        return
    for name, column in zip(names, columns, strict=True):
        if column.counts[name] > 1 or (column.counts[name] and 2 * len(column.counts) <= column.num_cells):
            times = f"{name!r} is a cell of {column.counts[name]} other rows too"
            hint = "; a word and its tag a line are format=columns" if num_blank_lines or TAG.match(name) else ""
            raise UserError(f"{where}: the first row is taken for names of columns, but {times}; {HINT}{hint}")
    value = next((name for name, column in zip(names, columns, strict=True) if _is_number_among_numbers(name, column) or len(name.split()) >= LONG), None)
    if value is None:
        return
    shown = f"the first row is taken for names of columns, one of which is {value[:60]!r}"
    if not any(map(WORD.match, names)):
        raise UserError(f"{where}: {shown}, as if it were a record; {HINT}")
    logging.getLogger("flaxft").warning("%s: %s; if it is a record, %s", where, shown, HINT)


def _is_name(name: str, column: Column) -> bool:
    """Whether it surely is one: a usual name, or a word above texts or numbers; and no cell of its column."""
    if column.counts[name]:
        return False
    if name.strip().casefold() in USUAL:
        return True
    numbers = column.num_cells > 0 and all(map(NUMBER.match, column.counts))
    return bool(WORD.match(name)) and column.num_cells > 0 and (numbers or 2 * column.num_texts > column.num_cells)


def _is_value(name: str) -> bool:
    return bool(NUMBER.match(name) or TAG.match(name)) or len(name.split()) >= LONG


def _is_number_among_numbers(name: str, column: Column) -> bool:
    return bool(NUMBER.match(name)) and column.num_cells > 1 and all(map(NUMBER.match, column.counts)) and column.counts.total() == column.num_cells


def _holds_tags(column: Column) -> bool:
    num_tags = sum(times for cell, times in column.counts.items() if TAG.match(cell))
    return len(column.counts) > 1 and num_tags > 0.9 * column.num_cells
