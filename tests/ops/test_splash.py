"""The kernel, interpreted on CPU: it is attention inside segments, nothing leaks from one to another, and a step with it lowers for TPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.errors import UserError
from flaxft.models.bert import BertConfig
from flaxft.ops.attention import attention
from flaxft.ops.splash import kernel, splash_attention
from flaxft.optim import Optim, make_schedule, make_tx
from flaxft.sharding import Mesh, infer, make_mesh
from flaxft.train import state as states
from flaxft.train.step import TrainStep, make_loss_fn
from tests import tiny
from tests.tasks.contract import prepare


def rows(length: int, *, num_heads: int = 2, head_dim: int = 32) -> tuple[list[jax.Array], jax.Array]:
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.standard_normal((2, length, num_heads, head_dim)), jnp.float32) for _ in range(3)]
    half = length // 2
    ids = np.zeros((2, length), np.int32)
    ids[0, :half], ids[0, half : length - 5] = 1, 2  # two segments and padding
    ids[1, :7], ids[1, 7:half], ids[1, half:] = 1, 2, 3
    return arrays, jnp.asarray(ids)


@pytest.mark.parametrize("length", [128, 200])
def test_the_kernel_is_attention(length):
    arrays, ids = rows(length)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(arrays[0].shape), jnp.float32)

    def of(function):
        def total(*x):
            mixed = function(*x, ids)
            return jnp.sum(weights * mixed), mixed

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(*arrays)

    (right, expected), gradients = of(attention)
    (found, mixed), others = of(lambda *x: kernel(*x, interpret=True))
    np.testing.assert_allclose(mixed, expected, atol=2e-6)
    assert abs(found - right) < 1e-5 * max(1, abs(right))
    for mine, other in zip(gradients, others, strict=True):
        assert abs(mine - other).max() < 1e-5 * max(1, abs(mine).max())


def test_nothing_leaks_from_one_segment_to_another():
    arrays, ids = rows(200)
    first = np.asarray(ids)[0] == 1

    @jax.jit
    def of(query, key, value):
        """The outputs of the first row's first segment, and what moves them."""
        mixed, pull = jax.vjp(lambda *x: kernel(*x, ids, interpret=True), query, key, value)
        return mixed[0, first], pull(jnp.zeros_like(mixed).at[0, first].set(1.0))

    before, gradients = of(*arrays)
    others = [np.array(x) for x in arrays]
    for x in others:
        x[0, ~first] = 1e4 * np.sign(x[0, ~first])
    after, moved = of(*others)
    assert (before == after).all()
    for gradient, one in zip(jax.device_get(gradients), jax.device_get(moved), strict=True):
        assert (gradient[0, ~first] == 0).all() and (gradient[1] == 0).all()
        assert (gradient[0, first] == one[0, first]).all()


def test_elsewhere_it_is_the_reference():
    arrays, ids = rows(128)
    found, wanted = jax.jit(lambda *x: (splash_attention(*x, ids), attention(*x, ids)))(*arrays)
    assert (found == wanted).all()


def test_dropout_on_its_weights_is_refused(tmp_path):
    cfg = tiny.config(tmp_path)
    cfg.model.attention = "splash"
    with pytest.raises(UserError, match=r"attention 'splash' has no dropout, and attention_probs_dropout_prob is 0.1; set model.attention_dropout=0"):
        cfg.model.open()
    cfg.model.attention_dropout = 0.0
    cfg.model.open()
    cfg.model.attention = "flash"
    with pytest.raises(UserError, match=r"attention is 'flash', allowed are \['splash', 'xla'\]; set model.attention"):
        cfg.model.open()


@pytest.mark.parametrize("remat", [False, True])
def test_a_step_with_it_lowers_for_tpu(tmp_path, remat):
    changes = {"model.attention": "splash", "model.attention_dropout": 0.0, "model.remat": remat}
    _, task, items, loaded = prepare(tmp_path, "token_classification", **changes)
    assert BertConfig.parse({"attention": "splash", "attention_probs_dropout_prob": 0.0}).attention == "splash"
    tx = make_tx(Optim(learning_rate=5e-5, warmup=0.1), make_schedule(Optim(learning_rate=5e-5, warmup=0.1), 100))
    state = states.create(loaded.graphdef, jax.tree.map(jnp.asarray, loaded.params), tx)
    mesh = make_mesh(Mesh())
    step = TrainStep(make_loss_fn(task, state.graphdef), tx, seed=0, shardings=infer(state, loaded.encoder.sharding, mesh))
    batch = Pipeline(items, task.spec(), seed=0).empty(Shape(num_rows=4, row_length=32, num_slots=4))
    with jax.set_mesh(mesh):
        text = step._jit["gradients"].trace(state, batch).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") >= 3, "one forward and two backward: the layers share them"
