"""Scaled dot-product attention inside segments."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxft.ops.dropout import dropout


def attention(
    query: Float[Array, "R T N H"],
    key: Float[Array, "R T N H"],
    value: Float[Array, "R T N H"],
    segment_ids: Int[Array, "R T"],
    *,
    dropout_rate: float = 0.0,
    dropout_key: Array | None = None,
) -> Float[Array, "R T N H"]:
    """softmax(q k^T / sqrt(H)) v, where a token sees the tokens of its own segment only; the softmax is float32.

    Padding (segment 0) is a segment too: it attends to itself, which no loss reads, and no row of the softmax is empty.
    """
    # Heads before tokens: XLA:CPU has no fast batched matmul for the (R, T, N, H) layout (measured 1.25x slower as one einsum).
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))  # (R, N, T, H)
    scores = jnp.matmul(query * jnp.asarray(1.0 / math.sqrt(query.shape[-1]), query.dtype), jnp.swapaxes(key, 2, 3), preferred_element_type=jnp.float32)
    same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]  # (R, 1, T, T)
    weights = jax.nn.softmax(jnp.where(same, scores, jnp.finfo(jnp.float32).min), axis=-1)  # (R, N, T, T) float32
    weights = dropout(weights, dropout_rate, key=dropout_key).astype(value.dtype)
    return jnp.swapaxes(jnp.matmul(weights, value, preferred_element_type=jnp.float32).astype(value.dtype), 1, 2)
