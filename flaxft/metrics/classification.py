"""Scores of one label per example: scikit-learn's figures, from arrays of label ids. What would divide by zero is 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flaxft.metrics.confidence import Statistic


def confusion(gold: np.ndarray, predicted: np.ndarray, num_labels: int) -> np.ndarray:
    """int (num_labels, num_labels): how many examples of label i were predicted as label j. `gold` and `predicted` are int (num_examples,)."""
    return np.bincount(gold * num_labels + predicted, minlength=num_labels**2).reshape(num_labels, num_labels)


def classification_scores(gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """accuracy, macro_f1, micro_f1, mcc, and `LABEL/precision`, `LABEL/recall`, `LABEL/f1`, `LABEL/support` of every label, in Python numbers.

    `gold` and `predicted` are int (num_examples,), indices into `labels`. macro_f1 is the mean over the labels that occur in either.
    """
    # Not from the confusion matrix, which takes 128 MB of 4,000 labels.
    correct, num_gold, num_predicted = (np.bincount(ids, minlength=len(labels)) for ids in (gold[gold == predicted], gold, predicted))
    precision, recall = _divide(correct, num_predicted), _divide(correct, num_gold)
    f1 = _divide(2 * correct, num_gold + num_predicted)
    found = num_gold + num_predicted > 0
    result = {
        "accuracy": float(_divide(correct.sum(), num_gold.sum())),
        "macro_f1": float(f1[found].mean()) if found.any() else 0.0,
        "micro_f1": float(_divide(2 * correct.sum(), (num_gold + num_predicted).sum())),
        "mcc": float(_matthews(correct.sum(), num_gold, num_predicted)),
    }
    for i, label in enumerate(labels):
        result |= {f"{label}/precision": float(precision[i]), f"{label}/recall": float(recall[i]), f"{label}/f1": float(f1[i])}
        result[f"{label}/support"] = int(num_gold[i])
    return result


def matthews(matrix: np.ndarray) -> float:
    """Matthews' correlation coefficient of a confusion matrix of any number of labels (Gorodkin 2004); 0 where gold or predicted is all one label."""
    return float(_matthews(np.trace(matrix), matrix.sum(1), matrix.sum(0)))


def weighted_macro_f1_of_labels(gold: np.ndarray, predicted: np.ndarray, num_labels: int) -> Statistic:
    """macro_f1 for `confidence.bootstrap_interval`: in each resample the mean over the labels that occur there. Arguments as in `confusion`.

    That of accuracy is `confidence.weighted_mean(gold == predicted)`.
    """
    sums = _weighted_counts(gold, predicted, num_labels)

    def statistic(weights: np.ndarray) -> np.ndarray:
        correct, num_gold, num_predicted = sums(weights)
        return _divide(_divide(2 * correct, num_gold + num_predicted).sum(1), (num_gold + num_predicted > 0).sum(1))

    return statistic


def weighted_mcc(gold: np.ndarray, predicted: np.ndarray, num_labels: int) -> Statistic:
    """mcc for `confidence.bootstrap_interval`. Arguments as in `confusion`."""
    sums = _weighted_counts(gold, predicted, num_labels)

    def statistic(weights: np.ndarray) -> np.ndarray:
        correct, num_gold, num_predicted = sums(weights)
        return _matthews(correct.sum(1), num_gold, num_predicted)

    return statistic


def _matthews(correct: np.ndarray, num_gold: np.ndarray, num_predicted: np.ndarray) -> np.ndarray:
    """`matthews` from how many are right (...) and from each label's counts (..., num_labels)."""
    num_gold, num_predicted = num_gold.astype(np.float64), num_predicted.astype(np.float64)
    total = num_gold.sum(-1)
    covariance = correct * total - (num_gold * num_predicted).sum(-1)
    variances = (total**2 - (num_predicted**2).sum(-1)) * (total**2 - (num_gold**2).sum(-1))
    return np.where(variances > 0, covariance / np.sqrt(np.where(variances > 0, variances, 1)), 0.0)


def _weighted_counts(gold: np.ndarray, predicted: np.ndarray, num_labels: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Maps weights (B, n) to what a confusion matrix says of each label, (B, num_labels) each: right, in gold, predicted."""
    right = gold == predicted

    def sums(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num = len(weights)
        rows = np.arange(num)[:, None] * num_labels

        def by(ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
            return np.bincount((rows + ids).ravel(), weights.ravel(), num * num_labels).reshape(num, num_labels)

        return by(gold[right], weights[:, right]), by(gold, weights), by(predicted, weights)

    return sums


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)
