"""Flags to config to run; no logic.

    flaxft train tickets.csv
    flaxft train --config=ner [--workdir=DIR] [--config.SECTION.FIELD=VALUE ...]
    python -m flaxft.main --config=configs/ner.py [--workdir=DIR] [--mode=train|eval|predict|...] [--config.SECTION.FIELD=VALUE ...]

`flaxft --help` and `flaxft COMMAND --help` say what there is; their text is in flags.py and help.py.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from flaxft import errors, files, help, processes
from flaxft.errors import Interrupted, UsageError, UserError, printable, printable_lines
from flaxft.version import VERSION

if TYPE_CHECKING:
    from flaxft.command import Command
    from flaxft.predict import Predictor


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; a user's mistake is one line on stderr."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)} if _is_main_thread() else {}
    try:
        if help.is_asked(arguments):
            print(help.text(arguments), flush=True)
            return errors.OK
        if "--version" in arguments:
            print(f"flaxft {VERSION}", flush=True)
            return errors.OK
        with _importing("flaxft.command"):
            from flaxft.command import parse

        command = parse(arguments, modes=list(MODES))
        for note in command.notes:
            print(printable(note), file=sys.stderr, flush=True)
        code = MODES[command.mode](command) or errors.OK
        sys.stdout.flush()
        return code
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `| head` has read enough; what is left in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.OK
    except OSError as error:
        if error.errno not in errors.DISK_ERRORS:
            raise
        print(f"error: {error.filename or 'disk'}: {error.strerror}; free space, or give another --workdir", file=sys.stderr)
        return errors.DISK
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _importing(module: str) -> Iterator[None]:
    """Around the import of it, where it is the first: the garbage collector is off, and leaves what came to be alone from then on.

    Modules stay, and it would go through their objects again and again: a tenth of the time from the command to the first step.
    """
    if module in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _leave(number: int, frame: FrameType | None) -> None:
    """Outside of training a signal ends the process at once: there is nothing to save, and what is written is whole or not there."""
    os._exit(128 + number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def train(command: Command) -> None:
    with _importing("flaxft.train.loop"):
        from flaxft.train.loop import run

    if command.config is None or command.workdir is None:
        raise UsageError("--config is missing; give --config=configs/ner.py")
    processes.start()
    if command.seeds is None:
        run(command.config, command.workdir)
    else:
        from flaxft.train.seeds import run_seeds

        run_seeds(command.config, command.workdir, num=command.seeds)


def evaluate(command: Command) -> None:
    predictor = _predictor(command)
    finals = {}
    for split in predictor.task.splits():
        if split != "train":
            result, records = predictor.evaluate(split)
            finals[split] = result.metrics
            print(printable_lines(f"\n{split}: {records.name}, {len(records):,} records\n\n{predictor.task.report(result.decoded, records)}"))
    if not finals:
        raise UserError("no split to score; set --config.task.validation=FILE or --config.task.test=FILE")
    print(json.dumps({"evals": finals}))
    if command.has_run and command.workdir:
        files.write_json(command.workdir / "eval.json", {"evals": finals})


def predict(command: Command) -> None:
    from flaxft.inputs import lines

    if command.input is None:
        raise UsageError("--input is missing; give a file behind the run, such as .txt (one a line), .jsonl or .csv")
    _check_output(command)
    blocks = _predictor(command).stream_file(command.input, keep=command.keep, top_k="all" if command.top_k is None else command.top_k)
    target = contextlib.nullcontext(sys.stdout) if command.output is None else files.writing(Path(command.output))
    with target as stream, _progress(is_shown=sys.stderr.isatty() and not stream.isatty()) as advance:
        for block in blocks:
            stream.writelines(lines(block))
            stream.flush()
            advance(len(block))


@contextlib.contextmanager
def _progress(*, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """What is called with the number of each block's records: the count and the rate stand on stderr."""
    if not is_shown:
        yield lambda num: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.completed:,} records, {task.fields[rate]:,.0f} a second"), TimeElapsedColumn(), console=Console(stderr=True)) as shown:
        task, began = shown.add_task("", total=None, rate=0.0), time.monotonic()

        def advance(num: int) -> None:
            done = shown.tasks[task].completed + num
            shown.update(task, completed=done, rate=done / max(1e-9, time.monotonic() - began))

        yield advance


