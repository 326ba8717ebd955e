"""Targets by name, folders whole or not at all, runs of several tasks, and the command line."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flaxft
from flaxft import errors
from flaxft.errors import UserError
from flaxft.export import base, flax_msgpack
from flaxft.export.base import export
from flaxft.main import main
from flaxft.train.loop import run
from tests import tiny
from tests.tasks.contract import example


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(tiny.config(folder, num_steps=2), folder / "run")
    return folder / "run"


@pytest.fixture
def refusal(capsys):
    """Runs a command that must fail with `code`; returns the one line that says why."""

    def run_command(*arguments: object, code: int = errors.USER_ERROR) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return run_command


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_every_file_of_the_folder_is_a_target():
    assert set(base.targets()) >= {"flax_msgpack", "hf", "int8", "onnx", "stablehlo"}
    for name in base.targets():
        parameters = list(inspect.signature(base.find(name).write).parameters)
        assert parameters[:2] == ["run", "folder"]


@pytest.mark.parametrize(("target", "hint"), [("flax", ""), ("onx", "did you mean 'onnx'?"), ("base", ""), ("../hf", ""), ("os", ""), ("", "")])
def test_an_unknown_target(trained, refusal, target, hint):
    message = refusal("--mode=export", f"--workdir={trained}", f"--target={target}")
    assert f"known are {', '.join(base.targets())}" in message
    assert hint in message


def test_the_command(trained, capsys, tmp_path):
    assert main(["--mode=export", f"--workdir={trained}", "--target=flax_msgpack", f"--output={tmp_path / 'out'}"]) == errors.OK
    printed = capsys.readouterr()
    assert printed.err == ""
    assert str(tmp_path / "out") in printed.out
    assert "not finished" not in printed.out
    index = json.loads((tmp_path / "out" / "export.json").read_text())
    assert set(index["files"]) | {"export.json"} == files(tmp_path / "out")
    assert index["target"] == "flax_msgpack"
    assert index["is_finished"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out"]


def test_default_place(trained):
    (folder,) = export(trained, target="flax_msgpack")
    assert folder == trained / "export" / "flax_msgpack"


def test_no_run(refusal, tmp_path, trained):
    assert f"{tmp_path}/none holds no run" in refusal("--mode=export", f"--workdir={tmp_path}/none")
    assert "--workdir is missing" in refusal("--mode=export", code=errors.USAGE)
    with pytest.raises(UserError, match="holds no run"):
        export(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_flags_of_another_mode(refusal, trained):
    assert "--target is for --mode=export" in refusal("--mode=eval", f"--workdir={trained}", "--target=hf", code=errors.USAGE)


def test_an_option_that_the_target_has_not_got(trained, refusal):
    message = refusal("--mode=export", f"--workdir={trained}", "--target=flax_msgpack", "--dtype=bfloat16")
    assert "--dtype=bfloat16" in message
    assert "--target=flax_msgpack" in message


def test_a_task_of_a_run_of_one(trained, refusal):
    assert "leave it out" in refusal("--mode=export", f"--workdir={trained}", "--task=ner")


# ---- whole or not at all ------------------------------------------------------------------------------------------------------------------------


def test_what_no_export_wrote_stays(trained, refusal, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "'mine.txt', which no export wrote" in refusal("--mode=export", f"--workdir={trained}", "--target=flax_msgpack", f"--output={tmp_path / 'out'}")
    assert files(tmp_path / "out") == {"mine.txt"}
    (tmp_path / "file").write_text("mine")
    assert "no plain folder" in refusal("--mode=export", f"--workdir={trained}", f"--output={tmp_path / 'file'}")
    assert "cannot be made" in refusal("--mode=export", f"--workdir={trained}", f"--output={tmp_path / 'file' / 'out'}")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "out"]


def test_an_export_is_replaced_by_the_next(trained, tmp_path):
    out = tmp_path / "out"
    export(trained, target="flax_msgpack", output=out)
    before = files(out)
    export(trained, target="flax_msgpack", output=out)
    assert files(out) == before
    (out / "notes.md").write_text("mine")
    with pytest.raises(UserError, match=r"'notes.md', which no export wrote"):
        export(trained, target="flax_msgpack", output=out)
    (out / "notes.md").unlink()
    (out / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"'config.json' was changed"):
        export(trained, target="flax_msgpack", output=out)


def test_a_failure_leaves_what_was_there(trained, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(trained, target="flax_msgpack", output=out)
    before = {name: (out / name).read_bytes() for name in files(out)}

    def half(run, folder):
        (folder / "half").write_text("half")
        raise UserError("no more")

    monkeypatch.setattr(flax_msgpack, "write", half)
    with pytest.raises(UserError, match="no more"):
        export(trained, target="flax_msgpack", output=out)
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out"]


def test_what_a_killed_export_left_is_swept_away(trained, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = {".out.old.tmp", ".out.1.tmp.txt", ".other.99.tmp", f".out.{os.getppid()}.tmp"}  # another's, or at work
    for name in (*mine, f".out.{gone.pid}.tmp", f".out.{gone.pid}.old"):
        (tmp_path / name).mkdir()
    export(trained, target="flax_msgpack", output=tmp_path / "out")
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", *mine}


def test_an_unfinished_run_says_so(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    assert main(["--mode=export", f"--workdir={tmp_path / 'run'}"]) == errors.OK
    assert "the run is not finished; these are its best weights so far, of step" in capsys.readouterr().out
    folder = tmp_path / "run" / "export" / "hf"
    assert not json.loads((folder / "export.json").read_text())["is_finished"]
    card = (folder / "README.md").read_text()
    assert "was not finished" in card
    assert "None: the run has no results" in card
    assert "model-index" not in card


def test_results_of_other_weights_are_not_told(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    results["best"]["step"] = 99
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    assert base.Run(flaxft.load(str(tmp_path / "run")), tmp_path / "run").results == {}


# ---- several tasks ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    cfg = tiny.config(folder, num_steps=0)
    cfg.task = example("mixture", folder)
    run(cfg, folder / "run")
    return folder / "run"


def test_each_task_goes_into_its_own_folder(several):
    names = list(flaxft.load(str(several)).task.tasks)
    found = export(several, target="flax_msgpack")
    assert list(found) == [several / "export" / "flax_msgpack" / name for name in names]
    architectures = [json.loads((folder / "config.json").read_text())["architectures"] for folder in found]
    assert len(set(map(str, architectures))) > 1


def test_one_task_of_several(several, tmp_path, refusal):
    name = next(iter(flaxft.load(str(several)).task.tasks))
    ((folder, _),) = export(several, task=name, output=tmp_path / "one").items()
    assert folder == tmp_path / "one"
    results = json.loads((several / "results.json").read_text())["evals"]["validation"]
    metrics = base.Run(flaxft.load(str(several)).only(name), several, name).metrics["validation"]
    assert metrics == {key.removeprefix(f"{name}/"): value for key, value in results.items() if key.startswith(f"{name}/")}
    assert f"# run-{name}" in (folder / "README.md").read_text()
    assert "did you mean" in refusal("--mode=export", f"--workdir={several}", f"--task={name}x")
