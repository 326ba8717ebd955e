"""--mode=doctor: every problem at once, one line each; a sound config is told so; nothing is written."""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flaxft
from flaxft import doctor, errors, files
from flaxft.doctor import Examination, activation_bytes, examine, histogram, show
from flaxft.main import main
from flaxft.train.lock import Lock
from tests import tiny

ROOT = Path(__file__).parent.parent
RATE = "--config.optim.learning_rate=1e-3"  # of tiny runs 1e-2, which is worth a warning
FINISHED: dict[str, Any] = {"num_steps": 6, "evals": {}, "optim.learning_rate": 1e-3}


def snapshot(root: Path) -> dict[Path, bytes | None]:
    return {entry: entry.read_bytes() if entry.is_file() else None for entry in root.rglob("*")}


@pytest.fixture
def config(tmp_path) -> Path:
    cfg = tiny.config(tmp_path)
    assert cfg.task.train
    text = f"from pathlib import Path\n\nfrom tests import tiny\n\n\ndef get_config():\n    return tiny.config(Path({str(tmp_path)!r}))\n"
    (tmp_path / "config.py").write_text(text)
    return tmp_path / "config.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of 6 steps with checkpoints at 5 and 6."""
    folder = tmp_path_factory.mktemp("finished")
    flaxft.run(tiny.config(folder, **FINISHED), str(folder / "run"))
    return folder


def look(config: Path, capsys, *overrides: str) -> tuple[int, str, list[str]]:
    """Exit code, what stands on stdout, and the problems."""
    before = snapshot(config.parent)
    capsys.readouterr()
    code = main(["--mode=doctor", f"--config={config}", f"--workdir={config.parent / 'run'}", *overrides])
    out, err = capsys.readouterr()
    assert snapshot(config.parent) == before, "nothing may be written"
    lines = err.splitlines()
    assert all(line.startswith("error: ") for line in lines), err
    return code, out, [line.removeprefix("error: ") for line in lines]


def test_what_was_guessed_of_the_data_is_told(config, capsys):
    train = config.parent / "train.csv"
    train.write_text("tokens;ner_tags\n['anna', 'lives'];['B-PER', 'O']\n['in', 'paris'];['O', 'B-LOC']\n")
    _, out, _ = look(config, capsys, f"--config.task.train={train}", "--config.task.validation=", "--config.task.test=")
    assert out.count(f"note: {train}: the cells are separated by semicolons") == 1
    assert f"note: {train}: the cells of columns 'tokens', 'ner_tags' are read as lists" in out
    assert "are not used" not in out, "what the model leaves aside is no guess about the data"


