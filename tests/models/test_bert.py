"""Our BERT equals PyTorch transformers': outputs, loss and gradients, at most 1e-5 x max(1, largest magnitude of the tensor), float32, dropout off."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.models.bert import BertConfig
from flaxft.models.hf import Pretrained, Untrained, hf_names
from flaxft.ops.losses import cross_entropy
from tests.models import reference

BOUND = 1e-5
MINILM = Path(os.environ.get("FLAXFT_MINILM", "runs/minilm"))
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed; the stored arrays are compared instead")


def ours(directory: Path, batch: dict[str, np.ndarray], *, reuse_head: bool = True, head: dict | None = None) -> dict[str, np.ndarray]:
    """The same quantities as `reference.torch_outputs`, under the same names."""
    source = Pretrained(path=str(directory))
    checkpoint = source.open()
    num_labels = len(checkpoint.labels) if reuse_head else 2
    loaded = source.load(checkpoint, lambda encoder, rngs: encoder.head("token", num_labels, rngs=rngs), reuse_head=reuse_head, seed=0)
    params = loaded.params if head is None else loaded.params | {"head": head}

    def loss_fn(params):
        model = nnx.merge(loaded.graphdef, params)
        embeddings = model.encoder.embed(batch)
        layers = list(model.encoder.encoder.layer)
        output = model.encoder(batch)
        logits = model.head(output, batch)
        total, weight = cross_entropy(logits, batch["labels"], ignore=-100)
        first = layers[0](embeddings, batch["segment_ids"], [None] * 3)
        return total / weight, {"embeddings": embeddings, "first_layer": first, "hidden": output.hidden, "logits": logits}

    (loss, result), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)
    result["loss"] = loss
    for path, gradient in flatten(gradients).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        result[f"gradient:{name}"] = gradient.T if transposed else gradient
    return {name: np.asarray(array) for name, array in result.items()}


def differences(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], segment_ids: np.ndarray) -> dict[str, float]:
    """Largest difference of each tensor over its bound's unit, max(1, largest magnitude). Padding positions mean nothing and are left out."""
    result = {}
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        mine, theirs = found[name], array
        if theirs.shape[:2] == segment_ids.shape:
            mine, theirs = mine[segment_ids > 0], theirs[segment_ids > 0]
        result[name] = float(np.abs(mine - theirs).max() / max(1.0, np.abs(theirs).max()))
    return result


def assert_within_bound(found, wanted, segment_ids):
    beyond = {name: value for name, value in differences(found, wanted, segment_ids).items() if not value <= BOUND}
    assert not beyond, beyond


def test_stored_reference(tmp_path):
    stored = dict(np.load(reference.STORED))
    batch = {name[6:]: array for name, array in stored.items() if name.startswith("batch:")}
    save_file({name[7:]: array for name, array in stored.items() if name.startswith("weight:")}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(reference.TINY))
    wanted = {name: array for name, array in stored.items() if not name.startswith(("batch:", "weight:"))}
    assert_within_bound(ours(tmp_path, batch), wanted, batch["segment_ids"])


@needs_torch
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 3},
        {"hidden_act": "gelu_new", "num_hidden_layers": 3},
        {"hidden_act": "relu", "layer_norm_eps": 1e-5, "type_vocab_size": 4},
    ],
)
def test_random_models(tmp_path, changes):
    config = reference.TINY | changes
    model = reference.torch_model(config, tmp_path, seed=1)
    batch = reference.random_batch(np.random.default_rng(1), vocab_size=60, max_length=20, num_labels=4)
    assert_within_bound(ours(tmp_path, batch), reference.torch_outputs(model, batch), batch["segment_ids"])


