"""The splits of a task: files, data sets of the hub, records in memory, or shares of the train split.

A share such as `validation="10%"` is drawn by a hash of each record's text (or of its `group_column`), so a record is always on the same side, whatever else
is in the file and in whatever order. Equal texts are on one side, and so are those of a group. Where there are labels, one that would be missing in training
stays there, and one with enough examples for a share has some in it; a record moves for no other reason.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from flaxft.data.base import Packaged, Record, Source
from flaxft.data.memory import Gone, InMemory, Memory, is_given, open_memory
from flaxft.data.source import open_source
from flaxft.errors import UserError, nearest

NAMES = ("train", "validation", "test")
HELD_OUT = ("validation", "test")  # those that may be shares; side 1 and side 2 of a divided source
DEFAULT, LEAST = "10%", 100  # of the train split, where no validation split is given and there are so many records
SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
FILE = re.compile(r"\S*[^\s.]\.[A-Za-z0-9]{2,8}|\S*\*\S*|hub:\S+")
Labels = Callable[[Record], Iterable[str]]


@dataclasses.dataclass(eq=False)
class Subset:
    """A `Source` of some records of another one."""

    source: Source
    indices: Sequence[int]
    name: str
    fingerprint: str

    @property
    def notes(self) -> Sequence[str]:
        """What there is to say of how the source was read."""
        return getattr(self.source, "notes", ())

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[self.indices[index]]

    def __iter__(self) -> Iterator[Record]:
        return (self.source[index] for index in self.indices)

    def where(self, index: int) -> str:
        return self.source.where(self.indices[index])


# ---- what a task's fields say -----------------------------------------------------------------------------------------------------------------------


def paths(task: Any) -> dict[str, str]:
    """The splits that a task has: {"train": "train.csv", "validation": "10%", "test": "in memory (120 records)"}."""
    values = {name: getattr(task, name, None) for name in NAMES}
    found = {name: value for name, value in values.items() if not (value is None or (isinstance(value, str | tuple) and not value))}
    return {name: ", ".join(value) if isinstance(value, tuple) else str(value) for name, value in found.items()}


def share(task: Any, split: str) -> float:
    """How much of the train split a split is, from 0 to below 1. Raises UserError for a share that cannot be meant."""
    value = getattr(task, split, None)
    found = SHARE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return 0.0
    if split not in HELD_OUT or not 0.0 < float(found[1]) < 100.0:
        raise UserError(f"task.{split} is {value!r}; a share of the train split is for task.validation and task.test, between 0% and 100%, such as 10%")
    return float(found[1]) / 100


def settle(task: Any) -> None:
    """Makes sources of data that were given in memory, and leaves the packaged splits out where the train split is one's own. Raises UserError."""
    for one in _tasks(task):
        for name in NAMES:
            if is_given(value := getattr(one, name, None)):
                setattr(one, name, source_of(value, name=f"task.{name}"))
        train = getattr(one, "train", "")
        packaged = [name for name in HELD_OUT if isinstance(getattr(one, name, None), Packaged)]
        if packaged and not isinstance(train, Packaged):
            for name in packaged:
                setattr(one, name, None if name == HELD_OUT[0] else "")
            if train:
                logging.getLogger("flaxft").info("the packaged %s are left out, because task.train is data of your own", " and ".join(packaged))


