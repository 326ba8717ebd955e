"""A classifier that sees the mean of a text's tokens, as sentence-transformers loads it: encoder, mean, and a dense layer whose outputs are the logits.

transformers itself has no class for such a head. Its encoder reads the directory all the same, and the card says the two lines of the rest.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from flaxft import files
from flaxft.data.tokenize import save_tokenizer
from flaxft.errors import UserError
from flaxft.export import card, reference
from flaxft.export.base import Run
from flaxft.export.hf import BOUND, REPORT, STORED, finish_tokenizer, quiet, read_back, store, tokenizer_differences
from flaxft.export.reference import INPUTS, Inputs, Logits
from flaxft.models import hf
from flaxft.models.base import Encoder
from flaxft.models.modules import write_modules
from flaxft.predict import Predictor

KIND = "mean_sequence"  # of the head that is written
DENSE = "2_Dense/model.safetensors"


def fits(kind: str, encoder: Encoder) -> bool:
    """Whether this layout has a place for a head of this kind."""
    return kind == KIND


def write(run: Run, folder: Path) -> list[str]:
    """Fills `folder`; returns lines that tell of it. Raises UserError."""
    predictor, task = run.predictor, run.predictor.task
    if task.kind != KIND:
        raise UserError("--target=sentence_transformers is for heads that see the mean of the tokens (task.pooling=mean); export this one with --target=hf")
    config = json.loads((predictor.model / "config.json").read_text(encoding="utf-8"))
    hf.write(folder, predictor.params, predictor.encoder, config, kind=hf.HEADLESS, labels=task.labels, problem_type=task.problem_type)
    save_tokenizer(predictor.tokenizer, predictor.model, folder)
    finish_tokenizer(predictor, folder)
    sizes = {"size": predictor.encoder.hidden_size, "max_length": predictor.data.max_length}
    write_modules(folder, pooling="mean", normalize=False, similarity="cosine", dense=predictor.params["head"]["classifier"], **sizes)
    report = _parity(run, folder)
    files.write_json(folder / REPORT, report)
    (folder / "README.md").write_text(card.render(run, report, dtype="float32", stored=STORED), encoding="utf-8")
    how = 'SentenceTransformer(FOLDER).encode(texts) gives the logits, whose names are in config.json; AutoModelForSequenceClassification would make a new head'
    return [reference.sentence(report), how]


def _parity(run: Run, folder: Path) -> dict[str, Any]:
    """Compares what PyTorch computes from the directory with our logits; stores some of ours, for whoever checks later."""
    predictor = run.predictor
    found = reference.examples(predictor, run.workdir)
    ours = reference.logits_of(predictor, predictor.params)
    with quiet():
        reader, theirs = _pytorch(predictor, folder) if importlib.util.find_spec("torch") else read_back(predictor, folder)
        difference = reference.compare(found.tokens, ours, theirs, kind=KIND)
        num_texts, num_different = tokenizer_differences(predictor, folder, found.texts)
    return reference.report(found, difference, reader=reader, bound=BOUND) | {
        "class": f"{predictor.encoder.architectures[hf.HEADLESS]}, the mean over tokens and {DENSE}",
        "tokenizer": {"num_texts": num_texts, "num_different": num_different},
        "stored_examples": store(predictor, ours, folder / STORED),
    }


def _pytorch(predictor: Predictor, folder: Path) -> tuple[str, Logits]:
    """What reads it, and its logits, in float32: the three modules one after the other, as sentence-transformers has them."""
    import torch
    import transformers
    from safetensors.torch import load_file

    name = predictor.encoder.architectures[hf.HEADLESS]
    model = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    dense = load_file(folder / DENSE)

    def logits(given: Inputs) -> np.ndarray:
        tensors = {name: torch.tensor(given[name], dtype=torch.long) for name in INPUTS}
        with torch.no_grad():
            mask = tensors["attention_mask"][..., None].float()
            mean = (model(**tensors).last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.linear(mean, dense["linear.weight"], dense["linear.bias"]).numpy()

    return f"transformers {transformers.__version__}, torch {torch.__version__}", logits
