"""Inputs of a prediction from Python: lists, DataFrames, data sets and dicts of lists as records, and results in the form that the input came in."""

from __future__ import annotations

import datetime
import itertools
import json
import logging
import math
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flaxft.data.base import Record
from flaxft.data.memory import open_memory
from flaxft.errors import UserError, nearest

ALL = "*"
PREFIX = "predicted_"  # of a result whose name a column of the input has
TAKEN = "a list of texts or of records, a DataFrame, a Series, a datasets.Dataset, or a dict of lists"


class Placed(NamedTuple):
    """A record, and its place for a message: "texts.csv:17"."""

    where: str
    record: Record


class Rows:
    """A `Source` of records that came from no cache and go into none."""

    def __init__(self, name: str, placed: Sequence[Placed]):
        self.name, self.fingerprint, self._placed = name, uuid.uuid4().hex, placed

    def __len__(self) -> int:
        return len(self._placed)

    def __getitem__(self, index: int) -> Record:
        return self._placed[index].record

    def __iter__(self) -> Iterator[Record]:
        return (one.record for one in self._placed)

    def where(self, index: int) -> str:
        return self._placed[index].where


class Input(NamedTuple):
    """Records, which of their columns come back where the caller does not say, and what makes an answer of the results (a dict a record, in order)."""

    records: list[Placed]
    keep: str | None
    answer: Callable[[list[dict[str, Any]]], Any]


def read(data: Any) -> Input:
    """The records of what `Predictor.predict` was given. Raises UserError for what is none of its kinds."""
    kinds = [f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(data).__mro__]
    table = next((TABLES[kind] for kind in kinds if kind in TABLES), None)
    if table is not None:
        return table(data)
    if isinstance(data, list | tuple):
        return Input([Placed(f"input:{number}", _record(one, f"input:{number}")) for number, one in enumerate(data, 1)], None, list)
    if isinstance(data, dict) and all(isinstance(values, list | tuple) for values in data.values()):
        return _of_columns(data)
    raise UserError(f"predict takes {TAKEN}, not {_described(data)}")


def _described(data: Any) -> str:
    name = type(data).__name__
    if isinstance(data, str):
        return f"one string; give [{data[:20]!r}]"
    if isinstance(data, Mapping) and any(type(one).__name__ == "Dataset" for one in data.values()):
        return f"a {name} of the splits {list(data)}; give one of them"
    if isinstance(data, Mapping):
        return f"one record (a {name}); give a list of it"
    if isinstance(data, Iterable):
        return f"a {name}; give list(...) of it, or what it holds as one of these"
    return f"a {name}"


def _record(one: Any, where: str) -> Record:
    if isinstance(one, str):
        return {"text": one}
    if isinstance(one, Mapping):
        wrong = next((name for name in one if not isinstance(name, str)), None)
        if wrong is not None:
            raise UserError(f"{where}: a record has the key {wrong!r} ({type(wrong).__name__}), expected names of columns")
        return one
    hint = '; give its words as {"tokens": [...]}' if isinstance(one, list | tuple) and one and all(isinstance(word, str) for word in one) else ""
    raise UserError(f"{where}: {str(one)[:40]!r} ({type(one).__name__}), expected a text or a record{hint}")


# ---- tables ---------------------------------------------------------------------------------------------------------------------------------------


def _of_columns(columns: Mapping[str, Sequence[Any]]) -> Input:
    return Input(_placed(columns, places=itertools.count(1)), ALL, lambda results: _as_columns(results) or columns)


def _of_frame(frame: Any) -> Input:
    import pandas as pd

    index = frame.index

    def answer(results: list[dict[str, Any]]) -> Any:
        made = _as_columns(results)
        kept = frame[[name for name in frame.columns if name in made or not results]]  # with their own types
        return kept.assign(**{name: pd.Series(values, index=index) for name, values in made.items() if name not in kept})

    return Input(_placed(frame, places=(f"{number} (index {label})" for number, label in enumerate(index, 1))), ALL, answer)


