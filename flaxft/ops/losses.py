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
