"""Extractive question answering: the answer to a question is a span of its context, or there is none. SQuAD 1.1 and 2.0, XQuAD, CMRC 2018."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from flaxft.data.base import IGNORE, Batch, Features, Field, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.labels import without_columns
from flaxft.data.memory import Given
from flaxft.data.splits import open_records, open_split, paths
from flaxft.data.texts import check_token_types
from flaxft.data.words import cover_marks
from flaxft.errors import UserError, nearest
from flaxft.metrics.confidence import bootstrap_interval, curve, weighted_mean
from flaxft.metrics.questions import Script, best_threshold, has_answer, per_question, question_scores
from flaxft.models.base import Checkpoint, Encoder
from flaxft.ops.losses import cross_entropy
from flaxft.tasks.base import NUM_SHOWN, Claim, Passage, Passages, Predictions, Reliability, Section, Span, Terms, interval, interval_line

COLUMNS = ("question", "context")
METRICS = ("f1", "exact_match", "-loss")
AROUND = 300  # characters of the context that a report shows on either side
POSITIONS = ("start_positions", "end_positions")  # Hugging Face's names of the labels, in the order of the head's outputs
NULL_THRESHOLD = "null_threshold"
NEVER = -1e30  # the logit of a token of another example: finite, since 0 * inf is not 0


class Gold(NamedTuple):
    """The right answers of a question; none where the context does not tell."""

    texts: list[str]
    starts: list[int]  # where each begins, in characters of the context


@dataclasses.dataclass
class QuestionAnswering:
    """Records are a question, its context and the answers with their places in it: a SQuAD file, JSONL, Parquet or the hub."""

    kind: ClassVar[str] = "span"
    problem_type: ClassVar[str | None] = None
    decomposes: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ()  # the two outputs of a span head have no names

    train: Given = ""
    """Where the training records are: a file such as train-v1.1.json, or hub:NAME/SUBSET@REVISION."""
    validation: Given | None = None
    """Where the validation records are, written as `train` is; it picks the best checkpoint. A share such as 10% is taken out of the train split, by a hash
    of the text. None takes 10% where the train split has 100 records, and an empty text has none."""
    test: Given = ""
    """Where the test records are, written as `train` is, or a share of the train split such as 10%; empty for none. It is scored once, at the end."""
    group_column: str = ""
    """A column whose records stay together, such as author or document, where validation or test is a share of the train split."""
    format: str | None = None
    """How files are read: squad, jsonl or parquet. None goes by the suffix of each file, and tells the two kinds of .json apart."""
    text_columns: tuple[str, ...] = COLUMNS
    """The two columns of the question and of its context, in this order."""
    label_column: str = "answers"
    """The column of the answers: {"text": [...], "answer_start": [...]} as in the hub's squad and squad_v2, with both lists empty where there is no
    answer."""
    version_2: bool | None = None
    """Whether a question may have no answer, as in SQuAD 2.0; none looks at the first split that has a path, and is no without one."""
    stride: int = 128
    """Tokens of the context that a window repeats of the one before (run_qa.py's doc_stride), at most half of what it holds of the context."""
    max_question_length: int = 64
    """The most tokens of the question; a longer one is cut at its end."""
    n_best_size: int = 20
    """How many answers a prediction lists in "nbest"."""
    max_answer_length: int = 30
    """The most tokens of a predicted answer."""
    script: str = "squad"
    """Whose exact match and F1 are computed: squad drops English articles and compares words, cmrc (for Chinese) compares characters."""
    main_metric: str = "f1"
    """The metric that picks the best checkpoint: f1, exact_match or -loss."""

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """A question, its context and answers."""
        question, context = (columns.named(name) for name in COLUMNS)
        label = columns.asked_label or columns.named("answers", "answer")
        if not question or not context or not label or columns.kinds[label].name not in ("objects", "lists"):
            return None
        fields = {"text_columns": (question, context), "label_column": label}
        return Claim(0.9, fields, f"question in {question!r}, context in {context!r}, answers in {label!r}")

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; one without context or answers is found here. Warns of answers that do not stand where they should."""
        source = open_split(self, split, key=lambda record: self._texts(record)[1], format=self.format, max_examples=max_examples)
        num_answers, misplaced = 0, []
        for i, context, gold in self._all(source):
            num_answers += len(gold.texts)
            misplaced += [i for text, start in zip(gold.texts, gold.starts, strict=True) if not _stands(context, text, start)]
        if misplaced:
            logging.getLogger("flaxft").warning(
                "%s: %d of %d answers do not stand at their answer_start, the first at %s; they count in scores but are not trained on",
                source.name, len(misplaced), num_answers, source.where(misplaced[0]),
            )  # fmt: skip
        if split == "train":
            return source
        twice = [one for one, num in Counter(record["id"] for record in source if "id" in record).items() if num > 1]
        if twice:
            logging.getLogger("flaxft").warning(
                "%s: %d ids stand more than once, the first is %r; predictions.json holds the last answer of each", source.name, len(twice), twice[0]
            )
        return source

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> QuestionAnswering:
        """Fills in version_2. Raises UserError."""
        if len(self.text_columns) != 2:
            raise UserError(f"task.text_columns is {list(self.text_columns)}, expected two: the column of the question and that of the context")
        for name, least in (("stride", 0), ("max_question_length", 1), ("n_best_size", 1), ("max_answer_length", 1)):
            if getattr(self, name) < least:
                raise UserError(f"task.{name} is {getattr(self, name)}, expected at least {least}")
        for name, allowed in (("script", get_args(Script)), ("main_metric", METRICS)):
            if (value := getattr(self, name)) not in allowed:
                raise UserError(f"task.{name} is {value!r}{nearest(value, allowed)}; allowed are {list(allowed)}")
        check_token_types(tokenizer, checkpoint.config, model=checkpoint.name)
        if self.version_2 is not None or not self.splits():
            return dataclasses.replace(self, version_2=bool(self.version_2))
        source = open_records(self, next(iter(self.splits())), format=self.format, max_examples=max_examples)
        num_silent = sum(not gold.texts for _, _, gold in self._all(source))
        if num_silent:
            logging.getLogger("flaxft").info("%s: %d of %d questions have no answer, so task.version_2 is on", source.name, num_silent, len(source))
        return dataclasses.replace(self, version_2=num_silent > 0)

    def spec(self) -> dict[str, Field]:
        return {"context": Field("T", (), "int32", 0)} | {name: Field("S", (), "int32", IGNORE) for name in POSITIONS}

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One feature a window of the context: [CLS] question [SEP] context [SEP]. `num_cut` counts what a long question loses.

        Labels are the first answer that stands at its place, as its first and last token counted from the example's first; [CLS] (0) where the window does
        not hold all of it, or there is none; IGNORE where no answer stands at its place, or none is known. `context` is 1 on tokens of the context.
        """
        question, context = self._texts(record)
        asked = tokenizer.text(question)[0]
        pieces, _, offsets = tokenizer.text(context)
        offsets = cover_marks(context, offsets)
        kept = asked[: self.max_question_length]
        layout, _ = tokenizer.wrap_pair(kept, np.full(1, -1, np.int32))
        before, capacity = int(np.argmax(layout == -1)), max_length - len(layout) + 1  # tokens before the context; places for it
        if capacity < 1:
            raise UserError(
                f"the question has {len(kept)} tokens, and with {len(layout) - 1 - len(kept)} special ones data.max_length={max_length} leaves no room for the "
                "context; raise data.max_length, or lower task.max_question_length"
            )
        span = self._span(record, context, offsets)
        result = []
        for start, end in windows(len(pieces), capacity=capacity, stride=self.stride):
            ids, types = tokenizer.wrap_pair(kept, pieces[start:end])
            inside = slice(before, before + end - start)
            mask, places = np.zeros(len(ids), np.int32), np.zeros((len(ids), 2), np.int32)
            mask[inside], places[inside] = 1, offsets[start:end]
            labels = (IGNORE, IGNORE) if span is None else (0, 0)
            if span and start <= span[0] and span[1] < end:
                labels = (before + span[0] - start, before + span[1] - start)
            result.append(
                Features(
                    {"input_ids": ids, "token_type_ids": types, "context": mask},
                    {name: np.asarray(label, np.int32) for name, label in zip(POSITIONS, labels, strict=True)},
                    host={"offsets": places},
                    num_cut=len(asked) - len(kept) if start == 0 else 0,
                )
            )
        return result

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return encoder.head(self.kind, len(self.labels), rngs=rngs)

    def loss(self, outputs: Float[Array, "R T 2"], batch: Batch) -> Terms:
        """The mean of the cross-entropies of start and end, as in Hugging Face, over the tokens of the example.

        All of them take part: question and special tokens too. Hugging Face's softmax over a padded batch also counts the padding; this one does not.
        """
        mine = _of_slots(batch)  # (R, S, T)
        terms = []
        for i, name in enumerate(POSITIONS):
            labels = jnp.where(batch[name] == IGNORE, IGNORE, batch["example_start"] + batch[name])  # (R, S), from the row's first token
            terms.append(cross_entropy(jnp.where(mine, outputs[:, None, :, i].astype(jnp.float32), NEVER), labels, ignore=IGNORE))
        (first, weight), (last, _) = terms
        return {"span": ((first + last) / 2, weight)}

    def predict(self, outputs: Float[Array, "R T 2"], batch: Batch) -> Predictions:
        """The best spans of each window, `n_best_size` of them, by the sum of both logits: first and last token from the example's first, -1 for no span.

        All spans of context tokens are looked at, up to `max_answer_length`. run_qa.py tries the 20 best starts with the 20 best ends alone, question
        tokens among them, so it may miss some. Logits, not log-probabilities, as there: they compare windows. "null" holds both logits of [CLS].
        """
        starts, ends = (jnp.where(batch["context"] > 0, outputs[..., i].astype(jnp.float32), -jnp.inf) for i in range(2))  # (R, T)
        row_length = starts.shape[1]
        longest = min(self.max_answer_length, row_length)
        last = np.arange(row_length)[:, None] + np.arange(longest)  # (T, A): a span's last token, by its first and its length
        is_inside, last = last < row_length, np.minimum(last, row_length - 1)
        same = batch["segment_ids"][:, last] == batch["segment_ids"][..., None]  # the next example of the row has a context too
        spans = jnp.where(same & is_inside, starts[..., None] + ends[:, last], -jnp.inf)  # (R, T, A)
        # The k best spans begin at the k tokens whose best span is best: any other token has k better ones before it.
        best, first = jax.lax.top_k(jnp.where(_of_slots(batch), spans.max(-1)[:, None], -jnp.inf), min(self.n_best_size, row_length))  # (R, S, K)
        found = jnp.where(best[..., None] > -jnp.inf, jax.vmap(lambda spans, first: spans[first])(spans, first), -jnp.inf)  # (R, S, K, A)
        found = found.reshape(*first.shape[:2], -1)
        score, place = jax.lax.top_k(found, min(self.n_best_size, found.shape[-1]))
        start = jnp.take_along_axis(first, place // longest, axis=-1)
        end = jnp.minimum(start + place % longest, row_length - 1)
        is_span = score > -jnp.inf
        zero = batch["example_start"]
        of_rows = jax.vmap(lambda logits, at: logits[at])
        return {
            "S": {
                "start": jnp.where(is_span, start - zero[..., None], -1),
                "end": jnp.where(is_span, end - zero[..., None], -1),
                "start_logit": jnp.where(is_span, of_rows(starts, start), 0.0),
                "end_logit": jnp.where(is_span, of_rows(ends, end), 0.0),
                "null": of_rows(outputs.astype(jnp.float32), zero),
            }
        }

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{"id", "question", "answer", "start", "end", "score", "probability", "nbest": [...]}`; offsets in characters of the context, 0 and 0 of no answer.

        nbest: the best answers of all windows, each place once, `{"text", "start", "end", "score", "probability", "start_logit", "end_logit"}`. The score is
        the sum of both logits, the probability a softmax of it over nbest. With version_2 "no answer" stands among them with the text "", its score that of
        the window which allows it least, and "no_answer_score" says how far it lies above the best text. "id" is there where the record has one. A context
        without tokens has the answer "".
        """
        question, context = self._texts(record)
        places: dict[tuple[int, int], tuple[float, float, float]] = {}  # score, start_logit, end_logit
        for feature, predicted in zip(features, predictions, strict=True):
            is_span = predicted["start"] >= 0
            offsets = feature.host["offsets"]
            starts, ends = offsets[predicted["start"][is_span], 0], offsets[predicted["end"][is_span], 1]
            first, last = predicted["start_logit"][is_span], predicted["end_logit"][is_span]
            rows = zip(zip(starts.tolist(), ends.tolist(), strict=True), (first + last).tolist(), first.tolist(), last.tolist(), strict=True)
            for place, *logits in rows:
                places[place] = max(places.get(place, (-np.inf, 0.0, 0.0)), tuple(logits))
        best = sorted(places.items(), key=lambda one: -one[1][0])[: self.n_best_size]
        found = [_answer(context, *place, *logits) for place, logits in best]
        answer = found[0] if found else _answer(context, 0, 0, 0.0, 0.0, 0.0)
        silent: dict[str, Any] = {}
        if self.version_2:
            null = _answer(context, 0, 0, *min((float(first + last), float(first), float(last)) for first, last in (one["null"] for one in predictions)))
            answer = found[0] if found else null
            silent["no_answer_score"] = null["score"] - answer["score"]
            found = sorted([*found, null], key=lambda one: -one["score"])
            if null in found[: self.n_best_size]:
                found = found[: self.n_best_size]
        if found:
            weights = np.exp(np.asarray([one["score"] for one in found]) - max(one["score"] for one in found))
            for one, probability in zip(found, (weights / weights.sum()).tolist(), strict=True):
                one["probability"] = probability
        named = {"id": record["id"]} if "id" in record else {}
        return {**named, "question": question, **_chosen(answer), **silent, "nbest": found}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """With version_2: the `no_answer_score` above which the answer is "", such that the main metric (F1, if that is the loss) is largest."""
        if not self.version_2:
            return {}
        scores, answers = [one["no_answer_score"] for one in decoded], [one["answer"] for one in decoded]
        return {NULL_THRESHOLD: best_threshold(scores, answers, self._answers(records), measure=self._measure, script=self._script)[0]}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        """The answer is "" where its score is above the threshold: the fitted one, or 0, which is run_qa.py's default."""
        changes: dict[str, Any] = {"nbest": [_rounded(one) for one in decoded["nbest"]]}
        if "no_answer_score" in decoded and decoded["no_answer_score"] > calibration.get(NULL_THRESHOLD, 0.0):
            changes |= _chosen(next(one for one in decoded["nbest"] if not one["text"]))
        return _rounded(decoded | changes)

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Exact match and F1 as the official script counts them, in fractions; with unanswerable questions also over those with and without an answer."""
        predictions, answers = [one["answer"] for one in decoded], self._answers(records)
        found = question_scores(predictions, answers, script=self._script)
        values = per_question(predictions, answers, script=self._script)[0 if self._measure == "exact_match" else 1]
        return found | interval(self._measure, *bootstrap_interval(weighted_mean(values), len(values))) | {"num_questions": len(answers)}

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        found = self.score(decoded, records, {})
        lines = [f"{'':14}{'exact match':>12}{'F1':>10}{'questions':>12}"]
        lines.append(f"{'all':14}{found['exact_match']:>12.4f}{found['f1']:>10.4f}{found['num_questions']:>12,}")
        if "no_answer_accuracy" in found:
            num_answered = int(has_answer(self._answers(records), script=self._script).sum())
            lines.append(f"{'with answer':14}{found['has_answer_exact_match']:>12.4f}{found['has_answer_f1']:>10.4f}{num_answered:>12,}")
            silent = found["no_answer_accuracy"]
            lines.append(f"{'without':14}{silent:>12.4f}{silent:>10.4f}{found['num_questions'] - num_answered:>12,}")
        return "\n".join(lines) + "\n" + interval_line(self._measure, found)

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Calibration by exact match; answers in their contexts: wrong ones, the surest first, then right ones."""
        answers = self._answers(records)
        exact, f1 = per_question([one["answer"] for one in decoded], answers, script=self._script)
        probability = np.asarray([one["probability"] for one in decoded])
        order = np.argsort(-probability, kind="stable")
        sections: list[Section] = [
            Reliability("Calibration", {"probability": curve(probability, exact == 1)}, note="The probability among the n best; right is an exact match.")
        ]
        for title, chosen in (("Wrong answers, the surest first", order[exact[order] < 1]), ("Right answers", order[exact[order] == 1])):
            roles = {i: "right" if exact[i] == 1 else "wrong" for i in chosen[:NUM_SHOWN].tolist()}
            passages = tuple(self._passage(records[i], decoded[i], role=role, f1=float(f1[i])) for i, role in roles.items())
            sections.append(Passages(title, passages, len(chosen)))
        return sections

    def _passage(self, record: Record, one: Mapping[str, Any], *, role: str, f1: float) -> Passage:
        """The answers in the part of the context around them."""
        context, gold = self._texts(record)[1], self._gold(record)
        spans = [(one["start"], one["end"], "given", role)] if one["answer"] else []
        places = [(start, start + len(text)) for text, start in zip(gold.texts, gold.starts, strict=True) if _stands(context, text, start)]
        spans += [(start, end, "gold", "gold") for start, end in places[:1] if role == "wrong"]  # a right answer may stand elsewhere, or in another one's words
        first = max(0, min((start for start, *_ in spans), default=0) - AROUND)
        last = min(len(context), max((end for _, end, *_ in spans), default=0) + AROUND)
        before, behind = "... " if first else "", " ..." if last < len(context) else ""
        moved = tuple(Span(start - first + len(before), end - first + len(before), label, role) for start, end, label, role in spans)
        given = repr(one["answer"]) if one["answer"] else "no answer"
        wanted = " or ".join(map(repr, dict.fromkeys(gold.texts))) or "no answer"
        caption = f"{one['question']} Given: {given} ({one['probability']:.4f}); gold: {wanted}; F1 {f1:.2f}"
        return Passage(caption, f"{before}{context[first:last]}{behind}", moved)

    def files(self, decoded: Sequence[dict[str, Any]]) -> dict[str, str]:
        """predictions.json and nbest_predictions.json, and with version_2 null_odds.json, as SQuAD's scripts and run_qa.py have them.

        A record without an id stands there under its number, from 0.
        """
        ids = [str(one.get("id", number)) for number, one in enumerate(decoded)]
        keys = ("text", "probability", "start_logit", "end_logit")
        contents: dict[str, list[Any]] = {
            "predictions.json": [one["answer"] for one in decoded],
            "nbest_predictions.json": [[{key: answer[key] for key in keys} for answer in one["nbest"]] for one in decoded],
        }
        if self.version_2:
            contents["null_odds.json"] = [one["no_answer_score"] for one in decoded]
        return {name: json.dumps(dict(zip(ids, values, strict=True)), indent=1, ensure_ascii=False) + "\n" for name, values in contents.items()}

    # ---- settings -------------------------------------------------------------------------------------------------------------------------------

    @property
    def _measure(self) -> Any:
        return "exact_match" if self.main_metric == "exact_match" else "f1"

    @property
    def _script(self) -> Script:
        return cast(Script, self.script)  # `resolve` looked

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def unlabelled(self, record: Record) -> Record:
        return without_columns(record, (self.label_column, "is_impossible"))

    def _texts(self, record: Record) -> list[str]:
        """Question and context. Raises UserError."""
        names = tuple(map(str, self.text_columns))
        if self.label_column not in record and not all(name in record for name in names) and all(name in record for name in COLUMNS):
            names = COLUMNS  # when predicting, whatever columns the training data has
        for name in names:
            if name not in record:
                asked = 'give {"question": "...", "context": "..."}, or set task.text_columns'
                raise UserError(f"no column {name!r}; found are {sorted(record)}; {asked}{nearest(name, record)}")
            if not isinstance(record[name], str):
                raise UserError(f"column {name!r} is {str(record[name])[:40]!r} ({type(record[name]).__name__}), expected text; write it as a string")
        return [record[name] for name in names]

    def _gold(self, record: Record) -> Gold:
        """A record's answers; an empty text is none. Raises UserError."""
        name = self.label_column
        if name not in record:
            raise UserError(f"no column {name!r}; found are {sorted(record)}; set task.label_column{nearest(name, record)}")
        value = record[name]
        texts, starts = (value.get(key) for key in ("text", "answer_start")) if isinstance(value, Mapping) else (None, None)
        if not isinstance(texts, Sequence) or not isinstance(starts, Sequence) or isinstance(texts, str) or len(texts) != len(starts):
            raise UserError(f'column {name!r} is {str(value)[:40]!r}, expected {{"text": [...], "answer_start": [...]}}, two lists of one length')
        for text, start in zip(texts, starts, strict=True):
            if not isinstance(text, str):
                raise UserError(f"an answer in {name!r} is {str(text)[:40]!r} ({type(text).__name__}), expected text; write it as a string")
            if not isinstance(start, int) or isinstance(start, bool):
                raise UserError(f"an answer_start in {name!r} is {str(start)[:40]!r}, expected a whole number: the answer's first character in the context")
        pairs = [(text, start) for text, start in zip(texts, starts, strict=True) if text]
        impossible = record.get("is_impossible")
        if impossible is not None and not isinstance(impossible, bool):
            raise UserError(f"column 'is_impossible' is {str(impossible)[:40]!r}, expected true or false")
        if impossible is not None and impossible == bool(pairs):
            raise UserError(f"is_impossible is {str(impossible).lower()}, but there are {len(pairs)} answers; mend one of the two")
        return Gold([text for text, _ in pairs], [start for _, start in pairs])

    def _all(self, source: Source) -> Iterator[tuple[int, str, Gold]]:
        """Number, context and answers of every record. Raises UserError with the record's place."""
        for i, record in enumerate(source):
            try:
                if not isinstance(record.get("id", ""), str | int):
                    raise UserError(f"column 'id' is {str(record['id'])[:40]!r}, expected a text or a whole number")
                context = self._texts(record)[1]
                gold = self._gold(record)
            except UserError as error:
                raise UserError(f"{source.where(i)}: {error}") from None
            yield i, context, gold

    def _answers(self, records: Source) -> list[list[str]]:
        return [self._gold(record).texts for record in records]

    def _span(self, record: Record, context: str, offsets: np.ndarray) -> tuple[int, int] | tuple[()] | None:
        """First and last token of the gold answer, `()` where the question has none, None where its place is not known."""
        if self.label_column not in record:
            return None
        gold = self._gold(record)
        if not gold.texts:
            return ()
        place = next(((start, start + len(text)) for text, start in zip(*gold, strict=True) if _stands(context, text, start)), None)
        if place is None:
            return None
        # The first token that ends behind the answer's first character, and the last one that begins before its end.
        first = int(np.searchsorted(offsets[:, 1], place[0], side="right"))
        last = int(np.searchsorted(offsets[:, 0], place[1], side="left")) - 1
        return (first, last) if first <= last else None  # an answer of blanks has no tokens


def windows(num_tokens: int, *, capacity: int, stride: int) -> list[tuple[int, int]]:
    """Ranges `[start, end)` of at most `capacity` tokens that cover all, each with the last `stride` of the one before, as `tokenizers` cuts with a stride.

    A stride of more than half the capacity would make windows without number: half is the most.
    """
    stride = min(stride, capacity // 2)
    return [(start, min(start + capacity, num_tokens)) for start in range(0, max(1, num_tokens - stride), capacity - stride)]


def _of_slots(batch: Batch) -> Bool[Array, "R S T"]:
    """Which tokens of its row belong to a slot's example."""
    num_slots = batch["example_start"].shape[1]
    found: Bool[Array, "R S T"] = batch["segment_ids"][:, None] == jnp.arange(1, num_slots + 1)[:, None]
    return found


def _stands(context: str, text: str, start: int) -> bool:
    return start >= 0 and context.startswith(text, start)


def _answer(context: str, start: int, end: int, score: float, start_logit: float, end_logit: float) -> dict[str, Any]:
    """An entry of nbest; its probability is filled in when all are known."""
    return {
        "text": context[start:end],
        "start": start,
        "end": end,
        "score": score,
        "probability": 0.0,
        "start_logit": start_logit,
        "end_logit": end_logit,
    }


def _chosen(one: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of the answer that it gives."""
    return {"answer": one["text"], **{key: one[key] for key in ("start", "end", "score", "probability")}}


def _rounded(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in one.items()}
