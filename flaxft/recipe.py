"""The recipe that belongs to an encoder: what a config leaves open follows from the size of the encoder and from how much data there is.

A rate that suits BERT-base leaves a small encoder where it was (0.18 accuracy on 77 intents, where TF-IDF gets 0.89), and one that suits a small encoder makes
a large one diverge. So no default rate is right; the table `SIZES` has one for each size. `benchmarks/README.md` has the scores that it gives.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxft.config import Config
from flaxft.models.base import Checkpoint


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
    Size("very small", 256, learning_rate=1e-3, num_epochs=6, num_steps=600, max_epochs=20),
    Size("small", 512, learning_rate=3e-4, num_epochs=4, num_steps=400, max_epochs=15),
    Size("base", 768, learning_rate=5e-5, num_epochs=3, num_steps=300, max_epochs=10),
    Size("large", math.inf, learning_rate=2e-5, num_epochs=3, num_steps=300, max_epochs=10),
)
WARMUP = 0.1
BAND = 8.0  # a rate further than this factor from the table's is worth a word


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


def complete(cfg: Config, checkpoint: Checkpoint, *, num_examples: int) -> tuple[Config, tuple[Choice, ...]]:
    """The config with a value for all that it left open, and what was chosen and why.

    Of 5,000 examples in batches of 32 an epoch has 157 steps. A small encoder takes 4 epochs, 628 steps; of 500 examples, 16 steps an epoch, 4 epochs would
    be 64 steps, too few to learn anything, so that it takes as many epochs as the least number of steps needs, but at most 15.

    num_examples: of the train split.
    """
    size = size_of(checkpoint)
    encoder = f"{size.name} encoder, hidden size {checkpoint.encoder.hidden_size}"
    choices = []
    if cfg.optim.learning_rate is None:
        choices.append(Choice("optim.learning_rate", size.learning_rate, encoder))
    if cfg.optim.warmup is None:
        choices.append(Choice("optim.warmup", WARMUP, "usual"))
    if cfg.num_epochs is None:
        steps_per_epoch = math.ceil(num_examples / cfg.data.batch_size)
        enough = math.ceil(size.num_steps / steps_per_epoch)
        num_epochs = float(min(max(size.num_epochs, enough), size.max_epochs))
        why = f"{num_examples:,} examples" if num_epochs == size.num_epochs else f"{num_examples:,} examples are few: at least {size.num_steps} steps"
        choices.append(Choice("num_epochs", num_epochs, f"{why}, at most {size.max_epochs:g} epochs" if num_epochs == size.max_epochs else why))
    return _with(cfg, {choice.field: choice.value for choice in choices}), tuple(choices)


def _with(cfg: Config, values: Mapping[str, Any]) -> Config:
    of_optim = {name.removeprefix("optim."): value for name, value in values.items() if name.startswith("optim.")}
    own = {name: value for name, value in values.items() if "." not in name}
    return dataclasses.replace(cfg, optim=dataclasses.replace(cfg.optim, **of_optim), **own)


def line(choices: tuple[Choice, ...]) -> str:
    """One line for the terminal: "recipe: optim.learning_rate 3e-4 (small encoder, hidden size 384), ..."; empty where nothing was open."""
    return f"recipe: {', '.join(f'{one.field} {one.value:g} ({one.why})' for one in choices)}" if choices else ""
