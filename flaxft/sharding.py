"""The device mesh, which mesh axis each dim of an array is split over, and arrays put there."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flaxft.errors import UserError

Rules = Sequence[tuple[str, tuple[str | None, ...]]]
ROWS = ("data", "fsdp")  # the mesh axes that a batch's rows are split over: fsdp is data parallelism whose parameters are split too


@dataclasses.dataclass
class Mesh:
    """How many devices stand along each mesh axis; one of them may be -1, "all that are left"."""

    data: int = -1
    """How many groups of devices the rows of a batch are divided between, each with all parameters; -1 takes all devices that are left."""
    fsdp: int = 1
    """How many devices divide the rows and hold a part of the parameters each, for a model too large for one; 1 divides nothing."""
    tensor: int = 1
    """How many devices compute each layer together, each with a part of its weights; 1 divides nothing."""


def make_mesh(mesh: Mesh, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """The mesh over all devices (or `devices`). Raises UserError where the sizes do not multiply to their number."""
    found = list(devices if devices is not None else jax.devices())
    sizes = dataclasses.asdict(mesh)
    open_axes = [name for name, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if any(size < 1 and size != -1 for size in sizes.values()) or len(open_axes) > 1:
        raise UserError(f"mesh is {sizes}; each size is at least 1, and one of them may be -1 for all devices that are left")
    if len(found) % fixed or (not open_axes and fixed != len(found)):
        raise UserError(f"mesh is {sizes}, which does not fit {len(found)} devices; their product must be {len(found)} (one size may be -1)")
    for name in open_axes:
        sizes[name] = len(found) // fixed
    # Auto: with jax's default of Explicit axes a gather on a split embedding table does not trace.
    shape = tuple(sizes.values())
    return jax.make_mesh(shape, tuple(sizes), axis_types=(AxisType.Auto,) * len(shape), devices=found)


def num_row_shards(mesh: jax.sharding.Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in ROWS)


def rows(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Arrays with leading R."""
    return NamedSharding(mesh, P(ROWS))


def by_rows(x: jax.Array) -> jax.Array:
    """`x` with leading R, said to be split by rows and whole in its other dims, where a program is traced for a mesh (`jax.set_mesh`).

    Left to itself the compiler lets activations follow the parameters' dims and moves them between layers: seven times the traffic with fsdp over 8 devices.
    """
    return x if jax.sharding.get_abstract_mesh().empty else jax.lax.with_sharding_constraint(x, P(ROWS))


def compiler_options(mesh: jax.sharding.Mesh) -> dict[str, str | bool]:
    """What the compiler is told beside a program over the mesh.

    With fsdp, XLA for TPU makes a loop of each product, which passes the parts of its kernel around while it multiplies. By the compiler's own count that takes
    1.6 times the memory and over 1.8 times the traffic of gathering the kernels first (two layers of BERT base, v5e:2x4); it is switched off by its threshold.
    """
    gathers = mesh.shape["fsdp"] > 1 and mesh.devices.flat[0].platform == "tpu"
    return {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"} if gathers else {}


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def infer(tree: Any, rules: Rules, mesh: jax.sharding.Mesh) -> Any:
    """The sharding of each leaf: the first rule whose pattern is found in its path "a/b/c", dim by dim; replicated where none is.

    tree: anything with `.shape` at its leaves; the optimizer's moments follow the parameters, because their paths end alike. An axis that does not divide its
    dim is left out.
    """

    def of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)
        axes: tuple[str | None, ...] = next((axes for pattern, axes in rules if re.search(pattern, name)), ())
        if len(axes) != len(leaf.shape):
            axes = ()
        return NamedSharding(mesh, P(*(axis if axis and dim % mesh.shape[axis] == 0 else None for axis, dim in zip(axes, leaf.shape, strict=False))))

    return jax.tree_util.tree_map_with_path(of, tree)


def put(tree: Any, shardings: Any) -> Any:
    """Host arrays on the devices; `shardings` is one for all, or a tree like `tree`. Every process holds the whole array and hands out its own part of it."""

    def one(array: Any, sharding: NamedSharding) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(lambda array: one(array, shardings), tree) if isinstance(shardings, NamedSharding) else jax.tree.map(one, tree, shardings)
