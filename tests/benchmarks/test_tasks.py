"""The rows of benchmarks/tasks.py fit the configs that they name, cut files are the same for ever, and a killed run goes on where it was."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks import tasks
from flaxft.command import apply_overrides, from_file

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", tasks.ROWS)
def test_a_row_names_a_config_and_fields_that_are_there(name):
    row = tasks.ROWS[name]
    for size in filter(None, (row.size, row.beside_torch)):
        cfg = from_file(str(ROOT / "configs" / row.config))
        apply_overrides(cfg, tasks.overrides(row, size, {f"{field}.{split}": Path(split) for field in row.files for split in row.splits}))
        cfg.check()
        assert cfg.data.batch_size == size.batch_size
        assert set(cfg.task.splits()) == set(row.splits)


@pytest.mark.parametrize("name", [name for name, row in tasks.ROWS.items() if row.beside_torch])
def test_pytorch_has_a_recipe_for_each_row_beside_it(name):
    source = (ROOT / "benchmarks" / "tasks_pytorch.py").read_text(encoding="utf-8")  # not imported: torch may be absent
    assert f'    "{name}": Recipe(' in source


def test_an_untrained_encoder_in_any_config():
    from flaxft.models.hf import Untrained

    cfg = from_file(f"{ROOT / 'benchmarks' / 'tasks.py'}:{ROOT / 'configs' / 'intent.py'}")
    assert type(cfg.model) is Untrained


# ---- cut files ----------------------------------------------------------------------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_fewer_lines_are_some_of_the_more_in_their_order(tmp_path):
    source = tmp_path / "train.jsonl"
    source.write_text("".join(json.dumps({"text": f"text {i}", "label": "ab"[i // 50]}) + "\n" for i in range(100)))
    few, more = (lines(tasks.cut(source, tmp_path / f"{limit}", limit=limit)) for limit in (20, 40))
    assert (len(few), len(more)) == (20, 40)
    assert set(few) < set(more)
    assert more == [line for line in lines(source) if line in more]
    assert len({json.loads(line)["label"] for line in few}) == 2  # the first 20 have one label
    assert tasks.cut(source, tmp_path / "all", limit=None) == source
    assert lines(tasks.cut(source, tmp_path / "200", limit=200)) == lines(source)


def test_questions_are_counted_not_articles(tmp_path):
    paragraphs = [{"context": f"context {i}", "qas": [{"id": f"{i} {j}", "question": f"question {j}"} for j in range(4)]} for i in range(5)]
    source = tmp_path / "train.json"
    source.write_text(json.dumps({"version": "1.1", "data": [{"title": "a", "paragraphs": paragraphs[:2]}, {"title": "b", "paragraphs": paragraphs[2:]}]}))
    content = json.loads(tasks.cut(source, tmp_path / "cut", limit=7).read_text())
    found = [(p["context"], q["id"]) for article in content["data"] for p in article["paragraphs"] for q in p["qas"]]
    assert len(set(found)) == 7
    assert all(context == f"context {name[0]}" for context, name in found)


def test_sentences_of_a_column_file(tmp_path):
    source = tmp_path / "train.conll.gz"
    sentences = [f"word{i}\tO\nend\tO" for i in range(10)]
    source.write_bytes(gzip.compress("\n\t\n".join(sentences).encode()))  # WNUT-17 ends sentences with a line that holds a tab
    target = tasks.cut(source, tmp_path / "cut", limit=4)
    assert target.name == "train.conll"
    found = target.read_text().strip("\n").split("\n\n")
    assert len(found) == 4
    assert set(found) < set(sentences)


def test_scores_of_pairs_become_labels(tmp_path):
    source = tmp_path / "train.jsonl"
    source.write_text("".join(json.dumps({"sentence1": "a", "sentence2": "b", "score": score}) + "\n" for score in (2.9, 3.0, 5.0)))
    found = lines(tasks.labelled(source, tmp_path / "made" / "train.jsonl", similar_from=3.0))
    assert [json.loads(line)["label"] for line in found] == ["different", "similar", "similar"]
    assert all("score" not in json.loads(line) for line in found)


# ---- runs ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A command over two rows and two seeds, whose processes are not started."""
    for folder in ("sentiment", "stsb"):
        (tmp_path / folder).mkdir()
        for split in ("train", "validation", "test"):
            (tmp_path / folder / f"{split}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.setattr(tasks, "machine", lambda: {"cpu": "this one"})
    monkeypatch.setattr(tasks.signal, "signal", lambda *_: None)
    paths = [f"--data={tmp_path}", f"--raw={tmp_path}", f"--model={tmp_path / 'model'}", f"--out={tmp_path / 'out.json'}"]
    return [*paths, "--rows", "sentiment", "similarity", "--seeds", "1", "2"]


class Processes:
    """In place of `execute`: notes (row's data, seed, side) of each command; `stop` says after how many it is killed, `broken` what fails."""

    def __init__(self, *, stop: int = 100, broken: str = "nothing"):
        self.ran: list[tuple[str, str, str]] = []
        self._stop, self._broken = stop, broken

    def __call__(self, command: list[str], *, workdir: str) -> dict:
        if len(self.ran) == self._stop:
            raise KeyboardInterrupt
        joined = " ".join(command)
        seed = next(part[-1] for part in command if "seed=" in part)
        self.ran.append(("sentiment" if "/sentiment/" in joined else "similarity", seed, "torch" if "tasks_pytorch.py" in joined else "flaxft"))
        if self._broken in joined:
            raise SystemExit("exit code 1")
        scores = {"accuracy": 0.5 + int(seed) / 10, "spearman": 0.25}
        return {"evals": {"validation": scores, "test": scores}, "seconds": 1.0, tasks.RATE: 100.0, "padding_fraction": 0.1}


def start(monkeypatch, arguments: list[str], processes: Processes) -> list[tuple[str, str, str]]:
    monkeypatch.setattr(tasks, "execute", processes)
    tasks.main(arguments)
    return processes.ran


def test_sides_take_turns_and_a_killed_run_goes_on(arguments, tmp_path, monkeypatch, capsys):
    killed = Processes(stop=3)
    with pytest.raises(KeyboardInterrupt):
        start(monkeypatch, [*arguments, "--torch"], killed)
    assert killed.ran == [("sentiment", "1", "flaxft"), ("sentiment", "1", "torch"), ("similarity", "1", "flaxft")]
    assert len(json.loads((tmp_path / "out.json").read_text())["runs"]) == 3
    rest = start(monkeypatch, [*arguments, "--torch"], Processes())
    assert rest[0] == ("similarity", "1", "torch")
    assert len(rest) == 5
    capsys.readouterr()
    assert start(monkeypatch, [*arguments, "--torch"], Processes()) == []
    shown = capsys.readouterr().out
    assert "| sentiment | model | torch | 2000 | 3 | accuracy 0.65 ± 0.07071 (0.6, 0.7) |" in shown
    assert shown.count("| similarity |") == 2


def test_other_sizes_are_other_runs(arguments, monkeypatch):
    assert len(start(monkeypatch, arguments, Processes())) == 4
    assert len(start(monkeypatch, [*arguments, "--cap", "64"], Processes())) == 4
    assert len(start(monkeypatch, [*arguments, "--untrained"], Processes())) == 4
    assert start(monkeypatch, arguments, Processes()) == []


def test_a_run_that_fails_does_not_hold_up_the_others_and_is_run_again(arguments, monkeypatch):
    failing = Processes(broken="/sentiment/")
    with pytest.raises(SystemExit, match="failed: sentiment seed 1 flaxft, sentiment seed 2 flaxft"):
        start(monkeypatch, arguments, failing)
    assert len(failing.ran) == 4
    assert start(monkeypatch, arguments, Processes()) == [("sentiment", "1", "flaxft"), ("sentiment", "2", "flaxft")]


def test_results_of_another_machine_are_not_added_to(arguments, monkeypatch):
    start(monkeypatch, arguments, Processes())
    monkeypatch.setattr(tasks, "machine", lambda: {"cpu": "another"})
    with pytest.raises(SystemExit, match="measured elsewhere"):
        start(monkeypatch, arguments, Processes())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--torch", "--untrained"], "--untrained has no PyTorch side"),
        (["--torch", "--rows", "emotions"], "--torch has no"),
        (["--rows", "emotions"], "not found"),
    ],
)
def test_a_command_that_cannot_be_meant(arguments, more, message, capsys):
    with pytest.raises(SystemExit):
        tasks.parse([*arguments, *more])
    assert message in capsys.readouterr().err
