"""Config files by name, from any folder, and what a wrong name is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

import flaxft
from flaxft import config, config_file
from flaxft.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "configs"
OWN = "from flaxft.config import from_file\n\n\ndef get_config():\n    cfg = from_file({of!r})\n    cfg.seed = 7\n    return cfg\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["intent", "intent.py", "configs/intent", "configs/intent.py", "./intent", str(SHIPPED / "intent.py")])
def test_a_shipped_config_is_found_from_anywhere(name):
    assert config_file.find(name) == SHIPPED / "intent.py"
    assert config_file.is_known(name)


def test_every_shipped_config_has_its_bare_name():
    assert config_file.own_names() == sorted(file.stem for file in SHIPPED.glob("*.py"))


def test_a_wheel_has_them_in_the_package(tmp_path, monkeypatch):
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "mine.py").write_text("")
    monkeypatch.setattr(config_file, "INSTALLED", (tmp_path / "wheel", tmp_path / "none"))
    assert config_file.find("mine") == tmp_path / "wheel" / "mine.py"


def test_an_own_file_goes_before_a_shipped_one(tmp_path):
    of = str(SHIPPED / "ner.py")
    (tmp_path / "ner.py").write_text(OWN.format(of=of))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "small.v2.py").write_text(OWN.format(of=of))
    for name in ("ner", "ner.py", "./ner.py", "deep/small.v2", "deep/small.v2.py"):
        assert flaxft.config(name).seed == 7
    (tmp_path / "intent").mkdir()  # a folder of the same name is no config
    assert flaxft.config("intent").seed == 0


def test_a_config_from_python():
    assert flaxft.config is config  # whichever of them was imported first
    assert isinstance(flaxft.config("ner"), flaxft.config.Config)
    with pytest.raises(UserError, match="takes no argument"):
        flaxft.config("ner:sst2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("intnt", ["no such file", "did you mean 'intent'", "glue, intent, mixture"]),
        ("intnt.py", ["did you mean 'intent'"]),
        ("configs/inten.py", ["did you mean 'intent'"]),
        ("mine/intent.py", ["no such file"]),
        ("mine/configs/intent.py", ["no such file"]),
        ("folder", ["is a directory"]),
        ("", ["no such file"]),
        (".", ["is a directory"]),
        ("a\0b", ["no such file"]),
        ("folder/tickts.py", ["did you mean 'folder/tickets.py'"]),
    ],
)
def test_a_wrong_name(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "tickets.py").write_text("")
    with pytest.raises(UserError) as error:
        flaxft.config(name)
    assert all(word in str(error.value) for word in [*words, "get_config()"])
    assert not config_file.is_known(name)
