"""The end of a run: baselines by the task's own metrics, the verdict, the last block of the terminal."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flaxft.data.base import Chain, Records
from flaxft.tasks.base import CountsLabels, HasBaselines, top_scores
from flaxft.tasks.mixture import Mixture
from flaxft.tasks.multilabel_classification import MultiLabelClassification
from flaxft.tasks.multiple_choice import MultipleChoice
from flaxft.tasks.regression import Regression
from flaxft.tasks.relation_classification import RelationClassification
from flaxft.tasks.sentence_embedding import SentenceEmbedding
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.tasks.token_classification import TokenClassification
from flaxft.train import baselines, finish
from flaxft.train.loop import run
from tests import tiny


def source(records):
    return Records("made.jsonl", "0", records, range(1, len(records) + 1), ":{}")


NAMES, TOWNS = ("anna", "bob", "carl", "dora"), ("paris", "rome", "oslo", "bonn")
TAGGED = [{"tokens": [name, "saw", town], "tags": ["B-PER", "O", "B-LOC"]} for name in NAMES for town in TOWNS]
SIDES = [{"text": f"{word} number {i}", "label": label} for i in range(12) for word, label in (("good", "pos"), ("bad", "neg"))]
CASES = {
    "labels": (SequenceClassification(labels=("neg", "pos")), SIDES, {"baseline": 1.0, "majority": 0.5}, "accuracy"),
    "label sets": (
        MultiLabelClassification(labels=("a", "b")),
        [{"text": f"{'apple ' * (i % 2)}{'bean ' * (i % 3 == 0)}dish {i}", "labels": ["a"] * (i % 2) + ["b"] * (i % 3 == 0)} for i in range(36)],
        {"baseline": 1.0},
        "macro_f1",
    ),
    "numbers": (Regression(), [{"text": "good " * (i % 4) + "film", "score": float(i % 4)} for i in range(40)], {"baseline": 1.0}, "spearman"),
    "choices": (
        MultipleChoice(),
        [
            {"question": f"which one is {n}?", "choices": ["a stone", f"it is {n}"] if i % 3 else [f"it is {n}", "a stone"], "label": int(i % 3 > 0)}
            for i, n in enumerate(NAMES * 3)
        ],
        {"baseline": 1.0, "majority": 8 / 12},
        "accuracy",
    ),
    "relations": (
        RelationClassification(labels=("R1(e1,e2)", "R1(e2,e1)")),
        [
            {"text": f"<e1>{a}</e1> saw <e2>{b}</e2>" if i % 2 else f"<e2>{a}</e2> saw <e1>{b}</e1>", "relation": f"R1({'e1,e2' if i % 2 else 'e2,e1'})"}
            for i, (a, b) in enumerate((a, b) for a in NAMES for b in TOWNS)
        ],
        {"baseline": 1.0},
        "accuracy",
    ),
    "scored pairs": (
        SentenceEmbedding(text_columns=("sentence1", "sentence2"), score_column="score", objective="cosine", main_metric="spearman", scale=3.0),
        [{"sentence1": "one two three", "sentence2": ("x", "one x", "one two x", "one two three x")[i % 4], "score": float(i % 4)} for i in range(12)],
        {"baseline": 1.0},
        "spearman",
    ),
    "texts of a label": (
        SentenceEmbedding(text_columns=("text",), label_column="label", objective="in_batch", main_metric="mrr"),
        [{"text": f"{label} {label} {i}", "label": label} for label in NAMES for i in range(3)],
        {"baseline": 1.0},
        "mrr",
    ),
    "entities": (TokenClassification(labels=("O", "B-LOC", "B-PER"), scheme="IOB2"), TAGGED, {"baseline": 1.0}, "entity_f1"),
    "plain tags": (
        TokenClassification(labels=("N", "V"), scheme="plain", main_metric="accuracy"),
        [{"tokens": one["tokens"], "tags": ["N", "V", "N"]} for one in TAGGED],
        {"baseline": 1.0, "majority": 2 / 3},
        "accuracy",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_task_scores_its_baselines_as_it_scores_the_model(name):
    task, records, wanted, metric = CASES[name]
    assert isinstance(task, HasBaselines)
    assert isinstance(task, CountsLabels) != isinstance(task, SentenceEmbedding)
    records = source(records)
    found = baselines.score(task, records, {"test": records, "validation": records}, fit_on="validation", seed=0, poll=lambda: None)
    *simple, best = found.scores["test"]
    assert found.scores["test"][best][metric] == pytest.approx(wanted["baseline"], abs=0.06)
    assert found.scores["test"] == found.scores["validation"] and found.note == ""
    assert not any("/" in one for one in found.scores["test"][best])
    if "majority" in wanted:
        assert simple == ["majority"] and found.scores["test"]["majority"][metric] == pytest.approx(wanted["majority"])
    json.dumps(found.scores)


def test_several_tasks_at_once():
    tasks = {name: CASES[name][0] for name in ("labels", "entities")}
    mixture = Mixture(tasks=tasks)
    records = Chain({name: source(CASES[name][1]) for name in tasks})
    found = baselines.score(mixture, records, {"test": records}, fit_on=None, seed=0, poll=lambda: None)
    best = "labels: TF-IDF + logistic regression, entities: most frequent tag of each word"
    assert list(found.scores["test"]) == ["labels: majority, entities: most frequent tag of each word", best]
    assert found.scores["test"][best]["mean"] == pytest.approx(1.0)
    counted = mixture.label_counts(records)
    assert counted.counts == {"labels/neg": 12, "labels/pos": 12, "entities/LOC": 16, "entities/PER": 16}
    assert counted.guess_loss == pytest.approx(np.log(2) + np.log(3))


def test_a_large_split_is_drawn_from(monkeypatch):
    records = source(SIDES * 10)
    assert baselines.drawn(records, seed=0) is records
    monkeypatch.setattr(baselines, "NUM_RECORDS", 50)
    some = baselines.drawn(records, seed=0)
    assert len(some) == 50 and list(some) == list(baselines.drawn(records, seed=0)) != list(baselines.drawn(records, seed=1))
    task = CASES["labels"][0]
    found = baselines.score(task, records, {"test": records}, fit_on=None, seed=0, poll=lambda: None)
    assert found.note == "fitted on 50 of 240 records, scored on 50 of 240 of test"
    monkeypatch.setattr(baselines, "NUM_LETTERS", 100)
    assert 1 <= len(baselines.drawn(records, seed=0)) < 10
    chain = baselines.drawn(Chain({"a": records, "b": source(SIDES)}), seed=0)
    assert isinstance(chain, Chain) and len(chain) == len(list(chain)) and list(chain.sources) == ["a", "b"]


# ---- what is said ---------------------------------------------------------------------------------------------------------------------------------


def test_scores_beside_their_baselines():
    found = baselines.Found({"test": {"majority": {"accuracy": 0.031}, "TF-IDF": {"accuracy": 0.89}}}, "fitted on 5 of 9 records")
    lines = finish.score_lines({"validation": {"accuracy": 0.9}, "test": {"accuracy": 0.912}}, found, main_metric="accuracy")
    assert lines == [
        "validation accuracy 0.9000",
        "test accuracy       0.9120   baseline 0.8900 (TF-IDF)   majority 0.0310",
        "(baselines fitted on 5 of 9 records)",
    ]


def test_the_worst_of_many_labels():
    scores = {"accuracy": 0.5, "loss": 1.0, "accuracy/low": 0.4, "micro avg/f1": 0.0}
    assert finish.worst_labels(scores | {f"label {i}/f1": i / 20 for i in range(20)}, where="x") == ""
    many = scores | {f"label {i}/f1": i / 30 for i in range(30)} | {"label 3/precision": 0.25, "label 3/recall": 0.5, "label 3/support": 7}
    text = finish.worst_labels(many, where="results.json")
    assert text.splitlines()[0] == "accuracy 0.5000  loss 1.0000"
    assert [line.split("  ")[0].strip() for line in text.splitlines()[3:8]] == [f"label {i}" for i in range(5)]
    assert "    0.2500    0.5000    0.1000         7" in text and text.endswith("the 5 worst of 30 labels; all in results.json\n")


def test_a_run_that_learns_little_and_one_that_is_fine(tmp_path, capsys):
    """Both of the same words; the verdict and the baselines are the last block, and stand in results.json."""
    poor = run(tiny.config(tmp_path, **{"optim.learning_rate": 1e-7, "log.baseline": True}), tmp_path / "poor run")
    shown = capsys.readouterr().out
    assert {"underfit", "below_baseline"} <= {one["rule"] for one in poor["verdict"]}
    assert poor["baselines"]["test"]["most frequent tag of each word"]["entity_f1"] == 1.0
    block = shown[shown.index("validation entity_f1 ") :]
    assert "   baseline 1.0000 (most frequent tag" in block and "\nVerdict: " in block and "\n    try --config." in block
    quoted = f"'{tmp_path / 'poor run'}'"
    assert block.rstrip().endswith(f"Next:\n  flaxft predict {quoted} FILE\n  flaxft export {quoted}\n  flaxft report {quoted}")
    assert json.loads((tmp_path / "poor run" / "results.json").read_text())["verdict"] == json.loads(json.dumps(poor["verdict"]))

    cfg = tiny.config(tmp_path, num_epochs=12, **tiny.ONCE)
    fine = run(cfg, tmp_path / "fine")
    assert fine["baselines"] == {} and "underfit" not in {one["rule"] for one in fine["verdict"]}
    again = run(cfg, tmp_path / "fine")
    assert again["verdict"] == fine["verdict"], "nothing is trained any more, and the losses are those of the whole run"
    assert fine["evals"] == again["evals"]


def test_a_baseline_that_fails_costs_no_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TokenClassification, "baselines", lambda self, records: 1 / 0)
    results = run(tiny.config(tmp_path, **{"num_steps": 1, "log.baseline": True}), tmp_path / "run")
    assert results["baselines"] == {} and set(results["evals"]) == {"validation", "test"}
    assert "warning: no baselines: ZeroDivisionError: division by zero" in capsys.readouterr().out


def test_without_training_nothing_is_fitted(tmp_path):
    results = run(tiny.config(tmp_path, **{"num_steps": 0, "log.baseline": True}), tmp_path / "run")
    assert results["baselines"] == {} and {one["rule"] for one in results["verdict"]} <= {"rare_labels"}


def test_a_line_of_predictions_has_the_largest_of_very_many_scores():
    many = {f"label {i}": i / 1000 for i in range(1000)}
    found = top_scores({"text": "a", "intent": {"label": "label 999", "scores": many}, "few": {"scores": {"a": 0.5}}}, None)
    assert len(found["intent"]["scores"]) == 20 and next(iter(found["intent"]["scores"])) == "label 999"
    assert found["few"] == {"scores": {"a": 0.5}} and top_scores({"scores": many}, None)["scores"]["label 980"] == 0.98
