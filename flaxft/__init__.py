"""flaxft fine-tunes BERT-family encoders in JAX: `python -m flaxft.main --config=configs/ner.py`.

From Python: `cfg = flaxft.config("ner")` is a config, `flaxft.run(cfg, workdir)` trains it, `flaxft.load(workdir).predict([...])` applies the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxft import runtime
from flaxft.version import VERSION as __version__

if TYPE_CHECKING:
    from flaxft.predict import Predictor
    from flaxft.sharding import Mesh
    from flaxft.tasks.base import Task

__all__ = ["__version__", "load", "run", "runtime"]


def run(cfg: Any, workdir: str) -> dict[str, Any]:
    """Trains `cfg` in `workdir` and returns what results.json holds; see `flaxft.train.loop.run`."""
    from flaxft.train.loop import run as run_loop

    return run_loop(cfg, workdir)


def load(
    path: str | Path, *, task: Task | None = None, types: Sequence[type] = (), mesh: Mesh | None = None, dtype: str | None = None
) -> Predictor:
    """The `Predictor` of a finished run, or with a `task` of a fine-tuned model directory or hub id; see `flaxft.predict.load`."""
    from flaxft.predict import load as load_predictor

    return load_predictor(path, task=task, types=types, mesh=mesh, dtype=dtype)


def __getattr__(name: str) -> Any:
    """`flaxft.config("intent")` without an import before it; see `flaxft.config.from_file`."""
    if name != "config":
        raise AttributeError(f"module 'flaxft' has no attribute {name!r}")
    import flaxft.config as config

    return config
