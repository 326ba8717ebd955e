"""The corpus of bad inputs: numbered cases, and how each is tried. A case is files, a command, and what must come of it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flaxft import errors

ROOT = Path(__file__).parents[2]
NUMBERS = range(1, 141)
SECONDS, MEGABYTES = 10, 512  # what a case may take; of memory, beyond what the process had before
HANGS = 60  # seconds on the clock
# How the line says what to do or what is allowed.
MENDS = ("; ", ", expected ", ", allowed are ")

Files = Mapping[str, str | bytes]


class Case(NamedTuple):
    """`arguments` may name {tmp}, where `files` are written and `make` works, and {folder}, the sound inputs. Train mode, unless they say otherwise."""

    number: int  # 0 for one beyond the list
    name: str
    arguments: Sequence[str] = ()
    words: Sequence[str] = ()  # what the line says; of a case that must work, what stands anywhere in the output
    code: int = errors.USER_ERROR  # errors.OK: it must work
    files: Files = {}
    make: Callable[[Path], object] | None = None  # changes a copy of the encoder, {tmp}/model, which model.path then names
    damage: Callable[[Path], object] | None = None  # changes a copy of a finished run, {tmp}/run, which is the workdir
    lines: Sequence[str] = ()  # put into get_config() of the config file between the making of `cfg` and its return
    config: str = ""  # another --config; "-" for none
    is_real: bool = False  # tried as a process of its own too

    @property
    def id(self) -> str:
        return f"{self.number or 'more'} {self.name}".encode("ascii", "backslashreplace").decode()


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str
    seconds: float  # of the processor
    wall: float
    megabytes: float


def config_file(file: Path, folder: Path, *lines: str) -> Path:
    """A config of tests/tiny.py as a file; `lines` are put between the making of `cfg` and its return."""
    body = "".join(f"    {line}\n" for line in lines)
    head = "import dataclasses\nfrom pathlib import Path\n\nfrom flaxft.config import Config, Eval\nfrom tests import tiny\n\n\n"
    file.write_text(f"{head}def get_config():\n    cfg = tiny.config(Path({str(folder)!r}))\n{body}    return cfg\n")
    return file


def prepare(case: Case, folder: Path, tmp: Path, **places: Path) -> list[str]:
    """Makes the case's files in `tmp`; returns its command. `places` are further names that stand in braces there."""
    places |= {"folder": folder, "tmp": tmp}

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", str(place))
        return text

    for name, content in case.files.items():
        (tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = [filled(one) for one in case.arguments]
    if case.make:
        shutil.copytree(folder / "encoder", tmp / "model")
        case.make(tmp / "model")
        arguments.append(f"--config.model.path={tmp / 'model'}")
    if case.damage:
        shutil.copytree(places["finished"], tmp / "run", symlinks=True)
        case.damage(tmp / "run")
    config = filled(case.config) or str(folder / "config.py")
    if case.lines:
        config = str(config_file(tmp / "config.py", folder, *case.lines))
    if config != "-":
        arguments.insert(0, f"--config={config}")
    if not any(one.startswith("--workdir=") for one in arguments):
        arguments.insert(0, f"--workdir={tmp / 'run'}")
    return arguments


def snapshot(*roots: Path) -> dict[Path, bytes | str | None]:
    """Every file's bytes, where every link leads, and the folders; but not who last held a workdir."""
    found: dict[Path, bytes | str | None] = {}
    for root in roots:
        for entry in (one for one in root.rglob("*") if one.name != "lock"):
            found[entry] = os.readlink(entry) if entry.is_symlink() else entry.read_bytes() if entry.is_file() else None
    return found


def check_line(stderr: str, words: Sequence[str]) -> None:
    """One line that says what is wrong and how to mend it."""
    assert stderr.startswith("error: "), stderr
    assert stderr.count("\n") == 1 and stderr.endswith("\n"), stderr
    assert "Traceback" not in stderr, stderr
    for word in words:
        assert word in stderr, (word, stderr)
    assert any(mend in stderr for mend in MENDS), f"not how to mend it: {stderr}"


def check_refused(outcome: Outcome, case: Case) -> None:
    assert outcome.code == case.code, outcome
    check_line(outcome.stderr, case.words)
    assert "Traceback" not in outcome.stdout, outcome.stdout
    check_cost(outcome)


def check_accepted(outcome: Outcome, case: Case) -> None:
    assert outcome.code == errors.OK, outcome
    for word in case.words:
        assert word in outcome.stdout + outcome.stderr, (word, outcome)
    assert "Traceback" not in outcome.stdout + outcome.stderr, outcome
    check_cost(outcome)


def check_cost(outcome: Outcome) -> None:
    """The processor's time, because the machine may do other things too; what hangs shows on the clock."""
    assert outcome.seconds < SECONDS, outcome
    assert outcome.wall < HANGS, outcome
    assert outcome.megabytes < MEGABYTES, outcome


def check_nothing_half_written(before: Mapping[Path, bytes | str | None], after: Mapping[Path, bytes | str | None], workdir: Path) -> None:
    """Of a run that was accepted: the inputs are as they were, and no temporary file stayed."""
    outside = {path: content for path, content in after.items() if path != workdir and workdir not in path.parents}
    assert outside == {path: content for path, content in before.items() if path != workdir and workdir not in path.parents}
    assert not [path for path in after if ".tmp" in path.name], after.keys()


# ---- in this process, and in one of its own -------------------------------------------------------------------------------------------------------


def in_process(arguments: Sequence[str], capture: Callable[[], tuple[str, str]]) -> Outcome:
    """`capture` returns what was printed since it was last called."""
    from flaxft.main import main

    capture()
    resident = _memory("VmRSS")
    _reset_peak()
    began, worked = time.perf_counter(), time.process_time()
    code = main(list(arguments))
    wall, seconds = time.perf_counter() - began, time.process_time() - worked
    return Outcome(code, *capture(), seconds, wall, _memory("VmHWM") - resident)


def in_a_process(arguments: Sequence[str], tmp: Path) -> Outcome:
    """`tmp` takes what the process prints. Its memory is all that it has."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "flaxft.main", *arguments]
    peak = 0.0
    with (tmp / "stdout").open("wb") as stdout, (tmp / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=stderr)
        # Looked at while it runs: its maximum as wait4 tells it begins with that of the process which forked it.
        while process.poll() is None and time.perf_counter() - began < HANGS:
            peak = max(peak, _memory("VmHWM", process.pid))
            time.sleep(0.02)
        process.kill()
        process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(process.returncode, (tmp / "stdout").read_text(), (tmp / "stderr").read_text(), seconds, time.perf_counter() - began, peak)


def _memory(name: str, process: int | str = "self") -> float:
    """Megabytes of a process, from Linux; 0 elsewhere."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def _reset_peak() -> None:
    """The high-water mark of memory begins anew (Linux)."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