def test_a_sound_config(config, capsys):
    code, out, problems = look(config, capsys, "--config.data.max_length=12")
    assert (code, problems) == (errors.OK, [])
    assert "no problem found" in out and "with train in place of doctor trains" in " ".join(out.split())
    cfg = tiny.config(config.parent, **{"data.max_length": 12})
    found = examine(cfg, config.parent / "run")
    train = found.splits["train"]
    assert train.num_records == 60 and train.num_windows == len(train.lengths) - 60 > 0, "long sentences are windows"
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert rows["train"][1:6] == ["60", str(len(train.lengths)), str(train.num_windows), f"{train.lengths.sum():,}", str(int(np.median(train.lengths)))]
    assert rows["train"][-1] == "12" and rows["validation"][1] == rows["test"][1] == "20"
    assert "23,591 parameters, all finite, 231 of them new" in " ".join(out.split())  # 7 labels of a hidden size of 32
    num_steps = 2 * -(-len(train.lengths) // 8)
    assert f"steps    {num_steps} of 8 examples, {num_steps // 2} an epoch" in out
    assert "pieces   93 in the tokenizer, 128 embeddings in the model" in out
    for word in ("labels   3 entity types: ", "rows ", "padding ", "memory ", "disk ", "workdir ", ", new", "tokens of an example, train"):
        assert word in out, word


def test_what_it_says_is_what_a_run_says(finished, capsys):
    """Steps, rows and padding beside plan.json and results.json of the run itself."""
    found = examine(tiny.config(finished, **FINISHED), finished / "new")
    plan, results = (json.loads((finished / "run" / f"{name}.json").read_text()) for name in ("plan", "results"))
    assert found.facts["steps"].startswith(f"{results['steps']} of 8 examples")
    ((num_rows, row_length, num_slots),) = plan["shapes"]
    assert found.facts["rows"] == f"{num_rows} x {row_length} rows x tokens a step, with up to {num_slots} examples a row"
    assert found.facts["padding"].startswith(f"{plan['padding_fraction']:.1%} of the positions as planned")
    size = sum(file.stat().st_size for file in (finished / "run" / "checkpoints" / "6").rglob("*") if file.is_file())
    state = 12 * 23_591
    assert 0.7 * state < size < 1.5 * state, "the disk's estimate"


def test_three_problems_in_one_go(config, capsys):
    bad = config.parent / "bad.conll"
    bad.write_text("anna\tB-PER\n\nacme\tB-DISEASE\n\nin\tO\n\nrome\tI-DISEASE\n")
    missing = config.parent / "none.conll"
    code, out, problems = look(
        config, capsys, f"--config.task.validation={bad}", "--config.data.max_length=65", f"--config.task.test={missing}", "--config.task.scheme=IOB2"
    )
    assert code == errors.USER_ERROR
    expected = [("max_length is 65", "64 positions"), (f"{bad}:3", "'B-DISEASE' is not among the labels"), (f"{bad}:7", "DISEASE"), (f"{missing}: no such",)]
    assert len(problems) == 4, problems
    for words, line in zip(expected, problems, strict=True):
        assert all(word in line for word in words), (words, line)
    assert "4 problems: training would fail" in out
    assert re.search(r"^train +60 ", out, re.MULTILINE), "what is sound was looked at all the same"


def test_every_number_that_cannot_be_meant(config, capsys):
    given = {"optim.learning_rate": -1, "optim.b2": 2, "data.batch_size": 0, "data.threads": 0, "checkpoint.keep": 0, "seed": -1, "num_epochs": "inf",
             "evals.validation.every": -1, "mesh.data": 3, "model.path": "./nowhere"}  # fmt: skip
    code, _, problems = look(config, capsys, *(f"--config.{name}={value}" for name, value in given.items()))
    assert code == errors.USER_ERROR
    named = [name.replace("validation.every", "validation").replace("mesh.data", "mesh") for name in given]
    assert [any(line.startswith((f"{name} is", f"{name}=")) for line in problems) for name in named] == [True] * len(given), problems
    assert len(problems) == len(given)


def test_wrong_types_alone(tmp_path):
    cfg = tiny.config(tmp_path)
    cfg.seed, cfg.optim.learning_rate = "1", "1e-3"  # type: ignore[assignment]
    assert examine(cfg, tmp_path / "run").problems == ["optim.learning_rate is '1e-3', expected float | None", "seed is '1', expected int"]


def spoil_weights(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "encoder" / "model.safetensors")
    tensors["embeddings.LayerNorm.weight"][:] = np.nan
    save_file(tensors, folder / "encoder" / "model.safetensors")


def spoil_tokenizer(folder: Path) -> None:
    tiny.encoder(folder / "encoder", vocab_size=50)


@pytest.mark.parametrize(
    ("spoil", "words"), [(spoil_weights, ["NaN or infinity"]), (spoil_tokenizer, ["the tokenizer has", "50 embeddings"])], ids=["weights", "tokenizer"]
)
def test_a_bad_model_beside_bad_data(config, capsys, spoil, words):
    spoil(config.parent)
    code, _, problems = look(config, capsys, f"--config.task.test={config.parent / 'none.conll'}")
    assert code == errors.USER_ERROR and len(problems) == 2
    assert all(word in " ".join(problems) for word in [*words, "none.conll: no such file"]), problems


def test_many_bad_records_are_cut_short(config, capsys):
    bad = config.parent / "bad.conll"
    bad.write_text("acme\tB-DISEASE\n\n" * 30)
    _, _, problems = look(config, capsys, f"--config.task.validation={bad}")
    assert len(problems) == doctor.SHOWN + 1
    assert f"{bad}: 20 more of its 30 records" in problems[-1]


def test_warnings_do_not_fail(config, capsys):
    code, out, problems = look(config, capsys, f"--config.task.validation={config.parent / 'train.conll'}", "--config.task.test=", RATE)
    assert (code, problems) == (errors.OK, [])
    assert "warning: validation: 60 of 60 records are in the train split too" in out
    assert "no problem found, 1 warning;" in out


def test_numbers_that_are_no_use(config, capsys):
    """Each may be meant, so that it is a warning, with what to try."""
    code, out, problems = look(config, capsys, "--config.optim.learning_rate=1e3", "--config.data.batch_size=100000")
    assert (code, problems) == (errors.OK, [])
    assert "warning: learning rate 1000 is above what an encoder of hidden size 32 is fine-tuned with" in out
    assert "warning: a step of 100,000 examples is most of the" in out and "; try --config.data.batch_size=32" in out
    code, out, _ = look(config, capsys, "--config.optim.learning_rate=1e-6")
    assert "warning: learning rate 1e-06 is below" in out and "; try --config.optim.learning_rate=0.001" in out


def test_labels_are_counted(config, capsys):
    """Entity types, not tags; a rare one is told."""
    with (config.parent / "train.conll").open("a") as file:
        file.write("oslo\tB-RIVER\n\n")
    found = examine(tiny.config(config.parent), config.parent / "run")
    counted = re.fullmatch(r"4 entity types: (.*); 1 with fewer than 10 examples", found.facts["labels"])
    assert counted and counted[1].endswith("RIVER 1") and "PER " in counted[1]
    assert any("1 of 4 entity types with fewer than 10 examples in train (RIVER 1)" in one for one in found.warnings)
    many = doctor.describe_labels({f"label {i}": i for i in range(30)}, noun="labels")
    assert many.startswith("30 labels: label 29 29, label 28 28, ") and many.endswith(", ... label 2 2, label 1 1, label 0 0; 10 with fewer than 10 examples")


def test_a_tokenizer_that_may_be_another_models(config, capsys):
    tiny.encoder(config.parent / "encoder", vocab_size=200)
    code, out, problems = look(config, capsys)
    assert (code, problems) == (errors.OK, []) and "the tokenizer has 93 pieces and the model 200 embeddings; is it its own?" in out


def test_without_a_train_split(config, capsys):
    code, _, problems = look(config, capsys, "--config.task.train=", "--config.task.labels=O,B-PER,B-LOC,B-ORG,I-ORG")
    assert code == errors.USER_ERROR and [line for line in problems if "task.train is empty" in line]


# ---- the workdir, the disk, the memory --------------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small(config, capsys, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1_000_000))
    code, _, problems = look(config, capsys)
    assert code == errors.USER_ERROR and len(problems) == 1
    assert "checkpoints take up to" in problems[0] and "checkpoint.keep=2" in problems[0] and "are free; free some" in problems[0]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 10**9))
    assert look(config, capsys)[0] == errors.OK


