"""--help: what it says is there, is whole, fits the terminal, and works."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flaxft import config, errors, flags, help, main, plugins
from flaxft.command import parse
from flaxft.config import Config
from flaxft.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
PLAIN = [field.name for field in dataclasses.fields(Config) if field.name not in help._sections()]


def test_each_sub_command_is_one_that_runs():
    assert set(flags.SUBCOMMANDS) == set(main.MODES)
    assert next(iter(main.MODES)) == flags.FIRST
    assert all(mode in main.MODES for flag in flags.FLAGS.values() for mode in flag.modes)


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in flags.SUBCOMMANDS), ["train", "--help", "task"], ["train", "--help", "--config=ner"]],
    ids=" ".join,
)
def test_no_line_is_wider_than_the_terminal(monkeypatch, arguments, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    wide = [line for line in help.text(arguments).splitlines() if len(line) > columns]
    assert wide == [] or (columns == 60 and all(len(line.split()) < 8 for line in wide))  # examples are not broken


def test_the_short_help_is_short_and_begins_with_examples(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = help.text(["--help"]).splitlines()
    assert len(lines) <= 35 and lines[2] == "examples:" and lines[3].startswith("  flaxft train tickets.csv")
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in flags.SUBCOMMANDS)
    assert all(line == line.rstrip() for line in lines)


@pytest.fixture
def tickets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},my card number {i} is late again today,{('refund', 'card', 'other')[i % 3]}\n" for i in range(30))
    (tmp_path / "tickets.csv").write_text(f"ticket_id,body,queue\n{rows}")
    for name in ("tickets", "ner"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        config.save(tmp_path / "runs" / name / "config.json", config.from_file("ner"), dict.fromkeys(config.FACTS))
    return tmp_path / "tickets.csv"


SAID = [example for example, _ in help.EXAMPLES] + [example for one in flags.SUBCOMMANDS.values() for example in one.examples]


@pytest.mark.parametrize("example", SAID)
def test_an_example_is_a_sound_command(tickets, example):
    program, *arguments = example.split()
    command = parse(arguments, modes=list(main.MODES))
    assert program == "flaxft" and command.mode == arguments[0]
    if "tickets.csv" in example:
        assert command.config is not None and command.config.task.train == "tickets.csv"


@pytest.mark.parametrize("name", flags.SUBCOMMANDS)
def test_a_sub_command_says_its_flags(name):
    said = help.text([name, "-h"])
    assert said.startswith(f"usage: flaxft {name} {flags.SUBCOMMANDS[name].usage}")
    for flag, one in flags.FLAGS.items():
        assert (f"\n  --{flag}={one.value}" in said) == (not one.modes or name in one.modes)


def test_every_field_of_the_config_stands_in_the_help_of_train():
    said = help.text(["train", "--help"])
    assert all(f"  --config.{name}  (" in said for name in PLAIN)
    for field in dataclasses.fields(Config):
        section = getattr(config, field.name, None) or field.default_factory
        if dataclasses.is_dataclass(section):
            assert all(f"--config.{field.name}.{one.name}  (" in said for one in dataclasses.fields(section)), field.name
    assert "--config.evals.validation.every  (whole number, default 0)" in said
    assert "The exponent of the polynomial schedule" in said.replace("\n      ", " ")


def test_the_fields_of_every_task_and_of_that_of_a_config():
    every = help.text(["train", "--help", "task"])
    assert all(f"task = {cls.__name__}:" in every for cls in plugins.tasks())
    of_one = help.text(["train", "--config=ner", "--help"])
    assert "task = TokenClassification:" in of_one and "--config.task.scheme" in of_one and "SequenceClassification" not in of_one
    assert "demo/train.conll" in of_one  # what this config says, and not what Config does
    assert help.text(["train", "ner", "--help"]) == of_one


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["help"], "sub-commands:"),
        (["help", "predict"], "usage: flaxft predict"),
        (["predict", "-h"], "usage: flaxft predict"),
        (["--help=optim"], "--config.optim.b1"),
        (["--mode=export", "--help"], "usage: flaxft export"),
        (["--config=ner", "--help"], "task = TokenClassification"),
        (["--helpfull"], "examples:"),
    ],
    ids=str,
)
def test_help_is_asked_for_in_many_ways(arguments, words, capsys):
    assert main.main(arguments) == errors.OK
    assert words in capsys.readouterr().out


def test_help_of_nothing(capsys):
    assert main.main(["train", "--help", "optm"]) == errors.USAGE
    assert "'optm' is no section of a config; did you mean 'optim'?; known are all, task, model" in capsys.readouterr().err
    assert main.main(["--help", "trian"]) == errors.USAGE
    assert "'trian' is no sub-command; did you mean 'train'" in capsys.readouterr().err


def test_the_program_by_itself(capsys, monkeypatch):
    """Without arguments it shows the short help, as pip does."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["flaxft"]
    assert entry == "flaxft.main:console"
    for arguments, words in (([], "sub-commands:"), (["--version"], f"flaxft {VERSION}\n")):
        monkeypatch.setattr(sys, "argv", ["flaxft", *arguments])
        with pytest.raises(SystemExit) as done:
            main.console()
        assert done.value.code == errors.OK and words in capsys.readouterr().out


def test_a_reader_that_stops_early_ends_it_quietly():
    """`flaxft --help | head -1`, where the pipe is closed before anything is written."""
    command = f"import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); sys.argv = ['flaxft', '--help']; sys.path.insert(0, {str(ROOT)!r});"
    done = subprocess.run([sys.executable, "-c", f"{command} from flaxft.main import console; console()"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_short_help_imports_no_jax():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from flaxft.main import main; main(['--help']); print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.endswith("False\n")
