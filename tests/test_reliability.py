"""Kills, signals, damage, full disks, hangs, other devices and processes: the rows of benchmarks/reliability.py in their small form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import reliability


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> reliability.Job:
    return reliability.job(tmp_path_factory.mktemp("reliability"))


@pytest.mark.slow
@pytest.mark.parametrize("name", reliability.ROWS)
def test_nothing_changes_the_result(made, tmp_path, name):
    row, small, _ = reliability.ROWS[name]
    assert reliability.failures(row(made, tmp_path, **small)) == []


@pytest.mark.parametrize("file", ["metrics.jsonl", "results.json", "predictions/test.jsonl"])
def test_a_difference_is_found(made, tmp_path, file):
    import shutil

    workdir = Path(shutil.copytree(made.whole, tmp_path / "run"))
    assert reliability.differences(made, workdir) == []
    text = (workdir / file).read_text()
    at = next(i for i, letter in enumerate(text) if letter == "3")
    (workdir / file).write_text(f"{text[:at]}4{text[at + 1 :]}")
    assert reliability.differences(made, workdir)


def test_a_lost_step_and_a_leftover_are_found(made, tmp_path):
    import shutil

    workdir = Path(shutil.copytree(made.whole, tmp_path / "run"))
    assert not reliability.lost_steps(workdir)
    assert reliability.sound(workdir) == []
    (workdir / "checkpoints" / "240" / "manifest.json").unlink()
    (workdir / "plan.json.tmp").touch()
    assert reliability.lost_steps(workdir) == "240 steps done, 220 saved"
    assert len(reliability.sound(workdir)) == 2
