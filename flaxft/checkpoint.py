"""Checkpoints: Orbax writes the arrays, a manifest of hashes written last makes them count. A step without a manifest never happened."""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import dataclasses
import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from flaxft import files, processes, version
from flaxft.errors import DamagedError, DiskError, UserError, reason

MANIFEST = "manifest.json"
VERSION = 1
NO_SPACE = os.strerror(errno.ENOSPC)
log = logging.getLogger("flaxft")


def _is_news(record: logging.LogRecord) -> bool:
    """Orbax's threads log what they raise with its traceback; it reaches us as the error of the save."""
    return "_SignalingThread" not in record.getMessage()


logging.getLogger("absl").addFilter(_is_news)


@dataclasses.dataclass
class Checkpointing:
    """When a run is saved, and how much is kept."""

    every: int = 500
    """How many steps lie between two checkpoints; a new best and the last step are saved anyhow."""
    keep: int = 2
    """How many of the newest checkpoints stay on disk, beside the best one."""

    def check(self) -> None:
        for name in ("every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"checkpoint.{name} is {getattr(self, name)}, expected at least 1")


class Checkpointer:
    """`directory/<step>/` for each saved step. Saving is asynchronous: arrays are copied before `save` returns, written and hashed after it."""

    def __init__(self, directory: Path, *, keep: int, facts: Mapping[str, Any] | None = None, is_first_process: bool = True):
        """`facts` say what a run is: they go into each manifest, and a checkpoint with others is refused. None looks at none."""
        self._directory = directory
        self._keep = keep
        self._facts = None if facts is None else dict(facts)
        self._is_first = is_first_process
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        if is_first_process and directory.is_dir():
            for entry in directory.iterdir():
                # the process died while it was written; Orbax's own temporary folders are "<step>.orbax-..."
                if entry.is_dir() and entry.name.partition(".")[0].isdecimal() and not (entry / MANIFEST).is_file():
                    files.remove_tree(entry)

    def steps(self) -> list[int]:
        """Steps that count as saved, ascending."""
        if not self._directory.is_dir():
            return []
        return sorted(int(entry.name) for entry in self._directory.iterdir() if entry.name.isdecimal() and (entry / MANIFEST).is_file())

    def save(self, step: int, parts: Mapping[str, Any], host: Mapping[str, Any]) -> None:
        """Starts to save pytrees by name, and `host`, what JSON holds, both as they are now. The save before it is finished first."""
        from orbax.checkpoint import v1 as ocp

        self.wait()
        target = self._directory / str(step)
        if (target / MANIFEST).is_file():
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Replica-parallel saving slices each replicated array with a program of its own: dozens of compiles in the middle of a run.
            context = ocp.Context()
            context.array.saving.use_replica_parallel = False
            # Half of a save's CPU time, which the steps that go on meanwhile want. It costs space: MiniLM after 170 steps is 271 MB and not 189.
            context.array.saving.use_compression = False
            with context:
                response = ocp.save_checkpointables_async(files.absolute(target), dict(parts))
        except Exception as error:  # of many kinds: see _not_written
            raise self._not_written(target, error) from error
        # A copy all the way down: the run goes on and changes it, and between its digest and its writing that would look like damage.
        self._pending = self._thread.submit(self._finish, response, target, copy.deepcopy(dict(host)))

    def wait(self) -> None:
        """Until the last save counts, for every process. Raises DiskError where it could not be written."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
            processes.barrier()

    def close(self) -> None:
        """A save that is under way is finished."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def host(self, step: int) -> dict[str, Any]:
        """What `save` was given as `host`. Raises DamagedError."""
        return dict(_read_manifest(self._directory / str(step))["host"])

    def digest(self, step: int) -> str:
        """A sha256 over all that was saved with a step. Raises DamagedError."""
        return _digest(_read_manifest(self._directory / str(step)))

    def shapes(self, step: int) -> dict[str, Any]:
        """The parts of a step by name: pytrees of what has the shape and dtype of each array. Raises DamagedError."""
        from orbax.checkpoint import v1 as ocp

        target = self._directory / str(step)
        verify(target)
        return dict(ocp.checkpointables_metadata(files.absolute(target)).metadata)

    def restore(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """The parts named in `like` (pytrees of ShapeDtypeStructs with shardings), after every file's hash was compared. Raises DamagedError."""
        from orbax.checkpoint import v1 as ocp

        target = self._directory / str(step)
        verify(target)  # first: what a damaged file does to Orbax is of many kinds
        return dict(ocp.load_checkpointables(files.absolute(target), dict(like)))

    def restore_newest(self, like: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """`(step, parts, host)` of the newest undamaged step, None where nothing was ever saved. Raises DamagedError where all are damaged."""
        steps = self.steps()
        for step in reversed(steps):
            try:
                self._check_facts(step)
                found = step, self.restore(step, like), self.host(step)
                processes.barrier()
                return found
            except DamagedError as error:
                log.warning("%s; falling back to the step before", error)
        if steps:
            raise DamagedError(f"{self._directory}: all {len(steps)} checkpoints are damaged; restore one from a copy, or start a new workdir")
        return None

    def settle(self, step: int, host: Mapping[str, Any]) -> None:
        """What is there is what would be if the process had gone on from `step`, which was restored: damaged steps beyond it, whose numbers will come again,
        are gone, and so are the older ones that a process had no time to remove. `host` is what was saved with it."""
        if self._is_first:
            for later in self.steps():
                if later > step:
                    files.remove_tree(self._directory / str(later))
            self._retain(host)

    def _finish(self, response: Any, target: Path, host: dict[str, Any]) -> None:
        try:
            response.result()
            if self._is_first:
                write_manifest(target, host, facts=self._facts or {})
                verify(target)  # before anything older goes
                self._retain(host)
        except Exception as error:  # of many kinds: see _not_written
            raise self._not_written(target, error) from error

    def _not_written(self, target: Path, error: Exception) -> DiskError:
        """What is half there is removed. A full disk comes as OSError from us, as errors of other kinds from Orbax and what is under it."""
        if self._is_first:
            _discard(target)
        good = self.steps()
        last = f"the last good step is {good[-1]}, the same command goes on from there" if good else "no step was saved before"
        why = NO_SPACE if NO_SPACE in str(error) else reason(error)
        return DiskError(f"{target}: the checkpoint cannot be written ({why}); free space, or give another --workdir; {last}")

    def _check_facts(self, step: int) -> None:
        found = _read_manifest(self._directory / str(step)).get("facts")
        if self._facts is None or not found:
            return
        different = [f"{name}: {_short(found.get(name))} -> {_short(now)}" for name, now in self._facts.items() if found.get(name) != now]
        if different:
            raise UserError(f"{self._directory / str(step)} is of another run ({'; '.join(different)}); move it away, or give another --workdir")

    def _retain(self, host: Mapping[str, Any]) -> None:
        best = (host.get("best") or {}).get("step")
        for step in self.steps()[: -self._keep]:
            if step != best:
                files.remove_tree(self._directory / str(step))


def _discard(target: Path) -> None:
    """A save that failed is gone. Where one of Orbax's threads failed, the others go on for a moment: it is gone when it does not come back."""
    began = gone_since = time.monotonic()
    while gone_since + 0.3 > time.monotonic() < began + 5:
        for entry in (target, *target.parent.glob(f"{target.name}.*")):
            if entry.exists():
                with contextlib.suppress(OSError):  # it is written to at this moment
                    files.remove_tree(entry)
                gone_since = time.monotonic()
        time.sleep(0.02)


def write_manifest(target: Path, host: Mapping[str, Any], *, facts: Mapping[str, Any]) -> None:
    """sha256 and size of every file, what the run is, and a digest over the manifest itself; written when all of those are on the disk."""
    import flax
    import orbax.checkpoint

    found = {}
    for file in files.tree(target):
        files.sync(file)
        digest, size = _hash(file)
        found[str(file.relative_to(target))] = {"sha256": digest, "size": size}
    for folder in {target.parent, target, *(target / name for file in found for name in Path(file).parents)}:
        files.sync(folder)
    versions = {"flaxft": version.VERSION, "jax": jax.__version__, "flax": flax.__version__, "orbax": orbax.checkpoint.__version__}
    content: dict[str, Any] = {"version": VERSION, "step": int(target.name), "host": dict(host), "facts": dict(facts), "versions": versions, "files": found}
    content["digest"] = _digest(content)
    files.write_json(target / MANIFEST, content)
    files.sync(target)


def verify(target: Path) -> None:
    """Compares every file with the manifest. Raises DamagedError that names the first that differs."""
    entries = _read_manifest(target)["files"]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for name, right in zip(entries, threads.map(lambda name: _same(target / name, entries[name]), entries), strict=True):
            if not right:
                raise DamagedError(f"{target / name}: damaged (its size or sha256 is not the manifest's)")


def _same(file: Path, entry: Mapping[str, Any]) -> bool:
    return file.is_file() and _hash(file) == (entry["sha256"], entry["size"])


def _read_manifest(target: Path) -> dict[str, Any]:
    try:
        content = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        digest = content.pop("digest")
        right = digest == _digest(content) and content["step"] == int(target.name) and isinstance(content["version"], int)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        right = False
    if not right:
        raise DamagedError(f"{target / MANIFEST}: damaged")
    if content["version"] > VERSION:
        raise UserError(f"{target / MANIFEST}: version {content['version']}, written by a newer flaxft; this one reads up to {VERSION}; update flaxft")
    return dict(content)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(file: Path) -> tuple[str, int]:
    """sha256 and size of what is in a file."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
