"""AdamW with warmup, schedule, clipping and a decay mask."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flaxft.errors import UserError, nearest

SCHEDULES = ("linear", "cosine", "polynomial", "constant")
NO_DECAY = r"(^|/)(bias|scale)$"  # biases and norms, as in BERT's own code and every recipe since; the old Flax script once missed the norms


@dataclasses.dataclass
class Optim:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) as BERT is fine-tuned with it."""

    learning_rate: float | None = None
    """The peak of the schedule, such as 5e-5. None is what suits the encoder's size: 1e-3 for very small ones, 5e-5 for base ones (flaxft/recipe.py)."""
    schedule: str = "linear"
    """The shape of the rate after the warmup, from the peak to `end_factor` of it: linear, cosine, polynomial or constant."""
    warmup: float | None = None
    """How long the rate rises to its peak: below 1 a share of all steps (0.1 is a tenth), from 1 on a number of steps. None is 0.1."""
    end_factor: float = 0.0
    """The share of the peak that the rate ends at; 0 ends at zero."""
    power: float = 2.0
    """The exponent of the polynomial schedule; 1 is a straight line. Other schedules do not use it."""
    weight_decay: float = 0.01
    """How strongly weights are pulled to zero, as in AdamW; biases and norms never are. 0 does not."""
    b1: float = 0.9
    """Decay of Adam's mean of gradients, from 0 to below 1."""
    b2: float = 0.999
    """Decay of Adam's mean of squared gradients, from 0 to below 1."""
    eps: float = 1e-8
    """The number that Adam adds to its denominator."""
    clip_norm: float = 1.0
    """The largest global norm of a step's gradient, which is scaled down to it where it is longer; 0 does not clip."""

    def check(self) -> None:
        """Raises UserError for values that cannot be meant."""
        if self.schedule not in SCHEDULES:
            raise UserError(f"optim.schedule is {self.schedule!r}, allowed are {list(SCHEDULES)}{nearest(self.schedule, SCHEDULES)}")
        for name in ("learning_rate", "warmup", "weight_decay", "clip_norm", "end_factor", "power"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"optim.{name} is {value}, expected a finite number that is not negative")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optim.{name} is {getattr(self, name)}, expected from 0 to below 1")
        if not self.eps > 0:
            raise UserError(f"optim.eps is {self.eps}, expected a positive number")


def make_schedule(optim: Optim, num_steps: int) -> optax.Schedule:
    """step -> rate. Step 0 already moves the parameters: the warmup reaches the peak in `warmup` steps, (step + 1) / warmup of it at a time."""
    assert optim.learning_rate is not None, "flaxft/recipe.py fills in what is open"
    assert optim.warmup is not None, "flaxft/recipe.py fills in what is open"
    warmup = round(optim.warmup * num_steps) if optim.warmup < 1 else int(optim.warmup)
    if optim.warmup >= 1 and warmup > num_steps > 0:
        raise UserError(f"optim.warmup is {warmup} steps of {num_steps} in all; give at most {num_steps}, or a fraction below 1")
    rest = max(1, num_steps - warmup)
    peak, end = optim.learning_rate, optim.learning_rate * optim.end_factor
    after = {
        "linear": optax.linear_schedule(peak, end, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest, alpha=optim.end_factor),
        "polynomial": optax.polynomial_schedule(peak, end, optim.power, rest),
        "constant": optax.constant_schedule(peak),
    }[optim.schedule]

    def schedule(step: Any) -> Any:
        return jnp.where(step < warmup, peak * (step + 1) / max(1, warmup), after(jnp.maximum(step - warmup, 0)))

    return schedule


def decay_mask(params: Any) -> Any:
    """True where weight decay applies."""
    return jax.tree_util.tree_map_with_path(lambda path, _: not re.search(NO_DECAY, "/".join(str(key.key) for key in path)), params)


class Rate(NamedTuple):
    """State of `scale_by_rate`: none."""


def scale_by_rate(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Multiplies by -schedule(step), with the step handed in: the run's step goes on over skipped updates, optax's own count would not."""

    def update(updates: Any, state: Rate, params: Any = None, *, step: Any, **_: Any) -> tuple[Any, Rate]:
        rate = schedule(step)
        return jax.tree.map(lambda u: -rate * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: Rate(), update)


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Multiplies by min(1, max_norm / global norm).

    optax's own divides each element, which XLA:CPU does not fuse into Adam: the clipped gradients are written out once more, 1.5 % of a step of MiniLM.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        factor = jnp.minimum(1.0, max_norm / jnp.maximum(optax.tree.norm(updates), 1e-12))
        return jax.tree.map(lambda u: u * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_adam(*, b1: float, b2: float, eps: float) -> optax.GradientTransformationExtraArgs:
    """optax's `scale_by_adam` with its state, which `update(..., finite=False)` leaves as it was.

    The direction is that of the moments that are kept. With a `where` around optax's own, XLA makes it from the old moments once more, and copies both of them
    first because they are updated in place: 182 MB for MiniLM, and 3 to 8 % of its step.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))

    def update(updates: Any, state: optax.ScaleByAdamState, params: Any = None, *, finite: Any, **_: Any) -> tuple[Any, optax.ScaleByAdamState]:
        count = jnp.where(finite, optax.safe_increment(state.count), state.count)
        mu = jax.tree.map(lambda m, g: jnp.where(finite, b1 * m + (1 - b1) * g, m), state.mu, updates)
        nu = jax.tree.map(lambda v, g: jnp.where(finite, b2 * v + (1 - b2) * jnp.square(g), v), state.nu, updates)
        mu_weight, nu_weight = 1 - b1 ** count.astype(jnp.float32), 1 - b2 ** count.astype(jnp.float32)
        direction = jax.tree.map(lambda m, v: (m / mu_weight) / (jnp.sqrt(v / nu_weight) + eps), mu, nu)
        return direction, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def make_tx(optim: Optim, schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """clip -> Adam -> decoupled weight decay -> rate. Decay comes after Adam and is scaled by the rate, as in torch's AdamW.

    Call `update(..., step=step, finite=finite)`: where `finite` is False the updates mean nothing, and the state is the old one.
    """
    clip = clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    adam = scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps)
    tx = optax.chain(clip, adam, optax.add_decayed_weights(optim.weight_decay, mask=decay_mask), scale_by_rate(schedule))
    return optax.with_extra_args_support(tx)
