"""The table of items on disk, and the batches that are made of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.data import items as items_module
from flaxft.data.base import Features, Field
from flaxft.data.items import Items, build_items, default_cache, num_seen_records
from flaxft.data.packing import Plan, Shape, make_parts, rows_of_step
from flaxft.data.pipeline import Pipeline, empty_batch
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import DiskError, UserError
from flaxft.tasks.token_classification import TokenClassification
from tests import tiny


class Numbers:
    """A source whose records are lists of features."""

    name = "numbers"

    def __init__(self, records, fingerprint="f"):
        self.records, self.fingerprint = records, fingerprint

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]

    def __iter__(self):
        return iter(self.records)

    def where(self, index):
        return f"numbers.txt:{index + 1}"


class Fake:
    """A featurizer that gives a record back as it is, and counts."""

    def __init__(self, *, fails_at=None, error=None):
        self.calls, self.fails_at, self.error = [], fails_at, error

    def features(self, record, tokenizer, *, max_length):
        if len(self.calls) == self.fails_at:
            raise self.error
        self.calls.append(max_length)
        return record


def feature(length, *, first=0, group=-1, example=None, host=None, **tokens):
    return Features({"input_ids": np.arange(first, first + length, dtype=np.int32), **tokens}, example or {}, group, host or {})


def build(records, cache, **changes):
    settings = dict(max_length=16, key="k", cache=cache)
    task = changes.pop("task", None) or Fake()
    source = Numbers(records, changes.pop("fingerprint", "f"))
    return build_items(source, task, None, **(settings | changes))


def assert_same(found, wanted):
    assert found.group == wanted.group
    for part in ("tokens", "example", "host"):
        arrays, expected = getattr(found, part), getattr(wanted, part)
        assert list(arrays) == list(expected)
        for name in expected:
            assert arrays[name].dtype == np.asarray(expected[name]).dtype, name
            assert arrays[name].shape == np.asarray(expected[name]).shape, name
            assert arrays[name].tobytes() == np.ascontiguousarray(expected[name]).tobytes(), name


# ---- the table ----


def test_found_again(tmp_path):
    task = Fake()
    records = [[feature(3)], [feature(5)]]
    first = build(records, tmp_path, task=task)
    second = build(records, tmp_path, task=task)
    assert task.calls == [16, 16]
    assert (second.fingerprint, len(second), second.num_tokens) == (first.fingerprint, 2, 8)
    assert_same(second.feature(1), records[1][0])
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", [{"key": "other"}, {"max_length": 17}, {"fingerprint": "g"}, {"use_cache": False}], ids=str)
def test_made_anew(tmp_path, change):
    task = Fake()
    build([[feature(3)]], tmp_path, task=task)
    build([[feature(3)]], tmp_path, task=task, **change)
    assert task.calls == [16, change.get("max_length", 16)]
    build([[feature(3)]], tmp_path, task=task)  # and the first is still there
    assert len(task.calls) == 2


def test_the_default_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAXFT_CACHE", str(tmp_path / "named"))
    task = Fake()
    build([[feature(3)]], None, task=task)
    assert [file.suffix for file in (tmp_path / "named/items").iterdir()] == [".arrow"]
    monkeypatch.delenv("FLAXFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg/flaxft"
    build([[feature(3)]], None, task=task)
    assert len(task.calls) == 2


def test_groups_and_windows(tmp_path):
    """Features of one record that share a group are one item; all others, windows above all, are items of their own."""
    groups = [[-1, -1, -1], [0, 0, 0], [0, 0, 1, 1], [0], [-1], [5, -1, 5]]
    items = build([[feature(2 + i, group=group) for i, group in enumerate(record)] for record in groups], tmp_path)
    assert items.item_starts.tolist() == [0, 1, 2, 3, 6, 8, 10, 11, 12, 13, 14, 15]
    assert len(items) == 11
    assert items.records.tolist() == [number for number, record in enumerate(groups) for _ in record]
    assert items.groups.tolist() == [group for record in groups for group in record]
    assert items.lengths.tolist() == [2 + i for record in groups for i in range(len(record))]
    assert items.lengths.dtype == items.records.dtype == items.groups.dtype == np.int32


DTYPES = ["int32", "int64", "int8", "uint8", "uint16", "bool", "float32", "float16", "float64", ">i4", "complex64"]


def random_array(rng, shape, dtype):
    """Any bits at all, NaN payloads included; bools are 0 or 1."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), chunk=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_round_trip(tmp_path_factory, data, chunk, seed):
    rng = np.random.default_rng(seed)
    kinds = {
        part: {
            f"{part}{i}": (data.draw(st.sampled_from(DTYPES)), tuple(data.draw(st.lists(st.integers(1, 3), max_size=2))))
            for i in range(data.draw(st.integers(0, 2)))
        }
        for part in ("tokens", "example", "host")
    }
    example_lengths = {name: data.draw(st.sampled_from([None, 0, 2])) for name in kinds["example"]}

    def make():
        n = int(rng.integers(1, 6))
        tokens = {name: random_array(rng, (n,), dtype) for name, (dtype, _) in kinds["tokens"].items()}
        example = {name: random_array(rng, (*(() if example_lengths[name] is None else (example_lengths[name],)), *shape), dtype)
                   for name, (dtype, shape) in kinds["example"].items()}  # fmt: skip
        host = {name: random_array(rng, (int(rng.integers(0, 4)), *shape), dtype) for name, (dtype, shape) in kinds["host"].items()}
        return feature(n, first=int(rng.integers(-9, 9)), group=int(rng.integers(-1, 2)), example=example, host=host, **tokens)

    records = [[make() for _ in range(rng.integers(0, 4))] for _ in range(rng.integers(1, 8))]
    flat = [(i, one) for i, record in enumerate(records) for one in record]
    if not flat:
        records, flat = [*records, [make()]], []
        flat = [(len(records) - 1, records[-1][0])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items_module, "CHUNK", chunk)
        items = build(records, tmp_path_factory.mktemp("items"))
    assert items.records.tolist() == [i for i, _ in flat]
    assert items.num_tokens == sum(len(one.tokens["input_ids"]) for _, one in flat)
    for number in rng.permutation(len(flat)):
        assert_same(items.feature(int(number)), flat[number][1])


