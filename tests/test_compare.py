"""Runs side by side: those that differ only in the seed are one row, mean and sample standard deviation."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from flaxft import compare as comparisons
from flaxft.errors import USAGE, USER_ERROR, UserError
from flaxft.main import main


def made(folder: Path, *, seed: int, rate: float, f1: float, seconds: float = 10.0, metric: str = "entity_f1", every: int = 20) -> Path:
    folder.mkdir(parents=True)
    config = {"task": {"main_metric": metric, "labels": ["O", "B-A"]}, "optim": {"learning_rate": rate}, "log": {"every": every}, "seed": seed}
    (folder / "config.json").write_text(json.dumps({"config": config, "facts": {}}))
    evals = {"test": {metric: f1 - 0.1, "loss": 1.0}, "validation": {metric: f1}}
    (folder / "results.json").write_text(json.dumps({"evals": evals, "seconds": seconds, "useful_tokens_per_second": 2000.0 + seed}))
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    seeds = [made(tmp_path / f"fast/seed-{seed}", seed=seed, rate=0.1, f1=f1, every=seed) for seed, f1 in ((1, 0.7), (2, 0.8), (3, 0.9))]
    return [*seeds, made(tmp_path / "slow", seed=1, rate=0.01, f1=0.6, seconds=1234.56)]


def test_seeds_are_one_row_and_settings_that_differ_are_columns(runs):
    found = comparisons.compare(runs)
    assert found.header == ["run", "seeds", "optim.learning_rate", "validation entity_f1", "test entity_f1", "seconds", "useful tokens/s"]
    assert found.cells == [
        ["fast", "3", "0.1", "0.8000 ± 0.1000", "0.7000 ± 0.1000", "10.0 ± 0.0", "2,002 ± 1"],
        ["slow", "1", "0.01", "0.6000", "0.5000", "1,234.6", "2,001"],
    ]


def test_command(runs, tmp_path, capsys):
    output = tmp_path / "table.md"
    assert main(["--mode=compare", *map(str, runs), f"--output={output}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "seeds", "optim.learning_rate", "validation", "entity_f1", "test", "entity_f1", "seconds", "useful", "tokens/s"]
    assert lines[1].startswith("fast  3      0.1") and lines[-1] == f"picture in {tmp_path / 'table.png'}"
    rows = output.read_text().splitlines()
    assert len(rows) == 4 and {row.count("|") for row in rows} == {8}
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


def test_names_of_rows(tmp_path):
    """Two experiments with seeds beside one another in one folder."""
    folders = [made(tmp_path / f"{name}-{seed}", seed=seed, rate=rate, f1=0.5) for name, rate in (("a", 0.1), ("b", 0.2)) for seed in (1, 2)]
    assert [row.name for row in comparisons.compare(folders).rows] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{0}"], USER_ERROR, "1 run given, expected at least two"),
        (["{0}", "{there}/nowhere"], USER_ERROR, "nowhere holds no finished run (no config.json)"),
        (["{0}", "{0}"], USER_ERROR, "two runs of one config have seed 1"),
        (["{0}", "{3}", "--output={there}/x.png"], USAGE, "give FILE.md"),
        (["{0}", "{3}", "--seeds=2"], USAGE, "--seeds is for --mode=train"),
    ],
)
def test_mistakes(runs, tmp_path, capsys, arguments, code, message):
    assert main(["--mode=compare", *(one.format(*runs, there=tmp_path) for one in arguments)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_a_damaged_run_is_one_line(runs):
    (runs[1] / "results.json").write_text('{"evals": {')
    with pytest.raises(UserError, match=r"seed-2: its results cannot be read"):
        comparisons.compare(runs)


def test_runs_of_several_metrics_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match=r"several main metrics \(accuracy, entity_f1\)"):
        comparisons.compare([runs[0], made(tmp_path / "other", seed=1, rate=0.1, f1=0.5, metric="accuracy")])


@pytest.mark.parametrize("arguments", [["--seeds=0"], ["--seeds=x"], ["--seeds=2", "--config.seed=3"], ["--seeds=2", "--mode=eval"], ["runs/a"]])
def test_wrong_flags(arguments, capsys):
    assert main(["--config=configs/ner.py", *arguments]) == USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_seeds(tmp_path, capsys):
    from flaxft.train.seeds import run_seeds
    from tests import tiny

    cfg = tiny.config(tmp_path, num_steps=4)
    found = run_seeds(cfg, tmp_path / "runs", num=2)
    assert json.loads((tmp_path / "runs/seeds.json").read_text()) == found
    assert found["seeds"] == [1, 2] and cfg.seed == 0
    assert not (tmp_path / "runs/seed-1/report").exists(), "log.report is off"
    for split in ("validation", "test"):
        each = [json.loads((tmp_path / f"runs/seed-{seed}/results.json").read_text())["evals"][split]["loss"] for seed in (1, 2)]
        assert each[0] != each[1], "another seed is another run"
        assert found["evals"][split]["loss"] == {"mean": statistics.mean(each), "sd": statistics.stdev(each), "values": each}
    assert f"test loss                    {statistics.mean(each):.4f} ± {statistics.stdev(each):.4f}" in capsys.readouterr().out
    assert len(comparisons.compare([tmp_path / "runs/seed-1", tmp_path / "runs/seed-2"]).rows) == 1
    with pytest.raises(UserError, match="holds a single run"):
        run_seeds(cfg, tmp_path / "runs/seed-1", num=2)
