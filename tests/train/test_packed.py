"""Packed equals unpacked: outputs and gradients, at most 1e-5 x max(1, largest magnitude), for every head; and with mistakes put in, it would not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxft.data.items import build_items
from flaxft.data.packing import rows_in_order
from flaxft.data.pipeline import Pipeline
from flaxft.data.tokenize import load_tokenizer
from flaxft.models.base import flatten
from tests import tiny

BOUND = 1e-5


def prepare(tmp_path, **changes):
    """Everything up to the model, as a run would have it."""
    cfg = tiny.config(tmp_path, **changes)
    checkpoint = cfg.model.open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
    task = cfg.task.resolve(tokenizer, checkpoint)
    items = build_items(task.records("train"), task, tokenizer, max_length=cfg.data.max_length, key="test", cache=tmp_path / "cache")
    loaded = cfg.model.load(checkpoint, task.head, reuse_head=False, seed=0)
    return task, items, loaded


def compute(task, items, loaded, *, row_length, num_slots, num_rows):
    """Loss, gradients, and the logits of each feature, over all items in batches of one shape."""
    pipeline = Pipeline(items, task.spec(), seed=0)

    @jax.jit
    def of_batch(params, batch):
        def loss_fn(params):
            outputs = nnx.merge(loaded.graphdef, params)(batch)
            ((total, weight),) = task.loss(outputs, batch).values()
            return total, (outputs, weight)

        return jax.value_and_grad(loss_fn, has_aux=True)(params)

    logits, losses, weights, gradients = {}, 0.0, 0.0, None
    for batch in pipeline.in_order(row_length=row_length, num_slots=num_slots, num_rows=num_rows):
        (total, (outputs, weight)), gradient = of_batch(loaded.params, batch)
        losses, weights = losses + float(total), weights + float(weight)
        gradients = gradient if gradients is None else jax.tree.map(jnp.add, gradients, gradient)
        for r, s in zip(*np.nonzero(batch["example_weight"]), strict=True):
            number, start = int(batch["example_id"][r, s]), int(batch["example_start"][r, s])
            logits[number] = np.asarray(outputs)[r, start : start + items.lengths[number]]
    return losses / weights, {path: np.asarray(leaf) / weights for path, leaf in flatten(gradients).items()}, logits


def assert_close(found, wanted, name):
    assert np.abs(found - wanted).max() <= BOUND * max(1.0, np.abs(wanted).max()), name


@pytest.mark.parametrize("row_length", [32, 48, 64])
def test_packed_equals_unpacked(tmp_path, row_length):
    task, items, loaded = prepare(tmp_path)
    loss, gradients, logits = compute(task, items, loaded, row_length=32, num_slots=1, num_rows=4)
    packed_loss, packed_gradients, packed_logits = compute(task, items, loaded, row_length=row_length, num_slots=8, num_rows=4)
    parts = list(rows_in_order(items.lengths, items.item_starts, row_length=row_length, num_slots=8, num_rows=4))
    assert max(len(row) for part in parts for row in part.features) > 1, "nothing was packed"
    assert abs(packed_loss - loss) <= BOUND
    assert set(packed_logits) == set(logits) == set(range(len(items.lengths)))
    for number in logits:
        assert_close(packed_logits[number], logits[number], number)
    for path in gradients:
        assert_close(packed_gradients[path], gradients[path], path)


@pytest.mark.parametrize("mistake", ["segments", "positions"])
def test_the_comparison_can_fail(tmp_path, mistake):
    """Without the segment mask, or with positions that run on, the same comparison finds a large difference."""
    task, items, loaded = prepare(tmp_path)
    _, _, logits = compute(task, items, loaded, row_length=32, num_slots=1, num_rows=4)
    batch = next(iter(Pipeline(items, task.spec(), seed=0).in_order(row_length=64, num_slots=8, num_rows=4)))
    assert batch["example_weight"][0, 1] == 1
    if mistake == "segments":
        batch["segment_ids"] = np.minimum(batch["segment_ids"], 1)
    else:
        batch["position_ids"] = np.broadcast_to(np.arange(64, dtype=np.int32), batch["position_ids"].shape)
    outputs = np.asarray(nnx.merge(loaded.graphdef, loaded.params)(batch))
    start, number = batch["example_start"][0, 1], int(batch["example_id"][0, 1])
    assert np.abs(outputs[0, start : start + items.lengths[number]] - logits[number]).max() > 100 * BOUND


def test_padding_changes_neither_loss_nor_gradient(tmp_path):
    """The predecessor's defect: its loss was a mean over all positions, padding included."""
    task, items, loaded = prepare(tmp_path)
    loss, gradients, _ = compute(task, items, loaded, row_length=32, num_slots=1, num_rows=4)
    padded_loss, padded_gradients, _ = compute(task, items, loaded, row_length=64, num_slots=1, num_rows=16)
    assert abs(padded_loss - loss) <= BOUND
    for path in gradients:
        assert_close(padded_gradients[path], gradients[path], path)
