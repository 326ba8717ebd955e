"""A user's mistake is one line on stderr that says what, where and how to mend; the exit code says which kind; and nothing is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from flaxft import errors
from flaxft.command import parse
from flaxft.main import MODES, main
from tests import tiny

NER = "configs/ner.py"
ROOT = Path(__file__).parent.parent


def config_file(file: Path, folder: Path, *lines: str) -> Path:
    """A config of tests/tiny.py as a file; `lines` are put between the making of `cfg` and its return."""
    body = "".join(f"    {line}\n" for line in lines)
    head = "import dataclasses\nfrom pathlib import Path\n\nfrom flaxft.config import Config, Eval\nfrom tests import tiny\n\n\n"
    file.write_text(f"{head}def get_config():\n    cfg = tiny.config(Path({str(folder)!r}))\n{body}    return cfg\n")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Encoder, corpora and a config file; no test writes here."""
    made = tmp_path_factory.mktemp("inputs")
    tiny.config(made)
    config_file(made / "config.py", made)
    return made


@pytest.fixture(scope="module")
def finished(folder) -> Path:
    """A run of two steps."""
    assert main([f"--config={folder / 'config.py'}", f"--workdir={folder / 'finished'}", "--config.num_steps=2"]) == errors.OK
    return folder / "finished"


def snapshot(*roots: Path) -> dict[Path, bytes | None]:
    """Every file's bytes, and the folders."""
    return {entry: entry.read_bytes() if entry.is_file() else None for root in roots for entry in root.rglob("*")}


@pytest.fixture
def refused(folder, tmp_path, capsys) -> Callable[..., str]:
    """Runs a command that must fail, and checks the promises; returns the line."""

    def check(*arguments: str, words: Sequence[str], code: int = errors.USER_ERROR, config: Path | None = None, workdir: Path | None = None) -> str:
        before = snapshot(folder, tmp_path)
        capsys.readouterr()
        given = [f"--config={config or folder / 'config.py'}", f"--workdir={workdir or tmp_path / 'run'}", *arguments]
        found = main([one for one in given if one != "--config=-"])
        stdout, stderr = capsys.readouterr()
        assert found == code, (stdout, stderr)
        check_line(stderr, words)
        assert "Traceback" not in stdout
        assert snapshot(folder, tmp_path) == before, "nothing may be written"
        return stderr

    return check


def check_line(stderr: str, words: Sequence[str]) -> None:
    assert stderr.startswith("error: "), stderr
    assert stderr.count("\n") == 1 and stderr.endswith("\n"), stderr
    assert "Traceback" not in stderr, stderr
    for word in words:
        assert word in stderr, (word, stderr)


# ---- fields ---------------------------------------------------------------------------------------------------------------------------------------

