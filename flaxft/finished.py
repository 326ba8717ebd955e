"""A run as it lies in its workdir: its config, its best step and the weights of that, for predicting and for another run that goes on from there."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxft import config as configs
from flaxft.checkpoint import Checkpointer
from flaxft.errors import DamagedError, UserError
from flaxft.models.base import Modules, flatten
from flaxft.models.weights import Stored
from flaxft.tasks.base import Pools

CONFIG_CAP = 64 << 20  # bytes; a run's config.json may hold a vocabulary
CONFIG, MODEL, CHECKPOINTS = "config.json", "model", "checkpoints"


class Best(NamedTuple):
    """The step whose weights a run ended with."""

    step: int
    calibration: dict[str, float]


class Finished(NamedTuple):
    """What another run needs of a run to begin from it. Where its task is a class of the user's own, the encoder alone is known: no kind, no labels."""

    model: Path  # the folder of the encoder's config.json and of the tokenizer
    kind: str | None
    labels: tuple[str, ...] | None
    changes: dict[str, Any]  # of the encoder's config.json
    modules: Modules | None
    is_sentence_encoder: bool  # its head sees the mean of a text's tokens
    arrays: dict[str, Stored]  # of the best step, by path
    digest: str  # of the best step, every file of it included


def is_run(directory: Path) -> bool:
    """Whether a directory is the workdir of a run, and not a model directory, which has a config.json too."""
    try:
        if (directory / CONFIG).stat().st_size > CONFIG_CAP:
            return False
        content = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"config", "facts"} <= set(content)


def find_best(workdir: Path) -> tuple[Checkpointer, Best]:
    """What the newest readable step says of the best one. Raises UserError where nothing is saved, DamagedError."""
    checkpointer = Checkpointer(workdir / CHECKPOINTS, keep=1, is_first_process=False)
    steps = checkpointer.steps()
    if not steps:
        raise UserError(f"{workdir} holds no checkpoint yet; train first, or give another --workdir")
    for step in reversed(steps):
        try:
            best = checkpointer.host(step)["best"] or {"step": step, "calibration": None}
            return checkpointer, Best(best["step"], best["calibration"] or {})
        except DamagedError as error:
            logging.getLogger("flaxft").warning("%s; falling back to the step before", error)
    raise DamagedError(f"{workdir}: all {len(steps)} checkpoints are damaged; restore one from a copy, or start a new workdir")


def restore(checkpointer: Checkpointer, best: Best, like: Any) -> Any:
    """The params of the best step. Raises DamagedError."""
    try:
        return checkpointer.restore(best.step, {"params": like})["params"]
    except DamagedError as error:
        raise DamagedError(f"{error}; it holds the best weights: restore it from a copy, or train again in a new workdir") from None


def model_folder(workdir: Path) -> Path:
    """Raises UserError where it is gone."""
    model = workdir / MODEL
    if not (model / CONFIG).is_file():
        raise UserError(f"{model / CONFIG}: no such file; restore it, or start a new workdir")
    return model


def open_run(workdir: Path) -> Finished:
    """A run to begin from. No array is read yet. Raises UserError, DamagedError."""
    checkpointer, best = find_best(workdir)
    model = model_folder(workdir)
    shapes = checkpointer.shapes(best.step)["params"]
    read = functools.cache(lambda: flatten(restore(checkpointer, best, jax.tree.map(_on_host, shapes))))
    arrays = {path: Stored(path, tuple(leaf.shape), functools.partial(_array, read, path)) for path, leaf in flatten(shapes).items()}
    task = _task(workdir / CONFIG)
    pools = Modules(task.pooling, task.normalize, others=()) if isinstance(task, Pools) else None
    problem_type = getattr(task, "problem_type", None)
    return Finished(
        model=model,
        kind=getattr(task, "kind", None),
        labels=tuple(getattr(task, "labels", ())) or None,
        changes={"problem_type": problem_type} if problem_type else {},
        modules=pools,
        is_sentence_encoder=getattr(task, "pooling", None) == "mean",
        arrays=arrays,
        digest=checkpointer.digest(best.step),
    )


def _task(file: Path) -> Any:
    """The resolved task; None where it is of the user's own class, which a file may not name."""
    try:
        return configs.from_json(json.loads(file.read_text(encoding="utf-8"))["config"]["task"], str(file))
    except (UserError, KeyError, TypeError):
        return None


def _on_host(leaf: Any) -> jax.ShapeDtypeStruct:
    device = jax.local_devices(backend="cpu")[0]
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(device))


def _array(read: Any, path: str) -> np.ndarray:
    return np.asarray(read()[path])
