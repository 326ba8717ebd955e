"""sentence-transformers directories: what their modules say is read and written, and what kind of encoder a checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import flaxft
from flaxft.errors import UserError
from flaxft.export import reference
from flaxft.models.base import Modules
from flaxft.models.hf import Pretrained, Untrained
from flaxft.models.modules import read_modules, write_modules
from flaxft.tasks.sentence_embedding import SentenceEmbedding
from tests import tiny

OLD, NEW = "sentence_transformers.models.{}", "sentence_transformers.sentence_transformer.modules.{}"
CLS = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}


def modules(directory: Path, *names: str, pooling: Any = CLS, pattern: str = OLD) -> Path:
    """Puts modules.json and the config of its pooling into `directory`."""
    paths = ["", *(f"{i}_{name}" for i, name in enumerate(names) if i)]
    directory.mkdir(exist_ok=True)
    rows = [{"idx": i, "name": str(i), "path": path, "type": pattern.format(name)} for i, (name, path) in enumerate(zip(names, paths, strict=True))]
    (directory / "modules.json").write_text(json.dumps(rows))
    for name, path in zip(names, paths, strict=True):
        if path:
            (directory / path).mkdir(exist_ok=True)
            (directory / path / "config.json").write_text(json.dumps(pooling if name == "Pooling" else {}))
    return directory


@pytest.mark.parametrize(
    ("names", "pooling", "found"),
    [
        (("Transformer", "Pooling"), CLS, Modules("cls", False, ())),
        (("Transformer", "Pooling", "Normalize"), {"pooling_mode_mean_tokens": True}, Modules("mean", True, ())),
        (("Transformer", "Pooling", "Normalize"), {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}, Modules("cls", True, ())),
        (("Transformer", "Pooling"), {"pooling_mode": ["mean", "max"]}, Modules("mean+max", False, ())),
        (("Transformer", "Pooling"), {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, Modules("cls+max", False, ())),
        (("Transformer", "Pooling"), {"word_embedding_dimension": 32}, Modules("mean", False, ())),
        (("Transformer", "Pooling", "Dense", "Normalize"), CLS, Modules("cls", True, ("Dense (2_Dense)",))),
        (("MLMTransformer", "SpladePooling"), CLS, Modules(None, False, ("MLMTransformer", "SpladePooling (1_SpladePooling)"))),
        (("Transformer",), CLS, Modules(None, False, ())),
    ],
)
@pytest.mark.parametrize("pattern", [OLD, NEW])
def test_modules_are_read(tmp_path, names, pooling, found, pattern):
    assert read_modules(modules(tmp_path, *names, pooling=pooling, pattern=pattern)) == found


def test_what_is_written_is_read(tmp_path):
    dense = {"kernel": np.ones((32, 3), np.float32), "bias": np.zeros(3, np.float32)}
    write_modules(tmp_path, size=32, pooling="cls", normalize=True, max_length=40, similarity="cosine", dense=dense)
    assert read_modules(tmp_path) == Modules("cls", True, ("Dense (2_Dense)",))
    assert load_file(tmp_path / "2_Dense" / "model.safetensors")["linear.weight"].shape == (3, 32)
    assert read_modules(tmp_path / "2_Dense") is None
    write_modules(tmp_path, size=32, pooling="mean", normalize=False, max_length=40, similarity="cosine", dense=dense)
    assert read_modules(tmp_path) == Modules("mean", False, ("Dense (2_Dense)",), classifier="2_Dense")
    (tmp_path / "2_Dense" / "config.json").write_text('{"activation_function": "torch.nn.modules.activation.Tanh"}')
    assert read_modules(tmp_path).classifier == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"type": "Pooling"}', "expected a list of modules"),
        ('[{"type": "Pooling"}]', "expected a list of modules"),
        ("[", "not valid JSON"),
        ('[{"type": "x.Pooling", "path": "../1_Pooling"}]', r"\['../1_Pooling'\] leave the directory"),
        ('[{"type": "x.Pooling", "path": "1_Pooling"}]', "modules.json names it, and it is not there; fetch the whole model"),
    ],
)
def test_what_cannot_be_understood_is_one_line(tmp_path, content, message):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_modules(tmp_path)


# ---- embeddings ---------------------------------------------------------------------------------------------------------------------------------


def resolved(directory: Path, **settings: Any) -> SentenceEmbedding:
    return SentenceEmbedding(**settings).resolve(None, Pretrained(path=str(directory)).open())


def test_pooling_and_length_are_the_directorys(tmp_path, caplog):
    plain = tiny.encoder(tmp_path / "encoder")
    assert (resolved(plain).pooling, resolved(plain).normalize) == ("mean", True)
    caplog.set_level("INFO", "flaxft")
    modules(plain, "Transformer", "Pooling")
    assert (resolved(plain).pooling, resolved(plain).normalize) == ("cls", False)
    assert "pooled by cls, as its modules.json says" in caplog.text
    (tmp_path / "train.jsonl").write_text('{"anchor": "anna", "positive": "bob"}\n{"anchor": "paris", "positive": "rome"}\n')
    assert resolved(plain, train=str(tmp_path / "train.jsonl")).normalize is True, "a dot product over the temperature is no similarity to learn by"
    modules(plain, "Transformer", "Pooling", "Normalize")
    assert (resolved(plain).pooling, resolved(plain).normalize) == ("cls", True)
    caplog.clear()
    asked = resolved(plain, pooling="mean", normalize=False)
    assert (asked.pooling, asked.normalize) == ("mean", False)
    assert "task.pooling=mean leaves out what its modules.json has: pooling by cls" in caplog.text


def test_the_vectors_are_those_of_the_pooling(tmp_path):
    """Of a directory that pools by [CLS] and does not normalise: the first token's last hidden state."""
    directory = modules(tiny.encoder(tmp_path / "encoder"), "Transformer", "Pooling")
    predictor = flaxft.load(str(directory), task=SentenceEmbedding())
    (found,) = predictor.predict(["anna lives in paris"])
    ids = predictor.tokenizer.wrap(predictor.tokenizer.text("anna lives in paris")[0])[None]
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    hidden = reference.logits_of(predictor, predictor.params)(given)
    np.testing.assert_allclose(found["embedding"], hidden[0, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("names", "pooling", "message"),
    [
        (("Transformer", "Pooling", "Dense", "Normalize"), CLS, r"encoder: its sentence-transformers modules have Dense \(2_Dense\), which flaxft does not.*"),
        (("MLMTransformer", "SpladePooling"), CLS, r"MLMTransformer, SpladePooling \(1_SpladePooling\), which flaxft does not compute"),
        (("Transformer", "Pooling"), {"pooling_mode": "lasttoken"}, "pools by lasttoken, which flaxft does not; .*task.pooling"),
    ],
)
def test_modules_that_are_not_computed_are_refused(tmp_path, names, pooling, message):
    directory = modules(tiny.encoder(tmp_path / "encoder"), *names, pooling=pooling)
    with pytest.raises(UserError, match=message):
        resolved(directory)
    assert resolved(directory, pooling="mean").pooling == "mean"


def test_a_prompt_before_every_text_is_refused(tmp_path):
    directory = modules(tiny.encoder(tmp_path / "encoder"), "Transformer", "Pooling")
    (directory / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": None}))
    assert resolved(directory).pooling == "cls"  # its prompts are for those who ask for them
    (directory / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": "query"}))
    with pytest.raises(UserError, match=r"a prompt before every text \('query' in config_sentence_transformers.json\), which flaxft does not compute"):
        resolved(directory)


def test_the_encoder_may_lie_in_a_folder_of_its_own(tmp_path):
    """As directories of sentence-transformers' first versions have it."""
    directory = modules(tmp_path / "model", "Transformer", "Pooling")
    tiny.encoder(directory / "0_Transformer")
    rows = json.loads((directory / "modules.json").read_text())
    rows[0]["path"] = "0_Transformer"
    (directory / "modules.json").write_text(json.dumps(rows))
    checkpoint = Pretrained(path=str(directory)).open()
    assert checkpoint.directory == directory / "0_Transformer"
    assert checkpoint.modules.pooling == "cls"


# ---- what kind of encoder a checkpoint is -------------------------------------------------------------------------------------------------------


def pooler(directory: Path, bias: float) -> None:
    found = {"pooler.dense.weight": np.ones((32, 32), np.float32), "pooler.dense.bias": np.full(32, bias, np.float32)}
    save_file(load_file(directory / "model.safetensors") | found, directory / "model.safetensors")


def masked(directory: Path) -> None:
    found = load_file(directory / "model.safetensors")
    save_file(found | {"cls.predictions.bias": np.zeros(128, np.float32)}, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("make", "is_sentence_encoder"),
    [
        (lambda directory: None, False),  # an encoder alone, of which nothing tells
        (lambda directory: pooler(directory, 0.0), True),  # its pooler is as it was drawn: nobody trained it
        (lambda directory: pooler(directory, 0.1), False),  # next-sentence prediction did
        (masked, False),
        (lambda directory: modules(directory, "Transformer", "Pooling"), True),
        (lambda directory: (modules(directory, "Transformer", "Pooling"), pooler(directory, 0.1)), True),
        (lambda directory: (directory / "sentence_bert_config.json").write_text("{}"), True),
        (lambda directory: (masked(directory), pooler(directory, 0.0)), False),
        (lambda directory: (modules(directory, "Transformer"), pooler(directory, 0.1)), False),  # a cross-encoder's
    ],
)
def test_a_sentence_encoder_is_known(tmp_path, make, is_sentence_encoder):
    directory = tiny.encoder(tmp_path / "encoder")
    make(directory)
    assert Pretrained(path=str(directory)).open().is_sentence_encoder is is_sentence_encoder


def test_other_kinds_are_none(tmp_path):
    assert not Pretrained(path=str(tiny.encoder(tmp_path / "mlm", architectures=["BertForMaskedLM"]))).open().is_sentence_encoder
    assert not Pretrained(path=str(tiny.encoder(tmp_path / "unknown", architectures=None))).open().is_sentence_encoder
    assert not Untrained(path=str(tiny.encoder(tmp_path / "new"))).open().is_sentence_encoder
    assert not Pretrained(path=str(Path(flaxft.__file__).parent / "encoder")).open().is_sentence_encoder
