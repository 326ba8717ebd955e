"""The command line: what its overrides become."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft import help
from flaxft.command import apply_overrides, from_file, parse
from flaxft.config import FACTS, from_json, to_json
from flaxft.errors import UserError
from flaxft.main import MODES
from tests.bad_inputs.corpus import config_file

NER = "configs/ner.py"
ROOT = Path(__file__).parents[1]


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


FAST = settings(max_examples=150, deadline=None, derandomize=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: text.lower() != "none")
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=",'\"()[]"), min_size=1, max_size=6)  # what a list in one flag can hold
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "optim.learning_rate": st.floats(allow_nan=False),
    "optim.warmup": st.floats(0, 1),
    "data.batch_size": st.integers(),
    "data.max_examples": st.none() | st.integers(),
    "data.cache": st.booleans(),
    "seed": st.integers(),
    "num_steps": st.none() | st.integers(0),
    "task.train": TEXTS,
    "task.scheme": st.none() | TEXTS,
    "task.label_column": TEXTS,
    "task.labels": st.lists(NAMES, max_size=4).map(tuple),
    "evals.validation.every": st.integers(),
}


BASE = from_file(str(ROOT / NER))


def written(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


@FAST
@given(chosen=st.fixed_dictionaries({}, optional=VALUES))
def test_what_is_written_is_what_is_set(chosen):
    """Any value of any kind comes back from its text, and from the saved config; fields that were not named stay."""
    cfg, untouched = copy.deepcopy(BASE), BASE
    apply_overrides(cfg, [f"--config.{name}={written(value)}" for name, value in chosen.items()])
    for name in VALUES:
        found, wanted = field(cfg, name), chosen.get(name, field(untouched, name))
        assert (found, type(found)) == (wanted, type(wanted))
    assert from_json(json.loads(json.dumps(to_json(cfg))), "config.json") == cfg


def test_booleans_and_all_at_once():
    assert overridden("--noconfig.data.cache").data.cache is False
    assert overridden("--config.data.cache").data.cache is True
    assert overridden("--config.data.cache", "false").data.cache is False
    assert overridden("--config.task.label_all_tokens", "--config.seed=1").task.label_all_tokens is True
    once = {override.partition("=")[0]: (override, value) for override, value in OVERRIDES}
    cfg = overridden(*(f"--config.{override}" for override, _ in once.values()))
    assert {name: field(cfg, name) for name in once} == {name: value for name, (_, value) in once.items()}


def test_the_default_workdir_goes_by_the_config(tmp_path):
    assert parse([f"--config={ROOT / NER}"], modes=list(MODES)).workdir == Path("runs/ner")
    odd = tmp_path / "my.pyfiles" / "small.v2.py"
    odd.parent.mkdir()
    config_file(odd, tmp_path)
    assert parse([f"--config={odd}"], modes=list(MODES)).workdir == Path("runs/small.v2")


def test_what_a_command_imports_is_left_to_no_collector_and_the_rest_is(tmp_path):
    """In a process of its own, where nothing is imported yet; a second command imports nothing and freezes nothing more."""
    code = (
        "import gc, sys; from flaxft.main import main\n"
        "before = gc.get_freeze_count(); main(['--mode=eval']); first = gc.get_freeze_count()\n"
        "main(['--mode=eval']); print(before, first > 100_000, gc.get_freeze_count() == first, gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["0", "True", "True", "True"], done.stderr


# ---- sub-commands and their words ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    return make(tmp_path, monkeypatch)


def make(tmp_path: Path, patch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of data, one without suffix, a model and a run."""
    patch.chdir(tmp_path)
    rows = "".join(f"{i},my card number {i} is late again today,{('refund', 'card', 'other')[i % 3]}\n" for i in range(30))
    for name in ("tickets.csv", "mlm"):
        (tmp_path / name).write_text(f"ticket_id,body,queue\n{rows}")
    for name, content in (("model", {"model_type": "bert"}), ("runs/ner", {"config": to_json(from_file("ner")), "facts": dict.fromkeys(FACTS)})):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    return tmp_path


def words(*arguments: str) -> Any:
    return parse(arguments, modes=list(MODES))


SAME = [
    ("train --config=ner", "--config=configs/ner.py"),
    ("train ner", "--config=configs/ner.py"),
    ("train ner.py", "--config=configs/ner.py"),
    ("train configs/ner.py", "--config=configs/ner.py"),
    ("train ner --workdir=a --config.seed=3", "--config=configs/ner.py --workdir=a --config.seed=3"),
    ("train glue:sst2", "--config=configs/glue.py:sst2"),
    ("train ner --optim.learning_rate=0.5 --noconfig.data.cache", "--config=configs/ner.py --config.optim.learning_rate=0.5 --config.data.cache=false"),
    ("train ner --nodata.cache --evals.validation.every=3", "--config=configs/ner.py --config.data.cache=false --config.evals.validation.every=3"),
    ("train ner --model=some/model", "--config=configs/ner.py --config.model.path=some/model"),
    ("train --mesh.data -1 ner", "--config=configs/ner.py --config.mesh.data=-1"),
    ("eval runs/ner", "--mode=eval --workdir=runs/ner"),
    ("eval runs/ner --task.test=x.conll", "--mode=eval --workdir=runs/ner --config.task.test=x.conll"),
    ("predict runs/ner texts.txt", "--mode=predict --workdir=runs/ner --input=texts.txt"),
    ("predict runs/ner --input texts.txt", "--mode=predict --workdir=runs/ner --input=texts.txt"),
    ("export runs/ner --target=onnx", "--mode=export --workdir=runs/ner --target=onnx"),
    ("report runs/ner", "--mode=report --workdir=runs/ner"),
    ("compare runs/ner runs/b", "--mode=compare runs/ner runs/b"),
    ("doctor runs/ner", "--mode=doctor --workdir=runs/ner"),
    ("doctor ner", "--mode=doctor --config=ner"),
    ("compile ner --topology=v5e:2x4", "--mode=compile --config=ner --topology=v5e:2x4"),
    ("doctor", "--mode=doctor"),
]


