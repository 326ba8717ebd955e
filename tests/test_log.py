"""metrics.jsonl holds each step once, whatever happened to its last line; lines for people are plain, and a bar on a terminal."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flaxft.errors import UserError
from flaxft.log import LineHandler, Log, Writer
from tests import tiny

ROOT = Path(__file__).parent.parent


def records(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def written(workdir: Path, num: int) -> None:
    writer = Writer(workdir)
    for step in range(1, num + 1):
        writer.record({"step": step, "loss": 1 / step})
    writer.close()


# ---- metrics.jsonl --------------------------------------------------------------------------------------------------------------------------------


def test_record_appends_and_sync_puts_it_on_the_disk(tmp_path):
    writer = Writer(tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()  # nothing was recorded yet
    writer.sync()
    writer.record({"step": 1, "loss": 0.5})
    writer.sync()
    assert records(tmp_path) == [{"step": 1, "loss": 0.5}]
    writer.close()
    writer.close()
    again = Writer(tmp_path)
    again.record({"step": 2, "loss": 0.25, "validation": {"entity_f1": 0.5}})
    again.close()
    assert [record["step"] for record in records(tmp_path)] == [1, 2]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_cut(tmp_path, step, kept):
    written(tmp_path, 5)
    writer = Writer(tmp_path)
    writer.cut(step)
    assert [record["step"] for record in records(tmp_path)] == kept
    writer.record({"step": step + 1, "loss": 0.0})
    writer.close()
    assert [record["step"] for record in records(tmp_path)] == [*kept, step + 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


HALF = ["{", '{"step": 6, "lo', '{"step": 6', "6", "null", "[6]", '"step"', '{"loss": 1}', '{"step": null}', '{"step": "x"}', "\0\0\0\0"]


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_half_written_line_goes(tmp_path, half, ending):
    """A killed process leaves any prefix of a line; a power cut may leave zeros."""
    written(tmp_path, 5)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write(half + ending)
    writer = Writer(tmp_path)
    writer.cut(7)
    writer.record({"step": 6, "loss": 0.0})
    writer.close()
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_bytes_that_are_no_text_go_too(tmp_path):
    """As a cut character, or the garbage of a disk that lost power."""
    written(tmp_path, 2)
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write('{"step": 3, "name": "é'.encode()[:-1])
    Writer(tmp_path).cut(2)
    assert [record["step"] for record in records(tmp_path)] == [1, 2]


def test_amend(tmp_path):
    written(tmp_path, 3)
    writer = Writer(tmp_path)
    writer.amend(3, {"validation": {"entity_f1": 0.5}})
    writer.amend(3, {})
    assert records(tmp_path)[2] == {"step": 3, "loss": 1 / 3, "validation": {"entity_f1": 0.5}}
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3]


def test_nothing_to_cut_or_amend(tmp_path):
    writer = Writer(tmp_path)
    writer.cut(3)
    writer.amend(0, {"validation": {"entity_f1": 0.0}})  # a run of 0 steps has no line
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_no_workdir_and_other_processes(tmp_path, capsys):
    for writer in (Writer(None), Writer(tmp_path, is_first_process=False)):
        writer.cut(0)
        writer.record({"step": 1})
        writer.amend(1, {"a": 1})
        writer.sync()
        writer.close()
    Writer(tmp_path, is_first_process=False).line("nothing")
    Writer(tmp_path, is_first_process=False).progress(1, 2, "nothing")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_log_every():
    with pytest.raises(UserError, match=r"log.every is 0, expected at least 1"):
        Log(every=0).check()


# ---- lines and bar --------------------------------------------------------------------------------------------------------------------------------


def test_plain_lines_where_there_is_no_terminal(capsys):
    writer = Writer(None)
    writer.line("[bold]begin[/bold] at :smile:")
    writer.progress(3, 10, "loss 0.5")
    writer.progress(10, 10, "loss 0.25")
    writer.close()
    assert capsys.readouterr().out == "[bold]begin[/bold] at :smile:\nstep 3/10  loss 0.5\nstep 10/10  loss 0.25\n"


def test_tables_are_for_terminals(capsys, monkeypatch):
    """Elsewhere scores are the line that they always were. On a terminal text is no markup, and the second table says what changed."""
    writer = Writer(None)
    writer.table("Parameters", ("module", "parameters"), [("head", "1")])
    writer.scores(3, "validation", {"entity_f1": 0.5, "loss": 1.0})
    assert capsys.readouterr().out == "step 3  validation  entity_f1 0.5000  loss 1.0000\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    writer.table("[bold]P[/bold]", ("module", "parameters"), [("[red]head[/red]", "1,234")])
    writer.scores(6, "validation", {"entity_f1": 0.75, "loss": 0.5})
    Writer(None, is_first_process=False).scores(6, "validation", {"entity_f1": 0.75})
    shown = capsys.readouterr().out
    assert "[bold]P[/bold]" in shown and re.search(r"\[red\]head\[/red\] +1,234", shown)
    assert re.search(r"entity_f1 +0\.7500 +\+0\.2500", shown) and re.search(r"loss +0\.5000 +-0\.5000", shown)
    assert shown.count("validation, step 6") == 1
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.splitlines()) <= 40


def test_warnings_go_through_the_writer(capsys):
    log = logging.Logger("of this test")
    log.addHandler(LineHandler(Writer(None)))
    log.warning("%d tags are out of place", 3)
    log.info("a note")
    assert capsys.readouterr().out == "warning: 3 tags are out of place\na note\n"


CODE = """
import sys
from pathlib import Path
from tests import tiny
from flaxft.train.loop import run
run(tiny.config(Path(sys.argv[1]), **{"log.every": 1, "num_steps": 4, "checkpoint.every": 2}), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("inputs")
    tiny.config(made)
    return made


def test_a_run_in_a_pipe_prints_plain_lines(folder, tmp_path):
    done = subprocess.run([sys.executable, "-c", CODE, str(folder), str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    assert re.findall(r"^step (\d)/4  loss \d+\.\d{4}  rate ", done.stdout, re.MULTILINE) == ["1", "2", "3", "4"]


def test_a_run_on_a_terminal_shows_a_bar(folder, tmp_path):
    import pty

    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "160", "LINES": "40"}
    command = [sys.executable, "-c", CODE, str(folder), str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=slave, stdout=slave, stderr=subprocess.PIPE) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            shown += part
        assert process.stderr is not None
        stderr = process.stderr.read().decode()
    os.close(master)
    text = shown.decode()
    assert process.returncode == 0, stderr
    assert "Traceback" not in text + stderr
    assert "\x1b[" in text and "━" in text  # a bar that redraws itself
    assert "4/4" in text and re.search(r"loss \d+\.\d{4}", text)
    assert not re.search(r"^step \d/4 ", text, re.MULTILINE), "the bar stands in the lines' place"
    assert "starting, 4 steps in all" in text and "results in" in text
    assert re.search(r"\n  flaxft report \S+/run$", text.rstrip())  # the bar is gone when the run ends
    assert list(tiny.losses(tmp_path / "run")) == [1, 2, 3, 4]


def test_a_skipped_steps_loss_is_null(tmp_path):
    writer = Writer(tmp_path)
    writer.record({"step": 1, "loss": float("nan"), "grad_norm": float("inf")})
    writer.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail) == {"step": 1, "loss": None, "grad_norm": None}
