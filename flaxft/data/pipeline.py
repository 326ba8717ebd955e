"""Batches: rows of features become arrays. `batch(step)` is a pure function; Grain's threads run ahead of the step that asks."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from flaxft.data.base import Batch, Features, Field
from flaxft.data.items import Items
from flaxft.data.packing import Plan, Rows, Shape, items_of_step, round_up, rows_of_step, rows_once
from flaxft.errors import UserError

Augment = Callable[[Features, np.random.Generator], Features]


@dataclasses.dataclass
class Data:
    """How examples become batches."""

    batch_size: int = 32
    """Examples per optimizer step over all devices, as every published recipe means it."""
    max_length: int = 128
    """Tokens of one example with its special tokens. A longer text is cut, or becomes overlapping windows where the task has them (tags, answers)."""
    max_examples: int | None = None
    """Only the first so many records of every split are read, for a quick look; none reads all."""
    max_rows: int | None = None
    """The most rows in memory at once; a step that needs more accumulates gradients, exactly. None takes a step as one."""
    num_shapes: int = 5
    """The most shapes of train batches that are compiled; more waste less on padding and take longer to start."""
    num_slots: int | None = None
    """The most examples that share a row; none packs as many as fit, 1 is one example a row, no packing."""
    eval_tokens: int | None = None
    """About so many tokens are in one evaluation batch, per device; none takes 2048 on a CPU and 4096 elsewhere."""
    threads: int = 2
    """Number of threads that make batches ahead of the step."""
    cache: bool = True
    """Whether tokenised data is kept in the user's cache folder, so that the next start is faster."""

    def check(self) -> None:
        for name in ("batch_size", "num_shapes", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} is {getattr(self, name)}, expected at least 1")
        for name in ("max_examples", "max_rows", "num_slots", "eval_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"data.{name} is {getattr(self, name)}, expected at least 1, or none")
        if self.max_length < 3:
            raise UserError(f"data.max_length is {self.max_length}, expected at least 3: two special tokens and one of text")


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Batches of one source. `num_devices` is the size of the mesh axes that rows are split over: empty rows fill up to a multiple of it."""

    items: Items
    fields: Mapping[str, Field]
    seed: int
    num_devices: int = 1
    augment: Augment | None = None

    def batch(self, plan: Plan, step: int) -> list[Batch]:
        """The micro-batches of a training step, numpy arrays with the keys of `flaxft.data.base.Batch`."""
        epoch = step if plan.parts else step // plan.steps_per_epoch  # a part comes round at its own pace: what is random is drawn anew each time
        rows = rows_of_step(plan, self.items.lengths, self.items.item_starts, seed=self.seed, step=step)
        return [self._arrays(part, epoch=epoch) for part in rows]

    def batches(self, plan: Plan, start: int, stop: int, *, threads: int) -> Iterator[list[Batch]]:
        """Steps start .. stop - 1, made ahead by `threads` threads."""
        import grain

        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        steps = grain.MapDataset.range(start, stop).map(lambda step: self.batch(plan, int(step)))
        return iter(steps.to_iter_dataset(options))

    def once(self, shape: Shape) -> Iterator[Batch]:
        """Every item exactly once, nearly in order, all batches of one shape."""
        return (self._arrays(part, epoch=None) for part in rows_once(self.items.lengths, self.items.item_starts, shape))

    def record_ids(self, plan: Plan, step: int) -> list[int]:
        """The records that a step trains on, for messages."""
        starts = self.items.item_starts[items_of_step(plan, seed=self.seed, step=step)]
        return [int(record) for record in self.items.records[starts]]

    def empty(self, shape: Shape) -> Batch:
        """A batch of nothing but padding, for compiling its shape."""
        return self._arrays(Rows([], shape), epoch=None)

    def _arrays(self, rows: Rows, *, epoch: int | None) -> Batch:
        batch = empty_batch(self.fields, rows.shape._replace(num_rows=round_up(rows.shape.num_rows, self.num_devices)))
        first_slot: dict[tuple[int, int], int] = {}  # item -> where its first feature lies: a number for the group that is below R * S
        times: Counter[int] = Counter()  # a small part of a mixture may give the same item twice: two groups
        for r, features in enumerate(rows.features):
            start = 0
            for s, number in enumerate(features):
                feature = self.items.feature(number)
                if epoch is not None and self.augment is not None:
                    feature = self.augment(feature, _generator(self.seed, epoch, number))
                start = _lay(batch, feature, number, self.fields, r=r, s=s, start=start)
                times[number] += 1
                if feature.group >= 0:
                    batch["example_group"][r, s] = first_slot.setdefault((int(self.items.item_of[number]), times[number]), r * rows.shape.num_slots + s)
        return batch


def empty_batch(fields: Mapping[str, Field], shape: Shape) -> Batch:
    """All keys with their padding values."""
    num_rows, row_length, num_slots = shape
    names = ("input_ids", "token_type_ids", "position_ids", "segment_ids")
    batch: Batch = {name: np.zeros((num_rows, row_length), np.int32) for name in names}
    batch["example_start"] = np.zeros((num_rows, num_slots), np.int32)
    batch["example_weight"] = np.zeros((num_rows, num_slots), np.float32)
    batch["example_id"] = np.full((num_rows, num_slots), -1, np.int32)
    batch["example_group"] = np.full((num_rows, num_slots), -1, np.int32)
    for name, field in fields.items():
        length = row_length if field.axis == "T" else num_slots
        batch[name] = np.full((num_rows, length, *field.shape), field.pad, field.dtype)
    return batch


def _lay(batch: Batch, feature: Features, number: int, fields: Mapping[str, Field], *, r: int, s: int, start: int) -> int:
    """Writes one feature into slot s of row r from token `start` on; returns where the next one starts."""
    end = start + len(feature.tokens["input_ids"])
    for name, array in feature.tokens.items():
        batch[name][r, start:end] = array
    batch["position_ids"][r, start:end] = np.arange(end - start)
    batch["segment_ids"][r, start:end] = s + 1
    batch["example_start"][r, s] = start
    batch["example_weight"][r, s] = 1.0
    batch["example_id"][r, s] = number
    for name, array in feature.example.items():
        batch[name][r, s] = array
    return end


def _generator(seed: int, epoch: int, number: int) -> np.random.Generator:
    """Host randomness is a function of (seed, epoch, item) and nothing else."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{number}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


class Workload(NamedTuple):
    """What a step computes on."""

    examples: int  # slots that are not empty
    tokens: int  # with segment_id > 0
    positions: int  # of all rows, padding and all


def workload(batches: list[Batch]) -> Workload:
    """Of the micro-batches of a step."""
    examples = sum(int((batch["example_weight"] > 0).sum()) for batch in batches)
    tokens = sum(int((batch["segment_ids"] > 0).sum()) for batch in batches)
    return Workload(examples, tokens, sum(int(np.asarray(batch["segment_ids"]).size) for batch in batches))
