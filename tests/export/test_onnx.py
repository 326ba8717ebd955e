"""The ONNX graph in onnxruntime: every head, several batch sizes and lengths; and with weights of 8 bits, whose cost is measured."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil

import numpy as np
import pytest

from flaxft.errors import UserError
from flaxft.export import base, int8, onnx, reference
from flaxft.train.loop import run
from tests import tiny
from tests.export.untrained import untrained

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
FAMILIES = (
    ("question_answering", {}), ("multiple_choice", {}), ("masked_lm", {}), ("sentence_embedding", {}), ("multilabel_classification", {"pooling": "mean"}),
)  # fmt: skip


@needs_onnx
@pytest.mark.parametrize(("family", "settings"), FAMILIES)
def test_every_head(tmp_path, family, settings):
    """Its logits at several shapes; and put in the place of the head, which is how int8 is scored, it gives the scores of the head."""
    given = untrained(tmp_path, family, **settings)
    folder = tmp_path / "out"
    folder.mkdir()
    onnx.write(given, folder)
    report = json.loads((folder / "parity.json").read_text())
    assert report["passed"]
    assert len({size for size, _ in report["shapes"]}) > 1
    assert len({length for _, length in report["shapes"]}) > 1
    ours, _ = given.predictor.evaluate("validation")
    found, _ = given.predictor.evaluate_outputs("validation", int8._outputs(given.predictor, folder / "model.onnx"))
    assert set(found.metrics) == set(ours.metrics)
    for name, value in ours.metrics.items():
        if "/" not in name and (name != "loss" or given.predictor.task.decomposes):  # else the loss is of the batch, and other texts share it here
            assert found.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.fixture(scope="module")
def token_graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    given = untrained(folder, "token_classification")
    (folder / "out").mkdir()
    onnx.write(given, folder / "out")
    return given, folder / "out"


@needs_onnx
@pytest.mark.parametrize(("size", "length"), [(1, 1), (1, 40), (3, 17), (9, 5)])
def test_any_shape(token_graph, size, length):
    """Straight through onnxruntime, as a user would; the names are those of transformers."""
    import onnxruntime

    given, folder = token_graph
    rng = np.random.default_rng(size)
    mask = (np.arange(length) < rng.integers(1, length + 1, size)[:, None]).astype(np.int64)
    feed = {"input_ids": rng.integers(5, 100, (size, length)), "attention_mask": mask, "token_type_ids": rng.integers(0, 2, (size, length))}
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    (found,) = session.run(["logits"], feed)
    wanted = reference.logits_of(given.predictor, given.predictor.params)({name: array.astype(np.int32) for name, array in feed.items()})
    assert found.shape == wanted.shape
    assert np.abs(found - wanted)[mask > 0].max() <= 1e-4 * max(1.0, np.abs(wanted).max())


@needs_onnx
def test_a_wrong_graph_is_not_handed_out(token_graph, tmp_path, monkeypatch):
    _, folder = token_graph
    other = untrained(tmp_path, "token_classification")
    other.predictor.params["head"]["classifier"]["bias"] += 1.0
    monkeypatch.setattr(onnx, "make_graph", lambda predictor, to: shutil.copy(folder / "model.onnx", to))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="the export is wrong"):
        onnx.write(other, tmp_path / "out")


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in ("onnx", "onnxscript") else find_spec(name, *rest))
    with pytest.raises(UserError, match=r"--target=onnx needs .*onnx and onnxscript.*, not installed; pip install 'flaxft\[onnx\]'"):
        onnx.write(None, tmp_path)


# ---- int8 ---------------------------------------------------------------------------------------------------------------------------------------


@needs_onnx
def test_int8_measures_what_it_costs(tmp_path):
    results = run(tiny.config(tmp_path, num_steps=48, **tiny.ONCE), tmp_path / "run")
    ((folder, lines),) = base.export(tmp_path / "run", target="int8").items()
    report = json.loads((folder / "int8.json").read_text())
    scores = report["scores"]
    assert scores["metric"] == "entity_f1"
    assert scores["float32"] == pytest.approx(results["evals"]["validation"]["entity_f1"], abs=1e-6)
    assert scores["difference"] == scores["int8"] - scores["float32"]
    assert scores["int8"] > 0.5 * scores["float32"] > 0.3, "its outputs were taken apart wrongly"
    assert report["float_graph"]["passed"]
    assert 1e-4 < report["int8_moves_logits_by"] < 5.0
    assert report["ratio"] == report["sizes"]["float32"] / (folder / "model.onnx").stat().st_size > 1.0
    assert any(f"float32 {scores['float32']:.4f}, int8 {scores['int8']:.4f}" in line for line in lines)
    assert not (folder / "float.onnx").exists()


@needs_onnx
def test_without_a_split_it_says_that_nothing_was_measured(token_graph, tmp_path, monkeypatch):
    given, folder = token_graph
    monkeypatch.setattr(onnx, "make_graph", lambda predictor, to: shutil.copy(folder / "model.onnx", to))
    monkeypatch.setattr(given.predictor, "task", dataclasses.replace(given.predictor.task, validation="", test=""))
    (tmp_path / "out").mkdir()
    lines = int8.write(given, tmp_path / "out")
    assert "NOT measured" in lines[-1]
    assert json.loads((tmp_path / "out" / "int8.json").read_text())["scores"] is None
