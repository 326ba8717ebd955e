"""Tables: CSV and TSV files."""

from __future__ import annotations

import csv
import io

from flaxft.data.content import Content, Placed
from flaxft.errors import UserError

MAX_CELL = 1 << 27  # characters in one CSV cell; Python's own limit of 131072 is shorter than a book


def read_csv(file: Content) -> Placed:
    """A row a record: its cells as strings under the names of the first row. Raises UserError."""
    return _read_table(file, delimiter=",")


def read_tsv(file: Content) -> Placed:
    """The same, with a TAB between cells. Raises UserError."""
    return _read_table(file, delimiter="\t")


def _read_table(file: Content, *, delimiter: str) -> Placed:
    path = file.path
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    lines = (line for block in file.blocks() for line in io.StringIO(block, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1  # a row's first line; after reading it `line_num` is its last
        try:
            row = next(reader, None)
        except csv.Error as error:
            hint = 'a cell that holds a quote is written "so ""here"" it is"; token files need format=\'columns\''
            raise UserError(f"{path}:{number}: {error}; {hint}") from None
        if row is None:
            return
        if not row:
            continue
        if not header:
            header = unique(row, f"{path}:{number}")
        elif len(row) != len(header):
            hint = f"put a cell that holds {delimiter!r} in quotes"
            raise UserError(f"{path}:{number}: found {len(row)} cell(s), expected {len(header)} as in the header; {hint}")
        else:
            yield number, dict(zip(header, row, strict=True))


def unique(names: list[str], where: str) -> list[str]:
    """The names of columns, each of which stands once. Raises UserError."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where}: the column name(s) {', '.join(map(repr, twice))} stand more than once; rename all but one")
    return names
