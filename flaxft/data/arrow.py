"""Parquet and Arrow files, with the names of class labels that `datasets` leaves in their schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from flaxft.data.compression import RATIO
from flaxft.data.content import Content, Placed
from flaxft.data.headers import unique
from flaxft.errors import UserError, reason

ROWS = 1024  # that are Python objects at a time
MANY = 10_000_000  # rows from which on a file's size is looked at
LISTS = ("List", "LargeList", "Sequence")  # what `datasets` calls lists, now and before


def read_parquet(file: Content) -> Placed:
    """A row a record, as Python objects. Raises UserError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def batches() -> tuple[Any, Iterator[Any]]:
        parquet = pq.ParquetFile(pa.BufferReader(pa.py_buffer(file.data)))
        _check_size(file, parquet.metadata.num_rows)
        return parquet.schema_arrow, parquet.iter_batches(batch_size=ROWS)

    return _rows(file, "Parquet", batches)


def read_arrow(file: Content) -> Placed:
    """The same of an Arrow or Feather file, and of the Arrow stream that `save_to_disk` writes. Raises UserError."""
    import pyarrow as pa

    def batches() -> tuple[Any, Iterator[Any]]:
        buffer = pa.BufferReader(pa.py_buffer(file.data))
        if file.data[:6] == b"ARROW1":
            reader = pa.ipc.open_file(buffer)
            return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
        stream = pa.ipc.open_stream(buffer)
        return stream.schema, iter(stream)

    return _rows(file, "Arrow", batches)


def is_parquet(file: Content) -> bool:
    return file.data[:4] == b"PAR1"


def is_arrow(file: Content) -> bool:
    return file.data[:8] == b"ARROW1\0\0" or file.data[:4] == b"\xff\xff\xff\xff"


def _rows(file: Content, called: str, open_batches: Callable[[], tuple[Any, Iterator[Any]]]) -> Placed:
    import pyarrow as pa

    number = 0
    try:
        schema, batches = open_batches()
        unique(schema.names, file.path)
        labelled = _labelled(schema.metadata or {})
        for batch in batches:
            _check_size(file, number + batch.num_rows)
            for start in range(0, batch.num_rows, ROWS):
                for row in batch.slice(start, ROWS).to_pylist():
                    yield number, row | {name: _with_names(row[name], feature) for name, feature in labelled.items() if name in row}
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.path}: not a whole {called} file ({reason(error)}); write or download it again") from None


def _check_size(file: Content, num_rows: int) -> None:
    """Raises UserError for a bomb: what says a value once and counts it, or counts values that are not there."""
    if num_rows > MANY and num_rows > RATIO * len(file.data):
        raise UserError(f"{file.path}: {num_rows:,} rows in {len(file.data):,} bytes, which no table of texts has; write or download it again")


# ---- class labels ----


def _labelled(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """The columns in which class labels stand, and what `datasets` says of each."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in features.items() if _has_labels(feature)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _has_labels(feature: Any) -> bool:
    if isinstance(feature, list):
        return any(map(_has_labels, feature))
    if not isinstance(feature, dict):
        return False
    if feature.get("_type") == "ClassLabel":
        return isinstance(feature.get("names"), list) and bool(feature["names"])
    return any(map(_has_labels, feature.values()))


def _with_names(value: Any, feature: Any) -> Any:
    """A value with the names of its class labels; -1 marks a label that is held back, and is None."""
    if not _has_labels(feature):
        return value
    if isinstance(feature, list):  # of one kind of element, as old versions write it
        feature = {"_type": LISTS[0], "feature": feature[0]}
    if feature.get("_type") == "ClassLabel":
        if isinstance(value, list):  # a list of objects may be stored as an object of lists
            return [_with_names(item, feature) for item in value]
        names = feature["names"]
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return value if not is_number or value >= len(names) else str(names[value]) if value >= 0 else None
    inner = feature["feature"] if feature.get("_type") in LISTS and "feature" in feature else feature
    if isinstance(value, list):
        return [_with_names(item, inner) for item in value]
    if isinstance(value, dict) and isinstance(inner, dict):
        return {key: _with_names(item, inner.get(key)) for key, item in value.items()}
    return value
