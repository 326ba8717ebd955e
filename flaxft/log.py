"""Where a run's numbers and lines go: metrics.jsonl, the terminal, TensorBoard and the like, and nothing else has to know."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from flaxft import files
from flaxft.errors import UserError, printable_lines, reason

LOGGERS = ("tensorboard", "wandb", "mlflow", "trackio")  # fields of Log, modules of flaxft/loggers, and the packages that these need


@dataclasses.dataclass
class Log:
    """How often a line is written, and where numbers go beside metrics.jsonl. Keys and passwords come from the environment alone."""

    every: int = 20
    """How many steps lie between two lines of the log; metrics.jsonl has the losses of all steps anyhow."""
    report: bool = True
    """Whether report/index.html is written at the end: curves, scores and mistakes on one page."""
    baseline: bool = True
    """Fit simple baselines at the end, to score them beside the model: TF-IDF with a linear model, and the most frequent answer."""
    tensorboard: bool = True
    """Whether TensorBoard's event files are written, to the workdir's tensorboard/."""
    wandb: str = ""
    """Name of a Weights & Biases project that gets the numbers too; empty for none. The key comes from WANDB_API_KEY."""
    mlflow: str = ""
    """Tracking URI of an MLflow that gets the numbers too: a server's, or sqlite:///mlflow.db; empty for none."""
    trackio: str = ""
    """Name of a Trackio project that gets the numbers too; empty for none."""

    def check(self) -> None:
        """Raises UserError, for a package that is not installed too: not when the first numbers are there."""
        if self.every < 1:
            raise UserError(f"log.every is {self.every}, expected at least 1")
        if urlsplit(self.mlflow).password:
            raise UserError("log.mlflow holds a password, which would be saved with the config; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        for name in LOGGERS:
            if getattr(self, name) and importlib.util.find_spec(name) is None:
                raise UserError(f"log.{name} is {getattr(self, name)!r}, but {name} is not installed; pip install {name}, or leave it out")


class Logger(Protocol):
    """What a module of flaxft/loggers has. It may raise what it likes: the run goes on without it."""

    run_id: str  # saved in the workdir and given again when the run is resumed
    forgets: bool  # opened again, it shows no more what it had of the steps from `first_step` on; the others are not given these again

    def write(self, records: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Step and numbers, "train/loss" and so on; no step twice."""
        ...

    def close(self) -> None: ...


class Writer:
    """metrics.jsonl in the workdir (one object a line, each step once), the loggers, a progress bar and tables on a terminal, plain lines otherwise.

    `workdir=None` writes no file; a process that is not the first writes nothing at all.
    """

    def __init__(self, workdir: Path | None, *, is_first_process: bool = True, log: Log | None = None):
        self._workdir = workdir
        self._file = workdir / "metrics.jsonl" if workdir and is_first_process else None
        self._silent = not is_first_process
        self._stream: Any = None
        self._held = ""  # lines that wait for the next sync
        self._bar: Any = None
        self._before: dict[str, Mapping[str, float]] = {}  # the last scores of each split
        self._log = log if self._file else None
        self._loggers: dict[str, Logger] | None = None  # opened with the first numbers: their packages take a while to import
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._first_step = 1
        self._seen = 0  # the last step that earlier processes may have handed over; it comes again with the same numbers
        self._amended = 0  # the step that was handed over without its scores

    def cut(self, step: int) -> None:
        """Drops the records of steps after `step`: they will be done again. A half-written last line goes too."""
        self._first_step = step + 1
        if not self._file or not self._file.exists():
            return
        text = self._file.read_bytes().decode(errors="replace")
        lines = text.splitlines()
        steps = [_step_of(line) for line in lines]
        self._seen = int(max([self._saved().get("seen", 0), *filter(math.isfinite, steps)]))
        kept = "".join(f"{line}\n" for line, one in zip(lines, steps, strict=True) if one <= step)
        if kept != text:
            files.write_text(self._file, kept)

    def amend(self, step: int, record: Mapping[str, Any]) -> None:
        """Adds to the line of `step`, the last one: an evaluation that a resumed run made up for."""
        if not self._file or not record or not self._file.exists():
            return
        *before, last = self._file.read_text(encoding="utf-8").splitlines()
        assert _step_of(last) == step, (last, step)
        files.write_text(self._file, "".join(f"{line}\n" for line in [*before, json.dumps(json.loads(last) | dict(record))]))
        self._waiting.append((step, _flat(record)))
        self._amended = step

    def record(self, record: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl: `step` and what belongs to it."""
        if self._file:
            # NaN is no JSON: the loss of a skipped step is null
            finite = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}
            line = json.dumps(finite, allow_nan=False) + "\n"
            if files.is_local(self._file):
                self._stream = self._stream or self._file.open("a", encoding="utf-8")
                self._stream.write(line)
            else:  # an object cannot be added to
                self._held += line
            self._waiting.append((int(record["step"]), _flat({name: value for name, value in record.items() if name != "step"})))

    def sync(self) -> None:
        """What was recorded is on the disk: called before a checkpoint, which would otherwise know more than the file."""
        if self._stream:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        if self._held:
            assert self._file, "where lines are held there is a file"
            before = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
            files.write_text(self._file, before + self._held)
            self._held = ""

    def line(self, text: str) -> None:
        """Lines for people. Names of files and labels may stand in them, so what a terminal would act on is escaped."""
        if self._silent:
            return
        text = printable_lines(text)
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on a terminal; nothing otherwise. All columns but the first are numbers, or as short."""
        if self._silent or not sys.stdout.isatty():
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for i, name in enumerate(header):
            table.add_column(Text(name), justify="right" if i else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # not markup: labels may have brackets
        (self._bar.console if self._bar else Console(highlight=False)).print(table)

    def scores(self, step: int, split: str, scores: Mapping[str, float]) -> None:
        """The scores of an evaluation: on a terminal a table with what changed since the last one, a line otherwise."""
        before = self._before.get(split, {})
        self._before[split] = dict(scores)
        if sys.stdout.isatty():
            rows = [(name, f"{value:.4f}", f"{value - before[name]:+.4f}" if name in before else "") for name, value in scores.items()]
            self.table(f"{split}, step {step}", ("metric", "value", "change"), rows)
        else:
            self.line(f"step {step}  {split}  " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))

    def tick(self, step: int, num_steps: int) -> None:
        """A step is on its way: the bar moves, on a terminal."""
        if self._silent or not sys.stdout.isatty():
            return
        if not self._bar:
            self._bar = _Bar(step - 1, num_steps)
        self._bar.move(step)

    def progress(self, step: int, num_steps: int, text: str, *, figures: Mapping[str, float] | None = None) -> None:
        """How far the run is, as a line or below the bar; hands the records, and `figures` of this moment, to the loggers."""
        if self._waiting and figures:
            self._waiting.append((step, _flat({"speed": figures})))
        self._hand_over()
        if self._silent:
            return
        if not sys.stdout.isatty():
            print(f"step {step}/{num_steps}  {text}", flush=True)
            return
        self.tick(step, num_steps)
        self._bar.say(text)

    def stop_progress(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def close(self) -> None:
        self.stop_progress()
        self.sync()
        self._hand_over()
        if self._stream:
            self._stream.close()
            self._stream = None
        for name in list(self._loggers or ()):
            self._ask(name, "close")
        self._loggers = None

    # ---- loggers --------------------------------------------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """What waits goes to the loggers, after the file has it: so no step that a logger has is unknown to a resumed run."""
        waiting, self._waiting = self._waiting, []
        if not self._log or not waiting:
            return
        if self._stream:
            self._stream.flush()
        if self._loggers is None:
            self._loggers = {}
            self._open(self._log)
        steps: dict[int, dict[str, float]] = {}
        for step, numbers in waiting:
            steps.setdefault(step, {}).update(numbers)
        new = {step: numbers for step, numbers in steps.items() if step > self._seen or step == self._amended}
        for name in list(self._loggers):
            records = steps if self._loggers[name].forgets else new
            if records:
                self._ask(name, "write", list(records.items()))

    def _open(self, log: Log) -> None:
        assert self._workdir, "only with a workdir"
        assert self._loggers is not None, "the caller's empty one"
        ids = self._saved().get("ids", {})
        file = self._workdir / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))["config"] if file.exists() else {}
        for name in LOGGERS:
            place = getattr(log, name)
            if not place:
                continue
            try:
                logger = _logger_class(name)(self._workdir, place=str(place), run_id=ids.get(name, ""), first_step=self._first_step, config=config)
            except Exception as error:  # noqa: BLE001 (a server or a package of others: the run does not depend on it)
                self.line(f"warning: log.{name}: {type(error).__name__}: {reason(error)}; the run goes on without it")
                continue
            self._loggers[name] = logger
            ids[name] = logger.run_id
        content = {"ids": {name: one for name, one in ids.items() if one}, "seen": self._seen}
        files.write_json(self._workdir / "loggers.json", content)

    def _saved(self) -> dict[str, Any]:
        """loggers.json: the loggers' ids, and the last step that they have had."""
        file = self._workdir / "loggers.json" if self._workdir else None
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file and file.exists() else {}

    def _ask(self, name: str, method: str, *arguments: Any) -> None:
        """Calls a logger's method; one that fails is not asked again."""
        assert self._loggers is not None, "opened before"
        try:
            getattr(self._loggers[name], method)(*arguments)
        except Exception as error:  # noqa: BLE001 (as above)
            failed = self._loggers.pop(name)
            if method != "close":
                with contextlib.suppress(Exception):  # as above
                    failed.close()
            self.line(f"warning: log.{name}: {type(error).__name__}: {reason(error)}; the run goes on without it")


class LineHandler(logging.Handler):
    """Sends the package's warnings and notes through a Writer, so that they do not tear the bar apart."""

    def __init__(self, writer: Writer):
        super().__init__(logging.INFO)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        self._writer.line(prefix + record.getMessage())


class _Bar:
    """Two lines at the bottom of a terminal: how far, how long still; and below what the last log line said."""

    def __init__(self, step: int, num_steps: int):
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.text import Text

        left = TimeRemainingColumn()
        self._steps = Progress(BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), left, expand=True)
        self._task = self._steps.add_task("", total=num_steps, completed=step)
        self._text = Text()
        self._live = Live(Group(self._steps, self._text), transient=True, refresh_per_second=4)
        self._live.start()
        self.console = self._live.console

    def move(self, step: int) -> None:
        self._steps.update(self._task, completed=step)

    def say(self, text: str) -> None:
        self._text.plain = text
        self._live.refresh()

    def stop(self) -> None:
        self._live.stop()


def _logger_class(name: str) -> Any:
    if name == "tensorboard":
        from flaxft.loggers.tensorboard import TensorBoard

        return TensorBoard
    if name == "wandb":
        from flaxft.loggers.wandb import Wandb

        return Wandb
    if name == "mlflow":
        from flaxft.loggers.mlflow import Mlflow

        return Mlflow
    from flaxft.loggers.trackio import Trackio

    return Trackio


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    """"train/loss", "validation/entity_f1": the numbers of a record by name; what is not finite is left out."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= {f"{name}/{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {f"train/{name}": value}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float) and math.isfinite(value)}


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")
