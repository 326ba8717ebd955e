"""TensorBoard and its like get each step once, whatever was killed and resumed, and none of them can stop a run. Each is the real package, offline or local."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flaxft.errors import UserError
from flaxft.log import Log, Writer

ROOT = Path(__file__).parents[2]


def train(writer: Writer, steps: range, *, evaluates: int | None = None) -> None:
    """What a run tells its writer, a log line every two steps."""
    for step in steps:
        writer.record({"step": step, "loss": 1 / step} | ({"validation": {"f1@1": 0.5, "A/f1": 0.25}} if step == evaluates else {}))
        if step % 2 == 0:
            writer.progress(step, 20, "", figures={"useful_tokens_per_second": 100.0 * step})


CODE = """
import json, os, sys, time
from pathlib import Path
from flaxft.log import Log, Writer
from tests.loggers.test_loggers import train
begun, last, log, ends = json.loads(sys.argv[2])
writer = Writer(Path(sys.argv[1]), log=Log(**log))
writer.cut(begun)
train(writer, range(begun + 1, last + 1), evaluates=4)
writer.sync()
time.sleep(1.0)  # what is sent by a thread is there
writer.close() if ends else os._exit(9)
"""


KILLED = ((0, 10, False), (6, 8, False), (6, 12, True))
STOPPED = ((0, 10, True), (6, 12, True))


def resumed(workdir: Path, log: dict[str, Any], parts: Sequence[tuple[int, int, bool]], **environment: str) -> dict[str, str]:
    """A run in several processes, each begun at a step, up to a step, and stopped as it should be or killed. Returns the loggers' ids."""
    workdir.mkdir()
    own = {"PATH": os.environ["PATH"], "HOME": str(workdir.parent), "PYTHONWARNINGS": "ignore"} | environment
    for begun, last, ends in parts:
        command = [sys.executable, "-c", CODE, str(workdir), json.dumps([begun, last, log, ends])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=own)
        assert done.returncode == (0 if ends else 9), done.stderr
        lines = [line for line in done.stdout.splitlines() if not line.startswith("step ")]
        assert lines == [], "a logger is silent, and none failed"
    assert [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()] == list(range(1, 13))
    return json.loads((workdir / "loggers.json").read_text())["ids"]


# ---- each of them ---------------------------------------------------------------------------------------------------------------------------------


def test_tensorboard_shows_each_step_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert resumed(tmp_path / "run", {}, KILLED) == {}
    assert len(list((tmp_path / "run/tensorboard").iterdir())) == 3
    found = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert sorted(found.Tags()["scalars"]) == ["speed/useful_tokens_per_second", "train/loss", "validation/A/f1", "validation/f1@1"]
    assert {one.step: one.value for one in found.Scalars("train/loss")} == pytest.approx({step: 1 / step for step in range(1, 13)})
    assert [one.step for one in found.Scalars("train/loss")] == list(range(1, 13))
    assert [one.step for one in found.Scalars("validation/f1@1")] == [4]
    assert [one.step for one in found.Scalars("speed/useful_tokens_per_second")] == [2, 4, 6, 8, 10, 12]


