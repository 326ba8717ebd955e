"""Which items, in which rows: the plan of a run. Lengths only, pure functions, no jax.

The rule of the data position (VERSION pins it): step s is epoch s // steps_per_epoch and slice s % steps_per_epoch of a keyed bijection on the items. No
step crosses an epoch; the last one of an epoch is short. Inside a step, features go first-fit-decreasing into rows of T tokens and S slots.

Of several parts (a mixture of tasks) each has its share of every step, and goes round in epochs of its own: see `items_of_step`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flaxft import files
from flaxft.errors import UserError

VERSION = 1
MULTIPLE = 16  # T is a multiple of it: whole vectors on CPU, whole tiles in bfloat16 on TPU
SIMULATED_STEPS = 2000  # the row counts are fitted on this many steps; a run no longer than that is known exactly
CANDIDATE_STEPS = 64  # steps that each candidate T is tried on
SHARE_UNIT = 1 << 20  # weights that are no whole numbers are rounded to this fraction of one
ATTENTION_FACTOR = 4.0  # attention's time over its share of the products, as measured on CPU (batched products are slower, softmax and dropout come on top)


class Rows(NamedTuple):
    """One micro-batch: the features (their numbers) that stand in each row, and how many rows there are with the empty ones."""

    features: list[list[int]]
    num_rows: int


class Part(NamedTuple):
    """A run of items that has a share of its own in every step. The parts of a plan follow one another in the table of items."""

    name: str
    num_items: int
    weight: int  # its share is weight / the sum of weights: whole numbers, so that quotas are exact and the same everywhere


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is decided once, by process 0, at the start of a run, and read from plan.json ever after."""

    row_length: int  # T
    num_slots: int  # S
    row_counts: tuple[int, ...]  # R, ascending
    batch_size: int  # items a step
    num_items: int  # N
    fingerprint: str  # of the items
    padding_fraction: float  # expected, over the simulated steps
    fits: bool  # every step of the run is known to fit the largest row count
    parts: tuple[Part, ...] = ()  # two or more, or none
    version: int = VERSION

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_items / self.batch_size)

    def save(self, file: Path) -> None:
        files.write_json(file, dataclasses.asdict(self))

    @classmethod
    def read(cls, file: Path) -> Plan:
        try:
            content = json.loads(file.read_text())
            parts = tuple(Part(*part) for part in content.get("parts", ()))
            plan = cls(**(content | {"row_counts": tuple(content["row_counts"]), "parts": parts}))
            sizes = (plan.row_length, plan.num_slots, plan.batch_size, plan.num_items, *plan.row_counts)
            if not plan.row_counts or not all(type(size) is int and size > 0 for size in sizes):
                raise ValueError(f"sizes {sizes}, expected whole numbers from 1")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{file}: damaged ({error}); start a new workdir, or restore the file") from None
        if plan.version != VERSION:
            raise UserError(f"{file}: packing rule version {plan.version}, this flaxft has {VERSION}; continue with the flaxft that began the run")
        return plan


def items_of_step(plan: Plan, *, seed: int, step: int) -> np.ndarray:
    """Item numbers of a step, int64 (batch_size,) or fewer at the end of an epoch; a pure function.

    Of several parts a step takes what `num_drawn` says, and is never short. The i-th item ever drawn of a part with N items is number i % N of the keyed
    bijection of its epoch i // N; where an epoch of it ends inside a step, the same item may be drawn twice.
    """
    return _draw(plan.num_items, plan.batch_size, plan.parts, seed=seed, step=step)


