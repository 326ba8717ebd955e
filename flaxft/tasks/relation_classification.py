"""Relation classification: which relation holds between two entities of a text, and in which direction. SemEval-2010 task 8.

The entities are marked with ordinary pieces of the vocabulary, "the @ child @ was wrapped into the # cradle #": the "entity marker (punct)" of Zhou and Chen
2022 (arXiv 2102.01373). So the model stays a plain sequence classifier, and its input is text that anyone can write. Unlike the paper's, which reads the
hidden states of the markers, it reads the pooled first token.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxft import baseline
from flaxft.data.base import IGNORE, Batch, Features, Field, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.labels import check_kinds, check_labels, choose_labels, has_label, label_column, label_id, label_name, without_label, without_train
from flaxft.data.memory import Given
from flaxft.data.source import checked
from flaxft.data.splits import open_split, paths
from flaxft.errors import UserError, nearest, printable
from flaxft.metrics.classification import confusion
from flaxft.metrics.confidence import (
    Statistic,
    bootstrap_interval,
    calibration_curves,
    calibration_errors,
    fit_temperature,
    log_scores,
    weighted_f1,
    weighted_macro_f1,
    weighted_mean,
    with_confidence,
)
from flaxft.metrics.relations import OTHER, relation_counts, relation_scores
from flaxft.models.base import Checkpoint, Encoder
from flaxft.models.heads import sequence_kind
from flaxft.ops.losses import cross_entropy
from flaxft.tasks.base import (
    NUM_SHOWN,
    Claim,
    LabelCounts,
    Matrix,
    Passage,
    Passages,
    Predictions,
    Reliability,
    Section,
    Span,
    Terms,
    entropy,
    interval,
    interval_line,
)

TEXTS = ("text", "sentence", "tokens")  # where they stand when text_columns does not say; the first is how raw texts and results have it
LABELS = ("relation", "label", "labels")
ENTITIES = (("e1", "e2"), ("head", "tail"))
METRICS = ("macro_f1", "micro_f1", "accuracy", "-loss")
TAG = re.compile(r"<(/?e[12])>")
TAGS = ("e1", "/e1", "e2", "/e2")
UNKNOWN = ("[UNK]", "<unk>")


class Marked(NamedTuple):
    """A text and where its entities stand in it, [start, end) in characters."""

    text: str
    e1: tuple[int, int]
    e2: tuple[int, int]


@dataclasses.dataclass
class RelationClassification:
    """Records are a text with two entities and a relation: from CSV, TSV, JSONL, Parquet or the hub.

    The text has the tags <e1> </e1> <e2> </e2> around the entities; or the columns e1 and e2 (or head and tail) say where they stand, as [start, end] or
    {"start", "end"}: of a text in characters, of a list of tokens in tokens, `end` being the first that is no longer part. The entities may not overlap.
    """

    problem_type: ClassVar[str | None] = "single_label_classification"
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
    """The column of the text, or of its list of tokens; empty looks for text, sentence, tokens."""
    entity_columns: tuple[str, ...] = ()
    """The two columns of the entities' places. Empty looks for e1 and e2, head and tail, where the text has no tags <e1> </e1> <e2> </e2>."""
    label_column: str = ""
    """The column of the relation; empty looks for relation, label, labels."""
    labels: tuple[str, ...] = ()
    """Names of the labels, in order where the data has numbers. Empty takes those of a fine-tuned model, or else those found in the train split."""
    markers: tuple[str, ...] = ("@", "@", "#", "#")
    """What is put before and after the first entity, and before and after the second one: four pieces of the vocabulary."""
    pooling: str | None = None
    """What the last layer sees of a text: cls, BERT's pooler on the first token; or mean, over all tokens. None: what the recipe says."""
    main_metric: str = "macro_f1"
    """The metric that picks the best checkpoint: macro_f1 (SemEval's official score, to the direction and without Other), micro_f1, accuracy or -loss."""

    @property
    def kind(self) -> str:
        return sequence_kind(self.pooling)

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """A relation, and a text with the tags of two entities or columns of their places."""
        text, label = columns.named(*TEXTS), columns.asked_label or columns.named(*LABELS)
        entities = next((names for names in ENTITIES if all(map(columns.named, names))), ())
        tagged = text and all("<e1>" in str(value) and "<e2>" in str(value) for value in columns.values(text))
        if not text or not label or not (tagged or entities):
            return None
        return Claim(0.9, {}, f"text in {text!r} with {'tags around' if tagged else 'the places of'} two entities, their relation in {label!r}")

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; one without its entities or label is found here, not hours later at the first evaluation."""
        key, labels = (lambda record: str(self._marked(record)[0])), (lambda record: [self._gold(record)])
        source = open_split(self, split, key=key, labels=labels, format=self.format, max_examples=max_examples)
        return checked(source, self._marked, self._gold)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> RelationClassification:
        """Fills in columns and labels. Raises UserError."""
        self._check(tokenizer, model=checkpoint.name)
        # The same class serves regression and several labels at once, whose outputs are no labels of ours.
        is_ours = checkpoint.kind == self.kind and checkpoint.config.get("problem_type") in (None, self.problem_type)
        model_labels = checkpoint.labels if is_ours else None
        if "train" not in self.splits():
            labels = without_train(self.labels, model_labels, model=checkpoint.name)
            check_labels(labels)
            return dataclasses.replace(self, labels=labels)
        source = self.records("train", max_examples=max_examples)
        columns = (self._text_column(source[0]),)
        task = dataclasses.replace(self, text_columns=columns, label_column=label_column(source[0], self.label_column, LABELS))
        found = {task._gold(record) for record in source}
        check_kinds(source, lambda record: [record[task.label_column]], column=task.label_column)
        labels = choose_labels(self.labels, model_labels, found, model=checkpoint.name, source=source.name)
        check_labels(labels)
        return dataclasses.replace(task, labels=labels)

    def spec(self) -> dict[str, Field]:
        return {"labels": Field("S", (), "int32", IGNORE)}

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One feature. A text longer than `max_length` is cut around its entities, which stay whole: see `kept`. Raises UserError where they do not fit."""
        text, *spans = self._marked(record)
        marks = [tokenizer.text(marker)[0] for marker in self.markers]
        entities = sorted(zip(spans, (marks[:2], marks[2:]), strict=True), key=lambda entity: entity[0])  # as they stand in the text
        one, other = (np.concatenate([opening, tokenizer.text(text[slice(*span)])[0], closing]) for span, (opening, closing) in entities)
        first, second = (span for span, _ in entities)
        left, middle, right = (tokenizer.text(part)[0] for part in (text[: first[0]], text[first[1] : second[0]], text[second[1] :]))
        capacity = max_length - tokenizer.num_special
        num = kept(len(left), len(middle), len(right), capacity=capacity - len(one) - len(other))
        if num is None:
            what = f"the entities {text[slice(*first)][:40]!r} and {text[slice(*second)][:40]!r} have {len(one) + len(other)} tokens with their markers"
            raise UserError(f"{what}, and data.max_length={max_length} holds {capacity}; raise it, or mark less of the text")
        ids = [left[len(left) - num.left :], one, middle[: num.after_first], middle[len(middle) - num.before_second :], other, right[: num.right]]
        labels = np.asarray(label_id(self._gold(record), self.labels) if self._has_label(record) else IGNORE, np.int32)
        num_cut = len(left) + len(middle) + len(right) - sum(num)
        return [Features({"input_ids": tokenizer.wrap(np.concatenate(ids))}, {"labels": labels}, num_cut=num_cut)]

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return encoder.head(self.kind, len(self.labels), rngs=rngs)

    def loss(self, outputs: Float[Array, "R S L"], batch: Batch) -> Terms:
        return {"relation": cross_entropy(outputs, batch["labels"], ignore=IGNORE)}

    def predict(self, outputs: Float[Array, "R S L"], batch: Batch) -> Predictions:
        return {"S": {"label": jnp.argmax(outputs, -1).astype(jnp.int32), "scores": jax.nn.softmax(outputs.astype(jnp.float32), axis=-1)}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{"text", "e1": {"text", "start", "end"}, "e2", "label", "score", "scores": {label: probability}}`, the text without tags, places in characters.

        Without label, score and scores it is a record to predict. An "id" of the record comes first.
        """
        text, *spans = self._marked(record)
        scores = predictions[0]["scores"].tolist()
        best = int(predictions[0]["label"])
        entities = {name: {"text": text[start:end], "start": start, "end": end} for name, (start, end) in zip(ENTITIES[0], spans, strict=True)}
        known = {"id": record["id"]} if "id" in record else {}
        return {**known, "text": text, **entities, "label": self.labels[best], "score": scores[best], "scores": dict(zip(self.labels, scores, strict=True))}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """The temperature that the logits are divided by to make the scores honest (Guo et al. 2017, arXiv 1706.04599)."""
        gold = np.asarray([self.labels.index(self._gold(record)) for record in records], int)
        return {"temperature": fit_temperature(log_scores([list(one["scores"].values()) for one in decoded]), gold)}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        scores = {label: round(score, 6) for label, score in decoded["scores"].items()}
        return with_confidence(decoded | {"score": scores[decoded["label"]], "scores": scores}, list(decoded["scores"].values()), calibration)

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Macro and micro F1 to the direction and without Other, accuracy, calibration error, and precision, recall, F1 and support of every relation."""
        gold, predicted = [self._gold(record) for record in records], [one["label"] for one in decoded]
        right = np.asarray([one == other for one, other in zip(gold, predicted, strict=True)], bool)
        return relation_scores(gold, predicted) | self._interval(gold, predicted) | calibration_errors(decoded, right)

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        scores = self.score(decoded, records, {})
        relations = [name.removesuffix("/support") for name in scores if name.endswith("/support")]
        width = max(len("macro avg"), *(len(printable(relation)) for relation in relations))
        lines = [f"{'':>{width}}  precision    recall  f1-score   support", ""]

        def line(name: str, keys: Sequence[str], support: int) -> str:
            return f"{printable(name):>{width}} {''.join(f'{scores[key]:>10.4f}' if key else ' ' * 10 for key in keys)}{support:>10}"

        names = ("precision", "recall", "f1")
        supports = {relation: int(scores[f"{relation}/support"]) for relation in relations}
        lines += [line(relation, [f"{relation}/{name}" for name in names], support) for relation, support in supports.items()]
        counted = len(decoded) - supports.get(OTHER, 0)
        averages = [line(f"{average} avg", [f"{average}_{name}" for name in names], counted) for average in ("micro", "macro")]
        lines += ["", *averages, line("accuracy", ["", "", "accuracy"], len(decoded)), ""]
        lines.append(f"the averages are without {OTHER}; both directions of a relation are one line, in which the wrong direction is a mistake")
        return "\n".join(lines) + "\n" + interval_line(self.main_metric, scores)

    def files(self, decoded: Sequence[dict[str, Any]]) -> dict[str, str]:
        """What semeval2010_task8_scorer-v1.2.pl reads: a number and a label a line, the numbers being the records' ids if all have one, else 1, 2, 3, ..."""
        ids = [str(one.get("id", "")) for one in decoded]
        if not all(one.isdecimal() for one in ids) or len(set(ids)) < len(ids):
            ids = [str(number) for number in range(1, len(decoded) + 1)]
        return {"answers.txt": "".join(f"{number}\t{one['label']}\n" for number, one in zip(ids, decoded, strict=True))}

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Confusion matrix, calibration, and the mistakes that were made with most confidence, with their entities."""
        ids = {label: i for i, label in enumerate(self.labels)}
        gold, predicted = np.asarray([ids[self._gold(record)] for record in records], int), np.asarray([ids[one["label"]] for one in decoded], int)
        wrong = sorted(np.flatnonzero(gold != predicted).tolist(), key=lambda i: -decoded[i].get("confidence", decoded[i]["score"]))
        passages = []
        for i, one in ((i, decoded[i]) for i in wrong[:NUM_SHOWN]):
            spans = tuple(Span(one[name]["start"], one[name]["end"], name, "mark") for name in ENTITIES[0])
            caption = f"{self.labels[gold[i]]}, given {one['label']} ({one.get('confidence', one['score']):.4f})"
            passages.append(Passage(caption, one["text"], spans))
        return [
            Matrix("Confusion matrix", self.labels, tuple(map(tuple, confusion(gold, predicted, len(self.labels)).tolist()))),
            Reliability("Calibration", calibration_curves(decoded, gold == predicted)),
            Passages("Mistakes made with most confidence", tuple(passages), len(wrong)),
        ]

    def baselines(self, records: Sequence[Record]) -> list[baseline.Baseline]:
        """The text is read with its markers as words: "e1 child e1 was wrapped into the e2 cradle e2"."""
        gold = [label_id(self._gold(record), self.labels) if self._has_label(record) else IGNORE for record in records]
        decode = lambda record, found: self.decode(record, (), [found])  # noqa: E731
        return baseline.of_labels(records, self._marked_words, gold, num_labels=len(self.labels), decode=decode)

    def _marked_words(self, record: Record) -> list[str]:
        text, *spans = self._marked(record)
        for name, (start, end) in sorted(zip(ENTITIES[0], spans, strict=True), key=lambda entity: entity[1], reverse=True):
            text = f"{text[:start]}{name} {text[start:end]} {name}{text[end:]}"
        return [text]

    def label_counts(self, records: Source) -> LabelCounts:
        counts = dict.fromkeys(self.labels, 0) | Counter(self._gold(record) for record in records if self._has_label(record))
        return LabelCounts(counts, "relations", entropy(np.asarray(list(counts.values()))))

    # ---- settings -------------------------------------------------------------------------------------------------------------------------------

    def _check(self, tokenizer: Tokenizer, *, model: str) -> None:
        if self.main_metric not in METRICS:
            raise UserError(f"task.main_metric is {self.main_metric!r}{nearest(self.main_metric, METRICS)}; allowed are {', '.join(METRICS)}")
        if len(self.text_columns) > 1:
            raise UserError(f"task.text_columns names {len(self.text_columns)} columns ({list(self.text_columns)}); give the one of the text")
        if len(self.entity_columns) not in (0, 2) or len(set(self.entity_columns)) != len(self.entity_columns):
            raise UserError(f"task.entity_columns is {list(self.entity_columns)}, expected two columns, of the first and of the second entity, or none")
        if len(self.markers) != 4 or self.markers[:2] == self.markers[2:]:
            raise UserError(f"task.markers is {list(self.markers)}, expected four: two around the first entity, and others around the second")
        for marker in self.markers:
            ids = tokenizer.text(marker)[0]
            if len(ids) != 1 or tokenizer.pieces[ids[0]] in UNKNOWN:
                shown = [tokenizer.pieces[i] for i in ids]
                raise UserError(f"task.markers has {marker!r}, which the tokenizer of {model} reads as {shown}; give one piece of its vocabulary, such as '*'")

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def unlabelled(self, record: Record) -> Record:
        return without_label(record, self.label_column, LABELS, texts=(*self.text_columns, *self.entity_columns))

    def _has_label(self, record: Record) -> bool:
        return has_label(record, self.label_column, LABELS)

    def _gold(self, record: Record) -> str:
        """A record's label by name."""
        column = label_column(record, self.label_column, LABELS)
        return label_name(record[column], self.labels, column=column)

    def _text_column(self, record: Record) -> str:
        asked = self.text_columns[0] if self.text_columns else ""
        if asked in record:
            return asked
        names = TEXTS if not asked or not self._has_label(record) else ()  # raw text comes under its usual names, whatever the training data called it
        found = next((name for name in names if name in record), None)
        if found is None:
            missing = f"no column {asked!r}" if asked else "no column of text"
            raise UserError(f"{missing}; found are {sorted(record)}; set task.text_columns{nearest(asked, record)}")
        return found

    def _entity_columns(self, record: Record) -> tuple[str, ...]:
        """Empty where the record has none, and the text should have tags."""
        if self.entity_columns and (self._has_label(record) or all(name in record for name in self.entity_columns)):
            missing = next((name for name in self.entity_columns if name not in record), None)
            if missing is not None:
                raise UserError(f"no column {missing!r}; found are {sorted(record)}; set task.entity_columns{nearest(missing, record)}")
            return self.entity_columns
        return next((names for names in ENTITIES if all(name in record for name in names)), ())

    def _marked(self, record: Record) -> Marked:
        """The text without tags and its entities. Raises UserError."""
        column = self._text_column(record)
        text, columns = record[column], self._entity_columns(record)
        if isinstance(text, str):
            marked = _from_spans(text, record, columns, ends=range(len(text) + 1), unit="characters") if columns and not TAG.search(text) else _from_tags(text)
        elif isinstance(text, list | tuple):
            wrong = next((token for token in text if not isinstance(token, str)), None)
            if not all(isinstance(token, str) for token in text):
                raise UserError(f"column {column!r} holds {str(wrong)[:40]!r} ({type(wrong).__name__}), expected tokens; write each as a string")
            if not columns:
                raise UserError(f"column {column!r} is a list of tokens, so two columns must say where the entities stand; set task.entity_columns")
            # The tokens are joined with spaces: token i begins at starts[i], and its space is no part of an entity that ends before it.
            starts = np.cumsum([0, *(len(token) + 1 for token in text)]).tolist()
            marked = _from_spans(" ".join(text), record, columns, ends=starts, unit="tokens")
        else:
            raise UserError(f"column {column!r} is {str(text)[:40]!r} ({type(text).__name__}), expected text; write it as a string")
        (_, end), (start, _) = sorted([marked.e1, marked.e2])
        if end > start:
            raise UserError(f"the entities {marked.text[slice(*marked.e1)][:40]!r} and {marked.text[slice(*marked.e2)][:40]!r} overlap; mark two apart")
        return marked

    # ---- results --------------------------------------------------------------------------------------------------------------------------------

    def _interval(self, gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
        """The 95 % bootstrap interval of the main metric over the records; nothing for the loss."""
        correct, guessed, wanted, relations = relation_counts(gold, predicted)
        counted = np.asarray([relation != OTHER for relation in relations], bool)
        counts = [matrix[:, counted] for matrix in (correct, guessed, wanted)]
        statistics: dict[str, Statistic] = {
            "macro_f1": weighted_macro_f1(*counts),
            "micro_f1": weighted_f1(*(matrix.sum(1) for matrix in counts)),
            "accuracy": weighted_mean(np.asarray([a == b for a, b in zip(gold, predicted, strict=True)])),
        }
        if self.main_metric not in statistics:
            return {}
        return interval(self.main_metric, *bootstrap_interval(statistics[self.main_metric], len(gold)))


class Kept(NamedTuple):
    """How many tokens stay of the text before the first entity, between the two (next to the first, next to the second), and behind the second."""

    left: int
    after_first: int
    before_second: int
    right: int


def kept(left: int, middle: int, right: int, *, capacity: int) -> Kept | None:
    """What stays of so many tokens around the entities, where there is room for `capacity`; None where that is negative.

    All, if it fits. Otherwise what is between the entities, and of both sides what is nearest, equally much where there is so much. If not even what is
    between fits, only that stays which is nearest to either entity: the middle of the text is cut, and both sides are.
    """
    if capacity < 0:
        return None
    if middle > capacity:
        return Kept(0, capacity - capacity // 2, capacity // 2, 0)
    room = capacity - middle
    num_left = min(left, max(room // 2, room - right))
    return Kept(num_left, middle, 0, min(right, room - num_left))


def _from_tags(text: str) -> Marked:
    """Raises UserError unless each tag stands in the text once, and in pairs."""
    found = list(TAG.finditer(text))
    names = [match[1] for match in found]
    for name in TAGS:
        if names.count(name) != 1:
            what = "is missing" if name not in names else f"stands {names.count(name)} times"
            raise UserError(f"<{name}> {what} in {text[:60]!r}; mark one entity as <e1>...</e1> and one as <e2>...</e2>")
    if sorted(names, key=TAGS.index) not in (names, names[2:] + names[:2]):
        raise UserError(f"the tags stand as {' '.join(f'<{name}>' for name in names)} in {text[:60]!r}; close each entity before the next one begins")
    # Where each tag stands once all are gone: 4 or 5 characters less for each before it.
    places: dict[str, int] = {}
    removed = 0
    for match in found:
        places[match[1]] = match.start() - removed
        removed += len(match[0])
    plain = TAG.sub("", text)
    spans = {name: (places[name], places[f"/{name}"]) for name in ENTITIES[0]}
    for name, (start, end) in spans.items():
        if start == end:
            raise UserError(f"<{name}></{name}> is empty in {text[:60]!r}; mark a word or more")
    return Marked(plain, spans["e1"], spans["e2"])


def _from_spans(text: str, record: Record, columns: Sequence[str], *, ends: Sequence[int], unit: str) -> Marked:
    """ends[i]: the character at which character or token i begins, the end of the text included. Raises UserError."""
    spans = []
    for name in columns:
        value = record[name]
        if isinstance(value, Mapping):
            value = [value.get("start"), value.get("end")]
        whole = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
        if not whole:
            raise UserError(f"column {name!r} is {str(record[name])[:40]!r}, expected where the entity stands: [start, end] in {unit}, or tags in the text")
        start, end = value
        if not 0 <= start < end <= len(ends) - 1:
            raise UserError(f"column {name!r} is {value}, expected 0 <= start < end <= {len(ends) - 1}, the text's number of {unit}")
        spans.append((ends[start], ends[end] - (unit == "tokens")))
    return Marked(text, spans[0], spans[1])
