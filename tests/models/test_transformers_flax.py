"""transformers' own Flax modules under our heads and loop: the numbers of its classes, and a second reference for our BERT.

Runs where transformers 4.57 is, in an environment of its own: .ci/run makes one.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

import flaxft
from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained, write
from flaxft.models.transformers_flax import FAMILIES, TransformersFlax
from flaxft.ops.losses import cross_entropy
from tests import tiny
from tests.models.reference import random_batch

transformers = pytest.importorskip("transformers")
if importlib.util.find_spec("transformers.models.bert.modeling_flax_bert") is None:
    pytest.skip(f"transformers {transformers.__version__} has no Flax modules; .ci/run has an environment with 4.57", allow_module_level=True)

BOUND = 1e-5
NUM_LABELS = 4
SIZES = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
CHANGES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": SIZES | {"max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
    "electra": SIZES | {"embedding_size": 16},
    "distilbert": {"vocab_size": 128, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64},
}


def save(folder: Path, family: str) -> Any:
    """A directory as Flax users saved them, of random weights, with a tokenizer; returns transformers' model."""
    name = FAMILIES[family].family
    labels = {i: f"L{i}" for i in range(NUM_LABELS)}
    config = getattr(transformers, f"{name}Config")(**CHANGES[family], initializer_range=0.2, id2label=labels, label2id={v: k for k, v in labels.items()})
    model = getattr(transformers, f"Flax{name}ForTokenClassification")(config, seed=1)
    rng = np.random.default_rng(0)
    model.params["classifier"]["bias"] = jnp.asarray(rng.standard_normal(NUM_LABELS), jnp.float32)  # zero as it is initialised
    tiny.encoder(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return model


def unpacked(*, rows: int = 5, length: int = 20, types: int = 2) -> dict[str, np.ndarray]:
    batch = random_batch(np.random.default_rng(3), vocab_size=80, max_length=length, num_labels=NUM_LABELS, rows=rows)
    batch["token_type_ids"] = batch["token_type_ids"] % types
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    return batch | {"position_ids": places, "example_start": np.zeros((rows, 1), np.int32)}


def loaded(source: Pretrained) -> Any:
    return source.load(source.open(), lambda encoder, rngs: encoder.head("token", NUM_LABELS, rngs=rngs), reuse_head=True, seed=0)


def outputs(source: Pretrained, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Embeddings, hidden, logits, loss and gradients by path."""
    one = loaded(source)

    def loss_fn(params):
        model = nnx.merge(one.graphdef, params)
        output = model.encoder(batch)
        logits = model.head(output, batch)
        total, weight = cross_entropy(logits, batch["labels"], ignore=-100)
        return total / weight, {"embeddings": model.encoder.embed(batch), "hidden": output.hidden, "logits": logits}

    (loss, found), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(one.params)
    return {name: np.asarray(array) for name, array in (found | {"loss": loss} | flatten(gradients)).items()}


def worst(found: np.ndarray, wanted: np.ndarray, segment_ids: np.ndarray) -> float:
    """The largest difference over its bound's unit, max(1, largest magnitude); padding means nothing."""
    if wanted.shape[:2] == segment_ids.shape:
        found, wanted = found[segment_ids > 0], wanted[segment_ids > 0]
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_transformers_own_class(tmp_path, family):
    """Encoder and token head together, FlaxXForTokenClassification's logits."""
    model = save(tmp_path, family)
    batch = unpacked(types=1 if family in ("roberta", "distilbert") else 2)
    mask = batch["segment_ids"] > 0
    if family == "roberta":
        mask_ids = np.where(mask, batch["input_ids"], 1)
        batch["input_ids"] = mask_ids
    given = {"input_ids": batch["input_ids"], "attention_mask": mask.astype(np.int32)}
    if family != "distilbert":
        given["token_type_ids"] = batch["token_type_ids"]
    if family == "roberta":
        given["position_ids"] = batch["position_ids"] + 2
    wanted = np.asarray(model(**given).logits)
    found = outputs(TransformersFlax(path=str(tmp_path)), batch)
    assert worst(found["logits"], wanted, batch["segment_ids"]) <= BOUND


def test_our_bert_equals_theirs(tmp_path):
    """The second reference: embeddings, output, logits, loss and every gradient of the last Flax BERT."""
    save(tmp_path, "bert")
    batch = unpacked()
    ours, theirs = outputs(Pretrained(path=str(tmp_path)), batch), outputs(TransformersFlax(path=str(tmp_path)), batch)
    assert set(ours) == set(theirs)
    assert len(theirs) > 40
    beyond = {name: value for name in theirs if not (value := worst(ours[name], theirs[name], batch["segment_ids"])) <= BOUND}
    assert beyond == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pytorch_directory_of_it_reads_back(tmp_path, family):
    """`write` gives safetensors by PyTorch's names; read again, they are the same numbers."""
    save(tmp_path / "flax", family)
    source = TransformersFlax(path=str(tmp_path / "flax"))
    checkpoint, one = source.open(), loaded(source)
    assert checkpoint.kind == "token"
    write(tmp_path / "out", one.params, one.encoder, checkpoint.config, kind="token", labels=checkpoint.labels)
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert "classifier.weight" in names
    assert f"{family}.embeddings.word_embeddings.weight" in names
    again = flatten(loaded(TransformersFlax(path=str(tmp_path / "out"))).params)
    before = flatten(one.params)
    assert set(again) == set(before)
    assert all(np.array_equal(again[path], before[path]) for path in before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run(tmp_path, family):
    """Loop, checkpoints, evaluation, resume and prediction are those of any model."""
    cfg = tiny.config(tmp_path, **{"data.num_slots": 1, "num_epochs": 6, "optim.learning_rate": 3e-3})
    save(tmp_path / family, family)
    cfg.model = TransformersFlax(path=str(tmp_path / family))
    results = flaxft.run(cfg, str(tmp_path / "run"))
    losses = tiny.losses(tmp_path / "run")
    assert losses[max(losses)] < 0.6 * losses[1]
    assert results["compiles_after_start"] == 0
    again = flaxft.run(cfg, str(tmp_path / "run"))  # nothing is left to do
    assert again["evals"] == results["evals"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["model"]["type"] == "flaxft.models.transformers_flax.TransformersFlax"
    predictor = flaxft.load(str(tmp_path / "run"))
    assert predictor.predict(["anna lives in paris"])[0]["words"] == ["anna", "lives", "in", "paris"]
    predictor.save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [FAMILIES[family].architectures["token"]]


def test_packed_rows_are_refused_in_one_line(tmp_path):
    cfg = tiny.config(tmp_path)
    cfg.model = TransformersFlax(path=str(tmp_path / "encoder"))
    with pytest.raises(UserError, match=r"one example a row; set --config.data.num_slots=1") as caught:
        flaxft.run(cfg, str(tmp_path / "run"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "albert"}, "model_type is 'albert', another family of models; flaxft reads bert, distilbert, electra, roberta"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key', understood is 'absolute'"),
        ({"is_decoder": True}, "is_decoder is True, understood is False"),
        ({"vocab_size": 99}, "of another shape"),
    ],
)
def test_what_it_does_not_read(tmp_path, changes, message):
    save(tmp_path, "bert")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(UserError, match=message):
        loaded(TransformersFlax(path=str(tmp_path)))


def test_dropout_and_remat(tmp_path):
    """Another key, another loss; layers computed again give the same loss and gradients, and DistilBERT says that it cannot."""
    save(tmp_path / "bert", "bert")
    batch = unpacked()
    found = {}
    for remat in (False, True):
        one = loaded(TransformersFlax(path=str(tmp_path / "bert"), remat=remat))

        def loss_fn(params, key, graphdef=one.graphdef):
            logits = nnx.merge(graphdef, params)(batch, deterministic=False, rngs=nnx.Rngs(dropout=key))
            total, weight = cross_entropy(logits, batch["labels"], ignore=-100)
            return total / weight

        step = jax.jit(jax.value_and_grad(loss_fn), static_argnums=1)
        found[remat] = step(one.params, 1)
        assert float(step(one.params, 2)[0]) != float(found[remat][0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=0), found[True], found[False])
    save(tmp_path / "distilbert", "distilbert")
    with pytest.raises(UserError, match=r"leave out model\.remat"):
        TransformersFlax(path=str(tmp_path / "distilbert"), remat=True).open()


def test_attention_is_their_own(tmp_path):
    tiny.encoder(tmp_path / "bert")
    with pytest.raises(UserError, match=r"attention is 'splash', but transformers' Flax modules have their own; leave out model\.attention"):
        TransformersFlax(path=str(tmp_path / "bert"), attention="splash").open()
