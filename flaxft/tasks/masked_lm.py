"""Masked language modelling (Devlin et al. 2018, arXiv 1810.04805): to pretrain an encoder, to continue on your own text, to fill a mask."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxft.data.base import IGNORE, Batch, Features, Field, Record, Source, Tokenizer
from flaxft.data.folders import files_of
from flaxft.data.formats import suffix_of
from flaxft.data.memory import Given
from flaxft.data.source import checked
from flaxft.data.splits import open_split, paths, share
from flaxft.data.texts import texts_of
from flaxft.errors import UserError, nearest
from flaxft.metrics.confidence import bootstrap_interval, weighted_ratio
from flaxft.models.base import Checkpoint, Encoder
from flaxft.models.heads import MlmOutputs
from flaxft.ops.losses import cross_entropy
from flaxft.tasks.base import Predictions, Terms, interval, interval_line

METRICS = ("-loss", "-perplexity", "masked_accuracy")
ASKED = -1  # the label of a [MASK] that stood in the text: it is filled, and no loss counts it
NUM_CANDIDATES = 5  # pieces that are offered for a mask
PLAIN_TEXT = (".txt", ".md", ".text")


@dataclasses.dataclass
class MaskedLm:
    """Records are texts: a line of a text file each, or a column. A text longer than an example becomes several examples, and nothing is lost."""

    kind: ClassVar[str] = "mlm"
    problem_type: ClassVar[str | None] = None
    decomposes: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ()

    train: Given = ""
    """Where the training records are: a file such as texts.txt, or hub:NAME/SUBSET@REVISION."""
    validation: Given | None = None
    """Where the validation records are, written as `train` is; it picks the best checkpoint. A share such as 10% is taken out of the train split, by a hash
    of the text. None takes 10% where the train split has 100 records, and an empty text has none."""
    test: Given = ""
    """Where the test records are, written as `train` is, or a share of the train split such as 10%; empty for none. It is scored once, at the end."""
    group_column: str = ""
    """A column whose records stay together, such as author or document, where validation or test is a share of the train split."""
    format: str | None = None
    """How files are read: text (one text a line), jsonl, csv, tsv or parquet. None goes by the suffix of each file, where .txt and .md are text."""
    text_columns: tuple[str, ...] = ()
    """The column of the text; empty looks for text, sentence."""
    mask_probability: float = 0.15
    """The share of an example's tokens that are predicted; at least one token is."""
    mask_share: float = 0.8
    """The share of the predicted tokens that become [MASK]."""
    random_share: float = 0.1
    """The share of the predicted tokens that become another piece, drawn evenly; what neither this nor mask_share takes stays as it is."""
    whole_words: bool = True
    """Whether all pieces of a word are predicted together or none, in place of each piece by itself."""
    pieces: str = ""
    """The tokenizer's vocabulary, one piece a line, by number. A run fills it in, so that what is saved can name what it predicts."""
    mask_id: int = -1
    """The number of [MASK] in the vocabulary. A run fills it in."""
    main_metric: str = "-loss"
    """The metric that picks the best checkpoint: -loss, -perplexity or masked_accuracy; - says that smaller is better."""

    def splits(self) -> dict[str, str]:
        return paths(self)

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        path = self.train if share(self, split) else getattr(self, split)
        whole = "train" if share(self, split) else split
        first = path if isinstance(path, str) and not os.path.isdir(path) else files_of(path, split=whole)[0] if isinstance(path, str | tuple) else ""
        plain = suffix_of(first) in PLAIN_TEXT
        source = open_split(self, split, key=self._text, format=self.format or ("text" if plain else None), max_examples=max_examples)
        return checked(source, self._text)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> MaskedLm:
        """Fills in the vocabulary. Raises UserError."""
        if len(self.text_columns) > 1:
            raise UserError(f"task.text_columns names {len(self.text_columns)} columns ({list(self.text_columns)}); a masked language model reads one")
        if not 0.0 < self.mask_probability < 1.0:
            raise UserError(f"task.mask_probability is {self.mask_probability}, expected a number between 0 and 1, such as 0.15")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            raise UserError(f"task.mask_share is {self.mask_share} and task.random_share {self.random_share}; expected two shares whose sum is at most 1")
        if self.main_metric not in METRICS:
            raise UserError(f"task.main_metric is {self.main_metric!r}{nearest(self.main_metric, METRICS)}; allowed are {list(METRICS)}")
        if tokenizer.mask_id is None:
            raise UserError(f"the tokenizer of {checkpoint.name} has no [MASK] or <mask>; use one that has")
        return dataclasses.replace(self, pieces="\n".join(tokenizer.pieces), mask_id=tokenizer.mask_id)

    def spec(self) -> dict[str, Field]:
        return {"labels": Field("T", (), "int32", IGNORE)}

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """Windows without overlap, masked by a rule that depends on their content alone: an evaluation sees the same masks each time.

        Where the text holds the tokenizer's own mask ("Paris is the [MASK] of France."), these are what is predicted, and nothing else is. No more than
        `mask_probability` of a window is ever labelled, which the head counts on; so a text with more masks stands in several features, some masks in each.
        """
        ids, words = tokenizer.masked_text(self._text(record))
        capacity = max_length - tokenizer.num_special
        has_mask = bool((ids == self.mask_id).any())
        result = []
        for start in range(0, max(1, len(ids)), capacity):
            window = ids[start : start + capacity]
            around = np.full(tokenizer.num_prefix, -1, np.int32)
            whole = tokenizer.wrap(window)
            word_ids = np.concatenate([around, words[start : start + capacity], np.full(len(whole) - len(around) - len(window), -1, np.int32)])
            host = {"ids": whole, "words": word_ids}
            if not has_mask:
                result.append(self._masked(Features({}, {}, host=host), np.random.default_rng(np.abs(whole))))
                continue
            at = np.flatnonzero((whole == self.mask_id) & (word_ids >= 0))
            for some in np.array_split(at, max(1, math.ceil(len(at) / self._budget(len(whole))))):
                labels = np.full(len(whole), IGNORE, np.int32)
                labels[some] = ASKED
                result.append(Features({"input_ids": whole, "labels": labels}, {}, host=host))
        return result

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        """Other masks in every epoch (Liu et al. 2019, arXiv 1907.11692)."""
        return features if (features.tokens["labels"] == ASKED).any() else self._masked(features, rng)

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        head: Any = encoder.head(self.kind, 0, rngs=rngs)
        head.max_labelled = self.mask_probability
        return head

    def loss(self, outputs: MlmOutputs, batch: Batch) -> Terms:
        labels = jnp.take_along_axis(batch["labels"], outputs.positions, axis=1)  # (R, K)
        return {"mlm": cross_entropy(outputs.logits, jnp.where(labels < 0, IGNORE, labels), ignore=IGNORE)}

    def predict(self, outputs: MlmOutputs, batch: Batch) -> Predictions:
        """Along T, where a token is labelled: the likeliest pieces, their probabilities, and -log of the label's probability."""
        log_probabilities = jax.nn.log_softmax(outputs.logits, axis=-1)  # (R, K, V)
        labels = jnp.take_along_axis(batch["labels"], outputs.positions, axis=1)
        loss = -jnp.take_along_axis(log_probabilities, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
        best, candidates = jax.lax.top_k(log_probabilities, min(NUM_CANDIDATES, log_probabilities.shape[-1]))
        rows = jnp.arange(labels.shape[0])[:, None]

        def along_tokens(values: jax.Array) -> jax.Array:
            return jnp.zeros((*batch["labels"].shape, *values.shape[2:]), values.dtype).at[rows, outputs.positions].set(values)

        return {"T": {"candidates": along_tokens(candidates), "scores": along_tokens(jnp.exp(best)), "loss": along_tokens(loss)}}

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """Of a text with masks `{"text", "filled", "masks": [[{"token", "score"}, ...]]}`, candidates best first; of any other how well its own masks went."""
        text, masks, losses, num_correct = self._text(record), [], [], 0
        names = self._names
        for feature, predicted in zip(features, predictions, strict=True):
            labels = feature.tokens["labels"]
            for asked in np.flatnonzero(labels == ASKED):
                rows = zip(predicted["candidates"][asked].tolist(), predicted["scores"][asked].tolist(), strict=True)
                # a vocabulary is often filled up to a round size: of what lies beyond the tokenizer there is no name
                masks.append([{"token": names[piece] if piece < len(names) else "", "score": score} for piece, score in rows])
            known = labels >= 0
            losses += predicted["loss"][known].tolist()
            num_correct += int((predicted["candidates"][known, 0] == labels[known]).sum())
        if masks:
            parts = text.split(names[self.mask_id])
            filled = "".join(f"{part}{mask[0]['token'].removeprefix('##')}" for part, mask in zip(parts, masks, strict=False)) + parts[-1]
            return {"text": text, "filled": filled, "masks": masks}
        return {"text": text, "num_masked": len(losses), "num_correct": num_correct, "loss_sum": math.fsum(losses)}

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        return {}

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        if "masks" not in decoded:
            return decoded
        return decoded | {"masks": [[one | {"score": round(one["score"], 6)} for one in mask] for mask in decoded["masks"]]}

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """Loss (nats a masked token), perplexity and accuracy over all masked tokens, and the 95 % interval of the loss over records."""
        masked, correct, loss = (np.asarray([one.get(key, 0) for one in decoded], np.float64) for key in ("num_masked", "num_correct", "loss_sum"))
        total = max(1.0, masked.sum())
        mean = float(loss.sum() / total)
        low, high = bootstrap_interval(weighted_ratio(loss, masked), len(decoded))
        scores = {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "masked_accuracy": float(correct.sum() / total)}
        return scores | interval("loss", low, high) | {"num_masked": int(masked.sum())}

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        scores = self.score(decoded, records, {})
        shown = "\n".join(f"{name:>16} {scores[name]:10.4f}" for name in ("loss", "perplexity", "masked_accuracy"))
        return f"{shown}\n{'masked tokens':>16} {scores['num_masked']:10,}\n{interval_line('loss', scores)}"

    # ---- text and masks -------------------------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _names(self) -> list[str]:
        return self.pieces.split("\n")

    @functools.cached_property
    def _ordinary(self) -> np.ndarray:
        """Numbers of the pieces that a random token may become: all but those in brackets, which are special or kept for later use."""
        bracketed = [name.startswith(("[", "<")) and name.endswith(("]", ">")) and len(name) > 2 for name in self._names]
        return np.flatnonzero(~np.asarray(bracketed))

    def _text(self, record: Record) -> str:
        return texts_of(record, self.text_columns, allow_raw=True)[0]

    def _budget(self, num_tokens: int) -> int:
        return max(1, int(self.mask_probability * num_tokens))

    def _masked(self, features: Features, rng: np.random.Generator) -> Features:
        """The feature with tokens drawn anew: whole words as long as they fit the budget."""
        ids, words = features.host["ids"], features.host["words"]
        at = np.flatnonzero(words >= 0)
        chosen = at[:0]
        if len(at):
            units = words[at] if self.whole_words else np.arange(len(at))
            _, unit_of, sizes = np.unique(units, return_inverse=True, return_counts=True)
            order = rng.permutation(len(sizes))
            taken = order[np.cumsum(sizes[order]) <= self._budget(len(ids))]
            chosen = at[np.isin(unit_of, taken)] if len(taken) else rng.choice(at, 1)  # where no word fits, one piece of one
        labels = np.full(len(ids), IGNORE, np.int32)
        labels[chosen] = ids[chosen]
        fate = rng.random(len(chosen))
        replaced = ids.copy()
        replaced[chosen[fate < self.mask_share]] = self.mask_id
        become_random = chosen[(fate >= self.mask_share) & (fate < self.mask_share + self.random_share)]
        replaced[become_random] = self._ordinary[rng.integers(0, len(self._ordinary), len(become_random))]
        return features._replace(tokens={"input_ids": replaced, "labels": labels})
