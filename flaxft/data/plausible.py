"""What makes the texts and labels of a split implausible: a column that was taken for another one, and labels that cannot be meant."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from flaxft.data.base import Look, Record, Source
from flaxft.data.labels import num_blank
from flaxft.errors import UserError

FEW = 20  # records of a split below which nothing is called implausible by its share
LONG = 60  # characters of a label from which on it is running text, if most labels are as long
NUM_SHOWN = 8
NUM_TEXTS = 20_000  # the first of a split, whose texts are looked at; labels are counted in all
COUNTING = re.compile(r"[+-]?\d+([.,]\d+)?")
IDENTIFIER = re.compile(r"[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=\S*\d)[A-Za-z]{0,6}[-_#:]?[0-9][0-9A-Za-z_\-]*|https?://\S+")
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}\S*)?( ?[+-]\d{2}:?\d{2}| UTC)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( \d{1,2}:\d{2}\S*)?")
QUOTES, CLOSING = "\"'`", {")": "(", "]": "[", "}": "{"}


def look_at(
    source: Source, *, split: str, columns: Sequence[str], texts: Callable[[Record], Sequence[str]], column: str,
    labels: Callable[[Record], Sequence[str]] | None = None, number: Callable[[Record], float | None] | None = None,
) -> Look:  # fmt: skip
    """One look at records of texts that have labels (none, one or several each) or a number.

    columns: where the texts stand, one name for each of `texts`; column: where labels or number stand, or "". Raises UserError for what cannot be meant.
    """
    seen: list[list[str]] = [[] for _ in columns]
    counts: Counter[str] = Counter()
    numbers: list[float] = []
    for index, record in enumerate(source):
        if index < NUM_TEXTS:
            for text, found in zip(texts(record), seen, strict=True):
                found.append(text)
        if labels is not None:
            counts.update(labels(record))
        if number is not None and (value := number(record)) is not None:
            numbers.append(value)
    warnings = []
    try:
        for name, found in zip(columns, seen, strict=True):
            warnings += check_texts(found, column=name, num_labels=len(counts), split=split)
        if counts:
            warnings += check_labels_of(counts, column=column, num_records=len(source), split=split)
        if numbers:
            warnings += check_numbers(numbers, column=column)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from None
    gold = ""
    if labels is not None and counts:
        gold = ", ".join(labels(source[0]))
    elif number is not None and (value := number(source[0])) is not None:
        gold = f"{value:g}"
    first = f"the first: {' | '.join(map(short_text, texts(source[0])))}{f' -> {gold}' if gold else ''}"
    parts = [f"{source.name}: {len(source):,} records", _columns(columns, column, what="label" if counts else "number" if numbers else "")]
    if counts:
        parts.append(labels_line(counts))
        if blank := num_blank(source, column):
            parts.append(f"blanks around {blank:,} labels are dropped")
    elif numbers:
        parts.append(f"from {min(numbers):g} to {max(numbers):g}, mean {sum(numbers) / len(numbers):.4g}")
    return Look("; ".join([*parts, first]), tuple(f"{source.name}: {warning}" for warning in warnings))


def _columns(columns: Sequence[str], column: str, *, what: str) -> str:
    texts = f"{'texts' if len(columns) > 1 else 'text'} in {' and '.join(map(repr, columns))}"
    return f"{texts}, {what} in {column if column.startswith('the ') else repr(column)}" if what else texts


def kind_of(values: Sequence[str]) -> str:
    """What a column holds that is neither text nor label, of at least nine values in ten: "numbers", "ids", "dates", or "" for none of these."""
    for name, pattern in (("numbers", COUNTING), ("dates", DATE), ("ids", IDENTIFIER)):
        if values and sum(bool(pattern.fullmatch(value.strip())) for value in values) >= 0.9 * len(values):
            return name
    return ""


def check_texts(texts: Sequence[str], *, column: str, num_labels: int = 0, split: str = "train") -> list[str]:
    """Warnings about the texts of a split, in one column. Raises UserError for those that no text can be: counting, ids, dates, one for all records."""
    filled = [text for text in texts if text.strip()]
    if not filled:
        raise UserError(f"every text in column {column!r} is empty; set task.text_columns to the column that holds the texts")
    found = []
    if len(filled) < len(texts):
        found.append(f"{len(texts) - len(filled):,} of {len(texts):,} texts in column {column!r} are empty")
    distinct = set(filled)
    if len(distinct) == 1 and len(filled) >= FEW // 2:
        raise UserError(f"every text in column {column!r} is {_short(filled[0])}; set task.text_columns to the column that holds the texts")
    kind = kind_of(filled)
    if kind and len(filled) >= FEW // 2 and len(distinct) > len(filled) / 2:
        raise UserError(f"column {column!r} holds {kind} ({_shown(filled[:3])} ...), no texts; set task.text_columns to the column that holds the texts")
    if split == "train" and len(filled) >= FEW and len(distinct) <= len(filled) / 10 and len(distinct) < max(FEW, num_labels):
        found.append(f"column {column!r} has only {len(distinct)} different texts in {len(filled):,} records; is it the column of texts?")
    if filled.count(column) and len(filled) >= FEW // 2:
        found.append(f"{filled.count(column)} of {len(filled):,} texts are {column!r}, the name of their column: a header among the records")
    return found


def check_labels_of(counts: Mapping[str, int], *, column: str, num_records: int, split: str = "train") -> list[str]:
    """Warnings about the labels of a split, with the number of examples of each. Raises UserError for those that no labels can be: ids, running texts.

    counts: label -> records. Labels that differ in case or blanks alone, that hold brackets or quotes, that have but one example each.
    """
    names = list(counts)
    if split != "train":
        return []
    found = []
    once = sum(count == 1 for count in counts.values())
    if num_records >= FEW and once > 0.9 * num_records:
        kind = kind_of(names)
        if kind:
            raise UserError(f"column {column!r} holds {kind} ({_shown(names[:3])} ...), another one in nearly every record, no labels; set task.label_column")
    if num_records >= FEW and len(names) > FEW and sum(len(name) >= LONG for name in names) > len(names) / 2:
        raise UserError(f"column {column!r} holds running texts ({_shown(names[:1])} ...), no labels; set task.label_column")
    if num_records >= FEW and once > len(names) / 2:
        shown = _shown(name for name in names if counts[name] == 1)
        found.append(f"{once:,} of {len(names):,} labels in column {column!r} have one example ({shown}); is it the column of labels?")
    if "-100" in counts:
        hint = "it means elsewhere that nothing is to be learnt, and is a label here; take these records out"
        found.append(f"{counts['-100']:,} records have the label -100 in column {column!r}: {hint}")
    if quoted := [name for name in names if _is_quoted(name)]:
        hint = "were lists or quotes written into the cells?"
        found.append(f"{len(quoted):,} labels in column {column!r} begin or end with brackets or quotes: {_shown(quoted)}; {hint}")
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        visible = re.sub("[\u200b\u2060\ufeff]", "", name).strip()  # without letters of no width
        same[re.sub(r"[\s_\-]+", " ", visible).casefold()].append(name)
    alike = [sorted(group) for group in same.values() if len(group) > 1]
    if alike:
        shown = "; ".join(" and ".join(f"{name!r} ({counts[name]:,})" for name in group) for group in alike[:NUM_SHOWN])
        found.append(f"labels that differ in case, blanks, - and _ alone are different labels: {shown}; write them alike if they are one")
    if column in counts and num_records >= FEW // 2:
        found.append(f"{counts[column]} of {num_records:,} labels are {column!r}, the name of their column: a header among the records")
    return found


def check_numbers(values: Sequence[float], *, column: str) -> list[str]:
    """Warnings about the numbers that a regression learns. Raises UserError where they count the records."""
    if len(values) >= FEW and all(after - before == 1 for before, after in itertools.pairwise(values)):
        shown = ", ".join(f"{value:g}" for value in values[:3])
        raise UserError(f"column {column!r} counts the records ({shown} ...); set task.label_column to the column of numbers")
    return []


def labels_line(counts: Mapping[str, int]) -> str:
    """"3 labels: neg 20, pos 18, neutral 1", the most frequent first; of many only the first and the last."""
    ordered = Counter(counts).most_common()
    shown = [f"{_bare(name)} {count:,}" for name, count in ordered]
    if len(shown) > NUM_SHOWN:
        shown = [*shown[: NUM_SHOWN - 2], "...", shown[-1]]
    return f"{len(ordered):,} label{'s' * (len(ordered) != 1)}: {', '.join(shown)}"


def short_text(text: str, *, longest: int = 60) -> str:
    """The beginning of a text, in quotes and on one line."""
    return _short(text, longest=longest)


def _is_quoted(name: str) -> bool:
    """Whether brackets or quotes stand around or at one end of a label; those of "other (misc)" close what they open."""
    opens, closes = name[0] in "[({" + QUOTES, name[-1] in "])}" + QUOTES
    if opens and closes:
        return True
    closed = closes and CLOSING.get(name[-1], "\0") in name
    opened = opens and any(right in name for right, left in CLOSING.items() if left == name[0])
    return (closes and not closed) or (opens and not opened)


def _shown(names: Iterable[str]) -> str:
    first = [_short(name) for _, name in zip(range(NUM_SHOWN), names, strict=False)]
    return ", ".join(first)


def _bare(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:37]}..."


def _short(text: str, *, longest: int = 40) -> str:
    one = " ".join(text.split())
    return repr(one if len(one) <= longest else f"{one[: longest - 4]} ...")
