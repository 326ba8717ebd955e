"""Dropout whose mask is a hash of (key, row, position): cheap on CPU, and the same for any number of devices."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32


def random_bits(key: Array, shape: tuple[int, ...]) -> UInt32[Array, " ..."]:
    """Uniform 32-bit words of `shape`, a pure function of (key, index along the first dim, position in the rest).

    The words of a row do not depend on how many rows there are, so empty rows that fill devices change nothing. The mixing is `lowbias32`
    (https://nullprogram.com/blog/2018/07/31/) with a second key injected between its two rounds: with one key alone, two rows whose keys
    lie near each other would see shifted copies of one sequence. On 2 CPU cores dropout of
    2.1 M elements takes a fifteenth of the time that it takes with threefry (median of 15 pairs, 10 to 28).
    """
    words = jax.random.key_data(key).reshape(-1)
    first = _mix(jnp.arange(shape[0], dtype=jnp.uint32) + words[0])
    second = _mix(first ^ words[-1])
    trailing = (1,) * (len(shape) - 1)
    position = jnp.arange(math.prod(shape[1:]), dtype=jnp.uint32).reshape(shape[1:])
    bits = position ^ first.reshape(-1, *trailing)
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = ((bits ^ (bits >> 15)) + second.reshape(-1, *trailing)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def dropout(x: Float[Array, "R ..."], rate: float, *, key: Array | None) -> Float[Array, "R ..."]:
    """`x` with a share `rate` of its elements zeroed and the others scaled by 1 / (1 - rate); `key=None` leaves it as it is."""
    if key is None or rate == 0.0:
        return x
    keep = random_bits(key, x.shape) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def _mix(bits: Array) -> Array:
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
