"""The table of items: everything that a source was tokenised into, on disk, memory-mapped, keyed by what it was made from."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import json
import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxft.data.base import Features, Featurizer, Source, Tokenizer
from flaxft.data.blocks import PARTS, Block, Column, block_of, joined
from flaxft.data.spool import Spool
from flaxft.data.texts import LONG_TEXTS, reads_more
from flaxft.data.workers import Workers, num_cpus
from flaxft.errors import DiskError, UserError, reason

VERSION = 2  # of the layout below and of what `Task.features` may return
CHUNK = 8192  # features a record batch of the file: bounds the memory that writing takes
RECORDS = 512  # tokenised together
START_SECONDS = 1.5  # of a CPU, what a worker process takes before its first block: an import of jax and flax, 1.1 s here
MAX_WORKERS = 16  # this process takes a twentieth of their time a record, to send it and to write its block
StartWorkers = Callable[[int], Workers | None]


class Cut(NamedTuple):
    """What did not fit into data.max_length."""

    num_records: int
    num_tokens: int


class Items:
    """N items, each a run of features; arrays are views of the mapped file."""

    def __init__(self, file: Path):
        import pyarrow as pa

        self._reader = pa.ipc.open_file(pa.memory_map(str(file)))
        table = self._reader.read_all()
        metadata = json.loads(table.schema.metadata[b"flaxft"])
        self.fingerprint: str = metadata["fingerprint"]
        self.lengths = _numbers(table["length"])  # (num_features,) int32
        self.records = _numbers(table["record"])  # (num_features,) int32: the record that each feature comes from
        self.groups = _numbers(table["group"])  # (num_features,) int32
        self.num_cut = _numbers(table["num_cut"])  # (num_features,) int32: tokens that did not fit
        item = _numbers(table["item"])
        self.item_of = item  # (num_features,) int32: the item that each feature belongs to
        self.item_starts = np.flatnonzero(np.r_[True, item[1:] != item[:-1], True])  # (N + 1,): item i is features item_starts[i] to item_starts[i + 1]
        self._columns = {name: [_views(chunk) for chunk in table[name].chunks] for name in metadata["columns"]}
        self._chunk_starts = [0, *itertools.accumulate(len(chunk) for chunk in table["length"].chunks)]
        self._layout = [(*name.split(".", 1), np.dtype(dtype), tuple(shape), self._columns[name]) for name, (dtype, shape) in metadata["columns"].items()]

    def __len__(self) -> int:
        """Number of items, N."""
        return len(self.item_starts) - 1

    @property
    def num_tokens(self) -> int:
        return int(self.lengths.sum())

    def cut(self) -> Cut:
        """How many records lost tokens, and how many tokens."""
        return Cut(len(np.unique(self.records[self.num_cut > 0])), int(self.num_cut.sum()))

    def has_values(self, names: Collection[str], *, none: float) -> np.ndarray:
        """Whether each feature has a value other than `none` in one of its arrays of these names, bool (num_features,)."""
        found = np.zeros(len(self.lengths), bool)
        for part, key, dtype, _, chunks in self._layout:
            if key not in names or part == "host":
                continue
            for start, (values, offsets, _) in zip(self._chunk_starts, chunks, strict=False):
                first, last = int(offsets[0]), int(offsets[-1])
                counts = np.concatenate([np.zeros(1, int), np.cumsum(values[first:last].view(dtype) != none)])
                at = (np.asarray(offsets) - first) // dtype.itemsize
                found[start : start + len(at) - 1] |= counts[at[1:]] > counts[at[:-1]]
        return found

    def input_hashes(self) -> np.ndarray:
        """64 bits of the hash of each feature's input_ids, uint64 (num_features,). Of n and m others n * m / 2**64 collide."""
        runs = (values[start:stop] for values, offsets, _ in self._columns["tokens.input_ids"] for start, stop in itertools.pairwise(offsets.tolist()))
        hashes = (int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little") for ids in runs)
        return np.fromiter(hashes, np.uint64, count=len(self.lengths))

    def feature(self, index: int) -> Features:
        """Feature `index` of 0 .. len(lengths) - 1."""
        chunk = bisect.bisect_right(self._chunk_starts, index) - 1
        row = index - self._chunk_starts[chunk]
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
        for part, key, dtype, shape, columns in self._layout:
            values, offsets, is_there = columns[chunk]
            if is_there is None or is_there[row]:
                parts[part][key] = values[offsets[row] : offsets[row + 1]].view(dtype).reshape(shape)
        return Features(parts["tokens"], parts["example"], int(self.groups[index]), parts["host"], int(self.num_cut[index]))


def build_items(
    source: Source, task: Featurizer, tokenizer: Tokenizer, *, max_length: int, key: str, cache: Path | None = None, use_cache: bool = True,
    poll: Callable[[], None] = lambda: None, start_workers: StartWorkers | None = None,
) -> Items:  # fmt: skip
    """Tokenises a source, or finds it done. `key` says all that the features depend on beside the source and `max_length`.

    What takes longer than starting processes is done on all CPUs with `start_workers(num)`, whose workers have the same task and tokenizer;
    where that gives None, in this process alone.

    Logs how many records were cut, if any; raises UserError of `Task.features`, with the record's place before it. `poll` may raise to abandon it.
    """
    items = _find_or_make(source, task, tokenizer, max_length=max_length, key=key, cache=cache, use_cache=use_cache, poll=poll, start_workers=start_workers)
    warn_of_cut(source.name, items.cut(), num_records=len(source), max_length=max_length, task=task)
    return items


def build_block(source: Source, task: Featurizer, tokenizer: Tokenizer, *, max_length: int) -> Items:
    """A few records of a longer source tokenised, which are kept nowhere; who reads all of them says what was cut. Raises UserError as `build_items` does."""
    return _find_or_make(
        source, task, tokenizer, max_length=max_length, key="", cache=None, use_cache=False, poll=lambda: None, start_workers=None
    )


def warn_of_cut(name: str, cut: Cut, *, num_records: int, max_length: int, task: Featurizer) -> None:
    """Says how many records of a source were cut, if any, and how the task can read more of them."""
    if cut.num_records:
        logging.getLogger("flaxft").warning(
            "%s: %d of %d records are longer than data.max_length=%d and were cut; %d tokens are not read%s",
            name, cut.num_records, num_records, max_length, cut.num_tokens, f" (task.long_text={' or '.join(LONG_TEXTS[1:])})" if reads_more(task) else "",
        )  # fmt: skip


def _find_or_make(
    source: Source, task: Featurizer, tokenizer: Tokenizer, *, max_length: int, key: str, cache: Path | None, use_cache: bool, poll: Callable[[], None],
    start_workers: StartWorkers | None,
) -> Items:  # fmt: skip
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
        with contextlib.closing(_blocks(source, task, tokenizer, max_length, poll, start_workers)) as blocks:
            _write(Path(temporary), blocks)
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


def num_seen_records(items: Items, seen: np.ndarray) -> int:
    """How many records of `items` have nothing new: the input_ids of each of their features are in `seen`, the hashes of those of the train split."""
    is_new = np.isin(items.input_hashes(), seen, invert=True)
    return len(np.unique(items.records)) - len(np.unique(items.records[is_new]))


def default_cache() -> Path:
    """`$FLAXFT_CACHE`, else `flaxft` in the user's cache folder."""
    named = os.environ.get("FLAXFT_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxft"


def _blocks(
    source: Source, task: Featurizer, tokenizer: Tokenizer, max_length: int, poll: Callable[[], None], start_workers: StartWorkers | None
) -> Generator[Block]:
    """In this process as long as workers would not pay: after `START_SECONDS`, if each of them then has work for longer than that."""
    began = time.thread_time()
    for start in range(0, len(source), RECORDS):
        done = min(start + RECORDS, len(source))
        yield _block(source, range(start, done), task, tokenizer, max_length, poll)
        spent = time.thread_time() - began  # of a CPU: other work on the machine makes a start just as slow
        num = min(num_cpus(), MAX_WORKERS, int(spent / done * (len(source) - done) / START_SECONDS))
        if start_workers is not None and spent > START_SECONDS and num > 1:
            workers, start_workers = start_workers(num), None
            if workers is not None:
                yield from _blocks_of_workers(source, done, task, tokenizer, max_length, poll, workers, num)
                return


def _blocks_of_workers(
    source: Source, start: int, task: Featurizer, tokenizer: Tokenizer, max_length: int, poll: Callable[[], None],
    workers: Workers, num: int,
) -> Iterator[Block]:  # fmt: skip
    """Those from record `start` on, in order."""
    runs = (range(first, min(first + RECORDS, len(source))) for first in range(start, len(source), RECORDS))
    asked: deque[tuple[range, Future[bytes | None]]] = deque()
    with workers:
        while True:
            for run in itertools.islice(runs, 3 * num - len(asked)):  # enough that no worker waits, few enough for the memory
                asked.append((run, workers.submit([(index, source[index]) for index in run], max_length=max_length)))
            if not asked:
                return
            run, answer = asked.popleft()
            while not answer.done():
                poll()
                wait([answer], timeout=0.1)
            made = answer.result()
            yield _block(source, run, task, tokenizer, max_length, poll) if made is None else Block.from_bytes(made)


def _block(source: Source, run: range, task: Featurizer, tokenizer: Tokenizer, max_length: int, poll: Callable[[], None]) -> Block:
    found: list[tuple[int, Features]] = []
    for index in run:
        if index % 100 == 0:
            poll()
        try:
            found += [(index, feature) for feature in task.features(source[index], tokenizer, max_length=max_length)]
        except UserError as error:
            raise UserError(f"{source.where(index)}: {error}") from None
    return block_of(found)


def _write(file: Path, blocks: Iterator[Block]) -> None:
    import pyarrow as pa

    digest = hashlib.sha256()
    columns: dict[str, tuple[str, list[int]]] = {}  # of all features so far: those of different tasks have different arrays
    item, previous = -1, (-1, -1)
    spool = Spool()
    batches: list[tuple[Any, int]] = []  # schema and bytes of each

    def flush(block: Block) -> None:
        nonlocal item, previous
        columns.update({name: column[:2] for name, column in block.columns.items() if name not in columns})
        items = item + np.cumsum(_starts_item(block, previous), dtype=np.int32)
        if len(block):
            item, previous = int(items[-1]), (int(block.numbers[0, -1]), int(block.numbers[1, -1]))
        batch = _record_batch(pa, block, items.astype(np.int32), columns, digest)
        data = batch.serialize()
        spool.write(data)
        batches.append((batch.schema, data.size))

    waiting, num = [joined([])], 0
    for block in blocks:
        waiting.append(block)
        num += len(block)
        while num >= CHUNK:
            whole = joined(waiting)
            flush(whole.part(0, CHUNK))
            waiting, num = [whole.part(CHUNK, num)], num - CHUNK
    if num or not batches:
        flush(joined(waiting))
    # The schema's metadata holds the fingerprint and comes first, so the file is written when all is known.
    schema: Any = None
    content, end = pa.py_buffer(spool.content()), 0
    with pa.OSFile(str(file), "wb") as sink, contextlib.ExitStack() as stack:
        for own_schema, size in batches:
            batch = _with_columns(pa, pa.ipc.read_record_batch(content.slice(end, size), own_schema), list(columns))
            if schema is None:
                schema = batch.schema.with_metadata({"flaxft": json.dumps({"fingerprint": digest.hexdigest(), "columns": columns})})
                writer = stack.enter_context(pa.ipc.new_file(sink, schema))
            writer.write_batch(batch)
            end += size


def _starts_item(block: Block, previous: tuple[int, int]) -> np.ndarray:
    """Bool (n,): features of one record and group are one item. `previous` are record and group of the feature before the first."""
    record, group = block.numbers[:2]
    before = np.concatenate([np.asarray(previous, np.int32)[:, None], block.numbers[:2, :-1]], axis=1)[:, : len(block)]
    same: np.ndarray = (group >= 0) & (record == before[0]) & (group == before[1])
    return ~same


def _record_batch(pa: Any, block: Block, items: np.ndarray, columns: Mapping[str, tuple[str, list[int]]], digest: Any) -> Any:
    record, group, length, num_cut = (np.ascontiguousarray(numbers) for numbers in block.numbers)
    fixed = {"record": record, "item": items, "group": group, "length": length}
    arrays = {name: pa.array(values) for name, values in fixed.items()}
    arrays["num_cut"] = pa.array(num_cut)
    for name, values in fixed.items():
        digest.update(name.encode() + values.tobytes())
    for name, kind in columns.items():
        column = block.column(name, *kind)
        arrays[name] = _binary(pa, column)
        if not name.startswith("host."):  # what the device sees; offsets and word ids follow from the source
            digest.update(name.encode() + column.values.tobytes() + (b"" if column.is_there.all() else column.is_there.tobytes()))
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _binary(pa: Any, column: Column) -> Any:
    """A large-binary array, null where there is no array."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(column.sizes, dtype=np.int64)])
    bits = None if column.is_there.all() else pa.py_buffer(np.packbits(column.is_there, bitorder="little"))
    buffers = [bits, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(column.values))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(column.sizes), buffers)


def _with_columns(pa: Any, batch: Any, names: Sequence[str]) -> Any:
    """With nulls for the columns that came up after the batch was made; in one order, that of the schema."""
    fixed = [name for name in batch.schema.names if name not in names]
    nulls = {name: pa.nulls(batch.num_rows, pa.large_binary()) for name in names if name not in batch.schema.names}
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