def _check_output(command: Command) -> None:
    if command.output is not None and (Path(command.output).is_dir() or not Path(command.output).absolute().parent.is_dir()):
        raise UserError(f"--output={command.output} is a directory, or lies in none; give the name of a file in a directory that is there")


def export(command: Command) -> None:
    from flaxft.export import base

    if command.target is not None:
        base.find(command.target)
    if command.workdir is None:
        raise UsageError("--workdir is missing; give the folder of a run")
    if not command.has_run:
        raise UserError(f"{command.workdir} holds no run; train first, or give another --workdir")
    done = base.export(command.workdir, command.config, target=command.target, output=command.output, task=command.task, dtype=command.dtype)
    for lines in done.values():
        print("\n".join(lines))


def _predictor(command: Command) -> Predictor:
    from flaxft.predict import from_model, from_run

    if command.config is None and command.workdir is not None:
        what = "is a file and no run" if command.workdir.is_file() else "holds no run (no config.json)"
        raise UsageError(f"{command.workdir} {what}; give the folder of one, or --config=ner with --model of a fine-tuned model")
    if command.config is None or command.workdir is None:
        raise UsageError("nothing to load; give the folder of a run (--workdir=DIR), or --config=ner with --model of a fine-tuned model")
    command.config.check()
    return from_run(command.workdir, command.config) if command.has_run else from_model(command.config)


def report(command: Command) -> None:
    from flaxft.report import write

    if command.workdir is None:
        raise UsageError("--workdir is missing; give --workdir=DIR of a finished run")
    print(write(command.workdir))


def compare(command: Command) -> None:
    from flaxft import compare as comparisons

    _check_output(command)
    if command.output and Path(command.output).suffix not in (".md", ".txt"):
        raise UsageError(f"--output={command.output}: a comparison is written as Markdown; give FILE.md, and the picture is FILE.png")
    found = comparisons.compare(command.runs)
    comparisons.show(found)
    file = Path(command.output) if command.output else None
    picture = file.with_suffix(".png") if file else Path("compare.png")
    comparisons.picture(found, picture)
    if file:
        comparisons.write_markdown(file, found)
    print(f"picture in {picture}")


def compile_ahead(command: Command) -> None:
    from flaxft.train.compile import compile_step, lines

    if command.config is None:
        raise UsageError("--config is missing; give --config=configs/ner.py, or the --workdir of a run")
    print(printable_lines("\n".join(lines(compile_step(command.config, command.topology)))))


def doctor(command: Command) -> int:
    if command.config is None and command.workdir is None:
        from flaxft import machine

        return machine.show(machine.examine())
    from flaxft.doctor import examine, show

    if command.config is None or command.workdir is None:
        raise UserError(f"{command.workdir} holds no run; give --config=ner, a file such as tickets.csv, or the folder of a run")
    return show(examine(command.config, command.workdir))


def init(command: Command) -> None:
    from flaxft import draft

    if command.config is None or command.data is None:
        raise UsageError("no file to look at; give one, as in flaxft init tickets.csv")
    file = draft.write(command.config, data=command.data, notes=command.notes, output=command.output)
    print(f"wrote {file}; look at it, then: flaxft train --config={file}")


MODES: dict[str, Callable[[Command], int | None]] = {
    "train": train, "eval": evaluate, "predict": predict, "export": export, "compile": compile_ahead, "doctor": doctor, "report": report, "compare": compare,
    "init": init,
}  # fmt: skip


def _unraisable(problem: sys.UnraisableHookArgs) -> None:
    """Threads under Orbax call back into the loop of a save that failed, which is closed; the save's own error is raised, and is one line."""
    if str(problem.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(problem)


def console() -> None:
    """The program `flaxft`, and `python -m flaxft`: without arguments it shows the short help. Ends the process."""
    sys.unraisablehook = _unraisable
    _end(main(sys.argv[1:] or ["--help"]))


def _end(code: int) -> None:
    if code in (errors.SIGINT, errors.SIGTERM):
        os._exit(code)  # without waiting for programs that XLA has begun to compile
    sys.exit(code)


if __name__ == "__main__":
    sys.unraisablehook = _unraisable
    _end(main(sys.argv[1:]))
