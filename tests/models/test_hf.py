"""Weights in: every layout of the same weights gives the same parameters, and every unsound directory is one line."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import flaxft
from flaxft.errors import UserError
from flaxft.models import hf, transformers_flax
from flaxft.models.base import Loaded, flatten, unflatten
from flaxft.models.hf import Pretrained, hf_names
from flaxft.models.weights import Stored
from flaxft.tasks.token_classification import TokenClassification
from tests import tiny
from tests.models import reference

LABELS = ("O", "B-PER", "I-PER")
CONFIG = tiny.ENCODER | {"architectures": ["BertForTokenClassification"], "id2label": {str(i): name for i, name in enumerate(LABELS)}}
SINGLE, INDEX, MSGPACK = "model.safetensors", "model.safetensors.index.json", "flax_model.msgpack"
RNG = np.random.default_rng(7)
ENCODER = tiny.weights(tiny.ENCODER)  # by BertModel's names
HEAD = {"classifier.weight": RNG.standard_normal((3, 32)).astype(np.float32), "classifier.bias": RNG.standard_normal(3).astype(np.float32)}
MODEL = {f"bert.{name}": array for name, array in ENCODER.items()} | HEAD  # by BertForTokenClassification's
POOLER = {"pooler.dense.weight": np.ones((32, 32), np.float32), "pooler.dense.bias": np.ones(32, np.float32)}
MLM_HEAD = {
    "cls.predictions.bias": np.ones(128, np.float32),
    "cls.predictions.transform.dense.weight": np.ones((32, 32), np.float32),
    "cls.predictions.transform.dense.bias": np.ones(32, np.float32),
    "cls.predictions.transform.LayerNorm.gamma": np.ones(32, np.float32),
    "cls.predictions.transform.LayerNorm.beta": np.ones(32, np.float32),
    "cls.predictions.decoder.weight": np.ones((128, 32), np.float32),
    "cls.predictions.decoder.bias": np.ones(128, np.float32),
    "cls.seq_relationship.weight": np.ones((2, 32), np.float32),
    "cls.seq_relationship.bias": np.ones(2, np.float32),
}
FAST = settings(max_examples=200, deadline=None, derandomize=True)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed; the stored names are compared instead")


def model_directory(directory: Path, tensors: Mapping[str, np.ndarray] = MODEL, **changes: Any) -> Path:
    """Changes of None take a key out of config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({key: value for key, value in (CONFIG | changes).items() if value is not None}))
    save_file(dict(tensors), directory / SINGLE)
    return directory


def load(directory: Path | str, **fields: Any) -> Loaded:
    source = Pretrained(path=str(directory), **fields)
    checkpoint = source.open()
    return source.load(checkpoint, lambda encoder, rngs: encoder.head("token", 3, rngs=rngs), reuse_head=checkpoint.kind == "token", seed=0)


def problem(directory: Path | str, **fields: Any) -> str:
    """The one line that a directory is refused with, by `open` or by `load`."""
    with pytest.raises(UserError) as caught:
        load(directory, **fields)
    message = str(caught.value)
    assert "\n" not in message
    return message


def flax_path(name: str) -> str:
    """The name that transformers' old Flax BERT gave to a PyTorch tensor."""
    owner, _, last = name.rpartition(".")
    if last == "weight":
        last = "embedding" if owner.endswith("_embeddings") else "scale" if owner.endswith("LayerNorm") else "kernel"
    return f"{owner}.{last}".replace(".", "/")


def flax_tree(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return unflatten({flax_path(name): array.T.copy() if flax_path(name).endswith("kernel") else array for name, array in tensors.items()})


EXPECTED = {re.sub("^bert/", "encoder/", path) if path.startswith("bert/") else f"head/{path}": array for path, array in flatten(flax_tree(MODEL)).items()}


def assert_params(found: Mapping[str, Any], expected: Mapping[str, np.ndarray]) -> None:
    flat = flatten(found)
    assert set(flat) == set(expected)
    for path, array in expected.items():
        assert flat[path].dtype == np.float32, path
        np.testing.assert_array_equal(np.asarray(flat[path]), array, err_msg=path)


def encoder_of(expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array for path, array in expected.items() if path.startswith("encoder/")}


# ---- layouts: the same weights, the same parameters ---------------------------------------------------------------------------------------------


def write_sharded(directory: Path, tensors: Mapping[str, np.ndarray], *, num: int = 3) -> None:
    (directory / SINGLE).unlink(missing_ok=True)
    names = sorted(tensors)
    shards = {f"model-{i + 1:05}-of-{num:05}.safetensors": names[i::num] for i in range(num)}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, directory / file)
    weight_map = {name: file for file, held in shards.items() for name in held}
    (directory / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def write_msgpack(directory: Path, tree: Mapping[str, Any]) -> None:
    (directory / SINGLE).unlink(missing_ok=True)
    (directory / MSGPACK).write_bytes(serialization.msgpack_serialize(dict(tree)))


def test_one_file(tmp_path):
    loaded = load(model_directory(tmp_path))
    assert_params(loaded.params, EXPECTED)
    assert loaded.fresh == ()


def test_sharded(tmp_path):
    write_sharded(model_directory(tmp_path), MODEL)
    assert_params(load(tmp_path).params, EXPECTED)


def test_flax_msgpack(tmp_path):
    write_msgpack(model_directory(tmp_path), flax_tree(MODEL))
    assert_params(load(tmp_path).params, EXPECTED)


def test_flax_msgpack_in_chunks(tmp_path, monkeypatch):
    """Flax splits arrays of more than 2**30 bytes."""
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 1000)
    write_msgpack(model_directory(tmp_path), flax_tree(MODEL))
    assert_params(load(tmp_path).params, EXPECTED)


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param(ENCODER, id="bare"),
        pytest.param(ENCODER | POOLER, id="pooler"),
        pytest.param({f"bert.{name}": array for name, array in (ENCODER | POOLER).items()}, id="prefix"),
        pytest.param({f"bert.{name}": array for name, array in ENCODER.items()} | MLM_HEAD, id="mlm head"),
        pytest.param(ENCODER | {"embeddings.position_ids": np.arange(64)[None]}, id="position_ids"),
        pytest.param({f"bert.{name}": array for name, array in (ENCODER | {"embeddings.position_ids": np.arange(64)[None]}).items()} | HEAD, id="other head"),
    ],
)
def test_an_encoder_alone_gets_a_new_head(tmp_path, tensors):
    loaded = load(model_directory(tmp_path, tensors, architectures=["BertForMaskedLM"], id2label=None))
    assert set(loaded.fresh) == {"head/classifier/kernel", "head/classifier/bias"}
    found = flatten(loaded.params)
    assert not np.array_equal(found["head/classifier/kernel"], EXPECTED["head/classifier/kernel"])
    assert np.abs(found["head/classifier/kernel"]).max() > 0
    assert_params({"encoder": loaded.params["encoder"]}, encoder_of(EXPECTED))
    again = load(tmp_path)
    np.testing.assert_array_equal(flatten(again.params)["head/classifier/kernel"], found["head/classifier/kernel"])


