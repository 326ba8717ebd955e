"""What the export tests export: every task family's example, with the head that chance made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from flaxft.data.tokenize import load_tokenizer
from flaxft.export.base import Run
from flaxft.predict import Predictor
from flaxft.sharding import infer, make_mesh, put
from tests.tasks.contract import prepare

AUTO = {
    "token_classification": "AutoModelForTokenClassification",
    "sequence_classification": "AutoModelForSequenceClassification",
    "multilabel_classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "relation_classification": "AutoModelForSequenceClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "multiple_choice": "AutoModelForMultipleChoice",
    "masked_lm": "AutoModelForMaskedLM",
    "sentence_embedding": "AutoModel",
}


def untrained(folder: Path, family: str, **settings: Any) -> Run:
    """The family's example with the head that chance made: nothing is trained, for that is slow and shows no more."""
    cfg, task, _, _ = prepare(folder, family)
    task = dataclasses.replace(task, validation=task.train, test=task.train, **settings)
    mesh = make_mesh(cfg.mesh)
    tokenizer = load_tokenizer(folder / "encoder", vocab_size=128, max_length=64)
    loaded = cfg.model.load(cfg.model.open(), task.head, reuse_head=False, seed=0)
    if family == "masked_lm":  # the tiny encoder has more embeddings than the tokenizer pieces
        bias = loaded.params["head"]["cls"]["predictions"]["bias"]
        loaded.params["head"]["cls"]["predictions"]["bias"] = bias.at[len(tokenizer.pieces) :].set(-100.0)
    loaded = loaded._replace(params=put(loaded.params, infer(loaded.params, loaded.encoder.sharding, mesh)))
    return Run(Predictor(task, tokenizer, loaded, model=folder / "encoder", mesh=mesh, data=cfg.data, calibration={}, step=0), folder)
