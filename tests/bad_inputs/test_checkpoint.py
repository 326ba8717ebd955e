"""Workdirs of another run, and checkpoints that are damaged. Numbers 115 to 130 of the corpus."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flaxft import checkpoint, errors
from flaxft.checkpoint import MANIFEST
from flaxft.main import MODES
from tests import tiny
from tests.bad_inputs.corpus import Case

SAME = ("--config.num_steps=2", "--config.checkpoint.every=1", "--config.task.test=")
THERE = ("--workdir={finished}", *SAME)
NEWEST = 2  # of the finished run; step 1 is there too


def other(number: int, name: str, *words: str, arguments: tuple[str, ...] = (), **fields) -> Case:
    """Another command in the workdir of a finished run."""
    return Case(number, name, [*THERE, *arguments], words, **fields)


def fields(number: int, *overrides: str) -> list[Case]:
    words = ("holds a run with another config", "give another --workdir, or the same config", "to go on from its best weights give --from=")
    return [other(number, one, f"{one.partition('=')[0]}: ", *words, arguments=(f"--config.{one}",)) for one in overrides]


CHANGES = ("--config.optim.learning_rate=0.5", "--config.seed=3", "--config.evals.validation.every=1", "--config.task.label_all_tokens")
CHANGED = ("optim.learning_rate: 0.01 -> 0.5", "seed: 0 -> 3", "evals.validation.every: 0 -> 1", "task.label_all_tokens: False -> True")
OTHERS = [
    other(115, "several fields", "another config", *CHANGED, "give another --workdir", arguments=CHANGES, is_real=True),
    *fields(115, "data.batch_size=4", "data.max_length=16", "model.dtype=bfloat16"),
    *fields(116, "task.labels=O,B-PER,I-PER,B-LOC,I-LOC,B-ORG,I-ORG"),
    *fields(129, "optim.b1=0.8", "optim.schedule=cosine"),
]  # fmt: skip


def newer(workdir: Path) -> None:
    for file in workdir.rglob(MANIFEST):
        content = json.loads(file.read_text()) | {"version": 99}
        del content["digest"]
        file.write_text(json.dumps(content | {"digest": checkpoint._digest(content)}))


def saved_config(content: str) -> Callable[[Path], object]:
    return lambda workdir: (workdir / "config.json").write_text(content)


def without_facts(workdir: Path) -> None:
    content = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(content | {"facts": {}}))


FUTURE = [Case(118, f"a newer flaxft, {mode}", [*SAME, f"--mode={mode}"], ["manifest.json: version 99", "newer flaxft", "update flaxft"],
     damage=newer) for mode in ("train", "eval")]
SAVED = [
    ("", ["config.json", "damaged"]),
    ('{"config": {', ["config.json", "damaged"]),
    ("[]", ["config.json", "damaged"]),
    ('{"config": {"type": "os.system"}, "facts": {}}', ["config.json", "'os.system'", "no part of flaxft"]),
    ('{"config": {"seed": 1}, "facts": {}}', ["config.json", "holds no Config"]),
]  # fmt: skip
GIVEN = {"predict": [*SAME, "--input=x.txt"], "report": []}  # what a mode takes; a report takes no --config
CONFIGS = [
    Case(0, f"config.json {i}, {mode}", [*GIVEN.get(mode, SAME), f"--mode={mode}"], words, damage=saved_config(content),
         config="-" if mode == "report" else "")
    for i, (content, words) in enumerate(SAVED)
    for mode in MODES
    if mode not in ("compile", "init", "compare")  # the first two take nothing from a run; tests/test_compare.py has the third, which needs two
]  # fmt: skip
CONFIGS += [Case(0, "config.json without facts", SAME, ["config.json", "damaged"], damage=without_facts)]

# ---- damage ---------------------------------------------------------------------------------------------------------------------------------------


def step(workdir: Path, number: int = NEWEST) -> Path:
    return workdir / "checkpoints" / str(number)


def largest(workdir: Path) -> Path:
    return max((file for file in step(workdir).rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def cut(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def emptied(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


def every_step(workdir: Path) -> None:
    for manifest in workdir.rglob(MANIFEST):
        manifest.write_text("{")


def uncommitted(workdir: Path) -> None:
    shutil.copytree(step(workdir), workdir / "checkpoints" / "3.orbax-checkpoint-tmp-1")
    (workdir / "checkpoints" / "3.orbax-checkpoint-tmp-1" / MANIFEST).unlink()


def no_numbers(workdir: Path) -> None:
    (workdir / "checkpoints" / "latest").mkdir()
    (workdir / "checkpoints" / "notes.txt").write_text("mine")


def array_elsewhere(workdir: Path) -> None:
    """A file of the newest step is a link to one outside, with other content."""
    file = largest(workdir)
    (workdir.parent / "outside").write_bytes(b"other" + file.read_bytes())
    file.unlink()
    file.symlink_to(workdir.parent / "outside")


FALLS_BACK = ("falling back to the step before", "resumed from step 1")
DAMAGES = [
    Case(119, "the newest cut", SAME, FALLS_BACK, errors.OK, damage=lambda run: cut(largest(run), -10)),
    Case(120, "a flipped bit", SAME, FALLS_BACK, errors.OK, damage=lambda run: flip(largest(run))),
    Case(121, "a missing file", SAME, FALLS_BACK, errors.OK, damage=lambda run: largest(run).unlink()),
    Case(122, "the newest emptied", SAME, ["resumed from step 1"], errors.OK, damage=lambda run: emptied(step(run))),
    Case(122, "an empty folder", SAME, ["resumed from step 2"], errors.OK, damage=lambda run: step(run, 3).mkdir()),
    Case(123, "one that was never committed", SAME, ["resumed from step 2"], errors.OK, damage=uncommitted),
    Case(124, "the manifest cut", SAME, FALLS_BACK, errors.OK, damage=lambda run: cut(step(run) / MANIFEST, -10)),
    Case(125, "a flipped bit in the manifest", SAME, FALLS_BACK, errors.OK, damage=lambda run: flip(step(run) / MANIFEST)),
    Case(126, "all", SAME, ["all 2 checkpoints are damaged", "restore one from a copy"], errors.DAMAGED, damage=every_step),
    Case(126, "all, eval", ["--mode=eval"], ["all 2 checkpoints are damaged", "restore one from a copy"], errors.DAMAGED, damage=every_step, config="-"),
    Case(127, "names that are no numbers", SAME, ["resumed from step 2"], errors.OK, damage=no_numbers),
    Case(128, "a file that leads elsewhere", SAME, FALLS_BACK, errors.OK, damage=array_elsewhere),
    Case(130, "no step at all", ["--mode=eval"], ["holds no checkpoint yet", "train first"], damage=lambda run: shutil.rmtree(run / "checkpoints"), config="-"),
    Case(130, "the best step is not there", ["--mode=eval"], ["checkpoints/2", "restore it from a copy"], errors.DAMAGED, damage=lambda run: gone(run),
         config="-"),
    Case(130, "no run", ["--mode=eval"], ["encoder has no token head", "train it first, or give the --workdir of a run"]),
]  # fmt: skip


def gone(workdir: Path) -> None:
    """A step after the best one knows of it, but it was deleted."""
    source, target = step(workdir), step(workdir, 3)
    content = json.loads((source / MANIFEST).read_text()) | {"step": 3}
    source.rename(target)
    del content["digest"]
    (target / MANIFEST).write_text(json.dumps(content | {"digest": checkpoint._digest(content)}))


DATA = Case(117, "other data", [*THERE, "--config.task.train={tmp}/other.conll"], ["train data: its content is not what the run began with"])
MODEL = Case(117, "another model", [*THERE, "--config.model.path={tmp}/wide"], ["model: its content is not what the run began with"])
CASES = [*OTHERS, *FUTURE, *CONFIGS, *DAMAGES, DATA, MODEL]


@pytest.mark.parametrize("case", [*OTHERS, *FUTURE, *CONFIGS], ids=lambda case: case.id)
def test_case(tried, finished, case):
    tried(case, finished=finished)


@pytest.mark.parametrize("case", DAMAGES, ids=lambda case: case.id)
def test_damage(tried, finished, tmp_path, case):
    """What falls back goes on to the same end."""
    tried(case, finished=finished)
    if case.code == errors.OK:
        results = [json.loads((workdir / "results.json").read_text()) for workdir in (finished, tmp_path / "case" / "run")]
        assert results[1]["evals"] == results[0]["evals"]
        assert tiny.losses(tmp_path / "case" / "run") == tiny.losses(finished)


@pytest.mark.parametrize("case", [DATA, MODEL], ids=lambda case: case.id)
def test_other_data_or_another_model(tried, finished, tmp_path, case):
    tiny.corpus(tmp_path / "case" / "other.conll", seed=9)
    tiny.encoder(tmp_path / "case" / "wide", hidden_size=48)
    tried(case, finished=finished)


def test_eval_falls_back_too(tried, finished, caplog):
    """The newest manifest is damaged; the step before says which was best then."""
    arguments = ["--mode=eval", "--config.task.test="]
    tried(Case(125, "the newest manifest, eval", arguments, ['"evals"'], errors.OK, damage=lambda run: flip(step(run) / MANIFEST), config="-"),
         finished=finished)
    assert "manifest.json: damaged; falling back to the step before" in caplog.text


LINKED = Case(128, "a step that leads elsewhere", SAME, ["resumed from step 2"], errors.OK)
CASES += [LINKED]


def test_what_a_step_leads_to_is_left_alone(tried, finished, tmp_path):
    case = tmp_path / "case"
    (case / "outside").mkdir()
    (case / "outside" / "mine").write_text("mine")
    shutil.copytree(finished, case / "run")
    (case / "run" / "checkpoints" / "3").symlink_to(case / "outside")
    tried(LINKED)
    assert (case / "outside" / "mine").read_text() == "mine"
