"""Data that a run holds without memory of its own: in an unlinked temporary file, mapped, as soon as it is much."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgpack

from flaxft.errors import DiskError, reason

IN_MEMORY = 1 << 20  # bytes up to which no file is made


class Spool:
    """Bytes that are written once, and then read at any place."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (it is closed when its content is taken)
        weakref.finalize(self, self._file.close)  # where writing was given up, of a file with a mistake

    def write(self, data: bytes) -> None:
        """Raises DiskError."""
        with _disk_errors():
            self._file.write(data)

    def content(self) -> bytes | mmap.mmap:
        """All of it. Nothing is written after this. Raises DiskError."""
        with _disk_errors(), self._file as file:
            size = file.tell()
            if size > IN_MEMORY:
                file.flush()
                return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            file.seek(0)
            return file.read()


class Packed(Sequence[Any]):
    """Values such as records, each packed as MessagePack and unpacked when it is asked for: equal to what was appended, in types too.

    What MessagePack cannot give back as it was (a date, a tuple, an integer beyond 64 bits) is kept as it is.
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._spool = Spool()
        self._ends = array("q", [0])
        self._as_they_are: dict[int, Any] = {}
        for value in values:
            self.append(value)

    def append(self, value: Any) -> None:
        """Before anything is read. Raises DiskError."""
        data = pack(value)
        if data is None:
            self._as_they_are[len(self)] = value
        else:
            self._spool.write(data)
        self._ends.append(self._ends[-1] + len(data or b""))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self))[index]
        if isinstance(number, range):
            return [self[one] for one in number]
        if number in self._as_they_are:
            return self._as_they_are[number]
        return unpack(self._content[self._ends[number] : self._ends[number + 1]])

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    @functools.cached_property
    def _content(self) -> bytes | mmap.mmap:
        return self._spool.content()


def pack(value: Any) -> bytes | None:
    """None where `unpack` would not give the very same back."""
    try:
        packed: bytes = msgpack.packb(value, strict_types=True)
    except (TypeError, ValueError, OverflowError):  # ValueError: nested too deep, half a surrogate pair
        return None
    return packed


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = os.environ.get("TMPDIR") or "the folder of temporary files"
        raise DiskError(f"{folder}: data cannot be kept there ({reason(error)}); free space, or name another folder in TMPDIR") from None
