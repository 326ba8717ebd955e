"""Which columns of a table are texts, labels or numbers, as a person would guess from their names and values; never where two fit."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flaxft.data.base import Source
from flaxft.data.plausible import kind_of, short_text
from flaxft.data.texts import TEXTS
from flaxft.errors import UserError, nearest

SAMPLE = 2_000  # records that are looked at, spread over the source: files are often sorted by label
# Names of columns in one's own data, as words in lower case: a column fits that is one of them, or ends or begins with one ("review_text", "TweetContent").
TEXT_NAMES = """text sentence utterance body content contents review tweet message msg comment comments document doc passage paragraph snippet post query
    question headline title description abstract input prompt transcript feedback narrative complaint txt sms statement article email summary texts
    sentences""".split()
LABEL_NAMES = """label labels category class classes target queue tag tags y sentiment topic topics intent rating stars polarity emotion genre department
    annotation gold spam stance toxicity outcome cat cls""".split()
NUMBER_NAMES = "score label target y rating stars similarity value grade points relevance price number mark gold output sts strength intensity valence".split()
NO_TEXT = """id ids uuid guid date time timestamp created updated url uri link author user username lang language len length count hash index idx
    file path num source split fold version year month day page line offset annotator annotators""".split()
BESIDE = "title headline subject summary".split()  # texts that stand beside a longer one, which is then the text
PAIRS = (("premise", "hypothesis"), ("anchor", "positive"))
NUMBERED = re.compile(r"(.*?)[ _.\-]?([12ab]|first|second|left|right)", re.IGNORECASE)
SIDES = ({"1": "2", "a": "b"}, {"first": "second", "left": "right"})


class Column(NamedTuple):
    """What the sampled values of a column are like."""

    name: str
    is_text: bool  # strings that are no numbers, dates or ids
    is_number: bool
    is_flag: bool  # 0 and 1 alone, both of them
    num_values: int  # different ones
    num_filled: int
    num_words: float  # of a value, on average
    example: str


def text_columns(source: Source, asked: Sequence[str], *, others: Collection[str] = (), num: int | None = None) -> tuple[str, ...]:
    """The column of a source's texts, or the two of a pair: those asked for, the usual ones (`TEXTS`), or those that a person would take.

    others: columns that hold something else, such as the label. num: 1 or 2 where only one text or a pair will do. Raises UserError where none or several fit.
    """
    if asked:
        return tuple(map(str, asked))
    names = list(source[0])
    folded = {_folded(name): name for name in reversed(names)}
    for columns in TEXTS:
        if all(one in folded for one in columns) and len(columns) == (num or len(columns)):
            return tuple(one if one in names else folded[one] for one in columns)
    fitting = [one for one in describe(source) if one.name not in others and one.is_text and one.num_values > 1]
    if num != 1 and (pair := _pair(fitting)):
        return pair
    named = [one for one in fitting if _has_name(one.name, TEXT_NAMES) and not _has_name(one.name, NO_TEXT)]
    if not named:  # names say nothing: the one column of long texts, mostly different ones
        named = [one for one in fitting if one.num_words >= 3 and one.num_values > one.num_filled / 2 and not _has_name(one.name, NO_TEXT)]
    exact = [one for one in named if _folded(one.name) in TEXT_NAMES]
    if len(exact) == 1 and exact[0].num_words >= max(one.num_words for one in named):
        named = exact
    main = [one for one in named if not _has_name(one.name, BESIDE)]
    if len(main) == 1 and all(main[0].num_words > 1.5 * one.num_words for one in named if one not in main):
        named = main
    if len(named) != (num or 1):
        raise _unclear("text", "task.text_columns", named, names, both=num != 1)
    return tuple(one.name for one in named)


def label_column(source: Source, asked: str, usual: Sequence[str], *, texts: Sequence[str], names: Sequence[str] = LABEL_NAMES, what: str = "label") -> str:
    """The column of a source's labels (or numbers): the one asked for, the first of the usual ones, or the one that a person would take.

    texts: the columns of its texts. names: what such columns are called; with `NUMBER_NAMES` only numbers fit. Raises UserError where none or several fit.
    """
    if asked:
        if asked not in source[0]:
            raise UserError(f"no column {asked!r}; found are {sorted(source[0])}; set task.label_column{nearest(asked, source[0])}")
        return asked
    free = [name for name in source[0] if name not in texts]
    folded = {_folded(name): name for name in reversed(free)}
    found = next((folded[name] for name in usual if name in folded), None)
    if found is not None:
        return next((name for name in usual if name in free), found)
    columns = [one for one in describe(source) if one.name in free and _can_be_label(one, is_number=names is NUMBER_NAMES)]
    named = [one for one in columns if _has_name(one.name, names)]
    if not columns:  # a column of one label alone is named as such when the labels are counted
        named = [one for one in describe(source) if one.name in free and one.num_values == 1 and _has_name(one.name, names)]
    elif not named:
        named = [one for one in columns if one.is_number or one.num_values <= max(2, one.num_filled / 3)]
    if len(named) > 1 and len(exact := [one for one in named if _folded(one.name) in names]) == 1:
        named = exact
    if len(named) != 1:
        raise _unclear(what, "task.label_column", named, list(source[0]), both=False)
    return named[0].name


def flag_columns(source: Source, *, texts: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold 0 and 1 alone: a column a label. Empty where there are less than two."""
    found = tuple(one.name for one in describe(source) if one.is_flag and one.name not in texts and not _has_name(one.name, NO_TEXT))
    return found if len(found) > 1 else ()


