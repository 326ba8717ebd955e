"""What a task is: everything between a record and a score that knows what the labels mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from flax import nnx
from jaxtyping import Array

from flaxft.baseline import Baseline
from flaxft.data.base import Batch, Features, Field, Look, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.scores import largest, some
from flaxft.models.base import Checkpoint, Encoder

Terms = dict[str, tuple[Array, Array]]  # name -> (sum, weight); the objective is the sum over terms of sum / weight
Predictions = dict[str, dict[str, Any]]  # "T" or "S" -> name -> array (R, T, ...) or (R, S, ...)


class Task(Protocol):
    """A dataclass; its fields are its config. One task family is one file. A split's path is the field of its name: `train`, `validation`, `test`."""

    problem_type: ClassVar[str | None]  # Hugging Face's word for what a sequence head learns; None where the kind says it all
    decomposes: ClassVar[bool]  # the loss of a batch is the sum of its micro-batches' losses; where not (in-batch negatives), steps do not accumulate
    train: Any  # a path, empty for none, or records in memory; so are `validation` and `test`, which not every task has
    main_metric: str  # picks the best checkpoint; "-loss" where smaller is better
    labels: tuple[str, ...]  # names of the head's outputs, after `resolve`; empty where they have none

    @property
    def kind(self) -> str:
        """Of its head: token | sequence | mean_sequence | choice | span | mlm | embedding."""
        ...

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
        """All windows or choices of one record -> one result, before calibration. `predictions[i]` belongs to `features[i]`: (n, ...) along T, else (...)."""
        ...

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """Thresholds, temperature and the like, fitted on what `decode` gave for a validation split; saved with the best checkpoint."""
        ...

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        """What a user reads of one decoded record: the fitted numbers applied, where there are any, and figures rounded."""
        ...

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Of calibrated records. Names with a "/" are details, which the console leaves out: "PER/f1"; `interval` names two of them."""
        ...

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        """The scores as a table for people."""
        ...


@runtime_checkable
class SetsPace(Protocol):
    """What a task has beside `Task` where it wants another rate than the encoder's recipe has for heads that are new."""

    rate_factor: float  # of the recipe's rate


@runtime_checkable
class WritesFiles(Protocol):
    """What a task has beside `Task` where its predictions have an official layout of their own."""

    def files(self, decoded: Sequence[dict[str, Any]]) -> dict[str, str]:
        """File name -> content, of calibrated records; a run writes them to predictions/<split>/."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """What a task has beside `Task` where its records may hold what it is to predict."""

    def unlabelled(self, record: Record) -> Record:
        """The record as it comes when predicting: without its label, whatever stands there, and with all that `features` and `decode` read."""
        ...


@runtime_checkable
class Shows(Protocol):
    """What a task has beside `Task` where its results can be looked at one by one: parts of report/index.html, which knows no task."""

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Of calibrated records. Plain Python data; long lists are cut to `NUM_SHOWN`, and say how many there are."""
        ...


class Claim(NamedTuple):
    """A task class says that some records are its own.

    strength: from 0 to 1; the strongest claim wins. 0.9 is a layout that nothing else has, 0.5 a text with one label.
    fields: what the task is to be made with, such as text_columns; reason: the columns in words, "text in 'body', one label in 'queue'".
    """

    strength: float
    fields: dict[str, Any]
    reason: str


class Claims(Protocol):
    """What a task class has beside `Task` where records can show that they are for it: `flaxft.guess` asks every class."""

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """None where the records are none of this task's. Raises UserError where they are, and which columns are meant cannot be told."""
        ...


@runtime_checkable
class Looks(Protocol):
    """What a task has beside `Task` where it can say how a split was read. Runs and doctor look at every split, before anything is tokenised."""

    def look(self, source: Source, *, split: str) -> Look:
        """Of a resolved task and a source that `records` gave. Raises UserError for what cannot be meant: a column of ids as texts, and the like."""
        ...


@runtime_checkable
class HasBaselines(Protocol):
    """What a task has beside `Task` where there are simple ways to do it. A run fits them at its end and scores them as it scores the model."""

    def baselines(self, records: Sequence[Record]) -> list[Baseline]:
        """The simplest first, fitted on records of the train split in seconds: `flaxft.baseline` has them for texts."""
        ...


class LabelCounts(NamedTuple):
    """How often each label of a split occurs, and how far that alone takes who guesses."""

    counts: dict[str, int]  # of every label that the model knows; 0 where the split lacks it
    noun: str  # what is counted: "labels", "entity types"
    guess_loss: float | None  # the loss of who answers each time with these shares; None where the loss is weighted and tells nothing


@runtime_checkable
class CountsLabels(Protocol):
    """What a task has beside `Task` where its records have labels that can be counted, or a loss that guessing has."""

    def label_counts(self, records: Source) -> LabelCounts: ...


@runtime_checkable
class Several(Protocol):
    """What a task has beside `Task` where it is made of several: each has the head of its own name."""

    tasks: dict[str, Task]


