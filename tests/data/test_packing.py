"""The rule of the data position: golden values, and properties that hold for any lengths."""

from __future__ import annotations

import dataclasses
import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.data.packing import Part, Plan, fit_row_counts, items_of_step, make_parts, make_plan, num_drawn, pack, rows_in_order, rows_of_step
from flaxft.errors import UserError


def plan(**changes):
    base = dict(row_length=32, num_slots=4, row_counts=(2, 4), batch_size=4, num_items=10, fingerprint="x", padding_fraction=0.1, fits=True)
    return Plan(**(base | changes))


def test_golden_order():
    """Pinned: a run that resumes after an upgrade must see the very same batches. If this fails, raise packing.VERSION."""
    assert [items_of_step(plan(), seed=0, step=step).tolist() for step in range(6)] == GOLDEN
    assert pack([[i] for i in range(6)], np.array([10, 20, 12, 30, 5, 7]), row_length=32, num_slots=4, max_rows=9) == [[[3], [1, 2], [0, 5, 4]]]


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
    batches = pack(items, lengths, row_length=32, num_slots=num_slots, max_rows=max_rows)
    check_rows(batches, lengths, items, row_length=32, num_slots=num_slots, max_rows=max_rows)


@given(table=tables(), num_slots=st.integers(1, 6))
def test_rows_in_order_visit_every_item_once_and_in_order(table, num_slots):
    lengths, starts = table
    items = [range(starts[i], starts[i + 1]) for i in range(len(starts) - 1)]
    batches = [batch.features for batch in rows_in_order(lengths, starts, row_length=32, num_slots=num_slots, num_rows=3)]
    check_rows(batches, lengths, items, row_length=32, num_slots=num_slots, max_rows=3)
    bounds = [(min(f for row in rows for f in row), max(f for row in rows for f in row)) for rows in batches]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(bounds))


@settings(deadline=None, max_examples=30)
@given(table=tables(), batch_size=st.integers(1, 16), devices=st.sampled_from([1, 2, 8]), counts=st.integers(1, 3), seed=st.integers(0, 99))
def test_plan_serves_every_step_of_the_run(table, batch_size, devices, counts, seed):
    lengths, starts = table
    made = make_plan(
        lengths, starts, fingerprint="x", batch_size=batch_size, num_steps=12, seed=seed, num_devices=devices, hidden_size=64, num_row_counts=counts
    )
    assert made.fits
    assert len(made.row_counts) <= counts
    assert made.row_length >= lengths.max()
    for step in range(12):
        parts = rows_of_step(made, lengths, starts, seed=seed, step=step)
        assert len(parts) == 1
        assert parts[0].num_rows in made.row_counts


def test_a_limit_on_rows_gives_micro_batches():
    lengths, starts = np.full(40, 30), np.arange(41)
    made = make_plan(lengths, starts, fingerprint="x", batch_size=10, num_steps=8, seed=0, num_devices=1, hidden_size=64, num_row_counts=2, max_rows=4)
    assert made.row_counts[-1] <= 4
    assert not made.fits
    parts = rows_of_step(made, lengths, starts, seed=0, step=0)
    assert len(parts) > 1
    assert sorted(f for part in parts for row in part.features for f in row) == sorted(items_of_step(made, seed=0, step=0))
    assert {part.num_rows for part in parts} == {made.row_counts[-1]}  # one shape serves all micro-batches


def test_one_slot_packs_nothing():
    lengths, starts = np.array([3, 9, 5, 7]), np.arange(5)
    made = make_plan(lengths, starts, fingerprint="x", batch_size=4, num_steps=2, seed=0, num_devices=1, hidden_size=64, num_row_counts=1, num_slots=1)
    assert (made.row_length, made.num_slots, made.row_counts) == (16, 1, (4,))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 4))
def test_row_counts_are_optimal(needed, num_counts):
    needed = np.array(needed)
    counts = fit_row_counts(needed, num_counts)

    def cost(chosen):
        return sum(min(c for c in chosen if c >= n) for n in needed)

    values = sorted(set(needed.tolist()))
    others = [c for k in range(1, num_counts + 1) for c in itertools.combinations(values, k) if c[-1] == values[-1]]
    assert cost(counts.tolist()) == min(map(cost, others))
    assert len(counts) <= num_counts


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
        lengths, starts, fingerprint="x", batch_size=batch_size, num_steps=4, seed=seed, num_devices=1, hidden_size=64, num_row_counts=2, parts=parts
    )
    assert made.fits
    assert made.parts == parts
    for step in range(4):
        (rows,) = rows_of_step(made, lengths, starts, seed=seed, step=step)
        assert rows.num_rows in made.row_counts
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
    for size, value in (("row_length", "16"), ("num_slots", 0), ("batch_size", 1.5), ("num_items", True), ("row_counts", []), ("row_counts", [2, -1])):
        (tmp_path / "plan.json").write_text(json.dumps(content | {size: value}))
        with pytest.raises(UserError, match="damaged"):
            Plan.read(tmp_path / "plan.json")
    del content["parts"]  # as a run began before there were any
    (tmp_path / "plan.json").write_text(json.dumps(content))
    assert Plan.read(tmp_path / "plan.json") == plan()
    dataclasses.replace(one, version=99).save(tmp_path / "plan.json")
    with pytest.raises(UserError, match="version 99"):
        Plan.read(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Plan.read(tmp_path / "plan.json")