def tell(task: Any, *, asked: Any, usual: Sequence[str]) -> None:
    """Says which columns were guessed, where a task's config named none and they are not the usual ones: in one line."""
    texts = "" if asked.text_columns or task.text_columns in TEXTS else f"text in {' and '.join(map(repr, task.text_columns))}"
    labels = getattr(task, "label_columns", ()) if not getattr(asked, "label_columns", ()) else ()
    label = "" if asked.label_column or task.label_column in ("", *usual) else f"label in {task.label_column!r}"
    label = f"a label in each of {', '.join(labels)}" if labels else label
    if guessed := ", ".join(filter(None, (texts, label))):
        logging.getLogger("flaxft").info("columns by their names and values: %s; task.text_columns and task.label_column name others", guessed)


def describe(source: Source) -> list[Column]:
    """Each column of a source, in order, by its values in up to `SAMPLE` records."""
    picked = np.unique(np.linspace(0, len(source) - 1, min(len(source), SAMPLE)).astype(int)).tolist()
    records = [source[index] for index in picked]
    return [_column(name, [record.get(name) for record in records]) for name in source[0]]


def _column(name: str, values: Sequence[Any]) -> Column:
    filled = [value for value in values if value is not None and str(value).strip()]
    texts = [str(value).strip() for value in filled if isinstance(value, str | int | float)]
    is_plain = len(texts) == len(filled) > 0
    kind = kind_of(texts) if is_plain else ""
    different = set(texts)
    return Column(
        name,
        is_text=is_plain and not kind and all(isinstance(value, str) for value in filled),
        is_number=is_plain and kind == "numbers" and not all(isinstance(value, bool) for value in filled),
        is_flag=is_plain and different in ({"0", "1"}, {"0.0", "1.0"}, {"True", "False"}, {"true", "false"}),
        num_values=len(different) if is_plain else 0,
        num_filled=len(filled),
        num_words=sum(len(text.split()) for text in texts) / len(texts) if is_plain else 0.0,
        example=short_text(texts[0]) if texts else "",
    )


def _can_be_label(column: Column, *, is_number: bool) -> bool:
    if column.num_values < 2 or _has_name(column.name, NO_TEXT):
        return False
    if is_number:
        return column.is_number
    if column.is_text:
        return column.num_words < 6 and (column.num_values <= max(2, column.num_filled / 2) or column.num_filled < 10)
    return (column.is_number or column.is_flag) and column.num_values <= max(2, min(100, column.num_filled / 3))


def _pair(columns: Sequence[Column]) -> tuple[str, str] | None:
    """Two columns of texts whose names differ in 1 and 2 alone, a and b, first and second; or one of `PAIRS`."""
    by_name = {_folded(one.name): one.name for one in columns if one.num_values >= one.num_filled / 4 or one.num_words >= 3}
    found = [(by_name[one], by_name[other]) for one, other in PAIRS if one in by_name and other in by_name]
    for one in by_name:
        match = NUMBERED.fullmatch(one)
        for sides in SIDES:
            if match and (side := sides.get(match[2])):
                other = one[: match.start(2)] + side
                if other in by_name and (match[1] or len(side) > 1):
                    found.append((by_name[one], by_name[other]))
    return found[0] if len(found) == 1 else None


def _folded(name: str) -> str:
    return name.strip().strip("\ufeff").casefold()


def _words(name: str) -> list[str]:
    """"reviewText", "review_text" and "Review Text" are review and text."""
    return [word.casefold() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name)]


def _has_name(name: str, names: Sequence[str]) -> bool:
    words = _words(name)
    return bool(words) and (_folded(name) in names or words[-1] in names or words[0] in names)


def _unclear(what: str, flag: str, fitting: Iterable[Column], names: Sequence[str], *, both: bool) -> UserError:
    shown = [f"{one.name!r} ({one.example})" for one in fitting]
    if not shown:
        return UserError(f"no column of {what}s; found are {sorted(names)}; set {flag}")
    first = [one.split(" (")[0].strip("'") for one in shown]
    more = f" or {flag}={','.join(first[:2])} for a pair" if both and len(shown) == 2 else ""
    return UserError(f"{' and '.join(shown)} may all be the {what}; set {flag}={first[0]} or another of them{more}")
