"""Tables: CSV and TSV files, whatever stands between their cells."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

from flaxft.data.cells import CutError, parse_list
from flaxft.data.content import HEAD, NEWLINE, Content, Placed
from flaxft.data.headers import TAG, check_header, unique
from flaxft.data.survey import Row, Survey, survey
from flaxft.errors import UserError

MAX_CELL = 1 << 27  # characters in one CSV cell; Python's own limit of 131072 is shorter than a book
TAB = "\t"
DELIMITERS = {",": "commas", TAB: "TABs", ";": "semicolons", "|": "vertical bars"}
SEP = re.compile(r'"?sep=(.)"?\r?\n')  # what Excel writes above the header
RULE = re.compile(r"\|?[ \t]*:?-{3,}:?[ \t]*\|[ \t|:-]*")  # the second line of a table of Markdown
CUT = ("unexpected end of data", "field larger than field limit")  # Python's words for a quote that is not closed
log = logging.getLogger("flaxft")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the cells of a table are written."""

    delimiter: str
    has_quotes: bool = True  # a cell may stand in quotes; else quotes are letters
    has_escapes: bool = False  # a quote in a cell is \\" and not ""
    skips_blanks: bool = False  # behind the delimiter
    skips_line: bool = False  # the first one, which tells the delimiter

    def reader(self, lines: Iterable[str], *, strict: bool = True) -> Any:
        escape = "\\" if self.has_escapes else None
        options: dict[str, Any] = {"delimiter": self.delimiter, "quoting": csv.QUOTE_MINIMAL if self.has_quotes else csv.QUOTE_NONE, "escapechar": escape}
        return csv.reader(lines, skipinitialspace=self.skips_blanks, strict=strict, **options)


@dataclasses.dataclass
class LeftOut:
    """Rows that are no records."""

    num_empty: int = 0
    num_headers: int = 0
    first_header: int = 0  # its line


@dataclasses.dataclass
class Table:
    """A table that was looked at once: `rows` gives its records."""

    file: Content
    layout: Layout
    names: list[str]  # of all columns
    first: int  # the line of the names
    num_columns: int  # without empty ones at the end that have no name
    survey: Survey
    left_out: LeftOut
    error: UserError | None  # where reading ended, if not at the end


def read_csv(file: Content) -> Placed:
    """A row a record: its cells as strings, or as lists where a column holds lists, under the names of the first row. Raises UserError."""
    return _read_table(file, delimiter=",")


def read_tsv(file: Content) -> Placed:
    """The same, with a TAB between cells. Raises UserError."""
    return _read_table(file, delimiter=TAB)


def looks_like_words(file: Content) -> bool:
    """Whether a file in a table's name has a word and its tag a line, no header, and blank lines between sentences."""
    lines = [line.rstrip("\r") for line in file.head.strip(NEWLINE).split(NEWLINE)]
    rows = [line.split(TAB) for line in lines if line.strip()]
    if len(rows) == len(lines) or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return False
    num_tags = sum(bool(TAG.match(row[-1].strip())) for row in rows)
    found = bool(TAG.match(rows[0][-1].strip())) and num_tags > 0.9 * len(rows)
    if found:
        log.info("%s: read as format=columns: a word and its tags a line, and blank lines between sentences", file.path)
    return found


def _read_table(file: Content, *, delimiter: str) -> Placed:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    table = _look(file, own=delimiter)
    if table is None:
        return
    _check(table, own=delimiter)
    width = table.num_columns
    names = table.names[:width]
    lists = [i for i, column in enumerate(table.survey.columns[:width]) if column.holds_lists]
    if lists:
        log.info("%s: the cells of %s are read as lists", file.path, _named([names[i] for i in lists]))
    for row in _records(file, table.layout, table.names, LeftOut()):
        record: dict[str, Any] = dict(zip(names, row.cells, strict=False))
        for i in lists:
            record[names[i]] = list_in(row.cells[i], names[i], f"{file.path}:{row.first}")
        yield row.first, record


# ---- how it is written ----


