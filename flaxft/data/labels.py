"""The label of a record: in which column it stands and how it is called; and which labels a task has."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from flaxft.data.base import Record, Source
from flaxft.data.cells import parse_list
from flaxft.errors import UserError, nearest

WHOLE = re.compile(r"[+-]?\d+\.0+")  # a whole number, as pandas writes it in a column with a gap


def has_label(record: Record, asked: str, usual: Sequence[str]) -> bool:
    """Whether a record has the column that was asked for, or with "" any of the usual ones. Raw text has none."""
    return any(name in record for name in ([asked] if asked else usual))


def without_label(record: Record, asked: str, usual: Sequence[str], *, texts: Sequence[str] = ()) -> Record:
    """The record without the column of its label: the one asked for, or with "" all of the usual ones, but those that hold its texts."""
    return without_columns(record, [name for name in ([asked] if asked else usual) if name not in texts])


def without_columns(record: Record, names: Sequence[str]) -> Record:
    """The record itself where it has none of them."""
    return {name: value for name, value in record.items() if name not in names} if any(name in record for name in names) else record


def label_column(record: Record, asked: str, usual: Sequence[str]) -> str:
    """The column of a record's label: the one asked for, or the first of the usual ones that is there. Raises UserError."""
    if not has_label(record, asked, usual):
        given = f"no column {asked!r}" if asked else "no column of labels"
        raise UserError(f"{given}; found are {sorted(record)}; set task.label_column{nearest(asked, record)}")
    return asked or next(name for name in usual if name in record)


def label_name(label: Any, labels: Sequence[str], *, column: str) -> str:
    """A label by name. A number is its place in the labels, unless these are numbers themselves. Raises UserError.

    As files and libraries write them: true and false are labels, 1.0 is 1 (pandas' whole numbers with a gap), a list of one label is that label, as it is in
    a CSV cell "['neg']"; blanks around a name are no part of it.
    """
    name = plain_label(label, column=column)
    if not labels or name in labels:
        return name
    if (written := str(label).strip()) in labels:  # "1.0" of a model that has it so
        return written
    if isinstance(label, bool) and len(labels) == 2:
        alike = [one for one in labels if one.casefold() == name]
        return alike[0] if alike else str(labels[int(label)])
    if not _is_number(name) or all(map(_is_number, labels)):
        return name
    if not 0 <= int(name) < len(labels):
        raise UserError(f"label number {name} in {column!r}, expected 0 to {len(labels) - 1}; name all labels in task.labels")
    return str(labels[int(name)])


def plain_label(label: Any, *, column: str) -> str:
    """A label as a text without blanks around it: "neg", "true", "1". Raises UserError for what is none, or several."""
    if isinstance(label, str) and (listed := list_of_cell(label)) is not None:
        label = listed
    if isinstance(label, list | tuple) and len(label) == 1:
        label = label[0]
    if isinstance(label, list | tuple) and len(label) > 1:
        raise UserError(f"column {column!r} is {str(label)[:40]}, several labels, and this task learns one; several: configs/emotions.py")
    if is_missing(label):
        what = "empty" if label in ("", []) else f"{str(label)[:40]!r} ({type(label).__name__}), expected a label"
        raise UserError(f"column {column!r} is {what}; every record needs a label")
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int) or (isinstance(label, float) and label.is_integer()):
        return str(int(label))
    if not isinstance(label, str):
        hint = "; numbers with a fraction: configs/similarity.py" if isinstance(label, float) else ""
        raise UserError(f"column {column!r} is {str(label)[:40]!r} ({type(label).__name__}), expected a label: a text or a whole number{hint}")
    name = label.strip()
    return name.partition(".")[0] if WHOLE.fullmatch(name) else name


def is_missing(label: Any) -> bool:
    """Whether a value is none, as JSON, pandas and CSV write it: null, NaN, an empty or blank text or list."""
    return label is None or (isinstance(label, float) and math.isnan(label)) or (isinstance(label, str) and not label.strip()) or label in ([], ())


