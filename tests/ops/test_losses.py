"""Losses against their formulas and PyTorch's, values and gradients, and where a logit is far from 0."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.ops.losses import binary_cross_entropy, squared_error, weighted_cross_entropy

IGNORE = -100
FAST = settings(max_examples=100, deadline=None, derandomize=True)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
ONES = jnp.ones(3)


def logits_and_labels(seed=0):
    """Logits (3, 4, 3), a label of each position (3, 4) and 0-1 labels (3, 4, 3); some of both are ignored."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((3, 4, 3)).astype(np.float32) * 3
    one, many = rng.integers(0, 3, (3, 4)), rng.integers(0, 2, (3, 4, 3))
    one[0, 1] = one[2, 2] = IGNORE
    many[0, 1] = many[2, 2] = IGNORE
    return logits, one, many


def quotient(loss, *given, **settings):
    total, weight = loss(*given, **settings)
    return total / weight


@needs_torch
@pytest.mark.parametrize("weights", [None, (0.5, 20.0, 1.25)])
def test_binary_cross_entropy_is_that_of_torch(weights):
    import torch

    logits, _, labels = logits_and_labels()
    positive_weights = jnp.asarray(weights or ONES)
    of_ours = jax.value_and_grad(lambda x: quotient(binary_cross_entropy, x, labels, ignore=IGNORE, positive_weights=positive_weights, focal_gamma=0.0))
    ours, gradient = jax.jit(of_ours)(logits)
    counted = (labels != IGNORE).all(-1)
    theirs = torch.tensor(logits, requires_grad=True)
    of_torch = torch.nn.BCEWithLogitsLoss(pos_weight=None if weights is None else torch.tensor(weights))
    wanted = of_torch(theirs[torch.tensor(counted)], torch.tensor(labels[counted], dtype=torch.float32))
    wanted.backward()
    assert abs(float(ours) - wanted.item()) < 1e-6
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-6)


def test_single_labels_may_be_ignored():
    logits, labels = jnp.asarray([0.0, 3.0, -1.0]), jnp.asarray([1, IGNORE, 0])
    total, weight = binary_cross_entropy(logits, labels, ignore=IGNORE, positive_weights=ONES, focal_gamma=0.0)
    assert weight == 2
    np.testing.assert_allclose(total, np.log(2) + np.log1p(np.exp(-1)), rtol=1e-6)
    nothing, zero = binary_cross_entropy(logits, jnp.full(3, IGNORE), ignore=IGNORE, positive_weights=ONES, focal_gamma=0.0)
    assert nothing == zero == 0


@FAST
@given(seed=st.integers(0, 999), gamma=st.sampled_from([0.5, 1.0, 2.0, 5.0]), weight=st.sampled_from([1.0, 7.0]))
def test_focal_binary_cross_entropy_is_its_formula(seed, gamma, weight):
    logits, _, labels = logits_and_labels(seed)
    found, _ = binary_cross_entropy(logits, labels, ignore=IGNORE, positive_weights=weight * ONES, focal_gamma=gamma)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    right = np.where(labels == 1, p, 1 - p)
    wanted = -((1 - right) ** gamma) * np.log(right) * np.where(labels == 1, weight, 1.0)
    np.testing.assert_allclose(found, wanted[labels != IGNORE].sum(), rtol=1e-5)


@FAST
@given(seed=st.integers(0, 999), gamma=st.sampled_from([0.5, 1.0, 2.0, 5.0]), smoothing=st.sampled_from([0.0, 0.1]))
def test_focal_cross_entropy_is_its_formula(seed, gamma, smoothing):
    logits, labels, _ = logits_and_labels(seed)
    class_weights = jnp.asarray([0.5, 2.0, 1.0])
    found, weight = weighted_cross_entropy(logits, labels, ignore=IGNORE, class_weights=class_weights, label_smoothing=smoothing, focal_gamma=gamma)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    counted = labels != IGNORE
    target = ((1 - smoothing) * np.eye(3)[np.where(counted, labels, 0)] + smoothing / 3)[counted]
    wanted = -(target * np.asarray(class_weights) * (1 - p[counted]) ** gamma * np.log(p[counted])).sum()
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert weight == np.asarray(class_weights)[labels[counted]].sum()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_far_logits_give_finite_losses_and_gradients(size, gamma):
    logits = jnp.asarray([[size, -size, 0.0], [-size, size, size]])

    def binary(x):
        return binary_cross_entropy(x, jnp.asarray([[1, 0, 1], [1, 0, IGNORE]]), ignore=IGNORE, positive_weights=ONES, focal_gamma=gamma)[0]

    def one(x):
        return weighted_cross_entropy(x, jnp.asarray([0, 0]), ignore=IGNORE, class_weights=ONES, label_smoothing=0.0, focal_gamma=gamma)[0]

    for loss_fn in (binary, one):
        loss, gradient = jax.jit(jax.value_and_grad(loss_fn))(logits)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0.9


def test_squared_error_counts_where_it_has_weight():
    outputs = jnp.asarray([1.0, np.nan, -2.0, 4.0])
    targets, weights = jnp.asarray([0.0, 0.0, 1.0, 9.0]), jnp.asarray([1.0, 0.0, 1.0, 0.0])
    (total, weight), gradient = squared_error(outputs, targets, weights=weights), jax.grad(lambda x: squared_error(x, targets, weights=weights)[0])(outputs)
    assert (total, weight) == (10.0, 2.0)
    np.testing.assert_array_equal(gradient, [2.0, 0.0, -6.0, 0.0])
