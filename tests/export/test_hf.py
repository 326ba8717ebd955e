"""The directory that PyTorch reads: logits of every head against ours on packed rows, pipelines, the card, bfloat16, sentence-transformers' files."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from flax import nnx
from safetensors.numpy import load_file

import flaxft
from flaxft.data.items import build_items
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.errors import UserError
from flaxft.export import hf
from flaxft.export.base import Run, export
from flaxft.models.base import Model
from flaxft.predict import Predictor
from flaxft.train.loop import run
from tests import tiny
from tests.export.untrained import AUTO, untrained

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
BOUND = 1e-5


def written(run: Run, folder: Path, **options: Any) -> Path:
    folder.mkdir()
    hf.write(run, folder, **options)
    return folder


@pytest.fixture(scope="module")
def ner(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ner")
    run(tiny.config(folder, num_steps=48, **tiny.ONCE), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def exported(ner) -> Path:
    (folder,) = export(ner)
    return folder


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def ours_packed(predictor: Predictor) -> tuple[list[Any], list[np.ndarray]]:
    """Features of the test split, and what the run's own model gives for each where several share a row."""
    items = build_items(predictor.task.records("test"), predictor.task, predictor.tokenizer, max_length=32, key="export", use_cache=False)
    graphdef = nnx.split(nnx.eval_shape(lambda: _model(predictor)), nnx.Param)[0]
    forward = jax.jit(lambda params, batch: nnx.merge(graphdef, params)(batch))
    found: dict[int, np.ndarray] = {}
    for batch in Pipeline(items, predictor.task.spec(), seed=0).once(Shape(row_length=64, num_slots=8, num_rows=8)):
        outputs = forward(predictor.params, batch)
        for r, s in zip(*np.nonzero(batch["example_weight"]), strict=True):
            number, start = int(batch["example_id"][r, s]), int(batch["example_start"][r, s])
            end = start + int(items.lengths[number])
            if predictor.task.kind == "mlm":
                places = {int(place): row for row, place in enumerate(np.asarray(outputs.positions)[r])}
                found[number] = np.stack([np.asarray(outputs.logits)[r, places[t]] for t in range(start, end) if t in places])
            elif predictor.task.kind in ("token", "span"):
                found[number] = np.asarray(outputs)[r, start:end]
            else:
                found[number] = np.asarray(outputs)[r, s]
    return [items.feature(i) for i in range(len(items.lengths))], [found[i] for i in range(len(found))]


def _model(predictor: Predictor) -> Model:
    return Model(predictor.encoder, predictor.task.head(predictor.encoder, rngs=nnx.Rngs(0)))


def theirs(model: Any, kind: str, features: Any) -> np.ndarray:
    import torch

    ids = features.tokens["input_ids"]
    given = {"input_ids": ids, "token_type_ids": features.tokens.get("token_type_ids", np.zeros_like(ids)), "attention_mask": np.ones_like(ids)}
    tensors = {name: torch.tensor(np.asarray(array, np.int64))[None] for name, array in given.items()}
    with torch.no_grad():
        if kind == "choice":
            return model(**{name: tensor[None] for name, tensor in tensors.items()}).logits[0, 0].numpy()
        outputs = model(**tensors)
        if kind == "span":
            return torch.stack([outputs.start_logits, outputs.end_logits], -1)[0].numpy()
        if kind == "embedding":
            mean = outputs.last_hidden_state[0].mean(0)
            return (mean / mean.norm()).numpy()
        return outputs.logits[0].numpy()


@needs_torch
@pytest.mark.parametrize("family", AUTO)
def test_pytorch_gives_our_logits_on_every_example(tmp_path, family):
    """Against the run's own model on packed rows, which shares no code with the parity report; and that report says the same."""
    import transformers

    given = untrained(tmp_path, family)
    folder = written(given, tmp_path / "out")
    features, ours = ours_packed(given.predictor)
    kind = given.predictor.task.kind
    model = getattr(transformers, AUTO[family]).from_pretrained(folder).eval()
    assert len(ours) == len(features) >= 8
    for feature, mine in zip(features, ours, strict=True):
        other = theirs(model, kind, feature)
        if kind == "mlm":  # ours are where a label is, and in the order of the row
            other = other[np.flatnonzero(feature.tokens["labels"] != -100)]
            assert all(min(np.abs(one - row).max() for row in mine) <= BOUND * max(1.0, np.abs(one).max()) for one in other)
            continue
        assert np.abs(mine - other).max() <= BOUND * max(1.0, np.abs(other).max())
    report = read(folder / "parity.json")
    assert report["passed"]
    assert report["reader"].startswith("transformers")
    assert report["num_examples"] == len(features)
    assert report["tokenizer"]["num_different"] == 0
    assert report["tokenizer"]["num_texts"] >= 8


