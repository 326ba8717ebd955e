"""What a run notices in its inputs before the first step."""

from __future__ import annotations

import dataclasses

from flaxft.train.prepare import open_inputs
from tests import tiny


def noticed(cfg, caplog):
    with caplog.at_level("WARNING", logger="flaxft"):
        open_inputs(cfg, cfg.model.open(), poll=lambda: None)
    return [record.getMessage() for record in caplog.records if "in the train split too" in record.getMessage()]


def test_44_records_that_are_in_two_splits(tmp_path, caplog):
    cfg = tiny.config(tmp_path)
    cfg.task = dataclasses.replace(cfg.task, validation=cfg.task.train)
    num = len(cfg.task.records("train"))
    found = noticed(cfg, caplog)
    assert f"validation: {num} of {num} records are in the train split too, token by token; their scores say nothing of new text" in found


def test_splits_that_share_nothing_are_not_spoken_of(tmp_path, caplog):
    cfg = tiny.config(tmp_path)
    other = tmp_path / "other.conll"
    other.write_text("rome B-LOC\nin O\nrome B-LOC\nin O\nrome B-LOC\n")
    cfg.task = dataclasses.replace(cfg.task, validation=str(other), test=str(other))
    assert noticed(cfg, caplog) == []
