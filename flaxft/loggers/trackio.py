"""Trackio: a local database (TRACKIO_DIR of the environment, or its folder in the user's cache), looked at with `trackio show`."""

from __future__ import annotations

import contextlib
import io
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Trackio:
    """`place` is the project. A resumed run has the name it had, which is its id."""

    forgets = False

    def __init__(self, workdir: Path, *, place: str, run_id: str, first_step: int, config: Mapping[str, Any]):
        import trackio

        self._trackio = trackio
        self.run_id = run_id or f"{workdir.absolute().name}-{uuid.uuid4().hex[:6]}"
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how to open its page
            self._run = trackio.init(project=place, name=self.run_id, config=dict(config), resume="allow", embed=False)

    def write(self, records: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, numbers in records:
            self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()  # the module's: the run's own would be called again at exit, and print again
