"""A classifier over the mean of tokens, as sentence-transformers and plain PyTorch read it."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest

import flaxft
from flaxft.errors import UserError
from flaxft.export import base, hf, reference, sentence_transformers
from flaxft.models.base import flatten
from flaxft.tasks.multilabel_classification import MultiLabelClassification
from tests.export.untrained import untrained

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@needs_torch
def test_its_logits_are_ours(tmp_path):
    """By the card's own code for plain PyTorch, and by sentence-transformers where it is installed."""
    given = untrained(tmp_path, "multilabel_classification", pooling="mean")
    folder = tmp_path / "out"
    folder.mkdir()
    lines = sentence_transformers.write(given, folder)
    report = json.loads((folder / "parity.json").read_text())
    assert report["passed"]
    assert report["num_examples"] >= 8
    assert "encode(texts) gives the logits" in lines[-1]
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert list(config["id2label"].values()) == list(given.predictor.task.labels)

    texts = ["anna lives in paris .", "the old corp is red"]
    tokens = [(ids, np.zeros_like(ids)) for ids in (given.predictor.tokenizer.wrap(given.predictor.tokenizer.text(text)[0]) for text in texts)]
    ours = reference.logits_of(given.predictor, given.predictor.params)(reference.inputs(tokens, num_rows=2, length=16))
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.S)[1]
    code = code.replace('"DIRECTORY', f'"{folder}').replace('["a text", "another"]', repr(texts))
    assert code.count(str(folder)) == 3
    names: dict = {}
    exec(code, names)  # noqa: S102 (what the card says is run as it stands)
    np.testing.assert_allclose(names["logits"].numpy(), ours, atol=1e-5)

    read = flaxft.load(str(folder), task=MultiLabelClassification())  # and flaxft itself, which takes names and pooling from the directory
    assert (read.task.kind, read.task.labels) == ("mean_sequence", given.predictor.task.labels)
    for path, leaf in flatten(given.predictor.params).items():
        np.testing.assert_array_equal(flatten(read.params)[path], leaf)

    package = pytest.importorskip("sentence_transformers")
    theirs = package.SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_other_heads_have_a_class(tmp_path):
    with pytest.raises(UserError, match="export this one with --target=hf"):
        sentence_transformers.write(untrained(tmp_path, "sequence_classification"), tmp_path)


def test_transformers_has_no_class_for_it(tmp_path):
    given = untrained(tmp_path, "sequence_classification", pooling="mean")
    with pytest.raises(UserError, match=r"^transformers has no bert class with a 'mean_sequence' head, .*--target=stablehlo, onnx .*sentence_transformers"):
        hf.write(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_is_taken_where_transformers_has_no_class_and_needs_no_torch(tmp_path, monkeypatch):
    given = untrained(tmp_path, "sequence_classification", pooling="mean")
    assert base.default_target(given.predictor.task.kind, given.predictor.encoder) == "sentence_transformers"
    assert base.default_target("sequence", given.predictor.encoder) == "hf"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = tmp_path / "out"
    folder.mkdir()
    sentence_transformers.write(given, folder)
    report = json.loads((folder / "parity.json").read_text())
    assert report["passed"] and "torch is not installed" in report["reader"]
