"""Who may import whom, read from the table in CONTRIBUTING.md, and the other limits on the layout."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "flaxft"
EVERYBODYS = ("errors", "files")
JIT_ALLOWED = ("models/base", "train/step", "train/loop", "train/evaluate", "predict", "export/*")


class Row(NamedTuple):
    modules: tuple[str, ...]  # patterns
    allowed: tuple[str, ...]  # patterns
    lazily: tuple[str, ...]  # patterns, allowed inside functions


class Edge(NamedTuple):
    """`source` imports `target`; both as the table writes them: `data/base`, `train/__init__`."""

    source: str
    target: str
    line: int
    lazy: bool  # inside a function, or for the type checker alone


# ---- the table ----------------------------------------------------------------------------------------------------------------------------------


def read_table(text: str) -> list[Row]:
    section = text.split("\n## Who may import whom\n")[1]
    block = re.search(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert block, "CONTRIBUTING.md has no fenced block under 'Who may import whom'"
    rows = []
    for line in block[1].splitlines():
        left, arrow, right = line.partition("->")
        assert arrow, line
        targets = [target.strip() for target in right.split(",")]
        lazily = tuple(target.removesuffix("(lazily)").strip() for target in targets if target.endswith("(lazily)"))
        allowed = tuple(target for target in targets if not target.endswith("(lazily)") and target != "nothing")
        rows.append(Row(tuple(name.strip() for name in left.split(",")), allowed, lazily))
    return rows


def fits(pattern: str, module: str) -> bool:
    if pattern == "anything":
        return True
    if pattern.startswith("*/"):
        return module.endswith(pattern[1:])
    return module == pattern or module.startswith(pattern.removesuffix("*").removesuffix("/") + "/")


def fault(edge: Edge, table: list[Row]) -> str | None:
    """Why the table forbids this import, or None."""
    fitting = [(pattern, row) for row in table for pattern in row.modules if fits(pattern, edge.source)]
    if not fitting:
        return f"flaxft/{edge.source}.py has no row in the table of CONTRIBUTING.md"
    pattern, row = next((pair for pair in fitting if pair[0] == edge.source), fitting[0])
    sibling = pattern != edge.source and not pattern.endswith("*") and fits(pattern, edge.target)
    allowed = row.allowed + (row.lazily if edge.lazy else ())
    if sibling or edge.target in EVERYBODYS or any(fits(target, edge.target) for target in allowed):
        return None
    how = " outside a function" if any(fits(target, edge.target) for target in row.lazily) else ""
    return f"flaxft/{edge.source}.py:{edge.line} imports {edge.target}{how}; allowed: {', '.join((*row.allowed, *row.lazily, 'errors'))}"


# ---- the imports --------------------------------------------------------------------------------------------------------------------------------


def modules(package: Path) -> dict[str, Path]:
    return {path.relative_to(package).with_suffix("").as_posix(): path for path in sorted(package.rglob("*.py"))}


def edges(package: Path) -> list[Edge]:
    """Every import of one module of the package by another; `importlib.import_module` of a constant counts."""
    files = modules(package)
    found = []
    for source, path in files.items():
        for names, line, lazy in imports(ast.parse(path.read_text(encoding="utf-8")), parents=(package.name, *source.split("/")[:-1])):
            if names[0][0] != package.name:
                continue
            places = ["/".join(name[1:]) for name in names]
            tried = [place for name in places for place in (name, f"{name}/__init__".removeprefix("/"))]
            found.append(Edge(source, next((place for place in tried if place in files), f"{places[-1]} (no such module)"), line, lazy))
    return found


def imports(node: ast.AST, *, parents: tuple[str, ...], lazy: bool = False) -> Iterator[tuple[list[tuple[str, ...]], int, bool]]:
    """(the dotted names that may be meant, the longest first; line; lazy) for each imported name."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (([tuple(alias.name.split("."))], child.lineno, lazy) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = (*(parents[: len(parents) - level + 1] if level else ()), *(module.split(".") if module else ()))
                yield from (([(*base, alias.name), base], child.lineno, lazy) for alias in names)
            case ast.Call(func=function, args=[ast.Constant(str(name)), *_]) if ast.unparse(function).endswith(("import_module", "__import__")):
                yield [tuple(name.split("."))], child.lineno, lazy
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        yield from imports(child, parents=parents, lazy=lazy or later or typing)


def cycle(found: list[Edge]) -> list[str]:
    """One cycle among the modules, its first module again at the end, or an empty list."""
    graph: dict[str, set[str]] = {}
    for edge in found:
        graph.setdefault(edge.source, set()).add(edge.target)
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if ring := visit(target, [*path, module]):
                return ring
        done.add(module)
        return []

    return next((ring for module in sorted(graph) if (ring := visit(module, []))), [])


# ---- the rules ----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return read_table((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def test_imports_keep_to_the_table(table):
    faults = [fault(edge, table) for edge in edges(PACKAGE)]
    assert [text for text in faults if text] == []


def test_every_module_has_a_row(table):
    assert [name for name in modules(PACKAGE) if not any(fits(pattern, name) for row in table for pattern in row.modules)] == []


def test_no_cycle():
    assert cycle(edges(PACKAGE)) == []


def test_the_table_names_only_what_it_knows(table):
    """A misspelt name on the right would forbid more than the reader sees."""
    known = [pattern for row in table for pattern in row.modules]
    named = {target for row in table for target in (*row.allowed, *row.lazily)} - {"anything", "*/base"}
    assert [name for name in sorted(named) if not any(fits(pattern, name) or fits(name, pattern) for pattern in known)] == []