FIELDS = [
    # 1: an unknown key, at each depth
    ("--config.optm.learning_rate=1", ["--config.optm", "Config has no field 'optm'", "did you mean 'optim'"]),
    ("--config.optim.learning_rat=1", ["Optim has no field 'learning_rat'", "did you mean 'learning_rate'", "warmup"]),
    ("--config.num_epoch=1", ["did you mean 'num_epochs'"]),
    ("--config.task.trian=x", ["TokenClassification has no field 'trian'", "did you mean 'train'"]),
    ("--config.model.pth=x", ["did you mean 'path'"]),
    ("--config.evals.validaton.every=5", ["no field 'validaton'", "did you mean 'validation'"]),
    ("--config.evals.validation.evry=5", ["Eval has no field 'evry'", "did you mean 'every'"]),
    ("--config.optim.learning_rate.peak=1", ["float has no field 'peak'", "it has no fields"]),
    ("--config.zzz=1", ["no field 'zzz'", "known are task, model"]),
    ("--config.=1", ["no field ''"]),
    # 2: the wrong type
    ("--config.optim.learning_rate=fast", ["--config.optim.learning_rate is 'fast'", "expected a number"]),
    ("--config.data.batch_size=eight", ["--config.data.batch_size is 'eight'", "expected a whole number"]),
    ("--config.data.batch_size=8.5", ["'8.5'", "expected a whole number"]),
    ("--config.data.batch_size=", ["--config.data.batch_size is ''", "expected a whole number"]),
    ("--config.data.batch_size=none", ["'none'", "expected a whole number"]),
    ("--config.data.cache=maybe", ["--config.data.cache is 'maybe'", "expected true or false"]),
    ("--config.num_steps=many", ["num_steps is 'many'", "int | None"]),
    ("--config.optim=fast", ["--config.optim is 'fast'", "one of its fields: learning_rate"]),
    ("--config.evals.validation=5", ["one of its fields: every, patience"]),
    ("--config.task=ner", ["--config.task is 'ner'", "one of its fields: train, validation, test"]),
    # 3, 10: rates
    ("--config.optim.learning_rate=-1e-5", ["optim.learning_rate is -1e-05", "not negative"]),
    ("--config.optim.learning_rate=nan", ["optim.learning_rate is nan", "expected float"]),
    ("--config.optim.learning_rate=inf", ["optim.learning_rate is inf", "finite"]),
    ("--config.optim.weight_decay=-1", ["optim.weight_decay is -1.0"]),
    ("--config.optim.b2=1", ["optim.b2 is 1.0", "below 1"]),
    ("--config.optim.eps=0", ["optim.eps is 0.0", "positive"]),
    ("--config.optim.schedule=liner", ["optim.schedule is 'liner'", "did you mean 'linear'", "cosine"]),
    # 4: 60 items in batches of 8, two epochs
    ("--config.optim.warmup=17", ["optim.warmup is 17 steps of 16", "give at most 16"]),
    ("--config.optim.warmup=-0.1", ["optim.warmup is -0.1"]),
    # 6, 7
    ("--config.data.max_length=65", ["data.max_length is 65", "64 positions", "give at most that"]),
    ("--config.data.max_length=2", ["data.max_length is 2", "at least 3"]),
    # 15
    ("--config.seed=4294967296", ["seed is 4294967296", "2**32 - 1"]),
    ("--config.seed=-1", ["seed is -1", "from 0"]),
    # numbers that cannot be meant
    ("--config.data.batch_size=0", ["data.batch_size is 0", "at least 1"]),
    ("--config.data.max_examples=0", ["data.max_examples is 0", "or none"]),
    ("--config.num_epochs=0", ["num_epochs is 0.0", "num_steps=0 trains nothing"]),
    ("--config.num_epochs=inf", ["num_epochs is inf"]),
    ("--config.num_steps=-1", ["num_steps is -1"]),
    ("--config.checkpoint.every=0", ["checkpoint.every is 0"]),
    ("--config.log.every=0", ["log.every is 0"]),
    ("--config.evals.validation.patience=-1", ["evals.validation", "not negative"]),
    # what only the machine, the model or the data can tell
    ("--config.mesh.data=3", ["mesh is", "'data': 3", "does not fit 1 devices", "must be 1"]),
    ("--config.mesh.fsdp=-1", ["mesh is", "one of them may be -1"]),
    ("--config.mesh.tensor=0", ["mesh is", "at least 1"]),
    ("--config.model.dtype=float64", ["dtype is 'float64'", "bfloat16", "model.dtype"]),
    ("--config.model.path=", ["model.path is empty", "set --config.model.path"]),
    ("--config.model.path=./nowhere", ["model.path=./nowhere", "no such directory"]),
    ("--config.task.train=", ["task.train is empty", "set task.train"]),
    ("--config.task.scheme=IOB3", ["task.scheme is 'IOB3'", "did you mean 'IOB"]),
    ("--config.task.format=column", ["format='column'", "did you mean 'columns'"]),
    ("--config.task.main_metric=f1", ["task.main_metric is 'f1'", "entity_f1", "accuracy"]),
    ("--config.task.main_metric=entity_f", ["task.main_metric is 'entity_f'", "did you mean 'entity_f1'"]),
    ("--config.task.main_metric=PERS/f1", ["task.main_metric is 'PERS/f1'", "did you mean 'PER/f1'"]),
    ("--config.task.label_column=7", ["no column '7'", "found are ['0', '1']", "task.label_column"]),
    ("--config.task.text_columns=word", ["no column 'word'", "task.text_columns"]),
    ("--config.task.labels=O,B-PER,O", ["task.labels names ['O'] more than once"]),
]  # fmt: skip