def _of_series(series: Any) -> Input:
    """A DataFrame of the results comes back, with the index of the Series."""
    return _of_frame(series.to_frame("text"))


def _of_dataset(dataset: Any) -> Input:
    def answer(results: list[dict[str, Any]]) -> Any:
        made = _as_columns(results)
        kept = [name for name in dataset.column_names if name in made or not results]
        found = dataset.select_columns(kept)
        for name, values in made.items():
            if name not in kept:
                found = found.add_column(name, _of_one_type(values))
        return found

    return Input(_placed(dataset, places=itertools.count(1)), ALL, answer)


TABLES: dict[str, Callable[[Any], Input]] = {"pandas.DataFrame": _of_frame, "pandas.Series": _of_series, "datasets.Dataset": _of_dataset}


def _placed(table: Any, *, places: Iterable[int | str]) -> list[Placed]:
    if not len(table) or (isinstance(table, Mapping) and not any(table.values())):
        return []
    return [Placed(f"input:{place}", record) for place, record in zip(places, open_memory(table, name="input", texts=True), strict=False)]


def _as_columns(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """One list a name, None where a result has it not."""
    names = dict.fromkeys(name for one in results for name in one)
    return {name: [one.get(name) for one in results] for name in names}


def _of_one_type(values: list[Any]) -> list[Any]:
    """Arrow has one type a column: dicts of numbers that do not have the same keys become lists of {"label", "score"}."""
    if not all(isinstance(value, dict) for value in values) or len({tuple(value) for value in values}) == 1:
        return values
    return [[{"label": label, "score": score} for label, score in value.items()] for value in values]


# ---- columns that come back -----------------------------------------------------------------------------------------------------------------------


def names_to_keep(keep: str | Sequence[str] | None, first: Record) -> Collection[str] | None:
    """The columns asked for: "id,date" or ["id", "date"]; None for "*", which is all of each record. Raises UserError for one that the first record lacks."""
    asked = [name.strip() for name in keep.split(",") if name.strip()] if isinstance(keep, str) else list(keep or ())
    if ALL in asked:
        return None
    missing = next((name for name in asked if name not in first), None)
    if missing is not None:
        raise UserError(f"keep names {missing!r}, which is no column of the input{nearest(missing, first)}; found are {sorted(first)}, and * keeps all")
    return asked


def with_columns(result: Mapping[str, Any], record: Record, keep: Collection[str] | None, *, read_columns: Collection[str]) -> dict[str, Any]:
    """Columns of the record, then the result; a result of the same name is `predicted_NAME`, unless it only says again what was read from that column."""
    kept = {name: value for name, value in record.items() if keep is None or name in keep} | {name: None for name in keep or () if name not in record}
    found = dict(kept)
    for name, value in result.items():
        if name not in kept:
            found[name] = value
        elif name not in read_columns or type(value) is not type(kept[name]) or value != kept[name]:
            found[PREFIX + name] = value
    return found


def say_renamed(result: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """One line for the first record's results that stand under another name."""
    renamed = [name for name in result if PREFIX + name in found and PREFIX + name not in result]
    if renamed:
        shown = ", ".join(f"{name!r} is the input's, and what was predicted is {PREFIX + name!r}" for name in renamed)
        logging.getLogger("flaxft").info("%s", shown)


def plain(value: Any) -> Any:
    """A value as JSON has it: dates and the like as text, and no number for what is none. For `json.dumps(default=plain)`."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        raise UserError("a column to keep holds bytes, which JSON has not; leave it out of keep")
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # numpy's
        return value.tolist()
    return str(value)


def lines(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """JSON lines."""
    return (json.dumps(_finite(one), ensure_ascii=False, default=plain) + "\n" for one in results)


def _finite(value: Any) -> Any:
    """NaN and infinity, which JSON has not, as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value
