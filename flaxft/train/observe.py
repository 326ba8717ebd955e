"""What a verdict goes by: of a run's inputs, as doctor sees them too, and of what training made of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxft import encoder, recipe
from flaxft.config import Config
from flaxft.data.items import Items
from flaxft.data.texts import reads_more
from flaxft.models.base import Checkpoint
from flaxft.tasks.base import CountsLabels
from flaxft.train.prepare import Inputs
from flaxft.verdict import Observations


def of_inputs(cfg: Config, checkpoint: Checkpoint, inputs: Inputs, *, steps_per_epoch: int) -> Observations:
    """What can be known before the first step."""
    train = inputs.items["train"]
    counted = inputs.task.label_counts(inputs.records["train"]) if isinstance(inputs.task, CountsLabels) else None
    fields = [field.name for field in dataclasses.fields(inputs.task)]  # type: ignore[arg-type]  # every task is a dataclass
    return Observations(
        main_metric=inputs.task.main_metric,
        guess_loss=counted.guess_loss if counted else None,
        learning_rate=cfg.optim.learning_rate,
        band=recipe.band(checkpoint),
        hidden_size=checkpoint.encoder.hidden_size,
        is_packaged=checkpoint.directory.resolve() == encoder.DIRECTORY.resolve(),
        label_counts=counted.counts if counted else {},
        noun=counted.noun if counted else "labels",
        num_seen={name: (num, len(inputs.records[name])) for name, num in inputs.num_seen.items()},
        num_cut={name: _num_cut(items, len(inputs.records[name])) for name, items in inputs.items.items()},
        max_length=cfg.data.max_length,
        max_positions=checkpoint.encoder.max_length,
        batch_size=cfg.data.batch_size,
        num_examples=len(train),
        steps_per_epoch=steps_per_epoch,
        num_epochs=cfg.num_epochs or 0.0,
        num_steps=cfg.num_steps,
        fields=frozenset(name for name in fields if not getattr(inputs.task, name) or (name == "long_text" and reads_more(inputs.task))),
    )


def of_run(
    seen: Observations, steps: Sequence[Mapping[str, Any]], *, decides: str | None, scores: Mapping[str, Any], baselines: Mapping[str, Any]
) -> Observations:
    """The same with what the run has shown. steps: the lines of metrics.jsonl; decides: the split that picks the best weights."""
    losses = [step["loss"] for step in steps if isinstance(step["loss"], float) and math.isfinite(step["loss"])]
    evals = [(step["step"], step[decides]) for step in steps if decides is not None and decides in step]
    changes: dict[str, Any] = {"scores": scores, "baselines": baselines, "losses": losses, "evals": evals}
    if not steps:  # nothing was trained: the rate and the size of a step say nothing
        changes |= {"learning_rate": None, "band": None, "batch_size": 0}
    return dataclasses.replace(seen, **changes)


def _num_cut(items: Items, num_records: int) -> tuple[int, int, int]:
    """Records that were cut, all records, and the tokens of the longest feature before."""
    is_cut = items.num_cut > 0
    return len(np.unique(items.records[is_cut])), num_records, int((items.lengths + items.num_cut).max(initial=0))
