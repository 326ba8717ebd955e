"""What a task is: everything between a record and a score that knows what the labels mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from flax import nnx
from jaxtyping import Array

from flaxft.data.base import Batch, Features, Field, Record, Source, Tokenizer
from flaxft.models.base import Checkpoint, Encoder

Terms = dict[str, tuple[Array, Array]]  # name -> (sum, weight); the objective is the sum over terms of sum / weight
Predictions = dict[str, dict[str, Any]]  # "T" or "S" -> name -> array (R, T, ...) or (R, S, ...)


class Task(Protocol):
    """A dataclass; its fields are its config. One task family is one file. A split's path is the field of its name: `train`, `validation`, `test`."""

    kind: ClassVar[str]  # of its head: token | sequence | choice | span | mlm
    train: str  # a path, empty for none; so are `validation` and `test`, which not every task has
    main_metric: str  # picks the best checkpoint; "-loss" where smaller is better
    labels: tuple[str, ...]  # names of the head's outputs, after `resolve`; empty where they have none

    def splits(self) -> dict[str, str]:
        """The splits that have a path: {"train": "train.conll", ...}."""
        ...

    def records(self, split: str, *, max_examples: int | None = None) -> Source: ...

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> Task:
        """A filled copy: label names, tokens to add. It is saved, so predicting needs no training file."""
        ...

    def spec(self) -> dict[str, Field]:
        """What this task adds to a batch."""
        ...

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> Sequence[Features]:
        """Several for windows or choices. Raises UserError; the caller puts the record's place before it."""
        ...

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        """Host randomness that never changes lengths: MLM masks."""
        ...

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module: ...

    def loss(self, outputs: Any, batch: Batch) -> Terms:
        """Sums and weights; weights depend on the batch alone. Only the step divides."""
        ...

    def predict(self, outputs: Any, batch: Batch) -> Predictions:
        """Inside jit: argmax and the like."""
        ...

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """All windows or choices of one record -> what a user reads. `predictions[i]` belongs to `features[i]`: (n, ...) along T, (...) along S."""
        ...

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """Thresholds and the like, fitted on a validation split; saved with the best checkpoint."""
        ...

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]: ...

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        """The scores as a table for people."""
        ...