@pytest.mark.parametrize("with_pooler", [False, True])
def test_flax_msgpack_of_an_encoder_alone(tmp_path, with_pooler):
    """FlaxBertModel writes {"embeddings", "encoder", "pooler"} without a prefix."""
    tree = flax_tree(ENCODER | (POOLER if with_pooler else {}))
    assert set(tree) == {"embeddings", "encoder", *(["pooler"] if with_pooler else [])}
    write_msgpack(model_directory(tmp_path, architectures=["BertModel"], id2label=None), tree)
    loaded = load(tmp_path)
    assert set(loaded.fresh) == {"head/classifier/kernel", "head/classifier/bias"}
    assert_params({"encoder": loaded.params["encoder"]}, encoder_of(EXPECTED))


def test_gamma_and_beta(tmp_path):
    """Names of checkpoints that were converted from TensorFlow."""
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array for name, array in MODEL.items()}
    assert sum("gamma" in name for name in old) == 5
    assert_params(load(model_directory(tmp_path, old)).params, EXPECTED)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64], ids=["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("layout", ["safetensors", "msgpack"])
def test_dtypes(tmp_path, dtype, layout):
    cast = {name: array.astype(dtype) for name, array in MODEL.items()}
    model_directory(tmp_path)
    if layout == "msgpack":
        write_msgpack(tmp_path, flax_tree(cast))
    else:
        (tmp_path / SINGLE).write_bytes(safetensors_bytes(cast))
    assert_params(load(tmp_path).params, {path: array.astype(dtype).astype(np.float32) for path, array in EXPECTED.items()})


# ---- names that others gave ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        pytest.param(lambda name: f"module.{name}", "module.", id="DataParallel"),
        pytest.param(lambda name: f"model.{name}", "model.", id="Lightning"),
        pytest.param(lambda name: f"model.net.{name}", "model.net.", id="a wrapper in a wrapper"),
        pytest.param(lambda name: f"model.net.{name}" if "bert" in name else f"model.{name}", "model.net.", id="a head beside the wrapper"),
        pytest.param(lambda name: f"model.{name}" if "bert" in name else name, "model.", id="a head outside"),
        pytest.param(lambda name: name.replace("bert.", "bert.bert."), "bert.", id="a prefix twice"),
        pytest.param(lambda name: name.replace("bert.", "encoder."), "encoder.", id="another prefix"),
        pytest.param(lambda name: name.replace("bert.", "module.encoder.bert."), "module.encoder.", id="three"),
        pytest.param(lambda name: name.replace("bert.", ""), "", id="none"),
    ],
)
@pytest.mark.parametrize("layout", ["safetensors", "msgpack"])
def test_prefixes_of_wrappers_are_left_out(tmp_path, caplog, rename, told, layout):
    caplog.set_level("INFO", "flaxft")
    tensors = {rename(name): array for name, array in MODEL.items()}
    if layout == "msgpack":
        if told == "":
            pytest.skip("a head and an encoder without a prefix are one tree")
        write_msgpack(model_directory(tmp_path), flax_tree(tensors))
    else:
        model_directory(tmp_path, tensors)
    loaded = load(tmp_path)
    assert loaded.fresh == ()
    assert_params(loaded.params, EXPECTED)
    told = told.replace(".", "/") if layout == "msgpack" else told
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ([f"{tmp_path}: the names of its weights begin with {told!r}, which is left out"] if told else [])


def test_several_encoders_are_refused(tmp_path):
    two = {f"{side}.{name}": array for side in ("query", "document") for name, array in ENCODER.items()}
    assert "the weights hold 2 encoders, named query., document.; save the one to use" in problem(model_directory(tmp_path, two, architectures=["BertModel"]))


