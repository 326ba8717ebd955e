"""Sequence classification: one label for one text, or for a pair of texts. Sentiment, intent, entailment."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxft import baseline
from flaxft.data import roles
from flaxft.data.base import IGNORE, Batch, Features, Field, Look, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.labels import (
    check_kinds,
    check_labelled,
    check_labels,
    choose_labels,
    has_label,
    label_column,
    label_id,
    label_name,
    without_label,
    without_train,
)
from flaxft.data.memory import Given
from flaxft.data.plausible import look_at
from flaxft.data.scores import rounded, scores_of, values_of
from flaxft.data.source import checked
from flaxft.data.splits import open_records, part, paths
from flaxft.data.texts import WINDOWS, check_columns, check_long_text, check_token_types, named, text_columns, text_examples, texts_of
from flaxft.errors import UserError, nearest, printable
from flaxft.metrics.classification import classification_scores, confusion, weighted_macro_f1_of_labels, weighted_mcc
from flaxft.metrics.confidence import (
    Statistic,
    bootstrap_interval,
    calibration_curves,
    calibration_errors,
    fit_temperature,
    log_scores,
    mean_probabilities,
    weighted_mean,
    with_confidence,
)
from flaxft.models.base import Checkpoint, Encoder
from flaxft.models.heads import sequence_kind
from flaxft.ops.losses import cross_entropy, weighted_cross_entropy
from flaxft.tasks.base import (
    NUM_SHOWN,
    Claim,
    LabelCounts,
    Matrix,
    Predictions,
    Reliability,
    Section,
    Table,
    Terms,
    cut_text,
    entropy,
    interval,
    interval_line,
)

LABELS = ("label", "labels", "category", "intent")
METRICS = ("accuracy", "macro_f1", "micro_f1", "mcc", "-loss")
BALANCED = "balanced"
MANY = 200  # labels up to which a report has all of them in its confusion matrix


@dataclasses.dataclass
class SequenceClassification:
    """Records are a text, or two, with one label: from CSV, TSV, JSONL, Parquet or the hub."""

    problem_type: ClassVar[str | None] = "single_label_classification"
    decomposes: ClassVar[bool] = True

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
    """The column of the label, such as queue; empty looks for label, labels, category, intent."""
    labels: tuple[str, ...] = ()
    """Names of the labels, in order where the data has numbers. Empty takes those of a fine-tuned model, or else those found in the train split."""
    label_smoothing: float = 0.0
    """The share of the gold label's probability that is spread over all labels, from 0 to below 1, such as 0.1; 0 does not."""
    focal_gamma: float = 0.0
    """Above 0, examples that are already right count less: the focal loss, whose paper takes 2 (arXiv 1708.02002). 0 is plain cross-entropy."""
    class_weights: str | tuple[float, ...] | None = None
    """One weight a label, or balanced: examples / (labels * examples of the label). None weighs all alike."""
    long_text: str = "head"
    """What is read of a text that is longer than data.max_length: head is its beginning; head_tail its beginning and its end, half each; windows all of it,
    in several examples that overlap by a quarter, which count as one in the loss and whose log-probabilities are averaged. A pair is cut at its ends."""
    pooling: str | None = None
    """What the last layer sees of a text: cls, BERT's pooler on the first token; or mean, over all tokens. None: what the recipe says."""
    main_metric: str = "accuracy"
    """The metric that picks the best checkpoint: accuracy, macro_f1, micro_f1, mcc, LABEL/f1 or -loss; - says that smaller is better."""

    @property
    def kind(self) -> str:
        return sequence_kind(self.pooling)

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """One label a text, or a pair: names that come again, or whole numbers that count labels."""
        texts = columns.texts()
        label = columns.label(texts) if texts else ""
        if not label or columns.kinds[label].name not in ("names", "flags", "wholes"):
            return None
        fields = {"text_columns": texts, "label_column": label}
        return Claim(0.5, fields, f"{columns.in_words(texts)}, one label in {label!r}")

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; one without text or label is found here, not hours later at the first evaluation."""
        source = open_records(self, split, format=self.format, max_examples=max_examples)
        task = self._with_columns(source)
        source = part(source, self, split, key=task._key, labels=lambda record: [task._gold(record)], max_examples=max_examples)
        check_labelled(source, task.label_column, split=split)
        return checked(source, task._texts, task._gold)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> SequenceClassification:
        """Fills in columns, labels and class weights. Raises UserError."""
        check_columns(self.text_columns)
        check_long_text(self.long_text, self.text_columns)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(f"task.label_smoothing is {self.label_smoothing}, expected from 0 to below 1")
        if not 0.0 <= self.focal_gamma < float("inf"):
            raise UserError(f"task.focal_gamma is {self.focal_gamma}, expected 0 for none, or a positive number such as 2")
        if isinstance(self.class_weights, str) and self.class_weights != BALANCED:
            raise UserError(f"task.class_weights is {self.class_weights!r}; allowed are {BALANCED!r}, none, or in a config file one number per label")
        # The same class serves regression and several labels at once, whose outputs are no labels of ours.
        is_ours = checkpoint.kind == self.kind and checkpoint.config.get("problem_type") in (None, self.problem_type)
        model_labels = checkpoint.labels if is_ours else None
        if "train" not in self.splits():
            return self._with(without_train(self.labels, model_labels, model=checkpoint.name), counts=None)
        source = self.records("train", max_examples=max_examples)
        task = self._with_columns(source)
        check_long_text(task.long_text, task.text_columns)
        roles.tell(task, asked=self, usual=LABELS)
        if len(task.text_columns) == 2:
            check_token_types(tokenizer, checkpoint.config, model=checkpoint.name)
        counts = Counter(task._gold(record) for record in source)
        check_kinds(source, lambda record: [record[task.label_column]], column=task.label_column)
        return task._with(choose_labels(self.labels, model_labels, counts, model=checkpoint.name, source=source.name), counts)

    def look(self, source: Source, *, split: str) -> Look:
        """How a split was read, and what is implausible about it. Raises UserError for columns that cannot be meant."""
        columns = text_columns(source[0], self.text_columns, allow_raw=True)
        column = label_column(source[0], self.label_column, LABELS) if self._has_label(source[0]) else ""
        labels = lambda record: [self._gold(record)] if self._has_label(record) else []  # noqa: E731
        return look_at(source, split=split, columns=columns, texts=self._texts, column=column, labels=labels)

    def spec(self) -> dict[str, Field]:
        weight = {"window_weight": Field("S", (), "float32", 0.0)} if self.long_text == WINDOWS else {}
        return {"labels": Field("S", (), "int32", IGNORE), **weight}

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One feature, or one for each window. What is cut of a longer text says `long_text`, of a pair its end, the longer text first; `num_cut` how much."""
        examples, num_cut = text_examples(self._texts(record), tokenizer, max_length=max_length, long_text=self.long_text)
        own = {"labels": np.asarray(self._label_id(record), np.int32)}
        if self.long_text == WINDOWS:  # all of them together count as one text
            own["window_weight"] = np.asarray(1 / len(examples), np.float32)
        return [Features(tokens, own, num_cut=num_cut) for tokens in examples]

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return encoder.head(self.kind, len(self.labels), rngs=rngs)

    def loss(self, outputs: Float[Array, "R S L"], batch: Batch) -> Terms:
        if not self.class_weights and not self.label_smoothing and not self.focal_gamma:
            return {"sequence": cross_entropy(outputs, batch["labels"], ignore=IGNORE, weights=batch.get("window_weight"))}
        class_weights = jnp.asarray(self.class_weights or [1.0] * len(self.labels), jnp.float32)
        found = weighted_cross_entropy(
            outputs, batch["labels"], ignore=IGNORE, class_weights=class_weights, label_smoothing=self.label_smoothing, focal_gamma=self.focal_gamma,
            weights=batch.get("window_weight"),
        )  # fmt: skip
        return {"sequence": found}

    def predict(self, outputs: Float[Array, "R S L"], batch: Batch) -> Predictions:
        return {"S": {"label": jnp.argmax(outputs, -1).astype(jnp.int32), "scores": jax.nn.softmax(outputs.astype(jnp.float32), axis=-1)}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{"text", "label", "score", "scores": {label: probability}}`; of a pair "text" and "text_pair". score is that of the label."""
        scores, best = predictions[0]["scores"], int(predictions[0]["label"])  # (L,)
        if len(predictions) > 1:
            scores = mean_probabilities([one["scores"] for one in predictions])
            best = int(scores.argmax())
        return {**named(self._texts(record)), "label": self.labels[best], "score": float(scores[best]), "scores": scores_of(self.labels, scores)}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """The temperature that the logits are divided by to make the scores honest (Guo et al. 2017, arXiv 1706.04599)."""
        return {"temperature": fit_temperature(log_scores(_scores(decoded)), self._gold_and_predicted(decoded, records)[0])}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        scores = rounded(decoded["scores"])
        return with_confidence(decoded | {"score": scores[decoded["label"]], "scores": scores}, _scores([decoded])[0], calibration)

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Accuracy, macro and micro F1, Matthews' correlation, and precision, recall, F1 and support of every label.

        Under "ece/" the expected calibration error of the scores as they are and, where one was fitted, at the temperature.
        """
        gold, predicted = self._gold_and_predicted(decoded, records)
        result = classification_scores(gold, predicted, self.labels)
        intervals: dict[str, Callable[[], Statistic]] = {
            "macro_f1": lambda: weighted_macro_f1_of_labels(gold, predicted, len(self.labels)),
            "mcc": lambda: weighted_mcc(gold, predicted, len(self.labels)),
            "accuracy": lambda: weighted_mean(gold == predicted),
            "micro_f1": lambda: weighted_mean(gold == predicted),  # with one label an example it is the accuracy
        }
        if self.main_metric in intervals:
            result |= interval(self.main_metric, *bootstrap_interval(intervals[self.main_metric](), len(gold)))
        return result | calibration_errors(decoded, gold == predicted)

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        from sklearn.metrics import classification_report

        gold, predicted = self._gold_and_predicted(decoded, records)
        used = np.union1d(gold, predicted)
        names = [printable(self.labels[i]) for i in used]
        table = str(classification_report(gold, predicted, labels=used, target_names=names, digits=4, zero_division=0))
        return table + interval_line(self.main_metric, self.score(decoded, records, {}))

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Confusion matrix, calibration, and the mistakes that were made with most confidence."""
        gold, predicted = self._gold_and_predicted(decoded, records)
        labels, note, pairs = self.labels, "", (gold, predicted)
        if len(labels) > MANY:
            mistaken = sum(np.bincount(ids[gold != predicted], minlength=len(labels)) for ids in (gold, predicted))
            picked = np.sort(np.argsort(-mistaken, kind="stable")[:MANY])
            shown = np.isin(gold, picked) & np.isin(predicted, picked)
            labels, pairs = tuple(labels[i] for i in picked), (np.searchsorted(picked, gold[shown]), np.searchsorted(picked, predicted[shown]))
            note = f"The {MANY} labels with the most mistakes, of {len(self.labels):,}."
        wrong = sorted(np.flatnonzero(gold != predicted).tolist(), key=lambda i: -decoded[i].get("confidence", decoded[i]["score"]))
        rows = []
        for i, one in ((i, decoded[i]) for i in wrong[:NUM_SHOWN]):
            text = " | ".join(one[key] for key in ("text", "text_pair") if key in one)
            rows.append((cut_text(text), self.labels[gold[i]], one["label"], one.get("confidence", one["score"])))
        return [
            Matrix("Confusion matrix", labels, tuple(map(tuple, confusion(*pairs, len(labels)).tolist())), note=note),
            Reliability("Calibration", calibration_curves(decoded, gold == predicted)),
            Table("Mistakes made with most confidence", ("text", "label", "given", "confidence"), tuple(rows), total=len(wrong)),
        ]

    def baselines(self, records: Sequence[Record]) -> list[baseline.Baseline]:
        gold = [self._label_id(record) for record in records]
        return baseline.of_labels(records, self._texts, gold, num_labels=len(self.labels), decode=lambda record, found: self.decode(record, (), [found]))

    def label_counts(self, records: Source) -> LabelCounts:
        counts = dict.fromkeys(self.labels, 0) | Counter(self._gold(record) for record in records if self._has_label(record))
        is_plain = not self.class_weights and not self.label_smoothing and not self.focal_gamma
        return LabelCounts(counts, "labels", entropy(np.asarray(list(counts.values()))) if is_plain else None)

    # ---- settings -------------------------------------------------------------------------------------------------------------------------------

    def _with(self, labels: tuple[str, ...], counts: Mapping[str, int] | None) -> SequenceClassification:
        """A copy with these labels; `counts` are those of the train split, None where there is none."""
        check_labels(labels)
        allowed = [*METRICS, *(f"{label}/{score}" for label in labels for score in ("precision", "recall", "f1"))]
        if self.main_metric not in allowed:
            shown = [*METRICS, *(f"{label}/f1" for label in labels[:3])]
            raise UserError(f"task.main_metric is {self.main_metric!r}{nearest(self.main_metric, allowed)}; allowed are {shown} and the like")
        weights = self.class_weights
        if weights == BALANCED:
            weights = None if counts is None else _balanced(labels, counts)  # without a train split nothing is trained
        elif weights is not None:
            assert not isinstance(weights, str), "resolve looked"
            wrong = [one for one in weights if isinstance(one, bool) or not isinstance(one, int | float) or not 0.0 < one < float("inf")]
            if wrong or len(weights) != len(labels):
                raise UserError(f"task.class_weights is {list(weights)}, expected a positive number for each of the {len(labels)} labels, in their order")
        return dataclasses.replace(self, labels=labels, class_weights=weights)

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def _with_columns(self, source: Source) -> SequenceClassification:
        """A copy that knows its columns, which are guessed where none are named. Raises UserError."""
        usual = next((name for name in LABELS if name in source[0]), "")
        columns = roles.text_columns(source, self.text_columns, others=[self.label_column or usual])
        label = roles.label_column(source, self.label_column, LABELS, texts=columns)
        return dataclasses.replace(self, text_columns=columns, label_column=label)

    def _key(self, record: Record) -> str:
        """What a record is drawn by where a split is a share of the train split."""
        return "\n".join(self._texts(record))

    def _texts(self, record: Record) -> list[str]:
        return texts_of(record, self.text_columns, allow_raw=not self._has_label(record))

    def unlabelled(self, record: Record) -> Record:
        return without_label(record, self.label_column, LABELS, texts=self.text_columns)

    def _has_label(self, record: Record) -> bool:
        return has_label(record, self.label_column, LABELS)

    def _gold(self, record: Record) -> str:
        """A record's label by name."""
        column = label_column(record, self.label_column, LABELS)
        return label_name(record[column], self.labels, column=column)

    def _label_id(self, record: Record) -> int:
        return label_id(self._gold(record), self.labels) if self._has_label(record) else IGNORE

    def _gold_and_predicted(self, decoded: Sequence[dict[str, Any]], records: Source) -> tuple[np.ndarray, np.ndarray]:
        """Label ids of all records, int (num_records,) each."""
        ids = {label: i for i, label in enumerate(self.labels)}
        return np.asarray([ids[self._gold(record)] for record in records], int), np.asarray([ids[one["label"]] for one in decoded], int)


def _scores(decoded: Sequence[dict[str, Any]]) -> list[Any]:
    return [values_of(one["scores"]) for one in decoded]


def _balanced(labels: Sequence[str], counts: Mapping[str, int]) -> tuple[float, ...]:
    """scikit-learn's "balanced" over the labels that the train split has; 1 for others."""
    total = sum(counts.values())
    return tuple(total / (len(counts) * counts[label]) if counts.get(label) else 1.0 for label in labels)
