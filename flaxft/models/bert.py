"""BERT (Devlin et al. 2018, arXiv 1810.04805) on packed rows. Parameter paths are those of transformers' old Flax BERT."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxft.data.base import Batch
from flaxft.errors import UserError
from flaxft.models.base import EncoderOutput, Key, computed_again, traced_once
from flaxft.models.heads import ChoiceHead, LayerNorm, Linear, MeanHead, MlmHead, MlmTransform, SequenceHead, SpanHead, TokenHead
from flaxft.ops.attention import attention
from flaxft.ops.dropout import dropout
from flaxft.ops.gelu import gelu
from flaxft.ops.splash import splash_attention
from flaxft.sharding import by_rows

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": jax.nn.gelu,  # the tanh approximation
    "gelu_pytorch_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
}

ATTENTIONS: dict[str, Callable[..., Array]] = {"xla": attention, "splash": splash_attention}

# What a BERT config.json may hold beside the fields below, because it does not change what is computed here.
INERT = frozenset(
    "model_type architectures _name_or_path name_or_path transformers_version torch_dtype use_cache gradient_checkpointing output_past id2label"
    " label2id num_labels _num_labels problem_type finetuning_task task_specific_params directionality pooler_fc_size pooler_type"
    " pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head bos_token_id eos_token_id cls_token_id sep_token_id mask_token_id language name"
    " output_attentions output_hidden_states return_dict torchscript use_bfloat16 chunk_size_feed_forward do_sample keys_to_ignore_at_inference"
    " model_max_length attention_dropout hidden_dropout embedding_size summary_type _attn_implementation_autoset".split()
)
# Keys that do change it, with the one value that is understood.
REQUIRED = {"is_decoder": False, "is_encoder_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute", "pruned_heads": {}}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout: float | None = None
    pad_token_id: int = 0
    tie_word_embeddings: bool = True  # the masked language model's last product is with the table of words
    dtype: str = "float32"  # what is computed in; parameters, norms, softmax and loss stay float32
    attention: str = "xla"  # or "splash": one of ATTENTIONS
    remat: bool = False  # keep only each layer's input for the backward pass, and compute the layer again there

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> BertConfig:
        """Reads a config.json strictly; raises UserError with every problem at once."""
        fields = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(config) - fields - INERT - set(REQUIRED))
        problems = [f"unknown keys {unknown} (to ignore them set model.ignore={tuple(unknown)})"] if unknown else []
        problems += [f"{key} is {config[key]!r}, understood is {value!r}" for key, value in REQUIRED.items() if config.get(key, value) != value]
        known = {name: config[name] for name in fields if name in config}
        for field in dataclasses.fields(cls):
            wanted: Any = type(field.default) if field.default is not None else float
            value: Any = known.get(field.name, field.default)
            if value is None and field.default is None:
                continue
            if isinstance(value, bool) != (wanted is bool) or not isinstance(value, (int, float) if wanted is float else wanted):
                problems.append(f"{field.name} is {value!r}, expected {wanted.__name__}")
            elif wanted is int and value < (0 if field.name == "pad_token_id" else 1):
                problems.append(f"{field.name} is {value!r}, expected a positive number")
            elif wanted is float and not (0.0 <= value < 1.0):
                problems.append(f"{field.name} is {value!r}, expected a number from 0 to below 1")
        positions, types = known.get("max_position_embeddings", 512), known.get("type_vocab_size", 2)
        if not problems and positions - 2 in (1 << i for i in range(5, 15)) and (types == 1 or known.get("pad_token_id", 0) == 1):
            # 514 positions and 1 token type: under this model_type the weights would load, and all that is computed would be wrong
            problems.append(
                f"{positions} positions, {types} token type{'s' * (types != 1)} and padding {known.get('pad_token_id', 0)} are those of RoBERTa and its kin, "
                f"whose positions begin at 2; put back the model_type that the checkpoint came with"
            )
        if not problems:
            result = cls(**known)
            if result.hidden_act not in ACTIVATIONS:
                problems.append(f"hidden_act is {result.hidden_act!r}, allowed are {sorted(ACTIVATIONS)}")
            if result.hidden_size % result.num_attention_heads:
                problems.append(f"hidden_size {result.hidden_size} is not divisible by num_attention_heads {result.num_attention_heads}")
            if result.dtype not in ("float32", "bfloat16"):
                problems.append(f"dtype is {result.dtype!r}, allowed are ['float32', 'bfloat16']; set model.dtype")
            if result.attention not in ATTENTIONS:
                problems.append(f"attention is {result.attention!r}, allowed are {sorted(ATTENTIONS)}; set model.attention")
            elif result.attention == "splash" and result.attention_probs_dropout_prob > 0:
                rate = result.attention_probs_dropout_prob
                problems.append(f"attention 'splash' has no dropout, and attention_probs_dropout_prob is {rate}; set model.attention_dropout=0")
        if problems:
            raise UserError("; ".join(problems))
        return result


class Table(nnx.Module):
    """An embedding table; `table(ids)` gathers rows."""

    def __init__(self, num: int, size: int, *, stddev: float, rngs: nnx.Rngs):
        self.embedding = nnx.Param(nnx.initializers.normal(stddev)(rngs.params(), (num, size)))

    def __call__(self, ids: Array) -> Array:
        return jnp.take(self.embedding[...], ids, axis=0)


class Embeddings(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        size, stddev = config.hidden_size, config.initializer_range
        self.word_embeddings = Table(config.vocab_size, size, stddev=stddev, rngs=rngs)
        self.position_embeddings = Table(config.max_position_embeddings, size, stddev=stddev, rngs=rngs)
        self.token_type_embeddings = Table(config.type_vocab_size, size, stddev=stddev, rngs=rngs)
        self.LayerNorm = LayerNorm(size, eps=config.layer_norm_eps, rngs=rngs)
        self.config = config

    def __call__(self, batch: Batch, *, dropout_key: Array | None) -> Float[Array, "R T D"]:
        x = self.word_embeddings(batch["input_ids"]) + self.token_type_embeddings(batch["token_type_ids"])
        x = self.LayerNorm(x + self.position_embeddings(batch["position_ids"]))
        return dropout(x, self.config.hidden_dropout_prob, key=dropout_key).astype(self.config.dtype)


class SelfAttention(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.query, self.key, self.value = (_linear(config, config.hidden_size, config.hidden_size, rngs) for _ in range(3))
        self.config = config

    def __call__(self, x: Float[Array, "R T D"], segment_ids: Array, *, dropout_key: Array | None) -> Float[Array, "R T D"]:
        config = self.config
        heads = (*x.shape[:2], config.num_attention_heads, config.hidden_size // config.num_attention_heads)
        query, key, value = (layer(x).reshape(heads) for layer in (self.query, self.key, self.value))  # (R, T, N, H)
        mixed = ATTENTIONS[config.attention](query, key, value, segment_ids, dropout_rate=config.attention_probs_dropout_prob, dropout_key=dropout_key)
        return mixed.reshape(x.shape)


class Residual(nnx.Module):
    """Linear, dropout, add, norm: the close of both halves of a layer."""

    def __init__(self, config: BertConfig, num_in: int, *, rngs: nnx.Rngs):
        self.dense = _linear(config, num_in, config.hidden_size, rngs)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps, rngs=rngs)
        self.config = config

    def __call__(self, x: Array, residual: Float[Array, "R T D"], *, dropout_key: Array | None) -> Float[Array, "R T D"]:
        return self.LayerNorm(dropout(self.dense(x), self.config.hidden_dropout_prob, key=dropout_key) + residual)


class Attention(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.self = SelfAttention(config, rngs=rngs)
        self.output = Residual(config, config.hidden_size, rngs=rngs)


class Intermediate(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.dense = _linear(config, config.hidden_size, config.intermediate_size, rngs)
        self.activation = ACTIVATIONS[config.hidden_act]

    def __call__(self, x: Float[Array, "R T D"]) -> Float[Array, "R T F"]:
        return self.activation(self.dense(x))


class Layer(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.attention = Attention(config, rngs=rngs)
        self.intermediate = Intermediate(config, rngs=rngs)
        self.output = Residual(config, config.intermediate_size, rngs=rngs)

    def __call__(self, x: Float[Array, "R T D"], segment_ids: Array, keys: Sequence[Array | None]) -> Float[Array, "R T D"]:
        """keys: of the three dropouts."""
        x = self.attention.output(self.attention.self(x, segment_ids, dropout_key=keys[0]), x, dropout_key=keys[1])
        return self.output(self.intermediate(x), x, dropout_key=keys[2])


class Layers(nnx.Module):
    """Layers under the names "0", "1", ...: string keys, as checkpoints and `jax.export` want them (an nnx.List has int keys)."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.num_layers = config.num_hidden_layers
        for i in range(self.num_layers):
            setattr(self, str(i), Layer(config, rngs=rngs))

    def __iter__(self) -> Iterator[Layer]:
        return (getattr(self, str(i)) for i in range(self.num_layers))


