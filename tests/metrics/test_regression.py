from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from flaxft.metrics.confidence import weighted_pearson, weighted_spearman
from flaxft.metrics.regression import average_ranks, regression_scores

FAST = settings(max_examples=200, deadline=None, derandomize=True)
# Few values, so that ties and constants come up, and ones that are no exact binary fractions; then any, but not so close that SciPy gives up on them.
NUMBER = st.one_of(st.integers(-3, 3).map(lambda i: i / 10), st.floats(-1e3, 1e3).map(lambda f: round(f, 3)))


@FAST
@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=20), st.sampled_from(["float64", "float32"]))
def test_equal_to_scipy_and_scikit_learn(pairs, dtype):
    gold, predicted = np.array(pairs, dtype).T
    found = regression_scores(gold, predicted)
    assert all(type(value) is float for value in found.values())
    wide = gold.astype(np.float64), predicted.astype(np.float64)
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(*wide), rel=1e-12)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(*wide), rel=1e-12)
    assert average_ranks(gold).tolist() == scipy.stats.rankdata(gold).tolist()
    if len(set(gold.tolist())) == 1 or len(set(predicted.tolist())) == 1:
        assert found["pearson"] == found["spearman"] == 0
    else:
        assert abs(found["pearson"] - scipy.stats.pearsonr(*wide).statistic) < 1e-9
        assert abs(found["spearman"] - scipy.stats.spearmanr(*wide).statistic) < 1e-9
    once = np.ones((1, len(pairs)), int)  # the bootstrap's statistics say the same of the records as they are
    assert abs(found["pearson"] - weighted_pearson(*wide)(once)[0]) < 1e-6
    assert abs(found["spearman"] - weighted_spearman(*wide)(once)[0]) < 1e-9
    json.dumps(found, allow_nan=False)


def test_no_example_and_one():
    assert set(regression_scores(np.zeros(0), np.zeros(0)).values()) == {0.0}
    assert regression_scores(np.array([1.0]), np.array([3.0])) == {"pearson": 0.0, "spearman": 0.0, "mse": 4.0, "mae": 2.0}


def test_whole_numbers_do_not_overflow():
    assert regression_scores(np.array([0, 200], np.uint8), np.array([100, 100], np.uint8))["mse"] == 10_000


def test_a_constant_that_is_no_binary_fraction():
    """The mean of equal numbers may differ from them by rounding: that is no correlation."""
    assert regression_scores(np.full(7, 0.1), np.arange(7.0))["pearson"] == 0
