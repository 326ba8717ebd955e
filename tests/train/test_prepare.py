"""What a run notices in its inputs before the first step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flaxft.data.base import IGNORE, Features, Field, Records
from flaxft.data.items import build_items
from flaxft.errors import UserError
from flaxft.train import prepare
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


class Labelled:
    """A task of one label a record, its own text."""

    def spec(self):
        return {"labels": Field("S", (), "int32", IGNORE)}

    def features(self, record, tokenizer, *, max_length):
        return [Features({"input_ids": np.arange(3, dtype=np.int32)}, {"labels": np.asarray(record["y"], np.int32)})]


def learnable(labels, tmp_path):
    records = Records("own.csv", repr(labels), [{"y": label} for label in labels], range(len(labels)), where_format=":{}")
    prepare.check_learnable(Labelled(), records, build_items(records, Labelled(), None, max_length=8, key="k", cache=tmp_path))


def test_a_train_split_of_which_nothing_can_be_learnt(tmp_path, caplog):
    with pytest.raises(UserError, match=r"own\.csv: nothing can be learnt from any of its 2 records"):
        learnable([IGNORE, IGNORE], tmp_path)
    learnable([0, IGNORE, 1], tmp_path)
    assert caplog.messages == ["own.csv: nothing can be learnt from 1 of 3 records, whose labels are all ignored"]
    caplog.clear()
    learnable([0, 1], tmp_path)
    assert not caplog.messages
