"""Heads that families share. `head(output, batch, *, deterministic, rngs) -> outputs`; parameter names are Hugging Face's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxft.data.base import IGNORE, Batch
from flaxft.errors import UserError, nearest
from flaxft.models.base import EncoderOutput
from flaxft.ops.dense import dense, product
from flaxft.ops.dropout import dropout

SEQUENCE_KINDS = {"cls": "sequence", "mean": "mean_sequence"}  # how an example's tokens become one vector -> the kind of head that does so


def sequence_kind(pooling: str | None) -> str:
    """The kind of a sequence head, of which a task's field `pooling` says which; None is cls. Raises UserError."""
    if pooling is not None and pooling not in SEQUENCE_KINDS:
        raise UserError(f"task.pooling is {pooling!r}{nearest(str(pooling), SEQUENCE_KINDS)}; allowed are {[*SEQUENCE_KINDS, None]}")
    return SEQUENCE_KINDS[pooling or "cls"]


class Linear(nnx.Module):
    """A kernel (in, out) drawn from normal(0, stddev) and a zero bias, both float32; the product in `dtype`."""

    def __init__(self, num_in: int, num_out: int, *, stddev: float, dtype: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.normal(stddev)(rngs.params(), (num_in, num_out)))
        self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (num_out,)))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        return dense(x, self.kernel[...], self.bias[...], dtype=self.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last dim, in float32."""

    def __init__(self, size: int, *, eps: float, rngs: nnx.Rngs):
        self.scale = nnx.Param(nnx.initializers.ones(rngs.params(), (size,)))
        self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (size,)))
        self.eps = eps

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.eps) * self.scale[...] + self.bias[...]).astype(x.dtype)


class TokenHead(nnx.Module):
    """Dropout and one linear layer on every token: `BertForTokenClassification`'s head and its like."""

    def __init__(self, hidden_size: int, num_labels: int, *, dropout_rate: float, stddev: float, rngs: nnx.Rngs):
        # float32 whatever the encoder computes in: it is small, and the loss is float32.
        self.classifier = Linear(hidden_size, num_labels, stddev=stddev, dtype="float32", rngs=rngs)
        self.dropout_rate = dropout_rate

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> Float[Array, "R T L"]:
        key = None if deterministic else rngs.dropout()
        return self.classifier(dropout(output.hidden, self.dropout_rate, key=key).astype("float32"))


class Pooler(nnx.Module):
    """One linear layer and tanh, as BERT's next-sentence task trained them."""

    def __init__(self, hidden_size: int, *, stddev: float, rngs: nnx.Rngs):
        self.dense = Linear(hidden_size, hidden_size, stddev=stddev, dtype="float32", rngs=rngs)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return jnp.tanh(self.dense(x.astype("float32")))


class SequenceHead(nnx.Module):
    """Each example's first token, pooled; dropout and one linear layer: `BertForSequenceClassification`'s head and its like.

    The outputs of an empty slot mean nothing.
    """

    def __init__(self, hidden_size: int, num_labels: int, *, dropout_rate: float, stddev: float, rngs: nnx.Rngs):
        self.pooler = Pooler(hidden_size, stddev=stddev, rngs=rngs)
        self.classifier = Linear(hidden_size, num_labels, stddev=stddev, dtype="float32", rngs=rngs)
        self.dropout_rate = dropout_rate

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> Float[Array, "R S L"]:
        key = None if deterministic else rngs.dropout()
        first = jnp.take_along_axis(output.hidden, batch["example_start"][..., None], axis=1)  # (R, S, D)
        return self.classifier(dropout(self.pooler(first), self.dropout_rate, key=key))


def mean_of_tokens(hidden: Float[Array, "R T D"], batch: Batch) -> Float[Array, "R S D"]:
    """The mean over each example's tokens, special ones included as sentence-transformers has it; float32. That of an empty slot is 0."""
    slots = jnp.arange(1, batch["example_start"].shape[1] + 1)
    own = (batch["segment_ids"][..., None] == slots).astype(jnp.float32)  # (R, T, S)
    sums = jnp.einsum("rts,rtd->rsd", own, hidden.astype(jnp.float32), precision="highest")
    return sums / jnp.maximum(own.sum(1), 1.0)[..., None]


class MeanHead(nnx.Module):
    """The mean over each example's tokens; dropout and one linear layer, and no pooler. No Hugging Face class has it.

    The outputs of an empty slot mean nothing.
    """

    def __init__(self, hidden_size: int, num_labels: int, *, dropout_rate: float, stddev: float, rngs: nnx.Rngs):
        self.classifier = Linear(hidden_size, num_labels, stddev=stddev, dtype="float32", rngs=rngs)
        self.dropout_rate = dropout_rate

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> Float[Array, "R S L"]:
        key = None if deterministic else rngs.dropout()
        return self.classifier(dropout(mean_of_tokens(output.hidden, batch), self.dropout_rate, key=key))


class ChoiceHead(SequenceHead):
    """One score an example: `BertForMultipleChoice`'s head and its like. The choices of a question are a group of slots."""

    def __init__(self, hidden_size: int, *, dropout_rate: float, stddev: float, rngs: nnx.Rngs):
        super().__init__(hidden_size, 1, dropout_rate=dropout_rate, stddev=stddev, rngs=rngs)

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> Float[Array, "R S"]:
        return super().__call__(output, batch, deterministic=deterministic, rngs=rngs)[..., 0]


class SpanHead(nnx.Module):
    """Two scores a token, for a span's first and last: `BertForQuestionAnswering`'s head and its like, which has no dropout."""

    def __init__(self, hidden_size: int, *, stddev: float, rngs: nnx.Rngs):
        self.qa_outputs = Linear(hidden_size, 2, stddev=stddev, dtype="float32", rngs=rngs)

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> Float[Array, "R T 2"]:
        return self.qa_outputs(output.hidden.astype("float32"))


class MlmOutputs(NamedTuple):
    logits: Float[Array, "R K V"]  # float32
    positions: Int[Array, "R K"]  # which token of the row each stands for; K is the most that a row's labels can need


class MlmTransform(nnx.Module):
    def __init__(self, hidden_size: int, *, activation: Callable[[Array], Array], eps: float, stddev: float, dtype: str, rngs: nnx.Rngs):
        self.dense = Linear(hidden_size, hidden_size, stddev=stddev, dtype=dtype, rngs=rngs)
        self.LayerNorm = LayerNorm(hidden_size, eps=eps, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "R K D"]) -> Float[Array, "R K D"]:
        return self.LayerNorm(self.activation(self.dense(x)))


