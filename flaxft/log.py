"""Where a run's numbers and lines go: metrics.jsonl, the terminal, and nothing else has to know."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flaxft import files
from flaxft.errors import UserError, printable_lines


@dataclasses.dataclass
class Log:
    """How often a line is written."""

    every: int = 20  # steps; the losses of all steps are recorded

    def check(self) -> None:
        if self.every < 1:
            raise UserError(f"log.every is {self.every}, expected at least 1")


class Writer:
    """metrics.jsonl in the workdir (one object a line, each step once), a progress bar on a terminal, plain lines otherwise.

    `workdir=None` writes no file; a process that is not the first writes nothing at all.
    """

    def __init__(self, workdir: Path | None, *, is_first_process: bool = True):
        self._file = workdir / "metrics.jsonl" if workdir and is_first_process else None
        self._silent = not is_first_process
        self._stream: Any = None
        self._bar: Any = None

    def cut(self, step: int) -> None:
        """Drops the records of steps after `step`: they will be done again. A half-written last line goes too."""
        if not self._file or not self._file.exists():
            return
        text = self._file.read_text(encoding="utf-8", errors="replace")
        kept = "".join(f"{line}\n" for line in text.splitlines() if _step_of(line) <= step)
        if kept != text:
            files.write_text(self._file, kept)

    def amend(self, step: int, record: Mapping[str, Any]) -> None:
        """Adds to the line of `step`, the last one: an evaluation that a resumed run made up for."""
        if not self._file or not record or not self._file.exists():
            return
        *before, last = self._file.read_text(encoding="utf-8").splitlines()
        assert _step_of(last) == step, (last, step)
        files.write_text(self._file, "".join(f"{line}\n" for line in [*before, json.dumps(json.loads(last) | dict(record))]))

    def record(self, record: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl: `step` and what belongs to it."""
        if self._file:
            self._stream = self._stream or self._file.open("a", encoding="utf-8")
            # NaN is no JSON: the loss of a skipped step is null
            finite = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}
            self._stream.write(json.dumps(finite, allow_nan=False) + "\n")

    def sync(self) -> None:
        """What was recorded is on the disk: called before a checkpoint, which would otherwise know more than the file."""
        if self._stream:
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def line(self, text: str) -> None:
        """Lines for people. Names of files and labels may stand in them, so what a terminal would act on is escaped."""
        if self._silent:
            return
        text = printable_lines(text)
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def progress(self, step: int, num_steps: int, text: str) -> None:
        """How far the run is: the bar moves on a terminal, a line comes otherwise."""
        if self._silent:
            return
        if not sys.stdout.isatty():
            print(f"step {step}/{num_steps}  {text}", flush=True)
            return
        if not self._bar:
            self._bar = _make_bar()
            self._bar.start()
            self._task = self._bar.add_task("", total=num_steps, completed=step)
        self._bar.update(self._task, completed=step, description=text)

    def stop_progress(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def close(self) -> None:
        self.stop_progress()
        if self._stream:
            self.sync()
            self._stream.close()
            self._stream = None


class LineHandler(logging.Handler):
    """Sends the package's warnings and notes through a Writer, so that they do not tear the bar apart."""

    def __init__(self, writer: Writer):
        super().__init__(logging.INFO)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        self._writer.line(prefix + record.getMessage())


def _make_bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"), transient=True)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")
