"""Schedules, the decay mask, AdamW beside PyTorch's, and what happens to a step that is not finite."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from flaxft import errors
from flaxft.errors import NonFiniteError, UserError
from flaxft.main import main
from flaxft.models.base import flatten
from flaxft.optim import SCHEDULES, Optim, decay_mask, make_schedule, make_tx
from flaxft.sharding import Mesh, infer, make_mesh, put, replicated
from flaxft.train import loop
from flaxft.train import state as states
from flaxft.train import step as steps
from flaxft.train.step import TrainStep
from tests import tiny

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def rates(num_steps: int, **fields: float | str) -> list[float]:
    schedule = make_schedule(Optim(**{"learning_rate": 1.0, "warmup": 0.1} | fields), num_steps)  # type: ignore[arg-type]
    return [float(schedule(step)) for step in range(num_steps + 1)]


# ---- schedules ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "linear"}, {10: 1.0, 55: 0.5, 99: 1 / 90, 100: 0.0}),
        ({"schedule": "linear", "end_factor": 0.1}, {10: 1.0, 55: 0.55, 100: 0.1}),
        ({"schedule": "cosine"}, {10: 1.0, 55: 0.5, 40: 0.5 * (1 + math.cos(math.pi / 3)), 100: 0.0}),
        ({"schedule": "cosine", "end_factor": 0.2}, {10: 1.0, 55: 0.6, 100: 0.2}),
        ({"schedule": "polynomial"}, {10: 1.0, 55: 0.25, 100: 0.0}),
        ({"schedule": "polynomial", "power": 1.0}, {55: 0.5}),
        ({"schedule": "polynomial", "end_factor": 0.5}, {55: 0.625, 100: 0.5}),
        ({"schedule": "constant"}, {10: 1.0, 55: 1.0, 100: 1.0}),
    ],
)
def test_schedules_at_key_steps(fields, expected):
    """100 steps, of which 10 warm up: 0.1, 0.2, ... 1.0, and then the schedule from its peak."""
    found = rates(100, warmup=0.1, **fields)
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_allclose([found[step] for step in expected], list(expected.values()), atol=1e-6)
    assert all(after <= before + 1e-7 for before, after in itertools.pairwise(found[9:]))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1, 4, 100])
def test_the_first_step_moves_and_none_exceeds_the_peak(schedule, warmup):
    found = rates(100, schedule=schedule, warmup=warmup)[:-1]
    assert 0 < found[0] <= 1
    assert max(found) == pytest.approx(1)
    assert all(rate > 0 for rate in found)


def test_warmup_as_fraction_and_as_steps():
    assert rates(50, warmup=0.2) == rates(50, warmup=10)
    assert rates(50, warmup=0.0)[0] == rates(50, warmup=1)[0] == 1.0  # one step of warmup is over at once
    assert rates(3, warmup=0.1)[0] == 1.0  # a tenth of three steps is none
    np.testing.assert_allclose(rates(4, warmup=4)[:4], [0.25, 0.5, 0.75, 1.0])


def test_warmup_longer_than_the_run():
    with pytest.raises(UserError, match=r"optim.warmup is 11 steps of 10 in all; give at most 10, or a fraction below 1"):
        make_schedule(Optim(learning_rate=1.0, warmup=11), 10)
    make_schedule(Optim(learning_rate=1.0, warmup=11), 0)  # a run that trains nothing


def test_a_schedule_is_the_same_inside_jit():
    schedule = make_schedule(Optim(schedule="cosine", learning_rate=1.0, warmup=0.1), 100)
    inside = jax.jit(jax.vmap(schedule))(jnp.arange(100))
    np.testing.assert_allclose(inside, [float(schedule(step)) for step in range(100)], atol=1e-6)


# ---- the decay mask -------------------------------------------------------------------------------------------------------------------------------


def test_decay_mask_of_a_whole_model(tmp_path):
    cfg = tiny.config(tmp_path)
    cfg.task.labels = ("O", "B-PER")
    params = cfg.model.load(cfg.model.open(), cfg.task.head, reuse_head=False, seed=0).params
    mask = flatten(decay_mask(params))
    assert len(mask) == len(flatten(params)) > 30
    for path, decays in mask.items():
        assert decays == path.endswith(("kernel", "embedding")), path
    assert sum(decays for decays in mask.values()) == 3 + 6 * 2 + 1  # embeddings, six kernels a layer, the head
    assert {path.rpartition("/")[2] for path, decays in mask.items() if not decays} == {"bias", "scale"}


def test_decay_mask_looks_at_whole_names():
    params = {"bias": 0, "a": {"scale": 0, "biased": 0, "rescale": 0, "kernel": 0}, "scale": {"kernel": 0}, "bias_kernel": 0}
    decays = {"bias": False, "a": {"scale": False, "biased": True, "rescale": True, "kernel": True}, "scale": {"kernel": True}, "bias_kernel": True}
    assert decay_mask(params) == decays


# ---- AdamW ----------------------------------------------------------------------------------------------------------------------------------------

OPTIM = Optim(learning_rate=1e-2, weight_decay=0.1, warmup=3, clip_norm=1.0, schedule="linear")
SHAPES = {"kernel": (4, 3), "bias": (3,), "scale": (3,), "embedding": (7, 4)}


def problem() -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Parameters, and gradients of ten steps: some are clipped, some are not."""
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    sizes = [10.0, 0.01, 1.0, 0.1, 5.0, 0.2, 100.0, 0.05, 1.0, 0.001]
    return params, [{name: (size * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()} for size in sizes]


def ours(optim: Optim) -> list[dict[str, np.ndarray]]:
    """Parameters after each of the ten steps."""
    params, gradients = problem()
    tx = make_tx(optim, make_schedule(optim, 10))
    state, found = tx.init(params), []
    for step, gradient in enumerate(gradients):
        updates, state = tx.update(gradient, state, params, step=jnp.int32(step), finite=True)
        params = optax.apply_updates(params, updates)
        found.append({name: np.asarray(array) for name, array in params.items()})
    return found


@needs_torch
@pytest.mark.parametrize("clip_norm", [1.0, 0.0])
def test_equals_torch_adamw(clip_norm):
    import torch

    params, gradients = problem()
    tensors = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in params.items()}
    groups = [
        {"params": [tensors["kernel"], tensors["embedding"]], "weight_decay": OPTIM.weight_decay},
        {"params": [tensors["bias"], tensors["scale"]], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=OPTIM.learning_rate, betas=(OPTIM.b1, OPTIM.b2), eps=OPTIM.eps)
    schedule = make_schedule(OPTIM, 10)
    found = ours(Optim(**vars(OPTIM) | {"clip_norm": clip_norm}))
    for step, gradient in enumerate(gradients):
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradient[name])
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(list(tensors.values()), clip_norm)
        for group in adamw.param_groups:
            group["lr"] = float(schedule(step))
        adamw.step()
        for name, tensor in tensors.items():
            np.testing.assert_allclose(found[step][name], tensor.detach().numpy(), atol=1e-6, rtol=0, err_msg=f"step {step}, {name}")


