"""Where the contract tests find every task: `flaxft/tasks/X.py` with `tests/tasks/test_X.py`, whose `example(folder)` gives the task on 8 records."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import flaxft.tasks
from flaxft.data.items import build_items
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.data.tokenize import load_tokenizer
from flaxft.models.base import flatten
from tests import tiny

BOUND = 1e-5
FAMILIES = sorted(file.stem for file in Path(flaxft.tasks.__file__).parent.glob("*.py") if file.stem not in ("__init__", "base"))


def overconfident(num: int, num_labels: int, *, sharpness: float = 4.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that claim more than is true, (num, num_labels), with the labels: drawn from softmax(logits), told as softmax(sharpness * logits)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, num_labels))
    honest, told = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, sharpness * logits))
    return told, (rng.random(num)[:, None] > honest.cumsum(1)[:, :-1]).sum(1)


def check_temperature(task: Any, decoded: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
    """That a task fits the temperature of `overconfident` scores and tells what it changes."""
    calibration = task.calibrate(decoded, records)
    assert abs(calibration["temperature"] / 4.0 - 1.0) <= 0.35
    calibrated = [task.calibrated(one, calibration) for one in decoded]
    assert [one["label"] for one in calibrated] == [one["label"] for one in decoded]
    assert all(1 / len(one["scores"]) <= one["confidence"] <= one["score"] for one in calibrated)
    scores = task.score(calibrated, records, calibration)
    assert scores["ece/confidence"] < 0.5 * scores["ece/score"]
    main = task.main_metric
    assert scores[f"{main}/low"] < scores[main] < scores[f"{main}/high"]
    plain = [task.calibrated(one, {}) for one in decoded]
    assert all("confidence" not in one for one in plain)
    assert "ece/confidence" not in task.score(plain, records, {})


def example(family: str, folder: Path) -> Any:
    """The task of a family, its train and validation splits being the same 8 records in `folder`."""
    module = importlib.import_module(f"tests.tasks.test_{family}")
    assert hasattr(module, "example"), f"tests/tasks/test_{family}.py needs example(folder): the contract tests run on it"
    return module.example(folder)


def prepare(folder: Path, family: str, *, settings: Mapping[str, Any] | None = None, **changes: Any) -> tuple[Any, Any, Any, Any]:
    """Config, resolved task, items and model of a family's example, as a run would have them. settings: of the task; changes: of the config."""
    cfg = tiny.config(folder, **changes)
    cfg.task = dataclasses.replace(example(family, folder), **settings or {})
    checkpoint = cfg.model.open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
    task = cfg.task.resolve(tokenizer, checkpoint)
    items = build_items(task.records("train"), task, tokenizer, max_length=32, key="contract", cache=folder / "cache")
    return cfg, task, items, cfg.model.load(checkpoint, task.head, reuse_head=False, seed=0)


def program(task, loaded):
    """What `compute` runs: of parameters and a batch, ((loss, (predictions, weights)), gradients). Who computes several times compiles it once."""

    @jax.jit
    def of_batch(params, batch):
        def loss_fn(params):
            outputs = nnx.merge(loaded.graphdef, params)(batch)
            terms = task.loss(outputs, batch)
            return sum(total for total, _ in terms.values()), (task.predict(outputs, batch), {name: weight for name, (_, weight) in terms.items()})

        return jax.value_and_grad(loss_fn, has_aux=True)(params)

    return of_batch


def compute(task, items, loaded, *, row_length, num_slots, num_rows, of_batch=None):
    """Total loss, gradients, and each feature's predictions, over all items in batches of one shape."""
    of_batch = of_batch or program(task, loaded)
    total, gradients, weights, found = 0.0, None, 0.0, {}
    for batch in Pipeline(items, task.spec(), seed=0).once(Shape(row_length=row_length, num_slots=num_slots, num_rows=num_rows)):
        (loss, (predictions, weight)), gradient = of_batch(loaded.params, batch)
        total, weights = total + float(loss), weights + sum(map(float, weight.values()))
        gradients = gradient if gradients is None else jax.tree.map(jax.numpy.add, gradients, gradient)
        for r, s in zip(*np.nonzero(batch["example_weight"]), strict=True):
            number, start = int(batch["example_id"][r, s]), int(batch["example_start"][r, s])
            along_t = {name: np.asarray(array)[r, start : start + items.lengths[number]] for name, array in predictions.get("T", {}).items()}
            found[number] = along_t | {name: np.asarray(array)[r, s] for name, array in predictions.get("S", {}).items()}
    return total, weights, {path: np.asarray(leaf) for path, leaf in flatten(gradients).items()}, found
