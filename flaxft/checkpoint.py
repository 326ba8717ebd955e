"""Checkpoints: Orbax writes the arrays, a manifest of hashes written last makes them count. A step without a manifest never happened."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from flaxft.errors import DamagedError, DiskError, UserError

MANIFEST = "manifest.json"
VERSION = 1
log = logging.getLogger("flaxft")


@dataclasses.dataclass
class Checkpointing:
    """When a run is saved, and how much is kept."""

    every: int = 500  # steps; a new best and the last step are saved anyhow
    keep: int = 2  # the newest so many, and the best beside them

    def check(self) -> None:
        for name in ("every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"checkpoint.{name} is {getattr(self, name)}, expected at least 1")


class Checkpointer:
    """`directory/<step>/` for each saved step. Saving is asynchronous: arrays are copied before `save` returns, written and hashed after it."""

    def __init__(self, directory: Path, *, keep: int, is_first_process: bool = True):
        self._directory = directory
        self._keep = keep
        self._is_first = is_first_process
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        if is_first_process and directory.is_dir():
            for entry in directory.iterdir():
                # the process died while it was written; Orbax's own temporary folders are "<step>.orbax-..."
                if entry.is_dir() and entry.name.partition(".")[0].isdecimal() and not (entry / MANIFEST).is_file():
                    shutil.rmtree(entry)

    def steps(self) -> list[int]:
        """Steps that count as saved, ascending."""
        if not self._directory.is_dir():
            return []
        return sorted(int(entry.name) for entry in self._directory.iterdir() if entry.name.isdecimal() and (entry / MANIFEST).is_file())

    def save(self, step: int, parts: Mapping[str, Any], host: Mapping[str, Any]) -> None:
        """Starts to save pytrees by name, and `host`, what JSON holds. The save before it is finished first."""
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
            with context:
                response = ocp.save_checkpointables_async(target.absolute(), dict(parts))
        except OSError as error:
            raise DiskError(f"{target}: the checkpoint cannot be written ({error}); free space or rights; the last good step is {self.steps()[-1:]}") from None
        self._pending = self._thread.submit(self._finish, response, target, dict(host))

    def wait(self) -> None:
        """Until the last save counts. Raises DiskError where it could not be written."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        self.wait()
        self._thread.shutdown()

    def host(self, step: int) -> dict[str, Any]:
        """What `save` was given as `host`. Raises DamagedError."""
        return dict(_read_manifest(self._directory / str(step))["host"])

    def restore(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """The parts named in `like` (pytrees of ShapeDtypeStructs with shardings), after every file's hash was compared. Raises DamagedError."""
        from orbax.checkpoint import v1 as ocp

        target = self._directory / str(step)
        verify(target)
        return dict(ocp.load_checkpointables(target.absolute(), dict(like)))

    def restore_newest(self, like: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """`(step, parts, host)` of the newest undamaged step, None where nothing was ever saved. Raises DamagedError where all are damaged."""
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self.restore(step, like), self.host(step)
            except DamagedError as error:
                log.warning("%s; falling back to the step before", error)
        if steps:
            raise DamagedError(f"{self._directory}: all {len(steps)} checkpoints are damaged; restore one from a copy, or start a new workdir")
        return None

    def discard_after(self, step: int) -> None:
        """Steps beyond `step` are gone: damaged ones that were passed over, whose numbers will come again."""
        if self._is_first:
            for later in self.steps():
                if later > step:
                    shutil.rmtree(self._directory / str(later))

    def _finish(self, response: Any, target: Path, host: dict[str, Any]) -> None:
        try:
            response.result()
            if self._is_first:
                write_manifest(target, host)
                self._retain(host)
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            raise DiskError(f"{target}: the checkpoint cannot be written ({error}); free space or rights; the last good step is {self.steps()[-1:]}") from None

    def _retain(self, host: Mapping[str, Any]) -> None:
        best = (host.get("best") or {}).get("step")
        for step in self.steps()[: -self._keep]:
            if step != best:
                shutil.rmtree(self._directory / str(step))


def write_manifest(target: Path, host: Mapping[str, Any]) -> None:
    """sha256 and size of every file, and a digest over the manifest itself; synced, then renamed into place."""
    import flax
    import orbax.checkpoint

    files = {str(file.relative_to(target)): {"sha256": _hash(file), "size": file.stat().st_size} for file in sorted(target.rglob("*")) if file.is_file()}
    versions = {"jax": jax.__version__, "flax": flax.__version__, "orbax": orbax.checkpoint.__version__}
    content: dict[str, Any] = {"version": VERSION, "step": int(target.name), "host": dict(host), "versions": versions, "files": files}
    content["digest"] = _digest(content)
    temporary = target / f"{MANIFEST}.tmp"
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, target / MANIFEST)


def verify(target: Path) -> None:
    """Compares every file with the manifest. Raises DamagedError that names the first that differs."""
    files = _read_manifest(target)["files"]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for name, right in zip(files, threads.map(lambda name: _same(target / name, files[name]), files), strict=True):
            if not right:
                raise DamagedError(f"{target / name}: damaged (its size or sha256 is not the manifest's)")


def _same(file: Path, entry: Mapping[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == entry["size"] and _hash(file) == entry["sha256"]


def _read_manifest(target: Path) -> dict[str, Any]:
    try:
        content = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        digest = content.pop("digest")
        right = digest == _digest(content) and content["step"] == int(target.name)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        right = False
    if not right:
        raise DamagedError(f"{target / MANIFEST}: damaged")
    if content["version"] > VERSION:
        raise UserError(f"{target / MANIFEST}: version {content['version']}, written by a newer flaxft; this one reads up to {VERSION}; update flaxft")
    return dict(content)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