@needs_torch
def test_wrong_weights_do_not_pass(ner, tmp_path, monkeypatch):
    """The report would see it; and where they are very wrong nothing is written."""
    right, off = hf.reference.logits_of, 1e-2
    monkeypatch.setattr(hf.reference, "logits_of", lambda *arguments: lambda given: right(*arguments)(given) + off)
    with pytest.raises(UserError, match="the export is wrong"):
        export(ner, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    off = 5e-4
    ((folder, lines),) = export(ner, output=tmp_path / "out").items()
    report = read(folder / "parity.json")
    assert not report["passed"]
    assert report["largest_difference"] == pytest.approx(5e-4, rel=0.05)
    assert any("warning" in line for line in lines)
    assert "**outside of**" in (folder / "README.md").read_text()


def test_without_torch_flaxft_reads_it_back(ner, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find_spec(name, *rest))
    (folder,) = export(ner, output=tmp_path / "out")
    report = read(folder / "parity.json")
    assert "flaxft itself" in report["reader"]
    assert report["largest_difference"] == 0.0


def test_stored_reference_logits(exported, ner):
    """Inputs and logits for whoever checks later: what flaxft gives for the directory itself."""
    from flaxft.export.reference import logits_of
    from flaxft.tasks.token_classification import TokenClassification

    stored = load_file(exported / "reference.safetensors")
    assert stored["logits"].shape[0] == stored["input_ids"].shape[0] == read(exported / "parity.json")["stored_examples"] == 8
    again = flaxft.load(str(exported), task=TokenClassification())
    found = logits_of(again, again.params)({name: stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
    real = stored["attention_mask"] > 0
    assert np.abs(found - stored["logits"])[real].max() <= BOUND * np.abs(stored["logits"]).max()


# ---- pipelines: of transformers 5 there are those of token and text classification and of masks; that of question answering is gone --------------


@needs_torch
def test_the_entities_are_the_pipelines(exported, ner):
    from transformers import pipeline

    theirs = pipeline("ner", model=str(exported), aggregation_strategy="first")
    predictor = flaxft.load(str(ner))
    texts = [one["text"] for one in map(json.loads, (ner / "predictions/test.jsonl").read_text().splitlines())]
    found = predictor.predict(texts)
    assert sum(len(one["entities"]) for one in found) > 20
    for text, ours in zip(texts, found, strict=True):
        assert [(one["entity_group"], one["start"], one["end"]) for one in theirs(text)] == [(e["type"], e["start"], e["end"]) for e in ours["entities"]]


@needs_torch
@pytest.mark.parametrize("family", ["sequence_classification", "multilabel_classification"])
def test_the_scores_are_the_pipelines(tmp_path, family):
    from transformers import pipeline

    given = untrained(tmp_path, family)
    theirs = pipeline("text-classification", model=str(written(given, tmp_path / "out")), top_k=None)
    pairs = [{"text": "anna lives in paris", "text_pair": "red"}, {"text": "the old corp is red", "text_pair": "anna , bob and carl"}]
    for pair, ours in zip(pairs, given.predictor.predict(pairs), strict=True):
        assert {one["label"]: one["score"] for one in theirs(pair)} == pytest.approx(ours["scores"], abs=1e-5)


@needs_torch
def test_the_masks_are_the_pipelines(tmp_path):
    from transformers import pipeline

    given = untrained(tmp_path, "masked_lm")
    fill = pipeline("fill-mask", model=str(written(given, tmp_path / "out")))
    (ours,) = given.predictor.predict(["anna lives in [MASK] ."])
    theirs = fill("anna lives in [MASK] .")
    assert [one["token_str"] for one in theirs] == [one["token"] for one in ours["masks"][0]]
    np.testing.assert_allclose([one["score"] for one in theirs], [one["score"] for one in ours["masks"][0]], atol=1e-5)


# ---- sentence embeddings ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"pooling": "cls", "normalize": False}])
def test_sentence_transformers_files(tmp_path, settings):
    given = untrained(tmp_path, "sentence_embedding", **settings)
    folder = written(given, tmp_path / "out")
    types = [module["type"].rpartition(".")[2] for module in read(folder / "modules.json")]
    assert types == ["Transformer", "Pooling", *(["Normalize"] if not settings else [])]
    pooling = read(folder / "1_Pooling/config.json")
    assert pooling == {"word_embedding_dimension": 32, "pooling_mode_cls_token": bool(settings), "pooling_mode_mean_tokens": not settings}
    assert read(folder / "sentence_bert_config.json")["max_seq_length"] == 32
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = ["anna lives in paris .", "the old corp is red", "in " * 50]
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    ours = [one["embedding"] for one in given.predictor.predict(texts)]
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


# ---- the card -----------------------------------------------------------------------------------------------------------------------------------


def test_the_card_tells_facts_of_this_run(exported, ner):
    text = (exported / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    results = read(ner / "results.json")
    assert front["pipeline_tag"] == "token-classification"
    assert front["library_name"] == "transformers"
    assert "license" not in front
    assert "language" not in front
    assert "base_model" not in front  # it is a folder, and no model of the hub
    (index,) = front["model-index"]
    scores = {(one["dataset"]["split"], metric["name"]): metric["value"] for one in index["results"] for metric in one["metrics"]}
    assert scores["test", "entity_f1"] == round(results["evals"]["test"]["entity_f1"], 4)
    assert {one["dataset"]["name"] for one in index["results"]} == {"validation.conll", "test.conll"}
    assert f"{results['evals']['test']['entity_f1/low']:.4f}" in text
    assert str(ner.parent) not in text  # nobody's folders
    assert '"learning_rate": 0.01' in text
    assert "`encoder`" in text
    assert f"Weights of step {results['best']['step']}" in text


def test_the_hub_takes_the_front_matter(exported):
    from huggingface_hub import ModelCard

    card = ModelCard.load(exported / "README.md")
    assert card.data.model_name == "run"
    assert card.data.eval_results
    assert card.data.tags == ["flaxft", "bert"]


def test_scores_keep_the_name_of_their_data(ner, tmp_path):
    """An export may look at other files; the scores are of the run's."""
    from flaxft import config as configs

    cfg, _ = configs.read(ner / "config.json")
    cfg.task.test, cfg.task.validation, cfg.data.max_examples = str(ner.parent / "train.conll"), "", 3
    (folder,) = export(ner, cfg, output=tmp_path / "out")
    assert read(folder / "parity.json")["examples"] == "test: the first 3 records of train.conll"
    card = (folder / "README.md").read_text()
    assert "| test | test.conll | entity_f1 |" in card
    assert "Only the first" not in card


def test_a_hub_id_is_the_base_model_and_a_hub_data_set_is_named(ner, tmp_path):
    shutil.copytree(ner, tmp_path / "run")
    config = read(tmp_path / "run/config.json")
    config["config"]["model"]["path"] = "someone/bert-tiny"
    config["config"]["task"]["train"] = "hub:someone/words@main#train"
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    (folder,) = export(tmp_path / "run")
    front = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert (front["base_model"], front["datasets"]) == ("someone/bert-tiny", ["someone/words"])


# ---- weights and examples -----------------------------------------------------------------------------------------------------------------------


@needs_torch
def test_bfloat16_weights(ner, exported, tmp_path):
    import torch
    from transformers import AutoModelForTokenClassification

    (folder,) = export(ner, output=tmp_path / "half", dtype="bfloat16")
    assert read(folder / "config.json")["dtype"] == "bfloat16"
    assert next(AutoModelForTokenClassification.from_pretrained(folder).parameters()).dtype == torch.bfloat16
    sizes = [(place / "model.safetensors").stat().st_size for place in (folder, exported)]
    assert sizes[0] < 0.6 * sizes[1]
    report = read(folder / "parity.json")
    assert report["passed"]
    assert 1e-4 < report["rounding"] < 1.0
    with pytest.raises(UserError, match="float32, bfloat16"):
        export(ner, output=tmp_path / "x", dtype="float16")


def test_a_run_in_bfloat16_is_exported_in_float32(tmp_path):
    run(tiny.config(tmp_path, num_steps=0, **{"model.dtype": "bfloat16", "task.validation": "", "task.test": ""}), tmp_path / "run")
    (folder,) = export(tmp_path / "run")
    assert read(folder / "parity.json")["passed"]
    assert read(folder / "config.json")["dtype"] == "float32"


def test_without_the_splits_its_predictions_serve_and_without_those_random_pieces(ner, tmp_path):
    shutil.copytree(ner, tmp_path / "run")
    for split in ("train", "validation", "test"):
        os.rename(ner.parent / f"{split}.conll", ner.parent / f"{split}.aside")
    try:
        (folder,) = export(tmp_path / "run", output=tmp_path / "one")
        report = read(folder / "parity.json")
        assert report["examples"] == "test: the texts of the first 20 predictions of the run"
        assert report["num_examples"] == 20
        shutil.rmtree(tmp_path / "run" / "predictions")
        (folder,) = export(tmp_path / "run", output=tmp_path / "two")
        assert read(folder / "parity.json")["examples"].startswith("random pieces")
    finally:
        for split in ("train", "validation", "test"):
            os.rename(ner.parent / f"{split}.aside", ner.parent / f"{split}.conll")
