"""Worker processes that tokenise: this process sends records and gets blocks.

A worker is a program of its own, not a copy of this process: jax has threads, which a fork does not survive, and multiprocessing's other ways run the
user's script again. Messages are MessagePack, so nothing is pickled. A worker ends when its pipe does: with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from flaxft.data.base import Featurizer, Record, Tokenizer
from flaxft.data.blocks import block_of
from flaxft.data.spool import pack, unpack


class Workers:
    """A context in which `num` processes run `module`, which calls `serve`; at its end they are killed, whatever they do."""

    def __init__(self, num: int, *, module: str, setup: bytes):
        """`setup` is the first message to each: what `module` makes task and tokenizer of."""
        self._setup = setup
        self._workers: list[_Worker] = []
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        with contextlib.suppress(OSError):  # no more processes are allowed: then fewer, or none
            for _ in range(num):
                self._workers.append(_start(module))
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(max(1, len(self._workers)))  # each waits for the answer of one worker

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.process.kill()  # its pipe ends, and with it the wait of the thread
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.process.wait()
            worker.connection.close()

    def submit(self, records: Sequence[tuple[int, Record]], *, max_length: int) -> Future[bytes | None]:
        """The block of some records, each with its number, as bytes. None where it could not be made there; who makes it here learns why."""
        message = pack([max_length, [[number, record] for number, record in records]])
        return self._threads.submit(self._ask, message)

    def _ask(self, message: bytes | None) -> bytes | None:
        if message is None:  # a record that only this process can hold
            return None
        try:
            worker = self._free.get_nowait()
        except queue.Empty:  # some have died, as those do for which there is no memory
            return None
        try:
            if worker.is_new:
                worker.connection.send_bytes(self._setup)
            worker.connection.send_bytes(message)
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError):
            return None  # and it is not asked again
        self._free.put(worker._replace(is_new=False))
        return answer or None


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    is_new: bool  # it was not sent its setup yet


def _start(module: str) -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    with theirs:
        # The same packages as here, and no accelerator. -P: not what lies in the working directory by chance.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "JAX_PLATFORMS": "cpu"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the process that the user started
        )  # fmt: skip
    return _Worker(process, ours, is_new=True)


def serve(connection: Connection[Any, Any], task: Featurizer, tokenizer: Tokenizer) -> None:
    """What a worker does after its setup, until its pipe ends."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            max_length, records = unpack(connection.recv_bytes())
            try:
                features = [(number, one) for number, record in records for one in task.features(record, tokenizer, max_length=max_length)]
                answer = block_of(features).to_bytes()
            except Exception:  # noqa: BLE001 (whatever it is, it comes up again where the records' places are known)
                answer = b""
            connection.send_bytes(answer)


def num_cpus() -> int:
    """Those that this process may use, which in a container or a job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
