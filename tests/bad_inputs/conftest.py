"""Sound inputs to spoil, and what tries a case. With -v the summary has a table of what became of each number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from flaxft import errors
from flaxft.main import main
from tests import tiny
from tests.bad_inputs import corpus
from tests.bad_inputs.corpus import Case, Outcome


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Encoder, corpora and a config file; no test writes here."""
    made = tmp_path_factory.mktemp("inputs")
    tiny.config(made)
    corpus.config_file(made / "config.py", made)
    return made


@pytest.fixture(scope="session")
def finished(folder, tmp_path_factory) -> Path:
    """A run of two steps, both saved."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    arguments = [f"--config={folder / 'config.py'}", f"--workdir={workdir}", "--config.num_steps=2", "--config.checkpoint.every=1"]
    assert main([*arguments, "--config.task.test="]) == errors.OK
    return workdir


@pytest.fixture
def tried(folder, tmp_path, capsys, monkeypatch, record_property) -> Callable[..., Outcome]:
    """Tries a case in this process and checks the promises: of one that is refused, that nothing was written; else that nothing is half-written."""
    (tmp_path / "case").mkdir()
    monkeypatch.setenv("FLAXFT_CACHE", str(tmp_path / "cache"))  # the table of items that a refused run does not leave half-written

    def check(case: Case, **places: Path) -> Outcome:
        tmp = tmp_path / "case"
        arguments = corpus.prepare(case, folder, tmp, **places)
        before = corpus.snapshot(folder, tmp)
        outcome = corpus.in_process(arguments, capsys.readouterr)
        after = corpus.snapshot(folder, tmp)
        assert not list((tmp_path / "cache").rglob("*.tmp"))
        if case.code == errors.OK:
            corpus.check_accepted(outcome, case)
            corpus.check_nothing_half_written(before, after, tmp / "run")
        else:
            corpus.check_refused(outcome, case)
            assert after == before, "nothing may be written"
        record_property("bad input", (case.number, case.name, outcome.code))
        return outcome

    return check


def pytest_terminal_summary(terminalreporter) -> None:
    if terminalreporter.verbosity < 1:
        return
    codes: dict[int, set[str]] = defaultdict(set)
    for outcome in ("passed", "failed", "xfailed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "bad input" and value[0]:
                    found = "works" if value[2] == errors.OK else f"exit {value[2]}"
                    codes[value[0]].add(f"{value[1]}: {found}{'' if outcome == 'passed' else f' ({outcome})'}")
    for number in sorted(codes):
        terminalreporter.write_line(f"{number:4}  {'; '.join(sorted(codes[number]))}")
    terminalreporter.write_line(f"{len(codes)} of {len(corpus.NUMBERS)} numbers tried")
