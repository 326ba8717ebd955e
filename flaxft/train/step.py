"""One optimizer step: a pure function of state and batch. It runs as two programs, gradients and update, and the second donates the state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flaxft.data.base import Batch
from flaxft.data.packing import Shape
from flaxft.models.base import Params
from flaxft.sharding import compiler_options
from flaxft.tasks.base import Task, Terms
from flaxft.train.state import TrainState

LossFn = Callable[[Params, Params, Batch, jax.Array], Terms]
Metrics = dict[str, jax.Array]


def make_loss_fn(task: Task, graphdef: nnx.GraphDef) -> LossFn:
    """loss_fn(params, frozen, batch, rng) -> terms, with dropout on."""

    def loss_fn(params: Params, frozen: Params, batch: Batch, rng: jax.Array) -> Terms:
        model = nnx.merge(graphdef, params | frozen)
        return task.loss(model(batch, deterministic=False, rngs=nnx.Rngs(dropout=rng)), batch)

    return loss_fn


def make_train_step(loss_fn: LossFn, tx: optax.GradientTransformationExtraArgs, *, seed: int) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step of one micro-batch as one pure function. The objective is the sum over terms of sum / weight, over the global batch."""

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return _update(tx, state, *_gradients(loss_fn, state, batch, rng=_rng(seed, state.step, 0), totals=None))

    return train_step


class TrainStep:
    """`step(state, micro_batches) -> (state, metrics)`, compiled beforehand: the gradients for every shape, the update once.

    In one program with the gradients, the update would be traced, lowered and read from the cache for every shape, and AdamW is half of that program's
    instructions: a start with five shapes of MiniLM from the cache takes half as long (benchmarks/README.md). A step takes as long as before.

    Several micro-batches give the very gradient of their union: the terms' weights, which depend on the batches alone, are totalled first.
    """

    def __init__(self, loss_fn: LossFn, tx: optax.GradientTransformationExtraArgs, *, seed: int, shardings: TrainState):
        def gradients(state: TrainState, batch: Batch) -> tuple[jax.Array, Params]:
            return _gradients(loss_fn, state, batch, rng=_rng(seed, state.step, 0), totals=None)

        def weights(state: TrainState, batch: Batch) -> dict[str, jax.Array]:
            # Only the weights are returned, so XLA drops the encoder from this program.
            return {name: weight for name, (_, weight) in loss_fn(state.params, state.frozen, batch, _rng(seed, state.step, 0)).items()}

        def accumulate(state: TrainState, batch: Batch, totals: Any, part: jax.Array, loss: jax.Array, gradients: Params) -> tuple[jax.Array, Params]:
            more_loss, more = _gradients(loss_fn, state, batch, rng=_rng(seed, state.step, part), totals=totals)
            return loss + more_loss, jax.tree.map(jnp.add, gradients, more)

        def update(state: TrainState, loss: jax.Array, gradients: Params) -> tuple[TrainState, Metrics]:
            return _update(tx, state, loss, gradients)

        # Said rather than inferred: the compiler might lay the new state out otherwise than the next call expects it.
        whole: Any = shardings.step
        summed = (whole, shardings.params)
        self._mesh, self._options, self._whole, self._sums = whole.mesh, compiler_options(whole.mesh), whole, summed
        self._jit = {
            "gradients": jax.jit(gradients, out_shardings=summed),
            "weights": jax.jit(weights, out_shardings=whole),
            "accumulate": jax.jit(accumulate, donate_argnums=(4, 5), out_shardings=summed),
            "zeros": jax.jit(lambda state: (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params)), out_shardings=summed),
            "add": jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b), out_shardings=whole),
            "update": jax.jit(update, donate_argnums=0, out_shardings=(shardings, whole)),
        }
        self._compiled: dict[tuple[str, Shape | None], Any] = {}  # None: of no batch

    def compile(self, state: TrainState, batch: Batch) -> Any:
        """The gradients of a step whose one batch has this shape; returns the program. Arrays or ShapeDtypeStructs, as for the others."""
        with jax.set_mesh(self._mesh):
            program = self._compiled["gradients", _shape(batch)] = self._jit["gradients"].lower(state, batch).compile(self._options)
        return program

    def compile_update(self, state: TrainState) -> Any:
        """What every step ends with; returns the program."""
        with jax.set_mesh(self._mesh):
            program = self._compiled["update", None] = self._jit["update"].lower(state, *self._loss_and_gradients(state)).compile(self._options)
        return program

    def compile_accumulation(self, state: TrainState, batch: Batch) -> Any:
        """For the shape of `batch` as one of several micro-batches; returns the program of one."""
        with jax.set_mesh(self._mesh):
            return self._compile_accumulation(state, batch)

    def _compile_accumulation(self, state: TrainState, batch: Batch) -> Any:
        programs, shape = self._compiled, _shape(batch)
        lowered = {"zeros": self._jit["zeros"].lower(state), "weights": self._jit["weights"].lower(state, batch)}
        weights = lowered["weights"].out_info
        totals = _arguments(weights, dict.fromkeys(weights, self._whole))
        lowered["add"] = self._jit["add"].lower(totals, totals)
        part = jax.ShapeDtypeStruct((), jnp.int32)
        lowered["accumulate"] = self._jit["accumulate"].lower(state, batch, totals, part, *self._loss_and_gradients(state))
        for name, one in lowered.items():
            programs[name, shape if name in ("weights", "accumulate") else None] = one.compile(self._options)
        return programs["accumulate", shape]

    def _loss_and_gradients(self, state: TrainState) -> Any:
        """What the gradients' programs return."""
        return _arguments((jax.ShapeDtypeStruct((), jnp.float32), state.params), self._sums)

    def __call__(self, state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Metrics]:
        programs = self._compiled
        if len(batches) == 1:
            loss, gradients = programs["gradients", _shape(batches[0])](state, batches[0])
        else:
            totals = programs["weights", _shape(batches[0])](state, batches[0])
            for batch in batches[1:]:
                totals = programs["add", None](totals, programs["weights", _shape(batch)](state, batch))
            loss, gradients = programs["zeros", None](state)
            for part, batch in enumerate(batches):
                loss, gradients = programs["accumulate", _shape(batch)](state, batch, totals, np.int32(part), loss, gradients)
        return programs["update", None](state, loss, gradients)