@pytest.mark.parametrize(
    "extra",
    [
        {"fc.weight": np.ones((5, 32), np.float32), "fc.bias": np.ones(5, np.float32)},
        {"crf.transitions": np.ones((3, 3), np.float32), "crf.start_transitions": np.ones(3, np.float32)},
        {"classifier.weight": np.ones((9, 32), np.float32), "classifier.bias": np.ones(9, np.float32), "out.weight": np.ones(3, np.float32)},
        {"lstm.weight_ih_l0": np.ones((3, 3), np.float32), "adapter.down.weight": np.ones(3, np.float32)},
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_another_head_is_told_and_passed_over(tmp_path, caplog, extra, prefix):
    tensors = {f"{prefix}bert.{name}": array for name, array in ENCODER.items()} | {f"{prefix}{name}": array for name, array in extra.items()}
    loaded = load(model_directory(tmp_path, tensors, architectures=["BertCrfForNer"]))
    assert_params({"encoder": loaded.params["encoder"]}, encoder_of(EXPECTED))
    assert set(loaded.fresh) == {"head/classifier/kernel", "head/classifier/bias"}
    foreign = [name for name in extra if name not in ("classifier.weight", "classifier.bias")]
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{len(foreign)} tensors are of a head that flaxft does not know, and are not used: " in line
    assert all(name in line for name in foreign)


def test_what_adds_to_the_encoder_is_refused(tmp_path):
    """It would change what is computed. The message does not blame config.json, which belongs to the weights."""
    for name in ("bert.encoder.layer.0.attention.adapter.weight", "bert.embeddings.extra.weight", "bert.prompt.weight"):
        message = problem(model_directory(tmp_path, MODEL | {name: np.zeros(1, np.float32)}))
        assert f"1 unexpected: {name}; flaxft does not compute these parts of the encoder; use a checkpoint without them" in message
    message = problem(model_directory(tmp_path, {f"x.{name}": array for name, array in HEAD.items()}))
    assert "no tensor of the encoder is there by its name; save the model by the names of transformers" in message


# ---- families -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["roberta", "xlm-roberta", "distilbert", "deberta-v2", "modernbert", "electra", "albert", "gpt2", "bart", "mpnet"])
def test_another_family_is_named_as_such(tmp_path, given):
    message = problem(model_directory(tmp_path, model_type=given))
    assert f"model_type is {given!r}, another family of models; flaxft reads bert; take a checkpoint of these, and docs/migrating.md says" in message
    assert "did you mean" not in message
    assert "transformers_flax" not in message


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("BERT", "which is written 'bert'; correct it there"),
        (" bert ", "which is written 'bert'"),
        ("Bert", "which is written 'bert'"),
        ("brt", "did you mean 'bert'?"),
        ("bert-", "did you mean 'bert'?"),
        ("transformers_flax", "which is no family of models; flaxft reads bert; docs/migrating.md"),
        ("../bert", "which is no family of models"),
        ("base", "which is no family of models"),
        (None, "model_type is None; flaxft reads bert; if the weights are one of these, add a line such as \"model_type\": \"bert\""),
        ("", "model_type is ''; flaxft reads bert; if"),
        (7, "model_type is 7; flaxft reads bert; if"),
    ],
)
def test_a_misspelt_family(tmp_path, given, answer):
    message = problem(model_directory(tmp_path, model_type=given))
    assert answer in message
    assert message.count("transformers_flax") == (given == "transformers_flax")


@pytest.mark.parametrize("changes", [{"type_vocab_size": 1, "pad_token_id": 1}, {"type_vocab_size": 1}, {"pad_token_id": 1}])
@pytest.mark.parametrize("positions", [514, 130])
def test_roberta_by_the_name_of_bert_is_refused(tmp_path, changes, positions):
    """The weights would load and be wrong without a word: its positions begin at 2."""
    message = problem(model_directory(tmp_path, max_position_embeddings=positions, **changes))
    assert f"{positions} positions, " in message
    assert "those of RoBERTa and its kin, whose positions begin at 2; put back the model_type" in message


def test_a_bert_of_one_token_type_is_read(tmp_path):
    tensors = MODEL | {"bert.embeddings.token_type_embeddings.weight": np.ones((1, 32), np.float32)}
    load(model_directory(tmp_path, tensors, type_vocab_size=1))


# ---- labels -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id2label", "labels", "has_names"),
    [
        ({"0": "O", "1": "B-PER", "2": "I-PER"}, LABELS, True),
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, ("LABEL_0", "LABEL_1", "LABEL_2"), False),
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "OTHER"}, ("LABEL_0", "LABEL_1", "OTHER"), True),
        (None, ("LABEL_0", "LABEL_1", "LABEL_2"), False),  # as many as the classifier has
    ],
)
def test_placeholders_are_no_names(tmp_path, id2label, labels, has_names):
    checkpoint = Pretrained(path=str(model_directory(tmp_path, id2label=id2label))).open()
    assert (checkpoint.labels, checkpoint.has_label_names) == (labels, has_names)


