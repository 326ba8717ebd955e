"""What the machine denies: rights, space, the hub, and signals. Numbers 131 to 140 of the corpus."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flaxft import errors
from flaxft.checkpoint import MANIFEST
from flaxft.main import main
from tests import tiny
from tests.bad_inputs import corpus
from tests.bad_inputs.corpus import ROOT, Case

TWO_STEPS = ("--config.num_steps=2", "--config.checkpoint.every=1", "--config.task.test=")

READ_ONLY = [Case(131, place, [f"--workdir={place}"], [place, "cannot be written", "give another --workdir"]) for place in ("/proc/flaxft/run", "/sys/flaxft")]
MOUNTED = Case(131, "a read-only disk", ["--workdir={disk}/run"], ["cannot be written", "give another --workdir"])
CLOSED = Case(131, "no right to write", ["--workdir={tmp}/closed/run"], ["closed", "cannot be written", "the right to write there"])
FULL = Case(132, "no space at the start", ["--workdir={disk}/run"], ["run", "No space left", "free space"], errors.DISK)
FULL_LATER = Case(133, "no space while saving", ["--workdir={disk}/run", *TWO_STEPS], ["checkpoints", "free space"], errors.DISK)
LOCKED = Case(134, "a workdir in use", ["--workdir={disk}/run", *TWO_STEPS], ["{pid}", "give another --workdir"])
OFFLINE = Case(135, "offline, and not in the cache", ["--config.model.path=nobody/no-model"],
     ["nobody/no-model", "not in the hub's cache", "connect to the hub"], is_real=True)
TRUNCATED = Case(136, "a download cut off", ["--config.model.path=somebody/model"], ["model.safetensors", "damaged or cut off", "fetch it again"])
SIGNALS = {
    "compile": Case(137, "SIGTERM while compiling", code=errors.SIGTERM),
    "eval": Case(138, "SIGTERM in an evaluation", code=errors.SIGTERM),
    "save": Case(139, "SIGTERM in a save", code=errors.SIGTERM),
    "twice": Case(140, "SIGTERM twice", code=errors.SIGTERM),
}
CASES = [*READ_ONLY, MOUNTED, CLOSED, FULL, FULL_LATER, LOCKED, OFFLINE, TRUNCATED, *SIGNALS.values()]

# ---- rights and space -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", READ_ONLY, ids=lambda case: case.id)
def test_a_place_that_cannot_be_written(tried, case):
    """Root may write anywhere but in the kernel's own file systems."""
    if not Path("/", Path(case.name).parts[1]).is_dir():
        pytest.skip(f"no {case.name} here")
    tried(case)
    assert not Path(case.name).exists()


def test_no_right_to_write(tried, tmp_path, monkeypatch):
    closed = tmp_path / "case" / "closed"
    closed.mkdir(mode=0o500)
    if os.getuid() == 0:  # who may write everywhere; what the kernel tells others is put in
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    tried(CLOSED)


@pytest.fixture
def mount(tmp_path) -> Iterator[Callable[..., Path]]:
    """Mounts a small disk of memory, or skips where only root may."""
    mounted = []

    def make(options: str) -> Path:
        place = tmp_path / "disk"
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk of a given size can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_read_only_disk(tried, mount):
    tried(MOUNTED, disk=mount("ro"))


def test_no_space_at_the_start(tried, mount):
    disk = mount("size=16k")
    (disk / "full").write_bytes(b"x" * 16384)
    tried(FULL, disk=disk)
    assert not [file for file in (disk / "run").rglob("*") if file.is_file() and file.name != "lock"], "nothing half-written"


def test_no_space_in_a_file_system_that_limits_files(tried, tmp_path):
    """The same without a disk of one's own: no file may have more than 100 bytes."""
    (tmp_path / "disk").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        tried(FULL._replace(words=["File too large", "free space"]), disk=tmp_path / "disk")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [file for file in (tmp_path / "disk").rglob("*") if file.is_file()], "nothing half-written"