def _look(file: Content, *, own: str) -> Table | None:
    """The table as it is most likely meant; None without a header. Raises UserError for a header that cannot be read."""
    first = _first_layout(file.head, own=own, is_whole=len(file.data) <= HEAD)
    table = _survey(file, first)
    if table is None or file.data.find(b'"') < 0:
        return table
    num_lines, num_records = table.survey.num_lines, table.survey.num_records
    if first.delimiter == TAB and (table.error or num_lines > num_records):
        letters = _survey(file, dataclasses.replace(first, has_quotes=False))
        if letters is not None and (table.error or len(letters.names) > 1) and not letters.error:
            why = "they do not balance" if table.error else f"taken otherwise they would make {num_records:,} records of {num_lines:,} lines"
            log.info("%s: quotes are read as letters: %s", file.path, why)
            return letters
    if table.error and file.data.find(b'\\"') >= 0:
        escaped = _survey(file, dataclasses.replace(first, has_escapes=True))
        if escaped is not None and not escaped.error:
            log.info('%s: a quote in a cell is written \\"', file.path)
            return escaped
    return table


def _first_layout(head: str, *, own: str, is_whole: bool) -> Layout:
    """What stands between the cells: `own`, or what the first records and the header agree on, each having as many cells."""
    sep = SEP.match(head)
    if sep:
        return Layout(sep[1], skips_line=True)
    rows = {delimiter: _first_rows(head, delimiter, is_whole=is_whole) for delimiter in (own, *DELIMITERS)}
    fitting = [delimiter for delimiter, cells in rows.items() if _agree(cells)]
    chosen = own if own in fitting or len(fitting) != 1 else fitting[0]
    skips_blanks = len(rows[chosen]) > 1 and len(rows[chosen][0]) > 1 and all(cell[:1] == " " for row in rows[chosen] for cell in row[1:])
    return Layout(chosen, skips_blanks=skips_blanks)


def _first_rows(head: str, delimiter: str, *, is_whole: bool) -> list[list[str]]:
    """The rows of the first lines, without the last one where it may be cut off; with quotes as letters where each row then has as many cells."""
    tried: list[list[list[str]]] = []
    for layout in (Layout(delimiter), Layout(delimiter, has_quotes=False)):
        rows: list[list[str]] = []
        with contextlib.suppress(csv.Error):
            rows.extend(row for row in layout.reader(io.StringIO(head, newline=""), strict=False) if row)
        tried.append(rows if is_whole else rows[:-1])
    return next((rows for rows in tried if _agree(rows)), tried[0])


def _agree(rows: list[list[str]]) -> bool:
    """Whether the header and one record at least have the same number of cells, more than one."""
    return len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1


def _survey(file: Content, layout: Layout) -> Table | None:
    """None without a header. Raises UserError for a header that cannot be read."""
    rows = _rows(file, layout)
    header = next((row for row in rows if any(row.cells)), None)
    if header is None:
        return None
    names = [cell.strip() for cell in header.cells]
    error: list[UserError] = []
    left_out = LeftOut()
    found = survey(_until_error(_records(file, layout, names, left_out), error), width=len(names), delimiter=layout.delimiter)
    width = len(names)
    while width > 1 and not names[width - 1] and not found.columns[width - 1].num_filled:
        width -= 1
    return Table(file, layout, names, header.first, width, found, left_out, error[0] if error else None)


def _until_error(rows: Iterator[Row], errors: list[UserError]) -> Iterator[Row]:
    try:
        yield from rows
    except UserError as error:
        errors.append(error)


# ---- its rows ----


def _rows(file: Content, layout: Layout) -> Iterator[Row]:
    """All rows that are not blank, the header too. Raises UserError."""
    current: list[str] = []

    def lines() -> Iterator[str]:
        for block in file.blocks():
            for line in io.StringIO(block, newline=""):
                current.append(line)
                yield line

    reader = layout.reader(lines())
    while True:
        number = reader.line_num + 1  # a row's first line; after reading it `line_num` is its last
        current.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            hint = 'a cell that holds a quote is written "so ""here"" it is"; token files need format=\'columns\''
            told = ": a quote that opens here is never closed" if str(error).startswith(CUT) else ""
            raise UserError(f"{file.path}:{number}: {error}{told}; {hint}") from None
        if cells is None:
            return
        if cells and not (layout.skips_line and number == 1):
            yield Row(number, reader.line_num, cells, tuple(current))


