"""The corpus is whole, and cases of every kind hold in the real command too."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.bad_inputs import corpus
from tests.bad_inputs.corpus import NUMBERS, Case

KINDS = {
    file.stem: importlib.import_module(f"tests.bad_inputs.{file.stem}").CASES
    for file in sorted(Path(__file__).parent.glob("test_*.py"))
    if file.stem != Path(__file__).stem
}
CASES = [case for cases in KINDS.values() for case in cases]
REAL = [case for case in CASES if case.is_real]


def test_every_number_has_a_case():
    assert {case.number for case in CASES} - {0} == set(NUMBERS)


def test_every_case_has_its_own_name():
    """Two of one name would hide each other in the table."""
    names = [(case.number, case.name) for case in CASES]
    assert len(set(names)) == len(names), sorted(name for name in set(names) if names.count(name) > 1)


def test_every_kind_is_tried_as_a_process():
    assert len(REAL) >= 15
    assert {kind for kind, cases in KINDS.items() if any(case.is_real for case in cases)} == set(KINDS)


@pytest.mark.parametrize("case", REAL, ids=lambda case: case.id)
def test_the_real_command(case: Case, folder: Path, finished: Path, tmp_path: Path):
    (tmp_path / "case").mkdir()
    arguments = corpus.prepare(case, folder, tmp_path / "case", finished=finished)
    before = corpus.snapshot(folder, finished, tmp_path / "case")
    corpus.check_refused(corpus.in_a_process(arguments, tmp_path), case)
    assert corpus.snapshot(folder, finished, tmp_path / "case") == before
