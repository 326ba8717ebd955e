"""What every task must do, found by itself: its loss falls on 8 records learnt by heart, packing changes nothing, parameters move."""

from __future__ import annotations

import functools
import json

import jax
import numpy as np
import pytest

import flaxft
from flaxft import config as configs
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.models.base import flatten
from flaxft.sharding import make_mesh
from flaxft.tasks.base import Shows
from flaxft.train.evaluate import Evaluator, eval_shape
from flaxft.train.loop import run
from tests import tiny
from tests.tasks.contract import BOUND, FAMILIES, compute, prepare, program


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Of a family: the folder of a run of 60 steps on its 8 records, and the parameters that it began with."""

    @functools.cache
    def of(family):
        folder = tmp_path_factory.mktemp(family)
        cfg, _, _, loaded = prepare(folder, family)
        cfg.num_epochs, cfg.optim.learning_rate, cfg.seed = 60, 3e-3, 0
        cfg.evals, cfg.checkpoint.every = {}, 1000  # they take most of the time, and are tested elsewhere
        run(cfg, folder / "run")
        return folder / "run", loaded.params

    return of


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls_on_eight_records(learnt, family):
    losses = list(tiny.losses(learnt(family)[0]).values())
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_moves(learnt, family):
    """An in-place update of NNX under plain jax.jit is lost without a word; this would see it."""
    folder, before = learnt(family)
    after = flatten(flaxft.load(str(folder)).params)
    still = [path for path, leaf in flatten(before).items() if np.array_equal(np.asarray(leaf), np.asarray(after[path]))]
    assert not still


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_unpacked(tmp_path, family):
    """Predictions, loss and gradients, at most 1e-5 x max(1, largest magnitude); packed and unpacked differ in rows, padding and batches.

    And the losses' weights depend on the batch alone, not on the parameters.
    """
    _, task, items, loaded = prepare(tmp_path, family)
    num_features = len(items.lengths)
    num_rows = 3 if task.decomposes else num_features  # otherwise the loss is of one batch
    num_rows = max(num_rows, int(np.diff(items.item_starts).max()))
    of_batch = program(task, loaded)
    total, weights, gradients, found = compute(task, items, loaded, row_length=32, num_slots=1, num_rows=num_features, of_batch=of_batch)
    assert set(found) == set(range(num_features))
    for row_length in (32, 64):
        packed = compute(task, items, loaded, row_length=row_length, num_slots=8, num_rows=num_rows, of_batch=of_batch)
        packed_total, packed_weights, packed_gradients, packed_found = packed
        assert packed_weights == weights > 0
        assert abs(packed_total - total) <= BOUND * max(1.0, abs(total))
        for path, wanted in gradients.items():
            assert np.abs(packed_gradients[path] - wanted).max() <= BOUND * max(1.0, np.abs(wanted).max()), path
        assert set(packed_found) == set(found)
        for number, wanted in found.items():
            for name in wanted:
                np.testing.assert_allclose(packed_found[number][name], wanted[name], atol=BOUND)

    batch = next(iter(Pipeline(items, task.spec(), seed=0).once(Shape(row_length=32, num_slots=1, num_rows=num_features))))
    halves = jax.tree.map(lambda leaf: np.asarray(leaf) * 0.5, loaded.params)
    (loss, (_, whole)), _ = of_batch(loaded.params, batch)
    (other, (_, half)), _ = of_batch(halves, batch)
    assert jax.device_get(half) == jax.device_get(whole)
    assert loss != other


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_task_shows_can_be_saved(tmp_path, family):
    """Plain data, that comes back as it was; tests/test_report.py draws every kind of it."""
    cfg, task, items, loaded = prepare(tmp_path, family)
    if not isinstance(task, Shows):
        pytest.skip(f"{family} shows nothing of its own")
    records, mesh = task.records("train"), make_mesh(cfg.mesh)
    shape = eval_shape([items], tokens=256, mesh=mesh, hidden_size=32, num_slots=4)
    result = Evaluator(task, loaded.graphdef, mesh).evaluate(loaded.params, {}, items, records, shape)
    sections = task.sections(result.decoded, records)
    assert configs.from_json(json.loads(json.dumps(configs.to_json(sections))), "content.json") == tuple(sections)
