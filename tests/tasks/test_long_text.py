"""Long texts in tasks of one answer a text: windows count as one record in the loss, in scores and in what is predicted."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest

import flaxft
from flaxft.data.base import IGNORE
from flaxft.data.items import build_items
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.hf import Pretrained
from flaxft.ops.losses import binary_cross_entropy, cross_entropy, weighted_cross_entropy
from flaxft.tasks.multilabel_classification import MultiLabelClassification
from flaxft.tasks.regression import Regression
from flaxft.tasks.sequence_classification import SequenceClassification
from tests import tiny

ONE = SequenceClassification(labels=("neg", "pos"), text_columns=("text",), label_column="label", long_text="windows")
SEVERAL = MultiLabelClassification(labels=("fear", "joy"), text_columns=("text",), label_column="labels", long_text="windows")
NUMBER = Regression(text_columns=("text",), label_column="score", long_text="windows")
RECORD = {"text": "anna works in paris for acme with bob", "label": "pos", "labels": ["joy"], "score": 2.5}
TASKS = {"one label": ONE, "several labels": SEVERAL, "a number": NUMBER}
WEIGHT = {"one label": "window_weight", "several labels": "window_weight", "a number": "label_weight"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("long") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


@pytest.mark.parametrize("name", TASKS)
def test_the_windows_of_a_text_count_as_one(tokenizer, name):
    task = TASKS[name]
    features = task.features(RECORD, tokenizer, max_length=6)
    assert len(features) == 3 and all(set(one.example) == set(task.spec()) for one in features)
    weights = [one.example[WEIGHT[name]] for one in features]
    assert {weight.dtype for weight in weights} == {np.dtype(np.float32)} and np.sum(weights) == pytest.approx(1)
    (short,) = task.features(RECORD | {"text": "red"}, tokenizer, max_length=6)
    assert short.example[WEIGHT[name]] == 1
    head = dataclasses.replace(task, long_text="head")
    assert "window_weight" not in head.spec() and len(head.features(RECORD, tokenizer, max_length=6)) == 1


@pytest.mark.parametrize("name", TASKS)
def test_both_ends_of_a_text(tokenizer, name):
    (one,) = dataclasses.replace(TASKS[name], long_text="head_tail").features(RECORD, tokenizer, max_length=7)
    assert [tokenizer.pieces[i] for i in one.tokens["input_ids"]] == ["[CLS]", "anna", "works", "in", "with", "bob", "[SEP]"]
    assert one.num_cut == 3


def test_a_loss_of_weighted_windows_is_that_of_records():
    """Two windows of one text and a text of its own: the mean is over two records, not over three windows."""
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.normal(size=(1, 4, 3)).astype(np.float32), np.asarray([[2, 2, 0, IGNORE]]), np.asarray([[0.5, 0.5, 1, 0]], np.float32)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
    wanted = -((log_p[0, 2] + log_p[1, 2]) / 2 + log_p[2, 0])
    plain = cross_entropy(logits, labels, ignore=IGNORE, weights=weights)
    focal = {"class_weights": np.ones(3, np.float32), "label_smoothing": 0.0, "focal_gamma": 0.0}
    for total, weight in (plain, weighted_cross_entropy(logits, labels, ignore=IGNORE, weights=weights, **focal)):
        assert float(total) == pytest.approx(wanted, rel=1e-5) and float(weight) == 2
    sets = np.asarray([[[1, 0, 0], [1, 0, 0], [0, 1, 0], [IGNORE] * 3]])
    log_yes, log_no = -np.log1p(np.exp(-logits[0])), -np.log1p(np.exp(logits[0]))
    each = -np.where(sets[0] == 1, log_yes, log_no).sum(-1)
    total, weight = binary_cross_entropy(logits, sets, ignore=IGNORE, positive_weights=np.ones(3, np.float32), focal_gamma=0.0, weights=weights)
    assert float(total) == pytest.approx((each[0] + each[1]) / 2 + each[2], rel=1e-5) and float(weight) == 6


def test_what_windows_say_is_averaged():
    scores = [np.asarray(one, np.float32) for one in ([0.9, 0.1], [0.2, 0.8], [0.1, 0.9])]
    odds = np.exp(np.mean([np.log(one[1] / one[0]) for one in scores]))
    found = ONE.decode(RECORD, (), [{"label": one.argmax(), "scores": one} for one in scores])
    assert found["label"] == "pos" and found["score"] == pytest.approx(odds / (1 + odds)) and found["scores"]["neg"] == pytest.approx(1 / (1 + odds))
    found = SEVERAL.decode(RECORD, (), [{"scores": one} for one in scores])
    assert found["labels"] == ["joy"] and found["scores"]["joy"] == pytest.approx(odds / (1 + odds))
    assert NUMBER.decode(RECORD, (), [{"score": np.float32(one)} for one in (1, 2, 6)])["score"] == 3
    sure = SEVERAL.decode(RECORD, (), [{"scores": np.asarray([0, 1], np.float32)}] * 2)["scores"]
    assert 0 <= sure["fear"] < 1e-30 and 1 - 1e-6 < sure["joy"] <= 1


def test_a_pair_is_refused_before_anything_is_made(tmp_path, tokenizer):
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps({"premise": "red", "hypothesis": "blue", "label": label}) for label in ("a", "b")))
    task = SequenceClassification(train=str(file), validation="", long_text="head_tail")
    with pytest.raises(UserError, match=r"task\.long_text is 'head_tail', but pairs of texts are cut at their ends"):
        task.resolve(tokenizer, Pretrained(path=str(tiny.encoder(tmp_path / "encoder"))).open())


@pytest.mark.parametrize(("long_text", "is_said"), [("head", True), ("head_tail", False)])
def test_the_warning_of_cut_texts_names_the_field(tmp_path, tokenizer, caplog, long_text, is_said):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(RECORD))
    task = dataclasses.replace(ONE, train=str(file), long_text=long_text)
    with caplog.at_level(logging.WARNING, logger="flaxft"):
        build_items(task.records("train"), task, tokenizer, max_length=6, key=long_text, cache=tmp_path)
    assert "1 of 1 records are longer than data.max_length=6 and were cut; 4 tokens are not read" in caplog.text
    assert ("(task.long_text=head_tail or windows)" in caplog.text) == is_said


def test_a_record_of_three_windows_is_one_prediction(tmp_path):
    """A run with windows, end to end: one line a record, and raw text is predicted as the split is."""
    file = tmp_path / "train.jsonl"
    texts = ["anna works in paris for acme with bob", "red", "blue was old", "a new corp at oslo is red and blue and old and new"]
    file.write_text("\n".join(json.dumps({"text": text, "label": "ab"[i % 2]}) for i, text in enumerate(texts)))
    task = SequenceClassification(train=str(file), validation=str(file), long_text="windows")
    changes = {**tiny.ONCE, "task": task, "data.max_length": 6, "num_epochs": None, "num_steps": 2}
    results = flaxft.run(tiny.config(tmp_path, **changes), str(tmp_path / "run"))
    assert results["evals"]["validation"]["a/support"] + results["evals"]["validation"]["b/support"] == 4
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions" / "validation.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == texts
    found = flaxft.load(str(tmp_path / "run")).predict(texts)
    assert [one["text"] for one in found] == texts
    assert [one["score"] for one in found] == pytest.approx([line["score"] for line in lines], abs=2e-6)