@pytest.mark.parametrize(("short", "flags"), SAME, ids=[pair[0] for pair in SAME])
def test_a_sub_command_is_its_flags(here, short, flags):
    assert words(*short.split()) == words(*flags.split())


def test_a_file_of_data_is_its_own_config(here):
    command = words("train", "tickets.csv")
    assert (command.mode, command.workdir, command.data, command.config.task.train) == ("train", Path("runs/tickets"), "tickets.csv", "tickets.csv")
    assert command.notes[0] == "tickets.csv: sequence classification; text in 'body', one label in 'queue'"
    assert "--model=" in command.notes[1]
    command = words("train", "tickets.csv", "--model=some/model", "--task.label_column=queue", "--task.text_columns=ticket_id,body", "--workdir=a")
    assert (command.config.model.path, command.config.task.text_columns, command.workdir) == ("some/model", ("ticket_id", "body"), Path("a"))
    assert command.notes[1] == "encoder: some/model"


def test_a_file_of_data_beside_a_config(here):
    command = words("train", "--config=intent", "tickets.csv")
    assert command == words("train", "intent", "tickets.csv") == words("train", "tickets.csv", "intent")
    assert (command.config.task.train, command.workdir, command.notes) == ("tickets.csv", Path("runs/tickets"), ())
    assert words("doctor", "mlm", "--task.format=csv").data == "mlm"  # a file of that name goes before the config
    assert words("doctor", "./tickets.csv").workdir == Path("runs/tickets")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("tickets.csv", "'tickets.csv' is no sub-command and no flag; did you mean flaxft train tickets.csv?"),
        ("trian tickets.csv", "'trian' is no sub-command and no flag; did you mean 'train'?"),
        ("train tickets.csv tickets.csv", "is a second file; say what it is for: --config.task.validation=tickets.csv or --config.task.test=tickets.csv"),
        ("train ner intent", "'intent' and --config=ner are both given"),
        ("train ner tickets.csv more", "'more' is one word too many; flaxft train takes [CONFIG] [FILE]"),
        ("train tickets.csv tickets.csv mlm", "'mlm' is one word too many"),
        ("train model", "model is a model, and not data; give --model=model"),
        ("train runs/ner", "runs/ner is a run; the command that began it goes on with it, and flaxft eval runs/ner scores it"),
        ("train ner --config=intent", "'ner' and --config=intent are both given"),
        ("predict runs/ner a.txt --input=b.txt", "'a.txt' and --input=b.txt are both given"),
        ("train nre", "--config=nre: no such file"),
        ("train nre.csv", "nre.csv: no such file"),
        ("train tickets.csv --config.task.train=a.csv --config=intent", "--config.task.train is given twice"),
        ("train ner --model=a --config.model.path=b", "--config.model.path is given twice"),
        ("eval runs/ner --model=other", "holds a run that began with"),
        ("eval runs/ner --seeds=3", "--seeds is for --mode=train, not for eval"),
        ("predict runs/ner a.txt --target=hf", "--target is for --mode=export"),
    ],
)
def test_words_that_do_not_fit(here, arguments, said):
    with pytest.raises(UserError) as error:
        words(*arguments.split())
    assert said in str(error.value)


PARTS = st.sampled_from(
    [*MODES, "help", "--help", "-h", "--config", "--config=ner", "--config=", "ner",
     "glue:sst2", "tickets.csv", "runs/ner", "model", "mlm", ".", "..", "/", "", "-",
     "--", "---", "-1", "=", "--=", "--config.", "--optim.lr=1", "--optim.", "--noconfig.data.cache", "--seeds=1", "--lr=1", "--x=y=z", "--model=a",
     "--workdir=runs/x", "--mode=doctor", "--target=hf", "--task.train=x", "--config.task=1", "*.csv", "hub:x", "a\0b", "--\u202e", "--config.task.train=\n"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(arguments=st.lists(PARTS | st.text(max_size=8), max_size=4))
def test_no_words_end_in_a_traceback(here_once, arguments):
    """Whatever is written, it is a command or one line that says what is wrong."""
    with contextlib.suppress(UserError):
        if help.is_asked(arguments):
            help.text(arguments)
        else:
            parse(arguments, modes=list(MODES))


@pytest.fixture(scope="module")
def here_once(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield make(tmp_path_factory.mktemp("here"), patch)