def test_too_little_memory(config, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_free_memory", lambda device: (1000, "this machine"))
    code, _, problems = look(config, capsys)
    assert code == errors.USER_ERROR and "memory: parameters, gradients and moments take" in problems[0]
    monkeypatch.setattr(doctor, "_free_memory", lambda device: (16 * 23_591, "this machine"))
    code, out, problems = look(config, capsys)
    assert (code, problems) == (errors.OK, []) and "warning: memory: a step takes about" in out and "lower data.max_rows" in out


def test_the_formula_of_activations():
    """The paper's own case: F = 4 D, 16 bit: 34 D + 5 N T a layer and position."""
    config = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    assert activation_bytes(config, row_length=128, dtype="bfloat16", remat=False) == 12 * (34 * 768 + 5 * 12 * 128)
    wide = activation_bytes(config, row_length=128, dtype="float32", remat=False)
    assert wide is not None and 1.7 < wide / (12 * (34 * 768 + 5 * 12 * 128)) < 2
    small = activation_bytes(config, row_length=128, dtype="float32", remat=True)
    assert small is not None and small < wide / 5
    assert activation_bytes({"hidden_size": 768}, row_length=128, dtype="float32", remat=False) is None


def test_an_existing_run(finished, tmp_path):
    cfg = tiny.config(finished, **FINISHED)
    run = shutil.copytree(finished / "run", tmp_path / "run")
    before = snapshot(run)
    found = examine(cfg, run)
    assert found.problems == [] and found.warnings == []
    assert "goes on from step 6, whose checkpoint is whole" in found.facts["workdir"]
    assert snapshot(run) == before

    other = dataclasses.replace(cfg, seed=3)
    (problem,) = examine(other, run).problems
    assert "another config (seed: 0 -> 3)" in problem

    steps = sorted(int(folder.name) for folder in (run / "checkpoints").iterdir())
    for folder, word in ((str(steps[-1]), f"goes on from step {steps[-2]}"), (str(steps[-2]), "")):
        saved = [file for file in (run / "checkpoints" / folder).rglob("*") if file.is_file() and file.name != "manifest.json"]
        victim = max(saved, key=lambda file: file.stat().st_size)
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
        found = examine(cfg, run)
        assert any("damaged" in line and "falls back" in line for line in found.warnings)
        if word:
            assert found.problems == [] and word in found.facts["workdir"]
    assert found.problems == [f"{run / 'checkpoints'}: all {len(steps)} checkpoints are damaged; restore one from a copy, or start a new workdir"]


def test_half_written_checkpoints_stay(finished, tmp_path):
    run = shutil.copytree(finished / "run", tmp_path / "run")
    (run / "checkpoints" / "9").mkdir()
    examine(tiny.config(finished, **FINISHED), run)
    assert (run / "checkpoints" / "9").is_dir(), "that is for the run to clear"


def test_a_run_needs_no_config_file(finished, capsys):
    assert main(["--mode=doctor", f"--workdir={finished / 'run'}"]) == errors.OK
    assert "goes on from step 6" in capsys.readouterr().out


def test_a_workdir_in_use(finished, tmp_path):
    run = shutil.copytree(finished / "run", tmp_path / "run")
    with Lock(run):
        content = (run / "lock").read_bytes()
        (problem,) = examine(tiny.config(finished, **FINISHED), run).problems
        assert f"in use by process {os.getpid()}" in problem
        assert (run / "lock").read_bytes() == content


def test_a_workdir_that_is_a_file(config, capsys):
    (config.parent / "run").write_text("mine")
    code, _, problems = look(config, capsys)
    assert code == errors.USER_ERROR and len(problems) == 1 and "is a file" in problems[0]
    code = main(["--mode=doctor", f"--config={config}", f"--workdir={config.parent / ('a' * 300)}"])
    assert code == errors.USER_ERROR
    assert "File name too long" in capsys.readouterr().err


# ---- how it looks -----------------------------------------------------------------------------------------------------------------------------------


def test_a_histogram():
    lengths = np.r_[np.full(10, 3), np.full(5, 16), np.full(1, 80)]
    lines = histogram(lengths, width=40, bar="#")
    assert len(lines) == doctor.BINS
    assert lines[0].split()[:2] == ["1-10", "10"] and lines[1].split()[:2] == ["11-20", "5"] and lines[2].split() == ["21-30", "0"]
    assert lines[-1].split()[:2] == ["71-80", "1"]
    assert lines[0].count("#") >= 2 * lines[1].count("#") > lines[-1].count("#") > 0 and max(map(len, lines)) <= 40
    assert histogram(np.zeros(0, np.int32), width=40, bar="#") and histogram(np.asarray([1]), width=40, bar="#")


def test_text_of_files_is_escaped(capsys):
    found = Examination(problems=["a\x1b[31mb [bold]x[/bold]"], warnings=["w\u202e\r"], facts={"model": "m\x9b [red]"})
    assert show(found) == errors.USER_ERROR
    out, err = capsys.readouterr()
    assert err == "error: a\\x1b[31mb [bold]x[/bold]\n"
    assert "warning: w\\u202e\\r" in out and "m\\x9b [red]" in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_a_terminal(finished, monkeypatch, width):
    """In colour; no line is wider, none is cut with dots."""
    found = examine(tiny.config(finished, **FINISHED), finished / "none")
    found.splits["validation"] = found.splits["validation"]._replace(num_records=1_234_567)
    terminal = Terminal()
    for name, value in {"COLUMNS": str(width), "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert show(found) == errors.OK
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert plain != terminal.getvalue(), "there is colour"
    assert "█" in plain and "1,234,567" in plain and "…" not in plain
    assert max(len(line.rstrip()) for line in plain.splitlines() if not line.startswith("no problem")) <= width


def test_in_a_pipe_it_is_plain(config):
    command = [sys.executable, "-m", "flaxft.main", "--mode=doctor", f"--config={config}", f"--workdir={config.parent / 'run'}", "--config.optim.b1=7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == errors.USER_ERROR
    assert done.stderr == "error: optim.b1 is 7.0, expected from 0 to below 1\n"
    assert "\x1b" not in done.stdout and "█" not in done.stdout and "1 problem: training would fail" in done.stdout
    assert not (config.parent / "run").exists()


def test_a_workdir_in_a_bucket(tmp_path, monkeypatch):
    """A folder that is said to be one: nobody knows how much room there is, and there is no lock. (A real bucket was not at hand.)"""
    workdir = tmp_path / "run"
    monkeypatch.setattr(files, "is_local", lambda file: not file.is_relative_to(workdir))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: pytest.fail("a bucket is no disk"))
    found = examine(tiny.config(tmp_path), workdir)
    assert found.problems == []
    assert found.facts["workdir"].endswith("run, new") and "disk" not in found.facts
