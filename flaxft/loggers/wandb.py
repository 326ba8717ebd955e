"""Weights & Biases. The key comes from the environment (WANDB_API_KEY) or from `wandb login`; WANDB_MODE=offline writes to the workdir alone.

What its own process had not yet written when a run is killed with -9 is lost to it: W&B 0.31 writes offline files in blocks. metrics.jsonl has every step.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INIT_SECONDS = 30  # that a run waits for a server before it goes on without


class Wandb:
    """`place` is the project. A resumed run has the id it had."""

    forgets = False

    def __init__(self, workdir: Path, *, place: str, run_id: str, first_step: int, config: Mapping[str, Any]):
        os.environ.setdefault("WANDB_SILENT", "true")  # it tells which key it found before it has read any settings
        import wandb

        self.run_id = run_id or uuid.uuid4().hex[:12]
        # console="off": it would take over stdout, and the bar with it
        settings = wandb.Settings(silent=True, console="off", init_timeout=INIT_SECONDS, save_code=False, disable_git=True)
        self._run = wandb.init(
            project=place, id=self.run_id, name=workdir.absolute().name, dir=str(workdir), config=dict(config), resume="allow", settings=settings
        )

    def write(self, records: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, numbers in records:
            self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()
