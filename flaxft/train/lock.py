"""One run at a time in a workdir."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from flaxft import files
from flaxft.errors import UserError

UNSUPPORTED = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)  # some network file systems


class Lock:
    """A context that holds `workdir/lock`. The kernel lets go of it when the process ends, however it ends: a lock that is left behind is taken over."""

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._descriptor: int | None = None

    def __enter__(self) -> Lock:
        """Raises UserError that names the process which holds it."""
        if not files.is_local(self._workdir):
            self._warn("a bucket")
            return self
        self._descriptor = os.open(self._workdir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                self._warn("this file system")
                return self
            in_use = self._in_use()
            self._close()
            raise in_use from None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)
        except OSError:  # a full disk
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def check(self) -> None:
        """Raises UserError where another process holds it, and changes nothing."""
        if not files.is_local(self._workdir) or not (self._workdir / "lock").is_file():
            return
        self._descriptor = os.open(self._workdir / "lock", os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise self._in_use() from None
        finally:
            self._close()

    def _in_use(self) -> UserError:
        return UserError(f"{self._workdir} is in use by {self._holder()}; wait for it, stop it, or give another --workdir")

    def _warn(self, what: str) -> None:
        logging.getLogger("flaxft").warning("%s: %s has no locks; see to it that no second run uses the same --workdir", self._workdir, what)

    def _holder(self) -> str:
        assert self._descriptor is not None
        try:
            found = json.loads(os.pread(self._descriptor, 1000, 0))
            return f"process {found['pid']} on {found['host']} since {found['since']}"
        except (ValueError, KeyError, TypeError):  # it has the lock and has not written yet
            return "another process"

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
