"""Worker processes make the very same table, leave nothing behind, and nothing hangs."""

from __future__ import annotations

import datetime
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flaxft.data import items as items_module
from flaxft.data import workers as workers_module
from flaxft.data.base import Records
from flaxft.data.items import build_items
from flaxft.data.workers import Workers, num_cpus
from flaxft.errors import Interrupted, UserError
from tests.data.made_up_worker import MadeUp

ROOT = Path(__file__).resolve().parents[2]
PROCESSES: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Two workers, small pieces, and all that is started is gone at the end."""
    monkeypatch.setattr(items_module, "START_SECONDS", 1e-9)
    monkeypatch.setattr(items_module, "RECORDS", 3)
    monkeypatch.setattr(items_module, "CHUNK", 5)
    monkeypatch.setattr(items_module, "num_cpus", lambda: 2)
    started = workers_module._start
    monkeypatch.setattr(workers_module, "_start", lambda module: keep(started(module)))
    PROCESSES.clear()
    yield
    assert [process.poll() for process in PROCESSES].count(None) == 0


def keep(worker):
    PROCESSES.append(worker.process)
    return worker


def build(records, cache, *, workers=True, poll=lambda: None):
    source = Records("a.jsonl", "f", records, range(1, len(records) + 1), where_format=":{}")
    start = functools.partial(Workers, module="tests.data.made_up_worker", setup=b"setup") if workers else None
    return build_items(source, MadeUp(is_worker=False), None, max_length=16, key="k", cache=cache, poll=poll, start_workers=start)


def random_records(num, *, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"lengths": rng.integers(1, 9, rng.integers(0, 4)).tolist(), "kind": int(rng.integers(4)), "group": int(rng.integers(-1, 2))} for _ in range(num)
    ]


def assert_same_file(records, tmp_path):
    alone, together = (build(records, tmp_path / name, workers=name == "together") for name in ("alone", "together"))
    assert together.fingerprint == alone.fingerprint
    (first,), (second,) = ((tmp_path / name).iterdir() for name in ("alone", "together"))
    assert first.name == second.name and first.read_bytes() == second.read_bytes()


def test_the_same_file(tmp_path):
    assert_same_file(random_records(200), tmp_path)
    assert len(PROCESSES) == 2
    items = build([{"lengths": [3], "tells": True}] * 30, tmp_path / "who")
    assert len({items.feature(i).tokens["input_ids"][0] for i in range(30)}) == 2, "this process began, workers went on"


def test_no_process_is_started_where_it_would_not_pay(tmp_path, monkeypatch):
    """The source ends before, or no second CPU may be used."""
    records = random_records(60)
    monkeypatch.setattr(items_module, "START_SECONDS", 60)
    build(records, tmp_path / "short")
    monkeypatch.setattr(items_module, "START_SECONDS", 1e-9)
    monkeypatch.setattr(items_module, "num_cpus", lambda: 1)
    build(records, tmp_path / "one CPU")
    assert PROCESSES == []


def test_a_record_that_no_message_can_hold(tmp_path):
    assert_same_file([*random_records(20), {"lengths": [2], "day": datetime.date(2020, 1, 1)}, *random_records(20)], tmp_path)


def test_workers_that_die(tmp_path):
    records = random_records(60)
    records[10]["dies"] = records[30]["dies"] = True
    assert_same_file(records, tmp_path)


def test_no_process_can_be_started(tmp_path, monkeypatch):
    def refuse(module):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(workers_module, "_start", refuse)
    assert_same_file(random_records(20), tmp_path)


def test_the_first_bad_record_is_told(tmp_path):
    records = random_records(60)
    records[20] = {"lengths": [1], "sleeps": 0.3}
    records[22], records[23], records[40] = {"bad": "first"}, {"bad": "second"}, {"bad": "third"}
    with pytest.raises(UserError, match=r"^a\.jsonl:23: first$"):
        build(records, tmp_path)
    assert list(tmp_path.iterdir()) == [] and len(PROCESSES) == 2


def test_an_interrupted_run_does_not_wait(tmp_path):
    records = [*random_records(6), *[{"lengths": [1], "sleeps": 60}] * 30]
    began, polls = time.monotonic(), []

    def poll():
        polls.append(time.monotonic())
        if PROCESSES and len(polls) > 10:
            raise Interrupted(signal.SIGTERM, "stopped")

    with pytest.raises(Interrupted):
        build(records, tmp_path, poll=poll)
    assert time.monotonic() - began < 30
    assert list(tmp_path.iterdir()) == [] and len(PROCESSES) == 2


def test_ctrl_c_is_not_for_the_workers():
    with Workers(1, module="tests.data.made_up_worker", setup=b"setup") as workers:
        assert workers.submit([(0, {"lengths": [1]})], max_length=8).result() is not None
        (process,) = PROCESSES
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


ORPHANS = """
import sys
from flaxft.data.workers import Workers
from tests.data import test_workers
with Workers(2, module="tests.data.made_up_worker", setup=b"setup") as workers:
    first = [workers.submit([(0, {"lengths": [1], "sleeps": 0.2})], max_length=8) for _ in range(2)]
    assert all(one.result() for one in first)
    busy = workers.submit([(0, {"lengths": [1], "sleeps": 2})], max_length=8)
    print(*(one.process.pid for one in workers._workers), flush=True)
    busy.result()
"""


def test_workers_end_with_a_killed_parent():
    """One is at work, one waits."""
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < until, "a worker lives on"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_cpus_that_may_be_used():
    assert num_cpus() == len(os.sched_getaffinity(0))
