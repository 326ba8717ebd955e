"""The training step lowers for TPU and GPU on a machine that has neither: no operation in it is CPU's alone. (Speed and numbers there were not tried.)"""

from __future__ import annotations

import jax
import pytest

from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.models.base import flatten
from flaxft.optim import Optim, make_schedule, make_tx
from flaxft.train import state as states
from flaxft.train.step import make_loss_fn, make_train_step
from tests.tasks.contract import FAMILIES, prepare


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_step_lowers(tmp_path, family, dtype):
    _, task, items, loaded = prepare(tmp_path, family, **{"model.dtype": dtype})
    tx = make_tx(Optim(learning_rate=5e-5, warmup=0.1), make_schedule(Optim(learning_rate=5e-5, warmup=0.1), 100))
    state = states.create(loaded.graphdef, jax.tree.map(jax.numpy.asarray, loaded.params), tx)
    batch = Pipeline(items, task.spec(), seed=0).empty(Shape(num_rows=4, row_length=32, num_slots=4))
    traced = jax.jit(make_train_step(make_loss_fn(task, state.graphdef), tx, seed=0), donate_argnums=0).trace(state, batch)
    for platform in ("tpu", "cuda"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("dot_general") > len(flatten(loaded.params)) / 4, platform  # forward and backward are there
        assert ("bf16" in text) == (dtype == "bfloat16"), platform
