"""What stops a run must not change its result: kills, signals, damage, full disks, other devices. Prints a table, keeps it in --out.

    python -m benchmarks.reliability [ROW ...] [--full] [--out=benchmarks/reliability.json]

Each row drives the real command over a tiny encoder and compares with an uninterrupted run, to the bit where the number of devices is the same. Without --full
the counts are those of the test suite (tests/test_reliability.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# A config file is code: this one tells the phase that the run is in, and does at a step what a row asks for.
CONFIG = '''
import os, signal, time
from pathlib import Path
from flaxft.config import Eval
from tests import tiny

FOLDER = Path({folder!r})
CHANGES = {changes!r}


def tell(owner, name, phase, *, late=False):
    inner = getattr(owner, name)

    def outer(*args, **kwargs):
        if not late:
            mark(phase)
        result = inner(*args, **kwargs)
        if late:
            mark(phase)
        return result

    setattr(owner, name, outer)


def mark(phase):
    with open(os.environ["PHASES"], "a") as stream:
        stream.write(phase + "\\n")


def at(step, action):
    from flaxft.train.meter import Meter

    inner = Meter.add

    def add(self, now, *args):
        inner(self, now, *args)
        if now == step:
            action()

    Meter.add = add


def get_config(argument=""):
    from flaxft import checkpoint
    from flaxft.train import evaluate, prepare, step

    if os.environ.get("PHASES"):
        tell(prepare, "build_items", "data")
        tell(step.TrainStep, "compile", "compile")
        tell(checkpoint.Checkpointer, "restore_newest", "restore")
        tell(step.TrainStep, "__call__", "step")
        tell(evaluate.Evaluator, "decode", "eval")
        tell(checkpoint.Checkpointer, "save", "save", late=True)
    name, _, number = argument.partition("@")
    actions = {{"term": lambda: os.kill(os.getpid(), signal.SIGTERM), "sleep": lambda: time.sleep(1000)}}
    if name:
        at(int(number), actions[name])
    cfg = tiny.config(FOLDER, **CHANGES)
    cfg.evals = {{"validation": Eval(every=30, patience=50)}}
    return cfg
'''
PHASES = ("data", "compile", "step", "restore", "eval", "save")  # in this order the first checkpoint is there when it is restored
EXIT = {signal.SIGTERM: 143, signal.SIGINT: 130}


@dataclasses.dataclass
class Job:
    """A config of a tiny run, and what it comes to where nothing stops it."""

    folder: Path
    config: Path
    whole: Path  # the workdir of the uninterrupted run

    def command(self, workdir: Path, *flags: str, do: str = "") -> list[str]:
        return [sys.executable, "-m", "flaxft.main", f"--config={self.config}{f':{do}' if do else ''}", f"--workdir={workdir}", *flags]

    def run(self, workdir: Path, *flags: str, do: str = "", devices: int = 1, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(workdir, *flags, do=do), cwd=ROOT, env=environment(devices), capture_output=True, text=True, **options)

    def start(self, workdir: Path, *flags: str, do: str = "", extra: dict[str, str] | None = None) -> subprocess.Popen[str]:
        env = environment(1) | (extra or {})
        return subprocess.Popen(self.command(workdir, *flags, do=do), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def environment(devices: int) -> dict[str, str]:
    return os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def job(folder: Path, *, num_steps: int = 240) -> Job:
    """Makes the config and the uninterrupted run."""
    from tests import tiny

    tiny.config(folder)
    changes = {"num_steps": num_steps, "checkpoint.every": 20, "log.every": 5, "optim.learning_rate": 1e-3}
    config = folder / "reliability.py"
    config.write_text(CONFIG.format(folder=str(folder), changes=changes))
    made = Job(folder, config, folder / "whole")
    done = made.run(made.whole)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


# ------------------------------------------------------------------------------------------------------------------------- what is compared


def trace(workdir: Path) -> dict[str, Any]:
    """All that must come out the same: each step's loss and each evaluation, the final arrays, the record of the best, the state of early stopping."""
    steps = [int(entry.name) for entry in (workdir / "checkpoints").iterdir()]
    host = json.loads((workdir / "checkpoints" / str(max(steps)) / "manifest.json").read_text())["host"]
    results = json.loads((workdir / "results.json").read_text())
    return {
        "metrics.jsonl": (workdir / "metrics.jsonl").read_text(),
        "arrays": arrays(workdir / "checkpoints" / str(max(steps))),
        "kept": sorted(steps),
        "best": results["best"],
        "evals": results["evals"],
        "early stop": [host["bad_evals"], host["stopped"], host["evaluated"]],
        "tensorboard": shown(workdir / "tensorboard"),
        "predictions": (workdir / "predictions" / "test.jsonl").read_text(),
    }


