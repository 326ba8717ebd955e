"""The Flax encoders that transformers had until 4.57, with our heads, loop and checkpoints: BERT, RoBERTa, DistilBERT, ELECTRA.

    model=TransformersFlax(path="roberta-base"), data=Data(num_slots=1)

For an environment with transformers 4.57, flax and jax (see the tests' phase of this name in .ci/run). The modules are transformers' own, and know no packed
rows: one example a row, which is `num_slots=1`. Parameter paths are theirs, so flax_model.msgpack files load, and safetensors by the names of PyTorch.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxft.data.base import Batch
from flaxft.errors import UserError
from flaxft.models.base import EncoderOutput, Key
from flaxft.models.heads import ChoiceHead, MeanHead, MlmHead, MlmTransform, SequenceHead, SpanHead, TokenHead
from flaxft.models.hf import Pretrained, unknown_family

# What would change the computation, and the Flax classes pass over without a word.
REQUIRED = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute", "sinusoidal_pos_embds": False, "pruned_heads": {}}
OURS = ("dtype", "remat", "attention")  # what flaxft adds to a config.json


def _dense(place: str) -> tuple[Key, ...]:
    path = f"encoder/{place.replace('.', '/')}"
    return Key(f"{place}.weight", f"{path}/kernel", transpose=True), Key(f"{place}.bias", f"{path}/bias")


def _norm(place: str) -> tuple[Key, ...]:
    path = f"encoder/{place.replace('.', '/')}"
    return Key(f"{place}.weight", f"{path}/scale"), Key(f"{place}.bias", f"{path}/bias")


def _table(place: str) -> tuple[Key, ...]:
    return (Key(f"{place}.weight", f"encoder/{place.replace('.', '/')}/embedding"),)


def _head(place: str, *, prefixed: bool = False) -> tuple[Key, ...]:
    path = f"head/{place.replace('.', '/')}"
    return Key(f"{place}.weight", f"{path}/kernel", transpose=True, prefixed=prefixed), Key(f"{place}.bias", f"{path}/bias", prefixed=prefixed)


LAYER = "encoder.layer.{i}."
EMBEDDINGS = (
    *_table("embeddings.word_embeddings"), *_table("embeddings.position_embeddings"), *_table("embeddings.token_type_embeddings"),
    *_norm("embeddings.LayerNorm"),
)  # fmt: skip
PRODUCTS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense")
LAYERS = (
    *(key for place in PRODUCTS for key in _dense(LAYER + place)),
    *_norm(f"{LAYER}attention.output.LayerNorm"), *_norm(f"{LAYER}output.LayerNorm"),
)  # fmt: skip
BLOCK = "transformer.layer.{i}."
DISTILLED = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2")
HEADS = (*_head("classifier"), *_head("qa_outputs"))
POOLER = _head("pooler.dense", prefixed=True)
MLM = (
    *_head("cls.predictions.transform.dense"),
    Key("cls.predictions.transform.LayerNorm.weight", "head/cls/predictions/transform/LayerNorm/scale", prefixed=False),
    Key("cls.predictions.transform.LayerNorm.bias", "head/cls/predictions/transform/LayerNorm/bias", prefixed=False),
    Key("cls.predictions.bias", "head/cls/predictions/bias", prefixed=False),
)
UNUSED = ("embeddings.position_ids", "pooler", "cls", "classifier", "pre_classifier", "qa_outputs", "lm_head", "vocab_.*", "seq_relationship", "predictions",
          "discriminator_predictions", "generator_predictions", "generator_lm_head", "sequence_summary")  # fmt: skip


class Tree(nnx.Module):
    """Parameters under the names that a linen module gives them."""

    def __init__(self, params: Mapping[str, Any]):
        for name, value in params.items():
            setattr(self, name, Tree(value) if isinstance(value, Mapping) else nnx.Param(value))


class LinenEncoder(Tree):
    """A family of transformers' Flax modules. See `flaxft.models.base.Encoder`."""

    prefix: ClassVar[str]
    family: ClassVar[str]  # the part of transformers' class names: FlaxBertModule, BertConfig
    keys: ClassVar[Sequence[Key]]
    architectures: ClassVar[Mapping[str, str]]
    unused: ClassVar[Sequence[str]] = tuple(rf"{name}(\..*)?" for name in UNUSED)
    sharding: ClassVar[Sequence[tuple[str, tuple[str | None, ...]]]] = ()

    def __init__(self, config: Mapping[str, Any], *, rngs: nnx.Rngs):
        self.settings = json.dumps(dict(config), sort_keys=True)  # text, because modules are compared by what they hold
        parsed = self._config()
        self.max_length = self._num_positions(parsed)
        self.hidden_size: int = parsed.hidden_size  # DistilBERT's `dim` answers to it too
        self.vocab_size: int = parsed.vocab_size
        ids = jnp.zeros((1, 2), jnp.int32)
        batch = {"input_ids": ids, "token_type_ids": ids, "position_ids": ids, "segment_ids": ids + 1, "example_start": ids[:, :1]}
        module = self._module()
        super().__init__(module.init({"params": rngs.params()}, batch, method=self._all)["params"])

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, rngs: nnx.Rngs) -> LinenEncoder:
        problems = [f"{key} is {config[key]!r}, understood is {value!r}" for key, value in REQUIRED.items() if config.get(key, value) != value]
        if config.get("dtype", "float32") not in ("float32", "bfloat16"):
            problems.append(f"dtype is {config['dtype']!r}, allowed are ['float32', 'bfloat16']; set model.dtype")
        if config.get("attention", "xla") != "xla":
            problems.append(f"attention is {config['attention']!r}, but transformers' Flax modules have their own; leave out model.attention")
        if problems:
            raise UserError("; ".join(problems))
        return cls(config, rngs=rngs)

    def embed(self, batch: Batch, *, rngs: nnx.Rngs | None = None) -> Float[Array, "R T D"]:
        return self._apply(self._embed, batch, rngs=rngs)

    def __call__(
        self, batch: Batch, *, embeddings: Float[Array, "R T D"] | None = None, deterministic: bool = True, rngs: nnx.Rngs | None = None
    ) -> EncoderOutput:
        if batch["example_start"].shape[1] != 1:
            raise UserError("transformers' Flax modules compute one example a row; set --config.data.num_slots=1, and give a new --workdir")
        rngs = None if deterministic else rngs
        x = self.embed(batch, rngs=rngs) if embeddings is None else embeddings
        tables: Any = self
        return EncoderOutput(self._apply(self._encode, x, batch, rngs=rngs), tables.embeddings.word_embeddings.embedding[...])

    def head(self, kind: str, num_labels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """Heads of the kinds in `architectures` have Hugging Face's structure and names. `sequence` is BERT's, pooled, in every family."""
        config, size = self._config(), self.hidden_size
        stddev, rate = config.initializer_range, self._classifier_dropout(config)
        heads: dict[str, Callable[[], nnx.Module]] = {
            "token": lambda: TokenHead(size, num_labels, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "sequence": lambda: SequenceHead(size, num_labels, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "mean_sequence": lambda: MeanHead(size, num_labels, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "choice": lambda: ChoiceHead(size, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "span": lambda: SpanHead(size, stddev=stddev, rngs=rngs),
        }
        if kind not in heads:
            raise UserError(f"{type(self).__name__} has no {kind!r} head here; allowed are {list(heads)}")
        return heads[kind]()

    # ---- what families differ in ------------------------------------------------------------------------------------------------------------

    def _num_positions(self, config: Any) -> int:
        return config.max_position_embeddings

    def _classifier_dropout(self, config: Any) -> float:
        rate = getattr(config, "classifier_dropout", None)
        return config.hidden_dropout_prob if rate is None else rate

    def _renamed(self, config: dict[str, Any]) -> dict[str, Any]:
        return config

    def _embed(self, module: Any, batch: Batch, *, deterministic: bool) -> Array:
        return module.embeddings(batch["input_ids"], batch["token_type_ids"], batch["position_ids"], _mask(batch), deterministic=deterministic)

    def _encode(self, module: Any, x: Array, batch: Batch, *, deterministic: bool) -> Array:
        return module.encoder(x, _mask(batch), head_mask=None, deterministic=deterministic)[0]

    # ---- the linen module -------------------------------------------------------------------------------------------------------------------

    def _all(self, module: Any, batch: Batch) -> Array:
        return self._encode(module, self._embed(module, batch, deterministic=True), batch, deterministic=True)

    def _config(self) -> Any:
        import transformers

        given = self._renamed(json.loads(self.settings))
        return getattr(transformers, f"{self.family}Config").from_dict({key: value for key, value in given.items() if key not in OURS})

    def _module(self) -> Any:
        import transformers

        given = json.loads(self.settings)
        remat = {"gradient_checkpointing": True} if given.get("remat") else {}
        try:
            classes = importlib.import_module(f"transformers.models.{self.prefix}.modeling_flax_{self.prefix}")
        except ImportError:
            raise UserError(
                f"transformers {transformers.__version__} has no Flax modules; install transformers==4.57.6 in an environment of its own, "
                "or take Pretrained, which reads the same BERT checkpoints"
            ) from None
        return getattr(classes, f"Flax{self.family}Module")(self._config(), dtype=jnp.dtype(given.get("dtype", "float32")), **remat)

    def _apply(self, method: Callable[..., Array], *arrays: Any, rngs: nnx.Rngs | None) -> Array:
        params = nnx.to_pure_dict(nnx.state(self, nnx.Param))
        keys = {} if rngs is None else {"dropout": rngs.dropout()}
        return self._module().apply({"params": params}, *arrays, deterministic=rngs is None, rngs=keys, method=method)


def _mask(batch: Batch) -> Array:
    return (batch["segment_ids"] > 0).astype(jnp.int32)


class FlaxBert(LinenEncoder):
    prefix, family = "bert", "Bert"
    keys = (*EMBEDDINGS, *LAYERS, *HEADS, *POOLER, *MLM)
    architectures = {
        "token": "BertForTokenClassification",
        "sequence": "BertForSequenceClassification",
        "choice": "BertForMultipleChoice",
        "span": "BertForQuestionAnswering",
        "mlm": "BertForMaskedLM",
        "embedding": "BertModel",
    }

    def head(self, kind: str, num_labels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        if kind != "mlm":
            return super().head(kind, num_labels, rngs=rngs)
        from transformers.modeling_flax_utils import ACT2FN

        config, dtype = self._config(), json.loads(self.settings).get("dtype", "float32")
        changes = dict(eps=config.layer_norm_eps, stddev=config.initializer_range, dtype=dtype, rngs=rngs)
        transform = MlmTransform(self.hidden_size, activation=ACT2FN[config.hidden_act], **changes)
        return MlmHead(transform, self.vocab_size, dtype=dtype, rngs=rngs)


class FlaxRoberta(LinenEncoder):
    prefix, family = "roberta", "Roberta"
    keys = (*EMBEDDINGS, *LAYERS, *HEADS, *POOLER)
    architectures = {
        "token": "RobertaForTokenClassification",
        "choice": "RobertaForMultipleChoice",
        "span": "RobertaForQuestionAnswering",
        "embedding": "RobertaModel",
    }

    def _num_positions(self, config: Any) -> int:
        return config.max_position_embeddings - config.pad_token_id - 1

    def _embed(self, module: Any, batch: Batch, *, deterministic: bool) -> Array:
        positions = batch["position_ids"] + module.config.pad_token_id + 1  # the first rows of its table are padding's
        return module.embeddings(batch["input_ids"], batch["token_type_ids"], positions, _mask(batch), deterministic=deterministic)


class FlaxElectra(LinenEncoder):
    prefix, family = "electra", "Electra"
    keys = (*EMBEDDINGS, *_dense("embeddings_project"), *LAYERS, *HEADS)
    architectures = {"token": "ElectraForTokenClassification", "span": "ElectraForQuestionAnswering", "embedding": "ElectraModel"}

    def _embed(self, module: Any, batch: Batch, *, deterministic: bool) -> Array:
        x = super()._embed(module, batch, deterministic=deterministic)
        return module.embeddings_project(x) if module.config.embedding_size != module.config.hidden_size else x


class FlaxDistilBert(LinenEncoder):
    """It counts positions by itself and has no token types."""

    prefix, family = "distilbert", "DistilBert"
    keys = (
        *_table("embeddings.word_embeddings"), *_table("embeddings.position_embeddings"), *_norm("embeddings.LayerNorm"),
        *(key for place in DISTILLED for key in _dense(BLOCK + place)), *_norm(f"{BLOCK}sa_layer_norm"), *_norm(f"{BLOCK}output_layer_norm"), *HEADS,
    )  # fmt: skip
    architectures = {"token": "DistilBertForTokenClassification", "span": "DistilBertForQuestionAnswering", "embedding": "DistilBertModel"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, rngs: nnx.Rngs) -> LinenEncoder:
        if config.get("remat"):
            raise UserError("transformers' Flax DistilBERT cannot compute a layer again; leave out model.remat")
        return super().from_config(config, rngs=rngs)

    def _classifier_dropout(self, config: Any) -> float:
        rate = json.loads(self.settings).get("classifier_dropout")
        return config.dropout if rate is None else rate  # as DistilBertForTokenClassification has it

    def _renamed(self, config: dict[str, Any]) -> dict[str, Any]:
        names = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout"}
        return config | {name: config[key] for key, name in names.items() if key in config}

    def _embed(self, module: Any, batch: Batch, *, deterministic: bool) -> Array:
        return module.embeddings(batch["input_ids"], deterministic=deterministic)

    def _encode(self, module: Any, x: Array, batch: Batch, *, deterministic: bool) -> Array:
        return module.transformer(hidden_states=x, attention_mask=_mask(batch), deterministic=deterministic)[0]


FAMILIES: dict[str, type[LinenEncoder]] = {one.prefix: one for one in (FlaxBert, FlaxRoberta, FlaxDistilBert, FlaxElectra)}


@dataclass
class TransformersFlax(Pretrained):
    """A pretrained or fine-tuned encoder, computed by transformers' own Flax modules. Unpacked batches alone: `Data(num_slots=1)`."""

    def _abstract(self, config: Mapping[str, Any], *, where: Path) -> Any:
        model_type = str(config.get("model_type"))
        if model_type not in FAMILIES:
            raise UserError(f"{where}: {unknown_family(model_type, sorted(FAMILIES))}")
        try:
            return nnx.eval_shape(lambda: self._build(FAMILIES[model_type], config, seed=0))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
