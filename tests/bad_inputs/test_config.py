"""Bad config: fields, flags, and config files. Numbers 1 to 16 of the corpus."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flaxft import errors
from flaxft.command import parse
from flaxft.main import MODES
from tests import tiny
from tests.bad_inputs.corpus import ROOT, Case, config_file

# ---- fields ---------------------------------------------------------------------------------------------------------------------------------------

FIELDS = [
    # 1: an unknown key, at each depth
    (1, "--config.optm.learning_rate=1", ["--config.optm", "Config has no field 'optm'", "did you mean 'optim'"]),
    (1, "--optim.lr=1", ["--config.optim.lr: Optim has no field 'lr'", "did you mean --config.optim.learning_rate?"]),
    (1, "--config.learning_rate=1", ["Config has no field 'learning_rate'", "did you mean --config.optim.learning_rate?"]),
    (1, "--config.data.batchsize=1", ["Data has no field 'batchsize'", "did you mean 'batch_size'"]),
    (2, "--optim.learning_rate=1e-4x", ["--config.optim.learning_rate is '1e-4x'", "expected a number"]),
    (1, "--config.optim.learning_rat=1", ["Optim has no field 'learning_rat'", "did you mean 'learning_rate'", "warmup"]),
    (1, "--config.num_epoch=1", ["did you mean 'num_epochs'"]),
    (1, "--config.task.trian=x", ["TokenClassification has no field 'trian'", "did you mean 'train'"]),
    (1, "--config.model.pth=x", ["did you mean 'path'"]),
    (1, "--config.evals.validaton.every=5", ["no field 'validaton'", "did you mean 'validation'"]),
    (1, "--config.evals.validation.evry=5", ["Eval has no field 'evry'", "did you mean 'every'"]),
    (1, "--config.optim.learning_rate.peak=1", ["float has no field 'peak'", "it has no fields"]),
    (1, "--config.zzz=1", ["no field 'zzz'", "known are task, model"]),
    (1, "--config.=1", ["no field ''"]),
    # 2: the wrong type
    (2, "--config.optim.learning_rate=fast", ["--config.optim.learning_rate is 'fast'", "expected a number"]),
    (2, "--config.data.batch_size=eight", ["--config.data.batch_size is 'eight'", "expected a whole number"]),
    (2, "--config.data.batch_size=8.5", ["'8.5'", "expected a whole number"]),
    (2, "--config.data.batch_size=", ["--config.data.batch_size is ''", "expected a whole number"]),
    (2, "--config.data.batch_size=none", ["'none'", "expected a whole number"]),
    (2, "--config.data.cache=maybe", ["--config.data.cache is 'maybe'", "expected true or false"]),
    (2, "--config.num_steps=many", ["num_steps is 'many'", "a whole number, or none"]),
    (2, "--config.optim=fast", ["--config.optim is 'fast'", "one of its fields: learning_rate"]),
    (2, "--config.evals.validation=5", ["one of its fields: every, patience"]),
    (2, "--config.task=ner", ["--config.task is 'ner'", "one of its fields: train, validation, test"]),
    # 3, 10: rates
    (3, "--config.optim.learning_rate=-1e-5", ["optim.learning_rate is -1e-05", "not negative"]),
    (10, "--config.optim.learning_rate=nan", ["optim.learning_rate is nan", "expected float"]),
    (10, "--config.optim.learning_rate=inf", ["optim.learning_rate is inf", "finite"]),
    (0, "--config.optim.weight_decay=-1", ["optim.weight_decay is -1.0"]),
    (0, "--config.optim.b2=1", ["optim.b2 is 1.0", "below 1"]),
    (0, "--config.optim.eps=0", ["optim.eps is 0.0", "positive"]),
    (0, "--config.optim.schedule=liner", ["optim.schedule is 'liner'", "did you mean 'linear'", "cosine"]),
    # 4: 60 items in batches of 8, two epochs
    (4, "--config.optim.warmup=17", ["optim.warmup is 17 steps of 16", "give at most 16"]),
    (0, "--config.optim.warmup=-0.1", ["optim.warmup is -0.1"]),
    # 6, 7
    (6, "--config.data.max_length=65", ["data.max_length is 65", "64 positions", "give at most that"]),
    (7, "--config.data.max_length=2", ["data.max_length is 2", "at least 3"]),
    # 15
    (15, "--config.seed=4294967296", ["seed is 4294967296", "2**32 - 1"]),
    (15, "--config.seed=-1", ["seed is -1", "from 0"]),
    # numbers that cannot be meant
    (0, "--config.data.batch_size=0", ["data.batch_size is 0", "at least 1"]),
    (0, "--config.data.max_examples=0", ["data.max_examples is 0", "or none"]),
    (0, "--config.num_epochs=0", ["num_epochs is 0.0", "num_steps=0 trains nothing"]),
    (0, "--config.num_epochs=inf", ["num_epochs is inf"]),
    (0, "--config.num_steps=-1", ["num_steps is -1"]),
    (0, "--config.checkpoint.every=0", ["checkpoint.every is 0"]),
    (0, "--config.log.every=0", ["log.every is 0"]),
    (0, "--config.evals.validation.patience=-1", ["evals.validation", "not negative"]),
    # what only the machine, the model or the data can tell
    (0, "--config.mesh.data=3", ["mesh is", "'data': 3", "does not fit 1 devices", "must be 1"]),
    (0, "--config.mesh.fsdp=-1", ["mesh is", "one of them may be -1"]),
    (0, "--config.mesh.tensor=0", ["mesh is", "at least 1"]),
    (0, "--config.model.dtype=float64", ["dtype is 'float64'", "bfloat16", "model.dtype"]),
    (0, "--config.model.path=", ["model.path is empty", "set --config.model.path"]),
    (0, "--config.model.path=./nowhere", ["model.path=./nowhere", "no such directory"]),
    (0, "--config.task.train=", ["task.train is empty", "set task.train"]),
    (0, "--config.task.scheme=IOB3", ["task.scheme is 'IOB3'", "did you mean 'IOB"]),
    (0, "--config.task.format=column", ["format='column'", "did you mean 'columns'"]),
    (0, "--config.task.main_metric=f1", ["task.main_metric is 'f1'", "entity_f1", "accuracy"]),
    (0, "--config.task.main_metric=entity_f", ["task.main_metric is 'entity_f'", "did you mean 'entity_f1'"]),
    (0, "--config.task.main_metric=PERS/f1", ["task.main_metric is 'PERS/f1'", "did you mean 'PER/f1'"]),
    (40, "--config.task.label_column=7", ["no column '7'", "found are ['0', '1']", "task.label_column"]),
    (40, "--config.task.text_columns=word", ["no column 'word'", "task.text_columns"]),
    (38, "--config.task.labels=O,B-PER,O", ["task.labels names ['O'] more than once"]),
]  # fmt: skip
REAL = ("--config.optim.learning_rat=1", "--config.optim.learning_rate=nan")
FIELD_CASES = [Case(number, override, [override], words, is_real=override in REAL) for number, override, words in FIELDS]

SECTIONS = [
    ("cfg.evals = {'validation': 200}", ["evals.validation is 200", "expected Eval"]),
    ("cfg.evals = None", ["evals is None"]),
    ("cfg.evals = {'validaton': Eval()}", ["evals names the split 'validaton'", "did you mean 'validation'"]),
    ("cfg.optim = {'learning_rate': 1e-5}", ["optim is {'learning_rate': 1e-05}", "expected Optim"]),
    ("cfg.optim = cfg.data", ["optim is Data", "expected Optim"]),
    ("cfg.task, cfg.model = cfg.model, cfg.task", ["task is Pretrained", "expected", "model is TokenClassification"]),
    ("cfg.task = type(cfg.task)", ["task is ", "expected"]),
    ("cfg.model = 'bert-base-cased'", ["model is 'bert-base-cased'", "expected"]),
    ("cfg.seed = True", ["seed is True, expected int"]),
]
ALL_AT_ONCE = Case(
    2, "several wrong types",
    lines=["cfg.seed = '1'", "cfg.data.cache = 1", "cfg.optim.learning_rate = '1e-3'", "cfg.task.labels = 3"],
    words=["seed is '1', expected int", "data.cache is 1, expected bool", "optim.learning_rate is '1e-3', expected float",
         "task.labels is 3, expected tuple"],
)  # fmt: skip
SECTION_CASES = [ALL_AT_ONCE, *(Case(2, line, lines=[line], words=words) for line, words in SECTIONS)]

# ---- the command ----------------------------------------------------------------------------------------------------------------------------------

TWICE = ["--config.seed=1", "--config.seed=2"]
COMMANDS = [
    (["--workdr=x"], ["workdr", "workdir", "see --help"]),
    (["--mode=trian"], ["mode", "train", "eval", "predict"]),
    (["--mode="], ["mode"]),
    (["--seeds=many"], ["--seeds is 'many'", "expected a whole number"]),
    (["--config.seed=1", "--config.seed=2"], ["--config.seed is given twice"]),
    (["--config.data.cache=false", "--noconfig.data.cache"], ["--config.data.cache is given twice"]),
    (["--mode=train", "--mode=train"], ["--mode is given twice"]),
    (["--noconfig.data.cache=true"], ["--noconfig.data.cache", "no value"]),
    (["--noconfig.data.batch_size"], ["--noconfig.data.batch_size", "value"]),
    (["--config.task.train"], ["--config.task.train", "value"]),
    (["--config.data.batch_size"], ["--config.data.batch_size", "value"]),
    (["tran"], ["'tran' is no sub-command", "did you mean 'train'", "--help"]),
    (["eval", "--mode=train"], ["eval and --mode=train are both given", "leave out --mode"]),
    (["--learning_rate=1e-4"], ["--learning_rate is no flag", "give --config.optim.learning_rate=1e-4"]),
    (["--learning-rate=1e-4"], ["give --config.optim.learning_rate=1e-4"]),
    (["--lr", "1e-4"], ["give --config.optim.learning_rate=1e-4"]),
    (["--batch_size=8"], ["give --config.data.batch_size=8"]),
    (["--max_length=8"], ["give --config.data.max_length=8"]),
    (["--epochs=8"], ["give --config.num_epochs=8"]),
    (["--num_epochs=8"], ["give --config.num_epochs=8"]),
    (["--train=a.csv"], ["give --config.task.train=a.csv"]),
    (["--data=a.csv"], ["give --config.task.train=a.csv"]),
    (["--every=8"], ["--config.checkpoint.every=8 or --config.log.every=8 or --config.evals.validation.every=8"]),
    (["--model_name_or_path=bert-base-cased"], ["here it is --config.model.path, a directory or a hub id"]),
    (["--per_device_train_batch_size=8"], ["here it is --config.data.batch_size, over all devices"]),
    (["--num_train_epochs=8"], ["here it is --config.num_epochs"]),
    (["--validation_file=a.csv"], ["here it is --config.task.validation"]),
    (["--output_dir=a"], ["here it is --workdir"]),
    (["--do_train"], ["here it is --mode=train"]),
    (["--fp16"], ["here it is --config.model.dtype=bfloat16"]),
    (["--gradient_accumulation_steps=2"], ["here it is none: --config.data.batch_size is that of a whole step"]),
    (["--optim=adam"], ["--optim is a section of the config", "--config.optim.FIELD=VALUE"]),
    (["--learnig_rate=1"], ["--learnig_rate is no flag", "did you mean --config.optim.learning_rate?"]),
    (["-c", "ner"], ["--c is no flag", "did you mean '--config'"]),
    (["--dtype=bfloat16"], ["--dtype is for --mode=export", "the field of a config is --config.model.dtype"]),
    (["--output=x"], ["--output is for --mode=predict or --mode=export"]),
    (["predict"], ["--input is missing", "give a file behind the run"]),
    (["eval", "a", "b"], ["'b' is one word too many", "flaxft eval takes RUN"]),
    (["--mode=predict"], ["--input is missing"]),
    (["--input"], ["input"]),
]  # fmt: skip
COMMAND_CASES = [
    Case(11 if "given twice" in words[0] else 0, " ".join(one), one, words, code=errors.USAGE, is_real=one == TWICE) for one, words in COMMANDS
]
COMMAND_CASES += [Case(11, "two configs", ["--config={folder}/config.py"], ["--config is given twice"], code=errors.USAGE)]
WITHOUT = ([], ["--mode=train"], ["--config.seed=1"], ["--mode=eval"], ["--mode=predict", "--input=x.txt"])
NO_RUN = Case(0, "no run", ["eval", "--workdir={tmp}/a"], ["/a holds no run", "give the folder of one"], code=errors.USAGE, config="-")
DATA_AS_RUN = Case(0, "data as run", ["predict", "--workdir={tmp}/a", "--input=x"], ["/a is a file and no run"], files={"a": ""}, code=errors.USAGE, config="-")
DATA_AS_CONFIG = Case(0, "data as a config", config="{tmp}/a.csv", files={"a.csv": "a"}, words=["not a Python file", "flaxft train"])
COMMAND_CASES += [NO_RUN, DATA_AS_RUN, DATA_AS_CONFIG]
COMMAND_CASES += [Case(12, f"no config {' '.join(one)}", one, ["--config"], code=errors.USAGE, config="-") for one in WITHOUT]

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
    ("import flaxft.tasks.token_clasification\n", "",
         ["config.py:1", "ModuleNotFoundError", "token_clasification", "did you mean 'flaxft.tasks.token_classification'"]),
    ("from flaxft.tasks.question_answering import QuestionAnswring\n", "",
         ["config.py:1", "ImportError", "QuestionAnswring", "did you mean 'QuestionAnswering'"]),
]  # fmt: skip
FILE_CASES = [
    Case(9 if "flaxft.tasks" in content else 13, f"file {i}", files={"config.py": content}, config=f"{{tmp}}/config.py{argument}", words=words)
    for i, (content, argument, words) in enumerate(CONFIG_FILES)
]
RUN = {"config": {"type": "flaxft.config.Config", "task": {"type": "flaxft.tasks.tokens.Tokens"}}, "facts": {}}
FILE_CASES += [
    Case(9, "of a saved run", ["--mode=eval"], ["run/config.json", "'flaxft.tasks.tokens.Tokens'", "no part of flaxft"],
         files={"run/config.json": json.dumps(RUN)}),
    Case(12, "misspelt", config="{folder}/confg.py", words=["confg.py", "no such file", "did you mean", "config.py"], is_real=True),
    Case(12, "a folder that is not there", config="{folder}/none/config.py", words=["none/config.py", "no such file"]),
    Case(12, "a folder", config="{tmp}", words=["is a directory"]),
    Case(13, "no Python", config="{tmp}/config.yaml", files={"config.yaml": "seed: 1\n"}, words=["config.yaml", "not a Python file"]),
    Case(14, "trailing comma in the run's config", ["--mode=eval"], ["run/config.json", "damaged", "restore it"],
         files={"run/config.json": '{"config": {}, "facts": {},}'}),
    Case(16, "workdir is a file", ["--workdir={tmp}/file"], ["--workdir=", "is a file", "expected a directory"], files={"file": "mine"}, is_real=True),
    Case(16, "workdir in a file", ["--workdir={tmp}/file/run"], ["--workdir=", "is a file", "give another --workdir"], files={"file": "mine"}),
    Case(0, "workdir of a long name", [f"--workdir={{tmp}}/{'a' * 300}"], ["--workdir=", "File name too long"]),
    Case(5, "a batch that the devices do not divide", code=errors.OK),
]  # fmt: skip

CASES = [*FIELD_CASES, *SECTION_CASES, *COMMAND_CASES, *FILE_CASES]


@pytest.mark.parametrize("case", [case for case in CASES if case.number != 5], ids=lambda case: case.id)
def test_case(tried, case):
    tried(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.number == 5], ids=lambda case: case.id)
def test_empty_rows_are_appended(folder, tmp_path, case, record_property):
    """7 examples a step, 8 devices."""
    command = [sys.executable, "-m", "flaxft.main", f"--config={folder / 'config.py'}", f"--workdir={tmp_path / 'run'}", "--config.task.test="]
    environment = tiny.devices(8)
    done = subprocess.run([*command, "--config.data.batch_size=7", "--config.num_steps=2"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "8 cpu devices" in done.stdout
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 2
    record_property("bad input", (case.number, case.name, done.returncode))


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


