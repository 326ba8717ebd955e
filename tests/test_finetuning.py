"""One call from data in memory to a predictor, in a thread that is not the main one; what cannot be meant is refused before anything is trained."""

from __future__ import annotations

import inspect
import threading

import pytest

import flaxft
from flaxft.errors import UserError
from flaxft.finetuning import _named_task, _set
from tests import tiny

ROWS = [
    {"id": i, "body": f"{name} works in {town} {tiny.LETTERS[i % 26]} {tiny.LETTERS[i // 26]}", "queue": "north" if town == "oslo" else "south"}
    for i, (name, town) in enumerate((name, town) for name in ("anna", "bob", "carl", "dora") for town in ("oslo", "rome", "paris") * 10)
]


class Notes(flaxft.Callback):
    def __init__(self):
        self.seen = []

    def on_log(self, step, metrics):
        self.seen.append(("log", step, {"loss", "learning_rate", "useful_tokens_per_second"} <= set(metrics)))

    def on_evaluation(self, step, split, scores):
        self.seen.append(("evaluation", step, split, scores["share"]))

    def on_checkpoint(self, step, folder):
        self.seen.append(("checkpoint", step, folder.name))

    def on_end(self, results):
        self.seen.append(("end", sorted(results["evals"])))


def test_from_a_list_of_dicts_to_scores_in_a_thread(tmp_path):
    notes, found = Notes(), []
    model = tiny.encoder(tmp_path / "encoder")

    def go():
        found.append(
            flaxft.finetune(
                ROWS, text="body", label="queue", model=model, validation=0.2, workdir=tmp_path / "run", num_epochs=2, learning_rate=5e-3, max_length=32,
                callbacks=[notes], metrics={"share": lambda records, predictions: len(predictions) / len(records)}, report=False, baseline=False,
            )
        )  # fmt: skip

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    [predictor] = found
    assert predictor.workdir == tmp_path / "run" and set(predictor.scores) == {"validation"}
    assert predictor.scores["validation"]["share"] == 1.0 and 0 <= predictor.scores["validation"]["accuracy"] <= 1
    assert predictor.predict(["anna works in oslo"])[0]["label"] in ("north", "south")
    last = max(step for kind, step, *_ in notes.seen if kind == "checkpoint")
    assert ("evaluation", last, "validation", 1.0) in notes.seen and notes.seen[-1] == ("end", ["validation"])
    assert any(kind == "log" and rest[1] for kind, *rest in notes.seen)
    saved = (tmp_path / "run" / "config.json").read_text()
    assert '"in memory"' in saved and "works in oslo" not in saved
    with pytest.raises(UserError, match=r"task\.train: the 120 records that this run was given in memory are not on disk"):
        flaxft.load(tmp_path / "run").evaluate("validation")


@pytest.mark.parametrize(
    ("row", "task"),
    [
        (lambda i: {"text": f"anna works in rome {i} days", "label": "ab"[i % 2]}, "SequenceClassification"),
        (lambda i: {"text": f"anna works in rome {i} days", "label": i % 3}, "SequenceClassification"),
        (lambda i: {"text": f"anna works in rome {i} days", "label": i / 7}, "Regression"),
        (lambda i: {"text": f"anna works in rome {i} days", "label": ["a", "b"][: i % 3]}, "MultiLabelClassification"),
        (lambda i: {"tokens": ["anna", "works"], "tags": ["B-PER", "O"]}, "TokenClassification"),
    ],
)
def test_the_columns_say_the_task(row, task):
    assert type(_named_task(None, [row(i) for i in range(40)], text=(), label="")).__name__ == task


def test_a_named_task():
    found = _named_task("regression", ROWS, text="body", label="id")
    assert (type(found).__name__, found.text_columns, found.label_column) == ("Regression", ("body",), "id")
    found = _named_task(None, ROWS, text="body", label=["a", "b"])
    assert (type(found).__name__, found.label_columns) == ("MultiLabelClassification", ("a", "b"))
    with pytest.raises(UserError, match=r"task='regresion' is unknown; did you mean 'regression'"):
        _named_task("regresion", ROWS, text=(), label="")


def test_fields_by_name():
    cfg = flaxft.config("intent")
    _set(cfg, "weight_decay", 0.1)
    _set(cfg, "optim.b1", 0.8)
    _set(cfg, "num_steps", 3)
    assert (cfg.optim.weight_decay, cfg.optim.b1, cfg.num_steps) == (0.1, 0.8, 3)
    with pytest.raises(UserError, match=r"no field 'weight_decai'; did you mean 'weight_decay'"):
        _set(cfg, "weight_decai", 0.1)
    with pytest.raises(UserError, match=r"every is a field of several sections; give one of "):
        _set(cfg, "every", 3)


def test_every_keyword_is_documented():
    text = inspect.getdoc(flaxft.finetune)
    assert all(name in text for name in inspect.signature(flaxft.finetune).parameters)
