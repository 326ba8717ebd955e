"""SIGTERM and SIGINT: noted when they come, acted on where the run is at a sound place."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax

from flaxft import processes
from flaxft.errors import Interrupted


class Signals:
    """A context in which the first signal is noted and the second ends the process at once."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._stop: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def poll(self) -> None:
        """Raises Interrupted if a signal came. With several processes it waits for `poll_step`: one alone cannot leave what all compute."""
        if self._received is not None and jax.process_count() == 1:
            raise _interrupted(self._received)

    def poll_step(self, step: int, *, ahead: int) -> None:
        """Before each step: raises Interrupted if a signal came here, or to another process of the run; all stop before the same step.

        A process is at most `ahead` + 1 steps before another, because it waits for steps that all of them compute: nobody has passed `step` + `ahead` + 2.
        """
        self.poll()
        if jax.process_count() == 1:
            return
        if self._received is not None and self._stop is None:
            self._stop = processes.propose("stop", step + ahead + 2)
        if self._stop is None:
            self._stop = processes.proposed("stop")
        if self._stop is not None and step >= self._stop:
            raise _interrupted(self._received or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            os._exit(128 + number)
        self._received = number


def _interrupted(number: int) -> Interrupted:
    return Interrupted(number, f"stopped by {signal.Signals(number).name}")
