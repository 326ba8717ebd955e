"""`flaxft doctor` without words: what it says of the machine, and what it takes for a problem."""

from __future__ import annotations

import pytest

from flaxft import errors, machine
from flaxft.main import main


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(machine, "ACCELERATORS", ())
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a").write_bytes(bytes(1 << 20))
    return tmp_path


def test_a_sound_machine(capsys):
    assert main(["doctor"]) == errors.OK
    said = capsys.readouterr().out
    for word in ("flaxft", "python", "jax ", "devices   1 cpu", "GiB", "FLAXFT_CACHE", "not there yet", "no problem found"):
        assert word in said
    assert max(map(len, said.splitlines())) <= 160


def test_lines_fit_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    found = machine.Machine(facts={"packages": "jax 1, " * 30})
    machine.show(found)
    assert max(map(len, capsys.readouterr().out.splitlines()[:-1])) <= 60


def test_an_accelerator_that_jax_does_not_use(folders, monkeypatch, capsys):
    monkeypatch.setattr(machine, "ACCELERATORS", ((str(folders), "gpu", "an NVIDIA GPU", "cuda"),))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert main(["doctor"]) == errors.USER_ERROR
    assert 'an NVIDIA GPU is here, but jax computes on the cpu; pip install "flaxft[cuda]"' in capsys.readouterr().err
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # asked for
    assert machine.examine().problems == []


def test_a_cache_that_is_no_folder(folders, monkeypatch):
    monkeypatch.setenv("FLAXFT_CACHE", str(folders / "cache" / "a"))
    assert [problem for problem in machine.examine().problems if "cannot be written" in problem]


def test_no_device(monkeypatch):
    def fail():
        raise RuntimeError("no backend")

    monkeypatch.setattr("jax.devices", fail)
    assert machine.examine().problems[0].startswith("jax finds no device (no backend)")
