"""What the rest of the house knows of a model: an encoder with a head on it, and the checkpoint that they come from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
from flax import nnx
from jaxtyping import Array, Float

from flaxft.data.base import Batch

Params = dict[str, Any]  # nested, string keys, arrays at the leaves: {"encoder": {...}, "head": {...}}


class EncoderOutput(NamedTuple):
    hidden: Float[Array, "R T D"]
    word_embeddings: Float[Array, "V D"]  # the table, for heads that are tied to it


class Key(NamedTuple):
    """One row of a family's key table: a tensor under its Hugging Face name and under ours. `{i}` stands for the layer's number."""

    hf: str  # without the family's prefix: "encoder.layer.{i}.attention.self.query.weight"
    path: str  # "encoder/encoder/layer/{i}/attention/self/query/kernel"
    transpose: bool = False  # PyTorch keeps (out, in), we keep (in, out)
    prefixed: bool = True  # in a checkpoint with a head the name stands below the family's prefix ("bert."); heads do not


class Encoder(Protocol):
    """An `nnx.Module`; a family's file binds its class to the module constant `ENCODER`."""

    keys: ClassVar[Sequence[Key]]
    prefix: ClassVar[str]  # "bert"
    unused: ClassVar[Sequence[str]]  # patterns of tensors that checkpoints of this family hold and fine-tuning does not need
    sharding: ClassVar[Sequence[tuple[str, tuple[str | None, ...]]]]  # (pattern of our path, mesh axis of each dim)
    architectures: ClassVar[Mapping[str, str]]  # kind of head -> Hugging Face class
    max_length: int  # the longest example that the position table holds
    hidden_size: int
    vocab_size: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, rngs: nnx.Rngs) -> Encoder: ...
    def embed(self, batch: Batch, *, rngs: nnx.Rngs | None = None) -> Float[Array, "R T D"]: ...
    def __call__(
        self, batch: Batch, *, embeddings: Float[Array, "R T D"] | None = None, deterministic: bool = True, rngs: nnx.Rngs | None = None
    ) -> EncoderOutput: ...
    def head(self, kind: str, num_labels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """What Hugging Face's `AutoModelFor...` of the kind puts on this family. num_labels counts for token and sequence heads only."""
        ...


class Modules(NamedTuple):
    """What a sentence-transformers directory puts on its encoder."""

    pooling: str | None  # in its own words: mean, cls, max, ...; None where no module pools
    normalize: bool  # vectors get length 1
    others: tuple[str, ...]  # modules that are not computed here: "Dense (2_Dense)"
    encoder: str = ""  # the folder of its config.json and weights; empty for the directory itself
    classifier: str = ""  # the folder of a dense layer without activation on the mean, the last module: its outputs may be logits


@dataclass(frozen=True)
class Checkpoint:
    """A model directory that was opened and found sound: what it is, before any array is read."""

    name: str  # as the user gave it
    directory: Path
    config: Mapping[str, Any]  # its config.json
    encoder: Any  # an Encoder with ShapeDtypeStructs for arrays
    kind: str | None  # of its head: "token", ..., "embedding" for an encoder alone; None where config.json does not say
    labels: tuple[str, ...] | None  # of a fine-tuned model whose head's outputs are labels: id2label, or LABEL_0, LABEL_1, ... where it names none
    fingerprint: str  # sha256 of config.json and of the tensors' names and shapes
    has_label_names: bool = True  # False where `labels` are placeholders, which stand for names that the user may know
    modules: Modules | None = None  # None where no modules.json lies beside it
    arrays: Mapping[str, Any] | None = None  # where several files hold them, as of a run's best step: by path, as flaxft.models.weights.Stored
    # Made for vectors of whole texts: it has a sentence-transformers pooling, or it is an encoder alone, without a masked language model's head, whose pooler
    # was never trained. (Its bias is still 0; that of a BERT, which next-sentence prediction trained, is not.) Where no pooler is there, nothing tells.
    is_sentence_encoder: bool = False


class Model(nnx.Module):
    """Encoder and head; `model(batch)` gives the head's outputs."""

    def __init__(self, encoder: Any, head: Any):
        self.encoder = encoder
        self.head = head

    def __call__(self, batch: Batch, *, deterministic: bool = True, rngs: nnx.Rngs | None = None) -> Any:
        output = self.encoder(batch, deterministic=deterministic, rngs=rngs)
        return self.head(output, batch, deterministic=deterministic, rngs=rngs)


def traced_once(layer: nnx.Module, *arguments: Any) -> Any:
    """`layer(*arguments)`, traced and lowered once for all layers of one structure and shapes; the compiler inlines it. What it changes in itself is lost."""
    return _call(*nnx.split(layer), arguments)


def computed_again(layer: nnx.Module, *arguments: Any) -> Any:
    """`traced_once` which keeps only the arguments for the backward pass, and computes the layer again there (remat)."""
    return _call_again(*nnx.split(layer), arguments)


@functools.partial(jax.jit, static_argnums=0)
def _call(graphdef: nnx.GraphDef[Any], state: nnx.State, arguments: Sequence[Any]) -> Any:
    return nnx.merge(graphdef, state)(*arguments)


@functools.partial(jax.jit, static_argnums=0)
def _call_again(graphdef: nnx.GraphDef[Any], state: nnx.State, arguments: Sequence[Any]) -> Any:
    return jax.checkpoint(functools.partial(_call, graphdef))(state, arguments)


class Loaded(NamedTuple):
    graphdef: nnx.GraphDef[Model]
    params: Params  # float32; numpy arrays where read, jax arrays where initialised
    encoder: Any  # the Encoder that they belong to, with ShapeDtypeStructs: its key table and sharding rules
    fresh: tuple[str, ...]  # paths that were initialised and not read


class ModelSource(Protocol):
    """The `model` section of a config."""

    path: str

    def open(self) -> Checkpoint: ...
    def load(
        self, checkpoint: Checkpoint, make_head: Callable[..., nnx.Module], *, reuse_head: bool, seed: int, labels: Sequence[str] = ()
    ) -> Loaded: ...
    def skeleton(self, config: Mapping[str, Any], make_head: Callable[..., nnx.Module], *, where: Path) -> Loaded: ...


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """{"a": {"b": x}} -> {"a/b": x}."""
    return {"/".join(str(k.key) for k in path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]}


def unflatten(flat: Mapping[str, Any]) -> Params:
    """{"a/b": x} -> {"a": {"b": x}}."""
    nested: Params = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return nested