class Stack(nnx.Module):
    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.layer = Layers(config, rngs=rngs)


class Bert(nnx.Module):
    """The encoder. See `flaxft.models.base.Encoder`."""

    prefix = "bert"
    architectures = {
        "token": "BertForTokenClassification",
        "sequence": "BertForSequenceClassification",
        "choice": "BertForMultipleChoice",
        "span": "BertForQuestionAnswering",
        "mlm": "BertForMaskedLM",
        "embedding": "BertModel",
    }
    keys = (
        Key("embeddings.word_embeddings.weight", "encoder/embeddings/word_embeddings/embedding"),
        Key("embeddings.position_embeddings.weight", "encoder/embeddings/position_embeddings/embedding"),
        Key("embeddings.token_type_embeddings.weight", "encoder/embeddings/token_type_embeddings/embedding"),
        Key("embeddings.LayerNorm.weight", "encoder/embeddings/LayerNorm/scale"),
        Key("embeddings.LayerNorm.bias", "encoder/embeddings/LayerNorm/bias"),
        *(
            key
            for place in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense")
            for key in (
                Key(f"encoder.layer.{{i}}.{place}.weight", f"encoder/encoder/layer/{{i}}/{place.replace('.', '/')}/kernel", transpose=True),
                Key(f"encoder.layer.{{i}}.{place}.bias", f"encoder/encoder/layer/{{i}}/{place.replace('.', '/')}/bias"),
            )
        ),
        *(
            key
            for place in ("attention.output.LayerNorm", "output.LayerNorm")
            for key in (
                Key(f"encoder.layer.{{i}}.{place}.weight", f"encoder/encoder/layer/{{i}}/{place.replace('.', '/')}/scale"),
                Key(f"encoder.layer.{{i}}.{place}.bias", f"encoder/encoder/layer/{{i}}/{place.replace('.', '/')}/bias"),
            )
        ),
        # The pooler belongs to the pretrained model, though only some heads have it.
        Key("pooler.dense.weight", "head/pooler/dense/kernel", transpose=True),
        Key("pooler.dense.bias", "head/pooler/dense/bias"),
        Key("classifier.weight", "head/classifier/kernel", transpose=True, prefixed=False),
        Key("classifier.bias", "head/classifier/bias", prefixed=False),
        Key("qa_outputs.weight", "head/qa_outputs/kernel", transpose=True, prefixed=False),
        Key("qa_outputs.bias", "head/qa_outputs/bias", prefixed=False),
        Key("cls.predictions.transform.dense.weight", "head/cls/predictions/transform/dense/kernel", transpose=True, prefixed=False),
        Key("cls.predictions.transform.dense.bias", "head/cls/predictions/transform/dense/bias", prefixed=False),
        Key("cls.predictions.transform.LayerNorm.weight", "head/cls/predictions/transform/LayerNorm/scale", prefixed=False),
        Key("cls.predictions.transform.LayerNorm.bias", "head/cls/predictions/transform/LayerNorm/bias", prefixed=False),
        Key("cls.predictions.bias", "head/cls/predictions/bias", prefixed=False),
    )
    unused = (r"embeddings\.position_ids", r"pooler\..*", r"cls\..*", r"classifier\..*", r"qa_outputs\..*", r"predictions\..*", r"seq_relationship\..*")
    # Megatron-style: the first product of each half is split by columns, the second by rows, so each half needs one reduction (arXiv 1909.08053).
    sharding = (
        (r"embeddings/word_embeddings/embedding$", ("tensor", "fsdp")),
        (r"attention/self/(query|key|value)/kernel$", ("fsdp", "tensor")),
        (r"attention/self/(query|key|value)/bias$", ("tensor",)),
        (r"attention/output/dense/kernel$", ("tensor", "fsdp")),
        (r"intermediate/dense/kernel$", ("fsdp", "tensor")),
        (r"intermediate/dense/bias$", ("tensor",)),
        (r"/\d+/output/dense/kernel$", ("tensor", "fsdp")),
    )

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.max_length, self.hidden_size, self.vocab_size = config.max_position_embeddings, config.hidden_size, config.vocab_size
        self.embeddings = Embeddings(config, rngs=rngs)
        self.encoder = Stack(config, rngs=rngs)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, rngs: nnx.Rngs) -> Bert:
        return cls(BertConfig.parse(config), rngs=rngs)

    def embed(self, batch: Batch, *, rngs: nnx.Rngs | None = None) -> Float[Array, "R T D"]:
        return self.embeddings(batch, dropout_key=None if rngs is None else rngs.dropout())

    def __call__(
        self, batch: Batch, *, embeddings: Float[Array, "R T D"] | None = None, deterministic: bool = True, rngs: nnx.Rngs | None = None
    ) -> EncoderOutput:
        rngs = None if deterministic else rngs
        x = by_rows(self.embed(batch, rngs=rngs) if embeddings is None else embeddings)
        call = computed_again if self.config.remat else traced_once
        for layer in self.encoder.layer:
            keys = [None] * 3 if rngs is None else [rngs.dropout() for _ in range(3)]
            x = by_rows(call(layer, x, batch["segment_ids"], keys))
        return EncoderOutput(hidden=x, word_embeddings=self.embeddings.word_embeddings.embedding[...])

    def head(self, kind: str, num_labels: int, *, rngs: nnx.Rngs) -> nnx.Module:
        config, size, stddev = self.config, self.hidden_size, self.config.initializer_range
        if kind == "mlm" and not config.tie_word_embeddings:
            tied = "here the output of a masked language model is the table of words itself"
            raise UserError(f"tie_word_embeddings is False, but {tied}; use a tied checkpoint, or set model.ignore=tie_word_embeddings to drop its own output")
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        heads: dict[str, Callable[[], nnx.Module]] = {
            "token": lambda: TokenHead(size, num_labels, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "sequence": lambda: SequenceHead(size, num_labels, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "mean_sequence": lambda: MeanHead(size, num_labels, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "choice": lambda: ChoiceHead(size, dropout_rate=rate, stddev=stddev, rngs=rngs),
            "span": lambda: SpanHead(size, stddev=stddev, rngs=rngs),
            "mlm": lambda: MlmHead(self._transform(rngs), self.vocab_size, dtype=config.dtype, rngs=rngs),
        }
        return heads[kind]()

    def _transform(self, rngs: nnx.Rngs) -> MlmTransform:
        config = self.config
        activation = ACTIVATIONS[config.hidden_act]
        return MlmTransform(
            self.hidden_size, activation=activation, eps=config.layer_norm_eps, stddev=config.initializer_range, dtype=config.dtype, rngs=rngs
        )


def _linear(config: BertConfig, num_in: int, num_out: int, rngs: nnx.Rngs) -> Linear:
    return Linear(num_in, num_out, stddev=config.initializer_range, dtype=config.dtype, rngs=rngs)


ENCODER = Bert
