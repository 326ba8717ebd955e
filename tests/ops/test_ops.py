"""Each op against its plain reference, values and gradients; dropout's bits against chance."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxft.ops.attention import attention
from flaxft.ops.dense import dense
from flaxft.ops.dropout import dropout, random_bits
from flaxft.ops.gelu import gelu
from flaxft.ops.losses import cross_entropy


def test_gelu_and_its_gradient():
    x = jnp.linspace(-6, 6, 1001)
    reference = lambda x: jax.nn.gelu(x, approximate=False)  # noqa: E731
    both = lambda function: jax.jit(jax.vmap(jax.value_and_grad(function)))(x)  # noqa: E731
    for found, wanted in zip(both(gelu), both(reference), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_dense_and_its_gradient(dtype, bound):
    rng = np.random.default_rng(0)
    x, kernel, bias = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((3, 5, 16), (16, 8), (8,)))

    def ours(x, kernel, bias):
        return jnp.sum(jnp.sin(dense(x, kernel, bias, dtype=dtype).astype(jnp.float32)))

    def plain(x, kernel, bias):
        return jnp.sum(jnp.sin(x @ kernel + bias))

    assert dense(x, kernel, bias, dtype=dtype).dtype == dtype
    for found, wanted in zip(*(jax.jit(jax.grad(function, (0, 1, 2)))(x, kernel, bias) for function in (ours, plain)), strict=True):
        assert found.dtype == jnp.float32
        assert np.abs(found - wanted).max() <= bound * max(1.0, np.abs(wanted).max()) * 4


def test_products_in_bfloat16_have_the_form_that_a_cpu_is_fast_in():
    """XLA folds a transpose into a product and then has no bfloat16 kernel for it: the gradients would take as long as in float32."""

    def loss(x, kernel):
        return jnp.sum(jnp.sin(dense(x, kernel, jnp.zeros(48), dtype="bfloat16").astype(jnp.float32)))

    arrays = jnp.ones((4, 16, 32)), jnp.ones((32, 48))
    text = jax.jit(jax.grad(loss, (0, 1))).lower(*arrays).compile().as_text()
    forms = re.findall(r" dot\(.*lhs_contracting_dims={(\d)}, rhs_contracting_dims={(\d)}", text)
    assert forms == [("1", "0")] * 3


def test_attention_equals_one_segment_at_a_time():
    rng = np.random.default_rng(1)
    query, key, value = (rng.standard_normal((2, 12, 3, 4), np.float32) for _ in range(3))
    segments = np.asarray([[1, 1, 1, 1, 2, 2, 2, 3, 0, 0, 0, 0], [1] * 12])
    found = jax.jit(attention)(query, key, value, segments)
    alone = jax.jit(jax.nn.dot_product_attention)
    for row, ids in enumerate(segments):
        for segment in set(ids.tolist()) - {0}:
            at = np.flatnonzero(ids == segment)
            wanted = alone(*(x[row : row + 1, at] for x in (query, key, value)))
            np.testing.assert_allclose(np.asarray(found)[row, at], wanted[0], atol=1e-6)
    assert np.isfinite(found).all()


def test_cross_entropy_counts_labels_only():
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.standard_normal((4, 6, 5)) * 3, jnp.float32)
    labels = jnp.where(rng.random((4, 6)) < 0.5, -100, rng.integers(0, 5, (4, 6)))
    total, weight = cross_entropy(logits, labels, ignore=-100)
    probabilities = np.asarray(jax.nn.softmax(logits))
    wanted = [-np.log(probabilities[i, j, labels[i, j]]) for i, j in zip(*np.nonzero(labels != -100), strict=True)]
    assert weight == len(wanted)
    np.testing.assert_allclose(total, sum(wanted), rtol=1e-5)
    nothing, zero = cross_entropy(logits, jnp.full_like(labels, -100), ignore=-100)
    assert nothing == 0
    assert zero == 0


# ---- dropout: 1e6 bits a test, so a share's standard deviation is at most 0.0005; bounds are 5 of them --------------------------------------------


@functools.cache
def keep_masks(num_keys: int, shape: tuple[int, ...], rate: float) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), num_keys)
    return np.asarray(jax.jit(jax.vmap(lambda key: random_bits(key, shape) >= jnp.uint32(rate * 2**32)))(keys))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_its_share_and_its_mean(rate):
    masks = keep_masks(4, (32, 64, 128), rate)
    assert abs(masks.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / masks.size)
    x = np.asarray(jax.jit(lambda x, key: dropout(x, rate, key=key))(jnp.ones((32, 64, 128)), jax.random.key(3)))
    assert set(np.unique(x)) == {0.0, np.float32(1 / (1 - rate))}
    assert abs(float(x.mean()) - 1) < 0.01
    per_row = masks.mean((0, 2, 3))
    assert abs(per_row - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / (masks.size / 32))


@pytest.mark.parametrize("other", ["key", "row", "position", "feature", "lag"])
def test_dropout_masks_do_not_correlate(other):
    masks = keep_masks(8, (16, 64, 128), 0.5).astype(np.float32) * 2 - 1  # (K, R, T, D)
    pairs = {
        "key": (masks[:-1], masks[1:]),
        "row": (masks[:, :-1], masks[:, 1:]),
        "position": (masks[:, :, :-1], masks[:, :, 1:]),
        "feature": (masks[..., :-1], masks[..., 1:]),
        "lag": (masks.reshape(8, 16, -1)[..., :-64], masks.reshape(8, 16, -1)[..., 64:]),
    }
    a, b = pairs[other]
    assert abs((a * b).mean()) < 5 / np.sqrt(a.size)


def test_every_bit_is_fair():
    bits = np.asarray(random_bits(jax.random.key(7), (64, 4096)))
    shares = [((bits >> i) & 1).mean() for i in range(32)]
    assert max(abs(share - 0.5) for share in shares) < 5 * 0.5 / np.sqrt(bits.size)
    assert len(np.unique(bits)) > 0.99 * bits.size * (1 - bits.size / 2**33)


def test_rows_do_not_depend_on_their_number():
    few, many = random_bits(jax.random.key(1), (3, 8, 4)), random_bits(jax.random.key(1), (9, 8, 4))
    assert (few == many[:3]).all()


def test_no_key_and_no_rate_change_nothing():
    x = jnp.arange(6.0).reshape(2, 3)
    assert dropout(x, 0.5, key=None) is x
    assert dropout(x, 0.0, key=jax.random.key(0)) is x
