from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from flaxft.metrics import confidence
from flaxft.metrics.confidence import (
    bootstrap_interval,
    calibration_bins,
    expected_calibration_error,
    fit_temperature,
    weighted_f1,
    weighted_macro_f1,
    weighted_mean,
    weighted_pearson,
    weighted_ratio,
    weighted_spearman,
)

FAST = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def resampled(draw, *columns, max_size=12):
    """`(values (n, columns), weights (B, n))`: few distinct values, so ties and constants come up; each row of weights sums to n."""
    n = draw(st.integers(1, max_size))
    values = np.array([[draw(column) for column in columns] for _ in range(n)], float)
    drawn = draw(st.lists(st.lists(st.integers(0, n - 1), min_size=n, max_size=n), min_size=1, max_size=4))
    return values, np.array([np.bincount(row, minlength=n) for row in drawn])


def records(values, weights):
    """The resamples spelled out: a record drawn twice stands there twice."""
    return [np.repeat(values, row, axis=0) for row in weights]


COUNT = st.integers(0, 3).map(float)
GRID = st.integers(-4, 4).map(lambda i: i / 4)


@FAST
@given(resampled(GRID, COUNT, COUNT, COUNT))
def test_statistics_equal_those_of_the_records_drawn(case):
    values, weights = case
    x, a, b, c = values.T
    found = weighted_mean(x)(weights), weighted_ratio(a, b)(weights), weighted_f1(a, b, c)(weights)
    for rows, mean, ratio, f1 in zip(records(values, weights), *found, strict=True):
        sum_a, sum_b, sum_c = rows[:, 1:].sum(0)
        assert abs(mean - rows[:, 0].mean()) < 1e-12
        assert abs(ratio - (sum_a / sum_b if sum_b else 0)) < 1e-12
        assert abs(f1 - (2 * sum_a / (sum_b + sum_c) if sum_b + sum_c else 0)) < 1e-12


BIT = st.integers(0, 1)


@FAST
@given(resampled(BIT, BIT, BIT, BIT, BIT, BIT))
def test_macro_f1_equals_scikit_learn(case):
    values, weights = case
    predicted, gold = values[:, :3].astype(int), values[:, 3:].astype(int)
    for rows, f1 in zip(records(values, weights), weighted_macro_f1(predicted * gold, predicted, gold)(weights), strict=True):
        assert abs(f1 - metrics.f1_score(rows[:, 3:], rows[:, :3], average="macro", zero_division=0)) < 1e-12


def test_macro_f1_of_no_column():
    nothing = np.zeros((3, 0))
    assert weighted_macro_f1(nothing, nothing, nothing)(np.ones((2, 3), int)).tolist() == [0, 0]


@FAST
@given(resampled(st.one_of(GRID, st.floats(-1e3, 1e3).map(lambda f: round(f, 3))), GRID))
def test_correlations_equal_scipy(case):
    values, weights = case
    found = weighted_pearson(*values.T)(weights), weighted_spearman(*values.T)(weights)
    for rows, pearson, spearman in zip(records(values, weights), *found, strict=True):
        if (rows == rows[0]).all(0).any():
            assert pearson == spearman == 0
        else:
            assert abs(pearson - scipy.stats.pearsonr(*rows.T).statistic) < 1e-6
            assert abs(spearman - scipy.stats.spearmanr(*rows.T).statistic) < 1e-9


def test_interval_of_a_mean_is_close_to_the_normal_one_and_to_scipy():
    values = np.random.default_rng(0).normal(3, 2, 800)
    low, high = bootstrap_interval(weighted_mean(values), len(values), num_resamples=4000, seed=1)
    error = values.std() / np.sqrt(len(values))
    assert abs(low - (values.mean() - 1.96 * error)) < 0.1 * error
    assert abs(high - (values.mean() + 1.96 * error)) < 0.1 * error
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert abs(low - theirs.low) < 0.12 * error
    assert abs(high - theirs.high) < 0.12 * error
    narrow = bootstrap_interval(weighted_mean(values), len(values), level=0.5)
    assert abs((narrow[1] - narrow[0]) / (2 * 0.6745 * error) - 1) < 0.1


def test_interval_of_a_rank_correlation_is_close_to_scipy():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, 300) / 4
    y = x + rng.normal(0, 2, 300)
    low, high = bootstrap_interval(weighted_spearman(x, y), 300, num_resamples=2000)
    statistic = lambda a, b: scipy.stats.spearmanr(a, b).statistic  # noqa: E731
    theirs = scipy.stats.bootstrap((x, y), statistic, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=1).confidence_interval
    assert abs(low - theirs.low) < 0.1 * (high - low)
    assert abs(high - theirs.high) < 0.1 * (high - low)


