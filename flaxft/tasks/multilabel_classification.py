"""Multi-label classification: any number of labels for one text, or for a pair of texts, none included. Emotions, topics, toxicity."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
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
    has_label,
    in_order,
    label_column,
    label_id,
    label_name,
    list_of_cell,
    named_labels,
    without_columns,
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
from flaxft.metrics.confidence import Statistic, bootstrap_interval, curve, mean_odds, weighted_f1, weighted_macro_f1, weighted_mean, weighted_ratio
from flaxft.metrics.multilabel import best_thresholds, multilabel_scores
from flaxft.models.base import Checkpoint, Encoder
from flaxft.models.heads import sequence_kind
from flaxft.ops.losses import binary_cross_entropy
from flaxft.tasks.base import (
    NUM_SHOWN,
    Claim,
    LabelCounts,
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

FEW_NAMES = 20  # of which nothing is said by how many differ
LABELS = ("labels", "label", "categories", "emotions", "tags")
METRICS = ("macro_f1", "micro_f1", "samples_f1", "exact_match", "-hamming_loss", "micro_average_precision", "macro_average_precision", "-loss")
OF_A_LABEL = ("precision", "recall", "f1")
DETAIL = re.compile("^(micro|macro|samples)_(precision|recall)$")
BALANCED = "balanced"
THRESHOLD = 0.5  # of the score from which on a label is given, where none was tuned
DIGITS = 6  # of the scores that a user reads; thresholds are compared with these


@dataclasses.dataclass
class MultiLabelClassification:
    """Records are a text, or two, with a set of labels: a list from JSONL, Parquet or the hub; in CSV and TSV a cell of names, or a 0-1 column per label.

    An empty list or cell is no label, and a label that a record names twice counts once. A text none of whose labels reaches its threshold gets none.
    """

    problem_type: ClassVar[str | None] = "multi_label_classification"
    decomposes: ClassVar[bool] = True

    train: Given = ""
    """Where the training records are: a file such as train.jsonl, or hub:NAME/SUBSET@REVISION."""
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
    """The column of each record's labels, as a list or as joined names. Empty looks for labels, label, categories, emotions, tags."""
    label_separator: str = ","
    """What stands between the names in a cell of several labels, as in "joy, anger"; spaces around a name do not count."""
    label_columns: tuple[str, ...] = ()
    """One column per label, named after it, which holds 0 or 1, in place of label_column."""
    labels: tuple[str, ...] = ()
    """Names of the labels, in order where the data has numbers. Empty takes those of a fine-tuned model, or else those found in the train split."""
    positive_weights: str | tuple[float, ...] | None = None
    """The weight of a label that is there, one number a label; balanced takes records without it / with it. None weighs all alike."""
    focal_gamma: float = 0.0
    """Above 0, labels that are already right count less: the focal loss, whose paper takes 2 (arXiv 1708.02002). 0 is plain cross-entropy."""
    threshold: float | None = None
    """The score from which on a label is given. None takes the one with the best F1 on validation, for each label, or 0.5 without such a split."""
    long_text: str = "head"
    """What is read of a text that is longer than data.max_length: head is its beginning; head_tail its beginning and its end, half each; windows all of it,
    in several examples that overlap by a quarter, which count as one in the loss and whose log-probabilities are averaged. A pair is cut at its ends."""
    pooling: str | None = None
    """What the last layer sees of a text: cls, BERT's pooler on the first token; or mean, over all tokens. None: what the recipe says."""
    main_metric: str = "macro_f1"
    """The metric that picks the best checkpoint: macro_f1 as GoEmotions' paper reports (arXiv 2005.00547), micro_f1, samples_f1, exact_match,
    LABEL/f1, -loss and the like."""

    @property
    def kind(self) -> str:
        return sequence_kind(self.pooling)

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """Several labels a text, or a pair: a list of names, names joined in a cell that come again in other ones, or a 0-1 column per label."""
        texts = columns.texts()
        flags = [] if columns.asked_label or not texts else columns.of_kind("flags")
        if len(flags) > 2:
            by_column = {"text_columns": texts, "label_columns": tuple(flags)}
            return Claim(0.7, by_column, f"{columns.in_words(texts)}, a 0-1 column for each of {len(flags)} labels")
        label = columns.label(texts) if texts else ""
        if not label or columns.kinds[label].name not in ("words", "names", "texts"):
            return None
        fields = {"text_columns": texts, "label_column": label}
        if columns.kinds[label].name == "words":
            entries = [str(name) for cell in columns.values(label) for name in (cell if isinstance(cell, list) else [cell])]
            if len(entries) >= FEW_NAMES and len(set(entries)) > len(entries) / 2:
                return None  # another one nearly every time: sentences, and no labels
            return Claim(0.7, fields, f"{columns.in_words(texts)}, a list of labels in {label!r}")
        cells = set(map(str, columns.values(label)))
        for separator in (",", ";", "|"):
            split = [[part.strip() for part in cell.split(separator)] for cell in cells]
            names = {part for parts in split for part in parts}
            if len(names) < len(cells) and sum(len(parts) > 1 for parts in split) > len(cells) / 4:
                return Claim(0.7, fields | {"label_separator": separator}, f"{columns.in_words(texts)}, labels joined by {separator!r} in {label!r}")
        return None

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; one without text or labels is found here, not hours later at the first evaluation."""
        source = open_records(self, split, format=self.format, max_examples=max_examples)
        task = self._with_columns(source)
        source = part(source, self, split, key=lambda record: "\n".join(task._texts(record)), labels=task._gold, max_examples=max_examples)
        return checked(source, task._texts, task._gold)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> MultiLabelClassification:
        """Fills in columns, labels and weights. Raises UserError."""
        self._check()
        # The same class serves regression and one label of several, whose outputs are no labels of ours.
        is_ours = checkpoint.kind == self.kind and checkpoint.config.get("problem_type") in (None, self.problem_type)
        model_labels = checkpoint.labels if is_ours else None
        if "train" not in self.splits():
            return self._with(without_train(self.labels, model_labels, model=checkpoint.name), counts=None, num_records=0)
        source = self.records("train", max_examples=max_examples)
        task = self._with_columns(source)
        check_long_text(task.long_text, task.text_columns)
        roles.tell(task, asked=self, usual=LABELS)
        if len(task.text_columns) == 2:
            check_token_types(tokenizer, checkpoint.config, model=checkpoint.name)
        sets = Counter(task._gold(record) for record in source)
        if len(sets) < 2:
            raise UserError(f"{source.name}: every record has the labels {sorted(next(iter(sets)))}; expected records that differ in their labels")
        if task.label_column:
            check_kinds(source, lambda record: task._listed(record[task.label_column], task.label_column), column=task.label_column)
        counts: Counter[str] = Counter()
        for names, num in sets.items():
            counts.update(dict.fromkeys(names, num))
        found = task.label_columns or in_order(counts)
        if not self.labels and model_labels and not set(found) <= set(model_labels):
            logging.getLogger("flaxft").warning(
                "%s: its labels lack %s of the train split, which are new to its head", checkpoint.name, sorted(set(found) - set(model_labels))[:8]
            )
            model_labels = None
        labels = named_labels(self.labels, model_labels, model=checkpoint.name) if self.labels else tuple(map(str, model_labels or found))
        return task._with(labels, counts=counts, num_records=len(source))

    def look(self, source: Source, *, split: str) -> Look:
        """How a split was read, and what is implausible about it. Raises UserError for columns that cannot be meant."""
        columns = text_columns(source[0], self.text_columns, allow_raw=True)
        column = f"the columns {', '.join(self.label_columns[:8])}" if self.label_columns else ""
        if not column and self._has_label(source[0]):
            column = label_column(source[0], self.label_column, LABELS)
        labels = lambda record: sorted(self._gold(record)) if self._has_label(record) else []  # noqa: E731
        return look_at(source, split=split, columns=columns, texts=self._texts, column=column, labels=labels)

    def spec(self) -> dict[str, Field]:
        weight = {"window_weight": Field("S", (), "float32", 0.0)} if self.long_text == WINDOWS else {}
        return {"labels": Field("S", (len(self.labels),), "int32", IGNORE), **weight}

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One feature, or one for each window. What is cut of a longer text says `long_text`, of a pair its end, the longer text first; `num_cut` how much."""
        examples, num_cut = text_examples(self._texts(record), tokenizer, max_length=max_length, long_text=self.long_text)
        labels = self._is_label(record).astype(np.int32) if self._has_label(record) else np.full(len(self.labels), IGNORE, np.int32)
        own = {"labels": labels}
        if self.long_text == WINDOWS:  # all of them together count as one text
            own["window_weight"] = np.asarray(1 / len(examples), np.float32)
        return [Features(tokens, own, num_cut=num_cut) for tokens in examples]

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return encoder.head(self.kind, len(self.labels), rngs=rngs)

    def loss(self, outputs: Float[Array, "R S L"], batch: Batch) -> Terms:
        weights = jnp.asarray(self.positive_weights or [1.0] * len(self.labels), jnp.float32)
        labels, of_windows = batch["labels"], batch.get("window_weight")
        found = binary_cross_entropy(outputs, labels, ignore=IGNORE, positive_weights=weights, focal_gamma=self.focal_gamma, weights=of_windows)
        return {"sequence": found}

    def predict(self, outputs: Float[Array, "R S L"], batch: Batch) -> Predictions:
        return {"S": {"scores": jax.nn.sigmoid(outputs.astype(jnp.float32))}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{"text", "labels": [those from the threshold on], "scores": {label: probability}}`; of a pair "text" and "text_pair"."""
        found = predictions[0]["scores"] if len(predictions) == 1 else mean_odds([one["scores"] for one in predictions])
        scores = scores_of(self.labels, found)
        return {**named(self._texts(record)), "labels": self._given(scores, {}), "scores": scores}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """{"threshold/LABEL": the score with the label's best F1}, unless `threshold` says one for all."""
        if self.threshold is not None:
            return {}
        as_read = [{"scores": rounded(one["scores"], DIGITS)} for one in decoded]  # which thresholds are compared with
        tuned = best_thresholds(self._gold_matrix(records), self._scores(as_read), default=THRESHOLD)
        return {f"threshold/{label}": float(one) for label, one in zip(self.labels, tuned, strict=True)}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        scores = rounded(decoded["scores"], DIGITS)
        return decoded | {"labels": self._given(scores, calibration), "scores": scores}

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """F1 over all decisions, labels and examples, exact match, Hamming loss, average precision, and precision, recall, F1 and support of every label.

        Mean precision and recall are details: "micro avg/precision". The main metric has its interval, but for average precision and the loss.
        """
        gold, predicted = self._gold_matrix(records), self._predicted_matrix(decoded)
        found = multilabel_scores(gold, predicted, self.labels, scores=self._scores(decoded))
        result = {DETAIL.sub(r"\1 avg/\2", name): value for name, value in found.items()}
        statistic = _statistic(self.main_metric, gold, predicted, self.labels)
        return result | (interval(self.main_metric.removeprefix("-"), *bootstrap_interval(statistic, len(gold))) if statistic else {})

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        found = self.score(decoded, records, {})
        width = max(len("average precision"), *(len(printable(label)) for label in self.labels))
        lines = ["".join([" " * width, *(f"{name:>11}" for name in ("precision", "recall", "f1-score", "support"))]), ""]
        rows = [(label, f"{label}/f1", found[f"{label}/support"]) for label in self.labels]
        num_gold = sum(support for _, _, support in rows)
        rows += [(f"{average} avg", f"{average}_f1", num_gold) for average in ("micro", "macro", "samples")]
        for row, f1, support in rows:
            figures = (found[f"{row}/precision"], found[f"{row}/recall"], found[f1])
            lines.append("".join([f"{printable(row):>{width}}", *(f"{figure:>11.4f}" for figure in figures), f"{support:>11}"]))
        lines.insert(2 + len(self.labels), "")
        lines += ["", f"{'exact match':>{width}}{found['exact_match']:>11.4f}", f"{'average precision':>{width}}{found['micro_average_precision']:>11.4f}"]
        return "\n".join(lines) + "\n" + interval_line(self.main_metric.removeprefix("-"), found)

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Calibration of all decisions, and the labels that were given wrongly, or not given, with most confidence."""
        gold, predicted, scores = self._gold_matrix(records), self._predicted_matrix(decoded), self._scores(decoded)
        sections: list[Section] = [
            Reliability("Calibration", {"score": curve(scores.ravel(), gold.ravel())}, note="Of all decisions: how often a label of that score is right.")
        ]
        kinds = (("Wrong labels with the highest scores", predicted & ~gold, -1), ("Missed labels with the lowest scores", gold & ~predicted, 1))
        for title, wrong, sign in kinds:
            places = sorted(map(tuple, np.argwhere(wrong).tolist()), key=lambda place: sign * scores[place])
            rows = [
                (cut_text(" | ".join(decoded[i][key] for key in ("text", "text_pair") if key in decoded[i])), self.labels[j], float(scores[i, j]))
                for i, j in places[:NUM_SHOWN]
            ]
            sections.append(Table(title, ("text", "label", "score"), tuple(rows), total=len(places)))
        return sections

    def baselines(self, records: Sequence[Record]) -> list[baseline.Baseline]:
        known = [record for record in records if self._has_label(record)]
        gold = np.stack([self._is_label(record) for record in known])
        return baseline.of_label_sets(known, self._texts, gold, decode=lambda record, found: self.decode(record, (), [found]))

    def label_counts(self, records: Source) -> LabelCounts:
        """The loss of guessing is the mean over labels of each one's own."""
        num, counts = 0, dict.fromkeys(self.labels, 0)
        for record in records:
            if self._has_label(record):
                num += 1
                for label in self._gold(record):
                    counts[label] = counts.get(label, 0) + 1
        is_plain = not self.positive_weights and not self.focal_gamma
        losses = [entropy(np.asarray([count, num - count])) for count in counts.values()]
        return LabelCounts(counts, "labels", float(np.mean(losses)) if is_plain and losses else None)

    # ---- settings -------------------------------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """What needs no data. Raises UserError."""
        check_columns(self.text_columns)
        check_long_text(self.long_text, self.text_columns)
        if not self.label_separator:
            raise UserError("task.label_separator is empty, expected what stands between two labels, such as ','")
        if self.label_columns and self.label_column:
            raise UserError("task.label_column and task.label_columns are both set; give one column with all labels, or one column for each")
        _check_unique("label_columns", self.label_columns)
        if isinstance(self.positive_weights, str) and self.positive_weights != BALANCED:
            raise UserError(f"task.positive_weights is {self.positive_weights!r}; allowed are {BALANCED!r}, none, or in a config file one number per label")
        if not 0.0 <= self.focal_gamma < float("inf"):
            raise UserError(f"task.focal_gamma is {self.focal_gamma}, expected 0 for none, or a positive number such as 2")
        if self.threshold is not None and not 0.0 < self.threshold < 1.0:
            raise UserError(f"task.threshold is {self.threshold}, expected a number between 0 and 1, or none to tune one for each label")

    def _with(self, labels: tuple[str, ...], *, counts: Mapping[str, int] | None, num_records: int) -> MultiLabelClassification:
        """A copy with these labels. counts: how many of the train split's `num_records` have each label; None where there is no such split."""
        _check_unique("labels", labels)
        allowed = [*METRICS, *(f"{label}/{score}" for label in labels for score in OF_A_LABEL)]
        if self.main_metric not in allowed:
            shown = [*METRICS, *(f"{label}/f1" for label in labels[:3])]
            raise UserError(f"task.main_metric is {self.main_metric!r}{nearest(self.main_metric, allowed)}; allowed are {shown} and the like")
        weights = self.positive_weights
        if weights == BALANCED:
            weights = None if counts is None else _balanced(labels, counts, num_records)  # without a train split nothing is trained
        elif weights is not None:
            assert not isinstance(weights, str), "resolve looked"
            wrong = [one for one in weights if isinstance(one, bool) or not isinstance(one, int | float) or not 0.0 < one < float("inf")]
            if wrong or len(weights) != len(labels):
                raise UserError(f"task.positive_weights is {list(weights)}, expected a positive number for each of the {len(labels)} labels, in their order")
        return dataclasses.replace(self, labels=labels, positive_weights=weights)

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def _with_columns(self, source: Source) -> MultiLabelClassification:
        """A copy that knows its columns, which are guessed where none are named: one of label lists, or a 0-1 column per label. Raises UserError."""
        usual = next((name for name in LABELS if name in source[0]), "")
        columns = roles.text_columns(source, self.text_columns, others=[self.label_column or usual, *self.label_columns])
        task = dataclasses.replace(self, text_columns=columns)
        if self.label_columns:
            return task
        if not self.label_column and not usual and (flags := roles.flag_columns(source, texts=columns)):
            return dataclasses.replace(task, label_columns=flags)
        return dataclasses.replace(task, label_column=roles.label_column(source, self.label_column, LABELS, texts=columns))

    def _texts(self, record: Record) -> list[str]:
        return texts_of(record, self.text_columns, allow_raw=not self._has_label(record))

    def unlabelled(self, record: Record) -> Record:
        if self.label_columns:
            return without_columns(record, self.label_columns)
        return without_label(record, self.label_column, LABELS, texts=self.text_columns)

    def _has_label(self, record: Record) -> bool:
        return any(name in record for name in self.label_columns) if self.label_columns else has_label(record, self.label_column, LABELS)

    def _gold(self, record: Record) -> frozenset[str]:
        """A record's labels by name. A number is a label's place, unless the labels are numbers themselves."""
        if self.label_columns:
            missing = [name for name in self.label_columns if name not in record]
            if missing:
                raise UserError(f"no column {missing[0]!r}; found are {sorted(record)}; set task.label_columns{nearest(missing[0], record)}")
            return frozenset(name for name in self.label_columns if _zero_or_one(record[name], name))
        column = label_column(record, self.label_column, LABELS)
        return frozenset(label_name(label, self.labels, column=column) for label in self._listed(record[column], column))

    def _listed(self, value: Any, column: str) -> Sequence[Any]:
        """The labels of a column's value, whatever it is made of."""
        if isinstance(value, str) and (listed := list_of_cell(value)) is not None:
            value = listed
        elif isinstance(value, str):
            value = [name.strip() for name in value.split(self.label_separator)] if value.strip() else []
        elif isinstance(value, int | float) and not isinstance(value, bool):
            value = [value]
        if not isinstance(value, list | tuple):
            kind = f"column {column!r} is {str(value)[:40]!r} ({type(value).__name__})"
            raise UserError(f"{kind}, expected a list of labels, or a text of labels with {self.label_separator!r} between; [] is no label")
        if (nested := next((one for one in value if isinstance(one, list | tuple | bool)), None)) is not None:
            raise UserError(f"column {column!r} is {str(value)[:40]!r}, in which {str(nested)[:40]!r} is a {type(nested).__name__}, expected a label")
        if "" in value:
            raise UserError(f"column {column!r} is {str(value)[:40]}, in which a label is empty; leave it out")
        return value

    def _is_label(self, record: Record) -> np.ndarray:
        """bool (L,): which labels the record has. Raises UserError for one that is not among the task's."""
        result = np.zeros(len(self.labels), bool)
        for name in sorted(self._gold(record)):  # of several unknown ones, the same is named each time
            result[label_id(name, self.labels)] = True
        return result

    # ---- results --------------------------------------------------------------------------------------------------------------------------------

    def _given(self, scores: Mapping[str, float], calibration: Mapping[str, float]) -> list[str]:
        """The labels whose score reaches their threshold, in the labels' order; there may be none."""
        general = THRESHOLD if self.threshold is None else self.threshold
        tuned = calibration if self.threshold is None else {}  # a threshold that is set holds for a run that had tuned its own too
        values = np.asarray(values_of(scores), np.float64)
        near = np.flatnonzero(values >= min([general, *tuned.values()])).tolist()  # of thousands of labels, few
        return [label for i in near if values[i] >= tuned.get(f"threshold/{(label := self.labels[i])}", general)]

    def _gold_matrix(self, records: Source) -> np.ndarray:
        """bool (num_records, L)."""
        return np.stack([self._is_label(record) for record in records])

    def _predicted_matrix(self, decoded: Sequence[dict[str, Any]]) -> np.ndarray:
        """bool (num_records, L)."""
        places = {label: i for i, label in enumerate(self.labels)}
        found = np.zeros((len(decoded), len(self.labels)), bool)
        for row, one in zip(found, decoded, strict=True):
            row[[places[label] for label in one["labels"]]] = True
        return found

    def _scores(self, decoded: Sequence[dict[str, Any]]) -> np.ndarray:
        """float64 (num_records, L)."""
        return np.asarray([values_of(one["scores"]) for one in decoded], np.float64)


def _statistic(metric: str, gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> Statistic | None:
    """The main metric of resampled records; None for average precision and the loss, which are no figures of the two matrices."""
    counts = gold & predicted, predicted, gold  # bool (n, L) each
    label, _, name = metric.rpartition("/")
    if label:
        at = labels.index(label)
        correct, given, wanted = (matrix[:, at].astype(int) for matrix in counts)
        if name == "f1":
            return weighted_f1(correct, given, wanted)
        return weighted_ratio(correct, given if name == "precision" else wanted)
    if metric == "macro_f1":
        return weighted_macro_f1(*counts)
    correct, given, wanted = (matrix.sum(1) for matrix in counts)  # (n,) each
    if metric == "micro_f1":
        return weighted_f1(correct, given, wanted)
    if metric == "samples_f1":
        return weighted_mean(2 * correct / np.maximum(given + wanted, 1))
    if metric == "exact_match":
        return weighted_mean((gold == predicted).all(1))
    if metric == "-hamming_loss":
        return weighted_mean((gold != predicted).mean(1))
    return None


def _zero_or_one(value: Any, column: str) -> bool:
    """A CSV cell is a text; JSON and Parquet may hold booleans or 1.0."""
    for found, allowed in ((False, ("0", 0)), (True, ("1", 1))):
        if value in allowed:
            return found
    raise UserError(f"column {column!r} is {str(value)[:40]!r} ({type(value).__name__}), expected 0 or 1: whether the record has this label")


def _balanced(labels: Sequence[str], counts: Mapping[str, int], num_records: int) -> tuple[float, ...]:
    """Records without the label / records with it, as PyTorch's BCEWithLogitsLoss recommends for pos_weight; 1 where either is none."""
    pairs = [(num_records - counts.get(label, 0), counts.get(label, 0)) for label in labels]
    return tuple(without / having if without and having else 1.0 for without, having in pairs)


def _check_unique(field: str, names: Sequence[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UserError(f"task.{field} names {duplicates} more than once; name each label once")
