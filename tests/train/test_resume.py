"""The same command again continues with the same bits, whatever stopped it; devices, micro-batches and damage change no result."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from flaxft.checkpoint import MANIFEST, Checkpointer
from flaxft.data.packing import Shape, make_plan, rows_of_step
from flaxft.errors import DamagedError, Interrupted, UserError
from flaxft.train.loop import run
from tests import tiny

NUM_STEPS = 16  # two epochs of 60 items in batches of 8


def final_arrays(workdir: Path) -> bytes:
    """All arrays of the newest checkpoint as bytes."""
    import jax
    from orbax.checkpoint import v1 as ocp

    newest = max(int(entry.name) for entry in (workdir / "checkpoints").iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Orbax warns that no shardings are given: here they are those of the run
        parts = ocp.load_checkpointables((workdir / "checkpoints" / str(newest)).absolute())
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves({name: parts[name] for name in ("params", "opt_state", "progress")}))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    results = run(tiny.config(folder), folder / "run")
    assert results["compiles_after_start"] == 0
    return folder, results


def test_a_run_learns_and_writes_what_it_promises(uninterrupted):
    folder, results = uninterrupted
    losses = tiny.losses(folder / "run")
    assert len(losses) == NUM_STEPS == results["steps"]
    assert np.mean([losses[s] for s in range(13, 17)]) < 0.7 * np.mean([losses[s] for s in range(1, 5)])
    assert set(results["evals"]) == {"validation", "test"}
    assert 0 <= results["padding_fraction"] < 1
    assert results["useful_tokens_per_second"] > 0
    for name in ("config.json", "plan.json", "results.json", "predictions/test.jsonl", "model/tokenizer.json"):
        assert (folder / "run" / name).is_file(), name
    assert json.loads((folder / "run" / "results.json").read_text()) == results


def test_two_runs_have_the_same_bits(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    run(tiny.config(folder), tmp_path / "run")
    assert tiny.losses(tmp_path / "run") == tiny.losses(folder / "run")
    assert final_arrays(tmp_path / "run") == final_arrays(folder / "run")


def copy_without_end(folder: Path, target: Path) -> Path:
    """The finished run as it was before its last checkpoint."""
    shutil.copytree(folder / "run", target)
    return target


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "manifest", "uncommitted"])
def test_a_damaged_checkpoint_is_never_used(uninterrupted, tmp_path, damage, capsys):
    folder, _ = uninterrupted
    workdir = copy_without_end(folder, tmp_path / "run")
    newest = max(int(entry.name) for entry in (workdir / "checkpoints").iterdir())
    target = workdir / "checkpoints" / str(newest)
    largest = max((file for file in target.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    elif damage == "cut":
        largest.write_bytes(content[:-10])
    elif damage == "delete":
        largest.unlink()
    elif damage == "manifest":
        manifest = target / MANIFEST
        manifest.write_text(manifest.read_text().replace('"bad_evals": ', '"bad_evals": 1'))
    else:
        (target / MANIFEST).unlink()
    run(tiny.config(folder), workdir)
    assert (damage == "uncommitted") or "damaged" in capsys.readouterr().out
    assert tiny.losses(workdir) == tiny.losses(folder / "run")
    assert final_arrays(workdir) == final_arrays(folder / "run")


def test_who_dies_before_the_old_checkpoint_is_gone_leaves_none_too_many(uninterrupted, tmp_path, monkeypatch):
    """The last save counts, and the process ends before retention: nothing is saved again that would remove what is too much."""
    folder, _ = uninterrupted
    kept = sorted(entry.name for entry in (folder / "run" / "checkpoints").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "_retain", lambda self, host: None)
        run(tiny.config(folder), tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    assert len(list(checkpoints.iterdir())) > len(kept)
    run(tiny.config(folder), tmp_path / "run")
    assert sorted(entry.name for entry in checkpoints.iterdir()) == kept


def test_what_is_saved_is_what_was_true_then(tmp_path):
    checkpointer = Checkpointer(tmp_path / "checkpoints", keep=1)
    host = {"best": None, "totals": {"seconds": 1.0, "tokens": 30}}
    checkpointer.save(1, {"params": {"kernel": np.zeros((64, 64), np.float32)}}, host)
    host["totals"]["tokens"] = 60  # the run goes on while the checkpoint is written
    checkpointer.close()
    assert checkpointer.host(1)["totals"] == {"seconds": 1.0, "tokens": 30}


def test_all_damaged_is_an_error_with_its_own_code(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    workdir = copy_without_end(folder, tmp_path / "run")
    for manifest in workdir.rglob(MANIFEST):
        manifest.write_text("{")
    with pytest.raises(DamagedError, match=r"all .* damaged") as caught:
        run(tiny.config(folder), workdir)
    assert caught.value.exit_code == 4


def test_another_config_is_refused_by_name(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    with pytest.raises(UserError, match=r"optim.learning_rate: 0.01 -> 0.1.*seed: 0 -> 7"):
        run(tiny.config(folder, **{"optim.learning_rate": 0.1, "seed": 7}), folder / "run")
    before = (folder / "run" / "config.json").read_bytes()
    run(tiny.config(folder, **{"log.every": 3, "checkpoint.every": 7}), folder / "run")  # operational: may differ
    assert json.loads(before)["config"]["log"]["every"] == 4


def test_changed_data_is_refused(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    workdir = copy_without_end(folder, tmp_path / "run")
    other = tiny.corpus(tmp_path / "other.conll", seed=5)
    with pytest.raises(UserError, match="train data"):
        run(tiny.config(folder, **{"task.train": str(other)}), workdir)
    moved = tmp_path / "moved.conll"
    shutil.copy(folder / "train.conll", moved)
    run(tiny.config(folder, **{"task.train": str(moved)}), workdir)  # the same content under another name


def test_several_shapes(uninterrupted, tmp_path, monkeypatch):
    """All are compiled before the first step, a run that goes on has the same bits, and which rows a step has changes no loss."""
    folder, _ = uninterrupted

    def plan_of(*args, **settings):
        """Shapes that share rows, tokens or slots."""
        last = Shape(12, 32, 8)
        return dataclasses.replace(make_plan(*args, **settings), shapes=(Shape(6, 24, 8), Shape(6, 32, 8), Shape(7, 32, 6), Shape(7, 32, 8), last))

    used = set()

    def rows(*args, **settings):
        found = rows_of_step(*args, **settings)
        used.update(one.shape for one in found)
        return found

    monkeypatch.setattr("flaxft.train.prepare.make_plan", plan_of)
    monkeypatch.setattr("flaxft.data.pipeline.rows_of_step", rows)
    many = {"data.num_shapes": 5, "checkpoint.every": 3}
    results = run(tiny.config(folder, **many), tmp_path / "run")
    assert results["compiles_after_start"] == 0
    assert used >= {Shape(6, 24, 8), Shape(6, 32, 8), Shape(7, 32, 6)}
    before = tiny.losses(tmp_path / "run"), final_arrays(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(NUM_STEPS))
    assert run(tiny.config(folder, **many), tmp_path / "run")["steps"] == NUM_STEPS
    assert (tiny.losses(tmp_path / "run"), final_arrays(tmp_path / "run")) == before

    still = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0, "model.classifier_dropout": 0.0, "optim.learning_rate": 1e-3}
    run(tiny.config(folder, **still, **many), tmp_path / "three")
    monkeypatch.setattr("flaxft.train.prepare.make_plan", make_plan)
    run(tiny.config(folder, **still), tmp_path / "one")
    three, one = tiny.losses(tmp_path / "three"), tiny.losses(tmp_path / "one")
    assert max(abs(three[step] - one[step]) for step in one) < 1e-5


def test_accumulation_is_exact(uninterrupted, tmp_path):
    """Micro-batches give the losses of one batch (dropout off: its mask follows rows within the micro-batch)."""
    folder, _ = uninterrupted
    still = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0, "model.classifier_dropout": 0.0, "optim.learning_rate": 1e-3}
    whole = run(tiny.config(folder, **still), tmp_path / "whole")
    parts = run(tiny.config(folder, **still, **{"data.max_rows": 2}), tmp_path / "parts")
    assert json.loads((tmp_path / "parts" / "plan.json").read_text())["shapes"][-1][0] <= 2
    assert parts["compiles_after_start"] == 0
    one, many = tiny.losses(tmp_path / "whole"), tiny.losses(tmp_path / "parts")
    assert max(abs(one[step] - many[step]) for step in one) < 1e-5
    assert whole["steps"] == parts["steps"]


DEVICES = """
import sys
from pathlib import Path
from tests import tiny
from flaxft.train.loop import run
import jax
folder, workdir, mesh = Path(sys.argv[1]), Path(sys.argv[2]), eval(sys.argv[3])
cfg = tiny.config(folder, **{f"mesh.{axis}": size for axis, size in mesh.items()})
results = run(cfg, workdir)
assert results["compiles_after_start"] == 0, results
assert len(jax.devices()) == 8
"""


def on_eight_devices(folder: Path, workdir: Path, mesh: dict[str, int]) -> str:
    """Runs there in a process of its own; returns what it printed."""
    environment = tiny.devices(8)
    command = [sys.executable, "-c", DEVICES, str(folder), str(workdir), str(mesh)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_eight_devices_see_the_same_batches(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    shutil.copytree(folder / "run", tmp_path / "run", ignore=lambda _, names: [n for n in names if n != "plan.json"])
    on_eight_devices(folder, tmp_path / "run", {"data": 2, "fsdp": 2, "tensor": 2})
    evals = [json.loads((workdir / "run" / "results.json").read_text())["evals"] for workdir in (folder, tmp_path)]
    for split, scores in evals[0].items():  # every example exactly once, on any number of devices
        assert scores == pytest.approx(evals[1][split], abs=1e-5)
    one, many = tiny.losses(folder / "run"), tiny.losses(tmp_path / "run")
    assert max(abs(one[step] - many[step]) for step in one) < 1e-5 * max(one.values())


def test_early_stopping_survives_a_resume(uninterrupted, tmp_path):
    from flaxft.config import Eval

    folder, _ = uninterrupted
    # accuracy cannot rise with a rate of almost nothing: the first evaluation stays the best
    changes = {"optim.learning_rate": 1e-9, "num_epochs": 6, "log.every": 1}
    cfg = tiny.config(folder, **changes)
    cfg.evals = {"validation": Eval(every=4, patience=3)}
    results = run(cfg, tmp_path / "run")
    assert results["best"]["step"] == 4
    assert results["steps"] == 16
    again = run(cfg, tmp_path / "run")
    assert again["steps"] == 16
    assert again["evals"] == results["evals"]


def test_who_is_interrupted_between_two_splits_has_evaluated_neither(uninterrupted, tmp_path, monkeypatch):
    """Otherwise the evaluation that is made up for counts twice: it is not better than itself."""
    from flaxft.checkpoint import Checkpointer
    from flaxft.config import Eval
    from flaxft.train.evaluate import Evaluator

    folder, _ = uninterrupted
    cfg = tiny.config(folder)
    cfg.evals = {"validation": Eval(every=4, patience=9), "test": Eval(every=4)}

    def bad_evals(workdir: Path) -> list[int]:
        checkpointer = Checkpointer(workdir / "checkpoints", keep=9, is_first_process=False)
        return [checkpointer.host(step)["bad_evals"] for step in checkpointer.steps()]

    run(cfg, tmp_path / "whole")
    inner, calls = Evaluator.evaluate, []

    def evaluate(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted(signal.SIGTERM, "stopped")
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    with pytest.raises(Interrupted, match="saved at step 8"):
        run(cfg, tmp_path / "run")
    run(cfg, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert bad_evals(tmp_path / "run") == bad_evals(tmp_path / "whole")


def test_a_checkpoint_of_another_run_is_refused(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    other = tiny.config(folder, **{"optim.learning_rate": 3e-3})
    run(other, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.copytree(folder / "run" / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(UserError, match=r"is of another run \(config: .* -> .*\); move it away, or give another --workdir"):
        run(other, tmp_path / "run")
