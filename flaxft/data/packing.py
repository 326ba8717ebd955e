"""Which items, in which rows: the plan of a run. Lengths only, pure functions, no jax.

The rule of the data position (VERSION pins it): step s is epoch s // steps_per_epoch and slice s % steps_per_epoch of a keyed bijection on the items. No
step crosses an epoch; the last one of an epoch is short. Inside a step, features go first-fit-decreasing into rows of T tokens and S slots.

Of several parts (a mixture of tasks) each has its share of every step, and goes round in epochs of its own: see `items_of_step`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flaxft import files
from flaxft.errors import UserError

VERSION = 2
MULTIPLE = 16  # T is a multiple of it: whole vectors on CPU, whole tiles in bfloat16 on TPU
SIMULATED_STEPS = 2000  # the last shape holds each of so many steps; a run no longer than that is known exactly
TRIAL_STEPS = 512  # steps that the shapes are chosen by
CHUNK = 256  # steps that are looked at together
WINDOW_TOKENS = 1 << 15  # that evaluation packs together, or two batches
SHARE_UNIT = 1 << 20  # weights that are no whole numbers are rounded to this fraction of one
# Attention's time over its share of the products, as measured on CPU: batched products are slower, and softmax and dropout come on top. MiniLM's step takes
# 1.17 times as long for 6 rows of 128 as for 16 of 48 in float32, and 1.3 times as long a position in rows of 208 as in rows of 80 in bfloat16.
ATTENTION_FACTOR = 6.0
# A further shape has to save a run the work of so many tokens. Starting with one more takes MiniLM on two cores 0.7 s where the compile cache has it and 3 s
# where not, as in the first run with some data, in which steps compute 1,600 and 7,000 positions: this lies between the two.
WORTH = 4096.0
# The cipher of the bijection walks 16 bits until it meets a number below N, which takes 2 ms where N is 8 and 0.1 ms where N is 100. Plan and pipeline ask
# for the same ones: with fewer items than this they are remembered.
FEW = 500


class Shape(NamedTuple):
    """Of a batch."""

    num_rows: int  # R
    row_length: int  # T
    num_slots: int  # S


class Rows(NamedTuple):
    """One micro-batch: the features (their numbers) that stand in each row; the rows that are missing to the shape's R are empty."""

    features: list[list[int]]
    shape: Shape