@pytest.mark.parametrize(("override", "words"), FIELDS, ids=[override for override, _ in FIELDS])
def test_fields(refused, override, words):
    refused(override, words=words)


def test_all_wrong_types_at_once(refused, folder, tmp_path):
    lines = ["cfg.seed = '1'", "cfg.data.cache = 1", "cfg.optim.learning_rate = '1e-3'", "cfg.task.labels = ['O']"]
    config = config_file(tmp_path / "config.py", folder, *lines)
    expected = ["seed is '1', expected int", "data.cache is 1, expected bool", "optim.learning_rate is '1e-3', expected float"]
    expected += ["task.labels is ['O'], expected tuple"]
    refused(config=config, words=expected)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cfg.evals = {'validation': 200}", ["evals.validation is 200", "expected Eval"]),
        ("cfg.evals = None", ["evals is None"]),
        ("cfg.evals = {'validaton': Eval()}", ["evals names the split 'validaton'", "did you mean 'validation'"]),
        ("cfg.optim = {'learning_rate': 1e-5}", ["optim is {'learning_rate': 1e-05}", "expected Optim"]),
        ("cfg.optim = cfg.data", ["optim is Data", "expected Optim"]),
        ("cfg.task, cfg.model = cfg.model, cfg.task", ["task is Pretrained", "expected", "model is TokenClassification"]),
        ("cfg.task = type(cfg.task)", ["task is ", "expected"]),
        ("cfg.model = 'bert-base-cased'", ["model is 'bert-base-cased'", "expected"]),
        ("cfg.seed = True", ["seed is True, expected int"]),
    ],
)
def test_sections_of_the_wrong_kind(refused, folder, tmp_path, line, words):
    refused(config=config_file(tmp_path / "config.py", folder, line), words=words)


# ---- the command ----------------------------------------------------------------------------------------------------------------------------------

