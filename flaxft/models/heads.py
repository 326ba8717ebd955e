"""Heads that families share. `head(output, batch, *, deterministic, rngs) -> outputs`; parameter names are Hugging Face's."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxft.data.base import Batch
from flaxft.models.base import EncoderOutput
from flaxft.ops.dense import dense
from flaxft.ops.dropout import dropout


class Linear(nnx.Module):
    """A kernel (in, out) drawn from normal(0, stddev) and a zero bias, both float32; the product in `dtype`."""

    def __init__(self, num_in: int, num_out: int, *, stddev: float, dtype: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.normal(stddev)(rngs.params(), (num_in, num_out)))
        self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (num_out,)))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        return dense(x, self.kernel[...], self.bias[...], dtype=self.dtype)


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
