"""All sides of benchmarks/predict_speed.py compute the same on the same texts, and nothing is timed where they do not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks import predict_speed
from tests import tiny

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def test_sorted_batches_hold_every_example_once():
    ids = [np.arange(1, length + 1, dtype=np.int32) for length in (*range(1, 40), 3)]
    batches = list(predict_speed.sorted_batches(ids))
    assert [len(chosen) for chosen, _, _ in batches] == [32, 8]
    assert sorted(number for chosen, _, _ in batches for number in chosen) == list(range(40))
    for chosen, input_ids, mask in batches:
        assert input_ids.shape[1] == max(len(ids[number]) for number in chosen)
        assert [row[: int(own.sum())].tolist() for row, own in zip(input_ids, mask, strict=True)] == [ids[number].tolist() for number in chosen]


@pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
def test_all_sides_on_the_same_texts(tmp_path):
    model, train = tiny.encoder(tmp_path / "encoder"), tiny.corpus(tmp_path / "train.conll", num=40)
    found = predict_speed.prepare(tmp_path, train, model, 30)
    assert found["num_examples"] == 30
    assert sum(map(len, predict_speed.read_ids(tmp_path))) == found["tokens"]
    assert max(found["differences"].values()) <= predict_speed.BOUND
    for side in predict_speed.SIDES:
        assert predict_speed.run_side(side, tmp_path, train, 30)["positions"] >= found["tokens"], side


def run(monkeypatch, tmp_path: Path, difference: float) -> list[str]:
    """Which turns the command takes."""
    turns = []

    def execute(command, *, workdir):
        turns.append(command[command.index("--turn") + 1])
        if turns[-1] == "prepare":
            return {"num_examples": 3, "tokens": 60, "differences": {"torch": 1e-6, "onnx": difference}}
        return {"seconds": 1.0 if turns[-1] == "flaxft" else 2.0, "positions": 80}

    monkeypatch.setattr(predict_speed, "execute", execute)
    monkeypatch.setattr(predict_speed, "machine", lambda: {"cpu": "this one"})
    paths = [f"--{name}={tmp_path}" for name in ("raw", "data", "model")]
    predict_speed.main(["--lengths=wnut17", *paths, "--sides", "flaxft", "onnx", "--rounds=2", f"--out={tmp_path / 'out.json'}"])
    return turns


def test_turns_alternate(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, 1e-5) == ["prepare", "flaxft", "onnx", "onnx", "flaxft"]
    assert "| 30 (30 to 30) | 25.0% |" in (shown := capsys.readouterr().out)
    assert "| 2.00 (2.00 to 2.00) | 1.0 |" in shown


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_sides_that_differ_are_not_timed(monkeypatch, tmp_path, difference):
    with pytest.raises(SystemExit, match="nothing was timed"):
        run(monkeypatch, tmp_path, difference)
