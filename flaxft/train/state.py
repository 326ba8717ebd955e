"""Everything that a step changes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct

from flaxft.models.base import Params


@struct.dataclass
class TrainState:
    """Pure arrays; the model's structure is static. Randomness is no part of it: it derives from seed and step."""

    step: jax.Array  # int32 (): updates done, skipped ones included
    params: Params  # what the optimizer updates
    frozen: Params  # the rest
    opt_state: Any  # of params only
    num_nonfinite: jax.Array  # int32 (): skipped steps in a row
    graphdef: nnx.GraphDef = struct.field(pytree_node=False)


def create(graphdef: nnx.GraphDef, params: Params, tx: Any) -> TrainState:
    zero = jnp.zeros((), jnp.int32)
    return TrainState(step=zero, params=params, frozen={}, opt_state=tx.init(params), num_nonfinite=zero, graphdef=graphdef)


def saved(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds of it, under the names of its parts, so that evaluation reads the parameters alone."""
    progress = {"step": state.step, "num_nonfinite": state.num_nonfinite}
    return {"params": state.params, "opt_state": state.opt_state, "progress": progress}


def restored(state: TrainState, parts: dict[str, Any]) -> TrainState:
    """The inverse of `saved`."""
    return dataclasses.replace(state, params=parts["params"], opt_state=parts["opt_state"], **parts["progress"])
