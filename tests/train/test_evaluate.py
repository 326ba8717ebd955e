"""The shape of an evaluation: rows of the length that costs least, and no more of them than there is text for."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from flaxft.sharding import Mesh, make_mesh
from flaxft.train.evaluate import TOKENS_OF, eval_shape, without_most_labels


def table(lengths, starts=None):
    lengths = np.asarray(lengths)
    return SimpleNamespace(lengths=lengths, item_starts=np.arange(len(lengths) + 1) if starts is None else np.asarray(starts))


def shape_of(*tables, num_slots=None, tokens=None):
    return eval_shape(list(tables), tokens=tokens, mesh=make_mesh(Mesh(), jax.devices()[:1]), hidden_size=384, num_slots=num_slots)


@pytest.mark.parametrize("longest", [1, 16, 17, 75, 128, 129, 400, 512])
def test_the_longest_fits_and_few_texts_take_few_rows(longest):
    one = shape_of(table([longest]))
    assert longest <= one.row_length <= max(16, 1.25 * longest, longest + 15)
    assert one.num_rows == 1
    many = shape_of(table([longest, *([5] * 5000)]))
    assert longest <= many.row_length
    assert TOKENS_OF["cpu"] / 2 < many.num_rows * many.row_length <= max(TOKENS_OF["cpu"], many.row_length)


def test_all_splits_share_it():
    one = shape_of(table([20] * 10), table([60]))
    assert one.row_length >= 60
    assert shape_of(table([60]), table([20] * 10)).row_length == one.row_length


def test_rows_are_as_long_as_wastes_least():
    """40 of 64 tokens, that is 38 % padding, or 80 of 80."""
    assert shape_of(table([40] * 300 + [60])).row_length == 80
    assert shape_of(table([40] * 300 + [60]), num_slots=1).row_length == 64


def test_a_row_for_each_feature_of_the_largest_item():
    assert shape_of(table([30] * 9, [0, 9]), tokens=32).num_rows == 9


def test_numbers_of_rows_are_few():
    """Calls with other numbers of texts meet compiled shapes again."""
    shapes = {shape_of(table([30] * number)) for number in range(1, 60)}
    assert len(shapes) < 12
    assert {one.num_rows & (one.num_rows - 1) for one in shapes if one.num_rows * one.row_length < TOKENS_OF["cpu"] / 2} == {0}


def test_a_step_has_no_scores_of_hundreds_of_labels():
    def metrics(num):
        return {"macro_f1": 0.5, "micro avg/f1": 0.1, "ece/score": 0.2} | {f"a/{i}/{name}": 0.3 for i in range(num) for name in ("f1", "support")}

    assert without_most_labels(metrics(200), main_metric="macro_f1") == metrics(200)
    assert without_most_labels(metrics(201), main_metric="macro_f1") == metrics(0)
    assert without_most_labels(metrics(201), main_metric="a/7/f1") == metrics(0) | {"a/7/f1": 0.3}