def _records(file: Content, layout: Layout, names: list[str], left_out: LeftOut) -> Iterator[Row]:
    """The rows below the header that have a cell each; empty ones and the header once more are left out. Raises UserError for another number of cells."""
    header: list[str] | None = None
    for row in _rows(file, layout):
        if len(names) > 1 and not any(row.cells):
            left_out.num_empty += 1  # a spreadsheet's
            continue
        if header is None:
            header = row.cells
        elif len(row.cells) != len(names):
            hint = f"put a cell that holds {layout.delimiter!r} in quotes"
            if len(names) == 1:
                hint = f"delete the line {names[0][:40]!r} if it is no name of a column, or {hint}"
            elif TAG.match(row.cells[-1]):
                hint = f"{hint}; token files need format='columns'"
            raise UserError(f"{file.path}:{row.first}: found {len(row.cells)} cell(s), expected {len(names)} as in the header; {hint}")
        elif len(names) > 1 and row.cells == header:  # of several files that were joined
            left_out.num_headers += 1
            left_out.first_header = left_out.first_header or row.first
        else:
            yield row


# ---- what does not fit ----


def _check(table: Table, *, own: str) -> None:
    """Raises UserError for a table that is not what it seems, and says what was guessed."""
    file, found, names = table.file, table.survey, table.names[: table.num_columns]
    where = f"{file.path}:{table.first}"
    delimiter = table.layout.delimiter
    if len(names) == 1:
        _check_delimiter(names[0], where, file.head, own=delimiter)
    unique(names, where)
    if all(len(name) > 2 and name[0] == name[-1] == "'" for name in names):
        raise UserError(f"{where}: the names stand in single quotes ({', '.join(names)[:80]}); write double quotes around cells, or none")
    if not found.num_records:
        return
    if RULE.fullmatch(next(iter(file.head.split(NEWLINE)[1:2]), "").strip()):
        raise UserError(f"{where}: a table of Markdown, with a rule of dashes below its names; write it as CSV")
    check_header(names, found.columns[: len(names)], where, num_blank_lines=_num_blank(file.head), has_tabs=delimiter == TAB)
    if table.layout.has_quotes and (row := found.first_swallowed(delimiter=delimiter)) is not None:
        hint = 'a quote that is a letter is written "" in a cell that stands in quotes'
        raise UserError(f"{file.path}:{row.first}: a quote opens here and closes in line {row.last}, with whole records between; {hint}")
    if delimiter != own and delimiter in DELIMITERS:
        log.info("%s: the cells are separated by %s", file.path, DELIMITERS[delimiter])
    if table.left_out.num_empty:
        log.info("%s: %d rows of empty cells are left out", file.path, table.left_out.num_empty)
    if table.left_out.num_headers:
        first = table.left_out.first_header
        log.warning("%s:%d: the header stands here again, and %d times below its first line; it is left out", file.path, first, table.left_out.num_headers)
    if found.num_broken and table.layout.has_quotes:
        lines, records = f"{found.num_lines:,} lines", f"{found.num_records:,} records"
        log.info("%s: %s on %s: %d of them have line breaks in a cell, the first in line %d", file.path, records, lines, found.num_broken, found.first_broken)


def _check_delimiter(name: str, where: str, head: str, *, own: str) -> None:
    """Raises UserError where the one column's name holds the delimiter of most lines."""
    lines = [line for line in head.split(NEWLINE) if line.strip()][1:]
    for delimiter, called in DELIMITERS.items():
        num = name.count(delimiter)
        if delimiter != own and num and lines and sum(line.count(delimiter) >= num for line in lines) > len(lines) / 2:
            odd = next((line for line in lines if line.count(delimiter) != num), lines[0])
            cells = f"{num + 1} in the header and {odd.count(delimiter) + 1} in {odd.strip()[:60]!r}"
            hint = f"put a cell that holds {delimiter!r} in quotes"
            raise UserError(f"{where}: one column {name[:60]!r}, whose cells seem to be separated by {called}, but there are {cells}; {hint}")


def _num_blank(head: str) -> int:
    """Blank lines between others."""
    return sum(not line.strip() for line in head.strip().split(NEWLINE))


def list_in(cell: str, name: str, where: str) -> Any:
    """The list or object in a cell of a column that holds such. Raises UserError."""
    if not cell.strip():
        return []
    try:
        return parse_list(cell)
    except CutError:
        hint = "write the table anew with whole lists, as JSON lines (df.to_json(FILE, orient='records', lines=True))"
        raise UserError(f"{where}: the list in column {name!r} is not whole: NumPy left out what stands at '...'; {hint}") from None
    except ValueError as error:
        hint = 'write it as ["a", "b"]'
        raise UserError(f"{where}: column {name!r} holds lists, but this cell is {cell[:60]!r} ({error}); {hint}") from None


def _named(names: list[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
