"""Losses as (sum, weight): only the training step divides, so padding, packing and devices cannot change a mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "... L"], labels: Int[Array, "..."], *, ignore: int, weights: Float[Array, "..."] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`(sum of -log softmax(logits)[label], number of labels)` over the positions whose label is not `ignore`, in float32.

    With `weights` a position counts so many times, in both.
    """
    counted = labels != ignore
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    # A one-hot product instead of a gather: its gradient is no scatter, which is slow on TPU, and L is small.
    chosen = jnp.sum(log_probabilities * jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32), axis=-1)
    how_often = counted.astype(jnp.float32) if weights is None else jnp.where(counted, weights, 0.0)
    return -jnp.sum(jnp.where(counted, chosen, 0.0) * how_often), jnp.sum(how_often)


def weighted_cross_entropy(
    logits: Float[Array, "... L"], labels: Int[Array, "..."], *, ignore: int, class_weights: Float[Array, " L"], label_smoothing: float, focal_gamma: float,
    weights: Float[Array, "..."] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:  # fmt: skip
    """`(sum, sum of the labels' class weights)`: torch's CrossEntropyLoss(weight, label_smoothing) is their quotient.

    A position's target is 1 - label_smoothing for its label and label_smoothing / L for each of the L labels; each label's part has that label's weight.
    With focal_gamma it is the focal loss (Lin et al. 2017, arXiv 1708.02002): each label's part counts (1 - its probability) ** focal_gamma times.
    With `weights` a position counts so many times, in both.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)  # nothing but zeros where the label is `ignore`
    counted = (labels != ignore).astype(jnp.float32)
    if weights is not None:
        chosen, counted = chosen * weights[..., None], counted * weights
    target = (1.0 - label_smoothing) * chosen + label_smoothing / logits.shape[-1] * counted[..., None]
    if focal_gamma:
        # Never quite 0, where a power below 1 has no slope; the next probability below 1 is 6e-8 from it.
        target *= jnp.maximum(1.0 - jnp.exp(log_probabilities), 1e-8) ** focal_gamma
    return -jnp.sum(target * class_weights * log_probabilities), jnp.sum(chosen * class_weights)


def binary_cross_entropy(
    logits: Float[Array, "... L"], labels: Int[Array, "... L"], *, ignore: int, positive_weights: Float[Array, " L"], focal_gamma: float,
    weights: Float[Array, "..."] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:  # fmt: skip
    """`(sum, number of labels)` over the labels, 1 or 0, that are not `ignore`: torch's BCEWithLogitsLoss(pos_weight) is their quotient. In float32.

    With focal_gamma it is the focal loss (Lin et al. 2017, arXiv 1708.02002): -(1 - p) ** focal_gamma log p, p being the probability of what is right.
    With `weights` all labels of a position count so many times, in both.
    """
    wide = logits.astype(jnp.float32)
    log_yes, log_no = jax.nn.log_sigmoid(wide), jax.nn.log_sigmoid(-wide)
    if focal_gamma:
        log_yes, log_no = jnp.exp(focal_gamma * log_no) * log_yes, jnp.exp(focal_gamma * log_yes) * log_no
    found = jnp.where(labels == 1, positive_weights * log_yes, log_no)
    counted = labels != ignore
    how_often = counted.astype(jnp.float32) if weights is None else jnp.where(counted, weights[..., None], 0.0)
    return -jnp.sum(jnp.where(counted, found, 0.0) * how_often), jnp.sum(how_often)


def squared_error(
    outputs: Float[Array, "..."], targets: Float[Array, "..."], *, weights: Float[Array, "..."]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`(sum of weight * squared difference, sum of weights)`, in float32. A position of weight 0 does not count, whatever its output."""
    difference = jnp.where(weights > 0, outputs.astype(jnp.float32) - targets, 0.0)
    return jnp.sum(weights * jnp.square(difference)), jnp.sum(weights)