@runtime_checkable
class Pools(Protocol):
    """What a task has beside `Task` where its head has no weights and makes one vector of a text's tokens."""

    pooling: str  # mean or cls
    normalize: bool  # vectors of length 1


# ---- what a report shows --------------------------------------------------------------------------------------------------------------------------

NUM_SHOWN = 25  # of any list in a report: a page that is read, and not a copy of the data


@dataclasses.dataclass
class Table:
    """Cells are text or numbers; a number with a fraction is shown to four places. `total`: how many rows there are, where not all of them are here."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    note: str = ""
    total: int = 0


@dataclasses.dataclass
class Matrix:
    """A confusion matrix: counts[i][j] records of label i were given label j."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""


@dataclasses.dataclass
class Reliability:
    """How often what is said with a confidence is right: each curve has number, mean confidence and share of right ones of its bins."""

    title: str
    curves: dict[str, tuple[tuple[float, float, float], ...]]
    note: str = ""


@dataclasses.dataclass
class Scatter:
    """Numbers as they should be, and as they were given."""

    title: str
    gold: tuple[float, ...]
    predicted: tuple[float, ...]
    note: str = ""


@dataclasses.dataclass
class Span:
    """Characters of a text, their label, and what they are: "right", "wrong" (was given), "gold" (should have been given) or "mark"."""

    start: int
    end: int
    label: str
    role: str


@dataclasses.dataclass
class Passage:
    """A text with its spans, which may overlap, and what is said of it."""

    caption: str
    text: str
    spans: tuple[Span, ...]


@dataclasses.dataclass
class Passages:
    """Texts with coloured spans, `total` of which there are."""

    title: str
    passages: tuple[Passage, ...]
    total: int
    note: str = ""


Section = Table | Matrix | Reliability | Scatter | Passages


def cut_text(text: str, *, longest: int = 300) -> str:
    """For a cell."""
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."


def unlabelled(task: Task, record: Record) -> Record:
    """The record without what the task is to predict, which may be unknown, empty or wrong there."""
    return task.unlabelled(record) if isinstance(task, Labelled) else record


MANY_SCORES, NUM_SCORES = 200, 20  # of a text: with more labels a line of predictions would be longer than most texts


def top_scores(result: dict[str, Any], num: int | Literal["all"] | None) -> dict[str, Any]:
    """The result with the `num` largest of its scores by label, the largest first, and those of the labels that it gives, where it has more.

    With None the `NUM_SCORES` largest, where there are more than `MANY_SCORES` labels. Scores are a plain dict in any case.

    `{"label": "a", "scores": {"a": 0.7, "b": 0.1, "c": 0.2}}` becomes with num=2 `{"label": "a", "scores": {"a": 0.7, "c": 0.2}}`. Of several tasks, each.
    """
    scores = result.get("scores")
    if isinstance(scores, Mapping) and num != "all" and len(scores) > (num or MANY_SCORES):
        best = largest(scores, num or NUM_SCORES)
        given = result.get("labels")
        return result | {"scores": some(scores, [*best, *(given if isinstance(given, list) else ())])}
    if isinstance(scores, Mapping) and not isinstance(scores, dict):
        return result | {"scores": some(scores, list(scores))}
    parts = {name: top_scores(part, num) for name, part in result.items() if name != "scores" and isinstance(part, dict)}
    return result | parts if parts else result


def fits_kind(task: Task, checkpoint: Checkpoint) -> bool:
    """Whether the head of a fine-tuned checkpoint is of the kind that this task's is, whatever its labels."""
    learnt = checkpoint.config.get("problem_type")
    return checkpoint.kind == task.kind and not (learnt and task.problem_type and learnt != task.problem_type)


def fits_head(task: Task, checkpoint: Checkpoint) -> bool:
    """Whether the head of a fine-tuned checkpoint is one for this resolved task: of its kind, with its labels."""
    if not fits_kind(task, checkpoint):
        return False
    if task.labels:
        return checkpoint.labels == task.labels
    return task.problem_type is None or len(checkpoint.labels or ()) == 1  # a head that gives one number


def entropy(shares: np.ndarray) -> float:
    """In nats: the loss of guessing with these shares, float (L,), which need not add up to 1."""
    known = np.asarray(shares, float)[np.asarray(shares) > 0]
    return float(-np.sum(known / known.sum() * np.log(known / known.sum()))) if len(known) else 0.0


def interval(name: str, low: float, high: float) -> dict[str, float]:
    """The entries of `Task.score` for the 95 % interval of the metric `name`."""
    return {f"{name}/low": low, f"{name}/high": high}


def interval_line(name: str, scores: Mapping[str, float]) -> str:
    """The last line of a report, where `scores` has the interval of the metric `name`; otherwise nothing."""
    if f"{name}/low" not in scores:
        return ""
    return f"\n95 % interval of {name}: {scores[f'{name}/low']:.4f} to {scores[f'{name}/high']:.4f} (bootstrap over records)\n"