def test_equals_optax_adamw():
    params, gradients = problem()
    adamw = optax.adamw(make_schedule(OPTIM, 10), b1=OPTIM.b1, b2=OPTIM.b2, eps=OPTIM.eps, weight_decay=OPTIM.weight_decay, mask=decay_mask)
    tx = optax.chain(optax.clip_by_global_norm(OPTIM.clip_norm), adamw)
    state = tx.init(params)
    for found, gradient in zip(ours(OPTIM), gradients, strict=True):
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for name, array in params.items():
            np.testing.assert_allclose(found[name], array, atol=1e-6, rtol=0)


# ---- steps that are not finite --------------------------------------------------------------------------------------------------------------------


def toy(num_steps: int = 10):
    """A step on one matrix, with a batch that may poison the loss or the gradient alone."""

    def loss_fn(params, frozen, batch, rng):
        loss = jnp.sum((batch["input_ids"] @ params["kernel"] - 1) ** 2)
        return {"toy": (loss * batch["loss"] + jnp.sum(jnp.sqrt(params["bias"] * batch["gradient"])), jnp.float32(len(batch["input_ids"])))}

    schedule = make_schedule(OPTIM, num_steps)
    tx = make_tx(OPTIM, schedule)
    params = {"kernel": jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)), jnp.float32), "bias": jnp.ones(())}
    graphdef, _ = nnx.split(nnx.Module())
    mesh = make_mesh(Mesh())
    state = states.create(graphdef, params, tx)
    shardings = infer(state, (), mesh)
    compiled, state = TrainStep(loss_fn, tx, seed=0, shardings=shardings), put(state, shardings)
    compiled.compile(state, batch())
    compiled.compile_update(state)

    def step(state, batch):
        return compiled(jax.tree.map(jnp.copy, state), [batch])  # a copy, because it takes the state's memory

    return step, state, tx, schedule


def batch(*, loss: float = 1.0, gradient: float = 1.0) -> dict[str, jax.Array]:
    numbers = {"input_ids": np.arange(12.0, dtype=np.float32).reshape(4, 3), "loss": np.float32(loss), "gradient": np.float32(gradient)}
    return put(numbers | {"example_start": np.zeros((4, 1), np.int32)}, replicated(make_mesh(Mesh())))


