from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from flaxft.metrics.classification import classification_scores, confusion, weighted_macro_f1_of_labels, weighted_mcc
from flaxft.metrics.confidence import bootstrap_interval, weighted_mean

FAST = settings(max_examples=200, deadline=None, derandomize=True)


@st.composite
def cases(draw):
    """`(gold, predicted, labels)`: labels that do not occur, or only on one side; predictions that often agree."""
    num_labels = draw(st.integers(1, 6))
    gold = draw(st.lists(st.integers(0, num_labels - 1), min_size=1, max_size=30))
    predicted = [i if draw(st.booleans()) else draw(st.integers(0, num_labels - 1)) for i in gold]
    return np.array(gold), np.array(predicted), [f"label {i}" for i in range(num_labels)]


@FAST
@given(case=cases())
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_equal_to_scikit_learn(case):
    gold, predicted, labels = case
    ids = list(range(len(labels)))
    found = classification_scores(gold, predicted, labels)
    wanted = {
        "accuracy": metrics.accuracy_score(gold, predicted),
        "macro_f1": metrics.f1_score(gold, predicted, average="macro", zero_division=0),
        "micro_f1": metrics.f1_score(gold, predicted, average="micro", zero_division=0),
        "mcc": metrics.matthews_corrcoef(gold, predicted),
    }
    rows = metrics.precision_recall_fscore_support(gold, predicted, labels=ids, zero_division=0)
    for name, row in zip(("precision", "recall", "f1", "support"), rows, strict=True):
        wanted |= {f"{label}/{name}": value for label, value in zip(labels, row, strict=True)}
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert abs(found[name] - value) <= 1e-12, name
    np.testing.assert_array_equal(confusion(gold, predicted, len(labels)), metrics.confusion_matrix(gold, predicted, labels=ids))
    json.dumps(found, allow_nan=False)


def test_many_examples():
    """Products of counts that would leave 32 bits."""
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 3, 300_000), rng.integers(0, 3, 300_000)
    assert abs(classification_scores(gold, predicted, "abc")["mcc"] - metrics.matthews_corrcoef(gold, predicted)) < 1e-9


def test_no_examples():
    nothing = np.zeros(0, int)
    assert set(classification_scores(nothing, nothing, ["a", "b"]).values()) == {0.0}


@FAST
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_statistics_equal_the_scores_of_the_examples_drawn(case, seed):
    gold, predicted, labels = case
    drawn = np.random.default_rng(seed).integers(0, len(gold), (3, len(gold)))
    weights = np.array([np.bincount(row, minlength=len(gold)) for row in drawn])
    found = {
        "accuracy": weighted_mean(gold == predicted)(weights),
        "macro_f1": weighted_macro_f1_of_labels(gold, predicted, len(labels))(weights),
        "mcc": weighted_mcc(gold, predicted, len(labels))(weights),
    }
    for i, row in enumerate(drawn):
        wanted = classification_scores(gold[row], predicted[row], labels)
        for name, values in found.items():
            assert abs(values[i] - wanted[name]) < 1e-12, name


def test_intervals_hold_the_score():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 77, 3000)
    predicted = np.where(rng.random(3000) < 0.8, gold, rng.integers(0, 77, 3000))
    scores = classification_scores(gold, predicted, [str(i) for i in range(77)])
    for name, statistic in (("macro_f1", weighted_macro_f1_of_labels(gold, predicted, 77)), ("mcc", weighted_mcc(gold, predicted, 77))):
        low, high = bootstrap_interval(statistic, 3000, num_resamples=300)
        assert low < scores[name] < high
        assert 0.02 < high - low < 0.04  # 2 x 1.96 x sqrt(0.8 x 0.2 / 3000) = 0.029
