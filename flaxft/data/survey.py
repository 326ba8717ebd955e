"""A first look over all rows of a table: how many there are, what the cells of each column are, and what does not fit."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flaxft.data.cells import CutError, looks_like_list, parse_list

NUM_COUNTED = 5000  # records whose cells are counted
SHORT = 64  # characters of a cell that may be a label
NUM_PARSED = 100  # cells in brackets that are tried as lists
NUM_KEPT = 20  # suspicious records that are looked at


class Row(NamedTuple):
    first: int  # the number of its first line
    last: int
    cells: list[str]
    lines: Sequence[str]  # as they stand in the file


@dataclasses.dataclass
class Column:
    """What is known of the cells below a name."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)  # of the short ones among the first records
    num_cells: int = 0  # not blank, among the first records
    num_texts: int = 0  # of these, with blanks inside
    num_filled: int = 0  # not blank, among all records
    num_brackets: int = 0  # of these, in brackets
    num_parsed: int = 0  # of the first of these, how many were tried as lists
    num_lists: int = 0  # and were some
    has_commas: bool = False  # a cell in square brackets has a comma inside

    def add(self, cell: str, *, is_counted: bool) -> None:
        if not cell or cell.isspace():
            return
        self.num_filled += 1
        if is_counted:
            self.num_cells += 1
            if len(cell) <= SHORT:
                self.counts[cell] += 1
            self.num_texts += " " in cell.strip()
        if looks_like_list(cell):
            self.num_brackets += 1
            if self.num_parsed < NUM_PARSED:
                self.num_parsed += 1
                self.num_lists += _is_list(cell)
                self.has_commas = self.has_commas or (cell.lstrip()[0] == "[" and "," in cell)

    @property
    def holds_lists(self) -> bool:
        """Whether its cells are to be read as lists: all of them are in brackets, or most are lists. A text or two in brackets make no such column."""
        if self.num_brackets == self.num_filled > 0:
            return self.num_lists > 0 or (self.has_commas and self.num_filled > 1)
        return 2 * self.num_brackets > self.num_filled and 2 * self.num_lists > self.num_parsed

    @property
    def labels(self) -> frozenset[str]:
        """Its values, where each stands twice on average."""
        return frozenset(self.counts) if 2 * len(self.counts) <= self.num_cells else frozenset()


@dataclasses.dataclass
class Survey:
    """Of the rows below a header."""

    columns: list[Column]
    num_records: int = 0
    num_broken: int = 0  # records whose cells hold line breaks
    first_broken: int = 0  # the line of the first of them
    num_lines: int = 0  # of all records
    swallowed: list[Row] = dataclasses.field(default_factory=list)  # records of several lines, each of which alone has as many cells as the header

    def add(self, row: Row, *, delimiter: str) -> None:
        is_counted = self.num_records < NUM_COUNTED
        self.num_records += 1
        for column, cell in zip(self.columns, row.cells, strict=True):
            column.add(cell, is_counted=is_counted)
        self.num_lines += row.last - row.first + 1
        if row.last > row.first:
            self.num_broken += 1
            self.first_broken = self.first_broken or row.first
            width = len(self.columns)
            if width > 1 and len(self.swallowed) < NUM_KEPT and all(line.count(delimiter) == width - 1 for line in row.lines[:-1] if line.strip()):
                self.swallowed.append(row)

    def first_swallowed(self, *, delimiter: str) -> Row | None:
        """A record that has other records in one of its cells: each of its lines but the last has a label of other records in the same column."""
        labels = [column.labels for column in self.columns]
        for row in self.swallowed:
            inner = [line.rstrip("\r\n").split(delimiter) for line in row.lines[:-1] if line.strip()]
            if any(of_column and all(cells[i] in of_column for cells in inner) for i, of_column in enumerate(labels)):
                return row
        return None


def survey(rows: Iterable[Row], *, width: int, delimiter: str) -> Survey:
    """Raises whatever reading the rows does, but for `rows` that end."""
    found = Survey([Column() for _ in range(width)])
    for row in rows:
        found.add(row, delimiter=delimiter)
    return found


def _is_list(cell: str) -> bool:
    try:
        parse_list(cell)
    except CutError:
        return True  # it was one
    except ValueError:
        return False
    return True
