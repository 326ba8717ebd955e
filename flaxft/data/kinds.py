"""The kind of each column of some records, such as texts, names, numbers or words; a task tells from them whether the records are its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flaxft.data import roles
from flaxft.data.base import Record, Records, Source
from flaxft.data.plausible import kind_of
from flaxft.errors import UserError

NUM_LOOKED = 500  # records that are looked at, spread over all
FEW_WORDS = 3  # from so many words a cell on, on average, a column holds texts
FEW_LETTERS = 12  # the same of writing without blanks between words
LABELS = ("label_text", "label_name", "label", "labels", "category", "intent", "class")  # the first that is there, before any other name


class Kind(NamedTuple):
    """What a column holds.

    name: empty; flags (0 and 1, true and false), wholes or numbers; names (few and short, or often the same), texts, ids, dates; words (lists of texts),
    lists (of anything else), objects.
    """

    name: str
    num_distinct: int
    longest: int  # characters of the longest text, entries of the longest list


class Columns:
    """Some records, and the kind of each of their columns. `asked_texts` and `asked_label` are what the user named: these are taken as they are."""

    def __init__(self, source: Source | Sequence[Record], *, asked_texts: Sequence[str] = (), asked_label: str = ""):
        self.source: Source = (
            Records("the records", "", source, range(1, len(source) + 1), ": record {}") if isinstance(source, Sequence) else source
        )  # fmt: skip
        step = max(1, len(source) // NUM_LOOKED)
        self.records: list[Record] = [source[i] for i in range(0, len(source), step)]
        names = list(dict.fromkeys(name for record in self.records for name in record))
        self.kinds = {name: _kind([record.get(name) for record in self.records]) for name in names}
        self.asked_texts, self.asked_label = tuple(map(str, asked_texts)), str(asked_label)

    def values(self, name: str) -> list[Any]:
        """The cells of a column that are filled; a list of one label is that label."""
        cells = [cell for record in self.records if (cell := record.get(name)) not in (None, "", [])]
        holds_lists = self.kinds[name].name in ("words", "lists", "objects")
        return cells if holds_lists else [cell[0] if isinstance(cell, list) else cell for cell in cells]

    def of_kind(self, *kinds: str) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind.name in kinds]

    def named(self, *names: str) -> str:
        """The first of the names that a column has, whatever its case; "" where there is none."""
        lower = {name.lower(): name for name in self.kinds}
        return next((lower[name.lower()] for name in names if name.lower() in lower), "")

    def texts(self) -> tuple[str, ...]:
        """The column of the text, or the two of a pair; () where there is none. Raises UserError where two columns could be it."""
        if self.asked_texts or not self.of_kind("texts", "names"):
            return self.asked_texts
        return _or_none(lambda: roles.text_columns(self.source, ())) or ()

    def label(self, texts: Sequence[str]) -> str:
        """The column of the label, of whatever kind it is; "" where there is none. Raises UserError where two columns could be it."""
        if self.asked_label:
            return self.asked_label
        usual = [*LABELS, *(name.casefold() for name in self.of_kind("words"))]
        as_label = _or_none(lambda: roles.label_column(self.source, "", usual, texts=texts))
        return as_label or _or_none(lambda: roles.label_column(self.source, "", (), texts=texts, names=roles.NUMBER_NAMES)) or ""

    def in_words(self, texts: Sequence[str]) -> str:
        """ "text in 'body'", "a pair of texts in 'premise' and 'hypothesis'"."""
        return f"{'a pair of texts' if len(texts) > 1 else 'text'} in {' and '.join(map(repr, texts))}"


def _or_none(guess: Callable[[], Any]) -> Any:
    """What a guess gives, or None where no column fits. Raises UserError where several do."""
    try:
        return guess()
    except UserError as error:
        if str(error).startswith("no column"):
            return None
        raise


def _kind(cells: Sequence[Any]) -> Kind:
    filled = [cell for cell in cells if cell is not None and cell != ""]
    name = _name(filled)
    texts = [cell for cell in filled if isinstance(cell, str)]
    longest = max((len(cell) for cell in filled if isinstance(cell, str | list)), default=0)
    return Kind(name, len(set(texts)) if texts else len(set(map(repr, filled))), longest)


def _name(filled: Sequence[Any]) -> str:
    if not filled:
        return "empty"
    if all(isinstance(cell, list) for cell in filled):
        if max(map(len, filled)) == 1 and not any(isinstance(entry, list | Mapping) for cell in filled for entry in cell):
            return _name([entry for cell in filled for entry in cell])  # a list of one label is that label
        entries = [entry for cell in filled for entry in cell]
        return "words" if entries and all(isinstance(entry, str) for entry in entries) else "lists"
    if any(isinstance(cell, Mapping | list) for cell in filled):
        return "objects"
    as_text = [str(cell).strip() for cell in filled]
    if all(text.startswith("[") and text.endswith("]") for text in as_text):
        return "words" if any(quote in text for text in as_text for quote in "'\"") else "lists"
    if any({text.lower() for text in as_text} <= flags for flags in ({"0", "1"}, {"true", "false"}, {"0.0", "1.0"})):
        return "flags"
    numbers = [number for text in as_text if (number := _number(text)) is not None]
    if len(numbers) == len(filled):
        counts = len(numbers) > 2 and all(b - a == numbers[1] - numbers[0] != 0 for a, b in itertools.pairwise(numbers))
        return "ids" if counts else "wholes" if all(number == int(number) for number in numbers) else "numbers"
    num_distinct = len(set(as_text))
    if num_distinct > len(as_text) / 2 and (odd := kind_of(as_text)) in ("ids", "dates"):
        return odd
    words = sum(len(text.split()) for text in as_text) / len(as_text)
    letters = sum(len(re.findall(r"[^\W\d_]", text)) for text in as_text if not text.isascii()) / len(as_text)
    is_long = words >= FEW_WORDS or letters >= FEW_LETTERS
    return "texts" if (is_long and num_distinct > len(as_text) / 2) or words >= 2 * FEW_WORDS else "names"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None
