"""The files of transformers 4's Flax models, for those who still run on it: config.json and flax_model.msgpack."""

from __future__ import annotations

import json
from pathlib import Path

from flaxft.data.tokenize import save_tokenizer
from flaxft.export.base import Run
from flaxft.models import hf


def write(run: Run, folder: Path) -> list[str]:
    """Fills `folder`; returns lines that tell of it. Raises UserError."""
    predictor, task = run.predictor, run.predictor.task
    config = json.loads((predictor.model / "config.json").read_text(encoding="utf-8"))
    hf.write_flax(folder, predictor.params, predictor.encoder, config, kind=task.kind, labels=task.labels, problem_type=task.problem_type)
    save_tokenizer(predictor.tokenizer, predictor.model, folder)
    return [f"read it with Flax{predictor.encoder.architectures[task.kind]}.from_pretrained of transformers 4 (the last is 4.57)"]