COMMANDS = [
    (["--workdr=x"], ["workdr", "workdir", "see --help"]),
    (["--mode=trian"], ["mode", "train", "eval", "predict"]),
    (["--mode="], ["mode"]),
    (["--config.seed=1", "--config.seed=2"], ["--config.seed is given twice"]),
    (["--config.data.cache=false", "--noconfig.data.cache"], ["--config.data.cache is given twice"]),
    (["--mode=train", "--mode=train"], ["--mode is given twice"]),
    (["--noconfig.data.cache=true"], ["--noconfig.data.cache", "no value"]),
    (["--noconfig.data.batch_size"], ["--noconfig.data.batch_size", "value"]),
    (["--config.task.train"], ["--config.task.train", "value"]),
    (["--config.data.batch_size"], ["--config.data.batch_size", "value"]),
    (["train"], ["'train' is no flag", "--help"]),
    (["--mode=predict"], ["--input is missing"]),
    (["--input"], ["input"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), COMMANDS, ids=[" ".join(arguments) for arguments, _ in COMMANDS])
def test_commands(refused, arguments, words):
    refused(*arguments, words=words, code=errors.USAGE)


@pytest.mark.parametrize("arguments", [[], ["--mode=train"], ["--config.seed=1"], ["--mode=eval"], ["--mode=predict", "--input=x.txt"]])
def test_config_missing(refused, tmp_path, arguments):
    refused(*arguments, config=Path("-"), words=["--config"], code=errors.USAGE)


def test_twice_the_config(refused, folder):
    refused(f"--config={folder / 'config.py'}", words=["--config is given twice"], code=errors.USAGE)


# ---- config files ---------------------------------------------------------------------------------------------------------------------------------

CONFIG_FILES = [
    ("x = 1\n", "", ["config.py", "has no function get_config()"]),
    ("get_config = 3\n", "", ["has no function get_config()"]),
    ("def get_config():\n    return {'seed': 1}\n", "", ["returned dict", "expected a flaxft.config.Config"]),
    ("def get_config():\n    pass\n", "", ["returned NoneType"]),
    ("def get_config(:\n    pass\n", "", ["config.py", "SyntaxError", "line 1", "mend the file"]),
    ("import numpi\n", "", ["ModuleNotFoundError", "numpi"]),
    ("x = y\n", "", ["config.py:1", "NameError", "'y'"]),
    ("x = 1\ny = {}['a']\n", "", ["config.py:2", "KeyError", "'a'"]),
    ("import flaxft.config as c\nx = c.Confg\n", "", ["config.py:2", "AttributeError", "Confg"]),
    ("def get_config():\n    return Config()\n", "", ["config.py:2", "NameError", "Config"]),
    ("from flaxft.optim import Optim\ndef get_config():\n    return Optim(lr=1)\n", "", ["config.py:3", "TypeError", "unexpected keyword argument 'lr'"]),
    ("from flaxft.optim import Optim\nOPTIM = Optim(lr=1)\n", "", ["config.py:2", "unexpected keyword argument 'lr'"]),
    ("def get_config():\n    open('/nowhere/labels.txt')\n", "", ["config.py:2", "FileNotFoundError", "/nowhere/labels.txt"]),
    ("def get_config():\n    raise ValueError('several\\nlines')\n", "", ["config.py:2", "ValueError"]),
    ("x = '\0'\n", "", ["config.py"]),
    ("def get_config():\n    pass\n", ":large", ["takes no argument", "leave out :large"]),
    ("def get_config(size):\n    pass\n", "", ["missing 1 required positional argument: 'size'"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "argument", "words"), CONFIG_FILES, ids=range(len(CONFIG_FILES)))
def test_config_files(refused, tmp_path, content, argument, words):
    (tmp_path / "config.py").write_text(content)
    refused(config=f"{tmp_path / 'config.py'}{argument}", words=words)


def test_config_file_missing(refused, folder):
    refused(config=folder / "confg.py", words=["confg.py", "no such file", "did you mean", "config.py"])


@pytest.mark.parametrize("name", ["", "config.yaml"])
def test_config_that_is_no_python_file(refused, tmp_path, name):
    if name:
        (tmp_path / name).write_text("seed: 1\n")
    refused(config=tmp_path / name, words=[str(tmp_path / name)])


def test_a_config_file_takes_an_argument_and_may_bring_its_own_classes(tmp_path):
    lines = ["cfg.task = Mine(train='a', size=SIZES[size])", "return cfg"]
    file = config_file(tmp_path / "config.py", tmp_path, *lines)
    before = "from __future__ import annotations\nfrom flaxft.tasks.token_classification import TokenClassification\n"
    text = file.read_text().replace("get_config()", "get_config(size='small')")
    own = "@dataclasses.dataclass\nclass Mine(TokenClassification):\n    size: int = 0\n    more: tuple[str, ...] = ()\n"
    file.write_text(f"{before}{text}\n\nSIZES = dict(small=1, large=9)\n\n\n{own}")
    for argument, size in (("", 1), (":large", 9)):
        cfg = parse([f"--config={file}{argument}", "--config.task.more=a,b"], modes=list(MODES)).config
        assert cfg is not None and (cfg.task.train, cfg.task.size, cfg.task.more) == ("a", size, ("a", "b"))  # type: ignore[attr-defined]


# ---- data -----------------------------------------------------------------------------------------------------------------------------------------

GOOD = "anna\tB-PER\nlives\tO\n\n"
DATA = [
    ("missing", "train", None, ["data.conll", "no such file", "correct the path"]),
    ("empty", "train", "", ["data.conll", "empty (0 bytes)"]),
    ("blank lines only", "train", "\n\n \n", ["data.conll", "no records"]),
    ("too few columns", "train", GOOD + "paris\n", ["data.conll:4", "found 1 column(s) in 'paris'", "expected 2"]),
    ("too few columns in validation", "validation", GOOD * 3 + "in\tO\nparis\n", ["data.conll:11", "expected 2"]),
    ("too many columns", "train", GOOD + "paris\tB-LOC\tx\n", ["data.conll:4", "found 3 column(s)"]),
    ("a tag that the scheme does not know", "train", GOOD + "paris\tX-PER\n", ["data.conll:4", "X-PER"]),
    ("a tag outside the label set", "validation", GOOD * 2 + "acme\tB-DISEASE\n", ["data.conll:7", "'B-DISEASE' is not among the labels", "task.labels"]),
    ("the same in test", "test", GOOD + "acme\tI-DISEASE\n", ["data.conll:4", "B-DISEASE", "task.labels"]),
    ("Latin-1", "train", "Zürich\tB-LOC\n".encode("latin-1"), ["data.conll:1", "byte 0xfc is not UTF-8"]),
    ("UTF-16", "train", GOOD.encode("utf-16"), ["data.conll:1", "UTF-16"]),
    ("NUL", "train", GOOD + "a\0b\tO\n", ["data.conll:4", "NUL"]),
    ("lone CR", "train", GOOD.replace("\n", "\r"), ["data.conll:1", "CR"]),
]  # fmt: skip


@pytest.mark.parametrize(("split", "content", "words"), [case[1:] for case in DATA], ids=[case[0] for case in DATA])
def test_data(refused, tmp_path, split, content, words):
    file = tmp_path / "data.conll"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(f"--config.task.{split}={file}", words=words)


def test_a_data_path_that_is_a_directory(refused, tmp_path):
    refused(f"--config.task.train={tmp_path}", words=[str(tmp_path), "is a directory"])


# ---- models ---------------------------------------------------------------------------------------------------------------------------------------


def edit_config(directory: Path, **changes: Any) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])