def test_mlflow_in_a_database_file(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install flaxft[mlflow]")
    file = tmp_path / "mlflow.db"
    ids = resumed(tmp_path / "run", {"tensorboard": False, "mlflow": f"sqlite:///{file}"}, KILLED[::2], MLFLOW_EXPERIMENT_NAME="tests")
    with contextlib.closing(sqlite3.connect(file)) as database:
        ((run, status, name),) = database.execute("select run_uuid, status, name from runs").fetchall()
        metrics = database.execute("select key, step, value from metrics where run_uuid = ?", (run,)).fetchall()
        assert ("tests",) in database.execute("select name from experiments").fetchall()
    assert (run, status, name) == (ids["mlflow"], "FINISHED", "run")
    assert sorted((step, value) for key, step, value in metrics if key == "train/loss") == [(step, 1 / step) for step in range(1, 13)]
    assert [(step, value) for key, step, value in metrics if key == "validation/f1_1"] == [(4, 0.5)]  # MLflow has no "@" in a name


def test_trackio_in_a_local_database(tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed: pip install flaxft[trackio]")
    ids = resumed(tmp_path / "run", {"tensorboard": False, "trackio": "tests"}, KILLED, TRACKIO_DIR=str(tmp_path / "trackio"))
    (file,) = (tmp_path / "trackio").glob("*.db")
    with contextlib.closing(sqlite3.connect(file)) as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    assert {name for name, *_ in rows} == {ids["trackio"]}
    assert sorted(step for _, step, metrics in rows if b"train/loss" in metrics) == list(range(1, 13))


def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install flaxft[wandb]")
    key = "0123456789" * 4
    ids = resumed(tmp_path / "run", {"tensorboard": False, "wandb": "tests"}, STOPPED, WANDB_MODE="offline", WANDB_API_KEY=key)
    files = sorted((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
    assert {file.stem for file in files} == {f"run-{ids['wandb']}"}
    code = (
        "import json, sys; from wandb.proto import wandb_internal_pb2 as pb; from tests.loggers.test_loggers import wandb_records\n"
        "records = [pb.Record.FromString(data) for data in wandb_records(open(sys.argv[1], 'rb').read())]\n"
        "print(json.dumps([[r.history.step.num, sorted('/'.join(i.nested_key) or i.key for i in r.history.item)] for r in records if r.HasField('history')]))"
    )
    steps: list[int] = []
    for file in files:
        done = subprocess.run([sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, text=True, check=True)
        steps += [step for step, names in json.loads(done.stdout) if "train/loss" in names]
    assert sorted(steps) == list(range(1, 13))
    assert [file for file in tmp_path.rglob("*") if file.is_file() and key.encode() in file.read_bytes()] == [], "the key stays in the environment"


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format, blocks of 32 KiB with pieces of checksum, length and type."""
    at, pieces = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield pieces
            pieces = b""


# ---- what may not happen --------------------------------------------------------------------------------------------------------------------------


def test_an_evaluation_that_is_made_up_for_is_handed_over(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Writer(tmp_path, log=Log())
    train(first, range(1, 5))
    first.close()
    second = Writer(tmp_path, log=Log())
    second.cut(4)
    second.amend(4, {"validation": {"f1": 0.75}})
    train(second, range(5, 7))
    second.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in found.Scalars("validation/f1")] == [(4, 0.75)]
    assert [one.step for one in found.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def test_writing_event_files_imports_neither_tensorflow_nor_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from flaxft.log import Log, Writer; assert 'tensorboard' not in sys.modules\n"
        "w = Writer(Path(sys.argv[1]), log=Log()); assert 'tensorboard' not in sys.modules\n"
        "w.record({'step': 1, 'loss': 0.5}); w.progress(1, 1, ''); w.close()\n"
        "print('tensorboard' in sys.modules, sorted({'tensorflow', 'torch', 'grpc', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True []"


def test_a_logger_that_fails_is_one_warning(tmp_path, capsys, monkeypatch):
    """One cannot be opened, another fails in the middle."""
    from flaxft.loggers import tensorboard, trackio

    def fail(self, records):
        raise OSError("no space\nleft")

    def refuse(self, workdir, **settings):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tensorboard.TensorBoard, "write", fail)
    monkeypatch.setattr(trackio.Trackio, "__init__", refuse)
    writer = Writer(tmp_path, log=Log(trackio="p"))
    train(writer, range(1, 9))
    writer.close()
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert warnings == [
        "warning: log.trackio: ConnectionError: no route to host; the run goes on without it",
        "warning: log.tensorboard: OSError: no space left; the run goes on without it",
    ]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 8


def test_other_processes_and_no_workdir_log_nothing(tmp_path):
    for writer in (Writer(None, log=Log()), Writer(tmp_path, is_first_process=False, log=Log())):
        train(writer, range(1, 5))
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_said_before_the_run(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else object())
    Log().check()
    with pytest.raises(UserError, match=r"log.wandb is 'p', but wandb is not installed; pip install wandb, or leave it out"):
        Log(wandb="p").check()


def test_no_password_goes_into_the_config():
    with pytest.raises(UserError, match=r"log.mlflow holds a password.*MLFLOW_TRACKING_USERNAME") as caught:
        Log(mlflow="https://me:secret@host/").check()
    assert "secret" not in str(caught.value)