class MlmPredictions(nnx.Module):
    def __init__(self, transform: MlmTransform, vocab_size: int, *, rngs: nnx.Rngs):
        self.transform = transform
        self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (vocab_size,)))


class MlmScores(nnx.Module):
    def __init__(self, predictions: MlmPredictions):
        self.predictions = predictions


class MlmHead(nnx.Module):
    """`BertForMaskedLM`'s head and its like, tied to the word embeddings. Only labelled tokens are multiplied with the vocabulary.

    A task may say how large a share of an example's tokens it labels at most, one token always being allowed: `head.max_labelled = 0.15`.
    """

    def __init__(self, transform: MlmTransform, vocab_size: int, *, dtype: str, rngs: nnx.Rngs):
        self.cls = MlmScores(MlmPredictions(transform, vocab_size, rngs=rngs))  # the old Flax BERT's path: cls/predictions/transform/dense/kernel
        self.dtype = dtype
        self.max_labelled = 1.0

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> MlmOutputs:
        if self.max_labelled < 1.0:
            row_length, num_slots = batch["labels"].shape[1], batch["example_start"].shape[1]
            num_labelled = min(row_length, int(self.max_labelled * row_length) + num_slots)
            # top_k takes the labelled tokens first; what is left of K stands on tokens without a label, which no loss counts
            _, positions = jax.lax.top_k((batch["labels"] != IGNORE).astype(jnp.int32), num_labelled)
            hidden = jnp.take_along_axis(output.hidden, positions[..., None], axis=1)
        else:  # all tokens, where they stand: labels are not looked at, and an export has none
            hidden, positions = output.hidden, jnp.broadcast_to(jnp.arange(output.hidden.shape[1]), output.hidden.shape[:2])
        x = self.cls.predictions.transform(hidden)  # (R, K, D)
        logits = product(x, output.word_embeddings.T, dtype=self.dtype) + self.cls.predictions.bias[...]
        return MlmOutputs(logits.astype(jnp.float32), positions)