@needs_torch
@pytest.mark.skipif(not MINILM.is_dir(), reason=f"no real checkpoint at {MINILM} (FLAXFT_MINILM)")
def test_minilm():
    """A real pretrained BERT. Largest differences measured with torch 2.13.0, transformers 5.23.0 and jax 0.10.2: hidden 4.3e-6 (the largest is 5.8),
    logits 7.7e-7 (0.39), loss 0 (0.71), gradients 5.8e-8 (0.09).

    From the last Flax BERT, FlaxBertForTokenClassification of transformers 4.57.6, on another batch: logits 1.4e-6 (the largest is 1.65), loss 0 (1.63),
    gradients 1.1e-7 (0.06); measured once, with legacy_flax.py.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(MINILM, num_labels=2, attn_implementation="eager").eval()
    with torch.no_grad():
        model.classifier.bias.add_(torch.randn(2) * 0.1)
    head = {"classifier": {"kernel": model.classifier.weight.detach().numpy().T, "bias": model.classifier.bias.detach().numpy()}}
    batch = reference.random_batch(np.random.default_rng(2), vocab_size=30522, max_length=64, num_labels=2, rows=4)
    assert_within_bound(ours(MINILM, batch, reuse_head=False, head=head), reference.torch_outputs(model, batch), batch["segment_ids"])


def test_bfloat16_is_close(tmp_path):
    stored = dict(np.load(reference.STORED))
    batch = {name[6:]: jnp.asarray(array) for name, array in stored.items() if name.startswith("batch:")}
    save_file({name[7:]: array for name, array in stored.items() if name.startswith("weight:")}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(reference.TINY))
    source = Pretrained(path=str(tmp_path), dtype="bfloat16")
    loaded = source.load(source.open(), lambda encoder, rngs: encoder.head("token", 4, rngs=rngs), reuse_head=True, seed=0)

    def loss_fn(params):
        logits = nnx.merge(loaded.graphdef, params)(batch)
        total, weight = cross_entropy(logits, batch["labels"], ignore=-100)
        return total / weight, logits

    (loss, logits), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(loaded.params)
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
    # bfloat16 keeps 8 bits: 2 ** -8 = 0.4 % a rounding, a few of them in a row
    assert abs(float(loss) - float(stored["loss"])) < 0.03
    mask = np.asarray(batch["segment_ids"]) > 0
    assert np.abs(np.asarray(logits) - stored["logits"])[mask].max() < 0.05 * np.abs(stored["logits"]).max()


def test_config_problems_come_all_at_once():
    with pytest.raises(UserError) as caught:
        BertConfig.parse({"hidden_size": "x", "num_hidden_layers": 0, "is_decoder": True, "wierd": 1})
    for word in ("hidden_size", "num_hidden_layers", "is_decoder", "wierd"):
        assert word in str(caught.value)


def test_remat_computes_the_same_from_less(tmp_path):
    """Dropout included: its keys are drawn outside of what is computed again."""
    (tmp_path / "config.json").write_text(json.dumps(reference.TINY | {"num_hidden_layers": 3}))
    batch = {name[6:]: jnp.asarray(array) for name, array in np.load(reference.STORED).items() if name.startswith("batch:")}
    found, lowered = {}, {}
    for remat in (False, True):
        source = Untrained(path=str(tmp_path), remat=remat)
        loaded = source.load(source.open(), lambda encoder, rngs: encoder.head("token", 4, rngs=rngs), reuse_head=False, seed=0)

        def loss_fn(params, graphdef):
            logits = nnx.merge(graphdef, params)(batch, deterministic=False, rngs=nnx.Rngs(dropout=3))
            total, weight = cross_entropy(logits, batch["labels"], ignore=-100)
            return total / weight

        step = jax.jit(jax.value_and_grad(loss_fn), static_argnums=1)
        found[remat] = jax.device_get(step(loaded.params, loaded.graphdef))
        lowered[remat] = step.trace(loaded.params, loaded.graphdef).lower(lowering_platforms=("tpu",)).as_text()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=0), found[True], found[False])
    # A layer's forward products, 6 + 2, stand in its backward pass again, behind a barrier that keeps them there: once, for all three layers.
    assert lowered[True].count("dot_general") == lowered[False].count("dot_general") + 6 + 2
    assert lowered[True].count("optimization_barrier") == 1
    assert lowered[False].count("optimization_barrier") == 0
