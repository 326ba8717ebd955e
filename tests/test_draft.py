"""`flaxft init`: the config that it writes is the one that was guessed, and no file is written over."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import flaxft
from flaxft import draft, errors
from flaxft.errors import UserError
from flaxft.guess import guess_config
from flaxft.main import main


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},my card number {i} is late again today,{('refund', 'card', 'other')[i % 3]}\n" for i in range(30))
    (tmp_path / "tickets.csv").write_text(f"ticket_id,body,queue\n{rows}")
    return tmp_path


def test_what_is_written_is_what_was_guessed(here, capsys):
    assert main(["init", "tickets.csv"]) == errors.OK
    done = capsys.readouterr()
    assert done.out == "wrote tickets.py; look at it, then: flaxft train --config=tickets.py\n"
    assert "tickets.csv: sequence classification; text in 'body', one label in 'queue'" in done.err
    text = (here / "tickets.py").read_text()
    assert flaxft.config("tickets") == guess_config("tickets.csv")[0]
    assert text.startswith('"""tickets.csv: sequence classification; text in \'body\'')
    assert '            # The column of the label, such as queue\n            label_column="queue",\n' in text
    assert str(here) not in text and "str(encoder.DIRECTORY)" in text
    assert all(len(line) <= 160 for line in text.splitlines())


def test_flags_stand_in_it(here):
    assert (
        main(["init", "tickets.csv", "--model=some/model", "--config.optim.learning_rate=3e-4", "--config.task.labels=card,other,refund", "--output=own.py"])
        == 0
    )
    cfg = flaxft.config("own")
    assert (cfg.model.path, cfg.optim.learning_rate, cfg.task.labels) == ("some/model", 3e-4, ("card", "other", "refund"))
    assert (
        "\n        optim=Optim(\n" in (here / "own.py").read_text()
        and "encoder" not in (here / "own.py").read_text().partition("def ")[0].partition('"""\n')[2]
    )


def test_no_file_is_written_over(here, capsys):
    (here / "tickets.py").write_text("mine")
    assert main(["init", "tickets.csv"]) == errors.USER_ERROR
    assert "tickets.py is there already and stays as it is; train with flaxft train --config=tickets.py" in capsys.readouterr().err
    assert (here / "tickets.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["init"], "no file to look at", errors.USAGE),
        (["init", "none.csv"], "none.csv: no such file", errors.USER_ERROR),
        (["init", "tickets.csv", "--output=a.txt"], "a config is a Python file; give NAME.py", errors.USAGE),
        (["init", "tickets.csv", "--output=none/a.py"], "none/a.py cannot be written", errors.USER_ERROR),
        (["init", "tickets.csv", "more.csv"], "'more.csv' is one word too many", errors.USAGE),
        (["init", "tickets.csv", "--config=ner"], "--config is for --mode=train or", errors.USAGE),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_said(here, capsys, arguments, words, code):
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("data/tickets.csv", "tickets"), ("email.csv", "email_config"), ("test.csv", "test_config"), ("jax.jsonl", "jax_config"),
        ("2024-05 tickets (1).csv", "data_2024_05_tickets_1"), ("hub:org/my-set@main", "my_set"), ("*.csv", "data"),
    ],
)  # fmt: skip
def test_a_config_hides_no_module(data, name):
    assert draft.module_name(data) == name


def test_a_config_of_this_folder_is_no_module(here, monkeypatch):
    (here / "tickets.py").write_text("")
    monkeypatch.syspath_prepend(str(here))
    assert draft.module_name("tickets.csv") == "tickets"
    assert "tickets" not in sys.modules


def test_names_with_quotes_stay_data(here):
    file = here / 'my "own" tickets.csv'
    (here / "tickets.csv").rename(file)
    cfg, line = guess_config(file.name)
    with pytest.raises(UserError, match="Python file"):
        draft.write(cfg, data=file.name, notes=[line], output="x")
    written = draft.write(cfg, data=file.name, notes=[f'{file.name}: """ \\'])
    assert written == Path("my_own_tickets.py")
    assert flaxft.config(str(written)).task.train == file.name
