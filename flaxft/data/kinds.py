"""The kind of each column of some records, such as texts, names, numbers or words; a task tells from them whether the records are its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flaxft.data.base import Record, Records, Source
from flaxft.errors import UserError

NUM_LOOKED = 500  # records that are looked at, spread over all
FEW_WORDS = 3  # from so many words a cell on, on average, a column holds texts
FEW_LETTERS = 12  # the same of writing without blanks between words
# Pairs whose columns are called so, before any single text. The first of each is also read where it stands alone.
PAIRS = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"), ("question", "sentence"), ("query", "passage"), ("query", "document"),
)  # fmt: skip
TEXTS = (
    "text sentence body utterance content message review tweet comment post query question document paragraph passage description transcript input abstract"
    " snippet phrase headline title subject"
).split()  # fmt: skip
LABELS = (
    "label_text label_name label labels category intent class target queue topic sentiment emotion emotions tags tag categories score rating stars grade gold"
    " y output"
).split()

ID = re.compile(r"(?=\S*\d)[0-9a-fA-F-]{8,}|[A-Za-z]{0,6}[-_#:]?\d[\w-]*|https?://\S+")
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}\S*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( \d{1,2}:\d{2}\S*)?")
# Names of columns that stand beside texts and labels, and are no label unless the user says so.
BESIDE = re.compile(
    r"(?i)(.*[_ ])?(ids?|idx|index|no|nr|number|date|time|timestamp|year|month|day|urls?|link|user|username|author|lang|language|locale|split|fold|source|file"
    r"|filename|path|length|doc|page|line|offset|start|end|version|annotators?|.*_by|.*_at)"
)


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
        self.source: Source = Records("the records", "", source, range(1, len(source) + 1), ": record {}") if isinstance(source, Sequence) else source
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
        if self.asked_texts:
            return self.asked_texts
        pair = next((pair for pair in PAIRS if all(self.named(name) for name in pair)), None)
        if pair:
            return tuple(map(self.named, pair))
        held = self.of_kind("texts")
        if len(held) == 2 and _is_numbered(*held):
            return tuple(held)
        called = next((column for name in TEXTS if (column := self.named(name)) and self.kinds[column].name in ("texts", "names")), "")
        if called and (called in held or not held):
            return (called,)
        by_name = next((column for name in TEXTS if (column := self.named(name)) in held), "")
        if by_name:
            return (by_name,)
        if len(held) > 1:
            raise UserError(f"columns {', '.join(map(repr, held))} all hold texts; name the one, or the two of a pair: --config.task.text_columns={held[0]}")
        return tuple(held)

    def label(self, texts: Sequence[str]) -> str:
        """The column of the label, of whatever kind it is; "" where there is none. Raises UserError where two columns could be it."""
        if self.asked_label:
            return self.asked_label
        rest = {name: kind for name, kind in self.kinds.items() if name not in texts and kind.name not in ("empty", "ids", "dates", "objects")}
        called = next((self.named(name) for name in LABELS if self.named(name) in rest), "")
        if called:
            return called
        found = [name for name, kind in rest.items() if kind.name in ("names", "numbers", "words") or _repeats(kind, len(self.records))]
        found = [name for name in found if not BESIDE.fullmatch(name)]
        if len(found) > 1:
            raise UserError(f"columns {', '.join(map(repr, found))} could all be the label; name it: --config.task.label_column={found[0]}")
        return found[0] if found else ""

    def in_words(self, texts: Sequence[str]) -> str:
        """ "text in 'body'", "a pair of texts in 'premise' and 'hypothesis'"."""
        return f"{'a pair of texts' if len(texts) > 1 else 'text'} in {' and '.join(map(repr, texts))}"


def _is_numbered(left: str, right: str) -> bool:
    """Whether two names differ in their number or letter alone: question_1 and question_2, textA and textB."""
    differ = [(a, b) for a, b in zip(left, right, strict=False) if a != b]
    return len(left) == len(right) and differ in ([("1", "2")], [("a", "b")], [("A", "B")], [("0", "1")])


def _repeats(kind: Kind, num: int) -> bool:
    return kind.name in ("flags", "wholes") and kind.num_distinct <= num / 2


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
    for odd, pattern in (("ids", ID), ("dates", DATE)):
        if num_distinct > len(as_text) / 2 and sum(bool(pattern.fullmatch(text)) for text in as_text) >= 0.9 * len(as_text):
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
