"""TensorBoard's event files, written with the record writer and the messages of the package `tensorboard`: neither TensorFlow nor PyTorch is imported."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class TensorBoard:
    """Scalars in the workdir's tensorboard/, a file of each process that worked on the run."""

    forgets = True

    def __init__(self, workdir: Path, *, place: str, run_id: str, first_step: int, config: Mapping[str, Any]):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.run_id = run_id
        self._event, self._summary = event_pb2, summary_pb2
        folder = workdir / "tensorboard"
        is_first = not folder.is_dir() or not any(folder.iterdir())  # a bucket has no empty folders
        folder.mkdir(exist_ok=True)
        # Files are read in the order of their names.
        self._records = RecordWriter((folder / f"events.out.tfevents.{time.time():.6f}.{platform.node() or 'host'}").open("wb"))
        self._put(file_version="brain.Event:2")
        if not is_first:  # what an earlier process wrote of these steps is not shown any more
            self._put(step=first_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        self._records.flush()

    def write(self, records: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, numbers in records:
            values = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
            self._put(step=step, summary=self._summary.Summary(value=values))
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _put(self, **fields: Any) -> None:
        self._records.write(self._event.Event(wall_time=time.time(), **fields).SerializeToString())
