"""The rule of the data position: golden values, and properties that hold for any lengths."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.data import packing
from flaxft.data.packing import Part, Plan, Shape, fill_rows, items_of_step, make_parts, make_plan, num_drawn, pack, rows_of_step, rows_once
from flaxft.errors import UserError


def plan(**changes):
    base = dict(shapes=(Shape(2, 32, 4), Shape(4, 32, 4)), batch_size=4, num_items=10, fingerprint="x", padding_fraction=0.1, fits=True)
    return Plan(**(base | changes))


def test_golden_order():
    """Pinned: a run that resumes after an upgrade must see the very same batches. If this fails, raise packing.VERSION."""
    assert [items_of_step(plan(), seed=0, step=step).tolist() for step in range(6)] == GOLDEN
    assert pack([[i] for i in range(6)], np.array([10, 20, 12, 30, 5, 7]), Shape(num_rows=9, row_length=32, num_slots=4)) == [[[3], [1, 2], [0, 5, 4]]]


GOLDEN = [[5, 7, 6, 0], [4, 8, 9, 2], [1, 3], [6, 3, 1, 4], [7, 2, 5, 9], [0, 8]]


@given(num_items=st.integers(1, 200), batch_size=st.integers(1, 50), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 5))
def test_each_epoch_is_a_permutation(num_items, batch_size, seed, epoch):
    one = plan(num_items=num_items, batch_size=batch_size)
    steps = range(epoch * one.steps_per_epoch, (epoch + 1) * one.steps_per_epoch)
    parts = [items_of_step(one, seed=seed, step=step) for step in steps]
    assert sorted(np.concatenate(parts).tolist()) == list(range(num_items))
    assert all(len(part) == batch_size for part in parts[:-1])


def test_epochs_and_seeds_differ():
    one = plan(num_items=1000, batch_size=1000)
    orders = {tuple(items_of_step(one, seed=seed, step=step)) for seed in range(5) for step in range(5)}
    assert len(orders) == 25


@st.composite
def tables(draw):
    """(lengths, item_starts) of items with one to three features."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=40))
    lengths = draw(st.lists(st.integers(1, 32), min_size=sum(sizes), max_size=sum(sizes)))
    return np.array(lengths), np.cumsum([0, *sizes])


def check_rows(batches, lengths, items, *, row_length, num_slots, max_rows):
    placed = sorted(feature for rows in batches for row in rows for feature in row)
    assert placed == sorted(feature for item in items for feature in item)  # each exactly once
    for rows in batches:
        assert len(rows) <= max_rows
        assert all(sum(lengths[feature] for feature in row) <= row_length and 0 < len(row) <= num_slots for row in rows)
    of_feature = {feature: number for number, rows in enumerate(batches) for row in rows for feature in row}
    assert all(len({of_feature[feature] for feature in item}) == 1 for item in items)  # an item stays in one micro-batch


@given(table=tables(), num_slots=st.integers(1, 6), max_rows=st.integers(3, 10))
def test_pack_places_every_feature_once(table, num_slots, max_rows):
    lengths, starts = table
    items = [range(starts[i], starts[i + 1]) for i in range(len(starts) - 1)]
    batches = pack(items, lengths, Shape(num_rows=max_rows, row_length=32, num_slots=num_slots))
    check_rows(batches, lengths, items, row_length=32, num_slots=num_slots, max_rows=max_rows)


