"""How far a score can be trusted: bootstrap intervals over records, and how far confidences can: calibration error and temperature.

A statistic maps int weights (B, n), how often each of n records was drawn in each of B resamples, to its values, float (B,). So a mean or a ratio of sums is
a matrix product, and nothing is computed again per resample. `weighted_mean`, `weighted_f1` and the like make such statistics; with weights of 1 they give the
plain score. What would divide by zero is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # int (B, n) -> float (B,)

_CHUNK = 2**21  # draws held at once: 16 MiB of weights

# ---------------------------------------------------------------- intervals


def bootstrap_interval(
    statistic: Statistic, num_records: int, *, num_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """`(low, high)`: the percentile bootstrap (Efron 1979) of `statistic` over `num_records` records, drawn with replacement; (0, 0) of no record.

    The same seed draws the same records, so the differences of two systems on one data set can be told from the same resamples.
    """
    assert num_resamples > 0, num_resamples
    assert 0 < level < 1, level
    if num_records == 0:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    values: list[np.ndarray] = []
    rows = max(1, _CHUNK // num_records)
    for start in range(0, num_resamples, rows):
        num = min(rows, num_resamples - start)
        drawn = rng.integers(0, num_records, (num, num_records)) + np.arange(num)[:, None] * num_records
        weights = np.bincount(drawn.ravel(), minlength=num * num_records).reshape(num, num_records)
        values.append(statistic(weights))
    low, high = np.quantile(np.concatenate(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def weighted_mean(values: np.ndarray) -> Statistic:
    """Of the mean of `values` (n,): accuracy, exact match, a mean of F1s."""
    return weighted_ratio(values, np.ones(len(values)))


def weighted_ratio(numerator: np.ndarray, denominator: np.ndarray) -> Statistic:
    """Of sum(numerator) / sum(denominator), both (n,) and the denominator not negative: precision, perplexity's mean loss per token."""
    columns = np.stack([numerator, denominator], -1).astype(np.float64)  # (n, 2)

    def statistic(weights: np.ndarray) -> np.ndarray:
        sums = weights.astype(np.float64) @ columns  # (B, 2)
        return _divide(sums[:, 0], sums[:, 1])

    return statistic


def weighted_f1(correct: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> Statistic:
    """Of the micro F1, from each record's counts (n,) of what is right, was predicted and should have been: entities, labels."""
    return weighted_ratio(2 * np.asarray(correct), np.asarray(predicted) + np.asarray(gold))


def weighted_macro_f1(correct: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> Statistic:
    """Of the mean F1 over the L columns of each record's counts (n, L); a column that is empty in a resample counts as 0 there."""
    doubled, total = 2.0 * np.asarray(correct), np.asarray(predicted, np.float64) + np.asarray(gold)

    def statistic(weights: np.ndarray) -> np.ndarray:
        weights = weights.astype(np.float64)
        f1 = _divide(weights @ doubled, weights @ total)  # (B, L)
        return f1.mean(1) if f1.shape[1] else np.zeros(len(weights))

    return statistic


def weighted_pearson(x: np.ndarray, y: np.ndarray) -> Statistic:
    """Of Pearson's correlation of x and y, (n,) each; 0 for a resample in which either is constant."""
    x, y = (_centred(values) for values in (x, y))
    columns = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], -1)  # (n, 6)

    def statistic(weights: np.ndarray) -> np.ndarray:
        total, sum_x, sum_y, sum_xx, sum_yy, sum_xy = (weights.astype(np.float64) @ columns).T
        spread_x, spread_y = sum_xx - sum_x**2 / total, sum_yy - sum_y**2 / total
        # Of equal values nothing is left but rounding.
        varies = (spread_x > 1e-12 * sum_xx) & (spread_y > 1e-12 * sum_yy)
        return np.where(varies, _correlation(sum_xy - sum_x * sum_y / total, np.where(varies, spread_x, 1), np.where(varies, spread_y, 1)), 0.0)

    return statistic