@pytest.mark.parametrize("id2label", [None, {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}])
@pytest.mark.parametrize("label2id", [{"I-PER": 2, "O": 0, "B-PER": 1}, {"I-PER": "2", "O": "0", "B-PER": "1"}])
def test_names_may_be_given_in_the_other_direction(tmp_path, id2label, label2id):
    checkpoint = Pretrained(path=str(model_directory(tmp_path, id2label=id2label, label2id=label2id))).open()
    assert (checkpoint.labels, checkpoint.has_label_names) == (LABELS, True)


def test_an_adapter_is_called_one(tmp_path):
    wrapped = {re.sub(r"(query|value)\.weight", r"\1.base_layer.weight", f"base_model.model.{name}"): array for name, array in MODEL.items()}
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.default.weight"
    message = problem(model_directory(tmp_path / "unmerged", wrapped | {name: np.ones((4, 32), np.float32)}))
    assert "there is an adapter among them; merge it into its model first (merge_and_unload of peft)" in message
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/adapter_config.json").write_text("{}")
    assert "alone holds an adapter and no model; merge it into its model first" in problem(tmp_path / "alone")


def test_an_encoder_has_no_labels(tmp_path):
    checkpoint = Pretrained(path=str(model_directory(tmp_path, ENCODER, architectures=["BertModel"], id2label={"0": "LABEL_0", "1": "LABEL_1"}))).open()
    assert (checkpoint.labels, checkpoint.has_label_names) == (None, True)


def test_a_model_of_placeholders_is_applied_with_the_names_that_are_given(tmp_path, caplog):
    tiny.encoder(tmp_path)
    model_directory(tmp_path, id2label={str(i): f"LABEL_{i}" for i in range(3)})
    text = ["anna lives in paris"]
    named = flaxft.load(str(tmp_path), task=TokenClassification(labels=LABELS)).predict(text)
    assert "LABEL" not in caplog.text
    assert set(named[0]["tags"]) <= set(LABELS)
    plain = flaxft.load(str(tmp_path), task=TokenClassification()).predict(text)
    assert [LABELS[int(tag.removeprefix("LABEL_"))] for tag in plain[0]["tags"]] == list(named[0]["tags"])
    assert "has no names for its 3 labels (LABEL_0, ...); --config.task.labels=NAME,NAME,... gives them, in the order of its training" in caplog.text
    with pytest.raises(UserError, match=r"task.labels names 2 labels, but the head of .* has 3 outputs"):
        flaxft.load(str(tmp_path), task=TokenClassification(labels=("O", "B-PER")))


def test_numbers_in_order_are_no_names_of_labels(tmp_path):
    tiny.encoder(tmp_path)
    model_directory(tmp_path, id2label={str(i): str(i) for i in range(3)})
    assert flaxft.load(str(tmp_path), task=TokenClassification(labels=LABELS)).task.labels == LABELS
    with pytest.raises(UserError, match=r"task.labels are \['2', '1', '0'\], but the head"):
        flaxft.load(str(tmp_path), task=TokenClassification(labels=("2", "1", "0")))


def test_one_file_is_taken_before_shards_before_msgpack(tmp_path):
    model_directory(tmp_path)
    write_msgpack(tmp_path, {"wrong": np.zeros(1)})
    assert "unexpected: wrong" in problem(tmp_path)
    write_sharded(tmp_path, MODEL)
    assert_params(load(tmp_path).params, EXPECTED)
    save_file(MODEL, tmp_path / SINGLE)
    (tmp_path / INDEX).write_text("{")
    assert_params(load(tmp_path).params, EXPECTED)


def test_a_head_that_is_not_reused_is_new(tmp_path):
    source = Pretrained(path=str(model_directory(tmp_path)))
    checkpoint = source.open()
    assert (checkpoint.kind, checkpoint.labels) == ("token", LABELS)
    loaded = source.load(checkpoint, lambda encoder, rngs: encoder.head("token", 7, rngs=rngs), reuse_head=False, seed=1)
    assert flatten(loaded.params)["head/classifier/kernel"].shape == (32, 7)
    assert len(loaded.fresh) == 2


def test_the_fingerprint_is_of_config_and_tensors_not_of_the_place(tmp_path):
    first = Pretrained(path=str(model_directory(tmp_path / "a"))).open()
    assert Pretrained(path=str(model_directory(tmp_path / "b"))).open().fingerprint == first.fingerprint
    assert Pretrained(path=str(model_directory(tmp_path / "c", hidden_act="relu"))).open().fingerprint != first.fingerprint
    assert Pretrained(path=str(model_directory(tmp_path / "d", MODEL | POOLER))).open().fingerprint != first.fingerprint


# ---- names --------------------------------------------------------------------------------------------------------------------------------------


def test_hf_names_round_trip(tmp_path):
    source = Pretrained(path=str(model_directory(tmp_path / "a")))
    checkpoint = source.open()
    written = {}
    for path, array in flatten(load(tmp_path / "a").params).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        written[name] = np.ascontiguousarray(array.T if transposed else array)
    assert set(written) == set(MODEL)
    for name, array in MODEL.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)
    bare = {hf_names(path, checkpoint.encoder, with_prefix=False)[0] for path in EXPECTED}
    assert bare == set(ENCODER) | set(HEAD)
    with pytest.raises(AssertionError, match="head/other"):
        hf_names("head/other", checkpoint.encoder, with_prefix=True)


FAMILIES = {name: importlib.import_module(f"flaxft.models.{name}").ENCODER for name in hf.families()} | {
    f"flax {name}": encoder for name, encoder in transformers_flax.FAMILIES.items()
}