@given(table=tables(), num_slots=st.integers(1, 6), window=st.sampled_from([1, 300, 10**6]))
def test_rows_once_visit_every_item_once(table, num_slots, window):
    lengths, starts = table
    items = [range(starts[i], starts[i + 1]) for i in range(len(starts) - 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "WINDOW_TOKENS", window)
        found = list(rows_once(lengths, starts, Shape(num_rows=3, row_length=32, num_slots=num_slots)))
    check_rows([batch.features for batch in found], lengths, items, row_length=32, num_slots=num_slots, max_rows=3)
    assert all(batch.features for batch in found)


def test_rows_once_need_few_batches_and_hold_few_items():
    lengths = np.random.default_rng(0).integers(4, 60, 5000)
    lengths[17] = 64
    shape = Shape(num_rows=8, row_length=64, num_slots=16)
    found = list(rows_once(lengths, np.arange(5001), shape))
    assert lengths.sum() / (len(found) * shape.num_rows * shape.row_length) > 0.96
    numbers = [[feature for row in batch.features for feature in row] for batch in found]
    width = 2 * packing.WINDOW_TOKENS / lengths.mean()  # of a window, with what was left of the one before
    assert all(max(batch) - min(batch) < width for batch in numbers)
    assert list(rows_once(lengths[:0], np.zeros(1, int), shape)) == []


def plan_for_any_gain(*args, **settings):
    """A further shape is worth any gain, as in a long run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "WORTH", 0.0)
        return make_plan(*args, **settings)


@settings(deadline=None, max_examples=12, derandomize=True)  # a bijection on few items takes milliseconds each
@given(table=tables(), batch_size=st.integers(1, 16), devices=st.sampled_from([1, 2, 8]), num_shapes=st.integers(1, 4), seed=st.integers(0, 99))
def test_plan_serves_every_step_of_the_run(table, batch_size, devices, num_shapes, seed):
    lengths, starts = table
    made = plan_for_any_gain(
        lengths, starts, fingerprint="x", batch_size=batch_size, num_steps=12, seed=seed, num_devices=devices, hidden_size=64, num_shapes=num_shapes
    )
    assert made.fits
    assert len(made.shapes) <= num_shapes
    assert made.shapes[-1].row_length >= lengths.max()
    used, positions = 0, 0
    for step in range(12):
        (rows,) = rows_of_step(made, lengths, starts, seed=seed, step=step)
        assert rows.shape in made.shapes
        items = [range(starts[i], starts[i + 1]) for i in items_of_step(made, seed=seed, step=step)]
        check_rows([rows.features], lengths, items, row_length=rows.shape.row_length, num_slots=rows.shape.num_slots, max_rows=rows.shape.num_rows)
        used += sum(int(lengths[feature]) for row in rows.features for feature in row)
        positions += -(-rows.shape.num_rows // devices) * devices * rows.shape.row_length
    assert made.padding_fraction == pytest.approx(1 - used / positions, abs=1e-4)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(tables=st.lists(tables(), min_size=1, max_size=5), row_length=st.integers(1, 40), num_slots=st.integers(1, 6))
def test_rows_are_counted_as_they_are_packed(tables, row_length, num_slots):
    """Many steps at once, as one by one."""
    steps, wanted, most = [], [], 1
    for lengths, starts in tables:
        items = [range(starts[i], starts[i + 1]) for i in range(len(starts) - 1)]
        ordered = sorted(items, key=lambda item: (-max(lengths[item]), item[0]))
        steps.append(lengths[[feature for item in ordered for feature in item]])
        if lengths.max() > row_length:
            wanted.append(packing.TOO_LONG)
            continue
        (rows,) = pack(items, lengths, Shape(num_rows=1000, row_length=row_length, num_slots=num_slots))
        wanted.append(len(rows))
        most = max(most, *map(len, rows))
    found = fill_rows(steps, row_length=row_length, num_slots=num_slots)
    assert found.rows.tolist() == wanted
    assert found.most_features == most


def test_more_shapes_waste_less():
    """Lengths of a skewed kind: few long, many short. Shapes come cheapest first, and none is larger than the last, for which memory is planned."""
    lengths = np.minimum(np.random.default_rng(0).geometric(0.07, 2000) + 2, 96)
    same = dict(fingerprint="x", batch_size=16, num_steps=300, seed=0, hidden_size=64)
    for devices in (1, 8):
        plans = [plan_for_any_gain(lengths, np.arange(2001), num_devices=devices, num_shapes=number, **same) for number in (1, 2, 3, 5)]
        padding = [one.padding_fraction for one in plans]
        assert padding == sorted(padding, reverse=True)
        assert padding[-1] < (0.6 if devices == 1 else 0.7) * padding[0]
        for one in plans:
            sizes = [-(-shape.num_rows // devices) * shape.row_length for shape in one.shapes]
            assert sizes[-1] == max(sizes)
            assert len(set(one.shapes)) == len(one.shapes)
        assert len(plans[-1].shapes) == 5


def test_a_short_run_compiles_few_shapes():
    lengths = np.minimum(np.random.default_rng(0).geometric(0.07, 2000) + 2, 96)
    same = dict(fingerprint="x", batch_size=16, seed=0, num_devices=1, hidden_size=64, num_shapes=5)
    numbers = [len(make_plan(lengths, np.arange(2001), num_steps=num_steps, **same).shapes) for num_steps in (0, 3, 30, 300, 3000)]
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (1, 5)


def test_the_cheapest_shape_that_fits_is_taken():
    lengths, starts = np.array([30, 10, 8, 8, 6]), np.arange(6)
    one = plan(shapes=(Shape(1, 32, 8), Shape(2, 32, 2), Shape(2, 32, 8)), num_items=5, batch_size=5)
    (rows,) = rows_of_step(one, lengths, starts, seed=0, step=0)  # 62 tokens, five examples: neither one row nor two of two slots hold them
    assert rows.shape == one.shapes[-1]
    (rows,) = rows_of_step(dataclasses.replace(one, batch_size=1, num_items=1), lengths[1:], starts[:-1], seed=0, step=0)
    assert rows.shape == one.shapes[0]


def test_a_limit_on_rows_gives_micro_batches():
    lengths, starts = np.full(40, 30), np.arange(41)
    made = make_plan(lengths, starts, fingerprint="x", batch_size=10, num_steps=8, seed=0, num_devices=1, hidden_size=64, num_shapes=2, max_rows=4)
    assert made.shapes[-1].num_rows <= 4
    assert not made.fits
    parts = rows_of_step(made, lengths, starts, seed=0, step=0)
    assert len(parts) > 1
    assert sorted(f for part in parts for row in part.features for f in row) == sorted(items_of_step(made, seed=0, step=0))
    assert {part.shape for part in parts} == {made.shapes[-1]}  # one shape serves all micro-batches


def test_a_limit_that_no_step_keeps():
    lengths, starts = np.full(40, 30), np.arange(41)
    made = plan_for_any_gain(
        lengths, starts, fingerprint="x", batch_size=10, num_steps=8, seed=0, num_devices=1, hidden_size=64, num_shapes=3, num_slots=1, max_rows=3
    )
    assert made.shapes == (Shape(3, 32, 1),)
    assert [len(part.features) for part in rows_of_step(made, lengths, starts, seed=0, step=0)] == [3, 3, 3, 1]


def test_one_slot_packs_nothing():
    lengths, starts = np.array([3, 9, 5, 7]), np.arange(5)
    made = make_plan(lengths, starts, fingerprint="x", batch_size=4, num_steps=2, seed=0, num_devices=1, hidden_size=64, num_shapes=1, num_slots=1)
    assert made.shapes == (Shape(num_rows=4, row_length=16, num_slots=1),)


# ---- parts ----


@st.composite
def mixtures(draw, fewest=1):
    """Parts with any weights: given, or by their numbers and a temperature."""
    names = [f"part {i}" for i in range(draw(st.integers(2, 6)))]
    num_items = {name: draw(st.integers(fewest, 60)) for name in names}
    weights = {name: draw(st.floats(1e-3, 1e3)) for name in names} if draw(st.booleans()) else {}
    return make_parts(num_items, weights=weights, temperature=draw(st.sampled_from([1.0, 1.5, 4.0, 1e9])))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(parts=mixtures(), num=st.integers(0, 3000))
def test_quotas(parts, num):
    """They add up, never fall, and stay close to each part's exact share, however rare it is."""
    found, more = num_drawn(parts, num), num_drawn(parts, num + 1)
    assert sum(found) == num
    assert sum(more) == num + 1
    assert all(one <= other for one, other in zip(found, more, strict=True))
    total = sum(part.weight for part in parts)
    assert all(-1 < number - Fraction(num * part.weight, total) < len(parts) for number, part in zip(found, parts, strict=True))


@settings(max_examples=40, deadline=None, derandomize=True)  # a bijection on few items takes milliseconds each
@given(parts=mixtures(fewest=20), batch_size=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_each_part_goes_round_in_permutations(parts, batch_size, seed):
    one = plan(num_items=sum(part.num_items for part in parts), batch_size=batch_size, parts=parts)
    steps = [items_of_step(one, seed=seed, step=step) for step in range(12)]
    assert all(len(items) == batch_size for items in steps)
    assert items_of_step(one, seed=seed, step=7).tolist() == steps[7].tolist()  # of the step alone
    drawn, first = np.concatenate(steps), 0
    for part in parts:
        mine = drawn[(drawn >= first) & (drawn < first + part.num_items)] - first
        for start in range(0, len(mine) - part.num_items + 1, part.num_items):
            assert sorted(mine[start : start + part.num_items].tolist()) == list(range(part.num_items))
        first += part.num_items


def test_golden_order_of_parts():
    """Pinned, as above."""
    parts = make_parts({"a": 6, "b": 3, "c": 1}, weights={}, temperature=2.0)
    assert parts == (Part("a", 6, 2568476), Part("b", 3, 1816187), Part("c", 1, 1048576))
    one = plan(parts=parts)
    assert [items_of_step(one, seed=0, step=step).tolist() for step in range(5)] == GOLDEN_PARTS


GOLDEN_PARTS = [[5, 7, 9, 9], [2, 3, 8, 6], [0, 4, 7, 9], [1, 5, 6, 9], [3, 1, 8, 9]]


def test_one_epoch_in_proportion_sees_every_item_once():
    parts = make_parts({"a": 6, "b": 3, "c": 1}, weights={}, temperature=1.0)
    one = plan(parts=parts, batch_size=5)
    assert sorted(np.concatenate([items_of_step(one, seed=3, step=step) for step in range(2)]).tolist()) == list(range(10))


def test_weights_are_exact():
    """As they are written, so that they are the same on every machine."""
    assert make_parts({"a": 5, "b": 7}, weights={"a": 0.1, "b": 0.2}, temperature=1.0) == (Part("a", 5, 1), Part("b", 7, 2))
    assert make_parts({"a": 5, "b": 7}, weights={"a": 1, "b": 1e-3}, temperature=1.0) == (Part("a", 5, 1000), Part("b", 7, 1))
    assert make_parts({"a": 5, "b": 7}, weights={}, temperature=1.0) == (Part("a", 5, 5), Part("b", 7, 7))
    assert make_parts({"a": 5}, weights={}, temperature=1.0) == ()
    even = make_parts({"a": 5, "b": 5000}, weights={}, temperature=1e9)
    assert even[0].weight == even[1].weight
    with pytest.raises(UserError, match="b has no examples"):
        make_parts({"a": 5, "b": 0}, weights={}, temperature=1.0)


@settings(deadline=None, max_examples=10, derandomize=True)
@given(table=tables(), batch_size=st.integers(1, 16), seed=st.integers(0, 99))
def test_a_plan_of_parts_serves_every_step(table, batch_size, seed):
    lengths, starts = table
    num = len(starts) - 1
    parts = make_parts({"a": (num + 1) // 2, "b": num // 2}, weights={"a": 1, "b": 3}, temperature=1.0) if num > 1 else ()
    made = make_plan(
        lengths, starts, fingerprint="x", batch_size=batch_size, num_steps=4, seed=seed, num_devices=1, hidden_size=64, num_shapes=2, parts=parts
    )
    assert made.fits
    assert made.parts == parts
    for step in range(4):
        (rows,) = rows_of_step(made, lengths, starts, seed=seed, step=step)
        assert rows.shape in made.shapes
        drawn = [feature for item in items_of_step(made, seed=seed, step=step) for feature in range(starts[item], starts[item + 1])]
        assert sorted(feature for row in rows.features for feature in row) == sorted(drawn)


def test_plan_round_trip_and_damage(tmp_path):
    one = plan()
    one.save(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == one
    mixed = plan(parts=make_parts({"a": 7, "b": 3}, weights={}, temperature=2.0))
    mixed.save(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == mixed
    content = json.loads((tmp_path / "plan.json").read_text())
    for parts in ([["a", 7]], [1], 1, [["a", 1, 2, 3]]):
        (tmp_path / "plan.json").write_text(json.dumps(content | {"parts": parts}))
        with pytest.raises(UserError, match="damaged"):
            Plan.read(tmp_path / "plan.json")
    damaged = [("shapes", shapes) for shapes in ([["2", 16, 4]], [[2, 16, 0]], [], [[2, 16]], 7)] + [("batch_size", 1.5), ("num_items", True)]
    for size, value in damaged:
        (tmp_path / "plan.json").write_text(json.dumps(content | {size: value}))
        with pytest.raises(UserError, match="damaged"):
            Plan.read(tmp_path / "plan.json")
    for missing in ("parts", "version"):
        (tmp_path / "plan.json").write_text(json.dumps({name: value for name, value in content.items() if name != missing}))
        with pytest.raises(UserError, match="damaged"):
            Plan.read(tmp_path / "plan.json")
    before = {"row_length": 16, "num_slots": 2, "row_counts": [1, 2], "batch_size": 2, "num_items": 3, "fingerprint": "x", "fits": True}
    for content in (before | {"version": 1}, dataclasses.asdict(one) | {"version": 99}):  # whatever it holds
        (tmp_path / "plan.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"version {content['version']}, this flaxft has 2; continue with the flaxft that began the run"):
            Plan.read(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Plan.read(tmp_path / "plan.json")