def test_no_space_while_saving(mount, folder, finished, tmp_path, record_property):
    """A process of its own, because Orbax leaves threads behind. The step before is whole, and with space the same command goes on to the same end."""
    disk = mount("size=4m")
    shutil.copytree(finished, disk / "run")
    for name in ("results.json", "predictions", "checkpoints/2"):
        shutil.rmtree(disk / "run" / name) if (disk / "run" / name).is_dir() else (disk / "run" / name).unlink()
    room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - (48 << 10)  # what a checkpoint does not fit in
    (disk / "full").write_bytes(b"x" * room)
    (tmp_path / "case").mkdir()
    outcome = corpus.in_a_process(corpus.prepare(FULL_LATER, folder, tmp_path / "case", disk=disk), tmp_path)
    assert outcome.code == errors.DISK, outcome
    corpus.check_line(outcome.stderr, FULL_LATER.words)
    record_property("bad input", (FULL_LATER.number, FULL_LATER.name, outcome.code))
    assert not (disk / "run" / "checkpoints" / "2" / MANIFEST).exists()
    (disk / "full").unlink()
    assert main([f"--config={folder / 'config.py'}", f"--workdir={disk / 'run'}", *TWO_STEPS]) == errors.OK
    assert tiny.losses(disk / "run") == tiny.losses(finished)


# ---- another run, the hub ---------------------------------------------------------------------------------------------------------------------------

DRIVER = """
import os, signal, sys, threading, time
from flaxft.main import main
from flaxft.checkpoint import Checkpointer
from flaxft.train.evaluate import Evaluator
from flaxft.train.step import TrainStep

phase, *arguments = sys.argv[1:]
owner, name = {"compile": (TrainStep, "compile"), "eval": (Evaluator, "evaluate"), "save": (Checkpointer, "save"), "twice": (TrainStep, "compile"),
               "wait": (TrainStep, "compile")}[phase]
method = getattr(owner, name)

def interrupted(*given, **named):
    setattr(owner, name, method)
    if phase == "wait":  # until the parent has seen enough
        print("waiting", flush=True)
        sys.stdin.read()
    for _ in range({"twice": 2, "wait": 0}.get(phase, 1)):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)  # until the main thread has noted it
    return method(*given, **named)

setattr(owner, name, interrupted)
sys.exit(main(arguments))
"""


def test_a_workdir_in_use(tried, folder, tmp_path):
    """By a process that is alive; the line names it."""
    disk = tmp_path / "disk"
    command = [sys.executable, "-c", DRIVER, "wait", f"--config={folder / 'config.py'}", f"--workdir={disk / 'run'}", *TWO_STEPS]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert any(line == "waiting\n" for line in process.stdout)
            before = corpus.snapshot(disk)
            tried(LOCKED._replace(words=[str(process.pid), "give another --workdir"]), disk=disk)
            assert corpus.snapshot(disk) == before
        finally:
            process.kill()


def test_offline(tried):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    tried(OFFLINE)


def test_a_truncated_download(tried, folder, tmp_path, monkeypatch):
    import huggingface_hub

    repository, revision = tmp_path / "hub" / "models--somebody--model", "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folder / "encoder", repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    weights = repository / "snapshots" / revision / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    tried(TRUNCATED)


# ---- signals --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", SIGNALS)
def test_sigterm(folder, finished, tmp_path, phase, record_property):
    """A real process that gets the signal in the middle of a phase: no traceback, 143, and no step is lost."""
    arguments = [f"--config={folder / 'config.py'}", f"--workdir={tmp_path / 'run'}", *TWO_STEPS]
    done = subprocess.run([sys.executable, "-c", DRIVER, phase, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    # where the first has ended the run already, the second meets Python's own handler; a shell calls both 143
    assert done.returncode in ((errors.SIGTERM, -signal.SIGTERM) if phase == "twice" else (errors.SIGTERM,)), done
    assert "Traceback" not in done.stdout + done.stderr, done
    if phase != "twice":  # which ends at once
        assert done.stderr.startswith("stopped by SIGTERM") and done.stderr.count("\n") == 1, done.stderr
    if phase in ("eval", "save"):
        at = 2 if phase == "eval" else 1
        assert f"saved at step {at} of 2" in done.stderr
        assert (tmp_path / "run" / "checkpoints" / str(at) / MANIFEST).is_file()
    assert not list((tmp_path / "run").glob("*.tmp"))
    assert main(arguments) == errors.OK
    assert tiny.losses(tmp_path / "run") == tiny.losses(finished)
    evals = [json.loads((workdir / "results.json").read_text())["evals"] for workdir in (tmp_path / "run", finished)]
    assert evals[0] == evals[1]
    record_property("bad input", (SIGNALS[phase].number, SIGNALS[phase].name, errors.SIGTERM))
