from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from flaxft.metrics.multilabel import average_precision, best_thresholds, multilabel_scores

FAST = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def cases(draw):
    """`(gold, predicted, scores)`, (n, L): two labels or more, as scikit-learn wants; tied scores; rows and columns of zeros and of ones."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 5)))
    matrix = arrays(bool, shape, elements=st.booleans(), fill=st.booleans())
    return draw(matrix), draw(matrix), draw(arrays(np.float64, shape, elements=st.one_of(st.integers(0, 4).map(lambda i: i / 4), st.floats(0, 1))))


@FAST
@given(case=cases())
@pytest.mark.filterwarnings("ignore:No positive class found")
def test_equal_to_scikit_learn(case):
    gold, predicted, scores = case
    labels = [f"label {i}" for i in range(gold.shape[1])]
    found = multilabel_scores(gold, predicted.astype(np.int8), labels, scores=scores)
    wanted = {"exact_match": metrics.accuracy_score(gold, predicted), "hamming_loss": metrics.hamming_loss(gold, predicted)}
    for average in ("micro", "macro", "samples"):
        rows = metrics.precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)
        wanted |= {f"{average}_{name}": value for name, value in zip(("precision", "recall", "f1"), rows, strict=False)}
    for average in ("micro", "macro"):
        wanted[f"{average}_average_precision"] = metrics.average_precision_score(gold, scores, average=average)
    for name, row in zip(("precision", "recall", "f1", "support"), metrics.precision_recall_fscore_support(gold, predicted, zero_division=0), strict=True):
        wanted |= {f"{label}/{name}": value for label, value in zip(labels, row, strict=True)}
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert type(found[name]) is (int if name.endswith("/support") else float)
        assert abs(found[name] - value) <= 1e-12, name
    json.dumps(found, allow_nan=False)
    assert multilabel_scores(gold, predicted, labels) == {name: value for name, value in found.items() if "average_precision" not in name}


@FAST
@given(case=cases())
def test_best_thresholds_are_the_best_of_all(case):
    gold, _, scores = case
    found = best_thresholds(gold, scores, default=0.25)
    for right, values, threshold in zip(gold.T, scores.T, found, strict=True):
        reached = {t: metrics.f1_score(right, values >= t, zero_division=0) for t in {*values.tolist(), 0.25}}
        best = max(reached.values())
        if not right.any():
            assert threshold == 0.25
        else:
            assert abs(reached[threshold] - best) < 1e-12
            assert all(value < best for t, value in reached.items() if t > threshold)


def test_best_thresholds_by_hand():
    gold = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    scores = np.array([[0.9, 0.2, 0.7], [0.5, 0.2, 0.8], [0.4, 0.2, 0.9]], np.float32)
    # label 0: cuts give 2/3, 1/2, 4/5; label 1: one score, one cut; label 2: no positives
    assert best_thresholds(gold, scores).tolist() == [np.float32(0.4), np.float32(0.2), 0.5]
    assert ((scores >= best_thresholds(gold, scores).astype(scores.dtype))[:, 0]).all()


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (2, 0)])
def test_nothing(shape):
    nothing = np.zeros(shape)
    assert set(multilabel_scores(nothing, nothing, "abc"[: shape[1]], scores=nothing).values()) <= {0.0, 1.0}
    assert best_thresholds(nothing, nothing).tolist() == [0.5] * shape[1]
    assert average_precision(np.zeros(0, bool), np.zeros(0)) == 0
