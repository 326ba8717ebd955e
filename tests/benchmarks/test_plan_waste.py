"""benchmarks/plan_waste.py counts every position that a step computes, and the batches that it pads are the plan's own."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import plan_waste
from tests import tiny


def test_what_is_computed_with_one_device_and_with_more():
    """12 examples of 32 tokens, 4 a step: whole rows on one device; on 8, each needs a row of its own and half of them stay empty."""
    lengths = np.full(12, 32)
    alone = plan_waste.waste(lengths, batch_size=4, num_devices=1, hidden_size=32)
    assert alone.efficiency == alone.longest == 1.0
    spread = plan_waste.waste(lengths, batch_size=4, num_devices=8, hidden_size=32)
    assert ({one.row_length for one in spread.plan.shapes}, spread.rows, spread.most_rows, spread.efficiency) == ({32}, 4.0, 4, 0.5)


def test_padding_to_the_longest_is_of_the_same_batches():
    found = plan_waste.waste(np.asarray([16, 32, 48, 64]), batch_size=4, num_devices=1, hidden_size=32)
    assert found.longest == pytest.approx(160 / 256)


def test_a_row_for_each_data_batch_size_and_number_of_devices():
    text = plan_waste.table({"some": np.full(600, 30)}, hidden_size=32)
    rows = [line.split(" | ") for line in text.split("\n")]
    assert len(rows) == 2 + len(plan_waste.BATCH_SIZES) * len(plan_waste.DEVICES)
    assert {len(row) for row in rows[2:]} == {len(rows[0])}
    assert rows[2][0] == "| some"
    assert rows[2][-1] == f"{30 / 128:.1%} |"


def test_lengths_are_those_of_a_run(tmp_path):
    model = tiny.encoder(tmp_path / "model")
    (tmp_path / "train.conll").write_text("anna\tB-PER\nlives\tO\n\nin\tO\n")
    assert plan_waste.wnut17_lengths(tmp_path / "train.conll", model).tolist() == [4, 3]