def test_more_than_a_chunk(tmp_path, monkeypatch):
    """A group that stands across the border of two chunks is one item all the same."""
    records = [[feature(1 + i % 3, first=i, group=i % 2 - 1, host={"spans": np.full((i % 3, 2), i)}) for _ in range(2)] for i in range(9)]
    whole = build(records, tmp_path / "whole")
    for chunk in (1, 3, 18):
        monkeypatch.setattr(items_module, "CHUNK", chunk)
        parts = build(records, tmp_path / str(chunk))
        assert parts.item_starts.tolist() == whole.item_starts.tolist()
        assert parts.records.tolist() == whole.records.tolist()
        for number in range(18):
            assert_same(parts.feature(number), records[number // 2][number % 2])


def test_not_contiguous_arrays(tmp_path):
    grid = np.arange(24, dtype=np.int32).reshape(4, 6)
    one = feature(3, labels=grid[0, ::2], example={"span": grid[:2, ::3], "scalar": np.int32(7)}, host={"t": grid.T[::2]})
    assert_same(build([[one]], tmp_path).feature(0), one)


def test_fingerprint(tmp_path):
    """Of what the model sees: equal content, equal fingerprint, whatever the key; any change shows. What stays on the host does not count."""
    base = [[feature(3, labels=np.array([1, 2, 3])), feature(2, labels=np.array([4, 5]))]]
    prints = {"base": build(base, tmp_path, key="0").fingerprint}
    assert build(base, tmp_path, key="1").fingerprint == prints["base"]
    assert build(base, tmp_path / "elsewhere", key="0").fingerprint == prints["base"]
    first, second = base[0]
    assert build([[first._replace(host={}), second]], tmp_path, key="2").fingerprint == prints["base"]
    changes = {
        "ids": [[feature(3, first=1, labels=first.tokens["labels"]), second]],
        "labels": [[feature(3, labels=np.array([1, 2, 4])), second]],
        "order": [[second, first]],
        "records": [[first], [second]],
        "group": [[first._replace(group=0), second._replace(group=0)]],
        "fewer": [[first]],
        "cut elsewhere": [[feature(2, labels=np.array([1, 2])), feature(3, first=0, labels=np.array([3, 4, 5]))]],
        "example": [[first._replace(example={"x": np.int32(1)}), second._replace(example={"x": np.int32(1)})]],
    }
    for i, (name, records) in enumerate(changes.items()):
        prints[name] = build(records, tmp_path, key=f"changed {i}").fingerprint
    assert len(set(prints.values())) == len(prints), prints


KINDS = ("labels", "vector", "span", "spans")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(kinds=st.lists(st.sets(st.sampled_from(KINDS)), min_size=1, max_size=12), chunk=st.integers(1, 5))
def test_features_of_different_tasks_have_different_arrays(tmp_path_factory, kinds, chunk):
    """Each comes back with its own and no other, also an empty one, and whichever came first."""

    def make(number, names):
        one = feature(1 + number % 3, first=number)
        tokens = {name: np.full((1 + number % 3, *shape), number, np.int32) for name, shape in (("labels", ()), ("vector", (2,))) if name in names}
        example = {"span": np.array([number, 7], np.int64)} if "span" in names else {}
        return one._replace(tokens=one.tokens | tokens, example=example, host={"spans": np.full((number % 2, 2), number)} if "spans" in names else {})

    records = [[make(number, names)] for number, names in enumerate(kinds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items_module, "CHUNK", chunk)
        cache = tmp_path_factory.mktemp("items")
        build(records, cache)
        items = build(records, cache, task=Fake(fails_at=0, error=AssertionError("the table is there")))
    for number, (wanted,) in enumerate(records):
        found = items.feature(number)
        for part in ("tokens", "example", "host"):
            arrays, expected = getattr(found, part), getattr(wanted, part)
            assert arrays.keys() == expected.keys()
            for name, array in expected.items():
                assert (arrays[name].dtype, arrays[name].tolist()) == (array.dtype, array.tolist())


def test_fingerprint_of_different_arrays(tmp_path):
    """Where an array is missing counts, even where it would be empty."""
    plain, full = feature(2), feature(2, example={"x": np.zeros(0, np.int32)})
    orders = ([plain, full], [full, plain], [full, full], [plain, plain])
    assert len({build([list(order)], tmp_path, key=str(i)).fingerprint for i, order in enumerate(orders)}) == 4


def test_the_fingerprint_of_one_kind_of_features_is_pinned(tmp_path):
    """A run that resumes after an upgrade must find its data unchanged. If this fails, raise items.VERSION."""
    first = feature(3, labels=np.array([1, 2, 3], np.int32), example={"span": np.array([0, 2], np.int32)})
    records = [[first], [feature(1, labels=np.zeros(1, np.int32), example={"span": np.zeros(2, np.int32)})]]
    assert build(records, tmp_path).fingerprint == PINNED


PINNED = "8f7a691dc41ea9d9d04a119281936f6dd5f4c7ae0a9ffdeb49a523739e5fead7"


def test_host_arrays_do_not_change_the_fingerprint(tmp_path):
    one, other = feature(3, host={"spans": np.zeros((3, 2))}), feature(3, host={"spans": np.ones((3, 2))})
    assert build([[one]], tmp_path, key="0").fingerprint == build([[other]], tmp_path, key="1").fingerprint


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    task = Fake()
    for _ in range(2):
        items = build([[feature(3)]], tmp_path / "file/cache", task=task)
        assert_same(items.feature(0), feature(3))
    assert len(task.calls) == 2  # nothing is kept
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("error", [UserError("bad tag"), RuntimeError("out of memory"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, error):
    monkeypatch.setattr(items_module, "CHUNK", 1)
    records = [[feature(3)], [feature(4)], [feature(5)]]
    with pytest.raises(type(error)) as caught:
        build(records, tmp_path, task=Fake(fails_at=2, error=error))
    if isinstance(error, UserError):
        assert str(caught.value) == "numbers.txt:3: bad tag"
    assert list(tmp_path.iterdir()) == []
    assert len(build(records, tmp_path)) == 3


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(source, destination):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(items_module.os, "replace", full)
        with pytest.raises(DiskError, match=r"tokenised data cannot be written .*No space.*FLAXFT_CACHE"):
            build([[feature(3)]], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 1, 50, -1])
def test_a_damaged_file_is_made_anew(tmp_path, keep):
    task = Fake()
    build([[feature(3)]], tmp_path, task=task)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:keep])
    assert_same(build([[feature(3)]], tmp_path, task=task).feature(0), feature(3))
    assert len(task.calls) == 2
    assert len(Items(file)) == 1


# ---- batches ----

FIELDS = {"labels": Field("T", (), "int32", -100), "vector": Field("T", (2,), "float32", 0.5), "span": Field("S", (2,), "int64", -1)}


def example(length, *, first, group=-1):
    """A feature with every kind of array; token types are 1."""
    return feature(
        length,
        first=first,
        group=group,
        example={"span": np.array([first, length])},
        token_type_ids=np.ones(length, np.int32),
        labels=np.arange(length, dtype=np.int32) * 10,
        vector=np.full((length, 2), first, np.float32),
    )


@pytest.fixture
def table(tmp_path):
    return build([[example(4, first=100), example(3, first=200)], [example(2, first=300, group=7)], [example(5, first=400)]], tmp_path)


@pytest.mark.parametrize("num_devices", [1, 2, 3])
def test_layout(table, num_devices):
    """Two rows, the longest first, and an empty third one, then more empty ones up to a multiple of the devices."""
    (batch,) = Pipeline(table, FIELDS, seed=0, num_devices=num_devices).once(Shape(row_length=10, num_slots=4, num_rows=3))
    rows = {1: 3, 2: 4, 3: 3}[num_devices]
    i = -100
    wanted = {
        "input_ids": [[400, 401, 402, 403, 404, 100, 101, 102, 103, 0], [200, 201, 202, 300, 301, 0, 0, 0, 0, 0]],
        "token_type_ids": [[1] * 9 + [0], [1] * 5 + [0] * 5],
        "position_ids": [[0, 1, 2, 3, 4, 0, 1, 2, 3, 0], [0, 1, 2, 0, 1, 0, 0, 0, 0, 0]],
        "segment_ids": [[1, 1, 1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 2, 2, 0, 0, 0, 0, 0]],
        "example_start": [[0, 5, 0, 0], [0, 3, 0, 0]],
        "example_weight": [[1, 1, 0, 0], [1, 1, 0, 0]],
        "example_id": [[3, 0, -1, -1], [1, 2, -1, -1]],
        "example_group": [[-1, -1, -1, -1], [-1, 5, -1, -1]],
        "labels": [[0, 10, 20, 30, 40, 0, 10, 20, 30, i], [0, 10, 20, 0, 10, i, i, i, i, i]],
        "vector": [[[400] * 2] * 5 + [[100] * 2] * 4 + [[0.5] * 2], [[200] * 2] * 3 + [[300] * 2] * 2 + [[0.5] * 2] * 5],
        "span": [[[400, 5], [100, 4], [-1, -1], [-1, -1]], [[200, 3], [300, 2], [-1, -1], [-1, -1]]],
    }
    assert set(batch) == set(wanted)
    empty = empty_batch(FIELDS, Shape(num_rows=rows, row_length=10, num_slots=4))
    for name, array in batch.items():
        assert array[:2].tolist() == wanted[name], name
        assert array.shape == empty[name].shape, name
        assert array.shape[:2] == (rows, 4 if name.startswith(("example", "span")) else 10)
        assert array[2:].tolist() == empty[name][2:].tolist(), name
        assert array.dtype == empty[name].dtype, name
    assert {str(batch[name].dtype) for name in ("example_weight", "vector")} == {"float32"}
    assert batch["span"].dtype == np.int64
    assert {str(array.dtype) for name, array in batch.items() if name not in ("example_weight", "vector", "span")} == {"int32"}


@pytest.mark.parametrize("num_devices", [1, 4])
def test_an_empty_batch(table, num_devices):
    batch = Pipeline(table, FIELDS, seed=0, num_devices=num_devices).empty(Shape(num_rows=2, row_length=10, num_slots=3))
    assert batch["input_ids"].shape == ({1: 2, 4: 4}[num_devices], 10)
    pads = {"example_id": -1, "example_group": -1, "labels": -100, "vector": 0.5, "span": -1}
    for name, array in batch.items():
        assert (array == pads.get(name, 0)).all(), name


def make_pipeline(tmp_path, **changes):
    rng = np.random.default_rng(0)
    records = [[example(int(rng.integers(2, 9)), first=10 * i)] for i in range(23)]
    items = build(records, tmp_path)
    shapes = (Shape(2, 16, 3), Shape(3, 16, 3))
    plan = Plan(shapes=shapes, batch_size=6, num_items=23, fingerprint=items.fingerprint, padding_fraction=0, fits=False)
    return Pipeline(items, FIELDS, seed=1, **changes), plan


def assert_equal_steps(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_grain_gives_the_same_batches(tmp_path, threads):
    pipeline, plan = make_pipeline(tmp_path)
    for start, stop in ((0, 9), (5, 9), (8, 9)):
        steps = list(pipeline.batches(plan, start, stop, threads=threads))
        assert len(steps) == stop - start
        for step, batches in enumerate(steps, start):
            assert_equal_steps(batches, pipeline.batch(plan, step))


def test_no_steps_left(tmp_path):
    """A run that resumes at its end."""
    pipeline, plan = make_pipeline(tmp_path)
    assert list(pipeline.batches(plan, 4, 4, threads=1)) == []


def test_steps_of_an_epoch(tmp_path):
    """Each item once an epoch; a step that needs more than the last shape becomes micro-batches; more devices only add empty rows."""
    pipeline, plan = make_pipeline(tmp_path)
    wide, _ = make_pipeline(tmp_path, num_devices=4)
    for epoch in range(2):
        ids = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            batches = pipeline.batch(plan, step)
            rows = rows_of_step(plan, pipeline.items.lengths, pipeline.items.item_starts, seed=1, step=step)
            assert [len(batch["input_ids"]) for batch in batches] == [part.shape.num_rows for part in rows]
            ids += [number for batch in batches for number in batch["example_id"].ravel().tolist() if number >= 0]
            for batch, more in zip(batches, wide.batch(plan, step), strict=True):
                num = len(batch["input_ids"])
                assert len(more["input_ids"]) == 4
                assert_equal_steps([{name: array[:num] for name, array in more.items()}], [batch])
                assert (more["segment_ids"][num:] == 0).all()
            assert sorted(pipeline.record_ids(plan, step)) == sorted(ids[-sum(int(batch["example_weight"].sum()) for batch in batches) :])
        assert sorted(ids) == list(range(23))


def test_an_item_twice_in_a_step_is_two_groups(tmp_path):
    """A small part of a mixture comes round inside of one step; the choices of a question are those of one copy."""
    items = build([[example(3, first=10, group=0), example(4, first=20, group=0)], [example(2, first=30)], [example(2, first=40)]], tmp_path)
    parts = make_parts({"questions": 1, "texts": 2}, weights={"questions": 3, "texts": 1}, temperature=1.0)
    plan = Plan(shapes=(Shape(4, 16, 4),), batch_size=4, num_items=3, fingerprint="", padding_fraction=0, fits=True, parts=parts)
    (batch,) = Pipeline(items, FIELDS, seed=1).batch(plan, 0)
    groups, ids = batch["example_group"].ravel(), batch["example_id"].ravel()
    assert sorted(ids[ids >= 0].tolist())[:6] == [0, 0, 0, 1, 1, 1]
    members = {group: sorted(ids[groups == group].tolist()) for group in set(groups[groups >= 0].tolist())}
    assert list(members.values()) == [[0, 1]] * 3
    assert all(0 <= group < groups.size for group in members)


def test_randomness_of_parts_is_drawn_anew_each_step(tmp_path):
    """A part may come round more than once in what is an epoch of them all."""
    seen = {}

    def augment(one, rng):
        seen.setdefault(int(one.tokens["input_ids"][0]), []).append(int(rng.integers(1 << 60)))
        return one

    items = build([[example(2, first=i)] for i in range(20)], tmp_path)
    parts = make_parts({"a": 2, "b": 18}, weights={"a": 1, "b": 1}, temperature=1.0)
    plan = Plan(shapes=(Shape(2, 16, 4),), batch_size=4, num_items=20, fingerprint="", padding_fraction=0, fits=True, parts=parts)
    pipeline = Pipeline(items, FIELDS, seed=1, augment=augment)
    for step in range(5):
        pipeline.batch(plan, step)
    assert [len(seen[i]) for i in range(2)] == [5, 5]
    assert all(len(set(drawn)) == len(drawn) for drawn in seen.values())
    before = {number: list(drawn) for number, drawn in seen.items()}
    seen.clear()
    for step in range(5):
        pipeline.batch(plan, step)
    assert seen == before


def test_augment_depends_on_seed_epoch_and_item(tmp_path):
    """Not on the step, the row or the thread; and evaluation is left alone."""

    def augment(one, rng):
        return one._replace(tokens=one.tokens | {"labels": rng.integers(0, 1 << 30, len(one.tokens["labels"]), np.int32)})

    def labels(pipeline, plan, epoch):
        found = {}
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            for batch in pipeline.batch(plan, step):
                for r, s in zip(*np.nonzero(batch["example_weight"]), strict=True):
                    found[int(batch["example_id"][r, s])] = batch["labels"][r][batch["segment_ids"][r] == s + 1].tolist()
        return found

    pipeline, plan = make_pipeline(tmp_path, augment=augment)
    other_plan = Plan(**(vars(plan) | {"batch_size": 4, "shapes": (Shape(3, 32, 3),)}))
    assert labels(pipeline, plan, 0) == labels(pipeline, other_plan, 0)
    assert labels(pipeline, plan, 0) != labels(pipeline, plan, 1)
    plain, _ = make_pipeline(tmp_path)
    shape = Shape(row_length=16, num_slots=3, num_rows=2)
    for one, other in zip(pipeline.once(shape), plain.once(shape), strict=True):
        assert_equal_steps([one], [other])


def test_records_that_another_split_has_too(tmp_path):
    """A record counts when each of its windows stands in the other split; what comes twice in its own split counts twice."""
    folder = tiny.encoder(tmp_path / "encoder")
    tokenizer = load_tokenizer(folder, vocab_size=128, max_length=64)

    def made(name, *sentences):
        file = tmp_path / f"{name}.conll"
        file.write_text("\n\n".join("\n".join(f"{word} O" for word in sentence.split()) for sentence in sentences) + "\n")
        task = TokenClassification(train=str(file), labels=("O",), scheme="plain")
        return build_items(task.records("train"), task, tokenizer, max_length=8, key=name, cache=tmp_path)

    long = "anna works in paris and bob works in rome and carl works in oslo"
    train = made("train", "anna works in paris", long, "bob works")
    seen = train.input_hashes()
    assert num_seen_records(train, seen) == 3
    assert num_seen_records(made("other", "anna works", "in paris"), seen) == 0
    assert num_seen_records(made("some", "bob works", "bob works", "anna works in rome"), seen) == 2
    assert num_seen_records(made("windows", long, f"{long} and paris"), seen) == 1


def test_which_features_have_values(tmp_path, monkeypatch):
    monkeypatch.setattr(items_module, "CHUNK", 2)  # several record batches
    labels = [[-100, -100], [-100, 1], [0], [-100], [-100, -100, 2]]
    numbers = [np.asarray(number, np.int32) for number in (-100, -99, 0, 1, 0)]
    records = [
        [feature(len(one), example={"label": number}, labels=np.asarray(one, np.int32))] for one, number in zip(labels, numbers, strict=True)
    ]
    items = build([*records, [feature(3)]], tmp_path)
    assert items.has_values(["labels"], none=-100).tolist() == [False, True, True, False, True, False]
    assert items.has_values(["label"], none=-100).tolist() == [False, True, True, True, True, False]
    assert items.has_values(["labels", "label"], none=-100).tolist() == [False, True, True, True, True, False]
    assert not items.has_values(["others"], none=-100).any()
