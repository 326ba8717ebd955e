"""Flags to config to run; no logic.

    python -m flaxft.main --config=configs/ner.py [--workdir=DIR] [--mode=train|eval|predict|export] [--config.SECTION.FIELD=VALUE ...]

--config   a Python file with get_config() that returns a flaxft Config; FILE:ARG calls get_config(ARG). With a run's --workdir, the other modes need none
--workdir  where the run lives; default runs/<name of the config>. The same command again resumes
--mode     train (then evaluate; the default) | eval (score every split that has a path) | predict (--input) | export (--target)
--input    for predict: a text file, one text a line, or .jsonl; one JSON line per input line comes out
--output   for predict: a file for those lines instead of the terminal; for export: a folder instead of WORKDIR/export/TARGET
--target   for export: hf (the default), or the name of another file of flaxft/export: flax_msgpack, stablehlo, onnx, ...
--task     for export: one task of a run of several; without it each goes into a folder of its own
--dtype    for export to hf: float32 (the default) or bfloat16 weights
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flaxft import config as configs
from flaxft import errors
from flaxft.command import Command, UsageError, parse
from flaxft.errors import Interrupted, UserError

if TYPE_CHECKING:
    from flaxft.predict import Predictor

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; a user's mistake is one line on stderr."""
    if {"--help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(__doc__)
        return errors.OK
    try:
        command = parse(arguments, modes=list(MODES))
        MODES[command.mode](command)
        return errors.OK
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.OK
    except KeyboardInterrupt:
        return errors.SIGINT
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(f"error: {error.filename or 'disk'}: {error.strerror}; free space, or give another --workdir", file=sys.stderr)
        return errors.DISK


def train(command: Command) -> None:
    from flaxft.train.loop import run

    if command.config is None or command.workdir is None:
        raise UsageError("--config is missing; give --config=configs/ner.py")
    run(command.config, command.workdir)


def evaluate(command: Command) -> None:
    predictor = _predictor(command)
    finals = {}
    for split in predictor.task.splits():
        if split != "train":
            result, records = predictor.evaluate(split)
            finals[split] = result.metrics
            print(f"\n{split}: {records.name}, {len(records):,} records\n\n{predictor.task.report(result.decoded, records)}")
    if not finals:
        raise UserError("no split to score; set --config.task.validation=FILE or --config.task.test=FILE")
    print(json.dumps({"evals": finals}))
    if command.has_run and command.workdir:
        configs.write_json(command.workdir / "eval.json", {"evals": finals})


def predict(command: Command) -> None:
    if command.input is None:
        raise UsageError("--input is missing; give a text file or a .jsonl file")
    if command.output is not None and (Path(command.output).is_dir() or not Path(command.output).absolute().parent.is_dir()):
        raise UserError(f"--output={command.output} is a directory, or lies in none; give the name of a file in a directory that is there")
    predictor = _predictor(command)
    lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in predictor.predict_file(command.input))
    if command.output is None:
        sys.stdout.writelines(lines)
    else:
        configs.write_text(Path(command.output), "".join(lines))


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
    return from_run(command.workdir, command.config) if command.has_run else from_model(command.config)


MODES = {"train": train, "eval": evaluate, "predict": predict, "export": export}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
