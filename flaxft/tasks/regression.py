"""Regression: one number for one text, or for a pair of texts. Similarity, ratings, readability."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxft import baseline
from flaxft.data import roles
from flaxft.data.base import Batch, Features, Field, Look, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.labels import check_labelled, has_label, label_column, without_label
from flaxft.data.memory import Given
from flaxft.data.plausible import look_at
from flaxft.data.source import checked
from flaxft.data.splits import open_records, part, paths
from flaxft.data.texts import check_columns, check_long_text, check_token_types, named, text_columns, text_examples, texts_of
from flaxft.errors import UserError, nearest
from flaxft.metrics.confidence import Statistic, bootstrap_interval, weighted_mean, weighted_pearson, weighted_spearman
from flaxft.metrics.regression import regression_scores
from flaxft.models.base import Checkpoint, Encoder
from flaxft.models.heads import sequence_kind
from flaxft.ops.losses import squared_error
from flaxft.tasks.base import (
    NUM_SHOWN,
    Claim,
    LabelCounts,
    Predictions,
    Scatter,
    Section,
    Table,
    Terms,
    cut_text,
    interval,
    interval_line,
)

LABELS = ("score", "label", "labels", "similarity_score", "rating")
SCORES = ("score", "similarity_score", "similarity", "rating", "relatedness_score")  # columns whose whole numbers are a scale, and no names
FEW_VALUES = 20  # up to so many whole numbers are taken for labels
METRICS = ("spearman", "pearson", "-mse", "-mae", "-loss")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # not all that float() takes: nan, 1_000


@dataclasses.dataclass
class Regression:
    """Records are a text, or two, with one number: from CSV, TSV, JSONL, Parquet or the hub. The model learns the numbers as they are, on their own scale."""

    problem_type: ClassVar[str | None] = "regression"
    decomposes: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ()

    train: Given = ""
    """Where the training records are: a file such as train.csv, or hub:NAME/SUBSET@REVISION."""
    validation: Given | None = None
    """Where the validation records are, written as `train` is; it picks the best checkpoint. A share such as 10% is taken out of the train split, by a hash
    of the text. None takes 10% where the train split has 100 records, and an empty text has none."""
    test: Given = ""
    """Where the test records are, written as `train` is, or a share of the train split such as 10%; empty for none. It is scored once, at the end."""
    group_column: str = ""
    """A column whose records stay together, such as author or document, where validation or test is a share of the train split."""
    format: str | None = None
    """How files are read: jsonl, csv, tsv or parquet. None goes by the suffix of each file, and by its content where that says nothing."""
    text_columns: tuple[str, ...] = ()
    """The column of the text, or the two columns of a pair, such as body or question,answer. Empty looks for text, sentence, sentence1 and sentence2,
    premise and hypothesis."""
    label_column: str = ""
    """The column of the number; empty looks for score, label, labels, similarity_score, rating."""
    long_text: str = "head"
    """What is read of a text that is longer than data.max_length: head is its beginning; head_tail its beginning and its end, half each; windows all of it,
    in several examples that overlap by a quarter, which count as one in the loss and whose outputs are averaged. A pair is cut at its ends."""
    pooling: str | None = None
    """What the last layer sees of a text: cls, BERT's pooler on the first token; or mean, over all tokens. None: what the recipe says."""
    main_metric: str = "spearman"
    """The metric that picks the best checkpoint: spearman, pearson, -mse, -mae or -loss; - says that smaller is better."""

    @property
    def kind(self) -> str:
        return sequence_kind(self.pooling)

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """One number a text, or a pair: fractions, or whole numbers that are scores by their name or do not count labels."""
        texts = columns.texts()
        label = columns.label(texts) if texts else ""
        kind = columns.kinds[label].name if label else ""
        if kind not in ("numbers", "wholes"):
            return None
        values = {int(float(value)) for value in columns.values(label)}
        counts_labels = kind == "wholes" and (len(values) <= FEW_VALUES or max(values) - min(values) < len(values))
        if counts_labels and label.lower() not in SCORES:
            return None
        return Claim(0.6, {"text_columns": texts, "label_column": label}, f"{columns.in_words(texts)}, a number in {label!r}")

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; one without text or number is found here, not hours later at the first evaluation."""
        source = open_records(self, split, format=self.format, max_examples=max_examples)
        task = self._with_columns(source)
        source = part(source, self, split, key=lambda record: "\n".join(task._texts(record)), max_examples=max_examples)
        check_labelled(source, task.label_column, split=split, is_number=True)
        return checked(source, task._texts, task._gold)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> Regression:
        """Fills in columns. Raises UserError."""
        check_columns(self.text_columns)
        check_long_text(self.long_text, self.text_columns)
        sequence_kind(self.pooling)
        if self.main_metric not in METRICS:
            raise UserError(f"task.main_metric is {self.main_metric!r}{nearest(self.main_metric, METRICS)}; allowed are {list(METRICS)}")
        if "train" not in self.splits():
            return dataclasses.replace(self)
        source = self.records("train", max_examples=max_examples)
        task = self._with_columns(source)
        check_long_text(task.long_text, task.text_columns)
        roles.tell(task, asked=self, usual=LABELS)
        if len(task.text_columns) == 2:
            check_token_types(tokenizer, checkpoint.config, model=checkpoint.name)
        first = task._gold(source[0])
        if all(task._gold(record) == first for record in source):
            raise UserError(f"{source.name}: every record has the number {first:g}; expected at least two that differ")
        return task

    def look(self, source: Source, *, split: str) -> Look:
        """How a split was read, and what is implausible about it. Raises UserError for columns that cannot be meant."""
        columns = text_columns(source[0], self.text_columns, allow_raw=True)
        column = label_column(source[0], self.label_column, LABELS) if self._has_label(source[0]) else ""
        number = lambda record: self._gold(record) if self._has_label(record) else None  # noqa: E731
        return look_at(source, split=split, columns=columns, texts=self._texts, column=column, number=number)

    def spec(self) -> dict[str, Field]:
        """No number says "none" as -100 does for a label, so that a slot without one has weight 0."""
        return {"labels": Field("S", (), "float32", 0.0), "label_weight": Field("S", (), "float32", 0.0)}

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One feature, or one for each window. What is cut of a longer text says `long_text`, of a pair its end, the longer text first; `num_cut` how much."""
        examples, num_cut = text_examples(self._texts(record), tokenizer, max_length=max_length, long_text=self.long_text)
        is_there = self._has_label(record)
        number = self._gold(record) if is_there else 0.0
        own = {"labels": np.asarray(number, np.float32), "label_weight": np.asarray(is_there / len(examples), np.float32)}
        return [Features(tokens, own, num_cut=num_cut) for tokens in examples]

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return encoder.head(self.kind, 1, rngs=rngs)

    def loss(self, outputs: Float[Array, "R S 1"], batch: Batch) -> Terms:
        return {"sequence": squared_error(outputs[..., 0], batch["labels"], weights=batch["label_weight"])}

    def predict(self, outputs: Float[Array, "R S 1"], batch: Batch) -> Predictions:
        return {"S": {"score": outputs[..., 0].astype(jnp.float32)}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{"text", "score"}`; of a pair "text" and "text_pair"."""
        return {**named(self._texts(record)), "score": float(np.mean([one["score"] for one in predictions], dtype=np.float64))}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        return {}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        return decoded | {"score": round(decoded["score"], 6)}

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Pearson's and Spearman's correlation, mean squared and mean absolute error. The main metric has its interval, but for the loss."""
        gold, predicted = self._gold_and_predicted(decoded, records)
        statistic = _statistic(self.main_metric, gold, predicted)
        found = interval(self.main_metric.removeprefix("-"), *bootstrap_interval(statistic, len(gold))) if statistic else {}
        return regression_scores(gold, predicted) | found

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        found = self.score(decoded, records, {})
        lines = [f"{name:>10}{value:>11.4f}" for name, value in found.items() if "/" not in name]
        for name, numbers in zip(("gold", "predicted"), self._gold_and_predicted(decoded, records), strict=True):
            lines.append(f"{name:>10}  from {numbers.min():.4f} to {numbers.max():.4f}, mean {numbers.mean():.4f}, standard deviation {numbers.std():.4f}")
        return "\n".join(lines) + "\n" + interval_line(self.main_metric.removeprefix("-"), found)

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Predicted by gold, of at most 2,000 records, and the largest errors."""
        gold, predicted = self._gold_and_predicted(decoded, records)
        worst = np.argsort(-np.abs(gold - predicted), kind="stable").tolist()
        drawn = slice(None, None, -(-len(gold) // 2000) or 1)
        rows = [
            (cut_text(" | ".join(decoded[i][key] for key in ("text", "text_pair") if key in decoded[i])), float(gold[i]), float(predicted[i]))
            for i in worst[:NUM_SHOWN]
        ]
        return [
            Scatter("Predicted and gold", tuple(gold[drawn].tolist()), tuple(predicted[drawn].tolist())),
            Table("Largest errors", ("text", "gold", "predicted"), tuple(rows), total=len(worst)),
        ]

    def baselines(self, records: Sequence[Record]) -> list[baseline.Baseline]:
        known = [record for record in records if self._has_label(record)]
        numbers = [self._gold(record) for record in known]
        return baseline.of_numbers(known, self._texts, numbers, decode=lambda record, found: self.decode(record, (), [found]))

    def label_counts(self, records: Source) -> LabelCounts:
        """No labels; who answers with the mean has the variance for a loss."""
        return LabelCounts({}, "numbers", float(np.var([self._gold(record) for record in records if self._has_label(record)])))

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def _with_columns(self, source: Source) -> Regression:
        """A copy that knows its columns, which are guessed where none are named. Raises UserError."""
        usual = next((name for name in LABELS if name in source[0]), "")
        columns = roles.text_columns(source, self.text_columns, others=[self.label_column or usual])
        label = roles.label_column(source, self.label_column, LABELS, texts=columns, names=roles.NUMBER_NAMES, what="number")
        return dataclasses.replace(self, text_columns=columns, label_column=label)

    def _texts(self, record: Record) -> list[str]:
        return texts_of(record, self.text_columns, allow_raw=not self._has_label(record))

    def unlabelled(self, record: Record) -> Record:
        return without_label(record, self.label_column, LABELS, texts=self.text_columns)

    def _has_label(self, record: Record) -> bool:
        return has_label(record, self.label_column, LABELS)

    def _gold(self, record: Record) -> float:
        """A record's number, which a CSV cell holds as text. Raises UserError for what is none, or does not fit into a float32."""
        column = label_column(record, self.label_column, LABELS)
        value = record[column]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number and not (isinstance(value, str) and NUMBER.fullmatch(value.strip())):
            hint = "every record needs a number" if value in ("", None) else "expected a number such as 3.5"
            raise UserError(f"column {column!r} is {str(value)[:40]!r} ({type(value).__name__}); {hint}")
        largest = float(np.finfo(np.float32).max)
        # Python's whole numbers may be beyond any float; a NaN compares as false.
        if not (-largest <= value <= largest if isinstance(value, int) else abs(float(value)) <= largest):
            raise UserError(f"column {column!r} is {str(value)[:40]}, expected a finite number up to {largest:.2g}; leave the record out or scale them")
        return float(value)

    def _gold_and_predicted(self, decoded: Sequence[dict[str, Any]], records: Source) -> tuple[np.ndarray, np.ndarray]:
        """float64 (num_records,) each."""
        return np.asarray([self._gold(record) for record in records]), np.asarray([one["score"] for one in decoded])


def _statistic(metric: str, gold: np.ndarray, predicted: np.ndarray) -> Statistic | None:
    """The main metric of resampled records; None for the loss, which the task does not see record by record."""
    if metric == "spearman":
        return weighted_spearman(gold, predicted)
    if metric == "pearson":
        return weighted_pearson(gold, predicted)
    if metric == "-mse":
        return weighted_mean((gold - predicted) ** 2)
    if metric == "-mae":
        return weighted_mean(np.abs(gold - predicted))
    return None