def test_no_drawer_for_everything():
    names = {f"{name}.py" for name in ("utils", "helpers", "common")}
    places = ("flaxft", "configs", "tests", "benchmarks", "launch")
    assert [str(path.relative_to(ROOT)) for place in places for path in (ROOT / place).rglob("*.py") if path.name in names] == []


def test_loop_fits_in_one_reading():
    path = PACKAGE / "train" / "loop.py"
    if not path.exists():
        pytest.skip("no train/loop.py yet")
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def test_config_has_at_most_20_fields():
    path = PACKAGE / "config.py"
    if not path.exists():
        pytest.skip("no config.py yet")
    (config,) = (node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef) and node.name == "Config")
    fields = [ast.unparse(node.target) for node in config.body if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)]
    assert 0 < len(fields) <= 20, fields


@pytest.mark.parametrize("module", ["flaxft", "flaxft.runtime", "flaxft.errors"])
def test_importing_it_imports_no_jax(module):
    if not (ROOT / module.replace(".", "/")).is_dir() and not (ROOT / f"{module.replace('.', '/')}.py").exists():
        pytest.skip(f"no {module} yet")
    code = f"import sys, {module}; print(sorted({{'jax', 'jaxlib', 'flax', 'optax', 'orbax'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def jits(tree: ast.AST) -> list[int]:
    """Lines that take `jit` from jax or nnx."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr == "jit" and ast.unparse(node.value).split(".")[-1] in ("jax", "nnx"))
        or (isinstance(node, ast.ImportFrom) and any(alias.name in ("jit", "pjit") for alias in node.names))
    ]


def test_jit_stands_in_few_places():
    places = [
        f"flaxft/{name}.py:{line}"
        for name, path in modules(PACKAGE).items()
        if not any(fits(pattern, name) for pattern in JIT_ALLOWED)
        for line in jits(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert places == [], f"jax.jit belongs in {', '.join(JIT_ALLOWED)}"


# ---- the checker itself -------------------------------------------------------------------------------------------------------------------------

MADE_UP = """
## Who may import whom

```
errors, low, kit/base  -> nothing
kit/*                  -> kit/base, low
band                   -> low
__init__               -> low, top (lazily)
top                    -> */base, band
```
"""


def make(folder: Path, files: Mapping[str, str]) -> list[Edge]:
    for name, text in files.items():
        path = folder / "made" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return edges(folder / "made")


KIT, BAND = ("kit/__init__", "kit/base", "kit/one", "kit/two"), ("band/__init__", "band/drum", "band/bass")
ALL = dict.fromkeys(("__init__", "errors", "low", *KIT, *BAND, "top"), "")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("low", "from made.errors import Oops"),
        ("kit/one", "import json\nfrom made.kit.base import Kit\nfrom made import low, errors\n"),
        ("band/drum", "from made.band import bass\nfrom .bass import slap\nfrom .. import low"),
        ("__init__", "import typing\ndef __getattr__(name):\n    from made.top import run\n    return run\n"),
        ("__init__", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made import top\n"),
        ("top", "import made.kit.base, made.band.drum\nfrom made import band\n"),
    ],
)
def test_checker_passes_what_is_allowed(tmp_path, source, text):
    found = make(tmp_path, ALL | {source: text})
    assert found != []
    assert [fault(edge, read_table(MADE_UP)) for edge in found] == [None] * len(found)
    assert cycle(found) == []


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("low", "from made.top import run", "flaxft/low.py:1 imports top; allowed: errors"),
        ("low", "def f():\n    import made.top\n", "flaxft/low.py:2 imports top"),
        ("low", "import importlib\nimportlib.import_module('made.top')\n", "flaxft/low.py:2 imports top"),
        ("low", "from .top import run", "flaxft/low.py:1 imports top"),
        ("low", "import made", "flaxft/low.py:1 imports __init__"),
        ("kit/one", "from made.kit import two", "flaxft/kit/one.py:1 imports kit/two"),
        ("kit/one", "from . import two", "flaxft/kit/one.py:1 imports kit/two"),
        ("kit/base", "from made.kit.one import One", "flaxft/kit/base.py:1 imports kit/one; allowed: errors"),
        ("top", "from made.kit.one import One", "flaxft/top.py:1 imports kit/one"),
        ("top", "import made.missing", "flaxft/top.py:1 imports missing (no such module)"),
        ("__init__", "from made.top import run", "flaxft/__init__.py:1 imports top outside a function"),
        ("stray", "from made import low", "flaxft/stray.py has no row"),
    ],
)
def test_checker_finds_a_bad_import(tmp_path, source, text, message):
    (text,) = (fault(edge, read_table(MADE_UP)) for edge in make(tmp_path, ALL | {source: text}))
    assert text is not None
    assert text.startswith(message)


def test_checker_finds_a_cycle(tmp_path):
    ring = {"band/drum": "from made.band import bass", "band/bass": "def f():\n    from made.low import x", "low": "from made.band.drum import beat"}
    assert cycle(make(tmp_path, ALL | ring)) == ["band/bass", "low", "band/drum", "band/bass"]


@pytest.mark.parametrize("text", ["@jax.jit\ndef f(): ...", "f = functools.partial(jax.jit, donate_argnums=0)", "from jax import jit", "nnx.jit(f)"])
def test_checker_finds_jit(text):
    assert jits(ast.parse(text)) == [1]
