"""Files that are whole or not there, whatever stops the process that writes them; on a disk, or in a bucket (gs://...), where a path has the same methods."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from flaxft.errors import UserError


def path(name: str | Path) -> Path:
    """A path of this machine's, or of a bucket. Raises UserError where the package for the latter is not installed."""
    if isinstance(name, Path) or "://" not in str(name):
        return Path(name)
    try:
        import fsspec
        from etils import epath

        # A listing must show what Orbax wrote: it writes past this file system.
        fsspec.config.conf.setdefault(str(name).partition("://")[0], {})["use_listings_cache"] = False
        found = epath.Path(name)
        found.exists()
    except ImportError as error:
        raise UserError(f"{name}: {error}; pip install flaxft[gcs], or give a folder of this machine") from None
    remote: Any = found
    return remote


def is_local(file: Path) -> bool:
    return isinstance(file, Path)  # a bucket's paths are of another class


def absolute(file: Path) -> Path:
    return file.absolute() if is_local(file) else file


def size(file: Path) -> int:
    """Bytes."""
    stat: Any = file.stat()
    return int(stat.st_size if is_local(file) else stat.length)


def tree(folder: Path) -> list[Path]:
    """All files in it and in the folders in it, in order."""
    found = []
    for entry in folder.iterdir():
        found += tree(entry) if entry.is_dir() else [entry]
    return sorted(found)


def remove_tree(folder: Path) -> None:
    """Of a link, the link alone: what it leads to stays. Raises OSError."""
    if is_local(folder) and folder.is_symlink():
        folder.unlink()
    elif is_local(folder):
        shutil.rmtree(folder)
    else:
        remote: Any = folder
        remote.rmtree()


def sync(file: Path) -> None:
    """What was written to a file, or to a folder's list of files, is on the disk. In a bucket it is when it is there."""
    if not is_local(file):
        return
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(file: Path, content: str) -> None:
    write_bytes(file, content.encode())


def write_json(file: Path, content: Any) -> None:
    write_text(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def writing(file: Path) -> Iterator[IO[str]]:
    """A stream for text that comes bit by bit. What it was given takes the place of what was there when the context ends, and only if no error ends it."""
    if not is_local(file):
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as stream:
            yield stream
            stream.seek(0)
            file.write_bytes(stream.read().encode())
        return
    with _replacing(file, "w", encoding="utf-8", newline="") as stream:
        yield stream


def write_bytes(file: Path, content: bytes) -> None:
    """Beside the file first, synced, then renamed into its place; an object in a bucket is whole by itself. Raises OSError, and leaves what was there."""
    if not is_local(file):
        file.write_bytes(content)
        return
    with _replacing(file, "wb") as stream:
        stream.write(content)


@contextlib.contextmanager
def _replacing(file: Path, mode: str, **how: str) -> Iterator[IO[Any]]:
    """A stream beside the file, which takes its place at the end. A device or a pipe is written to as it is."""
    if file.exists() and not file.is_file() and not file.is_dir():
        with file.open(mode, **how) as stream:  # type: ignore[call-overload]  # encoding and newline
            yield stream
        return
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        with temporary.open(mode, **how) as stream:  # type: ignore[call-overload]  # encoding and newline
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
