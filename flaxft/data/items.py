"""The table of items: everything that a source was tokenised into, on disk, memory-mapped, keyed by what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flaxft.data.base import Features, Record, Source, Tokenizer
from flaxft.errors import DiskError, UserError, reason

VERSION = 2  # of the layout below and of what `Task.features` may return
CHUNK = 8192  # features a record batch of the file: bounds the memory that writing takes
PARTS = ("tokens", "example", "host")


class Featurizer(Protocol):
    """What this file needs of a Task."""

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> Sequence[Features]: ...


class Items:
    """N items, each a run of features; arrays are views of the mapped file."""

    def __init__(self, file: Path):
        import pyarrow as pa

        self._reader = pa.ipc.open_file(pa.memory_map(str(file)))
        table = self._reader.read_all()
        self._metadata = json.loads(table.schema.metadata[b"flaxft"])
        self.fingerprint: str = self._metadata["fingerprint"]
        self.lengths = _numbers(table["length"])  # (num_features,) int32
        self.records = _numbers(table["record"])  # (num_features,) int32: the record that each feature comes from
        self.groups = _numbers(table["group"])  # (num_features,) int32
        self.num_cut = _numbers(table["num_cut"])  # (num_features,) int32: tokens that did not fit
        item = _numbers(table["item"])
        self.item_of = item  # (num_features,) int32: the item that each feature belongs to
        self.item_starts = np.flatnonzero(np.r_[True, item[1:] != item[:-1], True])  # (N + 1,): item i is features item_starts[i] to item_starts[i + 1]
        self._columns = {name: [_views(chunk) for chunk in table[name].chunks] for name in self._metadata["columns"]}
        self._chunk_starts = np.cumsum([0, *(len(chunk) for chunk in table["length"].chunks)])

    def __len__(self) -> int:
        """Number of items, N."""
        return len(self.item_starts) - 1

    @property
    def num_tokens(self) -> int:
        return int(self.lengths.sum())

    def input_ids(self) -> Iterator[bytes]:
        """The bytes of each feature's input_ids, one after the other."""
        for values, offsets, _ in self._columns["tokens.input_ids"]:
            yield from (values[start:stop].tobytes() for start, stop in itertools.pairwise(offsets.tolist()))

    def feature(self, index: int) -> Features:
        """Feature `index` of 0 .. len(lengths) - 1."""
        chunk = int(np.searchsorted(self._chunk_starts, index, side="right") - 1)
        row = index - self._chunk_starts[chunk]
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
        for name, (dtype, shape) in self._metadata["columns"].items():
            values, offsets, is_there = self._columns[name][chunk]
            part, key = name.split(".", 1)
            if is_there is None or is_there[row]:
                parts[part][key] = values[offsets[row] : offsets[row + 1]].view(dtype).reshape(tuple(shape))
        return Features(parts["tokens"], parts["example"], int(self.groups[index]), parts["host"], int(self.num_cut[index]))


def build_items(
    source: Source, task: Featurizer, tokenizer: Tokenizer, *, max_length: int, key: str, cache: Path | None = None, use_cache: bool = True,
    poll: Callable[[], None] = lambda: None,
) -> Items:  # fmt: skip
    """Tokenises a source, or finds it done. `key` says all that the features depend on beside the source and `max_length`.

    Logs how many records were cut, if any; raises UserError of `Task.features`, with the record's place before it. `poll` may raise to abandon it.
    """
    items = _find_or_make(source, task, tokenizer, max_length=max_length, key=key, cache=cache, use_cache=use_cache, poll=poll)
    num_records = len(np.unique(items.records[items.num_cut > 0]))
    if num_records:
        logging.getLogger("flaxft").warning(
            "%s: %d of %d records are longer than data.max_length=%d and were cut; %d tokens are not read",
            source.name, num_records, len(source), max_length, int(items.num_cut.sum()),
        )  # fmt: skip
    return items


def _find_or_make(
    source: Source, task: Featurizer, tokenizer: Tokenizer, *, max_length: int, key: str, cache: Path | None, use_cache: bool, poll: Callable[[], None]
) -> Items:
    name = hashlib.sha256(json.dumps([VERSION, source.fingerprint, key, max_length]).encode()).hexdigest()
    directory = cache or default_cache() / "items"
    file = directory / f"{name[:32]}.arrow"
    if use_cache and file.is_file():
        with contextlib.suppress(ValueError, OSError):  # a damaged file is made anew; pyarrow's errors are of both kinds
            return Items(file)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=directory, suffix=".tmp")
    except OSError:  # a read-only home: the table lives as long as the process's temporary files
        directory = Path(tempfile.mkdtemp(prefix="flaxft-"))
        file = directory / file.name
        handle, temporary = tempfile.mkstemp(dir=directory, suffix=".tmp")
    os.close(handle)
    try:
        _write(Path(temporary), _all_features(source, task, tokenizer, max_length, poll))
        if not use_cache:
            items = Items(Path(temporary))
            Path(temporary).unlink()  # mapped for as long as `items` lives, and then gone
            return items
        os.replace(temporary, file)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise DiskError(f"{directory}: tokenised data cannot be written ({reason(error)}); free space, or name another folder in FLAXFT_CACHE") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return Items(file)


def num_seen_records(items: Items, seen: Set[bytes]) -> int:
    """How many records of `items` have nothing new: the input_ids of each of their features are in `seen`, which is those of the train split."""
    is_new = np.asarray([ids not in seen for ids in items.input_ids()], bool)
    return len(np.unique(items.records)) - len(np.unique(items.records[is_new]))


