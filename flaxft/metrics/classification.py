"""Scores of one label per example: scikit-learn's figures, from arrays of label ids. What would divide by zero is 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def confusion(gold: np.ndarray, predicted: np.ndarray, num_labels: int) -> np.ndarray:
    """int (num_labels, num_labels): how many examples of label i were predicted as label j. `gold` and `predicted` are int (num_examples,)."""
    return np.bincount(gold * num_labels + predicted, minlength=num_labels**2).reshape(num_labels, num_labels)


def classification_scores(gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """accuracy, macro_f1, micro_f1, mcc, and `LABEL/precision`, `LABEL/recall`, `LABEL/f1`, `LABEL/support` of every label, in Python numbers.

    `gold` and `predicted` are int (num_examples,), indices into `labels`. macro_f1 is the mean over the labels that occur in either.
    """
    matrix = confusion(gold, predicted, len(labels))
    correct, num_gold, num_predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    precision, recall = _divide(correct, num_predicted), _divide(correct, num_gold)
    f1 = _divide(2 * correct, num_gold + num_predicted)
    found = num_gold + num_predicted > 0
    result = {
        "accuracy": float(_divide(correct.sum(), matrix.sum())),
        "macro_f1": float(f1[found].mean()) if found.any() else 0.0,
        "micro_f1": float(_divide(2 * correct.sum(), (num_gold + num_predicted).sum())),
        "mcc": matthews(matrix),
    }
    for i, label in enumerate(labels):
        result |= {f"{label}/precision": float(precision[i]), f"{label}/recall": float(recall[i]), f"{label}/f1": float(f1[i])}
        result[f"{label}/support"] = int(num_gold[i])
    return result


def matthews(matrix: np.ndarray) -> float:
    """Matthews' correlation coefficient of a confusion matrix of any number of labels (Gorodkin 2004); 0 where gold or predicted is all one label."""
    num_gold, num_predicted, total = matrix.sum(1).astype(np.float64), matrix.sum(0).astype(np.float64), float(matrix.sum())
    covariance = np.trace(matrix) * total - num_gold @ num_predicted
    variances = (total**2 - num_predicted @ num_predicted) * (total**2 - num_gold @ num_gold)
    return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)
