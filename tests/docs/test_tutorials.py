"""The tutorials run as they stand: their files are written, their commands and Python run in order, with two steps of a tiny encoder each."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flaxft.main import main
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
SMALL = ["--config.num_steps=2", "--config.data.max_examples=20", "--config.data.num_shapes=1"]
PACKAGED = {"relation"}  # the markers @ and # are not in the tiny vocabulary
COMMAND = ["python", "-m", "flaxft.main"]


def blocks(text: str) -> Iterator[tuple[str, str | None, str]]:
    """(language, title, content) of each fenced block."""
    for language, title, content in re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        yield language, title or None, content


def commands(content: str) -> list[list[str]]:
    return [shlex.split(line) for line in content.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial(page, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    tiny.encoder(tmp_path / "tiny", max_position_embeddings=512, vocab_size=len(tiny.PIECES))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    trained = []
    for language, title, content in blocks(page.read_text(encoding="utf-8")):
        if title:
            Path(title).write_text(content, encoding="utf-8")
        elif language == "bash":
            for command in commands(content):
                assert command[:3] == COMMAND, command
                trains = not any(one.startswith("--mode=") for one in command)
                given = page.stem in PACKAGED or any(one.startswith(("--config.model.path=", "--from=")) for one in command)
                more = [*SMALL, *([] if given else ["--config.model.path=tiny"])] if trains else []
                assert main(command[3:] + more) == 0, capsys.readouterr().err
                trained += [one.removeprefix("--workdir=") for one in command if one.startswith("--workdir=")] if trains else []
        elif language == "python":
            with contextlib.redirect_stdout(None):
                exec(compile(content, str(page), "exec"), names)  # noqa: S102  (this project's own pages)
    assert trained
    for workdir in trained:
        assert json.loads(Path(workdir, "results.json").read_text())["steps"] == 2
    assert names


def test_each_task_has_its_tutorial():
    families = {path.stem for path in (ROOT / "flaxft" / "tasks").glob("*.py")} - {"__init__", "base"}
    assert len(TUTORIALS) == len(families)
    linked = re.findall(r"\(tutorials/(\w+)\.md\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert sorted(linked) == [path.stem for path in TUTORIALS]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_short_and_complete(page):
    text = page.read_text(encoding="utf-8")
    found = list(blocks(text))
    assert text.count("```") == 2 * len(found)  # no block that the test passes over
    assert {language for language, _, _ in found} >= {"bash", "python"}
    assert len(text.splitlines()) <= 60
