"""Records that a program hands over: a list of dicts, a dict of lists, a pandas DataFrame or Series, a `datasets.Dataset`.

`open_memory(value, name="task.train")` makes a `Memory` of any of these, a `Source` whose fingerprint is the sha256 of its content, and refuses everything
else by its type. `is_given(value)` says whether a value is no path and so has to go through it. A task's `train`, `validation` and `test` may be set to such
values; `Config.check` opens them. For prediction the same call takes texts too (`texts=True`): a list of strings, a Series. The index of a DataFrame is no
column; what is missing (NaN, NA, NaT) is None, numpy's scalars and arrays are Python's, dates are ISO 8601 texts.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flaxft.data.base import Records
from flaxft.data.spool import Packed, pack
from flaxft.errors import UserError

ROWS = 1024  # of a data set that are Python objects at a time
TAKEN = "a list of dicts, a dict of lists, a pandas DataFrame, a datasets.Dataset, or the path of a file"
TEXT = "text"  # the column of a text that comes without one


class Frame(Protocol):
    """What a pandas DataFrame and a `datasets.Dataset` share, for type checkers."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Any: ...


class InMemory:
    """What a split is that has no path: `Memory`, or in a saved config `Gone`."""

    words = "records in memory"  # how help calls the type

    def to_json(self) -> dict[str, Any]:
        raise NotImplementedError


@dataclasses.dataclass(eq=False)
class Memory(Records, InMemory):
    """A `Source` of records in memory. In a saved config it is its sha256 and its number of records: the records themselves are not saved."""

    columns: tuple[str, ...] = ()
    kind: str = "list"  # what it was made of: list | dict | DataFrame | Series | Dataset

    def to_json(self) -> dict[str, Any]:
        return {"in memory": self.fingerprint, "records": len(self)}

    def __deepcopy__(self, memo: Any) -> Memory:
        return self  # nothing changes it

    def first(self, num: int | None) -> Memory:
        """The first so many records, all with None."""
        if num is None or num >= len(self):
            return self
        fingerprint = hashlib.sha256(repr((self.fingerprint, num)).encode()).hexdigest()
        return dataclasses.replace(self, fingerprint=fingerprint, records=self.records[:num], places=range(num))

    def __str__(self) -> str:
        return f"in memory ({len(self):,} records)"


@dataclasses.dataclass(frozen=True)
class Gone(InMemory):
    """What a saved config has of records that were in memory: whoever trained with them has to hand them over again."""

    fingerprint: str
    num_records: int

    def to_json(self) -> dict[str, Any]:
        return {"in memory": self.fingerprint, "records": self.num_records}

    def __str__(self) -> str:
        return f"in memory ({self.num_records:,} records)"

    def refuse(self, split: str) -> UserError:
        return UserError(
            f"task.{split}: the {self.num_records:,} records that this run was given in memory are not on disk; "
            f"set cfg.task.{split} to the same data from Python, or --config.task.{split} to a file"
        )


# What a task's `train`, `validation` and `test` may be set to. At run time `Config.check` has made a `Memory` of all but paths.
if TYPE_CHECKING:
    Given = str | Sequence[str] | InMemory | Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | Frame
else:
    Given = str | tuple[str, ...] | InMemory


def is_given(value: Any) -> bool:
    """Whether a value is neither a path nor none, so that `open_memory` has to look at it."""
    is_paths = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
    return not (value is None or is_paths or isinstance(value, str | InMemory))


def from_json(value: Any) -> Gone | None:
    """The inverse of `to_json`, None where a value is no such thing."""
    if isinstance(value, dict) and set(value) == {"in memory", "records"} and isinstance(value["in memory"], str) and isinstance(value["records"], int):
        return Gone(value["in memory"], value["records"])
    return None


def open_memory(value: Any, *, name: str, texts: bool = False) -> Memory:
    """The records of a value, in order; record i stands at "NAME: row i".

    Args:
      name: what messages call it, such as "task.train".
      texts: whether strings are records too, {"text": ...}: for prediction. A Series is records of one column, its name or "text".

    Raises UserError for a value that is none of the kinds, with its type; for one without records; for a record that is no dict or has keys that are no texts.
    """
    if isinstance(value, Memory):
        return value
    kind, rows = _rows(value, name, texts=texts)
    records = Packed()
    digest = hashlib.sha256()
    columns: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError(f"{name}: row {number} is {str(row)[:40]!r} ({type(row).__name__}), expected a dict of column names and values")
        if wrong := [key for key in row if not isinstance(key, str)]:
            raise UserError(f"{name}: row {number} has a column named {wrong[0]!r} ({type(wrong[0]).__name__}); give columns names that are texts")
        record = {str(key): plain(one) for key, one in row.items()}
        columns.update(dict.fromkeys(record))
        records.append(record)
        digest.update(pack(record) or repr(sorted(record.items())).encode())
    if not records:
        raise UserError(f"{name}: no records in this {type(value).__name__}; give at least one")
    return Memory(name, digest.hexdigest(), records, range(len(records)), ": row {}", columns=tuple(columns), kind=kind)


