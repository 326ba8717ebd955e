"""Sentence embeddings: one vector a text, so that alike texts lie close. Search, similarity of pairs, texts of one label."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxft import baseline
from flaxft.data.base import Batch, Features, Field, Record, Source, Tokenizer
from flaxft.data.kinds import Columns
from flaxft.data.labels import label_column, label_name, without_columns
from flaxft.data.memory import Given
from flaxft.data.splits import open_records, part, paths
from flaxft.data.texts import check_columns, named, text_columns, text_tokens, texts_of
from flaxft.errors import UserError, nearest
from flaxft.metrics.confidence import bootstrap_interval, weighted_mean, weighted_pearson, weighted_spearman
from flaxft.metrics.ranking import embeddings_per_query, mean_scores, per_query
from flaxft.metrics.regression import pearson, spearman
from flaxft.models.base import Checkpoint, Encoder, EncoderOutput
from flaxft.models.heads import mean_of_tokens
from flaxft.ops.losses import squared_error
from flaxft.tasks.base import NUM_SHOWN, Claim, Predictions, Scatter, Section, Table, Terms, cut_text, interval, interval_line

IN_BATCH, COSINE = OBJECTIVES = ("in_batch", "cosine")
POOLINGS = ("mean", "cls")
PAIR = ("anchor", "positive")  # sentence-transformers' names of a pair, and "negative"; others are in data/texts.py
SCORES = ("score", "similarity", "similarity_score", "label")  # of a pair
LABELS = ("label", "labels", "category", "intent")  # of one text
KS = (1, 5, 10)
CORRELATIONS = ("spearman", "pearson")
RETRIEVAL = ("mrr", *(f"recall@{k}" for k in KS), "accuracy@1")
NONE, ANCHOR, POSITIVE, NEGATIVE, LABELLED = range(-1, 4)  # what a text is to the loss
NUM_FEATURES = 1024  # of words, and of letters, of the baseline's vectors
CHUNK = 512  # queries whose similarities to all texts are held at once


@dataclasses.dataclass
class SentenceEmbedding:
    """Records are pairs of texts that belong together, pairs with a score of how alike they are, or single texts with a label.

    Pairs that belong together (`objective="in_batch"`): each first text shall find its own second text among the second texts, and hard negatives, of the
    whole step: cross-entropy over similarity / temperature (Henderson et al. 2017, arXiv 1705.00652; MultipleNegativesRankingLoss of sentence-transformers). A
    text that stands in two pairs of a step counts as wrong for the other one. Texts with a label: the texts of the step with the same label are positives, all
    others negatives, the mean over a text's positives outside of the logarithm (Khosla et al. 2020, arXiv 2004.11362, equation 2); a text that has no positive
    in the step is only a negative, so a step should hold at least two texts a label. This needs no choice of pairs and reads each text once an epoch.
    Pairs with a score (`objective="cosine"`): squared error of the cosine and score / scale (Reimers and Gurevych 2019, arXiv 1908.10084).

    An empty text is a text: the embedding of [CLS] [SEP].
    """

    kind: ClassVar[str] = "embedding"
    problem_type: ClassVar[str | None] = None
    labels: ClassVar[tuple[str, ...]] = ()
    # The vectors themselves are the outcome, and a high rate undoes what pretraining made of them: Sentence-BERT trains base models with 2e-5.
    rate_factor: ClassVar[float] = 0.3

    train: Given = ""
    """Where the training records are: a file such as pairs.jsonl, or hub:NAME/SUBSET@REVISION."""
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
    """The two columns of a pair, or the one beside a label; empty looks for anchor and positive, text, sentence, sentence1 and sentence2, ..."""
    negative_columns: tuple[str, ...] = ()
    """The columns of hard negatives of a pair's first text; empty looks for negative beside anchor and positive."""
    score_column: str = ""
    """The column that says how alike a pair is; empty looks for score, similarity, similarity_score, label. With in_batch it says how splits beside
    train are scored."""
    label_column: str = ""
    """The column of a single text's label; empty looks for label, labels, category, intent."""
    objective: str | None = None
    """The loss: in_batch (find the own partner among all texts of the step) or cosine (hit the score). None is cosine where pairs have a score, else
    in_batch."""
    scale: float | None = None
    """The score that is a cosine of 1, such as 5 where scores go from 0 to 5; none takes 1 where all scores are within 1, else the largest one."""
    temperature: float = 0.05
    """What similarities are divided by in in_batch; sentence-transformers calls 1 / temperature the scale, and takes 20 too."""
    symmetric: bool = False
    """Whether in in_batch the second text of a pair shall find the first one as well."""
    pooling: str | None = None
    """How the tokens of a text become one vector: mean of all of them, [CLS] and [SEP] included, as sentence-transformers does; or cls, the first one.
    None takes what the modules.json of the model says, and mean where there is none."""
    normalize: bool | None = None
    """Whether embeddings have length 1, so that a similarity is a cosine; else it is a dot product. None is true, but for a model that is applied without
    training and whose modules.json does not normalise."""
    main_metric: str = ""
    """The metric that picks the best checkpoint: spearman, pearson, mrr, recall@1, recall@5, recall@10, accuracy@1 or -loss. Empty is spearman for
    scored pairs, else mrr."""

    @property
    def decomposes(self) -> bool:
        return self.objective == COSINE  # negatives come from the whole step

    @classmethod
    def claim(cls, columns: Columns) -> Claim | None:
        """Pairs of an anchor and its positive: no other layout says by itself that embeddings are meant, and not labels."""
        names = tuple(columns.named(name) for name in ("anchor", "positive"))
        return Claim(0.9, {"text_columns": names}, f"pairs that belong together in {names[0]!r} and {names[1]!r}") if all(names) else None

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of a split. Raises UserError; a text, score or label that is none is found here."""
        source = self._open(split, max_examples)
        self._check_records(source, split)
        return source

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> SentenceEmbedding:
        """Fills in columns, objective, scale and main metric from the first split that there is. Raises UserError."""
        self._check_settings()
        log = logging.getLogger("flaxft")
        pooling = self._pooling_of(checkpoint, log)
        split = next(iter(self.splits()), None)
        if split is None:  # only embeds
            task = dataclasses.replace(self, objective=self.objective or IN_BATCH)
        else:
            source = self._open(split, max_examples)
            try:
                task = self._with_columns(source[0])
            except UserError as error:
                raise UserError(f"{source.name}: {error}") from None
            task._check_records(source, split)
            task = task._with_scale(source)
            if split == "train":
                task._check_train(source)
        allowed = (*(CORRELATIONS if task.score_column else RETRIEVAL), "-loss")
        metric = task.main_metric or allowed[0]
        if metric not in allowed:
            raise UserError(f"task.main_metric is {metric!r}{nearest(metric, allowed)}; allowed are {list(allowed)}, or empty for {allowed[0]}")
        normalize = task.normalize
        if normalize is None:
            is_as_saved = "train" not in task.splits() and task.objective != COSINE
            normalize = checkpoint.modules.normalize if checkpoint.modules is not None and is_as_saved else True
        return dataclasses.replace(task, main_metric=metric, pooling=pooling, normalize=normalize)

    def spec(self) -> dict[str, Field]:
        fields = {"role": Field("S", (), "int32", NONE)}
        if self.label_column:
            fields["label"] = Field("S", (2,), "int32", 0)  # 64 bits of a hash: a label that only a later split has needs no number of its own
        if self.objective == COSINE:
            fields["similarity"] = Field("S", (), "float32", 0.0)
        return fields

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """One a text: of a pair two, and one more for each hard negative, in one group. A text is cut at its end; `num_cut` says how much."""
        found = []
        for text, role in self._texts(record):
            tokens, num_cut = text_tokens([text], tokenizer, max_length=max_length)
            # What no loss couples is no group: the documents of a query need not fit one batch.
            found.append(Features(tokens, self._example(record, role), group=0 if role in (ANCHOR, POSITIVE, NEGATIVE) else -1, num_cut=num_cut))
        return found

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        return features

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        return Pooling(self.pooling or "mean", normalize=self.normalize is not False)

    def loss(self, outputs: Float[Array, "R S D"], batch: Batch) -> Terms:
        """Over all R S slots of the batch: across its rows, and across devices, since the arrays are the global ones."""
        vectors = outputs.reshape(-1, outputs.shape[-1])  # (R S, D)
        role = jnp.where(batch["example_weight"] > 0, batch["role"], NONE).reshape(-1)
        group = batch["example_group"].reshape(-1)
        if self.objective == COSINE:
            anchors = jax.ops.segment_sum(jnp.where(role[:, None] == ANCHOR, vectors, 0.0), group, num_segments=len(group))  # by group
            similarity = jnp.sum(anchors[group] * vectors, -1)
            return {"embedding": squared_error(similarity, batch["similarity"].reshape(-1), weights=(role == POSITIVE).astype(jnp.float32))}

        def between(one: int, other: int) -> Array:
            return (role[:, None] == one) & (role[None, :] == other)

        # candidates[i, j]: i looks for its positives among all such j
        if self.label_column:
            label = batch["label"].reshape(-1, 2)
            candidates = between(LABELLED, LABELLED) & ~jnp.eye(len(role), dtype=bool)
            positives = candidates & (label[:, None] == label[None, :]).all(-1)
        else:
            candidates = between(ANCHOR, POSITIVE) | between(ANCHOR, NEGATIVE)
            if self.symmetric:
                candidates |= between(POSITIVE, ANCHOR)
            positives = candidates & (group[:, None] == group[None, :]) & (role[None, :] != NEGATIVE)
        # in full precision, which on some accelerators has to be asked for: the temperature makes an error 20 times as large
        similarity = jnp.matmul(vectors, vectors.T, precision="highest")
        log_probability = jax.nn.log_softmax(jnp.where(candidates, similarity / self.temperature, -1e9), axis=-1)
        num_positives = positives.sum(-1)
        each = -jnp.sum(jnp.where(positives, log_probability, 0.0), -1) / jnp.maximum(num_positives, 1)
        return {"embedding": (each.sum(), jnp.sum(num_positives > 0).astype(jnp.float32))}

    def predict(self, outputs: Float[Array, "R S D"], batch: Batch) -> Predictions:
        return {"S": {"embedding": outputs}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> Embedded:
        """Of a text `{"text", "embedding": [D numbers]}`; of a pair `{"text", "text_pair", "similarity"}`; of a query with documents
        `{"query", "documents": [{"text", "index", "score"}, ...]}`, the most similar first, index being its place among those given."""
        texts = [text for text, _ in self._texts(record)]
        vectors = np.stack([np.asarray(one["embedding"], np.float32) for one in predictions])  # (num_texts, D)
        similarity = vectors[1:] @ vectors[0]
        if _is_search(record):
            documents = [{"text": texts[i + 1], "index": int(i), "score": float(similarity[i])} for i in np.argsort(-similarity, kind="stable")]
            return Embedded({"query": texts[0], "documents": documents}, vectors=vectors)
        if len(texts) == 1:
            return Embedded({"text": texts[0], "embedding": vectors[0].tolist()}, vectors=vectors)
        return Embedded(named(texts[:2]) | {"similarity": float(similarity[0])}, vectors=vectors)

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        return {}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> Embedded:
        assert isinstance(decoded, Embedded), "what decode gave"
        rounded: dict[str, Any] = dict(decoded)
        if "embedding" in decoded:
            rounded["embedding"] = [round(number, 6) for number in decoded["embedding"]]
        if "similarity" in decoded:
            rounded["similarity"] = round(decoded["similarity"], 6)
        if "documents" in decoded:
            rounded["documents"] = [one | {"score": round(one["score"], 6)} for one in decoded["documents"]]
        return Embedded(rounded, vectors=decoded.vectors)

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Of scored pairs Spearman's and Pearson's correlation of similarity and score.

        Else `recall@k`, `mrr`, `accuracy@1` (how often the first document is a relevant one) and `num_queries`. Pairs: each record's first text is a query;
        documents are all second texts and hard negatives of the split, equal ones once; relevant are the second texts that stand beside the query's text.
        Labelled texts: each text whose label another one has is a query; documents are all other texts of the split; relevant are those with its label.
        """
        main = self.main_metric if self.main_metric != "-loss" else ""
        if self._is_scored(records):
            gold, found = self._gold_and_found(decoded, records)
            statistic = weighted_pearson if main == "pearson" else weighted_spearman
            low, high = bootstrap_interval(statistic(gold, found), len(records))
            return {"spearman": spearman(gold, found), "pearson": pearson(gold, found)} | interval(main or "spearman", low, high)
        search = self._search(decoded, records)
        main = main if main in RETRIEVAL else "mrr"
        values = dict(zip(RETRIEVAL, (search.reciprocal_rank, *search.recall.T, search.is_first), strict=True))
        low, high = bootstrap_interval(weighted_mean(values[main]), len(values[main]))
        scores = mean_scores(search.recall, search.reciprocal_rank, ks=KS)
        accuracy = float(search.is_first.mean()) if len(search.is_first) else 0.0
        return scores | {"accuracy@1": accuracy, "num_queries": len(search.is_first)} | interval(main, low, high)

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        scores = self.score(decoded, records, {})
        main = next(name.partition("/")[0] for name in scores if "/" in name)
        lines = [f"{name:<12} {value:.4f}" for name, value in scores.items() if "/" not in name and not name.startswith("num_")]
        if "num_queries" in scores:
            lines.append(f"{scores['num_queries']} queries")
        return "\n".join(lines) + "\n" + interval_line(main, scores)

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Of scored pairs similarity by score, of at most 2,000, and those that lie furthest from their rank; of a search nothing yet."""
        if not self._is_scored(records):
            return []
        gold, found = self._gold_and_found(decoded, records)
        apart = np.abs(gold.argsort(kind="stable").argsort(kind="stable") - found.argsort(kind="stable").argsort(kind="stable"))
        worst = np.argsort(-apart, kind="stable").tolist()
        drawn = slice(None, None, -(-len(gold) // 2000) or 1)
        rows = [(cut_text(decoded[i]["text"]), cut_text(decoded[i]["text_pair"]), float(gold[i]), float(found[i])) for i in worst[:NUM_SHOWN]]
        return [
            Scatter("Similarity and score", tuple(gold[drawn].tolist()), tuple(found[drawn].tolist())),
            Table("Pairs furthest from their rank", ("text", "other text", "score", "similarity"), tuple(rows), total=len(worst)),
        ]

    def baselines(self, records: Sequence[Record]) -> list[baseline.Baseline]:
        """Texts are as alike as their TF-IDF vectors, of few enough features for all texts of a split to be compared."""
        features = baseline.TextFeatures([[text] for record in records for text, _ in self._texts(record)], num_features=NUM_FEATURES)

        def predict(records: Sequence[Record]) -> list[dict[str, Any]]:
            vectors = [features.single([text for text, _ in self._texts(record)]).toarray() for record in records]
            return [self.decode(record, (), [{"embedding": vector} for vector in own]) for record, own in zip(records, vectors, strict=True)]

        return [baseline.Baseline(baseline.COSINE, predict, len(records))]

    # ---- settings -------------------------------------------------------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        check_columns(self.text_columns)
        for name, allowed in (("objective", (*OBJECTIVES, None)), ("pooling", (*POOLINGS, None))):
            value = getattr(self, name)
            if value not in allowed:
                raise UserError(f"task.{name} is {value!r}{nearest(str(value), [one for one in allowed if one])}; allowed are {list(allowed)}")
        for name in ("temperature", "scale"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise UserError(f"task.{name} is {value}, expected a positive number")
        if self.objective == COSINE and self.normalize is False:
            raise UserError("task.objective is 'cosine', which needs embeddings of length 1; leave task.normalize true, or use in_batch")

    def _pooling_of(self, checkpoint: Checkpoint, log: logging.Logger) -> str:
        """The setting, or what the model's own modules say. Raises UserError for modules that are not computed here: without them the vectors are others."""
        modules = checkpoint.modules
        if modules is None:
            return self.pooling or "mean"
        if self.pooling is not None:
            left_out = [*([f"pooling by {modules.pooling}"] if modules.pooling not in (None, self.pooling) else []), *modules.others]
            if left_out:
                log.warning("%s: task.pooling=%s leaves out what its modules.json has: %s", checkpoint.name, self.pooling, ", ".join(left_out))
            return self.pooling
        mend = "take a checkpoint without, or set task.pooling to mean or cls to leave it out and go on from the encoder"
        if modules.others:
            raise UserError(f"{checkpoint.name}: its sentence-transformers modules have {', '.join(modules.others)}, which flaxft does not compute; {mend}")
        if modules.pooling not in (*POOLINGS, None):
            raise UserError(f"{checkpoint.name}: its modules.json pools by {modules.pooling}, which flaxft does not; {mend}")
        log.info("%s: pooled by %s, as its modules.json says", checkpoint.name, modules.pooling or "mean")
        return modules.pooling or "mean"

    def _with_columns(self, record: Record) -> SentenceEmbedding:
        """A copy with the columns and the objective that its first record says. Raises UserError."""
        is_named_pair = not self.text_columns and all(name in record for name in PAIR)
        columns = PAIR if is_named_pair else text_columns(record, self.text_columns, allow_raw=False)
        if len(columns) == 1:
            return self._with_labels(record, columns)
        if self.label_column:
            raise UserError(f"task.label_column is for single texts, but {' and '.join(columns)} are a pair; leave it empty, or name one task.text_columns")
        score, objective = self.score_column, self.objective
        if objective != IN_BATCH:
            score = score or next((name for name in SCORES if name in record), "")
            if (objective == COSINE or score) and score not in record:
                asked = f"no column {score!r}" if score else "no column of scores"
                hint = nearest(score, record) if score else ""
                raise UserError(f"{asked}; found are {sorted(record)}; set task.score_column{hint}, or task.objective=in_batch")
            objective = COSINE if score else IN_BATCH
        negatives = self.negative_columns or (("negative",) if is_named_pair and objective == IN_BATCH and "negative" in record else ())
        if objective == COSINE and (negatives or self.symmetric):
            name = "negative_columns" if negatives else "symmetric"
            raise UserError(f"task.{name} is for task.objective=in_batch, but pairs with a score learn by cosine; leave it out, or set the objective")
        missing = next((name for name in negatives if name not in record), None)
        if missing is not None:
            raise UserError(f"no column {missing!r}; found are {sorted(record)}; set task.negative_columns{nearest(missing, record)}")
        return dataclasses.replace(self, text_columns=columns, negative_columns=negatives, score_column=score, objective=objective)

    def _with_labels(self, record: Record, columns: tuple[str, ...]) -> SentenceEmbedding:
        """Single texts: the columns are one. Raises UserError."""
        for name, value in (("negative_columns", self.negative_columns), ("score_column", self.score_column), ("symmetric", self.symmetric)):
            if value:
                raise UserError(f"task.{name} is for pairs of texts, but the text is {columns[0]!r} alone; leave it out, or name two task.text_columns")
        if self.objective == COSINE:
            raise UserError(f"task.objective is 'cosine', which needs pairs, but the text is {columns[0]!r} alone; name two task.text_columns, or use in_batch")
        label = self.label_column or next((name for name in LABELS if name in record), "")
        if label not in record:
            asked = f"no column {label!r}{nearest(label, record)}" if label else "one column of text and none of labels"
            raise UserError(f"{asked}; found are {sorted(record)}; set task.label_column, or for pairs two task.text_columns")
        return dataclasses.replace(self, text_columns=columns, label_column=label, objective=IN_BATCH)

    def _with_scale(self, source: Source) -> SentenceEmbedding:
        if self.objective != COSINE or self.scale is not None:
            return self
        largest = max(abs(self._score(record)) for record in source)
        return dataclasses.replace(self, scale=max(1.0, largest))

    def _check_train(self, source: Source) -> None:
        """Something must be there to be told apart. Raises UserError."""
        if self.objective == COSINE:
            score = self._score(source[0])
            if all(self._score(record) == score for record in source):
                raise UserError(f"{source.name}: every pair has the score {score}; for pairs that all belong together set task.objective=in_batch")
        elif self.label_column:
            num_labels = len({self._label(record) for record in source})
            if num_labels == 1:
                raise UserError(f"{source.name}: every record has the label {self._label(source[0])!r}; expected at least two labels to tell apart")
            if num_labels == len(source):
                raise UserError(f"{source.name}: no two records share a label in {self.label_column!r}; expected texts that belong together")

    # ---- records --------------------------------------------------------------------------------------------------------------------------------

    def _open(self, split: str, max_examples: int | None) -> Source:
        """The records of a split. Pairs of one anchor are on one side, where a split is a share."""
        source = open_records(self, split, format=self.format, max_examples=max_examples)
        task = self if self.text_columns else self._with_columns(source[0])
        labels = (lambda record: [task._label(record)]) if task.label_column else None
        return part(source, self, split, key=lambda record: task._texts(record)[0][0], labels=labels, max_examples=max_examples)

    def _check_records(self, source: Source, split: str) -> None:
        for i, record in enumerate(source):
            try:
                texts_of(record, (*self.text_columns, *self.negative_columns), allow_raw=False)
                if self.objective == COSINE or (self.score_column and split != "train"):
                    self._score(record)
                if self.label_column:
                    self._label(record)
            except UserError as error:
                raise UserError(f"{source.where(i)}: {error}") from None

    def unlabelled(self, record: Record) -> Record:
        return without_columns(record, [name for name in (self.score_column, self.label_column) if name])

    def _texts(self, record: Record) -> list[tuple[str, int]]:
        """The texts of a record, and what each is to the loss. Raises UserError.

        Beside those of the data, records may be `{"text"}`, `{"text", "text_pair"}` and `{"query", "documents": [...]}`, which no loss counts.
        """
        if _is_search(record):
            documents = record["documents"]
            if not isinstance(documents, list | tuple) or not documents:
                raise UserError(f'"documents" is {str(documents)[:40]!r} ({type(documents).__name__}), expected a list of at least one text')
            texts = texts_of(record, ("query",), allow_raw=False) + [texts_of({"documents": one}, ("documents",), allow_raw=False)[0] for one in documents]
            return [(text, NONE) for text in texts]
        is_here = bool(self.text_columns) and all(name in record for name in self.text_columns)
        if is_here and len(self.text_columns) == 2 and (self.objective != COSINE or self.score_column in record):
            negatives = tuple(name for name in self.negative_columns if name in record)
            texts = texts_of(record, (*self.text_columns, *negatives), allow_raw=False)
            return list(zip(texts, (ANCHOR, POSITIVE, *(NEGATIVE for _ in negatives)), strict=True))
        if is_here and self.label_column in record:
            return [(texts_of(record, self.text_columns, allow_raw=False)[0], LABELLED)]
        raw = next((columns for columns in (("text", "text_pair"), ("text",)) if all(name in record for name in columns)), None)
        columns = raw if raw and (not is_here or set(self.text_columns) <= set(raw)) else self.text_columns
        return [(text, NONE) for text in texts_of(record, columns, allow_raw=False)]

    def _example(self, record: Record, role: int) -> dict[str, np.ndarray]:
        example = {"role": np.asarray(role, np.int32)}
        if self.label_column:
            digest = hashlib.sha256(self._label(record).encode()).digest() if role == LABELLED else bytes(8)
            example["label"] = np.frombuffer(digest[:8], "<i4").astype(np.int32)
        if self.objective == COSINE:
            example["similarity"] = np.asarray(self._score(record) / (self.scale or 1.0) if role != NONE else 0.0, np.float32)
        return example

    def _score(self, record: Record) -> float:
        """How alike a pair is; a number, or a text that holds one, as CSV cells do."""
        column, value = self.score_column, record.get(self.score_column)
        try:
            score = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if not math.isfinite(score):
            what = f"column {column!r} is {str(value)[:40]!r} ({type(value).__name__})" if column in record else f"no column {column!r}"
            raise UserError(f"{what}, expected a number: how alike the two texts are; set task.score_column, or task.objective=in_batch for pairs without one")
        return score

    def _label(self, record: Record) -> str:
        column = label_column(record, self.label_column, LABELS)
        return label_name(record[column], (), column=column)

    # ---- scores ---------------------------------------------------------------------------------------------------------------------------------

    def _is_scored(self, records: Source) -> bool:
        return bool(self.score_column) and self.score_column in records[0]

    def _gold_and_found(self, decoded: Sequence[dict[str, Any]], records: Source) -> tuple[np.ndarray, np.ndarray]:
        """Score and similarity of each pair, float (num_records,) each."""
        return np.asarray([self._score(record) for record in records]), np.asarray([one["similarity"] for one in decoded], float)

    def _search(self, decoded: Sequence[dict[str, Any]], records: Source) -> _Search:
        texts = [[text for text, _ in self._texts(record)] for record in records]
        vectors = [_vectors(one) for one in decoded]
        if self.label_column:
            return _search_by_label(np.concatenate(vectors), [self._label(record) for record in records])
        numbers: dict[str, int] = {}  # of each distinct document
        relevant: dict[str, list[int]] = {}  # query -> documents
        documents = []
        for (query, *found), (_, *of_found) in zip(texts, vectors, strict=True):
            for text, vector in zip(found, of_found, strict=True):
                if text not in numbers:
                    numbers[text] = len(numbers)
                    documents.append(vector)
            relevant.setdefault(query, []).append(numbers[found[0]])
        wanted = [np.unique(relevant[query]) for query, *_ in texts]
        recall, reciprocal_rank = embeddings_per_query(np.stack([one[0] for one in vectors]), np.stack(documents), wanted, ks=KS)
        return _Search(recall, reciprocal_rank, (reciprocal_rank == 1).astype(float))


