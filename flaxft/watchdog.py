"""A run that makes no progress ends with the stacks of all its threads, instead of standing there for days."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import faulthandler
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from flaxft import files
from flaxft.errors import HANG, UserError

FACTOR = 20  # times the median time of a beat: what is slow but steady does not hang


@dataclasses.dataclass
class Watchdog:
    """After how long without progress a run is given up."""

    seconds: float = 600.0
    """A run without progress for so many seconds, or for 20 times the median time between two signs of life where that is longer, ends with exit code
    6; 0 never gives up."""

    def check(self) -> None:
        if self.seconds < 0:
            raise UserError(f"watchdog.seconds is {self.seconds}, expected at least 0; 0 never gives up")


class Heartbeat:
    """A context whose `beat` says that the run lives. Without one for too long: stacks to stderr and `stacks.txt`, exit code 6."""

    def __init__(self, watchdog: Watchdog, workdir: Path):
        self._limit, self._file = watchdog.seconds, workdir / "stacks.txt"
        self._last = time.monotonic()
        self._between: collections.deque[float] = collections.deque([0.0], maxlen=100)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Heartbeat:
        if self._limit:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()

    def beat(self) -> None:
        now = time.monotonic()
        self._between.append(now - self._last)
        self._last = now

    def _watch(self) -> None:
        while True:
            limit = max(self._limit, FACTOR * statistics.median(self._between))
            left = self._last + limit - time.monotonic()
            if self._done.wait(max(left, 0.05)):
                return
            if time.monotonic() - self._last > limit:
                self._give_up(limit)

    def _give_up(self, limit: float) -> None:
        faulthandler.dump_traceback(all_threads=True)
        where = "above"
        if files.is_local(self._file):
            with contextlib.suppress(OSError), self._file.open("w", encoding="utf-8") as stream:  # perhaps it is the very disk that does not answer
                faulthandler.dump_traceback(stream, all_threads=True)
                where = f"in {self._file}"
        text = f"no progress for {limit:.0f} s; the stacks of all threads are {where}; the same command goes on from the last checkpoint"
        print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(HANG)  # a thread that hangs cannot be joined
