"""What a sequence head sees of a text: the mean over its tokens as well as the first one's pooler, in training, packing, prediction and saved runs."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxft
from flaxft import config as configs
from flaxft.errors import UserError
from flaxft.models.base import EncoderOutput, flatten
from flaxft.models.heads import MeanHead, mean_of_tokens
from flaxft.models.hf import write
from flaxft.tasks.base import fits_head
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.train.loop import run
from tests import tiny
from tests.tasks.contract import BOUND, compute, prepare

FAMILIES = ("multilabel_classification", "regression", "relation_classification", "sequence_classification")
MEAN = {"pooling": "mean"}


def test_the_mean_is_of_an_examples_own_tokens():
    hidden = np.random.default_rng(0).standard_normal((2, 6, 4)).astype(np.float32)
    batch = {"segment_ids": np.asarray([[1, 1, 1, 2, 2, 0], [1, 0, 0, 0, 0, 0]]), "example_start": np.asarray([[0, 3, 0], [0, 0, 0]])}
    found = np.asarray(mean_of_tokens(jnp.asarray(hidden), batch))
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found[0], [hidden[0, :3].mean(0), hidden[0, 3:5].mean(0), np.zeros(4)], atol=1e-6)
    np.testing.assert_allclose(found[1], [hidden[1, 0], np.zeros(4), np.zeros(4)], atol=1e-6)
    head = MeanHead(4, 2, dropout_rate=0.5, stddev=1.0, rngs=nnx.Rngs(0))
    head.classifier.bias[...] += 1.0
    np.testing.assert_allclose(head(EncoderOutput(hidden, hidden[0]), batch), found @ np.asarray(head.classifier.kernel[...]) + 1.0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_unpacked(tmp_path, family):
    """The contract of every task, with this head: predictions, loss and gradients, at most 1e-5 x max(1, largest magnitude)."""
    _, task, items, loaded = prepare(tmp_path, family, settings=MEAN)
    assert {path for path in flatten(loaded.params) if path.startswith("head/")} == {"head/classifier/kernel", "head/classifier/bias"}
    total, weights, gradients, found = compute(task, items, loaded, row_length=32, num_slots=1, num_rows=len(items.lengths))
    packed_total, packed_weights, packed_gradients, packed_found = compute(task, items, loaded, row_length=64, num_slots=8, num_rows=3)
    assert packed_weights == weights > 0
    assert abs(packed_total - total) <= BOUND * max(1.0, abs(total))
    for path, wanted in gradients.items():
        assert np.abs(packed_gradients[path] - wanted).max() <= BOUND * max(1.0, np.abs(wanted).max()), path
    for number, wanted in found.items():
        for name in wanted:
            np.testing.assert_allclose(packed_found[number][name], wanted[name], atol=BOUND)


def test_a_run_learns_goes_on_and_predicts(tmp_path):
    cfg, _, _, _ = prepare(tmp_path, "sequence_classification", settings=MEAN, num_epochs=40, **{"optim.learning_rate": 3e-3, "checkpoint.every": 1000})
    cfg.evals = {}
    run(cfg, tmp_path / "run")
    losses = list(tiny.losses(tmp_path / "run").values())
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])
    run(cfg, tmp_path / "run")  # nothing is left to do, and nothing is another run
    predictor = flaxft.load(str(tmp_path / "run"))
    record = predictor.task.records("train")[0]
    assert predictor.predict([{name: record[name] for name in predictor.task.text_columns}])[0]["label"] == record[predictor.task.label_column]


def test_a_run_from_before_the_field_is_read(tmp_path):
    cfg = tiny.config(tmp_path)
    cfg.task = SequenceClassification(train="train.csv")
    saved = configs.to_json(cfg)
    del saved["task"]["pooling"]
    read = configs.from_json(saved, "config.json")
    assert read.task.kind == "sequence"
    assert not configs.differences(read, cfg)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_word_is_refused(tmp_path, family):
    with pytest.raises(UserError, match=r"^task.pooling is 'means'; did you mean 'mean'\?; allowed are \['cls', 'mean', None\]$"):
        prepare(tmp_path, family, settings={"pooling": "means"})


def test_the_head_of_a_checkpoint_that_pools_otherwise_is_not_taken(tmp_path):
    """BertForSequenceClassification's classifier learnt from the pooler's output."""
    cfg, task, _, loaded = prepare(tmp_path, "sequence_classification")
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    write(tmp_path / "encoder", loaded.params, loaded.encoder, config, kind="sequence", labels=task.labels)
    checkpoint = cfg.model.open()
    assert fits_head(task, checkpoint)
    task.pooling = "mean"
    assert not fits_head(task, checkpoint)
    anew = cfg.model.load(checkpoint, task.head, reuse_head=False, seed=0)
    assert set(anew.fresh) == {"head/classifier/kernel", "head/classifier/bias"}


@pytest.mark.parametrize("family", ["sequence_classification", "regression"])
def test_no_class_of_transformers_has_it(tmp_path, family):
    _, task, _, loaded = prepare(tmp_path, family, settings=MEAN)
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    with pytest.raises(UserError, match=r"no bert class with a 'mean_sequence' head, .*=stablehlo, onnx or int8 .* sentence_transformers .*pooling=cls"):
        write(tmp_path / "out", loaded.params, loaded.encoder, config, kind=task.kind, labels=task.labels)
