"""Token classification: one label a word. Entities in any chunk scheme, or plain tags such as parts of speech."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxft import baseline
from flaxft.data import conllu, token_columns, word_rows
from flaxft.data import spans as annotated
from flaxft.data import tags as schemes
from flaxft.data import words as splitting
from flaxft.data.base import IGNORE, Batch, Features, Field, Look, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.labels import named_labels, without_columns
from flaxft.data.memory import Given
from flaxft.data.splits import open_records, part, paths
from flaxft.data.tokenize import best_window, starts_words, windows
from flaxft.errors import UserError, nearest, printable
from flaxft.metrics.classification import confusion
from flaxft.metrics.confidence import Statistic, bootstrap_interval, curve, weighted_f1, weighted_ratio
from flaxft.metrics.entities import Mistake, entities, entity_counts, entity_scores, mistakes, report
from flaxft.models.base import Checkpoint, Encoder
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
    Table,
    Terms,
    entropy,
    interval,
    interval_line,
)

WORDS = ("tokens", "words", "0")  # where words stand when text_columns does not say; "0" is the first column of a column file
LABELS = ("ner_tags", "tags", "labels", "ner", "bio_tags", "iob_tags", "pos_tags", "upos")  # the same for tags; in a column file the last column
CONLLU = {"form": "tokens", **{str(i): name for n, name in enumerate(conllu.NAMES) for i in (n, n - len(conllu.NAMES))}}  # its columns by number
PLAIN_METRICS = ("accuracy", "-loss")
NONE = "(none)"  # what stands for no entity among the types
KINDS = {  # of errors, in the order of the report
    "missed": "no entity was given where one is",
    "invented": "an entity was given where none is",
    "boundary": "the type is right, the words are not",
    "type": "the words are right, the type is not",
    "boundary and type": "neither is right, but they overlap",
}
log = logging.getLogger("flaxft")

Entity = tuple[int, int, str]  # first word, one past the last, type
FEW_ENTRIES = 20  # of which nothing is said by how many differ
ENTITY_METRICS = ("entity_f1", "strict_entity_f1", "entity_precision", "entity_recall")


@dataclasses.dataclass
class TokenClassification:
    """NER, POS tagging, chunking: records are words with a tag each, from a column file, JSONL, CSV, Parquet or the hub."""

    kind: ClassVar[str] = "token"
    problem_type: ClassVar[str | None] = None
    decomposes: ClassVar[bool] = True

    train: Given = ""
    """Where the training records are: a file such as train.conll, or hub:NAME/SUBSET@REVISION."""
    validation: Given | None = None
    """Where the validation records are, written as `train` is; it picks the best checkpoint. A share such as 10% is taken out of the train split, by a hash
    of the text. None takes 10% where the train split has 100 records, and an empty text has none."""
    test: Given = ""
    """Where the test records are, written as `train` is, or a share of the train split such as 10%; empty for none. It is scored once, at the end."""
    group_column: str = ""
    """A column whose records stay together, such as author or document, where validation or test is a share of the train split."""
    format: str | None = None
    """How files are read: columns, jsonl, csv, tsv or parquet. None goes by the suffix of each file, and by its content where that says nothing."""
    comment: str = ""
    """Lines of a column file that begin with this and stand before a sentence are skipped, such as "# "; empty skips none."""
    text_columns: tuple[str, ...] = ()
    """The column of the words: a name, or in a column file a number from 0."""
    label_column: str = ""
    """The column of the tags: a name, or in a column file a number, where -1 is the last."""
    labels: tuple[str, ...] = ()
    """Names of the tags, in order where the data has numbers. Empty takes those of a fine-tuned model, or else those found in the train split."""
    scheme: str | None = None
    """How tags mark entities: IOB1, IOB2, IOBES, BMES, BILOU or plain (one tag a word, no entities). None looks at the train split."""
    label_all_tokens: bool = False
    """Whether every subword of a word is labelled (B- goes on as I-), not only the first one."""
    words: str | None = None
    """How raw text is cut into words: blanks, punctuation, clitics, penn, pattern, characters or tokenizer. None looks at the train split."""
    main_metric: str = "entity_f1"
    """The metric that picks the best checkpoint: entity_f1, strict_entity_f1, accuracy or -loss."""

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """Two lists of as many entries in every record, words and tags; or a text with spans of characters."""
        lists = [name for name in columns.of_kind("words", "lists") if _holds_words_or_tags(columns.values(name))]
        lengths = [tuple(len(record[name]) for name in lists if isinstance(record.get(name), list)) for record in columns.records]
        is_paired = len(lists) > 1 and bool(columns.of_kind("words")) and all(len(one) > 1 and min(one) == max(one) for one in lengths)
        if is_paired and any(_come_again(columns.values(name)) for name in lists):
            return Claim(0.9, {}, f"a list of words and a list of as many tags a record, in the columns {', '.join(map(repr, lists))}")
        asked = columns.asked_texts[0] if columns.asked_texts else ""
        if found := annotated.find(columns.source, text=asked, spans=columns.asked_label):
            return Claim(0.9, {}, f"text in {found.text!r}, spans of characters in {found.spans!r}")
        rows = None if columns.asked_texts or columns.asked_label else word_rows.find(columns.source)
        if rows:
            return Claim(0.9, {}, f"a word a row in {rows.word!r}, its tag in {rows.tag!r}")
        return None

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; one without tags is found here, not hours later at the first evaluation."""
        source = self._as_words(self._opened(split, max_examples=max_examples))
        source = part(source, self, split, key=lambda record: " ".join(self._words(record)), max_examples=max_examples)
        try:
            self._tags(source[0])
        except UserError as error:
            raise UserError(f"{source.where(0)}: {error}") from None
        return source

    def _opened(self, split: str, *, max_examples: int | None) -> Source:
        return open_records(self, split, format=self.format, comment=self.comment, max_examples=max_examples)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> TokenClassification:
        """Fills in labels and scheme. Raises UserError for tags that the scheme does not know."""
        if self.scheme is not None and self.scheme not in (*schemes.LETTERS, schemes.PLAIN):
            allowed = [*schemes.LETTERS, schemes.PLAIN]
            raise UserError(f"task.scheme is {self.scheme!r}, allowed are {allowed}{nearest(self.scheme, allowed)}")
        if self.words is not None and self.words not in splitting.NAMES:
            raise UserError(f"task.words is {self.words!r}, allowed are {list(splitting.NAMES)}{nearest(self.words, splitting.NAMES)}")
        model_labels = checkpoint.labels if checkpoint.kind == self.kind else None
        if "train" not in self.splits():
            labels = self.labels or model_labels
            if not labels:
                raise UserError(f"no labels: task.train is empty and {checkpoint.name} is not fine-tuned for this task; set task.train or task.labels")
            return self._with(tuple(map(str, labels)), self.scheme or schemes.scheme_of_labels(map(str, labels)))
        task = self._with_way_of_spans(self._opened("train", max_examples=max_examples))
        task = task._with_columns(task.records("train", max_examples=max_examples))
        return task._of_train(checkpoint.name, model_labels, max_examples=max_examples)._with_words(tokenizer, max_examples=max_examples)

    def look(self, source: Source, *, split: str) -> Look:
        """How a split was read. Raises UserError for tags that cannot be meant."""
        assert self.scheme is not None, "resolve first"
        line, warnings = self._reading(source, self._tally(source), self.scheme)
        return Look(line, (*(f"{source.name}: {note}" for note in getattr(source, "notes", ())), *warnings))

    def spec(self) -> dict[str, Field]:
        return {"labels": Field("T", (), "int32", IGNORE)}

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One feature a window. A word's label stands on its first piece, in the window that gives it the most context, and nowhere else."""
        pieces, word_ids, spans = self._pieces(record, tokenizer)
        labels = self._label_ids(record, num_words=len(spans))
        ranges = windows(word_ids, capacity=max_length - tokenizer.num_special)
        owner = best_window(word_ids, ranges)
        is_first = starts_words(word_ids)
        before = tokenizer.num_prefix
        result = []
        for number, (start, end) in enumerate(ranges):
            ids = tokenizer.wrap(pieces[start:end])
            owned = np.full(len(ids), -1, np.int32)
            target = np.full(len(ids), IGNORE, np.int32)
            words = word_ids[start:end]
            mine = owner[words] == number
            owned[before : before + end - start] = np.where(is_first[start:end] & mine, words, -1)
            if labels is not None:
                on_piece = np.where(is_first[start:end], labels[words, 0], labels[words, 1])
                target[before : before + end - start] = np.where(mine, on_piece, IGNORE)
            result.append(Features({"input_ids": ids, "labels": target}, {}, -1, {"owned": owned, "spans": spans if number == 0 else spans[:0]}))
        return result

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return encoder.head(self.kind, len(self.labels), rngs=rngs)

    def loss(self, outputs: Float[Array, "R T L"], batch: Batch) -> Terms:
        return {"token": cross_entropy(outputs, batch["labels"], ignore=IGNORE)}

    def predict(self, outputs: Float[Array, "R T L"], batch: Batch) -> Predictions:
        probabilities = jax.nn.softmax(outputs.astype(jnp.float32), axis=-1)
        return {"T": {"label": jnp.argmax(outputs, -1).astype(jnp.int32), "score": probabilities.max(-1)}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{"text", "words", "tags", "entities": [{"type", "text", "start", "end", "score"}]}`; offsets in characters, score the mean over an entity's words.

        With plain tags the words themselves stand in "entities"' place: `"tokens": [{"tag", "text", "start", "end", "score"}]`.
        """
        spans = features[0].host["spans"]
        labels, scores = np.zeros(len(spans), np.int32), np.zeros(len(spans), np.float32)
        for feature, predicted in zip(features, predictions, strict=True):
            at = np.flatnonzero(feature.host["owned"] >= 0)
            words = feature.host["owned"][at]
            labels[words], scores[words] = predicted["label"][at], predicted["score"][at]
        text = record["text"] if annotated.PLACES in record or self._is_raw(record) else " ".join(self._words(record))
        tags = [self.labels[i] for i in labels.tolist()]
        places, score_of = spans.tolist(), scores.tolist()
        result: dict[str, Any] = {"text": text, "words": [text[start:end] for start, end in places], "tags": tags}
        if self.scheme == schemes.PLAIN:
            rows = zip(tags, places, score_of, strict=True)
            return result | {"tokens": [{"tag": tag, "text": text[s:e], "start": s, "end": e, "score": round(score, 6)} for tag, (s, e), score in rows]}
        return result | {"entities": _entities(text, schemes.to_iob2(tags, "IOB2"), places, score_of)}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        return {}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        return decoded

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Micro-averaged entity precision, recall and F1 as seqeval counts them (default and strict), the same per type, and accuracy over words."""
        gold, predicted, lengths, labels, _ = self._flat(decoded, records)
        result = {"accuracy": float(np.mean(gold == predicted))}
        result |= self._interval(gold, predicted, lengths, labels)
        if self.scheme == schemes.PLAIN:
            return result
        scores = entity_scores(gold, predicted, lengths, labels)
        strict = entity_scores(gold, predicted, lengths, labels, mode="strict")["micro avg"]
        micro = scores["micro avg"]
        result |= {"entity_precision": micro["precision"], "entity_recall": micro["recall"], "entity_f1": micro["f1-score"]}
        result |= {"strict_entity_f1": strict["f1-score"], "num_entities": micro["support"]}
        for name, row in scores.items():
            if not name.endswith(" avg"):
                result |= {f"{name}/precision": row["precision"], f"{name}/recall": row["recall"], f"{name}/f1": row["f1-score"]}
                result[f"{name}/support"] = row["support"]
        return result

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        """Entities as seqeval prints them, then the tags of single words as scikit-learn does."""
        from sklearn.metrics import classification_report

        gold, predicted, lengths, labels, _ = self._flat(decoded, records)
        used = np.union1d(gold, predicted)
        names = [printable(labels[i]) for i in used]
        words = str(classification_report(gold, predicted, labels=used, target_names=names, digits=4, zero_division=0))
        uncertainty = interval_line(self.main_metric, self._interval(gold, predicted, lengths, labels))
        if self.scheme == schemes.PLAIN:
            return words + uncertainty
        return f"{report(entity_scores(gold, predicted, lengths, labels))}{uncertainty}\nTags of words:\n\n{words}"

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Errors by kind, each with its sentences; which types, or plain tags, are taken for which; calibration."""
        flat = self._flat(decoded, records)
        gold, predicted, lengths, labels, _ = flat
        if self.scheme == schemes.PLAIN:
            return self._tag_sections(decoded, flat)
        found = mistakes(gold, predicted, lengths, labels)
        chunks = [entities(ids, lengths, labels) for ids in (gold, predicted)]
        pairs = [[(s, e, one.types[t]) for s, e, t in zip(one.start.tolist(), one.end.tolist(), one.type.tolist(), strict=True)] for one in chunks]
        wanted, given = ([_of_sentence(pair, one.sentence, len(lengths)) for pair, one in zip(pairs, chunks, strict=True)])
        places = [flat.of(_places(one), i) for i, one in enumerate(decoded)]
        texts = [one["text"] for one in decoded]
        is_right = [
            (entity["score"], any((places[i][s][0], places[i][e - 1][1], kind) == (entity["start"], entity["end"], entity["type"]) for s, e, kind in wanted[i]))
            for i, one in enumerate(decoded)
            for entity in one["entities"]
        ]
        scores, right = np.asarray([score for score, _ in is_right]), np.asarray([one for _, one in is_right], bool)

        def passage(i: int, caption: str) -> Passage:
            spans = [Span(places[i][s][0], places[i][e - 1][1], kind, "right" if (s, e, kind) in wanted[i] else "wrong") for s, e, kind in given[i]]
            spans += [Span(places[i][s][0], places[i][e - 1][1], kind, "gold") for s, e, kind in wanted[i] if (s, e, kind) not in given[i]]
            return Passage(caption, texts[i], tuple(spans))

        types = chunks[0].types
        by_kind = {kind: [one for one in found if one.kind == kind] for kind in KINDS}
        sections: list[Section] = [
            Table(
                "Errors by kind",
                ("kind", "entities", *types),
                tuple((kind, len(ones), *(sum(name == _type_of(one) for one in ones) for name in types)) for kind, ones in by_kind.items()),
                note="; ".join(f"{kind}: {text}" for kind, text in KINDS.items()) + ". Types are those of gold, of invented entities those given.",
            ),
            Matrix(
                "Which types are taken for which",
                (*types, NONE),
                _type_counts(sum(map(len, wanted), 0), found, wanted, given, types),
                note=f"Entities; '{NONE}' is no entity there. An overlapping one with another boundary counts by its type.",
            ),
            Reliability("Calibration", {"score": curve(scores, right)} if len(scores) else {}, note="Of predicted entities; right is the same span and type."),
            Passages("Sentences", tuple(passage(i, "") for i in range(min(NUM_SHOWN, len(texts)))), len(texts), note="As they come in the file."),
        ]
        for kind, ones in by_kind.items():
            if ones:
                shown = tuple(passage(one.sentence, _caption(one, texts[one.sentence], places[one.sentence])) for one in ones[:NUM_SHOWN])
                sections.append(Passages(kind.capitalize(), shown, len(ones), note=KINDS[kind]))
        return sections

    def _tag_sections(self, decoded: Sequence[dict[str, Any]], flat: _Flat) -> list[Section]:
        gold, predicted, lengths, labels, _ = flat
        scores = np.asarray([word["score"] for i, one in enumerate(decoded) for word in flat.of(one["tokens"], i)])
        starts = np.cumsum(lengths) - lengths
        wrong = [i for i, (start, num) in enumerate(zip(starts, lengths, strict=True)) if (gold[start : start + num] != predicted[start : start + num]).any()]
        passages = []
        for i in wrong[:NUM_SHOWN]:
            places = flat.of(_places(decoded[i]), i)
            pairs = [(w, labels[predicted[starts[i] + w]], labels[gold[starts[i] + w]]) for w in range(lengths[i])]
            spans = tuple(Span(places[w][0], places[w][1], f"{one}, should be {other}", "wrong") for w, one, other in pairs if one != other)
            passages.append(Passage("", decoded[i]["text"], spans))
        return [
            Matrix("Which tags are taken for which", tuple(labels), tuple(map(tuple, confusion(gold, predicted, len(labels)).tolist())), note="Words."),
            Reliability("Calibration", {"score": curve(scores, gold == predicted)} if len(scores) else {}, note="Of words."),
            Passages("Sentences with wrong tags", tuple(passages), len(wrong)),
        ]

    def baselines(self, records: Sequence[Record]) -> list[baseline.Baseline]:
        """Each word's most frequent tag; with plain tags the most frequent tag of all too, which is no entity otherwise."""
        known = [record for record in records if self._has_tags(record)]
        pairs = [(word, tag) for record in known for word, tag in zip(self._words(record), self._gold(record), strict=True) if tag != schemes.MISSING]
        usual, tag = baseline.tags_of_words(pairs)
        ways = {baseline.WORDS: tag} | ({baseline.MAJORITY: lambda words: [usual] * len(words)} if self.scheme == schemes.PLAIN else {})

        def predict(records: Sequence[Record], *, way: Callable[[Sequence[str]], list[str]]) -> list[dict[str, Any]]:
            return [{"words": list(self._words(record)), "tags": way(self._words(record))} for record in records]

        return [baseline.Baseline(name, functools.partial(predict, way=way), len(known)) for name, way in reversed(ways.items())]

    def label_counts(self, records: Source) -> LabelCounts:
        """Entities of each type, or words of each plain tag. The loss of guessing is that of all words' tags."""
        tags: Counter[str] = Counter()
        for record in records:
            if self._has_tags(record):
                tags.update(tag for tag in self._gold(record) if tag != schemes.MISSING)
        loss = entropy(np.asarray(list(tags.values())))
        if self.scheme == schemes.PLAIN:
            return LabelCounts(dict.fromkeys(self.labels, 0) | tags, "tags", loss)
        types = {label.partition("-")[2]: 0 for label in self.labels if "-" in label}
        return LabelCounts({name: tags[f"B-{name}"] for name in types}, "entity types", loss)

    def _interval(self, gold: np.ndarray, predicted: np.ndarray, lengths: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
        """The 95 % interval over sentences of the main metric, where it is one of these."""

        def entities(mode: Literal["default", "strict"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return entity_counts(gold, predicted, lengths, labels, mode=mode)

        sentence_of = np.repeat(np.arange(len(lengths)), lengths)
        statistics: dict[str, Callable[[], Statistic]] = {
            "accuracy": lambda: weighted_ratio(np.bincount(sentence_of, gold == predicted, len(lengths)), lengths),
            "entity_f1": lambda: weighted_f1(*entities("default")),
            "strict_entity_f1": lambda: weighted_f1(*entities("strict")),
            "entity_precision": lambda: weighted_ratio(*entities("default")[:2]),
            "entity_recall": lambda: weighted_ratio(*entities("default")[::2]),
        }
        if self.main_metric not in statistics:
            return {}
        return interval(self.main_metric, *bootstrap_interval(statistics[self.main_metric](), len(lengths)))

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def _spans(self, source: Source) -> annotated.Columns | None:
        """The columns of texts and spans, where a source has these and no words with tags."""
        if any(isinstance(cell := source[0].get(name), list) and cell and isinstance(cell[0], str) for name in WORDS):
            return None
        return annotated.find(source, text=str(self.text_columns[0]) if self.text_columns else "", spans=str(self.label_column))

    def _as_words(self, source: Source) -> Source:
        """Texts with spans of characters become words with tags, and rows of one word each become sentences."""
        if found := self._spans(source):
            return annotated.convert(source, found, how=self.words if self.words in splitting.PATTERNS else annotated.WAYS[0])
        rows = word_rows.find(source, word=str(self.text_columns[0]) if self.text_columns else "", tag=str(self.label_column))
        return word_rows.group(source, rows) if rows else source

    def _with_way_of_spans(self, source: Source) -> TokenClassification:
        """With the way to cut texts that cuts the fewest of their spans, where the records bring no words of their own."""
        found = None if self.words is not None else self._spans(source)
        if found is None or "tokens" in source[0]:
            return self
        way = annotated.choose_way(source, found)
        log.info("%s: spans of characters in %r; texts are cut %s (task.words=%s)", source.name, found.spans, splitting.SAID[way], way)
        return dataclasses.replace(self, words=way)

    def _with_columns(self, source: Source) -> TokenClassification:
        """With the columns that hold words and tags, where a column file's are not the first and the last."""
        asked = self.text_columns[0] if self.text_columns else ""
        chosen = token_columns.choose(source, words=_number(asked, source[0]), tags=_number(self.label_column, source[0]))
        if chosen is not None and chosen.others:
            log.info("%s: tags are those of column %s; task.label_column names others: %s", source.name, chosen.tags, ", ".join(chosen.others))
        if chosen is None or not chosen.note:
            return self
        log.info("%s: %s; task.text_columns and task.label_column name others", source.name, chosen.note)
        return dataclasses.replace(self, text_columns=(chosen.words,), label_column=chosen.tags)

    def _with_words(self, tokenizer: Tokenizer, *, max_examples: int | None) -> TokenClassification:
        """With the way to cut raw text that gives the words of the train split."""
        if self.words is not None:
            return self
        sample = [list(map(str, self._words(record))) for record in itertools.islice(self.records("train", max_examples=max_examples), splitting.SAMPLE)]
        found, share = splitting.choose(sample, tokenizer=lambda text: _own_words(tokenizer, text)[1])
        said = "raw text will be cut %s (task.words=%s), which gives %.1f %% of the words of the train split"
        log.log(logging.INFO if share > 0.8 else logging.WARNING, said, splitting.SAID[found], found, 100 * share)
        return dataclasses.replace(self, words=found)

    def _of_train(self, model: str, model_labels: tuple[str, ...] | None, *, max_examples: int | None) -> TokenClassification:
        """With the scheme and the labels of the train split."""
        source = self.records("train", max_examples=max_examples)
        tally = self._tally(source)
        scheme = self.scheme or tally.scheme
        if self.scheme is None or scheme == schemes.PLAIN:
            schemes.check_tally(tally, scheme, where=source.where)
        else:  # the one who names a scheme knows what its letters are
            for tag, number in tally.first.items():
                schemes.check([schemes.canonical(tag, bare=tally.is_bare)], scheme, source.where(number))
        found = _label_set([[tag if scheme == schemes.PLAIN else schemes.canonical(tag, bare=tally.is_bare) for tag in tally.tags]], scheme)
        if set(tally.tags) <= {schemes.MISSING}:
            raise UserError(f"{source.name}: no word has a tag, each is one of '-', '_', {schemes.MISSING}; name the column of tags in task.label_column")
        if self.labels:
            names = tuple(map(str, self.labels))
            own = names if names == model_labels or scheme == schemes.PLAIN else tuple(schemes.canonical(name, bare=tally.is_bare) for name in names)
            return self._with(named_labels(own, model_labels, model=model), scheme)
        if len(found) < 2:
            raise UserError(f"{source.name}: every tag is {found[0]!r}; expected at least two to tell apart, or all of them named in task.labels")
        if model_labels and set(found) <= set(model_labels):
            return self._with(model_labels, scheme)
        if model_labels:
            log.warning("%s: its labels lack %s of the train split, which are new to its head", model, sorted(set(found) - set(model_labels)))
        return self._with(found, scheme)

    def _tally(self, source: Source) -> schemes.Tally:
        """The tags of a split, counted; as lists, those of a large file take more memory than the model. Raises UserError with a record's place."""
        tally = schemes.Tally()
        for number, record in enumerate(source):
            try:
                tally.add(self._tags(record), number)
            except UserError as error:
                raise UserError(f"{source.where(number)}: {error}") from None
        return tally

    def _reading(self, source: Source, tally: schemes.Tally, scheme: str) -> tuple[str, list[str]]:
        """How a split was read, in one line, and what is implausible about it. Raises UserError for tags that cannot be meant."""
        num, num_missing = sum(tally.tags.values()), tally.tags[schemes.MISSING]
        first = source[0]
        shown = " ".join(f"{word}/{tag}" for word, tag in itertools.islice(zip(self._words(first), self._tags(first), strict=True), 8))
        parts = [f"{len(source):,} sentences, {num:,} words; {self._where_words_are(first)}"]
        warnings = []
        if scheme == schemes.PLAIN:
            _check_cells(tally.tags, source.name)
            parts.append(f"plain tags, no entity scores: {len(tally.tags) - bool(num_missing)} of them")
            if tally.tags.most_common(1)[0][0].upper() in ("O", "OUT", "OTHER", "OUTSIDE"):
                warnings.append("its tags are read as plain ones, without entity scores; for entities write B- and I- before their types, as in B-PER I-PER O")
        else:
            near = tally.near()
            types = sorted({read[2:] for tag in tally.tags if (read := near.get(tag, tag)) not in ("O", schemes.MISSING)})
            parts.append(f"{scheme}, {len(types)} types ({', '.join(types[:8])}{' ...' if len(types) > 8 else ''})")
            if near:
                tag, read = max(near.items(), key=lambda pair: (pair[1] != "O", tally.tags[pair[0]]))
                num_near = sum(tally.tags[tag] for tag in near)
                said = f"{num_near:,} tags such as {tag!r} are read as {read!r}"
                (parts if 2 * num_near > num - tally.tags["O"] else warnings).append(said)
            if wrong := tally.num_malformed(scheme):
                most = tally.first_malformed(scheme)
                warnings.append(f"{wrong} tags are out of place in {scheme} (most often {most}); read as conlleval reads them")
            if num_missing > 0.3 * num and not {"O", "o"} & tally.tags.keys():
                raise UserError(f"{source.name}: no word is tagged O, and {num_missing:,} of {num:,} say nothing ('-', '_', -100); write O where no entity is")
        if num_missing:
            parts.append(f"{num_missing:,} words whose tag is '-', '_' or {schemes.MISSING} are neither learnt from nor scored")
        cases = Counter(tag.lower() for tag in tally.tags if tag != "o")
        if same := sorted(tag for tag in tally.tags if cases[tag.lower()] > 1):
            warnings.append(f"tags that differ in case alone are different ones: {', '.join(map(repr, same[:4]))}; write them alike if they are the same")
        odd, num_blanks = token_columns.Oddities(), 0
        for record in source:
            odd.add(self._words(record))
            num_blanks += sum(tag != tag.strip() for tag in self._written(record) if isinstance(tag, str))
        if num_blanks:
            warnings.append(f"blanks around {num_blanks:,} tags are taken off")
        warnings += odd.warnings()
        return f"{source.name}: {'; '.join(parts)}; the first: {shown}", [f"{source.name}: {warning}" for warning in warnings]

    def _where_words_are(self, record: Record) -> str:
        if annotated.PLACES in record:
            return "words and tags from spans of characters"
        names = [self._name_of_words(record), self._name_of_tags(record)]
        return "words in {}, tags in {}".format(*(f"column {name}" if str(name).isdecimal() else repr(name) for name in names))

    def _with(self, labels: tuple[str, ...], scheme: str) -> TokenClassification:
        duplicates = sorted({label for label in labels if labels.count(label) > 1})
        if duplicates:
            raise UserError(f"task.labels names {duplicates} more than once; name each label once")
        main_metric = self.main_metric
        if scheme == schemes.PLAIN and main_metric not in PLAIN_METRICS:
            if main_metric != type(self).main_metric:
                raise UserError(f"task.main_metric is {main_metric!r}, which plain tags do not have; allowed are {list(PLAIN_METRICS)}")
            main_metric = "accuracy"
        kinds = sorted({label.partition("-")[2] for label in labels if "-" in label})
        allowed = [*PLAIN_METRICS, *ENTITY_METRICS, *(f"{kind}/{score}" for kind in kinds for score in ("precision", "recall", "f1"))]
        if main_metric not in allowed:
            shown = [*PLAIN_METRICS, *ENTITY_METRICS, *(f"{kind}/f1" for kind in kinds[:3])]
            raise UserError(f"task.main_metric is {main_metric!r}{nearest(main_metric, allowed)}; allowed are {shown} and the like")
        return dataclasses.replace(self, labels=labels, scheme=scheme, main_metric=main_metric)

    def _column(self, record: Record, asked: str, guesses: Sequence[str], field: str) -> str | None:
        asked = _number(asked, record)
        if asked and asked not in record:
            raise UserError(f"no column {asked!r}; found are {sorted(record)}; set task.{field}{nearest(asked, record)}")
        return asked or next((name for name in guesses if name in record), None)

    def _is_raw(self, record: Record) -> bool:
        """Raw text, which comes when predicting, whatever columns the training data has."""
        others = [str(name) for name in (*self.text_columns, *WORDS) if str(name) != "text"]
        return isinstance(record.get("text"), str) and not self._has_tags(record) and not any(name in record for name in others)

    def unlabelled(self, record: Record) -> Record:
        """Of the columns of a column file only that of the words stays."""
        return without_columns(record, [name for name in record if self._is_of_tags(name)])

    def _has_tags(self, record: Record) -> bool:
        return annotated.PLACES in record or any(map(self._is_of_tags, record))

    def _is_of_tags(self, column: str) -> bool:
        """Whether a column holds tags, or in a column file whatever stands beside the words."""
        asked, words = str(self.label_column), str(self.text_columns[0]) if self.text_columns else "0"
        if asked and not asked.lstrip("-").isdecimal():
            return column == asked
        return column != words and (column.isdecimal() or column in LABELS or column == CONLLU.get(asked))

    def _name_of_words(self, record: Record) -> str:
        if annotated.PLACES in record:
            return "tokens"
        name = self._column(record, str(self.text_columns[0]) if self.text_columns else "", WORDS, "text_columns")
        name = name or next((one for one in ("sentence", "text") if isinstance(record.get(one), str)), None)  # words between blanks
        if name is None:
            raise UserError(f"no column of words among {sorted(record)}; set task.text_columns")
        return name

    def _name_of_tags(self, record: Record) -> str:
        if annotated.PLACES in record:
            return "tags"
        last = (str(max(int(name) for name in record if name.isdecimal())),) if "1" in record else ()
        name = self._column(record, str(self.label_column), (*LABELS, *last), "label_column")
        if name is None:
            raise UserError(f"no column of tags among {sorted(record)}; set task.label_column")
        return name

    def _words(self, record: Record) -> Sequence[str]:
        name = self._name_of_words(record)
        words = _listed(record[name])
        if not isinstance(words, Sequence):
            raise UserError(f"column {name!r} is {str(words)[:40]!r}, expected a list of words; set task.text_columns")
        if not words:
            raise UserError(f"column {name!r} is an empty list of words; remove the record")
        if isinstance(words[0], Mapping):  # Prodigy's
            return [word.get("text", "") for word in words]
        return words

    def _written(self, record: Record) -> Sequence[Any]:
        """A record's tags as they stand in the file, one a word."""
        name = self._name_of_tags(record)
        tags = _listed(record[name])
        if not isinstance(tags, Sequence):
            raise UserError(f"column {name!r} is {str(tags)[:40]!r}, expected a list of tags; set task.label_column")
        num_words = len(self._words(record))
        if len(tags) != num_words:
            raise UserError(f"{num_words} words but {len(tags)} tags in {name!r}; each word needs one tag")
        return tags

    def _tags(self, record: Record) -> list[str]:
        """A record's tags by name: blanks around them gone, numbers turned into `task.labels`, MISSING where one says nothing."""
        tags = self._written(record)
        if set(map(type, tags)) != {str}:
            tags = self._names(tags)
        labels = self.labels
        named = list(map(schemes.clean, tags))
        if "" in named:
            raise UserError(f"the tag of word {named.index('') + 1} is empty (''); write O, or {IGNORE} for a word that nothing is to be learnt from")
        if schemes.MISSING in named:  # "-" may be the tag of dashes, where task.labels say so
            named = [tag if tag in labels else name for tag, name in zip(tags, named, strict=True)]
        if labels and any(tag.isdecimal() for tag in named) and not any(label.isdecimal() for label in labels):
            named = self._names([int(tag) if tag.isdecimal() else tag for tag in named])
        return named if self.scheme == schemes.PLAIN else schemes.from_brackets(named) or named

    def _names(self, tags: Sequence[Any]) -> list[str]:
        """Tags of which some are no text: numbers of `task.labels`, or -100, which says nothing."""
        tags = [int(tag) if isinstance(tag, float) and tag.is_integer() else tag for tag in tags]  # of a column with a gap
        numbers = [tag for tag in tags if isinstance(tag, int) and not isinstance(tag, bool) and tag != IGNORE]
        if numbers and not self.labels:
            raise UserError(f"tags are numbers ({numbers[0]}), whose names are not known; set task.labels to the names in order")
        if numbers and max(numbers) >= len(self.labels):
            raise UserError(f"tag number {max(numbers)}, but task.labels has {len(self.labels)} names; name them all")
        if numbers and min(numbers) < 0:
            raise UserError(f"tag number {min(numbers)}, expected 0 to {len(self.labels) - 1}, or {IGNORE} for a word that nothing is to be learnt from")
        named = [(schemes.MISSING if tag == IGNORE else self.labels[tag]) if isinstance(tag, int) and not isinstance(tag, bool) else tag for tag in tags]
        wrong = [tag for tag in named if not isinstance(tag, str)]
        if wrong:
            raise UserError(f"tag {wrong[0]!r} is no text; write tags as strings")
        return named

    def _gold(self, record: Record) -> list[str]:
        """A record's tags as the model knows them; MISSING for a word that is not scored."""
        assert self.scheme is not None, "resolve first"
        tags = self._tags(record)
        if self.scheme == schemes.PLAIN:
            schemes.check(tags, self.scheme, "sentence")
            return tags
        bare = schemes.is_bare(self.labels)
        read = [schemes.canonical(tag, bare=bare) for tag in tags]
        schemes.check_readable(read, self.scheme, "sentence")
        return schemes.to_iob2(read, self.scheme)

    def _label_ids(self, record: Record, *, num_words: int) -> np.ndarray | None:
        """(num_words, 2) int32: the label of a word's first piece and of its later ones; None for a record without tags."""
        if not self._has_tags(record):
            return None
        ids = {label: i for i, label in enumerate(self.labels)} | {schemes.MISSING: IGNORE}
        tags = self._gold(record)
        unknown = next((tag for tag in tags if tag not in ids), None)
        if unknown is not None:
            raise UserError(f"tag {unknown!r} is not among the labels {list(self.labels)}; mend the file, or name all labels in task.labels")
        assert len(tags) == num_words, (len(tags), num_words)
        later = [schemes.continuation(tag) if self.label_all_tokens else None for tag in tags]
        return np.asarray([[ids[tag], IGNORE if rest is None else ids.get(rest, ids[tag])] for tag, rest in zip(tags, later, strict=True)], np.int32)

    def _pieces(self, record: Record, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids and word ids, (n,) each, and the characters of each word, (num_words, 2), in the text that `decode` returns."""
        if self._is_raw(record):
            text = record["text"]
            if self.words in (None, "tokenizer"):
                (ids, word_ids), places = _own_words(tokenizer, text)
            else:
                places = splitting.split(text, self.words or "")
                ids, word_ids = tokenizer.words([text[start:end] for start, end in places])
            return ids, word_ids, np.asarray(places, np.int32).reshape(-1, 2)
        given = self._words(record)
        ids, word_ids = tokenizer.words(given)
        if annotated.PLACES in record:
            return ids, word_ids, np.asarray(record[annotated.PLACES], np.int32)
        bounds = np.cumsum([0, *(len(word) + 1 for word in given)], dtype=np.int32)
        return ids, word_ids, np.stack([bounds[:-1], bounds[1:] - 1], 1)

    def _flat(self, decoded: Sequence[dict[str, Any]], records: Source) -> _Flat:
        labels, tags = self.labels, [one["tags"] for one in decoded]
        if self.scheme != schemes.PLAIN and any(label[:2] not in ("B-", "I-", "O") for label in labels):  # a fine-tuned model's IOBES: scores know IOB2
            bare = schemes.is_bare(labels)
            tags = [schemes.to_iob2([schemes.canonical(tag, bare=bare) for tag in one], "IOB2") for one in tags]
            labels = _label_set([[schemes.canonical(label, bare=bare) for label in labels]], "IOB2")
        ids = {label: i for i, label in enumerate(labels)}
        gold, kept = [self._gold(record) for record in records], None
        if any(schemes.MISSING in one for one in gold):
            kept = [[i for i, tag in enumerate(one) if tag != schemes.MISSING] for one in gold]
            gold, tags = ([[one[i] for i in at] for one, at in zip(ones, kept, strict=True)] for ones in (gold, tags))
        flat_gold, flat_predicted = (np.asarray([ids[tag] for one in ones for tag in one], int) for ones in (gold, tags))
        return _Flat(flat_gold, flat_predicted, np.asarray([len(one) for one in tags]), labels, kept)


class _Flat(NamedTuple):
    """All words that are scored, record by record."""

    gold: np.ndarray  # (num_words,) ids of labels
    predicted: np.ndarray  # (num_words,)
    lengths: np.ndarray  # (num_records,) words of each record
    labels: Sequence[str]
    kept: list[list[int]] | None  # which of each record's words these are; None where all are

    def of(self, values: Sequence[Any], record: int) -> list[Any]:
        """Those of one value a word of a record whose word is scored."""
        return list(values) if self.kept is None else [values[i] for i in self.kept[record]]


def _own_words(tokenizer: Tokenizer, text: str) -> tuple[tuple[np.ndarray, np.ndarray], list[tuple[int, int]]]:
    """`((ids, word_ids), places)` of raw text cut as the tokenizer cuts it; a mark that it drops belongs to the word before it."""
    ids, word_ids, offsets = tokenizer.text(text)
    if len(ids) == 0:
        return (ids, word_ids), []
    offsets = splitting.cover_marks(text, offsets)
    first = np.flatnonzero(starts_words(word_ids))
    last = np.r_[first[1:] - 1, len(ids) - 1]
    places = list(zip(offsets[first, 0].tolist(), offsets[last, 1].tolist(), strict=True))
    return (ids, np.repeat(np.arange(len(first), dtype=np.int32), np.diff(np.r_[first, len(ids)]))), places


def _places(decoded: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The characters of each word in the text that they stand in, one behind the other."""
    places, end = [], 0
    for word in decoded["words"]:
        start = decoded["text"].find(word, end)
        end = start + len(word)
        places.append((start, end))
    return places


def _of_sentence(entities: Sequence[Entity], sentence: np.ndarray, num_sentences: int) -> list[list[Entity]]:
    found: list[list[Entity]] = [[] for _ in range(num_sentences)]
    for i, one in zip(sentence.tolist(), entities, strict=True):
        found[i].append(one)
    return found


def _type_of(one: Mistake) -> str:
    entity = one.gold or one.given
    assert entity, "one of the two is there"
    return entity[2]


def _caption(one: Mistake, text: str, places: Sequence[tuple[int, int]]) -> str:
    """"should be LOC 'New York', given PER 'York'"."""
    parts = []
    for what, entity in (("should be", one.gold), ("given", one.given)):
        parts.append(f"{what} {entity[2]} {text[places[entity[0]][0] : places[entity[1] - 1][1]]!r}" if entity else f"{what} nothing")
    return ", ".join(parts)


def _type_counts(
    num_gold: int, found: Sequence[Mistake], wanted: Sequence[Sequence[Entity]], given: Sequence[Sequence[Entity]], types: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Gold types by given types, the last row and column being no entity."""
    place = {name: i for i, name in enumerate(types)}
    counts = np.zeros((len(types) + 1, len(types) + 1), int)
    for gold, predicted in zip(wanted, given, strict=True):
        for entity in set(gold) & set(predicted):
            counts[place[entity[2]], place[entity[2]]] += 1
    for one in found:
        counts[place[one.gold[2]] if one.gold else -1, place[one.given[2]] if one.given else -1] += 1
    assert counts[:-1].sum() == num_gold, (counts, num_gold)
    return tuple(map(tuple, counts.tolist()))


def _listed(cell: Any) -> Any:
    """A CSV cell has no lists: its words, and its tags, stand between blanks."""
    return cell.split() if isinstance(cell, str) else cell


def _holds_words_or_tags(lists: Sequence[Any]) -> bool:
    """Whether a column's lists may be words or tags: texts that are no sentences, or numbers."""
    entries = [entry for one in lists if isinstance(one, list) for entry in one]
    return all(isinstance(entry, str | int) for entry in entries) and sum(" " in str(entry).strip() for entry in entries) < max(1, len(entries) / 4)


def _come_again(lists: Sequence[Any]) -> bool:
    """Whether the entries of a column's lists repeat as tags do: those of running text are another one nearly every time."""
    entries = [str(entry) for one in lists for entry in one]
    return len(entries) < FEW_ENTRIES or len(set(entries)) <= len(entries) / 2


def _check_cells(tags: Collection[str], name: str) -> None:
    """Raises UserError for tags that are pieces of a list which was written as text."""
    pieces = [tag for tag in tags if re.match(r"[\[('\"]+\w", tag) or re.search(r"\w['\"\]),]+$", tag)]
    if 2 * len(pieces) > len(tags):
        raise UserError(f"{name}: the tags are pieces of lists written as text ({', '.join(map(repr, pieces[:2]))}); write them with blanks between")


def _number(asked: str, record: Record) -> str:
    """The name of a column of a column file that is counted from the end, -1 being the last; others as they are."""
    asked = str(asked)
    if asked in CONLLU and asked not in record and "upos" in record:
        return CONLLU[asked]
    if asked.startswith("-") and asked[1:].isdecimal():
        numbered = sorted(int(name) for name in record if name.isdecimal())
        return str(numbered[int(asked)]) if 0 < int(asked[1:]) <= len(numbered) else asked
    return asked


def _label_set(sentences: Sequence[Sequence[str]], scheme: str) -> tuple[str, ...]:
    if scheme == schemes.PLAIN:
        return tuple(sorted({tag for tags in sentences for tag in tags} - {schemes.MISSING}))
    types = sorted({tag.partition("-")[2] for tags in sentences for tag in tags if tag not in ("O", schemes.MISSING)})
    return ("O", *(f"{letter}-{kind}" for kind in types for letter in "BI"))


def _entities(text: str, tags: Sequence[str], places: Sequence[tuple[int, int]], scores: Sequence[float]) -> list[dict[str, Any]]:
    found = []
    starts = [i for i, tag in enumerate(tags) if tag[0] == "B"]
    for first in starts:
        last = first
        while last + 1 < len(tags) and tags[last + 1] == f"I-{tags[first][2:]}":
            last += 1
        start, end = places[first][0], places[last][1]
        score = round(sum(scores[first : last + 1]) / (last + 1 - first), 6)
        found.append({"type": tags[first][2:], "text": text[start:end], "start": start, "end": end, "score": score})
    return found
