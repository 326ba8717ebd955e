"""The way out: a run becomes a folder that other software reads. A target is one file here, found by its name; the folder comes whole or not at all."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from flaxft import files, predict, version
from flaxft.errors import UserError, nearest
from flaxft.models.base import Encoder
from flaxft.predict import Predictor
from flaxft.tasks.base import Several

NO_TARGETS = ("__init__", "base", "card", "reference")  # files of this folder that are no targets
DIRECTORIES = ("hf", "sentence_transformers")  # targets that are taken where none is asked for: the first that has a place for the head
INDEX = "export.json"  # in every export: what it is of, and the hash of each of its files


@dataclasses.dataclass(frozen=True)
class Run:
    """What a target exports: the predictor of one task, and what its workdir says of how it came about."""

    predictor: Predictor
    workdir: Path
    task: str | None = None  # the name, in a run of several

    @property
    def config(self) -> dict[str, Any]:
        """As the run saved it, in JSON."""
        return dict(_read(self.workdir / "config.json").get("config", {}))

    @property
    def splits(self) -> dict[str, str]:
        """The paths that the run was trained and scored with, which are not those that an export is asked to look at."""
        own = self.config.get("task", {})
        own = own if self.task is None else own.get("tasks", {}).get(self.task, {})
        return {split: own[split] for split in ("train", "validation", "test") if own.get(split)}

    @property
    def results(self) -> dict[str, Any]:
        """results.json, where it is of these weights; else empty: the run is not finished, or goes on."""
        found = _read(self.workdir / "results.json")
        best = (found.get("best") or {"step": found.get("steps")})["step"]
        return found if found and best == self.predictor.step else {}

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Split -> metric -> value, of this task."""
        evals: dict[str, dict[str, float]] = self.results.get("evals", {})
        if self.task is None:
            return evals
        prefix = f"{self.task}/"
        own = {split: {key.removeprefix(prefix): value for key, value in one.items() if key.startswith(prefix)} for split, one in evals.items()}
        return {split: one for split, one in own.items() if one}


def export(
    workdir: str | Path,
    cfg: Any = None,
    *,
    target: str | None = None,
    output: str | Path | None = None,
    task: str | None = None,
    types: Sequence[type] = (),
    **options: Any,
) -> dict[Path, list[str]]:
    """Exports the best weights of the run in `workdir`; returns each folder that was written and the lines that tell of it.

    cfg: the run's config with changes (paths of splits that were moved). target: a file of this folder; None is `default_target`. output: the folder, default
    WORKDIR/export/TARGET. task: of a run of several tasks, the one; without it each goes into a folder of its own name. types: your own task and model classes.
    options: the target's own, such as `dtype="bfloat16"` of hf. Raises UserError, DamagedError.
    """
    workdir = files.path(workdir)
    given = {name: value for name, value in options.items() if value is not None}
    if target is not None:
        _check_options(target, given)
    if output is None and not files.is_local(workdir):
        raise UserError(f"{workdir} lies in a bucket, and an export is made on this machine; give --output=DIR")
    # float32, whatever the run computed in: what is written is compared with other software to the fifth digit
    predictor = predict.load(workdir, types=types, dtype="float32") if cfg is None else predict.from_run(workdir, cfg, dtype="float32")
    if isinstance(predictor.task, Several):
        names = list(predictor.task.tasks) if task is None else [task]
        parts = {name: predictor.only(name) for name in names}
    elif task is not None:
        raise UserError(f"--task={task} is for runs of several tasks, and {workdir} is of one; leave it out")
    else:
        parts = {"": predictor}
    runs: dict[Path, tuple[str, Run]] = {}
    for name, part in parts.items():
        chosen = target or default_target(part.task.kind, part.encoder)
        _check_options(chosen, given)
        place = Path(output) if output is not None else workdir / "export" / chosen
        runs[place / name if task is None or output is None else place] = chosen, Run(part, workdir, name or None)
    for folder in runs:
        check_place(folder)
    return {folder: _export(find(chosen), chosen, run, folder, given) for folder, (chosen, run) in runs.items()}


def default_target(kind: str, encoder: Encoder) -> str:
    """The first of `DIRECTORIES` that has a place for a head of this kind."""
    return next((name for name in DIRECTORIES if find(name).fits(kind, encoder)), DIRECTORIES[0])


def _check_options(target: str, given: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(find(target).write).parameters if name not in ("run", "folder")]
    for name in given:
        if name not in known:
            allowed = f"it takes {', '.join(f'--{one}' for one in known)}" if known else "it has no such choice"
            raise UserError(f"--{name}={given[name]} is nothing that --target={target} can use; {allowed}")


def targets() -> list[str]:
    """The names of all targets."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in NO_TARGETS)


def find(target: str) -> ModuleType:
    """The module of a target, looked up in the package's own file list. Raises UserError."""
    known = targets()
    if target not in known:
        raise UserError(f"--target={target}: no such export{nearest(target, known)}; known are {', '.join(known)}")
    return importlib.import_module(f"flaxft.export.{target}")


def require(target: str, extra: str, *packages: str) -> None:
    """Raises UserError for the packages that are not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--target={target} needs {' and '.join(missing)}, not installed; pip install 'flaxft[{extra}]'")


def check_place(folder: Path) -> None:
    """Raises UserError where something lies in `folder` that no export wrote, or that was changed since."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"--output={folder} is no plain folder; give another name")
    there = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()) if folder.is_dir() else []
    if not there:
        return
    own = _read(folder / INDEX).get("files", {}) if INDEX in there else {}
    foreign = [name for name in there if name != INDEX and name not in own]
    if foreign or not own:
        raise UserError(f"--output={folder} holds {(foreign or there)[0]!r}, which no export wrote; move it away, or give another --output")
    changed = [name for name in there if name in own and _hash(folder / name) != own[name]]
    if changed:
        raise UserError(f"--output={folder}: {changed[0]!r} was changed since it was exported; move it away, or give another --output")


def _export(module: ModuleType, target: str, run: Run, folder: Path, options: Mapping[str, Any]) -> list[str]:
    """Written beside its place and then renamed: what was there stays until the new one is whole."""
    _sweep(folder)
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        try:
            staged.mkdir(parents=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"--output={folder} cannot be made ({error.strerror}); give another --output") from None
        lines: list[str] = module.write(run, staged, **options)
        hashes = {str(file.relative_to(staged)): _hash(file) for file in sorted(staged.rglob("*")) if file.is_file()}
        about = {"flaxft": version.VERSION, "target": target, "task": run.task, "step": run.predictor.step, "is_finished": bool(run.results)}
        content = about | dict(options) | {"calibration": run.predictor.calibration, "files": hashes}
        files.write_json(staged / INDEX, content)
        if folder.exists():
            folder.rename(old)
        try:
            staged.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    note = [] if run.results else [f"note: the run is not finished; these are its best weights so far, of step {run.predictor.step}"]
    return [f"{target} of step {run.predictor.step} in {folder}", *lines, *note]


def _sweep(folder: Path) -> None:
    """Removes what killed exports to this place left beside it; one that is at work keeps its own."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.*"):
        found = re.fullmatch(r"\.(\d+)\.(tmp|old)", left.name.removeprefix(f".{folder.name}"))
        if found:
            try:
                os.kill(int(found[1]), 0)  # sends nothing
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True)
            except PermissionError:
                continue


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
