"""Attention inside segments whose memory grows linearly with T, on TPU: the splash kernel that comes with jax. Elsewhere the reference."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from flaxft.ops.attention import attention
from flaxft.sharding import ROWS

LANES = 128  # T is filled up to a multiple of it
BLOCKS = (512, 384, 256, 128)  # of queries and of keys; the largest that divides T


def splash_attention(
    query: Float[Array, "R T N H"],
    key: Float[Array, "R T N H"],
    value: Float[Array, "R T N H"],
    segment_ids: Int[Array, "R T"],
    *,
    dropout_rate: float = 0.0,
    dropout_key: Array | None = None,
) -> Float[Array, "R T N H"]:
    """`attention` without its (R, N, T, T) weights in memory. The kernel has no dropout: a rate above 0 is refused where the config is read.

    It never ran on a TPU here: tests run the kernel interpreted, outputs and gradients, and compile it where the TPU compiler is installed.
    """
    assert dropout_rate == 0.0, dropout_rate
    mesh = jax.sharding.get_abstract_mesh()
    on_tpu = functools.partial(kernel, interpret=False)
    if not mesh.empty:  # the compiler cannot split a kernel by itself
        heads = "tensor" if query.shape[2] % mesh.shape["tensor"] == 0 else None
        arrays, ids = P(ROWS, None, heads, None), P(ROWS, None)
        on_tpu = jax.shard_map(on_tpu, in_specs=(arrays, arrays, arrays, ids), out_specs=arrays, check_vma=False)
    found: Array = jax.lax.platform_dependent(query, key, value, segment_ids, tpu=on_tpu, default=attention)
    return found


def kernel(query: Array, key: Array, value: Array, segment_ids: Array, *, interpret: bool) -> Array:
    """The same on one device's rows and heads; `interpret` runs it without a TPU, slowly."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    length, num_heads, head_dim = query.shape[1:]
    fill = -length % LANES
    query, key, value = (jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, 0))).swapaxes(1, 2) for x in (query, key, value))  # (R, N, T, H)
    segment_ids = jnp.pad(segment_ids, ((0, 0), (0, fill)), constant_values=-1)  # a segment of its own: no row of the softmax is empty
    block = next(size for size in BLOCKS if (length + fill) % size == 0)
    sizes = splash.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block, block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
        block_q_dq=block, block_kv_dq=block,
    )  # fmt: skip
    mask = masks.MultiHeadMask([masks.FullMask((length + fill, length + fill))] * num_heads)
    one_row = splash.make_splash_mha(mask=mask, head_shards=1, q_seq_shards=1, block_sizes=sizes, interpret=interpret)

    def of_row(query: Array, key: Array, value: Array, ids: Array) -> Array:
        return one_row(query, key, value, segment_ids=splash.SegmentIds(ids, ids))

    scaled = query * jnp.asarray(head_dim**-0.5, query.dtype)
    mixed = jax.vmap(of_row)(scaled, key, value, segment_ids)
    return mixed.swapaxes(1, 2)[:, :length].astype(value.dtype)
