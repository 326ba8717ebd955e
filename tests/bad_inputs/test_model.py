"""Models whose parts do not belong together. Numbers 105 to 114 of the corpus, 8, 14 and 39."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flaxft import errors
from tests.bad_inputs.corpus import Case
from tests.bad_inputs.test_data import LABELS_OF_TINY
from tests.bad_inputs.test_weights import FILE, tensors

SCORED = ["--config.num_steps=0", "--config.task.test="]
INDEX = "model.safetensors.index.json"


def edit_config(model: Path, **changes: Any) -> None:
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | changes))


def config(**changes: Any) -> Callable[[Path], object]:
    return lambda model: edit_config(model, **changes)


def cast(dtype: Any) -> Callable[[Path], object]:
    return tensors(lambda found: {name: array.astype(dtype) for name, array in found.items()})


def renamed(*pairs: tuple[str, str]) -> Callable[[Path], object]:
    def rename(name: str) -> str:
        for old, new in pairs:
            name = name.replace(old, new)
        return name

    return tensors(lambda found: {rename(name): array for name, array in found.items()})


def sharded(*, file: str = "model-1.safetensors", named: str = "") -> Callable[[Path], object]:
    """One shard, which the index may name otherwise."""

    def make(model: Path) -> None:
        (model / FILE).rename(model / file)
        (model / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(load_file(model / file), named or file)}))

    return make


def only_bin(model: Path) -> None:
    (model / FILE).rename(model / "pytorch_model.bin")


def head(model: Path, *, labels: tuple[str, ...]) -> None:
    """A model that was fine-tuned with these labels."""
    found = {f"bert.{name}": array for name, array in load_file(model / FILE).items()}
    found |= {"classifier.weight": np.ones((len(labels), 32), np.float32), "classifier.bias": np.zeros(len(labels), np.float32)}
    save_file(found, model / FILE)
    edit_config(model, architectures=["BertForTokenClassification"], id2label={str(i): label for i, label in enumerate(labels)})


def untied(model: Path) -> None:
    """A masked language model whose output has a matrix of its own."""
    found = {f"bert.{name}": array for name, array in load_file(model / FILE).items()}
    shapes = {"transform.dense.weight": (32, 32), "transform.dense.bias": (32,), "transform.LayerNorm.weight": (32,), "transform.LayerNorm.bias": (32,)}
    shapes |= {"bias": (128,), "decoder.weight": (128, 32), "decoder.bias": (128,)}
    save_file(found | {f"cls.predictions.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}, model / FILE)
    edit_config(model, architectures=["BertForMaskedLM"], tie_word_embeddings=False)


def tied(model: Path) -> None:
    untied(model)
    edit_config(model, tie_word_embeddings=True)


REVERSED = tuple(reversed(LABELS_OF_TINY))
MASKED = ["from flaxft.tasks.masked_lm import MaskedLm", "cfg.task = MaskedLm(train='none', format='text')", "cfg.evals = {}", "cfg.num_steps = 0"]
TEXTS = ["--config.task.train={tmp}/texts.txt"]

CASES = [
    Case(8, "another architecture", [], ["config.json", "'gpt2'", "another family", "reads bert"],
         make=config(model_type="gpt2", architectures=["GPT2LMHeadModel"])),
    Case(8, "unknown model_type", [], ["'brt'", "did you mean 'bert'"], make=config(model_type="brt"), is_real=True),
    Case(8, "model_type in capitals", [], ["'BERT'", "is written 'bert'"], make=config(model_type="BERT")),
    Case(8, "no model_type", [], ["model_type is None", "reads bert"], make=config(model_type=None)),
    Case(8, "another family by this one's name", [], ["514 positions", "RoBERTa", "put back the model_type"],
         make=config(max_position_embeddings=514, type_vocab_size=1, pad_token_id=1)),
    Case(14, "trailing comma", [], ["config.json", "not valid JSON", "line 1"],
         make=lambda model: (model / "config.json").write_text('{"model_type": "bert",}')),
    Case(39, "labels in another order, to train", [*SCORED, f"--config.task.labels={','.join(REVERSED)}"],
         ["its labels are in another order than task.labels", "its head is put into"], errors.OK, make=lambda model: head(model, labels=LABELS_OF_TINY)),
    Case(39, "labels in another order, to evaluate", ["--mode=eval", f"--config.task.labels={','.join(REVERSED)}"],
         ["task.labels are", "leave task.labels empty"], make=lambda model: head(model, labels=LABELS_OF_TINY)),
    Case(105, "another hidden size", [],
         ["of another shape", "word_embeddings.weight is (128, 32), expected (128, 64)", "use the config.json that belongs to"], make=config(hidden_size=64)),
    Case(106, "fewer layers", [], ["16 missing", "layer/1/attention", "use the config.json that belongs to"],
         make=tensors(lambda t: {n: a for n, a in t.items() if "layer.1." not in n}), is_real=True),
    Case(107, "a missing key", [], ["1 missing: encoder/embeddings/LayerNorm/bias"],
         make=tensors(lambda t: {n: a for n, a in t.items() if n != "embeddings.LayerNorm.bias"})),
    Case(108, "an unexpected key", [], ["1 unexpected: encoder.adapter.weight", "use a checkpoint without"],
         make=tensors(lambda t: t | {"encoder.adapter.weight": np.ones(3, np.float32)})),
    Case(108, "another head", SCORED, ["2 tensors are of a head that flaxft does not know", "crf.transitions, fc.weight"], errors.OK,
         make=tensors(lambda t: t | {"fc.weight": np.ones((3, 32), np.float32), "crf.transitions": np.ones((3, 3), np.float32)})),
    Case(108, "a wrapper's prefix", SCORED, ["begin with 'module.', which is left out"], errors.OK,
         make=tensors(lambda t: {f"module.{n}": a for n, a in t.items()})),
    Case(108, "two encoders", [], ["2 encoders", "save the one to use"],
         make=tensors(lambda t: {f"{side}.{name}": array for side in "ab" for name, array in t.items()})),
    Case(108, "weights of another architecture", [], ["missing", "unexpected", "config.json"], make=renamed(("", "gpt."))),
    Case(109, "an untied head", TEXTS, ["config.json", "tie_word_embeddings is False"], files={"texts.txt": "anna lives\nbob works\n"}, lines=MASKED,
         make=untied),
    Case(109, "a tied head", TEXTS, ["2 records"], errors.OK, files={"texts.txt": "anna lives\nbob works\n"}, lines=MASKED, make=tied),
    Case(109, "an untied head that is not used", SCORED, ["validation"], errors.OK, make=untied),
    Case(110, "gamma and beta", SCORED, ["validation"], errors.OK, make=renamed(("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))),
    Case(111, "float16", SCORED, ["validation"], errors.OK, make=cast(np.float16)),
    Case(111, "bfloat16", SCORED, ["validation"], errors.OK, make=cast(ml_dtypes.bfloat16)),
    Case(112, "an index that names a missing shard", [], [INDEX, "not there: ['model-2.safetensors']", "fetch the whole model"],
         make=sharded(named="model-2.safetensors")),
    Case(113, "a shard outside", [], [INDEX, "['../../x'] leave the directory", "refused"], make=sharded(named="../../x")),
    Case(114, ".bin alone", [], ["holds no weights", "pytorch_model.bin", "pickle can run code", "python -m flaxft.convert_bin"], make=only_bin),
    Case(0, "no config.json", [], ["holds no config.json"], make=lambda model: (model / "config.json").unlink()),
    Case(0, "a file for a directory", ["--config.model.path={folder}/encoder/model.safetensors"], ["model.safetensors is a file", "expected a directory"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(tried, case):
    tried(case)
