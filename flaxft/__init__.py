"""flaxft fine-tunes BERT-family encoders in JAX: `python -m flaxft.main --config=configs/ner.py`.

From Python: `flaxft.finetune(df, text="body", label="queue")` trains on data in memory and returns the predictor; `cfg = flaxft.config("ner")` is a config,
`flaxft.run(cfg, workdir)` trains it, `flaxft.load(workdir).predict([...])` applies the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxft import runtime
from flaxft.version import VERSION as __version__

if TYPE_CHECKING:
    from flaxft.config import Config
    from flaxft.finetuning import finetune
    from flaxft.predict import Predictor
    from flaxft.sharding import Mesh
    from flaxft.tasks.base import Task
    from flaxft.train.callbacks import Callback
    from flaxft.train.evaluate import Metric

__all__ = ["Callback", "__version__", "finetune", "load", "run", "runtime"]


def run(
    cfg: Config, workdir: str | Path, *, callbacks: Sequence[Callback] = (), metrics: Mapping[str, Metric] | None = None
) -> dict[str, Any]:  # fmt: skip
    """Trains `cfg` in `workdir` and returns what results.json holds; see `flaxft.train.loop.run`."""
    from flaxft.train.loop import run as run_loop

    return run_loop(cfg, workdir, callbacks=callbacks, metrics=metrics)


def load(
    path: str | Path, *, task: Task | None = None, types: Sequence[type] = (), mesh: Mesh | None = None, dtype: str | None = None
) -> Predictor:
    """The `Predictor` of a finished run, or with a `task` of a fine-tuned model directory or hub id; see `flaxft.predict.load`."""
    from flaxft.predict import load as load_predictor

    return load_predictor(path, task=task, types=types, mesh=mesh, dtype=dtype)


def __getattr__(name: str) -> Any:
    """What takes a while to import, when it is asked for: `flaxft.finetune`, `flaxft.Callback`, and `flaxft.config("intent")` without an import before it."""
    if name == "config":
        import flaxft.config as config

        return config
    if name == "finetune":
        from flaxft.finetuning import finetune

        return finetune
    if name == "Callback":
        from flaxft.train.callbacks import Callback

        return Callback
    raise AttributeError(f"module 'flaxft' has no attribute {name!r}")