def _arguments(outputs: Any, shardings: Any) -> Any:
    """What one program returns, as what the next is lowered for: shapes, types, and where they lie."""

    def one(array: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(one, outputs, shardings)


def _rng(seed: int, step: jax.Array, part: jax.Array | int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), part)


def _gradients(loss_fn: LossFn, state: TrainState, batch: Batch, *, rng: jax.Array, totals: dict[str, jax.Array] | None) -> tuple[jax.Array, Params]:
    def objective(params: Params) -> jax.Array:
        terms = loss_fn(params, state.frozen, batch, rng)
        weights = totals or {name: weight for name, (_, weight) in terms.items()}
        # a batch without one label has no gradient, and no 0 / 0 either
        means = [jnp.where(weights[name] > 0, total / jnp.maximum(weights[name], 1e-9), 0.0) for name, (total, _) in terms.items()]
        return jnp.sum(jnp.stack(means))

    return jax.value_and_grad(objective)(state.params)


def _update(tx: optax.GradientTransformationExtraArgs, state: TrainState, loss: jax.Array, gradients: Params) -> tuple[TrainState, Metrics]:
    grad_norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    updates, opt_state = tx.update(gradients, state.opt_state, state.params, step=state.step, finite=finite)
    # our own `where`: optax.apply_if_finite takes the bad update after its limit
    params = jax.tree.map(lambda new, old: jnp.where(finite, new, old), optax.apply_updates(state.params, updates), state.params)
    num_nonfinite = jnp.where(finite, 0, state.num_nonfinite + 1)
    metrics = {"loss": loss, "grad_norm": grad_norm, "num_nonfinite": num_nonfinite}
    return dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state, num_nonfinite=num_nonfinite), metrics


def _shape(batch: Batch) -> Shape:
    (num_rows, row_length), num_slots = batch["input_ids"].shape, batch["example_start"].shape[1]
    return Shape(num_rows, row_length, num_slots)
