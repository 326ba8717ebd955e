"""Multiple choice: which of several answers, or continuations, of a question is the right one. Their number may differ from question to question."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxft import baseline
from flaxft.data.base import IGNORE, Batch, Features, Field, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.labels import has_label, label_column, without_label
from flaxft.data.memory import Given
from flaxft.data.source import checked
from flaxft.data.splits import open_split, paths
from flaxft.data.texts import check_token_types, text_tokens
from flaxft.errors import UserError, nearest
from flaxft.metrics.confidence import (
    bootstrap_interval,
    calibration_curves,
    calibration_errors,
    fit_temperature,
    log_scores,
    weighted_mean,
    with_confidence,
)
from flaxft.models.base import Checkpoint, Encoder
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
    interval,
    interval_line,
)

# Where they stand when the fields do not say, the first that is there. The first of each is how raw questions and results have it.
QUESTIONS = ("question", "question_stem", "sent1", "ctx", "context")
STARTS = ("start", "sent2")
CHOICES = ("choices", "options", "endings")
NUMBERED = "ending{}"  # SWAG's ending0, ending1, ...
LABELS = ("label", "answerKey", "answer")
METRICS = ("accuracy", "-loss")
KINDS = ("index", "number", "letter", "text")


@dataclasses.dataclass
class MultipleChoice:
    """Records are a question, its choices, and which of them is right: from CSV, TSV, JSONL, Parquet or the hub.

    The choices are a list of texts, {"label": ["A", ...], "text": [...]} as in CommonsenseQA and ARC, or a column each as in SWAG, where empty cells behind the
    last choice are none. A choice is read together with the question: "[CLS] question [SEP] start choice [SEP]".
    """

    kind: ClassVar[str] = "choice"
    problem_type: ClassVar[str | None] = None
    decomposes: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ()  # the head gives a number a choice

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
    question_column: str = ""
    """The column of the question or context; empty looks for question, question_stem, sent1, ctx, context."""
    start_column: str = ""
    """The column of a text that every choice goes on from, read before it: empty looks for start, sent2; none is needed."""
    choices_column: str = ""
    """The column that holds all choices of a record; empty looks for choices, options, endings."""
    choice_columns: tuple[str, ...] = ()
    """One column a choice, in order, in place of choices_column; empty looks for ending0, ending1, ..."""
    label_column: str = ""
    """The column that says which choice is right; empty looks for label, answerKey, answer."""
    label_kind: str = ""
    """How the label names a choice: index (from 0), number (from 1), letter (A, B, ... or those of the record) or text. Empty tries index, letter and
    text."""
    main_metric: str = "accuracy"
    """The metric that picks the best checkpoint: accuracy or -loss."""

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """A question, a column of its choices or one for each, and which is right."""
        question, label = columns.named(*QUESTIONS), columns.asked_label or columns.named(*LABELS)
        choices, numbered = columns.named(*CHOICES), columns.named(NUMBERED.format(0))
        if not question or not label or not (choices or numbered):
            return None
        where = f"choices in {choices!r}" if choices else f"choices in {numbered!r} and the following"
        return Claim(0.9, {}, f"question in {question!r}, {where}, the right one in {label!r}")

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; one without question, choices or label is found here."""
        source = open_split(self, split, key=self._question, format=self.format, max_examples=max_examples)
        return checked(source, self._question, self._start, self._gold)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> MultipleChoice:
        """Fills in the columns. Raises UserError."""
        if self.main_metric not in METRICS:
            raise UserError(f"task.main_metric is {self.main_metric!r}, expected one of {', '.join(METRICS)}{nearest(self.main_metric, METRICS)}")
        if self.label_kind not in ("", *KINDS):
            raise UserError(f"task.label_kind is {self.label_kind!r}, expected one of {', '.join(KINDS)}, or nothing{nearest(self.label_kind, KINDS)}")
        if self.choices_column and self.choice_columns:
            raise UserError("task.choices_column and task.choice_columns are both set; give the column of all choices, or one column for each")
        if len(set(self.choice_columns)) != len(self.choice_columns) or len(self.choice_columns) == 1:
            raise UserError(f"task.choice_columns is {list(self.choice_columns)}, expected two columns or more, each once")
        check_token_types(tokenizer, checkpoint.config, model=checkpoint.name)
        if "train" not in self.splits():
            return self
        first = self.records("train", max_examples=max_examples)[0]
        question, start = self._question_column(first, allow_raw=False), self._start_column(first)
        return dataclasses.replace(
            self, question_column=question, start_column=start, label_column=label_column(first, self.label_column, LABELS), **self._choices_columns(first)
        )

    def spec(self) -> dict[str, Field]:
        return {"labels": Field("S", (), "int32", IGNORE)}  # 1 for the right choice, 0 for the others

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One feature a choice, all of one group. Of what is longer than `max_length` the longer of question and choice is cut first."""
        question, start, choices = self._question(record), self._start(record), self._choices(record)
        gold = self._gold(record) if self._has_label(record) else None
        result = []
        for i, choice in enumerate(choices):
            tokens, num_cut = text_tokens([question, f"{start} {choice}" if start else choice], tokenizer, max_length=max_length)
            label = IGNORE if gold is None else int(i == gold)
            result.append(Features(tokens, {"labels": np.asarray(label, np.int32)}, group=0, num_cut=num_cut))
        return result

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return encoder.head(self.kind, 1, rngs=rngs)

    def loss(self, outputs: Float[Array, "R S"], batch: Batch) -> Terms:
        """Cross-entropy over the choices of each question; the weight is the number of questions."""
        right = batch["labels"] == 1
        log_probabilities = log_softmax_of_groups(outputs, batch["example_group"])
        return {"choice": (-jnp.sum(jnp.where(right, log_probabilities, 0.0)), jnp.sum(right.astype(jnp.float32)))}

    def predict(self, outputs: Float[Array, "R S"], batch: Batch) -> Predictions:
        return {"S": {"log_probability": log_softmax_of_groups(outputs, batch["example_group"])}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{"question", "choices", "label", "answer", "score", "scores": [a probability per choice], "ranking": [places of the choices, best first]}`.

        label is the place of the best choice, from 0, answer its text. Where there is one, "start" is what the choices go on from.
        """
        choices, start = self._choices(record), self._start(record)
        scores = np.exp([float(one["log_probability"]) for one in predictions])
        ranking = np.argsort(-scores, kind="stable").tolist()  # of equal scores the first choice is first
        best = ranking[0]
        texts = {"question": self._question(record)} | ({"start": start} if start else {}) | {"choices": choices}
        return texts | {"label": best, "answer": choices[best], "score": float(scores[best]), "scores": scores.tolist(), "ranking": ranking}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """The temperature that the logits are divided by to make the scores honest (Guo et al. 2017, arXiv 1706.04599)."""
        gold = np.asarray([self._gold(record) for record in records], int)
        return {"temperature": fit_temperature(log_scores([one["scores"] for one in decoded]), gold)}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        rounded = {"score": round(decoded["score"], 6), "scores": [round(score, 6) for score in decoded["scores"]]}
        return with_confidence(decoded | rounded, decoded["scores"], calibration)

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Accuracy with its interval, as "accuracy/chance" what guessing would have, and the calibration error."""
        right = np.asarray([one["label"] == self._gold(record) for one, record in zip(decoded, records, strict=True)])
        chance = float(np.mean([1 / len(one["choices"]) for one in decoded]))
        found = {"accuracy": float(right.mean()), "accuracy/chance": chance}
        return found | interval("accuracy", *bootstrap_interval(weighted_mean(right), len(right))) | calibration_errors(decoded, right)

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        scores = self.score(decoded, records, {})
        sizes = sorted({len(one["choices"]) for one in decoded})
        lines = [
            f"{'questions':>16} {len(decoded):10,}",
            f"{'choices':>16} {sizes[0] if len(sizes) == 1 else f'{sizes[0]} to {sizes[-1]}':>10}",
            f"{'accuracy':>16} {scores['accuracy']:10.4f}",
            f"{'of guessing':>16} {scores['accuracy/chance']:10.4f}",
        ]
        return "\n".join(lines) + "\n" + interval_line("accuracy", scores)

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Calibration, and the mistakes that were made with most confidence."""
        gold = [self._gold(record) for record in records]
        right = np.asarray([one["label"] == place for one, place in zip(decoded, gold, strict=True)], bool)
        wrong = sorted(np.flatnonzero(~right).tolist(), key=lambda i: -decoded[i].get("confidence", decoded[i]["score"]))
        rows = []
        for i, one in ((i, decoded[i]) for i in wrong[:NUM_SHOWN]):
            question = " ".join(filter(None, (one["question"], one.get("start", ""))))
            rows.append((cut_text(question), cut_text(one["choices"][gold[i]]), cut_text(one["answer"]), one.get("confidence", one["score"])))
        return [
            Reliability("Calibration", calibration_curves(decoded, right)),
            Table("Mistakes made with most confidence", ("question", "right", "given", "confidence"), tuple(rows), total=len(wrong)),
        ]

    def baselines(self, records: Sequence[Record]) -> list[baseline.Baseline]:
        """The most frequent place, and the choice whose words are most like the question's."""
        places = np.bincount([self._gold(record) for record in records if self._has_label(record)])
        shares = np.log((places + 0.5) / (places.sum() + 0.5 * len(places)))
        features = baseline.TextFeatures([[text] for record in records for text in self._question_and_choices(record)])

        def answer(record: Record, odds: np.ndarray) -> dict[str, Any]:
            """odds: of the first choices, on the logarithmic scale; what lies beyond is as unlikely as the least."""
            own = np.r_[odds, np.full(len(self._choices(record)), odds.min())][: len(self._choices(record))]
            own = own - np.log(np.exp(own).sum())
            return self.decode(record, (), [{"log_probability": one} for one in own])

        def by_place(records: Sequence[Record]) -> list[dict[str, Any]]:
            return [answer(record, shares) for record in records]

        def by_words(records: Sequence[Record]) -> list[dict[str, Any]]:
            return [answer(one, odds) for one, odds in zip(records, baseline.cosines(records, self._question_and_choices, features), strict=True)]

        return [baseline.Baseline(baseline.MAJORITY, by_place, len(records)), baseline.Baseline(baseline.COSINE, by_words, len(records))]

    def _question_and_choices(self, record: Record) -> list[str]:
        return [f"{self._question(record)} {self._start(record)}", *self._choices(record)]

    def label_counts(self, records: Source) -> LabelCounts:
        """No labels; who guesses takes each choice as often."""
        return LabelCounts({}, "choices", float(np.mean([np.log(len(self._choices(record))) for record in records])))

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def unlabelled(self, record: Record) -> Record:
        return without_label(record, self.label_column, LABELS, texts=(self.question_column, self.start_column, self.choices_column, *self.choice_columns))

    def _has_label(self, record: Record) -> bool:
        return has_label(record, self.label_column, LABELS)

    def _question_column(self, record: Record, *, allow_raw: bool) -> str:
        asked = self.question_column
        if asked in record or not asked:
            name = asked or next((name for name in QUESTIONS if name in record), "")
        else:
            name = QUESTIONS[0] if allow_raw and QUESTIONS[0] in record else ""
        if not name:
            missing = f"no column {asked!r}" if asked else "no column of questions"
            raise UserError(f"{missing}; found are {sorted(record)}; set task.question_column{nearest(asked, record)}")
        return name

    def _question(self, record: Record) -> str:
        return _text(record, self._question_column(record, allow_raw=not self._has_label(record)))

    def _start_column(self, record: Record) -> str:
        """Empty where there is none."""
        asked = self.start_column
        if not asked:
            taken = self._question_column(record, allow_raw=True)
            return next((name for name in STARTS if name in record and name != taken), "")
        if asked in record:
            return asked
        if self._has_label(record):
            raise UserError(f"no column {asked!r}; found are {sorted(record)}; set task.start_column{nearest(asked, record)}")
        return STARTS[0] if STARTS[0] in record else ""

    def _start(self, record: Record) -> str:
        name = self._start_column(record)
        return _text(record, name) if name else ""

    def _choices_columns(self, record: Record) -> dict[str, Any]:
        """`choices_column` or `choice_columns`, whichever the record has; the other is empty. Raises UserError."""
        raw = CHOICES[0] in record and not self._has_label(record)
        if self.choice_columns:
            missing = next((name for name in self.choice_columns if name not in record), None)
            if missing is None:
                return {"choice_columns": self.choice_columns, "choices_column": ""}
            if not raw:
                raise UserError(f"no column {missing!r}; found are {sorted(record)}; set task.choice_columns{nearest(missing, record)}")
        asked = self.choices_column
        if asked and asked not in record and not raw:
            raise UserError(f"no column {asked!r}; found are {sorted(record)}; set task.choices_column{nearest(asked, record)}")
        name = asked if asked in record else next((name for name in CHOICES if name in record), "")
        if name:
            return {"choice_columns": (), "choices_column": name}
        numbered: list[str] = []
        while NUMBERED.format(len(numbered)) in record:
            numbered.append(NUMBERED.format(len(numbered)))
        if not numbered:
            raise UserError(f"no column of choices; found are {sorted(record)}; set task.choices_column, or task.choice_columns to one column for each")
        return {"choice_columns": tuple(numbered), "choices_column": ""}

    def _choices(self, record: Record) -> list[str]:
        """The texts of the choices. Raises UserError for fewer than two, and for what is no text."""
        columns = self._choices_columns(record)
        if columns["choice_columns"]:
            cells = [record[name] for name in columns["choice_columns"]]
            while cells and cells[-1] in (None, ""):
                cells.pop()
            choices = [_checked(cell, f"column {name!r}") for cell, name in zip(cells, columns["choice_columns"], strict=False)]
            where = f"the columns {list(columns['choice_columns'])}"
        else:
            where = f"column {columns['choices_column']!r}"
            listed = record[columns["choices_column"]]
            if isinstance(listed, Mapping) and "text" in listed:
                listed = listed["text"]
            if not isinstance(listed, list | tuple):
                what = f"{where} is {str(listed)[:40]!r} ({type(listed).__name__})"
                raise UserError(f"{what}, expected a list of texts; in CSV give each choice a column of its own and name them in task.choice_columns")
            choices = [_checked(choice, f"choice {i} of {where}") for i, choice in enumerate(listed)]
        if len(choices) < 2:
            raise UserError(f"{where}: {len(choices)} choice{'s' * (len(choices) != 1)}, expected at least two")
        return choices

    def _letters(self, record: Record, num_choices: int) -> list[str] | None:
        """What the record itself calls its choices; None where it does not say."""
        listed = record.get(self._choices_columns(record)["choices_column"])
        if not isinstance(listed, Mapping) or "label" not in listed:
            return None
        letters = listed["label"]
        if not isinstance(letters, list | tuple) or len(letters) != num_choices or len(set(map(str, letters))) != num_choices:
            raise UserError(f"the labels of the choices are {str(letters)[:60]}, expected {num_choices} that differ, one for each text")
        return list(map(str, letters))

    def _gold(self, record: Record) -> int:
        """The place of the right choice, from 0. Raises UserError where the label names none, or may mean several."""
        column = label_column(record, self.label_column, LABELS)
        label, choices = record[column], self._choices(record)
        what = f"column {column!r} is {str(label)[:40]!r}"
        expected = f"expected the right one of {len(choices)} choices: its {self.label_kind or 'place from 0, its letter or its text'}"
        if not isinstance(label, str | int) or isinstance(label, bool):
            raise UserError(f"{what} ({type(label).__name__}), {expected}; to predict, leave the column out")
        name, letters = str(label), self._letters(record, len(choices))
        number = int(name) if name.isdecimal() else -1
        readings = {
            "index": [number],
            "number": [number - 1],
            "letter": [i for i, letter in enumerate(letters or string.ascii_uppercase) if letter == name],
            "text": [i for i, choice in enumerate(choices) if choice == name],
        }
        kinds = [self.label_kind] if self.label_kind else ["index"] if isinstance(label, int) else ["index", "letter", "text"]
        if not self.label_kind and letters and name in letters:
            kinds = ["letter"]  # it is what they are there for: "1" to "4" in ARC
        fits = {kind: [place for place in readings[kind] if 0 <= place < len(choices)] for kind in kinds}
        found = {place for places in fits.values() for place in places}
        if not found:
            raise UserError(f"{what}, {expected}; mend it, or set task.label_kind")
        if len(found) > 1:
            shown = " or ".join(f"the {kind} of choice {place}" for kind, places in fits.items() for place in places)
            raise UserError(f"{what}: {shown}? set task.label_kind to one of {', '.join(KINDS)}, and write equal choices once")
        return found.pop()


def log_softmax_of_groups(logits: Float[Array, "R S"], groups: Int[Array, "R S"]) -> Float[Array, "R S"]:
    """The log-softmax over the slots of each group, wherever in the batch they lie; float32, and 0 for a slot of no group (-1)."""
    is_grouped = groups >= 0
    num = groups.size  # a group's number is below R * S; the slots of no group share one more segment
    group = jnp.where(is_grouped, groups, num).reshape(-1)
    flat = jnp.where(is_grouped, logits.astype(jnp.float32), 0.0).reshape(-1)
    largest = jax.lax.stop_gradient(jax.ops.segment_max(flat, group, num_segments=num + 1))  # of an empty segment -inf, which no slot reads
    centred = flat - largest[group]
    totals = jax.ops.segment_sum(jnp.exp(centred), group, num_segments=num + 1)
    return jnp.where(is_grouped, (centred - jnp.log(totals[group])).reshape(groups.shape), 0.0)


def _text(record: Record, column: str) -> str:
    return _checked(record[column], f"column {column!r}")


def _checked(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise UserError(f"{where} is {str(text)[:40]!r} ({type(text).__name__}), expected text; write it as a string")
    return text
