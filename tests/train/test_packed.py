"""That packed equals unpacked is in the contract of every task (test_contract.py). Here: with mistakes put in it would not be, and padding is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from tests import tiny
from tests.tasks.contract import BOUND, compute, prepare

FAMILY = "token_classification"


@pytest.mark.parametrize("mistake", ["segments", "positions"])
def test_the_comparison_can_fail(tmp_path, mistake):
    """Without the segment mask, or with positions that run on, the same comparison finds a large difference."""
    _, task, items, loaded = prepare(tmp_path, FAMILY)
    _, _, _, found = compute(task, items, loaded, row_length=32, num_slots=1, num_rows=4)
    batch = next(iter(Pipeline(items, task.spec(), seed=0).once(Shape(row_length=64, num_slots=8, num_rows=4))))
    assert batch["example_weight"][0, 1] == 1
    if mistake == "segments":
        batch["segment_ids"] = np.minimum(batch["segment_ids"], 1)
    else:
        batch["position_ids"] = np.broadcast_to(np.arange(64, dtype=np.int32), batch["position_ids"].shape)
    scores = np.asarray(task.predict(tiny.outputs(loaded, batch), batch)["T"]["score"])
    start, number = batch["example_start"][0, 1], int(batch["example_id"][0, 1])
    assert np.abs(scores[0, start : start + items.lengths[number]] - found[number]["score"]).max() > 100 * BOUND


def test_padding_changes_neither_loss_nor_gradient(tmp_path):
    """The old Flax script's defect: its loss was a mean over all positions, padding included."""
    _, task, items, loaded = prepare(tmp_path, FAMILY)
    total, weights, gradients, _ = compute(task, items, loaded, row_length=32, num_slots=1, num_rows=4)
    padded_total, padded_weights, padded_gradients, _ = compute(task, items, loaded, row_length=64, num_slots=1, num_rows=16)
    assert padded_weights == weights
    assert abs(padded_total - total) <= BOUND * max(1.0, abs(total))
    for path, wanted in gradients.items():
        assert np.abs(padded_gradients[path] - wanted).max() <= BOUND * max(1.0, np.abs(wanted).max()), path
