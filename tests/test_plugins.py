"""The core names no concrete task or model, so a new one is one file more and no change elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "flaxft"
SHARED = {"__init__", "base", "hf", "heads", "modules", "weights"}  # files of a plug-in folder that are not plug-ins
FOLDERS = ("tasks", "models", "peft", "methods")
PLUGINS = sorted(path.stem for folder in FOLDERS for path in (PACKAGE / folder).glob("*.py") if path.stem not in SHARED)
MODULES = (
    *("main", "config", "optim", "sharding", "checkpoint", "processes", "watchdog", "log", "predict", "report", "figures", "compare"),
    *("command", "config_file", "fields", "flags", "guess", "help", "plugins"),
)
CORE = sorted(path for pattern in ("train/*", "data/*", "loggers/*", *MODULES) for path in PACKAGE.glob(f"{pattern}.py"))

# ---- no names in the core -----------------------------------------------------------------------------------------------------------------------


def spellings(plugins: list[str]) -> set[str]:
    """File names and the class names made of them: token_classification, TokenClassification."""
    return {*plugins, *("".join(part.title() for part in name.split("_")) for name in plugins)}


def named(tree: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    """(line, name) where an import, an attribute or a string constant is one of `names`; in a path, dotted or not, where a part of it is."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}  # docstrings
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                words = [alias.name for alias in aliases]
            case ast.ImportFrom(module=module, names=aliases):
                words = [module or "", *(alias.name for alias in aliases)]
            case ast.Attribute(attr=attribute):
                words = [attribute]
            case ast.Constant(value=str(text)) if id(node) not in prose:
                words = [text]
            case _:
                continue
        yield from ((node.lineno, part) for word in words for part in re.split(r"[./:]", word) if part in names)


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_core_names_no_plugin(path):
    assert list(named(ast.parse(path.read_text(encoding="utf-8")), spellings(PLUGINS))) == []


def test_there_is_something_to_look_for():
    assert "bert" in PLUGINS
    assert CORE


@pytest.mark.parametrize(
    "text",
    [
        "from flaxft.models.bert import Bert as Any",
        "from flaxft.models import bert",
        "import flaxft.models.bert",
        "models.bert",
        "if model_type == 'bert': ...",
        "f'{bert}/bert.py'",
        "if type(model).__name__ == 'Bert': ...",
        "table = {'bert': 1}",
    ],
)
def test_a_name_is_found(text):
    assert {line for line, _ in named(ast.parse(text), spellings(["bert"]))} == {1}


@pytest.mark.parametrize("text", ['"""bert"""', "# bert\nx = 1", "f('as bert-base-cased')", "def f():\n    'bert'\n", "import flaxft.models.base"])
def test_prose_is_no_name(text):
    assert list(named(ast.parse(text), spellings(["bert"]))) == []


# ---- a plug-in from outside ---------------------------------------------------------------------------------------------------------------------
# Here belongs the proof: a task written to tmp_path trains, evaluates and predicts while no file of flaxft changes.


PLUGIN = '''
"""Whole-sentence classification with a head of its own: everything that a task is, in one file outside the package."""
from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxft.data.base import Features, Field
from flaxft.data.source import open_source
from flaxft.models.heads import Linear
from flaxft.ops.losses import cross_entropy


class FirstTokenHead(nnx.Module):
    def __init__(self, size, num_labels, *, rngs):
        self.out = Linear(size, num_labels, stddev=0.02, dtype="float32", rngs=rngs)

    def __call__(self, output, batch, *, deterministic=True, rngs=None):
        rows = jnp.arange(output.hidden.shape[0])[:, None]
        return self.out(output.hidden[rows, batch["example_start"]])  # (R, S, L)


@dataclasses.dataclass
class Mood:
    kind: ClassVar[str] = "mood"
    problem_type: ClassVar[str | None] = None
    decomposes: ClassVar[bool] = True
    train: str = ""
    validation: str = ""
    main_metric: str = "accuracy"
    labels: tuple[str, ...] = ()

    def splits(self):
        return {name: getattr(self, name) for name in ("train", "validation") if getattr(self, name)}

    def records(self, split, *, max_examples=None):
        return open_source(self.splits()[split], split=split, max_examples=max_examples)

    def resolve(self, tokenizer, checkpoint, *, max_examples=None):
        return dataclasses.replace(self, labels=tuple(sorted({record["label"] for record in self.records("train")})))

    def spec(self):
        return {"label": Field("S", (), "int32", -100)}

    def features(self, record, tokenizer, *, max_length):
        ids = tokenizer.wrap(tokenizer.text(record["text"])[0][: max_length - tokenizer.num_special])
        label = self.labels.index(record["label"]) if "label" in record else -100
        return [Features({"input_ids": ids}, {"label": np.int32(label)})]

    def augment(self, features, rng):
        return features

    def head(self, encoder, *, rngs):
        return FirstTokenHead(encoder.hidden_size, len(self.labels), rngs=rngs)

    def loss(self, outputs, batch):
        return {"label": cross_entropy(outputs, batch["label"], ignore=-100)}

    def predict(self, outputs, batch):
        return {"S": {"label": jnp.argmax(outputs, -1)}}

    def decode(self, record, features, predictions):
        return {"text": record["text"], "label": self.labels[int(predictions[0]["label"])]}

    def calibrate(self, decoded, records):
        return {}

    def calibrated(self, decoded, calibration):
        return decoded

    def score(self, decoded, records, calibration):
        return {"accuracy": float(np.mean([one["label"] == record["label"] for one, record in zip(decoded, records)]))}

    def report(self, decoded, records):
        return f"accuracy {self.score(decoded, records, {})['accuracy']:.4f}"
'''

SENTENCES = ("anna works in paris", "bob lives in rome", "the old corp is red", "a new acme at oslo !")


def test_a_task_from_outside_trains_evaluates_and_predicts(tmp_path, monkeypatch, capsys):
    """One new file and one config, and no file of flaxft changes; the labels stand on S, several examples share a row."""
    import json

    import flaxft
    from tests import tiny

    (tmp_path / "mood.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    from mood import Mood  # the file just written

    lines = [
        json.dumps({"text": f"{sentence} {end}", "label": f"mood {i % 2}"}) for i, sentence in enumerate(SENTENCES) for end in (".", "?", "!", "red", "blue")
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    cfg = tiny.config(tmp_path, num_epochs=20, **{"optim.learning_rate": 5e-3}, **tiny.ONCE)
    cfg.task = Mood(train=str(tmp_path / "train.jsonl"), validation=str(tmp_path / "train.jsonl"))
    results = flaxft.run(cfg, str(tmp_path / "run"))
    assert results["evals"]["validation"]["accuracy"] == 1.0
    assert results["compiles_after_start"] == 0
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["shapes"][-1][2] > 1
    found = flaxft.load(str(tmp_path / "run"), types=[Mood]).predict(["anna works in paris ?", "bob lives in rome ?"])
    assert [one["label"] for one in found] == ["mood 0", "mood 1"]
    with pytest.raises(flaxft.errors.UserError, match="types="):
        flaxft.load(str(tmp_path / "run"))