class Part(NamedTuple):
    """A run of items that has a share of its own in every step. The parts of a plan follow one another in the table of items."""

    name: str
    num_items: int
    weight: int  # its share is weight / the sum of weights: whole numbers, so that quotas are exact and the same everywhere


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is decided once, by process 0, at the start of a run, and read from plan.json ever after."""

    shapes: tuple[Shape, ...]  # in the order in which a step tries them, the cheapest first; the last has room for every item
    batch_size: int  # items a step
    num_items: int  # N
    fingerprint: str  # of the items
    padding_fraction: float  # expected, over the simulated steps
    fits: bool  # every step of the run is known to fit the last shape
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
            version = content["version"]
            if version == VERSION:
                shapes, parts = tuple(Shape(*shape) for shape in content["shapes"]), tuple(Part(*part) for part in content["parts"])
                plan = cls(**(content | {"shapes": shapes, "parts": parts}))
                sizes = (plan.batch_size, plan.num_items, *(size for shape in shapes for size in shape))
                if not shapes or not all(type(size) is int and size > 0 for size in sizes):
                    raise ValueError(f"sizes {sizes}, expected whole numbers from 1")
                return plan
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{file}: damaged ({error}); start a new workdir, or restore the file") from None
        raise UserError(f"{file}: packing rule version {version}, this flaxft has {VERSION}; continue with the flaxft that began the run")


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
    # its key has 32 bits, and 40503 is odd: distinct epochs, distinct keys
    key = (seed * 2654435761 + epoch * 40503 + part * 2246822519 + 1) % 2**32
    return (_bijection_of_few if num_items < FEW else _bijection)(position, num_items, key)


def _bijection(position: int, num_items: int, key: int) -> int:
    from grain.experimental import index_shuffle

    return int(index_shuffle(position, max_index=num_items - 1, seed=key, rounds=4))  # a cipher, so no array of N is ever made


_bijection_of_few = functools.lru_cache(maxsize=10_000)(_bijection)


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


def pack(items: Sequence[Sequence[int]], lengths: np.ndarray, shape: Shape) -> list[list[list[int]]]:
    """Micro-batches of rows of feature numbers, by first-fit-decreasing.

    items: the features of each item (all of an item's features stay in one micro-batch); lengths: (num_features,) tokens of each feature; a micro-batch has
    at most the shape's rows. Order and result depend on the arguments alone.
    """
    return [batch.rows for batch in _fill(_longest_first(items, lengths), lengths, shape)]


def _fill(ordered: Sequence[Sequence[int]], lengths: np.ndarray, shape: Shape) -> list[_Open]:
    batches: list[_Open] = []
    for item in ordered:
        if not any(batch.place(item, lengths) for batch in batches):
            batches.append(_Open(shape))
            if not batches[-1].place(item, lengths):
                raise UserError(f"one item has {len(item)} features, which do not fit {shape.num_rows} rows of {shape.row_length} tokens; raise data.max_rows")
    return batches


def _longest_first(items: Sequence[Sequence[int]], lengths: np.ndarray) -> list[Sequence[int]]:
    return sorted(items, key=lambda item: (-max(int(lengths[feature]) for feature in item), item[0]))


class _Open:
    """A micro-batch that is being filled."""

    def __init__(self, shape: Shape):
        self.items: list[Sequence[int]] = []
        self._rows: list[list[int]] = [[] for _ in range(shape.num_rows)]
        self._room = np.full(shape.num_rows, shape.row_length)  # 0 in a row that has no slot left
        self._most_room = shape.row_length  # of any row: most items are asked of micro-batches that are full
        self._num_slots = shape.num_slots

    @property
    def rows(self) -> list[list[int]]:
        """Those that hold something."""
        return [row for row in self._rows if row]  # first-fit leaves none empty before one that is not

    def place(self, item: Sequence[int], lengths: np.ndarray) -> bool:
        """Puts all features of an item into the first rows that have room, or changes nothing."""
        if int(lengths[item[0]]) > self._most_room:
            return False
        before = self._room.copy() if len(item) > 1 else self._room
        placed: list[int] = []
        for feature in item:
            length = int(lengths[feature])
            row = int((self._room >= length).argmax())
            if self._room[row] < length:
                self._room = before
                for r in reversed(placed):
                    self._rows[r].pop()
                return False
            self._rows[row].append(feature)
            self._room[row] = self._room[row] - length if len(self._rows[row]) < self._num_slots else 0
            placed.append(row)
        self._most_room = int(self._room.max())
        self.items.append(item)
        return True


def rows_of_step(plan: Plan, lengths: np.ndarray, item_starts: np.ndarray, *, seed: int, step: int) -> list[Rows]:
    """The micro-batches of a step: one, of the first shape that all of it fits; or several of the last, where it fits none."""
    items = [range(item_starts[i], item_starts[i + 1]) for i in items_of_step(plan, seed=seed, step=step)]
    ordered, tokens = _longest_first(items, lengths), sum(int(lengths[feature]) for item in items for feature in item)
    for shape in plan.shapes[:-1]:
        batch = _Open(shape)
        if tokens <= shape.num_rows * shape.row_length and all(batch.place(item, lengths) for item in ordered):
            return [Rows(batch.rows, shape)]
    # micro-batches share one shape, so accumulation compiles once
    return [Rows(batch.rows, plan.shapes[-1]) for batch in _fill(ordered, lengths, plan.shapes[-1])]


def rows_once(lengths: np.ndarray, item_starts: np.ndarray, shape: Shape) -> Iterator[Rows]:
    """Every item exactly once, nearly in order: the items of a window are packed together, the last batch of it goes into the next one. For evaluation."""
    window = max(2 * shape.num_rows * shape.row_length, WINDOW_TOKENS)
    waiting: list[Sequence[int]] = []
    tokens = 0
    for i in range(len(item_starts) - 1):
        item = range(item_starts[i], item_starts[i + 1])
        waiting.append(item)
        tokens += sum(int(lengths[feature]) for feature in item)
        if tokens >= window:
            *full, last = _fill(_longest_first(waiting, lengths), lengths, shape)
            yield from (Rows(batch.rows, shape) for batch in full)
            waiting, tokens = last.items, sum(int(lengths[feature]) for item in last.items for feature in item)
    yield from (Rows(batch.rows, shape) for batch in _fill(_longest_first(waiting, lengths), lengths, shape))


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def position_cost(row_length: int, *, hidden_size: int) -> float:
    """Work of one position, in the work of its dense products: those are 1, and attention's share of all products is T / (6 D)."""
    return 1.0 + ATTENTION_FACTOR * row_length / (6.0 * hidden_size)


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
    num_shapes: int,
    num_slots: int | None = None,
    max_rows: int | None = None,
    accumulates: bool = True,
    parts: Sequence[Part] = (),
) -> Plan:
    """Chooses at most `num_shapes` shapes for the lengths; fewer where one more would save the run too little (`WORTH`).

    A step pays R T times `position_cost` of the cheapest shape that it fits. R counts as it is computed, up to a multiple of `num_devices`: empty rows that
    fill devices cost as much as full ones, which is what shrinks T on many devices. `num_slots=1` packs nothing. Without `accumulates` every step is one
    micro-batch: all of them are looked at, however many.
    Raises UserError where `max_rows` does not allow that.
    """
    longest = round_up(int(lengths.max()), MULTIPLE)
    known = min(num_steps, SIMULATED_STEPS) if accumulates else num_steps
    slots = num_slots or int(lengths.max()) * 4
    steps = []
    for step in range(max(1, known)):
        items = _draw(len(item_starts) - 1, batch_size, parts, seed=seed, step=step)
        ordered = _longest_first([range(item_starts[i], item_starts[i + 1]) for i in items], lengths)
        steps.append(lengths[[feature for item in ordered for feature in item]])
    spread = max(MULTIPLE, round_up(longest // 8, MULTIPLE))
    longer = range(longest, (longest if num_slots == 1 else max(2 * longest, 128)) + 1, spread)
    fills = {length: fill_rows(steps, row_length=length, num_slots=slots) for length in [*range(spread, longest, spread), *longer]}

    last_of: dict[int, int] = {}  # T -> rows that hold all of any step, or as many as there may be
    refused: UserError | None = None
    for length in longer:
        most = int(fills[length].rows.max())
        try:
            if max_rows is not None:
                _check_last(lengths, item_starts, Shape(max_rows, length, slots), most=most, accumulates=accumulates)
            last_of[length] = min(most, max_rows or most)
        except UserError as error:
            refused = error
    if refused and not last_of:
        raise refused
    rows = {length: fill.rows for length, fill in fills.items()}
    worth = WORTH * len(steps[:TRIAL_STEPS]) / max(1, num_steps)
    found = _choose(rows, last_of, num_shapes=num_shapes, worth=worth, max_rows=max_rows or TOO_LONG - 1, num_devices=num_devices, hidden_size=hidden_size)
    last_rows, last_length = found[-1]
    positions = -(-rows[last_length] // last_rows) * round_up(last_rows, num_devices) * last_length
    for num_rows, length in reversed(found[:-1]):
        positions = np.where(rows[length] <= num_rows, round_up(num_rows, num_devices) * length, positions)
    return Plan(
        shapes=tuple(Shape(num_rows, length, num_slots or fills[length].most_features) for num_rows, length in found),
        batch_size=batch_size,
        num_items=len(item_starts) - 1,
        fingerprint=fingerprint,
        padding_fraction=round(max(0.0, 1.0 - sum(int(step.sum()) for step in steps) / max(1, int(positions.sum()))), 4),
        fits=known == num_steps and int(rows[last_length].max()) <= last_rows,
        parts=tuple(parts),
    )


def _check_last(lengths: np.ndarray, item_starts: np.ndarray, shape: Shape, *, most: int, accumulates: bool) -> None:
    """Raises UserError now where an item would not fit a micro-batch of its own later, as all of an item's features stay in one, or a step must not be cut."""
    for i in np.flatnonzero(np.diff(item_starts) > shape.num_rows):  # one with fewer features than rows always fits
        pack([range(item_starts[i], item_starts[i + 1])], lengths, shape)
    if not accumulates and most > shape.num_rows:
        raise UserError(
            f"data.max_rows is {shape.num_rows}, but a step needs up to {most} rows, and this task's loss needs all examples of a step at once; "
            "raise data.max_rows, or lower data.batch_size"
        )


class Fill(NamedTuple):
    """What first-fit-decreasing makes of steps with rows of one length, as many as they need."""

    rows: np.ndarray  # (num_steps,) int64; TOO_LONG where a feature is longer than a row
    most_features: int  # in any row


TOO_LONG = np.iinfo(np.int64).max


def fill_rows(steps: Sequence[np.ndarray], *, row_length: int, num_slots: int) -> Fill:
    """What `pack` does, counted for many steps at once. steps: of each the lengths of its features, in the order in which they are placed."""
    counts, most = [], 1
    for start in range(0, len(steps), CHUNK):
        chunk = steps[start : start + CHUNK]
        padded = np.zeros((len(chunk), max(map(len, chunk))), np.int64)
        for number, step in enumerate(chunk):
            padded[number, : len(step)] = step
        too_long = padded.max(axis=1) > row_length
        padded[too_long] = 0
        room, features = np.full(padded.shape, row_length), np.zeros(padded.shape, np.int64)
        each, opened = np.arange(len(chunk)), 0
        for length in padded.T:
            seen = slice(0, opened + 1)  # one row more than are open always has room
            row = ((room[:, seen] >= length[:, None]) & (features[:, seen] < num_slots)).argmax(axis=1)
            room[each, row] -= length
            features[each, row] += length > 0
            opened = min(max(opened, int(row.max()) + 1), padded.shape[1] - 1)
        counts.append(np.where(too_long, TOO_LONG, (features > 0).sum(axis=1)))
        most = max(most, int(features.max()))
    return Fill(np.concatenate(counts), most)


def _choose(
    rows: Mapping[int, np.ndarray], last_of: Mapping[int, int], *, num_shapes: int, worth: float, max_rows: int, num_devices: int, hidden_size: int
) -> list[tuple[int, int]]:
    """(R, T) of each shape, the cheapest first and last the one for every step. Greedy; then each but the last is exchanged as long as that saves something.

    rows: T -> (num_known,) rows that each step needs; last_of: T -> R of the last shape, were its rows of T; worth: what a further shape has to save in the
    first TRIAL_STEPS of them.
    """

    def size(num_rows: int, row_length: int) -> int:
        return round_up(num_rows, num_devices) * row_length

    def cost(num_rows: int, row_length: int) -> float:
        return size(num_rows, row_length) * position_cost(row_length, hidden_size=hidden_size)

    trial = {length: needed[:TRIAL_STEPS] for length, needed in rows.items()}
    largest = {(length, cost(num_rows, length)): num_rows for length, num_rows in last_of.items()}  # of the row counts that cost the same the largest
    for length, needed in trial.items():
        for num_rows in np.unique(needed[needed <= max_rows]).tolist():
            largest[length, cost(num_rows, length)] = num_rows
    shapes = [(num_rows, length) for (length, _), num_rows in largest.items()]
    costs, sizes = np.asarray([cost(*shape) for shape in shapes]), np.asarray([size(*shape) for shape in shapes])
    fits = np.stack([trial[length] <= num_rows for num_rows, length in shapes])  # (num shapes, num steps)

    def beside(last: tuple[int, int]) -> tuple[float, list[tuple[int, int]]]:
        """Cost of all steps with this last shape and the best others, and the shapes."""
        # Memory is planned for the last shape: no other is larger.
        pays = np.where(fits & (costs <= cost(*last))[:, None] & (sizes <= size(*last))[:, None], costs[:, None], np.inf)
        alone = cost(*last) * -(-trial[last[1]] // last[0])
        chosen: list[int] = []

        def with_one_more(others: list[int]) -> tuple[float, int]:
            """The least cost of all steps with one more shape, and which."""
            sums = np.minimum(pays, np.minimum(alone, pays[others].min(axis=0, initial=np.inf))).sum(axis=1)
            return float(sums.min()), int(sums.argmin())

        total = float(alone.sum())
        while len(chosen) < num_shapes - 1:
            after, one = with_one_more(chosen)
            if total - after <= worth:
                break
            total, chosen = after, [*chosen, one]
        improved = True
        while improved:
            improved = False
            for place in range(len(chosen)):
                others = chosen[:place] + chosen[place + 1 :]
                after, one = with_one_more(others)
                if after < total:
                    total, chosen, improved = after, [*others, one], True
        return total, [shapes[i] for i in sorted(chosen, key=lambda i: (costs[i], i))] + [last]

    return min(beside((num_rows, length)) for length, num_rows in last_of.items())[1]