def num_drawn(parts: Sequence[Part], num_examples: int) -> list[int]:
    """How many of the first `num_examples` examples of a run are of each part.

    Each part takes its share, rounded down, of what those before it have left, and the last one takes the rest. So the numbers never fall as examples are
    added, whatever the weights: a part with less than one example a step has its turn every few steps. Each is within `len(parts)` of its exact share.
    """
    left, weights = num_examples, sum(part.weight for part in parts)
    numbers: list[int] = []
    for part in parts:
        numbers.append(left * part.weight // weights)
        left, weights = left - numbers[-1], weights - part.weight
    return numbers


def _draw(num_items: int, batch_size: int, parts: Sequence[Part], *, seed: int, step: int) -> np.ndarray:
    if not parts:
        epoch, part_of_epoch = divmod(step, math.ceil(num_items / batch_size))
        positions = range(part_of_epoch * batch_size, min((part_of_epoch + 1) * batch_size, num_items))
        return np.asarray([_shuffled(position, num_items, seed=seed, epoch=epoch) for position in positions], np.int64)
    found: list[int] = []
    first = 0
    before, after = num_drawn(parts, step * batch_size), num_drawn(parts, (step + 1) * batch_size)
    for number, part in enumerate(parts):
        for drawn in range(before[number], after[number]):
            epoch, position = divmod(drawn, part.num_items)
            found.append(first + _shuffled(position, part.num_items, seed=seed, epoch=epoch, part=number))
        first += part.num_items
    return np.asarray(found, np.int64)


def _shuffled(position: int, num_items: int, *, seed: int, epoch: int, part: int = 0) -> int:
    from grain.experimental import index_shuffle

    # index_shuffle is a keyed bijection (a cipher), so no array of N is ever made; its key has 32 bits, and 40503 is odd: distinct epochs, distinct keys
    key = (seed * 2654435761 + epoch * 40503 + part * 2246822519 + 1) % 2**32
    return int(index_shuffle(position, max_index=num_items - 1, seed=key, rounds=4))


def make_parts(num_items: Mapping[str, int], *, weights: Mapping[str, float], temperature: float) -> tuple[Part, ...]:
    """The parts of a plan, none where there is but one.

    weights: as given for each; empty for num_items ** (1 / temperature), as T5 mixes its tasks (Raffel et al. 2020, arXiv 1910.10683, section 3.5.2).
    """
    if len(num_items) < 2:
        return ()
    empty = [name for name, number in num_items.items() if not number]
    if empty:
        raise UserError(f"{empty[0]} has no examples to train on; give it some, or leave it out")
    if weights:
        exact = [Fraction(repr(weights[name])) for name in num_items]  # as they are written: 0.1 is a tenth
    elif temperature == 1.0:
        exact = [Fraction(number) for number in num_items.values()]
    else:
        exact = [Fraction(round(SHARE_UNIT * number ** (1.0 / temperature))) for number in num_items.values()]
    whole = math.lcm(*(one.denominator for one in exact))
    return tuple(Part(name, number, int(one * whole)) for (name, number), one in zip(num_items.items(), exact, strict=True))


def pack(items: Sequence[Sequence[int]], lengths: np.ndarray, *, row_length: int, num_slots: int, max_rows: int) -> list[list[list[int]]]:
    """Micro-batches of rows of feature numbers, by first-fit-decreasing.

    items: the features of each item (all of an item's features stay in one micro-batch); lengths: (num_features,) tokens of each feature; a micro-batch has
    at most `max_rows` rows. Order and result depend on the arguments alone.
    """
    batches: list[_Open] = []
    for item in sorted(items, key=lambda item: (-max(int(lengths[feature]) for feature in item), item[0])):
        if not any(batch.place(item, lengths) for batch in batches):
            batches.append(_Open(row_length, num_slots, max_rows))
            placed = batches[-1].place(item, lengths)
            if not placed:
                raise UserError(f"one item has {len(item)} features, which do not fit {max_rows} rows of {row_length} tokens; raise data.max_rows")
    return [batch.rows for batch in batches]


class _Open:
    """A micro-batch that is being filled."""

    def __init__(self, row_length: int, num_slots: int, max_rows: int):
        self.rows: list[list[int]] = []
        self._room: list[int] = []
        self._row_length, self._num_slots, self._max_rows = row_length, num_slots, max_rows

    def place(self, item: Sequence[int], lengths: np.ndarray) -> bool:
        """Puts all features of an item into the first rows that have room, or changes nothing."""
        before = [len(row) for row in self.rows], list(self._room)
        for feature in item:
            length = int(lengths[feature])
            row = next((r for r, room in enumerate(self._room) if room >= length and len(self.rows[r]) < self._num_slots), None)
            if row is None:
                if len(self.rows) == self._max_rows:
                    self.rows = [self.rows[r][:n] for r, n in enumerate(before[0])]
                    self._room = before[1]
                    return False
                row = len(self.rows)
                self.rows.append([])
                self._room.append(self._row_length)
            self.rows[row].append(feature)
            self._room[row] -= length
        return True


def rows_of_step(plan: Plan, lengths: np.ndarray, item_starts: np.ndarray, *, seed: int, step: int) -> list[Rows]:
    """The micro-batches of a step; more than one only where the step needs more rows than the largest row count."""
    items = [range(item_starts[i], item_starts[i + 1]) for i in items_of_step(plan, seed=seed, step=step)]
    packed = pack(items, lengths, row_length=plan.row_length, num_slots=plan.num_slots, max_rows=plan.row_counts[-1])
    if len(packed) > 1:  # micro-batches share one shape, so accumulation compiles once
        return [Rows(rows, plan.row_counts[-1]) for rows in packed]
    return [Rows(packed[0], next(count for count in plan.row_counts if count >= len(packed[0])))]


def rows_in_order(lengths: np.ndarray, item_starts: np.ndarray, *, row_length: int, num_slots: int, num_rows: int) -> Iterator[Rows]:
    """Every item exactly once, in order: a batch takes items as long as first-fit finds them room. For evaluation and prediction."""
    batch = _Open(row_length, num_slots, num_rows)
    for i in range(len(item_starts) - 1):
        item = range(item_starts[i], item_starts[i + 1])
        if not batch.place(item, lengths):
            yield Rows(batch.rows, num_rows)
            batch = _Open(row_length, num_slots, num_rows)
            placed = batch.place(item, lengths)
            assert placed, (len(item), num_rows)  # `eval_shape` has a row for each feature of the largest item
    if batch.rows:
        yield Rows(batch.rows, num_rows)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def make_plan(
    lengths: np.ndarray,
    item_starts: np.ndarray,
    *,
    fingerprint: str,
    batch_size: int,
    num_steps: int,
    seed: int,
    num_devices: int,
    hidden_size: int,
    num_row_counts: int,
    num_slots: int | None = None,
    max_rows: int | None = None,
    accumulates: bool = True,
    parts: Sequence[Part] = (),
) -> Plan:
    """Chooses T, S and the row counts from the lengths.

    The cost of a step is R T (1 + a T): dense work per token, and attention's, whose share of the products is T / (6 D). Each candidate T is tried on the
    first steps; empty rows that only fill `num_devices` cost as much as full ones, which is what shrinks T on many devices. `num_slots=1` packs nothing.
    Without `accumulates` every step is one micro-batch: all of them are looked at, however many. Raises UserError where `max_rows` does not allow that.
    """
    num_items = len(item_starts) - 1
    longest = int(lengths.max())
    known = min(num_steps, SIMULATED_STEPS) if accumulates else num_steps
    slots = num_slots or longest * 4

    def features_of(step: int) -> list[range]:
        return [range(item_starts[i], item_starts[i + 1]) for i in _draw(num_items, batch_size, parts, seed=seed, step=step)]

    steps = [features_of(step) for step in range(max(1, known))]

    def needs(row_length: int, step: int) -> list[list[int]]:
        (rows,) = pack(steps[step], lengths, row_length=row_length, num_slots=slots, max_rows=1 << 30)
        return rows

    def cost(row_length: int, num_rows: float) -> float:
        return num_rows * row_length * (1.0 + ATTENTION_FACTOR * row_length / (6.0 * hidden_size))

    low = round_up(longest, MULTIPLE)
    candidates = [low] if num_slots == 1 else range(low, max(2 * low, 128) + 1, max(MULTIPLE, round_up(low // 4, MULTIPLE)))
    trial = range(min(len(steps), CANDIDATE_STEPS))
    row_length = min(candidates, key=lambda t: cost(t, sum(round_up(len(needs(t, step)), num_devices) for step in trial)))

    if max_rows is not None:
        _check_items_fit(lengths, item_starts, row_length=row_length, num_slots=slots, max_rows=max_rows)
    rows = [needs(row_length, step) for step in range(len(steps))]
    needed = np.asarray([len(r) for r in rows])
    if not accumulates and max_rows is not None and needed.max() > max_rows:
        raise UserError(
            f"data.max_rows is {max_rows}, but a step needs up to {int(needed.max())} rows, and this task's loss needs all examples of a step at once; "
            "raise data.max_rows, or lower data.batch_size"
        )
    largest = int(needed.max()) if max_rows is None else min(int(needed.max()), max_rows)
    counts = fit_row_counts(np.minimum(needed, largest), num_row_counts)
    used = sum(int(counts[np.searchsorted(counts, n)]) if n <= largest else round_up(n, largest) for n in needed.tolist()) * row_length
    tokens = sum(int(lengths[feature.start : feature.stop].sum()) for features in steps for feature in features)
    return Plan(
        row_length=row_length,
        num_slots=num_slots or max(len(row) for r in rows for row in r),
        row_counts=tuple(int(c) for c in counts),
        batch_size=batch_size,
        num_items=num_items,
        fingerprint=fingerprint,
        padding_fraction=round(max(0.0, 1.0 - tokens / max(1, used)), 4),
        fits=known == num_steps and int(needed.max()) <= largest,
        parts=tuple(parts),
    )


def _check_items_fit(lengths: np.ndarray, item_starts: np.ndarray, *, row_length: int, num_slots: int, max_rows: int) -> None:
    """Raises UserError now where an item would not fit a micro-batch of its own later: all of an item's features stay in one."""
    for i in np.flatnonzero(np.diff(item_starts) > max_rows):  # one with fewer features than rows always fits
        pack([range(item_starts[i], item_starts[i + 1])], lengths, row_length=row_length, num_slots=num_slots, max_rows=max_rows)


def fit_row_counts(needed: np.ndarray, num_counts: int) -> np.ndarray:
    """At most `num_counts` row counts, the largest that of the neediest step, with the least sum of rows over all steps; exact, by dynamic programming.

    needed: (num_steps,) rows that each step needs.
    """
    values, times = np.unique(needed, return_counts=True)
    n = len(values)
    total = np.r_[0, np.cumsum(times)]
    # best[k][j]: least cost of the steps that need values[:j], with k counts, the largest of them values[j - 1]
    best = np.full((num_counts + 1, n + 1), np.inf)
    choice = np.zeros((num_counts + 1, n + 1), int)
    best[:, 0] = 0.0
    for k in range(1, num_counts + 1):
        for j in range(1, n + 1):
            costs = best[k - 1, :j] + values[j - 1] * (total[j] - total[:j])
            choice[k, j] = int(costs.argmin())
            best[k, j] = costs[choice[k, j]]
    counts = []
    j, k = n, num_counts
    while j > 0:
        counts.append(values[j - 1])
        j, k = choice[k, j], k - 1
    return np.asarray(counts[::-1])
