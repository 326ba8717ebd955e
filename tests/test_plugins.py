"""The core names no concrete task or model, so a new one is one file more and no change elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "flaxft"
SHARED = {"__init__", "base", "hf", "heads"}  # files of a plug-in folder that are not plug-ins
FOLDERS = ("tasks", "models", "peft", "methods")
PLUGINS = sorted(path.stem for folder in FOLDERS for path in (PACKAGE / folder).glob("*.py") if path.stem not in SHARED)
CORE = sorted(
    path
    for pattern in ("train/*", "data/*", "main", "config", "optim", "sharding", "checkpoint", "log", "predict")
    for path in PACKAGE.glob(f"{pattern}.py")
)

# ---- no names in the core -----------------------------------------------------------------------------------------------------------------------


def spellings(plugins: list[str]) -> set[str]:
    """File names and the class names made of them: token_classification, TokenClassification."""
    return {*plugins, *("".join(part.title() for part in name.split("_")) for name in plugins)}


def named(tree: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    """(line, name) where an import, an attribute or a string constant is one of `names`; in a path, dotted or not, where a part of it is."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}  # docstrings
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                words = [alias.name for alias in aliases]
            case ast.ImportFrom(module=module, names=aliases):
                words = [module or "", *(alias.name for alias in aliases)]
            case ast.Attribute(attr=attribute):
                words = [attribute]
            case ast.Constant(value=str(text)) if id(node) not in prose:
                words = [text]
            case _:
                continue
        yield from ((node.lineno, part) for word in words for part in re.split(r"[./:]", word) if part in names)


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_core_names_no_plugin(path):
    assert list(named(ast.parse(path.read_text(encoding="utf-8")), spellings(PLUGINS))) == []


def test_there_is_something_to_look_for():
    assert "bert" in PLUGINS
    assert CORE


@pytest.mark.parametrize(
    "text",
    [
        "from flaxft.models.bert import Bert as Any",
        "from flaxft.models import bert",
        "import flaxft.models.bert",
        "models.bert",
        "if model_type == 'bert': ...",
        "f'{bert}/bert.py'",
        "if type(model).__name__ == 'Bert': ...",
        "table = {'bert': 1}",
    ],
)
def test_a_name_is_found(text):
    assert {line for line, _ in named(ast.parse(text), spellings(["bert"]))} == {1}


@pytest.mark.parametrize("text", ['"""bert"""', "# bert\nx = 1", "f('as bert-base-cased')", "def f():\n    'bert'\n", "import flaxft.models.base"])
def test_prose_is_no_name(text):
    assert list(named(ast.parse(text), spellings(["bert"]))) == []


# ---- a plug-in from outside ---------------------------------------------------------------------------------------------------------------------
# Here belongs the proof: a task written to tmp_path trains, evaluates and predicts while no file of flaxft changes.
