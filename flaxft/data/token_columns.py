"""The columns of a column file: which of them holds words and which tags, and whether the file is one at all."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from flaxft.data import tags as schemes
from flaxft.data.base import Record, Source
from flaxft.errors import UserError

SAMPLE = 3000  # records that are looked at
FILLERS = frozenset(("_", "-", "*", "", "SpaceAfter=No"))  # cells of a column that says nothing of its words
ENDS = frozenset(".!?…。！？")
MEND = "name the columns in task.text_columns and task.label_column"
COREFERENCE = re.compile(r"\(?\d+\)?(\|\(?\d+\)?)*")  # (12|(13, as the last column of CoNLL-2012 has it


class Chosen(NamedTuple):
    """The columns of words and of tags by name, and how they were found where they are not the first and the last ("" where they are)."""

    words: str
    tags: str
    note: str
    others: tuple[str, ...] = ()  # columns that hold tags of chunks as well

class _Column(NamedTuple):
    """The cells of one column over the looked-at sentences."""

    name: str
    sentences: list[Sequence[str]]

    @property
    def cells(self) -> list[str]:
        return list(itertools.chain.from_iterable(self.sentences))

    def counts(self) -> bool:
        """Whether it counts the words: 1, 2, 3 in each sentence, or on through the file, from 0 or 1."""
        if not all(cell.isdecimal() for cell in self.cells) or max(map(len, self.sentences)) < 2:
            return False
        numbers = [list(map(int, sentence)) for sentence in self.sentences]
        steps = all(after - before == 1 for sentence in numbers for before, after in itertools.pairwise(sentence))
        firsts = {sentence[0] for sentence in numbers}
        return steps and (firsts <= {0, 1} or len(firsts) == len(numbers))

    def names_sentences(self) -> bool:
        """Whether each sentence has one value in all its lines, as a document's or sentence's number is."""
        several = [sentence for sentence in self.sentences if len(sentence) > 1]
        return len(several) > 1 and all(len(set(sentence)) == 1 for sentence in self.sentences) and len({sentence[0] for sentence in several}) > 1

    def says_nothing(self) -> bool:
        return set(self.cells) <= FILLERS | {"O"}

    def holds_chunks(self) -> bool:
        cells = self.cells
        return sum(cell == "O" or schemes.is_chunk_tag(cell) for cell in cells) > 0.95 * len(cells) and any(map(schemes.is_chunk_tag, cells))


def choose(source: Source, *, words: str = "", tags: str = "") -> Chosen | None:
    """Which columns hold words and tags; None for records that are not a column file's. `words` and `tags` are what the user asked for.

    The first and the last, but: a column that counts, or that has one value a sentence, holds no words; one of fillers (`_`) no tags; and where the first is
    one of tags and the last one of words, they change places. Raises UserError for a file that holds no words and tags: annotations, or running text.
    """
    sample = list(itertools.islice(source, SAMPLE))
    names = [str(number) for number in sorted(int(name) for name in sample[0] if name.isdecimal())]
    if "0" not in sample[0] or len(names) < 2 or not all(isinstance(sample[0][name], list) for name in names):
        return None
    columns = {name: _Column(name, [record[name] for record in sample]) for name in names}
    left = [name for name in names if name == names[-1] or not (columns[name].counts() or columns[name].names_sentences())]
    if len(left) > 2 and columns[left[-1]].counts():  # behind the tags
        left.pop()
    if len(left) < (2 if not words and not tags else 1):
        what = "counts the words" if columns[names[0]].counts() else "has one value in each sentence"
        raise UserError(f"{source.where(0)}: column 0 {what}, and beside it there are no two columns for words and tags; {MEND}")
    first, last = (words or left[0]), (tags or _last(columns, left))
    if not words and not tags and _is_swapped(columns[first], columns[last]):
        first, last = last, first
    if not words or not tags:
        _check_kind(source, sample, [columns[name] for name in names], columns.get(last))
    others = () if tags else tuple(name for name in names if name not in (first, last) and columns[name].holds_chunks())
    if (first, last) == (names[0], names[-1]) or (words and tags):
        return Chosen(first, last, "", others)
    reasons = [f"column {name} counts" for name in names if name != first and columns[name].counts()]
    reasons += [f"column {name} has one value a sentence" for name in names if columns[name].names_sentences()]
    return Chosen(first, last, f"words from column {first}, tags from column {last}{f' ({reasons[0]})' if reasons else ''}", others)


def _last(columns: dict[str, _Column], names: Sequence[str]) -> str:
    """The last column that says something, other than the first."""
    return next((name for name in reversed(names[1:]) if not columns[name].says_nothing()), names[-1])


def _is_swapped(first: _Column, last: _Column) -> bool:
    """Whether the tags stand first: they are chunks', or have far fewer values than the words."""
    if first.holds_chunks() != last.holds_chunks():
        return first.holds_chunks()
    num_first, num_last = len(set(first.cells)), len(set(last.cells))
    return len(first.cells) >= 20 and 3 * num_first < num_last