def arrays(step: Path) -> str:
    """A sha256 over params and optimizer state."""
    import jax
    import numpy as np
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Orbax warns that no shardings are given: here they are those of the run
        parts = ocp.load_checkpointables(step.absolute())
    leaves = jax.tree.leaves({name: parts[name] for name in ("params", "opt_state", "progress")})
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def shown(folder: Path) -> list[tuple[int, float]]:
    """The losses as TensorBoard shows them, each step once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each step that it is told to forget
    return [(one.step, one.value) for one in EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload().Scalars("train/loss")]


def losses(workdir: Path) -> list[float]:
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1)), "each step once"
    return [record["loss"] for record in records]


def differences(job: Job, workdir: Path) -> list[str]:
    """Names of what is not as in the uninterrupted run."""
    mine, whole = trace(workdir), trace(job.whole)
    return [name for name in whole if mine[name] != whole[name]]


def sound(workdir: Path) -> list[str]:
    """What is wrong with a workdir that was left behind: every step that counts is whole, the newest knows as much as metrics.jsonl, nothing is half there."""
    from flaxft.checkpoint import verify
    from flaxft.errors import DamagedError

    wrong = [str(file.relative_to(workdir)) for file in workdir.rglob("*tmp*")]
    for entry in (workdir / "checkpoints").glob("*"):
        try:
            verify(entry)
        except DamagedError as error:
            wrong.append(str(error))
    return wrong


# ------------------------------------------------------------------------------------------------------------------------------------ rows


def kills(job: Job, folder: Path, *, count: int, seed: int = 0) -> dict[str, Any]:
    """kill -9 at random moments, start-up to the last evaluation, until `count` of them were made and the run under way has come to its end."""
    random_ = random.Random(seed)
    made, finished, wrong, number = 0, 0, [], 0
    began = time.perf_counter()
    job.run(folder / "again")  # with a warm compile cache
    longest = 1.1 * (time.perf_counter() - began)
    while made < count:
        workdir = folder / f"killed-{number}"
        number += 1
        while True:
            process = job.start(workdir)
            try:
                output, _ = process.communicate(timeout=random_.uniform(0, longest) if made < count else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                made += 1
                continue
            if process.returncode:
                wrong.append(f"exit {process.returncode}: {output[-300:]}")
            break
        finished += 1
        wrong += differences(job, workdir)
        shutil.rmtree(workdir)
        print(f"{made} kills, {finished} runs came to their end, {len(wrong)} differences", file=sys.stderr, flush=True)
    return {"kills": made, "finished runs": finished, "differences": wrong}


def signals(job: Job, folder: Path, *, count: int, seed: int = 0) -> dict[str, Any]:
    """SIGTERM and SIGINT in every phase, `count` of each: right exit code, no step lost. A round is one run, which comes to the same end."""
    random_ = random.Random(seed)
    slowest, wrong, sent, phases = 0.0, [], 0, folder / "phases"
    for turn in range(count):
        workdir = folder / f"signals-{turn}"
        for number, code in EXIT.items():
            for phase in PHASES:
                phases.write_text("")
                process = job.start(workdir, "--config.data.cache=false", extra={"PHASES": str(phases)})
                repeats = random_.randrange(1, 3) if phase in ("step", "eval", "save") else 1  # not always the first
                while phases.read_text().split().count(phase) < repeats and process.poll() is None:
                    time.sleep(0.002)
                time.sleep(random_.uniform(0, 0.03))
                began = time.perf_counter()
                process.send_signal(number)
                output, _ = process.communicate()
                sent += 1
                slowest = max(slowest, time.perf_counter() - began)
                problems = [] if process.returncode == code else [f"exit {process.returncode}, {output[-300:]}"]
                problems += ["traceback"] if "Traceback" in output else []
                problems += [lost] if (lost := lost_steps(workdir)) else []
                wrong += [f"{phase}, {number.name}: {one}" for one in problems]
        done = job.run(workdir)
        wrong += differences(job, workdir) if done.returncode == 0 else [done.stderr]
        shutil.rmtree(workdir)
    phases.write_text("")
    process = job.start(folder / "twice", extra={"PHASES": str(phases)})
    while "compile" not in phases.read_text():
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    began = time.perf_counter()
    process.communicate()
    shutil.rmtree(folder / "twice", ignore_errors=True)
    return {"signals": sent, "slowest exit, s": round(slowest, 2), "a second signal, s": round(time.perf_counter() - began, 2), "differences": wrong}


def lost_steps(workdir: Path) -> str:
    """What a run that stopped by itself has not saved."""
    if not (workdir / "metrics.jsonl").exists() or not (workdir / "checkpoints").exists():
        return ""
    saved = max([int(entry.name) for entry in (workdir / "checkpoints").iterdir() if (entry / "manifest.json").exists()], default=0)
    done = len(losses(workdir))
    return f"{done} steps done, {saved} saved" if saved != done else ""


def damage(job: Job, folder: Path, *, flips: int, seed: int = 0) -> dict[str, Any]:
    """Every file of the newest checkpoint deleted, cut, emptied, one bit flipped; and `flips` bits in array data. Restores in process, by the Checkpointer."""
    import jax
    from orbax.checkpoint import v1 as ocp

    from flaxft.checkpoint import Checkpointer
    from flaxft.errors import DamagedError

    random_ = random.Random(seed)
    said: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    target = folder / "damaged"
    shutil.copytree(job.whole / "checkpoints", target)
    *_, before, newest = sorted(int(entry.name) for entry in target.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sizes = ocp.load_checkpointables((target / str(newest)).absolute())
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {"params": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), sizes["params"])}
    files = sorted(file for file in (target / str(newest)).rglob("*") if file.is_file())
    data = [file for file in files if file.parent.name == "d"]  # where OCDBT keeps the arrays
    assert data, [str(file) for file in files]

    def spoil(file: Path, how: str) -> bytes:
        content = file.read_bytes()
        if how == "deleted":
            file.unlink()
        elif how == "flipped":
            at = random_.randrange(8 * len(content))
            file.write_bytes(content[: at // 8] + bytes([content[at // 8] ^ 1 << at % 8]) + content[at // 8 + 1 :])
        else:
            file.write_bytes(content[: len(content) // 2] if how == "cut" else b"")
        return content

    wrong: list[str] = []

    def attempt(file: Path, how: str) -> None:
        content = spoil(file, how)
        said.clear()
        listener = Listen()
        logging.getLogger("flaxft").addHandler(listener)
        try:
            found = Checkpointer(target, keep=2, is_first_process=False).restore_newest(like)
            if found is None or found[0] != before:
                wrong.append(f"{file.name} {how}: restored {found and found[0]}")
            elif file.name != "manifest.json" and not any(file.name in line for line in said):
                wrong.append(f"{file.name} {how}: the log does not say why")
        finally:
            logging.getLogger("flaxft").removeHandler(listener)
            file.write_bytes(content)

    cases = [(file, how) for file in files for how in ("deleted", "cut", "emptied", "flipped") if file.stat().st_size or how == "deleted"]
    for file, how in cases:
        attempt(file, how)
    for _ in range(flips):
        attempt(random_.choices(data, [file.stat().st_size for file in data])[0], "flipped")
    for manifest in target.rglob("manifest.json"):
        manifest.write_text("{}")
    try:
        Checkpointer(target, keep=2, is_first_process=False).restore_newest(like)
        wrong.append("all damaged: something was restored")
    except DamagedError as error:
        wrong += [] if error.exit_code == 4 else [f"all damaged: exit {error.exit_code}"]
    shutil.rmtree(target)
    return {"files x kinds": len(cases), "bit flips": flips, "silent or wrong": wrong}


def disk(job: Job, folder: Path, *, count: int) -> dict[str, Any]:
    """A disk that is full at the start and in the middle of saves: a small tmpfs where it can be mounted, a limit on the size of files otherwise."""
    wrong, how = [], "tmpfs"
    size = sum(file.stat().st_size for file in (job.whole / "checkpoints").rglob("*") if file.is_file()) // len(list((job.whole / "checkpoints").iterdir()))
    for turn in range(count):
        mount = folder / f"disk-{turn}"
        mount.mkdir()
        # from less than the small files take to a little less than all checkpoints that are kept
        space = 16_384 + turn * 3 * size // count
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={space}", "flaxft", str(mount)], capture_output=True).returncode == 0
        try:
            if mounted:
                done = job.run(mount / "run")
            else:
                how = "RLIMIT_FSIZE"
                limit = max(space // 3, 4096)
                done = job.run(mount / "run", preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            if done.returncode != 5:
                wrong.append(f"{space} bytes: exit {done.returncode}, {done.stderr[-300:]}")
            lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            if len(lines) != 1 or "Traceback" in done.stderr:
                wrong.append(f"{space} bytes: {done.stderr[-500:]}")
            elif not re.search(r"free space.*(last good step is \d+|no step was saved)", lines[0]) and "tokenised data" not in lines[0]:
                wrong.append(f"{space} bytes: {lines[0]}")
            wrong += [f"{space} bytes: {one}" for one in sound(mount / "run")]
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=64m", str(mount)], check=True)
            done = job.run(mount / "run")
            wrong += [f"{space} bytes: {one}" for one in (differences(job, mount / "run") if done.returncode == 0 else [done.stderr])]
        finally:
            if mounted:
                subprocess.run(["umount", str(mount)], check=True)
        shutil.rmtree(mount)
    return {"disks": count, "by": how, "differences": wrong}


def lock(job: Job, folder: Path, *, count: int) -> dict[str, Any]:
    """A second run in the workdir of one that lives; then of one that was killed."""
    wrong = []
    for turn in range(count):
        workdir, phases = folder / f"shared-{turn}", folder / "phases"
        phases.write_text("")
        first = job.start(workdir, do="sleep@40", extra={"PHASES": str(phases)})
        while "step" not in phases.read_text():
            time.sleep(0.01)
        second = job.run(workdir)
        if second.returncode != 1 or f"in use by process {first.pid} on {socket.gethostname()}" not in second.stderr:
            wrong.append(f"second: exit {second.returncode}, {second.stderr}")
        first.kill()
        first.communicate()
        third = job.run(workdir)
        wrong += differences(job, workdir) if third.returncode == 0 else [third.stderr]
    return {"pairs": count, "differences": wrong}


def hang(job: Job, folder: Path, *, count: int) -> dict[str, Any]:
    """A callback that sleeps in the middle of a step."""
    wrong = []
    for turn in range(count):
        workdir = folder / f"hang-{turn}"
        done = job.run(workdir, "--config.watchdog.seconds=20", do="sleep@40")
        stacks = (workdir / "stacks.txt").read_text() if (workdir / "stacks.txt").exists() else ""
        if done.returncode != 6 or "no progress for 20 s" not in done.stderr or "reliability.py" not in stacks or "Thread" not in stacks:
            wrong.append(f"exit {done.returncode}, {done.stderr[-500:]}")
        done = job.run(workdir)
        wrong += differences(job, workdir) if done.returncode == 0 else [done.stderr]
    return {"hangs": count, "differences": wrong}


LAYOUTS: dict[int, tuple[dict[str, int], ...]] = {
    1: ({},),
    8: ({"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}),
    4: ({"data": 1, "fsdp": 4}, {"data": 2, "tensor": 2}),
    2: ({"data": 2}, {"data": 1, "tensor": 2}),
}


def devices(job: Job, folder: Path, *, count: int) -> dict[str, Any]:
    """One run on 1, 8, 4, 2 and 1 devices in turn, in several layouts: same batches, losses within 1e-5."""
    wrong, largest = [], 0.0
    whole = losses(job.whole)
    for turn in range(count):
        workdir = folder / f"devices-{turn}"
        for stop, number in ((48, 1), (96, 8), (144, 4), (192, 2), (0, 1)):
            mesh = LAYOUTS[number][turn % len(LAYOUTS[number])]
            done = job.run(workdir, *(f"--config.mesh.{axis}={size}" for axis, size in mesh.items()), do=f"term@{stop}" if stop else "", devices=number)
            if done.returncode != (143 if stop else 0):
                wrong.append(f"{number} devices: exit {done.returncode}, {done.stderr[-300:]}")
                break
        else:
            found = losses(workdir)
            largest = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(whole, found, strict=True))
            if largest > 1e-5:
                wrong.append(f"losses differ by {largest:.1e}")
            if found[:48] != whole[:48]:
                wrong.append("the first steps, on one device, have other bits")
    return {"chains": count, "largest difference": largest, "differences": wrong}


def two_processes(job: Job, folder: Path, *, count: int) -> dict[str, Any]:
    """Two processes with jax.distributed on loopback; one gets SIGTERM; both stop at one step and go on to the result of one process."""
    wrong, largest = [], 0.0
    for turn in range(count):
        workdir = folder / f"pair-{turn}"
        for do in (f"term@{37 + turn}", ""):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            env = {"FLAXFT_COORDINATOR": f"127.0.0.1:{port}", "FLAXFT_NUM_PROCESSES": "2"}
            pair = [job.start(workdir, do=do if number == turn % 2 else "", extra=env | {"FLAXFT_PROCESS_ID": str(number)}) for number in range(2)]
            outputs = [process.communicate(timeout=300)[0] for process in pair]
            codes = [process.returncode for process in pair]
            if codes != [143 if do else 0] * 2:
                wrong.append(f"exits {codes}: {outputs[0][-800:]} ---- {outputs[1][-800:]}")
            stops = [re.search(r"saved at step (\d+)", output) for output in outputs]
            if do and (not all(stops) or len({stop[1] for stop in stops if stop}) != 1):
                wrong.append(f"stopped at {[stop and stop[1] for stop in stops]}")
            if "step 5/" in outputs[1]:
                wrong.append("the second process speaks")
        if not wrong:
            largest = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(losses(job.whole), losses(workdir), strict=True))
            evals = [json.loads((one / "results.json").read_text())["evals"] for one in (job.whole, workdir)]
            apart = [abs(evals[0][split][name] - evals[1][split][name]) for split in evals[0] for name in evals[0][split]]
            if largest > 1e-5 or max(apart) > 1e-5:
                wrong.append(f"losses differ by {largest:.1e}, scores by {max(apart):.1e}")
    return {"pairs": count, "largest difference": largest, "differences": wrong}


def determinism(job: Job, folder: Path, *, count: int) -> dict[str, Any]:
    """The whole run again, dropout and shuffling on."""
    wrong = []
    for turn in range(count):
        done = job.run(folder / f"again-{turn}")
        wrong += differences(job, folder / f"again-{turn}") if done.returncode == 0 else [done.stderr]
    return {"runs": count, "steps": len(losses(job.whole)), "differences": wrong}


# name -> (row, the counts of the test suite, those of --full)
ROWS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, int], dict[str, int]]] = {
    "kills": (kills, {"count": 8}, {"count": 300}),
    "signals": (signals, {"count": 1}, {"count": 10}),
    "damage": (damage, {"flips": 50}, {"flips": 1000}),
    "disk": (disk, {"count": 3}, {"count": 20}),
    "lock": (lock, {"count": 1}, {"count": 3}),
    "hang": (hang, {"count": 1}, {"count": 3}),
    "devices": (devices, {"count": 1}, {"count": 2}),
    "two_processes": (two_processes, {"count": 1}, {"count": 4}),
    "determinism": (determinism, {"count": 1}, {"count": 3}),
}


def failures(found: dict[str, Any]) -> list[str]:
    return next(value for value in found.values() if isinstance(value, list))


def measure(names: list[str], *, full: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory(prefix="reliability-") as temporary:
        made = job(Path(temporary))
        for name in names:
            row, small, large = ROWS[name]
            folder = Path(temporary) / name
            folder.mkdir()
            began = time.perf_counter()
            found = row(made, folder, **(large if full else small))
            yield name, found | {"seconds": round(time.perf_counter() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    results: dict[str, Any] = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    failed = False
    for name, found in measure(args.rows or list(ROWS), full=args.full):
        failed |= bool(failures(found))
        print(name, json.dumps(found), flush=True)
        results[name] = found | {"full": args.full, "date": time.strftime("%Y-%m-%d"), "commit": commit}
        if args.out:
            args.out.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
