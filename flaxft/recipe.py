"""The recipe that belongs to an encoder: what a config leaves open follows from the size of the encoder and from how much data there is.

A rate that suits BERT-base leaves a small encoder where it was (0.18 accuracy on 77 intents, where TF-IDF gets 0.89), and one that suits a small encoder makes
a large one diverge. So no default rate is right; the table `SIZES` has one for each size. `benchmarks/README.md` has the scores that it gives.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from flaxft.config import Config
from flaxft.models.base import Checkpoint
from flaxft.models.heads import SEQUENCE_KINDS
from flaxft.tasks.base import SetsPace, Several


class Size(NamedTuple):
    """What suits encoders of up to `hidden_size`."""

    name: str
    hidden_size: float
    learning_rate: float  # the peak, for AdamW and batches of 32
    num_epochs: float
    num_steps: int  # the least: of few data there are more epochs
    max_epochs: float  # more than so many do not help: the few texts are known by heart


# Base and large: 5e-5 and 3 epochs are BERT's own range (Devlin et al. 2019, appendix A.3: 5e-5, 3e-5 or 2e-5, 2 to 4 epochs) at its upper end, 2e-5 what large
# ones are trained with, since they diverge above (Mosbach et al. 2021, arXiv 2006.04884, which also has 20 epochs for data sets of a few thousand texts).
# The smaller ones: measured here, see benchmarks/README.md.
SIZES = (
    Size("very small", 256, learning_rate=1e-3, num_epochs=6, num_steps=400, max_epochs=15),
    Size("small", 512, learning_rate=3e-4, num_epochs=5, num_steps=200, max_epochs=15),
    Size("base", 768, learning_rate=5e-5, num_epochs=3, num_steps=200, max_epochs=10),
    Size("large", math.inf, learning_rate=2e-5, num_epochs=3, num_steps=200, max_epochs=10),
)
WARMUP = 0.1
SENTENCE_POOLING = "mean"  # what sentence encoders were made with; [CLS] of most of them was never trained
BAND = 5.0  # a rate further than this factor from the table's is worth a word


class Choice(NamedTuple):
    """One value that a config left open."""

    field: str  # "optim.learning_rate"
    value: Any
    why: str


def size_of(checkpoint: Checkpoint) -> Size:
    """The row of `SIZES` for a checkpoint's encoder."""
    return next(size for size in SIZES if checkpoint.encoder.hidden_size <= size.hidden_size)


def band(checkpoint: Checkpoint) -> tuple[float, float]:
    """The peak rates, lowest and highest, with which encoders of this size are trained in earnest."""
    rate = size_of(checkpoint).learning_rate
    return rate / BAND, rate * BAND


def of_encoder(cfg: Config, checkpoint: Checkpoint) -> tuple[Config, tuple[Choice, ...]]:
    """The config with a value for what it left open and the encoder decides: the rate, its warmup, and how a sequence head pools."""
    size = size_of(checkpoint)
    choices = []
    if cfg.optim.learning_rate is None:
        why = f"{size.name} encoder, hidden size {checkpoint.encoder.hidden_size}"
        factor = cfg.task.rate_factor if isinstance(cfg.task, SetsPace) else 1.0
        choices.append(Choice("optim.learning_rate", factor * size.learning_rate, why + (f", times {factor:g} for this task" if factor != 1 else "")))
    if cfg.optim.warmup is None:
        choices.append(Choice("optim.warmup", WARMUP, "usual"))
    task = _pooled(cfg.task, checkpoint)
    if task != cfg.task:
        choices.append(Choice("task.pooling", pooling_of(checkpoint), "sentence encoder"))
    of_optim = {one.field.removeprefix("optim."): one.value for one in choices if one.field.startswith("optim.")}
    return dataclasses.replace(cfg, task=task, optim=dataclasses.replace(cfg.optim, **of_optim)), tuple(choices)


def of_data(cfg: Config, checkpoint: Checkpoint, *, num_examples: int) -> tuple[Config, tuple[Choice, ...]]:
    """The config with a number of epochs, where it left that open.

    Of 5,000 examples in batches of 32 an epoch has 157 steps. A small encoder takes 5 epochs, 785 steps; of 500 examples, 16 steps an epoch, 5 epochs would
    be 80 steps, too few to learn anything, so that it takes as many epochs as the least number of steps needs, within a bound.

    num_examples: of the train split.
    """
    if cfg.num_epochs is not None or cfg.num_steps is not None:
        return cfg, ()
    size = size_of(checkpoint)
    enough = math.ceil(size.num_steps / math.ceil(num_examples / cfg.data.batch_size))
    num_epochs = float(min(max(size.num_epochs, enough), size.max_epochs))
    why = f"{num_examples:,} examples"
    if num_epochs > size.num_epochs:
        why += f" are few: at least {size.num_steps} steps{f', at most {size.max_epochs:g} epochs' if enough > size.max_epochs else ''}"
    return dataclasses.replace(cfg, num_epochs=num_epochs), (Choice("num_epochs", num_epochs, why),)


def pooling_of(checkpoint: Checkpoint) -> str:
    """How a sentence encoder's vectors are made: what its own modules say, where a sequence head can do that too, or the mean."""
    own = checkpoint.modules.pooling if checkpoint.modules else None
    return own if own in SEQUENCE_KINDS else SENTENCE_POOLING


def _pooled(task: Any, checkpoint: Checkpoint) -> Any:
    """The task, whose sequence head pools as suits the encoder where the config did not say; of several tasks each."""
    if not checkpoint.is_sentence_encoder:
        return task
    if isinstance(task, Several):
        return dataclasses.replace(task, tasks={name: _pooled(one, checkpoint) for name, one in task.tasks.items()})  # type: ignore[type-var]
    has_open = "pooling" in {field.name for field in dataclasses.fields(task)} and task.pooling is None
    return dataclasses.replace(task, pooling=pooling_of(checkpoint)) if has_open else task


def line(choices: Sequence[Choice]) -> str:
    """One line for the terminal: "recipe: optim.learning_rate 0.0003 (small encoder, hidden size 384), ..."."""
    if not choices:
        return "recipe: the config's own"
    return f"recipe: {', '.join(f'{one.field} {shown(one.value)} ({one.why})' for one in choices)}"


def shown(value: Any) -> str:
    """A value as a flag takes it: 0.0003, 4, mean."""
    return f"{value:g}" if isinstance(value, float) else str(value)