def _check_kind(source: Source, sample: Sequence[Record], columns: Sequence[_Column], tagged: _Column | None) -> None:
    """Raises UserError where the column of tags cannot be one."""
    if tagged is None or tagged.holds_chunks():
        return
    cells = tagged.cells
    num, num_distinct = len(cells), len(set(cells))
    where = source.where(0)
    shown = ", ".join(map(repr, list(dict.fromkeys(cells))[:3]))
    if all(cell in FILLERS or COREFERENCE.fullmatch(cell) for cell in cells) and any("(" in cell for cell in cells):
        raise UserError(f"{where}: column {tagged.name} holds coreference chains ({shown}); {MEND}")
    if sum(" " in cell.strip() for cell in cells) > num / 2:
        raise UserError(f"{where}: the last column holds texts ({shown}), not tags: this is a file of annotations or a table; {_expected()}")
    ends = len(columns) > 2 and all(set(cell) <= ENDS for cell in cells)
    all_differ = len(columns) > 3 and num > 2 and all(len(set(column.cells)) >= 0.6 * len(column.cells) for column in columns)
    if ends or all_differ:
        raise UserError(f"{where}: this is running text and no column file: its lines end in {shown}; {_expected()}")
    if (num >= 50 and num_distinct > num / 2) or (num >= 6 and num_distinct >= 0.9 * num):
        raise UserError(f"{where}: the last column has nearly as many tags as words ({num_distinct} for {num}: {shown}), so it holds none; {_expected()}")


def _expected() -> str:
    return f"expected a word and its tag a line and a blank line after each sentence; {MEND} if they stand there"


@dataclasses.dataclass
class Oddities:
    """What is odd about the words of a split, sentence by sentence."""

    lengths: Counter[int] = dataclasses.field(default_factory=Counter)
    prefix: str | None = None  # of every word so far; None before the first one

    def add(self, words: Sequence[str]) -> None:
        self.lengths[len(words)] += 1
        if self.prefix is None:
            match = re.match(r"\w+[:_|]", str(words[0]))
            self.prefix = match[0] if match else ""
        if self.prefix and not all(str(word).startswith(self.prefix) for word in words):
            self.prefix = ""

    def warnings(self) -> list[str]:
        num, found = sum(self.lengths.values()), []
        if set(self.lengths) == {1} and num >= 10:
            found.append(f"every one of its {num:,} sentences has one word: blank lines between sentences are missing, or it is a table with a word a row")
        if num == 1 and max(self.lengths) > 500:
            found.append(f"all its {max(self.lengths):,} words are one sentence: blank lines between sentences are missing")
        if self.prefix and sum(length * times for length, times in self.lengths.items()) >= 20:
            found.append(f"every word begins with {self.prefix!r}, as in the files of WikiANN, which is read as part of it; take it off")
        return found