def weighted_spearman(x: np.ndarray, y: np.ndarray) -> Statistic:
    """Of Spearman's rank correlation of x and y, (n,) each: ranked anew in each resample, ties by their mean rank; 0 where either is constant."""
    ranks_x, ranks_y = _ranks_under_weights(x), _ranks_under_weights(y)

    def statistic(weights: np.ndarray) -> np.ndarray:
        middle = (weights.sum(1, keepdims=True) + 1) / 2  # the mean of any ranks
        a, b = ranks_x(weights) - middle, ranks_y(weights) - middle  # (B, n); halves, so that a spread of 0 is exact
        spread_a, spread_b = (np.einsum("bn,bn,bn->b", weights, values, values) for values in (a, b))
        varies = (spread_a > 0) & (spread_b > 0)
        return np.where(varies, _correlation(np.einsum("bn,bn,bn->b", weights, a, b), np.where(varies, spread_a, 1), np.where(varies, spread_b, 1)), 0.0)

    return statistic


def _ranks_under_weights(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Maps weights (B, n) to the records' ranks (B, n) among what was drawn, from 1; equal values have their mean rank."""
    order = np.argsort(values, kind="stable")
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)  # sorted once: a resample changes the ranks, not the order
    last = np.cumsum(sizes) - 1  # of each group of equal values, in sorted order

    def ranks(weights: np.ndarray) -> np.ndarray:
        through = np.cumsum(weights[:, order], 1)[:, last]  # (B, num_groups): drawn up to and with this group
        before = np.concatenate([np.zeros((len(weights), 1), through.dtype), through[:, :-1]], 1)
        return ((before + 1 + through) / 2)[:, group]

    return ranks


# ---------------------------------------------------------------- calibration


def calibration_bins(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of examples, mean confidence and accuracy, (num_bins,) each, of bins (i / num_bins, (i + 1) / num_bins]; 0 for an empty bin.

    `confidence` (n,) is the probability of the predicted label, `correct` bool (n,) whether it is right. A confidence of 0 is in the first bin.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)  # an edge belongs to the bin below it
    num = np.bincount(place, minlength=num_bins)
    mean, accuracy = (_divide(np.bincount(place, np.asarray(values, np.float64), num_bins), num) for values in (confidence, correct))
    return num, mean, accuracy


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> float:
    """ECE of Guo et al. 2017 (arXiv 1706.04599, equation 3), 0 to 1: the mean of |accuracy - confidence| over bins, weighted by their examples."""
    num, mean, accuracy = calibration_bins(confidence, correct, num_bins)
    return float(_divide(num @ np.abs(accuracy - mean), num.sum()))


def fit_temperature(logits: np.ndarray, gold: np.ndarray, *, low: float = 0.05, high: float = 20.0) -> float:
    """The temperature T in [low, high] for which softmax(logits / T) gives `gold` the smallest negative log-likelihood (Guo et al. 2017, section 4.2).

    `logits` (n, L) may be log-probabilities, -inf included; `gold` int (n,). 1.0 where T makes no difference: no example, one label, equal logits.
    """
    logits = np.asarray(logits, np.float64)
    assert logits.ndim == 2, logits.shape
    assert gold.shape == logits.shape[:1], (gold.shape, logits.shape)
    if logits.size == 0 or (logits == logits[:, :1]).all():
        return 1.0
    # The largest of a row is 0 and exp cannot overflow; a probability of 0 counts as exp(-1000), for T must stay finite.
    logits = np.maximum(logits - logits.max(1, keepdims=True), -1000.0)
    wanted = logits[np.arange(len(gold)), gold].mean()

    def slope(rate: float) -> float:
        """Of the mean NLL by the rate 1 / T, in which it is convex: the mean logit that the model expects, less that of gold."""
        weight = np.exp(rate * logits)
        return float((np.einsum("nl,nl->n", weight, logits) / weight.sum(1)).mean() - wanted)

    smallest, largest = 1 / high, 1 / low
    if slope(smallest) >= 0:
        return high
    if slope(largest) <= 0:
        return low
    while largest / smallest > 1 + 1e-9:  # some 33 halvings of the logarithm
        middle = float(np.sqrt(smallest * largest))
        if slope(middle) < 0:
            smallest = middle
        else:
            largest = middle
    return float(1 / np.sqrt(smallest * largest))