def list_of_cell(cell: str) -> list[Any] | None:
    """The list that a CSV cell holds as Python, NumPy or JSON write it; None where it holds none."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")) and not (text.startswith("(") and text.endswith(",)")):
        return None
    try:
        found = parse_list(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def check_labelled(source: Source, column: str, *, split: str, is_number: bool = False) -> None:
    """Raises UserError where records have no label, with the first place and how many. A split published without labels, all null or -1, is told as such."""
    missing = [number for number, record in enumerate(source) if column in record and is_missing(record[column])]
    hidden = len(missing) == len(source) or (not is_number and all(record.get(column) in (-1, "-1", None) for record in source))
    if hidden and len(source) > 1:
        hint = "set task.label_column" if split == "train" else f"the split is published without; leave task.{split} empty"
        raise UserError(f"{source.name}: no record has a {'number' if is_number else 'label'} in column {column!r}; {hint}")
    if len(missing) > 1:  # of one alone the check of the record tells
        what = f"{len(missing):,} of {len(source):,} records have no {'number' if is_number else 'label'}"
        raise UserError(f"{source.where(missing[0])}: {what} in column {column!r}, this is the first; fill them in, or take the records out")


def num_blank(source: Source, column: str) -> int:
    """How many labels have blanks around them, which are no part of them."""
    values = (record.get(column) for record in source)
    return sum(isinstance(value, str) and value != value.strip() for value in values)


def label_id(name: str, labels: Sequence[str]) -> int:
    """The place of a label. Raises UserError for one that is not among them."""
    if name not in labels:
        shown = f"{list(labels[:8])}{' ...' if len(labels) > 8 else ''}"
        raise UserError(f"label {name!r} is not among the labels {shown}{nearest(name, labels)}; mend the file, or name all labels in task.labels")
    return labels.index(name)


def check_kinds(source: Source, labels_of: Callable[[Record], Sequence[Any]], *, column: str) -> None:
    """Raises UserError where some labels are texts and others numbers: one of them is a mistake, and a number beside names would be read as a name."""
    first: Any = None
    for i, record in enumerate(source):
        for label in labels_of(record):
            label = label[0] if isinstance(label, list | tuple) and len(label) == 1 else label
            first = label if first is None else first
            if isinstance(label, str) != isinstance(first, str):
                kinds = f"{str(label)[:40]!r} is {_kind(label)}, but the first one is {_kind(first)}"
                raise UserError(f"{source.where(i)}: a label in column {column!r}: {kinds}; write all of them as texts, or all as numbers")


def _kind(label: Any) -> str:
    return "a text" if isinstance(label, str) else "true or false" if isinstance(label, bool) else "a number"


def check_labels(labels: Sequence[str]) -> None:
    """Raises UserError unless there are two labels or more, each once."""
    duplicates = sorted({label for label in labels if labels.count(label) > 1})
    if duplicates:
        raise UserError(f"task.labels names {duplicates} more than once; name each label once")
    if len(labels) < 2:
        raise UserError(f"task.labels is {list(labels)}; expected at least two labels to tell apart")


def choose_labels(asked: Sequence[str], of_model: Sequence[str] | None, found: Collection[str], *, model: str, source: str) -> tuple[str, ...]:
    """A task's labels: those asked for, or of a fine-tuned model if it has all that the train split has, or else these in order, numbers by value.

    Raises UserError where the train split (`source`) has but one.
    """
    if len(found) < 2:
        raise UserError(f"{source}: every record has the label {next(iter(found))!r}; expected at least two labels to tell apart")
    if asked:
        return named_labels(asked, of_model, model=model)
    lacks = set(found) - set(of_model or ())
    if of_model and not lacks:
        return tuple(of_model)
    if of_model:
        logging.getLogger("flaxft").warning("%s: its labels lack %s of the train split, which are new to its head", model, sorted(lacks)[:8])
    return in_order(found)


def without_train(asked: Sequence[str], of_model: Sequence[str] | None, *, model: str) -> tuple[str, ...]:
    """A task's labels where it has no train split: those asked for, or of the fine-tuned model. Raises UserError where there are none."""
    if not asked and not of_model:
        raise UserError(f"no labels: task.train is empty and {model} is not fine-tuned for this task; set task.train or task.labels")
    return tuple(map(str, asked or of_model or ()))


def named_labels(asked: Sequence[str], of_model: Sequence[str] | None, *, model: str) -> tuple[str, ...]:
    """The labels that a task names, with a warning where those of the fine-tuned model are others, or the same in another order."""
    names = tuple(map(str, asked))
    if of_model and tuple(of_model) != names:
        if set(of_model) == set(names):
            differ = "are in another order than task.labels, which its head is put into"
        else:
            differ = "are not those of task.labels; its head keeps what it learnt of those that are (leave task.labels empty to go on with all of it)"
        logging.getLogger("flaxft").warning("%s: its labels %s", model, differ)
    return names


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Numbers by value, others by name."""
    names = set(names)
    return tuple(sorted(names, key=int if all(map(_is_number, names)) else None))


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