def rewrite(directory: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.numpy import load_file, save_file

    save_file(change(load_file(directory / "model.safetensors")), directory / "model.safetensors")


def without_weights(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def with_nan(tensors: dict[str, Any]) -> dict[str, Any]:
    tensors["embeddings.LayerNorm.weight"][:] = float("nan")
    return tensors


MODELS = [
    ("without weights", without_weights, ["model", "holds no weights", "pytorch_model.bin", "safetensors"]),
    ("truncated in the body", lambda d: cut(d / "model.safetensors", -100), ["model.safetensors", "damaged or cut off", "fetch it again"]),
    ("truncated in the header", lambda d: cut(d / "model.safetensors", 100), ["model.safetensors", "cut off", "fetch it again"]),
    ("an empty file of weights", lambda d: cut(d / "model.safetensors", 0), ["model.safetensors", "0 bytes"]),
    ("another architecture", lambda d: edit_config(d, model_type="gpt2", architectures=["GPT2LMHeadModel"]), ["config.json", "'gpt2'", "known are", "bert"]),
    ("8: unknown model_type", lambda d: edit_config(d, model_type="brt"), ["'brt'", "did you mean 'bert'"]),
    ("weights of another architecture", lambda d: rewrite(d, lambda t: {f"gpt.h.{n}": a for n, a in t.items()}), ["missing", "unexpected", "config.json"]),
    ("fewer layers", lambda d: rewrite(d, lambda t: {n: a for n, a in t.items() if "layer.1." not in n}), ["16 missing", "do not fit config.json"]),
    ("another hidden size", lambda d: edit_config(d, hidden_size=64), ["of another shape", "expected"]),
    ("NaN", lambda d: rewrite(d, with_nan), ["LayerNorm.weight", "NaN"]),
    ("without config.json", lambda d: (d / "config.json").unlink(), ["holds no config.json"]),
    ("14: JSON with a trailing comma", lambda d: (d / "config.json").write_text('{"model_type": "bert",}'), ["config.json", "not valid JSON", "line 1"]),
    ("without a tokenizer", lambda d: (d / "tokenizer.json").unlink(), ["holds no tokenizer files"]),
    ("a truncated tokenizer", lambda d: cut(d / "tokenizer.json", 500), ["tokenizer.json", "not a tokenizer"]),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), [case[1:] for case in MODELS], ids=[case[0] for case in MODELS])
def test_models(refused, folder, tmp_path, spoil, words):
    shutil.copytree(folder / "encoder", tmp_path / "model")
    spoil(tmp_path / "model")
    refused(f"--config.model.path={tmp_path / 'model'}", words=words)


def test_a_model_path_that_is_a_file(refused, folder):
    refused(f"--config.model.path={folder / 'encoder' / 'model.safetensors'}", words=["model.safetensors is a file", "expected a directory"])


# ---- workdirs -------------------------------------------------------------------------------------------------------------------------------------


def test_another_config_in_the_workdir(refused, finished, tmp_path):
    refused(
        "--config.num_steps=2", "--config.optim.learning_rate=0.5", "--config.seed=3", "--config.evals.validation.every=1", "--config.task.label_all_tokens",
        workdir=finished,
        words=[str(finished), "another config", "optim.learning_rate: 0.01 -> 0.5", "seed: 0 -> 3", "evals.validation.every: 0 -> 1",
               "task.label_all_tokens: False -> True", "give another --workdir"],
    )  # fmt: skip


DECIDING = ["task.labels=O,B-PER,I-PER,B-LOC,I-LOC,B-ORG,I-ORG", "optim.b1=0.8", "data.batch_size=4", "data.max_length=16", "model.dtype=bfloat16"]


@pytest.mark.parametrize("override", DECIDING)
def test_each_field_that_decides_what_is_computed(refused, finished, override):
    """116, 129: labels in another order, another optimizer."""
    refused("--config.num_steps=2", f"--config.{override}", workdir=finished, words=["another config", f"{override.partition('=')[0]}: "])


def test_118_a_checkpoint_of_a_newer_flaxft(refused, finished, tmp_path):
    from flaxft import checkpoint

    workdir = shutil.copytree(finished, tmp_path / "run")
    for file in workdir.rglob(checkpoint.MANIFEST):
        content = json.loads(file.read_text()) | {"version": 99}
        del content["digest"]
        file.write_text(json.dumps(content | {"digest": checkpoint._digest(content)}))
    for mode in ("train", "eval"):
        refused("--config.num_steps=2", f"--mode={mode}", words=["manifest.json: version 99", "newer flaxft", "update flaxft"])


def test_other_data_or_another_model_in_the_workdir(refused, finished, tmp_path):
    other = tiny.corpus(tmp_path / "other.conll", seed=9)
    tiny.encoder(tmp_path / "wide", hidden_size=48)
    refused("--config.num_steps=2", f"--config.task.train={other}", workdir=finished, words=["train data: its content is not what the run began with"])
    refused("--config.num_steps=2", f"--config.model.path={tmp_path / 'wide'}", workdir=finished, words=["model: its content is not what"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["config.json", "damaged"]),
        ('{"config": {', ["config.json", "damaged"]),
        ('{"config": {}, "facts": {},}', ["config.json", "damaged"]),
        ("[]", ["config.json", "damaged"]),
        ('{"config": {"type": "os.system"}, "facts": {}}', ["config.json", "'os.system'", "no part of flaxft"]),
        ('{"config": {"seed": 1}, "facts": {}}', ["config.json", "holds no Config"]),
    ],
)
def test_a_damaged_config_in_the_workdir(refused, tmp_path, content, words):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(content)
    for mode in MODES:
        refused(f"--mode={mode}", "--input=x.txt", words=words)


