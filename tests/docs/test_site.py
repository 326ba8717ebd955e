"""The site builds without a warning, and has every module's documented names on its API pages."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_INTERFACE = {f"flaxft.{name}" for name in "convert_bin demo encoder flags help main plugins runtime synonyms".split()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip('mkdocs is not installed; it comes with the docs extra: pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""
    return folder


def public(file: Path) -> list[str]:
    """Documented classes and functions of a module."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [n.name for n in ast.parse(file.read_text()).body if isinstance(n, kinds) and n.name[0] != "_" and ast.get_docstring(n)]


def test_every_documented_name_is_on_a_page(site):
    found = set(re.findall(r'id="(flaxft[\w.]*)"', "".join(page.read_text() for page in site.glob("api/**/*.html"))))
    assert len(found) > 200
    missing = []
    for file in sorted((ROOT / "flaxft").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not any(module == one or module.startswith(f"{one}.") for one in NO_INTERFACE):
            missing += [f"{module}.{name}" for name in public(file) if f"{module}.{name}" not in found]
    assert missing == []


def test_every_page_is_reached(site):
    index = (site / "index.html").read_text()
    pages = [page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")]
    for page in pages:
        address = page.parent if page.name == "index" else page
        assert f'href="{address}/"' in index or address == Path("."), address


def test_nothing_is_fetched_from_elsewhere(site):
    """A page that is opened without a network looks the same."""
    for page in site.rglob("*.html"):
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', page.read_text()) == [], page
