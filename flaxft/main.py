"""Flags to config to run; no logic.

    python -m flaxft.main --config=configs/ner.py [--workdir=DIR] [--mode=train|eval|predict|export|compile|doctor|report] [--config.SECTION.FIELD=VALUE ...]
    python -m flaxft.main --mode=compare RUN RUN ... [--output=FILE.md]

--config   a Python file with get_config() that returns a flaxft Config; FILE:ARG calls get_config(ARG). With a run's --workdir, the other modes need none
--workdir  where the run lives; default runs/<name of the config>. The same command again resumes
--mode     train (then evaluate; the default) | eval (score every split that has a path) | predict (--input) | export (--target) |
           compile (the largest step of the run, for the devices here or for a --topology that is not: memory, traffic, the fastest it can be) |
           doctor (look at all that a run needs, without training; every problem is one line) | report (write a run's report again) |
           compare (a table over several runs, and compare.png; those that differ only in the seed are one row)
--seeds    for train: so many runs, of the seeds 1, 2, ..., in DIR/seed-1, DIR/seed-2, ...; ends with mean and spread of every score
--input    for predict: what a split may be (csv, tsv, jsonl, json, parquet, conll, hub:NAME, ...), or .txt with one text a line; a JSON line per record
           comes out, in order, as soon as it is there; labels in the input are not read
--output   for predict: a file for those lines instead of the terminal, whole or not there; for export: a folder instead of WORKDIR/export/TARGET;
           for compare: the table as Markdown, and its picture beside it
--keep     for predict: columns of the input that come back, such as --keep=id,date; * is all of them
--top_k    for predict: so many scores of labels a text, the largest; 3, or all
--target   for export: hf (the default), or the name of another file of flaxft/export: flax_msgpack, stablehlo, onnx, ...
--task     for export: one task of a run of several; without it each goes into a folder of its own
--topology for compile: a TPU such as v5e:2x4, v5e:16x16, v5p:2x2x1 or v6e:2x4, with pip install flaxft[tpu]; no TPU is needed
--dtype    for export to hf: float32 (the default) or bfloat16 weights
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

from flaxft import errors, files, processes
from flaxft.errors import Interrupted, UsageError, UserError, printable_lines

if TYPE_CHECKING:
    from flaxft.command import Command
    from flaxft.predict import Predictor


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; a user's mistake is one line on stderr."""
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__)
        return errors.OK
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)} if _is_main_thread() else {}
    try:
        with _importing("flaxft.command"):
            from flaxft.command import parse

        command = parse(arguments, modes=list(MODES))
        return MODES[command.mode](command) or errors.OK
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `| head` has read enough
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
        raise UsageError("--input is missing; give a file of texts, such as .txt (one a line), .jsonl or .csv")
    _check_output(command)
    blocks = _predictor(command).stream_file(command.input, keep=command.keep, top_k=command.top_k)
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

    target = "hf" if command.target is None else command.target
    base.find(target)
    if command.workdir is None:
        raise UsageError("--workdir is missing; give the folder of a run")
    if not command.has_run:
        raise UserError(f"{command.workdir} holds no run; train first, or give another --workdir")
    done = base.export(command.workdir, command.config, target=target, output=command.output, task=command.task, dtype=command.dtype)
    for lines in done.values():
        print("\n".join(lines))


def _predictor(command: Command) -> Predictor:
    from flaxft.predict import from_model, from_run

    if command.config is None or command.workdir is None:
        raise UsageError("nothing to load; give --workdir=DIR of a run, or --config=configs/ner.py with --config.model.path of a fine-tuned model")
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
    from flaxft.doctor import examine, show

    if command.config is None or command.workdir is None:
        raise UsageError("--config is missing; give --config=configs/ner.py, or the --workdir of a run")
    return show(examine(command.config, command.workdir))


MODES: dict[str, Callable[[Command], int | None]] = {
    "train": train, "eval": evaluate, "predict": predict, "export": export, "compile": compile_ahead, "doctor": doctor, "report": report, "compare": compare,
}  # fmt: skip


def _unraisable(problem: sys.UnraisableHookArgs) -> None:
    """Threads under Orbax call back into the loop of a save that failed, which is closed; the save's own error is raised, and is one line."""
    if str(problem.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(problem)


if __name__ == "__main__":
    sys.unraisablehook = _unraisable
    code = main(sys.argv[1:])
    sys.stdout.flush()
    if code in (errors.SIGINT, errors.SIGTERM):
        os._exit(code)  # without waiting for programs that XLA has begun to compile
    sys.exit(code)
