"""skypilot.yaml is what SkyPilot reads, and its shell parts run what was asked."""

from __future__ import annotations

import shlex

import pytest

from tests.launch.fakes import LAUNCH, NASTY, Fakes

yaml = pytest.importorskip("yaml")


@pytest.fixture
def task():
    return yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())


@pytest.fixture
def fakes(tmp_path):
    result = Fakes(tmp_path)
    (result.home / "launch").mkdir()
    local = result.home / "launch" / "local.sh"
    local.write_text("#!/usr/bin/env bash\nprintf '%s\\0' \"$@\" >~/arguments\nenv | grep ^FLAXFT_ >~/variables || true\n")
    local.chmod(0o755)
    return result


def test_the_keys(task):
    known = {"name", "workdir", "resources", "num_nodes", "envs", "file_mounts", "setup", "run"}
    assert set(task) == known
    assert task["envs"]["ARGS"].split()[0] == "--config=configs/ner.py"
    bucket = next(iter(task["file_mounts"]))
    assert f"--workdir={bucket}/" in task["envs"]["ARGS"]  # outside of it nothing survives a preemption


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_run(task, fakes, rank):
    nodes = {"SKYPILOT_NUM_NODES": "1" if rank is None else "2", "SKYPILOT_NODE_RANK": str(rank or 0), "SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.6"}
    arguments = [one for one in NASTY if "\n" not in one]  # an --env of sky is one line
    done = fakes.run("bash", "-c", task["run"], ARGS=shlex.join(arguments), **nodes)
    assert done.returncode == 0, done.stderr
    assert (fakes.home / "arguments").read_text().split("\0")[:-1] == arguments
    expected = [] if rank is None else ["FLAXFT_COORDINATOR=10.0.0.5:8476", "FLAXFT_NUM_PROCESSES=2", f"FLAXFT_PROCESS_ID={rank}"]
    assert sorted((fakes.home / "variables").read_text().splitlines()) == expected
    assert not list(fakes.home.rglob("ran"))


def test_setup_makes_the_environment(task, fakes):
    assert fakes.run("bash", "-c", task["setup"]).returncode == 0
    assert (fakes.home / "arguments").read_text() == "--help\0"


def test_sky_itself_reads_it(task):
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed (pip install skypilot, in an environment of its own)")
    found = sky.Task.from_yaml(str(LAUNCH / "skypilot.yaml"))
    assert found.num_nodes == 1
    assert found.run == task["run"]