class Embedded(dict[str, Any]):
    """A result, with the embeddings (num_texts, D) that it was made of: they are scored with, and not written."""

    def __init__(self, content: Mapping[str, Any], *, vectors: np.ndarray):
        super().__init__(content)
        self.vectors = vectors


class Pooling(nnx.Module):
    """One vector an example from its own tokens, float32; no parameters. That of an empty slot is 0, or means nothing."""

    def __init__(self, pooling: str, *, normalize: bool):
        self.pooling, self.normalize = pooling, normalize

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> Float[Array, "R S D"]:
        hidden = output.hidden.astype(jnp.float32)
        if self.pooling == "cls":
            vectors = jnp.take_along_axis(hidden, batch["example_start"][..., None], axis=1)
        else:
            vectors = mean_of_tokens(hidden, batch)
        if not self.normalize:
            return vectors
        # The bound is inside the root: of a vector of 0 the length has no slope, and the gradient would not be a number.
        return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(vectors), -1, keepdims=True), 1e-24))


class _Search(NamedTuple):
    """By query."""

    recall: np.ndarray  # (num_queries, len(KS))
    reciprocal_rank: np.ndarray  # (num_queries,)
    is_first: np.ndarray  # (num_queries,) 1.0 where the first document is a relevant one


def _search_by_label(vectors: np.ndarray, labels: Sequence[str]) -> _Search:
    """Each text looks for the others of its label among all others; one that has none does not look."""
    names, label = np.unique(labels, return_inverse=True)
    queries = np.flatnonzero(np.bincount(label, minlength=len(names))[label] > 1)
    recall, reciprocal_rank = [np.zeros((0, len(KS)))], [np.zeros(0)]
    for start in range(0, len(queries), CHUNK):
        some = queries[start : start + CHUNK]
        similarity = vectors[some] @ vectors.T
        relevant = label[some, None] == label[None, :]
        # last of all, and not relevant: a text does not find itself
        similarity[np.arange(len(some)), some], relevant[np.arange(len(some)), some] = -np.inf, False
        part = per_query(similarity, relevant, ks=KS)
        recall.append(part[0])
        reciprocal_rank.append(part[1])
    ranks = np.concatenate(reciprocal_rank)
    return _Search(np.concatenate(recall), ranks, (ranks == 1).astype(float))


def _vectors(one: dict[str, Any]) -> np.ndarray:
    assert isinstance(one, Embedded), "what calibrated gave"
    return one.vectors


def _is_search(record: Record) -> bool:
    return "query" in record and "documents" in record