def test_interval_is_the_seeds_alone(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_interval(weighted_mean(values), 50)
    assert whole == bootstrap_interval(weighted_mean(values), 50)
    assert whole != bootstrap_interval(weighted_mean(values), 50, seed=1)
    shapes = []

    def statistic(weights):
        shapes.append(weights.shape)
        assert (weights.sum(1) == 50).all()
        return weighted_mean(values)(weights)

    monkeypatch.setattr(confidence, "_CHUNK", 350)  # seven resamples at a time
    assert bootstrap_interval(statistic, 50) == pytest.approx(whole, abs=1e-12)
    assert set(shapes) == {(7, 50), (1000 % 7, 50)}


def test_interval_of_one_record_and_of_none():
    assert bootstrap_interval(weighted_mean(np.array([0.25])), 1) == (0.25, 0.25)
    assert bootstrap_interval(weighted_mean(np.zeros(0)), 0) == (0.0, 0.0)
    assert bootstrap_interval(weighted_f1(*np.zeros((3, 5))), 5) == (0.0, 0.0)


def test_a_thousand_rank_correlations_are_quick():
    x, y = np.random.default_rng(0).normal(size=(2, 1500))
    start = time.process_time()
    bootstrap_interval(weighted_spearman(x, y), 1500)
    assert time.process_time() - start < 2


EDGES = st.one_of(st.floats(0, 1), st.integers(0, 15).map(lambda i: i / 15), st.integers(0, 10).map(lambda i: i / 10))


@FAST
@given(st.lists(st.tuples(EDGES, st.booleans()), max_size=30), st.sampled_from([1, 4, 10, 15]))
def test_calibration_error_equals_a_loop(examples, num_bins):
    shown, right = np.array([c for c, _ in examples]), np.array([r for _, r in examples], bool)
    edges = np.linspace(0, 1, num_bins + 1)
    wanted = 0.0
    for i in range(num_bins):
        inside = [(c, r) for c, r in examples if (edges[i] < c <= edges[i + 1]) or (i == 0 and c == 0)]
        if inside:
            wanted += len(inside) / len(examples) * abs(sum(r for _, r in inside) / len(inside) - sum(c for c, _ in inside) / len(inside))
        assert calibration_bins(shown, right, num_bins)[0][i] == len(inside)
    found = expected_calibration_error(shown, right, num_bins)
    assert type(found) is float
    assert abs(found - wanted) < 1e-12


def negative_log_likelihood(temperature, logits, gold):
    return float(-np.mean([scipy.special.log_softmax(row / temperature)[i] for row, i in zip(logits, gold, strict=True)]))


@settings(FAST, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 5), st.floats(0.1, 30), st.booleans())
def test_temperature_equals_scipy(seed, num_examples, num_labels, scale, agrees):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (num_examples, num_labels))
    gold = np.where(rng.random(num_examples) < (0.9 if agrees else 0.3), logits.argmax(1), rng.integers(0, num_labels, num_examples))
    found = fit_temperature(logits, gold)
    assert type(found) is float
    assert 0.05 <= found <= 20
    # Over log T: a bounded search of SciPy's, which misses the ends by a little.
    best = scipy.optimize.minimize_scalar(
        lambda t: negative_log_likelihood(np.exp(t), logits, gold), bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-7}
    )
    ours = negative_log_likelihood(found, logits, gold)
    assert ours <= best.fun + 1e-9
    slope = (negative_log_likelihood(found * 1.01, logits, gold) - ours) + (negative_log_likelihood(found / 1.01, logits, gold) - ours)
    if slope > 1e-6 and 0.06 < found < 19:  # not flat, not at a bound
        assert abs(np.log(found) - best.x) < 1e-3


def test_temperature_undoes_a_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    gold = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # drawn from softmax(logits)
    assert abs(fit_temperature(logits, gold) - 1) < 0.03
    assert fit_temperature(3 * logits, gold) == pytest.approx(3 * fit_temperature(logits, gold), rel=1e-6)
    assert fit_temperature(scipy.special.log_softmax(logits, -1), gold) == pytest.approx(fit_temperature(logits, gold), rel=1e-6)


def test_temperature_at_the_bounds_and_without_a_meaning():
    sure = np.array([[5.0, 0.0], [0.0, 5.0]])
    assert fit_temperature(sure, np.array([0, 1])) == 0.05
    assert fit_temperature(sure, np.array([1, 0])) == 20
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == fit_temperature(np.zeros((2, 3)), np.array([0, 1])) == 1
    assert fit_temperature(np.array([[3.0], [1.0]]), np.array([0, 0])) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 1 < fit_temperature(np.log(np.array([[0.5, 0.5, 1e-300], [1e-300, 1.0, 1e-200]])), np.array([0, 0])) <= 20
        assert fit_temperature(np.array([[0.0, -np.inf], [0.0, -np.inf]]), np.array([0, 1])) == 20