@FAST
@given(family=st.sampled_from(sorted(FAMILIES)), data=st.data(), layer=st.integers(0, 10**6), with_prefix=st.booleans(), shape=st.sampled_from([(3,), (2, 3)]))
def test_every_name_of_every_family_comes_back(family, data, layer, with_prefix, shape):
    """Of any layer, heads included: our path, its Hugging Face name, and our path with the array as it was."""
    encoder = FAMILIES[family]
    key = data.draw(st.sampled_from(encoder.keys))
    path = key.path.replace("{i}", str(layer))
    name, transposed = hf_names(path, encoder, with_prefix=with_prefix)
    array = np.arange(np.prod(shape)).reshape(shape)
    file = array.T if transposed else array
    (found,) = hf.by_path({name: Stored(name, file.shape, lambda: file)}, encoder, where=Path("model")).items()
    assert found[0] == path
    assert found[1].shape == shape
    np.testing.assert_array_equal(found[1].read(), array)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_keys_of_a_family_are_one(family):
    keys = FAMILIES[family].keys
    for names in ([key.path for key in keys], [(key.hf, key.prefixed) for key in keys]):
        assert len(set(names)) == len(names)


def our_names(directory: Path, num_labels: int) -> dict[str, tuple[int, ...]]:
    """PyTorch's names and shapes of our parameters."""
    source = Pretrained(path=str(directory))
    config = json.loads((directory / "config.json").read_text())
    skeleton = source.skeleton(config, lambda encoder, rngs: encoder.head("token", num_labels, rngs=rngs), where=directory / "config.json")
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(skeleton.params))
    encoder = source._abstract(config, where=directory / "config.json")
    result = {}
    for path, leaf in flatten(skeleton.params).items():
        name, transposed = hf_names(path, encoder, with_prefix=True)
        result[name] = tuple(leaf.shape[::-1] if transposed else leaf.shape)
    return result


def test_names_are_those_of_the_stored_pytorch_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(reference.TINY))
    stored = {name.removeprefix("weight:"): array.shape for name, array in np.load(reference.STORED).items() if name.startswith("weight:")}
    assert our_names(tmp_path, 4) == stored


@needs_torch
def test_names_are_those_of_pytorch(tmp_path):
    model = reference.torch_model(CONFIG, tmp_path, seed=0)
    assert our_names(tmp_path, 3) == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not name.endswith("position_ids")}


# ---- weights that do not fit --------------------------------------------------------------------------------------------------------------------


def test_every_mismatch_is_reported_at_once(tmp_path):
    tensors = dict(MODEL)
    del tensors["bert.embeddings.LayerNorm.weight"], tensors["bert.encoder.layer.1.attention.self.query.bias"]
    tensors["bert.encoder.layer.0.output.dense.weight"] = np.zeros((32, 65), np.float32)
    tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((127, 32), np.float32)
    tensors["bert.encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
    tensors["bert.adapter.weight"] = np.zeros(1, np.float32)
    message = problem(model_directory(tmp_path, tensors))
    for part in (
        str(tmp_path), "2 missing", "embeddings/LayerNorm/scale", "layer/1/attention/self/query/bias", "2 of another shape", "layer.0.output.dense.weight",
        "word_embeddings.weight is (127, 32), expected (128, 32)", "2 unexpected", "bert.encoder.layer.2.output.dense.bias", "bert.adapter.weight",
        "use the config.json that belongs to the weights",
    ):  # fmt: skip
        assert part in message


def test_a_long_list_of_mismatches_is_cut(tmp_path):
    message = problem(model_directory(tmp_path, HEAD))
    assert "37 missing" in message
    assert " ..." in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param("bert.embeddings.LayerNorm.gamma", id="gamma beside weight"),
        pytest.param("embeddings.LayerNorm.weight", id="with and without prefix"),
    ],
)
def test_a_tensor_under_two_names_is_refused(tmp_path, extra):
    message = problem(model_directory(tmp_path, MODEL | {extra: np.zeros(32, np.float32)}))
    assert "bert.embeddings.LayerNorm.weight" in message
    assert extra in message


def test_a_head_that_config_json_promises_but_the_weights_lack(tmp_path):
    message = problem(model_directory(tmp_path, ENCODER))
    assert "2 missing: head/classifier/bias, head/classifier/kernel" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["safetensors", "msgpack"])
def test_not_finite(tmp_path, value, layout):
    tensors = MODEL | {"bert.embeddings.LayerNorm.bias": np.full(32, value, np.float32)}
    model_directory(tmp_path, tensors)
    if layout == "msgpack":
        write_msgpack(tmp_path, flax_tree(tensors))
    message = problem(tmp_path)
    for part in (str(tmp_path), "embeddings", "LayerNorm", "bias", "holds NaN or infinity"):
        assert part in message


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn", "int64", "bool", "complex64"])
@pytest.mark.parametrize("layout", ["safetensors", "msgpack"])
def test_weights_that_are_no_floats(tmp_path, dtype, layout):
    """Quantised weights need scales that these names do not tell of."""
    wrong = np.ones((3, 32), ml_dtypes.float8_e4m3fn if dtype == "float8_e4m3fn" else dtype)
    tensors = MODEL | {"classifier.weight": wrong}
    model_directory(tmp_path)
    if layout == "msgpack":
        write_msgpack(tmp_path, flax_tree(tensors))
    else:
        (tmp_path / SINGLE).write_bytes(safetensors_bytes(tensors))
    message = problem(tmp_path)
    for part in (str(tmp_path), "classifier", "float32, float16 or bfloat16"):
        assert part in message