def bits(tree: object) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("poison", [{"loss": math.nan}, {"loss": math.inf}, {"loss": -math.inf}, {"gradient": 0.0}, {"gradient": -1.0}])
def test_a_skipped_step_leaves_every_bit(poison):
    """The square root of 0 has a finite value and an infinite slope: gradients count as well as the loss."""
    step, state, tx, schedule = toy()
    before, metrics = step(state, batch())
    assert int(metrics["num_nonfinite"]) == 0
    skipped, metrics = step(before, batch(**poison))
    assert bits((skipped.params, skipped.opt_state)) == bits((before.params, before.opt_state))
    assert int(skipped.step) == 2 and int(skipped.num_nonfinite) == 1 == int(metrics["num_nonfinite"])
    again, _ = step(skipped, batch(**poison))
    assert int(again.num_nonfinite) == 2
    # the next sound step takes the rate of its own number, and the count in a row begins anew
    after, metrics = step(again, batch())
    assert int(after.step) == 4 and int(metrics["num_nonfinite"]) == 0
    gradient = jax.grad(lambda params: (jnp.sum((batch()["input_ids"] @ params["kernel"] - 1) ** 2) + jnp.sqrt(params["bias"])) / 4)(before.params)
    updates, _ = tx.update(gradient, before.opt_state, before.params, step=jnp.int32(3), finite=True)
    expected = optax.apply_updates(before.params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after.params, expected)
    assert float(schedule(3)) != float(schedule(1))


def poison_steps(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """Loss and gradients of the steps numbered from 1 in `bad` become NaN; a step is known by its random key."""
    make = steps.make_loss_fn

    def make_loss_fn(task, graphdef):
        inner = make(task, graphdef)

        def loss_fn(params, frozen, batch, rng):
            keys = jnp.stack([jax.random.key_data(steps._rng(0, jnp.int32(number - 1), 0)) for number in sorted(bad)])
            is_bad = (keys == jax.random.key_data(rng)).all(-1).any()
            return {name: (total * jnp.where(is_bad, jnp.nan, 1.0), weight) for name, (total, weight) in inner(params, frozen, batch, rng).items()}

        return loss_fn

    monkeypatch.setattr(loop, "make_loss_fn", make_loss_fn)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("inputs")
    tiny.config(made)
    return made


def test_fewer_than_five_in_a_row_go_on(folder, tmp_path, monkeypatch):
    """Twice four, with one sound step between them; they are counted, and logged with the rate of their step."""
    bad = {2, 3, 4, 5, 7, 8, 9, 10}
    poison_steps(monkeypatch, bad)
    results = loop.run(tiny.config(folder, **{"checkpoint.every": 3}), tmp_path / "run")
    assert results["steps"] == 16 and results["skipped_steps"] == 8
    losses = tiny.losses(tmp_path / "run")
    assert {number for number, loss in losses.items() if loss is None} == bad
    assert not (tmp_path / "run" / "nonfinite.json").exists()


@pytest.mark.parametrize("log_every", [1, 4, 20])
def test_five_in_a_row_stop_the_run(folder, tmp_path, monkeypatch, log_every):
    """Also where sound steps follow before the next log line: the steps that are named are those that were skipped."""
    poison_steps(monkeypatch, {3, 4, 5, 6, 7})
    with pytest.raises(NonFiniteError, match=r"not finite in steps 3 to 7; their examples are in .*nonfinite.json; lower optim.learning_rate") as caught:
        loop.run(tiny.config(folder, **{"log.every": log_every}), tmp_path / "run")
    assert caught.value.exit_code == errors.NON_FINITE == 3
    places = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert list(places) == ["3", "4", "5", "6", "7"]
    starts = {str(number) for number, line in enumerate((folder / "train.conll").read_text().split("\n"), 1)}
    named = [place for step in places.values() for place in step]
    assert len(named) == 5 * 8
    assert all(place.rpartition(":")[0] == str(folder / "train.conll") and place.rpartition(":")[2] in starts for place in named)


def test_the_command_ends_with_code_3(folder, tmp_path, capsys):
    """A task of the user's own, in the config file, whose loss is never a number."""
    file = tmp_path / "config.py"
    file.write_text(f"""
from __future__ import annotations
import dataclasses
from pathlib import Path
import jax.numpy as jnp
from flaxft.tasks.token_classification import TokenClassification
from tests import tiny

@dataclasses.dataclass
class Poisoned(TokenClassification):
    factor: float = 1.0

    def loss(self, outputs, batch):
        return {{name: (total * jnp.nan, weight) for name, (total, weight) in super().loss(outputs, batch).items()}}

def get_config():
    cfg = tiny.config(Path({str(folder)!r}))
    cfg.task = Poisoned(**vars(cfg.task))
    return cfg
""")
    assert main([f"--config={file}", f"--workdir={tmp_path / 'run'}", "--config.log.every=1"]) == errors.NON_FINITE
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: loss or gradients were not finite in steps 1 to 5") and stderr.count("\n") == 1
    assert list(json.loads((tmp_path / "run" / "nonfinite.json").read_text())) == ["1", "2", "3", "4", "5"]
    assert not (tmp_path / "run" / "results.json").exists()