def log_scores(scores: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    """Logits up to a constant per row, float64 (n, length of the longest row): the logarithms of probabilities, -inf where a row is shorter.

    A probability of 0 is one too small for float32.
    """
    found = np.full((len(scores), max(map(len, scores), default=0)), -np.inf)
    for row, one in zip(found, scores, strict=True):
        row[: len(one)] = np.log(np.maximum(np.asarray(one, np.float64), np.finfo(np.float32).smallest_subnormal))
    return found


def mean_probabilities(scores: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (L,): softmax of the mean of log-probabilities, (L,) each, which several views of one example have."""
    mean = log_scores(scores).mean(0)
    return np.exp(mean - np.logaddexp.reduce(mean))


def mean_odds(scores: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (L,): the same for L labels that are there or not, each by itself: sigmoid of the mean of log p - log (1 - p).

    A probability of 0 or 1 is one that float32 could not tell from it.
    """
    numbers = np.finfo(np.float32)
    p = np.clip(np.asarray(scores, np.float64), float(numbers.tiny), 1 - float(numbers.epsneg) / 2)
    return np.asarray(1 / (1 + np.exp(np.mean(np.log1p(-p) - np.log(p), axis=0))))


def largest_at_temperature(scores: Sequence[float] | np.ndarray, temperature: float) -> float:
    """The largest of the probabilities softmax(log(scores) / temperature)."""
    cooled = log_scores([scores])[0] / temperature
    return float(np.exp(cooled.max() - np.logaddexp.reduce(cooled)))


def with_confidence(decoded: dict[str, Any], scores: Sequence[float] | np.ndarray, calibration: Mapping[str, float]) -> dict[str, Any]:
    """Adds "confidence", the largest of `scores` at the fitted temperature, where one was fitted. Scores stay the plain softmax, as PyTorch gives it."""
    if "temperature" not in calibration:
        return decoded
    return decoded | {"confidence": round(largest_at_temperature(scores, calibration["temperature"]), 6)}


def calibration_errors(decoded: Sequence[dict[str, Any]], correct: np.ndarray) -> dict[str, float]:
    """Under "ece/" the expected calibration error of "score" and, where a temperature was fitted, of "confidence". correct: bool (num_records,)."""
    keys = [key for key in ("score", "confidence") if all(key in one for one in decoded)]
    return {f"ece/{key}": expected_calibration_error(np.asarray([one[key] for one in decoded]), correct) for key in keys}


def calibration_curves(decoded: Sequence[Mapping[str, Any]], correct: np.ndarray) -> dict[str, tuple[tuple[float, float, float], ...]]:
    """What a reliability diagram shows of "score" and "confidence", each where all results have it: number, mean and accuracy of the bins with examples."""
    keys = [key for key in ("score", "confidence") if decoded and all(key in one for one in decoded)]
    return {key: curve(np.asarray([one[key] for one in decoded]), correct) for key in keys}


def curve(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> tuple[tuple[float, float, float], ...]:
    """`calibration_bins` as rows, without the empty ones."""
    return tuple((float(num), float(mean), float(right)) for num, mean, right in zip(*calibration_bins(confidence, correct, num_bins), strict=True) if num)


# ---------------------------------------------------------------- arithmetic


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), 0.0)


def _centred(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values - values.mean() if len(values) else values


def _correlation(covariance: np.ndarray, spread_x: np.ndarray, spread_y: np.ndarray) -> np.ndarray:
    return np.clip(covariance / (np.sqrt(spread_x) * np.sqrt(spread_y)), -1, 1)