# ---- files that are no weights ------------------------------------------------------------------------------------------------------------------

CODES = {
    "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "int8": "I8", "int64": "I64", "float8_e4m3fn": "F8_E4M3", "bool": "BOOL",
    "complex64": "C64",
}  # fmt: skip


def safetensors_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    header, data = {}, b""
    for name, array in sorted(tensors.items(), key=lambda pair: -pair[1].dtype.itemsize):  # aligned, as the library writes them
        header[name] = {"dtype": CODES[array.dtype.name], "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    return with_header(json.dumps(header).encode(), data)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


ENTRY = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
NO_WEIGHTS = {
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n", "git-lfs pointer", "git lfs pull"),
    "html": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML page", "safetensors"),
    "pickle": (b"\x80\x02}q\x00(X\x0b\x00\x00\x00", "pickle", "safetensors"),
    "zip": (b"PK\x03\x04" + b"\0" * 60, "zip or PyTorch archive", "safetensors"),
    "empty": (b"", "0 bytes", "fetch it again"),
    "short": (b"\x08\0\0\0", "4 bytes", "fetch it again"),
    "zeros": (b"\0" * 4096, "header cannot be read", "fetch it again"),
    "text": (b"Entry not found. You need to log in.", "cut off, or no safetensors", "fetch it again"),
    "2^63": (struct.pack("<Q", 1 << 63) + b"{}", "header of 9223372036854775808", "fetch it again"),
    "2^64-1": (b"\xff" * 8 + b"{}", "header of 18446744073709551615", "fetch it again"),
    "duplicate key": (with_header(b"{" + ENTRY + b"," + ENTRY + b"}", b"\0" * 4), "duplicate key 'a'", "fetch it again"),
    "duplicate inner key": (with_header(b"{" + ENTRY.replace(b"[1]", b'[1],"shape":[1]') + b"}", b"\0" * 4), "duplicate key 'shape'", "fetch it again"),
    "deep list": (with_header(b"[" * 100_000 + b"]" * 100_000), "header cannot be read", "fetch it again"),
    "deep object": (with_header(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "header cannot be read", "fetch it again"),
    "list": (with_header(b"[1]"), "damaged or cut off", "fetch it again"),
    "not UTF-8": (with_header(b'{"\xff":1}'), "header cannot be read", "fetch it again"),
    "offset beyond the end": (with_header(b"{" + ENTRY + b"}", b"\0\0"), "damaged or cut off", "fetch it again"),
    "bytes left over": (with_header(b"{" + ENTRY + b"}", b"\0" * 8), "damaged or cut off", "fetch it again"),
    "negative shape": (with_header(b"{" + ENTRY.replace(b"[1]", b"[-1]") + b"}", b"\0" * 4), "damaged or cut off", "fetch it again"),
    "shape that overflows": (with_header(b"{" + ENTRY.replace(b"[1]", b"[4611686018427387904,8]") + b"}", b"\0" * 4), "damaged or cut off", "fetch it again"),
    "unknown dtype": (with_header(b"{" + ENTRY.replace(b"F32", b"Q7") + b"}", b"\0" * 4), "damaged or cut off", "fetch it again"),
}


@pytest.mark.parametrize(("content", "what", "mend"), NO_WEIGHTS.values(), ids=NO_WEIGHTS)
@pytest.mark.parametrize("sharded", [False, True], ids=["single", "shard"])
def test_no_safetensors(tmp_path, content, what, mend, sharded):
    file = model_directory(tmp_path) / SINGLE
    if sharded:
        write_sharded(tmp_path, MODEL)
        file = tmp_path / "model-00002-of-00003.safetensors"
    file.write_bytes(content)
    message = problem(tmp_path)
    for part in (str(file), what, mend):
        assert part in message


@pytest.mark.parametrize("first_byte", [b"<", b"\x80", b"P"])
def test_a_header_length_that_looks_like_another_file(tmp_path, first_byte):
    """A sound file may begin with any byte: the length of its header."""
    content = safetensors_bytes(MODEL)
    length = struct.unpack("<Q", content[:8])[0]
    padding = (first_byte[0] - length) % 256
    (model_directory(tmp_path) / SINGLE).write_bytes(struct.pack("<Q", length + padding) + content[8 : 8 + length] + b" " * padding + content[8 + length :])
    assert (tmp_path / SINGLE).read_bytes().startswith(first_byte)
    assert_params(load(tmp_path).params, EXPECTED)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A directory whose weights hypothesis overwrites again and again."""
    return model_directory(tmp_path_factory.mktemp("scratch"))


SOUND = safetensors_bytes(MODEL)
FUZZ = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def test_sound_bytes_are_sound(scratch):
    (scratch / SINGLE).write_bytes(SOUND)
    assert_params(load(scratch).params, EXPECTED)


@pytest.mark.parametrize("cut", [*range(12), 64, 1000, struct.unpack("<Q", SOUND[:8])[0] + 8, len(SOUND) // 2, len(SOUND) - 4, len(SOUND) - 1])
def test_truncated(scratch, cut):
    (scratch / SINGLE).write_bytes(SOUND[:cut])
    message = problem(scratch)
    assert str(scratch / SINGLE) in message
    assert "fetch it again" in message


@FUZZ
@given(cut=st.integers(0, len(SOUND) - 1))
def test_truncated_anywhere(scratch, cut):
    (scratch / SINGLE).write_bytes(SOUND[:cut])
    assert str(scratch / SINGLE) in problem(scratch)


def loads_or_refuses(directory: Path) -> None:
    """A flipped bit in the data is another number; in a header it must not come out as a traceback."""
    with contextlib.suppress(UserError):
        load(directory)


@FUZZ
@given(at=st.integers(0, struct.unpack("<Q", SOUND[:8])[0] + 7), byte=st.integers(0, 255))
def test_a_damaged_header_is_no_traceback(scratch, at, byte):
    (scratch / SINGLE).write_bytes(SOUND[:at] + bytes([byte]) + SOUND[at + 1 :])
    loads_or_refuses(scratch)


# ---- Flax files ---------------------------------------------------------------------------------------------------------------------------------

SOUND_MSGPACK = serialization.msgpack_serialize(flax_tree(MODEL))


@pytest.fixture(scope="module")
def flax_scratch(tmp_path_factory):
    directory = model_directory(tmp_path_factory.mktemp("flax"))
    (directory / SINGLE).unlink()
    return directory


@FUZZ
@given(cut=st.integers(0, len(SOUND_MSGPACK) - 1))
def test_truncated_msgpack(flax_scratch, cut):
    (flax_scratch / MSGPACK).write_bytes(SOUND_MSGPACK[:cut])
    message = problem(flax_scratch)
    assert str(flax_scratch / MSGPACK) in message
    assert "fetch it again" in message


@FUZZ
@given(data=st.data(), byte=st.integers(0, 255))
def test_a_damaged_msgpack_is_no_traceback(flax_scratch, data, byte):
    near = [match.start() for match in re.finditer(rb"float32|kernel|scale|bias|bert", SOUND_MSGPACK)]
    at = min(data.draw(st.sampled_from(near)) + data.draw(st.integers(-12, 12)), len(SOUND_MSGPACK) - 1)
    (flax_scratch / MSGPACK).write_bytes(SOUND_MSGPACK[:at] + bytes([byte]) + SOUND_MSGPACK[at + 1 :])
    loads_or_refuses(flax_scratch)


@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html></html>", b"\x80\x02}q", b"PK\x03\x04", serialization.msgpack_serialize([1, 2]), b"\x05"],
    ids=["empty", "git-lfs", "html", "pickle", "zip", "list", "number"],
)
def test_no_msgpack(flax_scratch, content):
    (flax_scratch / MSGPACK).write_bytes(content)
    assert str(flax_scratch) in problem(flax_scratch)


# ---- directories --------------------------------------------------------------------------------------------------------------------------------


def test_no_weights(tmp_path):
    (model_directory(tmp_path) / SINGLE).unlink()
    message = problem(tmp_path)
    assert f"{tmp_path} holds no weights ({SINGLE}, {INDEX} or {MSGPACK})" in message
    assert "pickle" not in message
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    message = problem(tmp_path)
    for part in ("'pytorch_model.bin'", "pickle can run code", f"python -m flaxft.convert_bin {tmp_path} NEW_DIRECTORY"):
        assert part in message


def test_no_config(tmp_path):
    (model_directory(tmp_path) / "config.json").unlink()
    assert f"{tmp_path} holds no config.json; model.path needs a Hugging Face model directory" in problem(tmp_path)


def test_paths(tmp_path, monkeypatch):
    model_directory(tmp_path / "model")
    assert "model.path is empty; set --config.model.path" in problem("")
    file = tmp_path / "model" / SINGLE
    assert problem(file) == f"model.path={file} is a file, expected a directory with config.json, weights and tokenizer files"
    for missing in (tmp_path / "none", tmp_path / "none/deeper", f"{tmp_path}/{'x' * 300}", "./none", "../none", "~nobody/x", "a b"):
        assert f"model.path={missing}: no such directory" in problem(missing)
    load(f"{tmp_path}/model/")
    monkeypatch.chdir(tmp_path)
    load("model")
    assert "model.path=model/none: no such directory" in problem("model/none")  # not asked of the hub: model/ is here


INDEXES = {
    "missing shard": ({"weight_map": {"a": "shard-1", "b": "config.json"}}, "shards that are not there: ['shard-1']", "fetch the whole model"),
    "parent": ({"weight_map": {"a": "../../x"}}, "['../../x'] leave the directory", "refused"),
    "absolute": ({"weight_map": {"a": "/etc/passwd"}}, "['/etc/passwd'] leave the directory", "refused"),
    "folder": ({"weight_map": {"a": "sub/x.safetensors"}}, "leave the directory", "refused"),
    "dots": ({"weight_map": {"a": ".."}}, "['..']", ""),
    "empty name": ({"weight_map": {"a": ""}}, "['']", ""),
    "long name": ({"weight_map": {"a": "x" * 300}}, "shards that are not there", "fetch the whole model"),
    "number": ({"weight_map": {"a": 1}}, "no weight_map", "fetch it again"),
    "no map": ({"metadata": {}}, "no weight_map", "fetch it again"),
    "list": ([1], "no weight_map", "fetch it again"),
    "not JSON": ("{", "not valid JSON", "fetch it again"),
}


@pytest.mark.parametrize(("content", "what", "mend"), INDEXES.values(), ids=INDEXES)
def test_bad_index(tmp_path, content, what, mend):
    model_directory(tmp_path / "model")
    (tmp_path / "x").write_bytes(SOUND)  # what ../../x could reach must not matter
    (tmp_path / "model" / SINGLE).unlink()
    file = tmp_path / "model" / INDEX
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    message = problem(tmp_path / "model")
    for part in (str(file), what, mend):
        assert part in message


def test_an_index_that_leaves_tensors_out(tmp_path):
    """Shards hold what they hold; what the model needs and none of them has is missing."""
    write_sharded(model_directory(tmp_path), {name: array for name, array in MODEL.items() if "query" not in name})
    assert "4 missing" in problem(tmp_path)


# ---- config.json --------------------------------------------------------------------------------------------------------------------------------

BAD_CONFIGS = {
    "not JSON": (b"{", "not valid JSON", "fetch it again"),
    "html": (b"<html>", "not valid JSON", "fetch it again"),
    "empty": (b"", "not valid JSON", "fetch it again"),
    "not UTF-8": (b'{"a": "\xff"}', "not valid JSON", "fetch it again"),
    "deep": (b"[" * 100_000, "not valid JSON", "fetch it again"),
    "long number": (b'{"a": ' + b"1" * 10_000 + b"}", "not valid JSON", "fetch it again"),
    "list": (b"[1]", "a JSON list, expected an object", ""),
    "text": (b'"bert"', "a JSON str, expected an object", ""),
    "2 MB": (b" " * (2 << 20), "2097152 bytes, at most 1048576 are read", "is it the right file?"),
}


@pytest.mark.parametrize(("content", "what", "mend"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_bad_config_file(tmp_path, content, what, mend):
    file = model_directory(tmp_path) / "config.json"
    file.write_bytes(content)
    message = problem(tmp_path)
    for part in (str(file), what, mend):
        assert part in message


@pytest.mark.parametrize("model_type", ["roberta", "distilbert", "bret", "BERT", "hf", "base", "__init__", "../models/bert", "os", 3, ["bert"], None])
def test_another_architecture(tmp_path, model_type):
    message = problem(model_directory(tmp_path, model_type=model_type))
    for part in (str(tmp_path / "config.json"), f"model_type is {model_type!r}", "flaxft reads bert" if model_type != "BERT" else "is written 'bert'"):
        assert part in message
    assert ("did you mean 'bert'?" in message) == (model_type == "bret")


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "custom_pipelines", "quantization_config", "_attn_implementation_internal"])
def test_keys_that_name_code_are_refused(tmp_path, key):
    message = problem(model_directory(tmp_path, **{key: {"AutoModel": "evil.Model"}}))
    for part in (str(tmp_path / "config.json"), f"['{key}']", "code or layouts that flaxft does not run", "use a checkpoint without them"):
        assert part in message
    assert "code or layouts" in problem(tmp_path, ignore=(key,)), "these cannot be passed over"


def test_unknown_keys_can_be_passed_over(tmp_path):
    message = problem(model_directory(tmp_path, new_kind_of_norm=True))
    for part in (str(tmp_path / "config.json"), "unknown keys ['new_kind_of_norm']", "model.ignore"):
        assert part in message
    assert_params(load(tmp_path, ignore=("new_kind_of_norm",)).params, EXPECTED)


@pytest.mark.parametrize(
    ("id2label", "what"),
    [
        (["O", "B-PER"], "expected an object of number -> name"),
        ("O", "expected an object of number -> name"),
        ({"O": "0"}, "expected an object of number -> name"),
        ({"0": "O", "2": "B-PER"}, "has the numbers [0, 2], expected 0 to 1"),
        ({"1": "O", "2": "B-PER"}, "has the numbers [1, 2], expected 0 to 1"),
        ({"-1": "O", "0": "B-PER"}, "has the numbers [-1, 0], expected 0 to 1"),
    ],
)
def test_bad_id2label(tmp_path, id2label, what):
    message = problem(model_directory(tmp_path, id2label=id2label))
    assert f"{tmp_path / 'config.json'}: id2label" in message
    assert what in message
    # of an encoder alone it means nothing
    load(model_directory(tmp_path, id2label=id2label, architectures=["BertModel"]))


@pytest.mark.parametrize("architectures", [5, "BertForTokenClassification", [["BertForTokenClassification"]], {"a": 1}, [None]])
def test_bad_architectures(tmp_path, architectures):
    message = problem(model_directory(tmp_path, architectures=architectures))
    assert f"{tmp_path / 'config.json'}: architectures is {architectures!r}, expected a list of class names" in message


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hidden_size": 48}, "of another shape"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"num_hidden_layers": 1}, "unexpected"),
        ({"vocab_size": 10**30}, "of another shape"),
        ({"hidden_size": "32"}, "hidden_size is '32', expected int"),
        ({"num_attention_heads": 5}, "not divisible"),
        ({"position_embedding_type": "relative_key"}, "understood is 'absolute'"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob is nan"),
    ],
)
def test_config_that_does_not_fit(tmp_path, changes, what):
    message = problem(model_directory(tmp_path, **changes))
    assert str(tmp_path) in message
    assert what in message