def default_cache() -> Path:
    """`$FLAXFT_CACHE`, else `flaxft` in the user's cache folder."""
    named = os.environ.get("FLAXFT_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxft"


def _all_features(
    source: Source, task: Featurizer, tokenizer: Tokenizer, max_length: int, poll: Callable[[], None]
) -> Iterator[tuple[int, Features]]:
    for index in range(len(source)):
        if index % 100 == 0:
            poll()
        try:
            features = task.features(source[index], tokenizer, max_length=max_length)
        except UserError as error:
            raise UserError(f"{source.where(index)}: {error}") from None
        yield from ((index, feature) for feature in features)


def _write(file: Path, features: Iterator[tuple[int, Features]]) -> None:
    import pyarrow as pa

    digest = hashlib.sha256()
    schema: Any = None
    writer: Any = None
    columns: dict[str, tuple[str, list[int]]] = {}  # of all features so far: those of different tasks have different arrays
    kinds: set[tuple[tuple[str, ...], ...]] = set()  # which arrays a feature may have
    item, previous = -1, (-1, -1)
    rows: list[tuple[int, int, Features]] = []
    batches: list[Any] = []

    def flush() -> None:
        batches.append(_record_batch(pa, rows, columns, digest))
        rows.clear()

    for record, feature in features:
        kind = tuple(tuple(getattr(feature, part)) for part in PARTS)
        if kind not in kinds:
            kinds.add(kind)
            columns |= {name: column for name, column in _columns(feature).items() if name not in columns}
        item += not (feature.group >= 0 and (record, feature.group) == previous)  # features of one record and group are one item
        previous = (record, feature.group)
        rows.append((record, item, feature))
        if len(rows) == CHUNK:
            flush()
    if rows or not batches:
        flush()
    # The schema's metadata holds the fingerprint, so it is written when all is known; a table of tokens is small beside the activations of one step.
    batches = [_with_columns(pa, batch, list(columns)) for batch in batches]
    schema = batches[0].schema.with_metadata({"flaxft": json.dumps({"fingerprint": digest.hexdigest(), "columns": columns})})
    with pa.OSFile(str(file), "wb") as sink:
        writer = pa.ipc.new_file(sink, schema)
        for batch in batches:
            writer.write_batch(batch)
        writer.close()


def _columns(feature: Features) -> dict[str, tuple[str, list[int]]]:
    """Column name -> (dtype, shape with -1 for the length that varies)."""
    columns: dict[str, tuple[str, list[int]]] = {}
    for part in PARTS:
        arrays: Mapping[str, np.ndarray] = getattr(feature, part)
        for key, array in arrays.items():
            shape = list(array.shape) if part == "example" else [-1, *array.shape[1:]]
            columns[f"{part}.{key}"] = (array.dtype.str, shape)
    return columns


def _record_batch(pa: Any, rows: Sequence[tuple[int, int, Features]], columns: Mapping[str, tuple[str, list[int]]], digest: Any) -> Any:
    fixed = {
        "record": np.asarray([record for record, _, _ in rows], np.int32),
        "item": np.asarray([item for _, item, _ in rows], np.int32),
        "group": np.asarray([feature.group for _, _, feature in rows], np.int32),
        "length": np.asarray([len(feature.tokens["input_ids"]) for _, _, feature in rows], np.int32),
    }
    arrays = {name: pa.array(values) for name, values in fixed.items()}
    arrays["num_cut"] = pa.array(np.asarray([feature.num_cut for _, _, feature in rows], np.int32))
    for name, values in fixed.items():
        digest.update(name.encode() + values.tobytes())
    for name in columns:
        part, key = name.split(".", 1)
        found = [getattr(feature, part).get(key) for _, _, feature in rows]
        arrays[name], values, is_there = _binary(pa, found)
        if part != "host":  # what the device sees; offsets and word ids follow from the source
            digest.update(name.encode() + values.tobytes() + (b"" if is_there.all() else is_there.tobytes()))
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _binary(pa: Any, found: Sequence[np.ndarray | None]) -> tuple[Any, np.ndarray, np.ndarray]:
    """A large-binary column, null where there is no array; all its bytes, and (n,) bool: which are there."""
    pieces = [np.zeros(0, np.uint8) if array is None else np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in found]
    values = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
    offsets = np.cumsum([0, *(len(piece) for piece in pieces)], dtype=np.int64)
    is_there = np.asarray([array is not None for array in found], bool)
    bits = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(found), [bits, pa.py_buffer(offsets), pa.py_buffer(values)]), values, is_there


def _with_columns(pa: Any, batch: Any, names: Sequence[str]) -> Any:
    """With nulls for the columns that came up after the batch was made; in one order, that of the schema."""
    fixed = [name for name in batch.schema.names if name not in names]
    nulls = {name: _binary(pa, [None] * batch.num_rows)[0] for name in names if name not in batch.schema.names}
    return pa.RecordBatch.from_arrays([nulls[name] if name in nulls else batch[name] for name in (*fixed, *names)], names=[*fixed, *names])


def _numbers(column: Any) -> np.ndarray:
    """An int32 column. pyarrow's own `to_numpy` imports pandas where it is installed, a quarter of a second of every start."""
    chunks = [np.frombuffer(chunk.buffers()[1], np.int32, count=len(chunk), offset=4 * chunk.offset) for chunk in column.chunks if len(chunk)]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.int32), *chunks])


def _views(chunk: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Bytes and offsets of a large-binary column, as views of the mapped file, and (n,) bool where some are null."""
    _, offsets, values = chunk.buffers()
    data = np.frombuffer(values, np.uint8) if values is not None and values.size else np.zeros(0, np.uint8)
    is_there = chunk.is_valid().to_numpy(zero_copy_only=False) if chunk.null_count else None
    return data, np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1], is_there
