"""Losses as (sum, weight): only the training step divides, so padding, packing and devices cannot change a mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(logits: Float[Array, "... L"], labels: Int[Array, "..."], *, ignore: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`(sum of -log softmax(logits)[label], number of labels)` over the positions whose label is not `ignore`, in float32."""
    counted = labels != ignore
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    # A one-hot product instead of a gather: its gradient is no scatter, which is slow on TPU, and L is small.
    chosen = jnp.sum(log_probabilities * jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32), axis=-1)
    return -jnp.sum(jnp.where(counted, chosen, 0.0)), jnp.sum(counted.astype(jnp.float32))


def weighted_cross_entropy(
    logits: Float[Array, "... L"], labels: Int[Array, "..."], *, ignore: int, class_weights: Float[Array, " L"], label_smoothing: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`(sum, sum of the labels' class weights)`: torch's CrossEntropyLoss(weight, label_smoothing) is their quotient.

    A position's target is 1 - label_smoothing for its label and label_smoothing / L for each of the L labels; each label's part has that label's weight.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)  # nothing but zeros where the label is `ignore`
    counted = (labels != ignore).astype(jnp.float32)
    target = (1.0 - label_smoothing) * chosen + label_smoothing / logits.shape[-1] * counted[..., None]
    return -jnp.sum(target * class_weights * log_probabilities), jnp.sum(chosen * class_weights)