def plain(value: Any) -> Any:
    """A value of Python's own kinds: numpy's scalars and arrays, dates and what is missing as the module's docstring says."""
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, np.generic):  # before str and float, which some of them are
        return plain(value.item())
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()]
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas' own, without importing it
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value


# ---- the kinds ------------------------------------------------------------------------------------------------------------------------------------


def _rows(value: Any, name: str, *, texts: bool) -> tuple[str, Iterable[Any]]:
    """The kind of a value, and its rows. Libraries are known by the module of a type, so that none is imported."""
    package, kind = type(value).__module__.partition(".")[0], type(value).__name__
    if package == "pandas" and kind == "DataFrame":
        return kind, _rows_of_frame(value, name)
    if package == "pandas" and kind == "Series":
        column = value.name if isinstance(value.name, str) else TEXT
        if not texts:
            raise UserError(f"{name} is a pandas Series, which is one column; give {TAKEN} (series.to_frame() has one column alone)")
        return kind, ({column: one} for one in value.tolist())
    if package == "datasets" and kind == "Dataset":
        return kind, _rows_of_dataset(value)
    if kind in ("DatasetDict", "IterableDatasetDict"):
        raise UserError(f"{name} is a {kind} of the splits {', '.join(map(repr, value))}; give one of them, such as dataset[{next(iter(value))!r}]")
    if kind == "IterableDataset":
        raise UserError(f"{name} is an IterableDataset, whose records come but once; give list(dataset), or a datasets.Dataset")
    if package == "polars" and kind == "DataFrame":
        return "DataFrame", value.to_dicts()
    if package == "pyarrow" and kind == "Table":
        return "Dataset", value.to_pylist()
    if isinstance(value, Mapping):
        return "dict", _rows_of_lists(value, name)
    if isinstance(value, list | tuple):
        if texts:
            return "list", ({TEXT: one} if isinstance(one, str) else one for one in value)
        if value and isinstance(value[0], str):
            raise UserError(f"{name} is a list of texts, which have no labels; give {TAKEN}")
        return "list", value
    if texts and isinstance(value, np.ndarray) and value.ndim == 1:
        return "list", ({TEXT: one} for one in value.tolist())
    raise UserError(f"{name} is of the type {kind}{f' of {package}' if package != 'builtins' else ''}; give {TAKEN}")


def _rows_of_frame(frame: Any, name: str) -> Iterator[dict[Any, Any]]:
    names = list(frame.columns)
    if not frame.columns.is_unique:
        twice = sorted({str(one) for one in names if names.count(one) > 1})
        raise UserError(f"{name}: the column name(s) {', '.join(map(repr, twice))} stand more than once; rename all but one")
    columns = [frame[one].tolist() for one in names]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _rows_of_dataset(dataset: Any) -> Iterator[dict[str, Any]]:
    """With class labels as their names, as the hub's data sets have them."""
    labels = {column: found for column, feature in dataset.features.items() if (found := _class_names(feature)) is not None}
    plain_dataset = dataset.with_format(None)
    for start in range(0, len(dataset), ROWS):
        for row in plain_dataset.select(range(start, min(start + ROWS, len(dataset)))).to_list():
            yield row | {column: _label_names(row[column], names) for column, names in labels.items()}


def _class_names(feature: Any) -> list[str] | None:
    """The names of a column of class labels, or of lists of them."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return list(feature.names) if type(feature).__name__ == "ClassLabel" else None


def _label_names(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_label_names(one, names) for one in value]
    return None if value is None or value < 0 else names[value]  # -1 marks an unlabelled test split


def _rows_of_lists(lists: Mapping[Any, Any], name: str) -> Iterator[dict[Any, Any]]:
    columns = {}
    for key, one in lists.items():
        if isinstance(one, str | bytes | Mapping) or not hasattr(one, "__len__") or not hasattr(one, "__getitem__"):
            what = f"{name} is a dict whose {key!r} is {str(one)[:40]!r} ({type(one).__name__})"
            raise UserError(f"{what}; give a dict of lists, one a column, or a list of dicts")
        columns[key] = one.tolist() if hasattr(one, "tolist") else list(one)
    sizes = {key: len(one) for key, one in columns.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{key!r} {size:,}" for key, size in sizes.items())
        raise UserError(f"{name}: the columns are of different lengths ({shown}); give one value for each record")
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