def test_facts_missing_in_the_workdir(refused, finished, tmp_path):
    (tmp_path / "run").mkdir()
    content = json.loads((finished / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(content | {"facts": {}}))
    refused("--config.num_steps=2", words=["config.json", "damaged"])


def test_a_workdir_that_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(workdir=tmp_path / "file", words=["--workdir=", "is a file", "expected a directory"])
    refused(workdir=tmp_path / "file" / "run", words=["--workdir=", "is a file", "give another --workdir"])


@pytest.mark.parametrize("place", ["/proc/flaxft/run", "/sys/flaxft"])
def test_a_workdir_that_cannot_be_written(refused, place):
    """Root may write anywhere but in the kernel's own file systems."""
    if not Path(place).parts or not Path("/", Path(place).parts[1]).is_dir():
        pytest.skip(f"no {place} here")
    refused(workdir=Path(place), words=[place, "cannot be written", "give another --workdir"])
    assert not Path(place).exists()


def test_a_workdir_without_the_right_to_write(refused, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.getuid() == 0:  # who may write everywhere; what the kernel tells others is put in
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    refused(workdir=closed / "run", words=[str(closed), "cannot be written", "the right to write there"])


def test_a_workdir_name_that_is_too_long(refused, tmp_path):
    refused(workdir=tmp_path / ("a" * 300), words=["--workdir=", "File name too long"])


def test_eval_and_predict_of_a_folder_without_a_run(refused, tmp_path):
    (tmp_path / "run").mkdir()
    refused("--mode=eval", words=["encoder has no token head", "train it first"])
    refused("--mode=predict", "--input=x.txt", config=Path("-"), words=["nothing to load", "--workdir=DIR"], code=errors.USAGE)


def test_predict_with_bad_files(refused, finished, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "anna"}\n{"text": "bob",}\n')
    (tmp_path / "latin.txt").write_bytes(b"Z\xfcrich\n")
    cases = {"missing.txt": ["no such file"], "bad.jsonl": ["bad.jsonl:2", "not valid JSON"], "latin.txt": ["cannot be read as UTF-8"], "": ["cannot be read"]}
    for name, words in cases.items():
        refused("--mode=predict", f"--input={tmp_path / name}", workdir=finished, words=words)
    (tmp_path / "good.txt").write_text("anna\n")
    output = tmp_path / "nowhere" / "out.jsonl"
    refused("--mode=predict", f"--input={tmp_path / 'good.txt'}", f"--output={output}", workdir=finished, words=[f"--output={output}"])


# ---- must work ------------------------------------------------------------------------------------------------------------------------------------


def test_5_a_batch_that_the_devices_do_not_divide(folder, tmp_path):
    """Empty rows are appended: 7 examples a step, 8 devices."""
    command = [sys.executable, "-m", "flaxft.main", f"--config={folder / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([*command, "--config.data.batch_size=7", "--config.num_steps=2"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "8 cpu devices" in done.stdout
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 2


# ---- the real command -----------------------------------------------------------------------------------------------------------------------------

REAL = [
    (["--config.optim.learning_rat=1"], errors.USER_ERROR, ["did you mean 'learning_rate'"]),
    (["--config.task.train={tmp}/none.conll"], errors.USER_ERROR, ["none.conll", "no such file"]),
    (["--config.task.validation={tmp}/bad.conll"], errors.USER_ERROR, ["bad.conll:4", "found 1 column(s)"]),
    (["--config.model.path={tmp}/model"], errors.USER_ERROR, ["damaged or cut off"]),
    (["--config.seed=1", "--config.seed=1"], errors.USAGE, ["given twice"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "words"), REAL, ids=[case[0][0] for case in REAL])
def test_the_real_command(folder, tmp_path, arguments, code, words):
    (tmp_path / "bad.conll").write_text(GOOD + "paris\n")
    shutil.copytree(folder / "encoder", tmp_path / "model")
    cut(tmp_path / "model" / "model.safetensors", -100)
    before = snapshot(folder, tmp_path)
    command = [sys.executable, "-m", "flaxft.main", f"--config={folder / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    began = time.perf_counter()
    done = subprocess.run([*command, *(one.format(tmp=tmp_path) for one in arguments)], cwd=ROOT, capture_output=True, text=True)
    assert time.perf_counter() - began < 10
    assert done.returncode == code, done.stderr
    check_line(done.stderr, words)
    assert snapshot(folder, tmp_path) == before


# ---- overrides: the contract ----------------------------------------------------------------------------------------------------------------------

OVERRIDES = [
    ("model.path=runs/minilm", "runs/minilm"),
    ("task.train=a.conll.gz", "a.conll.gz"),
    ("task.train=hub:tner/wnut2017@main", "hub:tner/wnut2017@main"),
    ("task.train=a=b.conll", "a=b.conll"),
    ("task.validation=b.jsonl", "b.jsonl"),
    ("task.test=c.parquet", "c.parquet"),
    ("task.test=", ""),
    ("optim.learning_rate=5e-5", 5e-5),
    ("optim.learning_rate=1", 1.0),
    ("num_epochs=3", 3.0),
    ("num_epochs=0.5", 0.5),
    ("num_steps=100", 100),
    ("num_steps=0", 0),
    ("num_steps=none", None),
    ("num_steps=None", None),
    ("data.batch_size=16", 16),
    ("data.max_length=256", 256),
    ("data.max_examples=1000", 1000),
    ("data.max_examples=none", None),
    ("data.cache=false", False),
    ("data.cache=True", True),
    ("checkpoint.every=50", 50),
    ("seed=42", 42),
    ("task.text_columns=tokens", ("tokens",)),
    ("task.text_columns=0", ("0",)),
    ("task.text_columns=a,b", ("a", "b")),
    ("task.text_columns=('a','b')", ("a", "b")),
    ("task.text_columns=('a', 'b')", ("a", "b")),
    ("task.text_columns=('a',)", ("a",)),
    ('task.text_columns=["a", "b"]', ("a", "b")),
    ("task.text_columns=()", ()),
    ("task.label_column=ner_tags", "ner_tags"),
    ("task.label_column=-1", "-1"),
    ("task.label_column=3", "3"),
    ("task.labels=O,B-PER,I-PER", ("O", "B-PER", "I-PER")),
    ("task.scheme=none", None),
    ("task.scheme=IOB1", "IOB1"),
    ("evals.validation.every=200", 200),
    ("evals.validation.patience=3", 3),
    ("mesh.data=-1", -1),
]  # fmt: skip


def overridden(*arguments: str) -> Any:
    return parse([f"--config={ROOT / NER}", *arguments], modes=list(MODES)).config


def field(cfg: Any, path: str) -> Any:
    for part in path.split("."):
        cfg = cfg[part] if isinstance(cfg, dict) else getattr(cfg, part)
    return cfg


@pytest.mark.parametrize(("override", "value"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_overrides_land_with_their_types(override, value):
    name, _, text = override.partition("=")
    spellings = [[f"--config.{override}"], [f"-config.{override}"]]
    if text and not re.match(r"-|.*=", text):
        spellings.append([f"--config.{name}", text])
    for arguments in spellings:
        found = field(overridden(*arguments), name)
        assert found == value and type(found) is type(value), (arguments, found)


def test_booleans_and_all_at_once():
    assert overridden("--noconfig.data.cache").data.cache is False
    assert overridden("--config.data.cache").data.cache is True
    assert overridden("--config.data.cache", "false").data.cache is False
    assert overridden("--config.task.label_all_tokens", "--config.seed=1").task.label_all_tokens is True
    once = {override.partition("=")[0]: (override, value) for override, value in OVERRIDES}
    cfg = overridden(*(f"--config.{override}" for override, _ in once.values()))
    assert {name: field(cfg, name) for name in once} == {name: value for name, (_, value) in once.items()}


def test_the_default_workdir_goes_by_the_config(folder, tmp_path):
    assert parse([f"--config={ROOT / NER}"], modes=list(MODES)).workdir == Path("runs/ner")
    odd = tmp_path / "my.pyfiles" / "small.v2.py"
    odd.parent.mkdir()
    config_file(odd, folder)
    assert parse([f"--config={odd}"], modes=list(MODES)).workdir == Path("runs/small.v2")