def source_of(value: Any, *, name: str) -> str | tuple[str, ...] | InMemory:
    """What a split is set to, as a config has it: a path, several, records in memory, or of a number from 0 to 1 the share that it is. Raises UserError."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and 0.0 < value < 1.0:
        return f"{100 * value:.6g}%"
    if isinstance(value, list | tuple) and _are_paths(value):
        return tuple(map(os.fspath, value))
    if isinstance(value, str | InMemory):
        return value
    return open_memory(value, name=name)


def open_path(path: str | tuple[str, ...]) -> Source:
    """The records of a file, or of several, as the train split."""
    return open_source(path, split="train")


def with_default(task: Any, *, max_examples: int | None = None) -> Any:
    """A task whose validation split is said: where none is given (None) it is `DEFAULT` of the train split, if that has `LEAST` records, else none ("")."""
    if isinstance(tasks := getattr(task, "tasks", None), dict):
        return dataclasses.replace(task, tasks={name: with_default(one, max_examples=max_examples) for name, one in tasks.items()})
    if getattr(task, "validation", "") is not None:
        return task
    if not paths(task).get("train") or _num_records(task, max_examples) < LEAST:
        return dataclasses.replace(task, validation="")
    logging.getLogger("flaxft").info(
        "no validation split is given: %s of %s, by a hash of the text, are kept for it (task.validation=FILE names one, task.validation= has none)",
        DEFAULT, paths(task)["train"],
    )  # fmt: skip
    return dataclasses.replace(task, validation=DEFAULT)


def _num_records(task: Any, max_examples: int | None) -> int:
    """Of the train split, counted in silence: what there is to say of it is said when it is opened to be learnt from.

    All of it, and not the first `LEAST`: of a file that is sorted by label these have one label, and no column could be told to be its labels.
    """
    log = logging.getLogger("flaxft")
    silence = lambda record: False  # noqa: E731
    log.addFilter(silence)
    try:
        return len(task.records("train", max_examples=max_examples))
    finally:
        log.removeFilter(silence)


def _are_paths(value: Sequence[Any]) -> bool:
    """Whether a list holds the paths of several files, and no texts."""
    return bool(value) and all(isinstance(one, os.PathLike) or (isinstance(one, str) and (FILE.fullmatch(one) or os.path.exists(one))) for one in value)


def _tasks(task: Any) -> list[Any]:
    tasks = getattr(task, "tasks", None)
    return [inner for one in tasks.values() for inner in _tasks(one)] if isinstance(tasks, dict) else [task]


# ---- the records ------------------------------------------------------------------------------------------------------------------------------------


def open_records(task: Any, split: str, *, format: str | None = None, comment: str = "", max_examples: int | None = None) -> Source:
    """The records that a split is in: its own, or for a share all of the train split, which `part` divides. Raises UserError."""
    shares = {name: share(task, name) for name in NAMES}
    whole = "train" if shares[split] else split
    value = getattr(task, whole)
    if not value:
        raise UserError(f"task.{split} is {getattr(task, split)!r}, a share of task.train, which is empty; set task.train, or name a file")
    num = None if whole == "train" and any(shares.values()) else max_examples
    if isinstance(value, Gone):
        raise value.refuse(whole)
    if isinstance(value, Memory):
        return value.first(num)
    return open_source(value if isinstance(value, tuple) else str(value), split=whole, format=format, comment=comment, max_examples=num)


def open_split(
    task: Any, split: str, *, key: Callable[[Record], str], labels: Labels | None = None, format: str | None = None, comment: str = "",
    max_examples: int | None = None,
) -> Source:  # fmt: skip
    """The records of a split: `open_records`, and `part` of them."""
    source = open_records(task, split, format=format, comment=comment, max_examples=max_examples)
    return part(source, task, split, key=key, labels=labels, max_examples=max_examples)


def part(
    source: Source, task: Any, split: str, *, key: Callable[[Record], str], labels: Labels | None = None, max_examples: int | None = None
) -> Source:  # fmt: skip
    """What a split is of the records that `open_records` gave: all of them, unless a split is a share.

    key: the text by which a record is drawn, unless the task has a `group_column`; labels: those of a record. Raises UserError where a share has no record.
    """
    shares = [share(task, name) for name in HELD_OUT]
    if not any(shares) or (split != "train" and not share(task, split)):
        return source
    if sum(shares) >= 1:
        raise UserError(f"task.validation={task.validation} and task.test={task.test} leave nothing to train on; give smaller shares")
    group = str(task.group_column) if hasattr(task, "group_column") else ""
    sides = _sides(source, _key(source, group, key), labels, shares)
    indices = np.flatnonzero(sides == NAMES.index(split)).tolist()[:max_examples]
    if not indices:
        raise UserError(f"{source.name}: none of its {len(source):,} records is in task.{split}={getattr(task, split)}; give a larger share, or a file")
    size = 1 - sum(shares) if split == "train" else share(task, split)
    content = repr((source.fingerprint, split, shares, group, indices[-1], len(indices)))
    return Subset(source, indices, f"{100 * size:.4g}% of {source.name}", hashlib.sha256(content.encode()).hexdigest())


def _key(source: Source, group: str, key: Callable[[Record], str]) -> Callable[[Record], str]:
    if not group:
        return key
    if group not in source[0]:
        raise UserError(f"{source.name}: task.group_column={group}: no such column; found are {sorted(source[0])}{nearest(group, source[0])}")
    return lambda record: str(record[group]) if record.get(group) not in (None, "") else key(record)


def _sides(source: Source, key: Callable[[Record], str], labels: Labels | None, shares: Sequence[float]) -> np.ndarray:
    """0, 1 or 2 for each record: train, validation, test. Validation takes the lowest hashes and test the highest, so that one does not move the other."""
    units = np.fromiter((_hash(key(record)) for record in source), np.uint64, count=len(source))
    drawn = units / 2.0**64
    sides = np.where(drawn < shares[0], 1, np.where(drawn >= 1 - shares[1], 2, 0))
    if labels is None:
        return sides
    moved = _balanced(dict(zip(units.tolist(), sides.tolist(), strict=True)), _units_of_labels(source, units, labels), shares)
    return np.fromiter((moved.get(unit, side) for unit, side in zip(units.tolist(), sides.tolist(), strict=True)), int, count=len(source))


def _hash(text: str) -> int:
    """64 bits of a text, whatever its case and blanks."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).casefold().encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _units_of_labels(source: Source, units: np.ndarray, labels: Labels) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for unit, record in zip(units.tolist(), source, strict=True):
        try:
            names = list(labels(record))
        except UserError:  # it is told where the records are checked, with its place
            continue
        for name in names:
            found[name].add(unit)
    return found


def _balanced(sides: dict[int, int], units_of: dict[str, set[int]], shares: Sequence[float]) -> dict[int, int]:
    """Sides after as few units as need be have moved: each label is in train, and in each share in which it should have an example on average."""
    labels_of: dict[int, list[str]] = defaultdict(list)
    for name, units in units_of.items():
        for unit in units:
            labels_of[unit].append(name)

    def of(name: str, side: int) -> list[int]:
        return sorted(unit for unit in units_of[name] if sides[unit] == side)

    def has(name: str, side: int) -> bool:
        return any(sides[unit] == side for unit in units_of[name])

    for name in sorted(units_of):
        if not has(name, 0):
            held = of(name, 1) or of(name, 2)
            sides[held[-1] if sides[held[-1]] == 1 else held[0]] = 0
        for side, size in enumerate(shares, 1):
            if size and len(units_of[name]) * size >= 1 and not has(name, side):
                free = [unit for unit in of(name, 0) if all(len(of(other, 0)) > 1 for other in labels_of[unit])]
                if free:
                    sides[free[0] if side == 1 else free[-1]] = side
    return sides
