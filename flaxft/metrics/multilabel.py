"""Scores of any number of labels per example: scikit-learn's figures, from 0-1 or bool matrices (n, L). What would divide by zero is 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def multilabel_scores(gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str], *, scores: np.ndarray | None = None) -> dict[str, float]:
    """All figures of `gold` and `predicted`, 0-1 or bool (n, L), in Python numbers; `labels` are the L names.

    micro_, macro_ and samples_ before precision, recall and f1: over all decisions, the mean over all L labels (found or not), the mean over examples.
    exact_match, the share of examples with every label right, and hamming_loss, the share of wrong decisions. LABEL/precision, LABEL/recall, LABEL/f1,
    LABEL/support. With `scores` (n, L), larger for likelier, also micro_average_precision and macro_average_precision.
    """
    gold, predicted = np.asarray(gold).astype(bool), np.asarray(predicted).astype(bool)
    assert gold.shape == predicted.shape == (len(gold), len(labels)), (gold.shape, predicted.shape, len(labels))
    correct = gold & predicted
    per_label = _precision_recall_f1(correct.sum(0), predicted.sum(0), gold.sum(0))  # (3, L)
    per_example = _precision_recall_f1(correct.sum(1), predicted.sum(1), gold.sum(1))  # (3, n)
    micro = _precision_recall_f1(correct.sum(), predicted.sum(), gold.sum())  # (3,)

    result: dict[str, float] = {}
    for average, rows in (("micro", micro[:, None]), ("macro", per_label), ("samples", per_example)):
        result |= {f"{average}_{name}": _mean(row) for name, row in zip(("precision", "recall", "f1"), rows, strict=True)}
    result |= {"exact_match": _mean((gold == predicted).all(1)), "hamming_loss": _mean(gold != predicted)}
    if scores is not None:
        result["micro_average_precision"] = average_precision(gold.ravel(), np.ravel(scores))
        result["macro_average_precision"] = _mean(np.array([average_precision(*column) for column in zip(gold.T, np.asarray(scores).T, strict=True)]))
    for i, label in enumerate(labels):
        result |= {f"{label}/{name}": float(value) for name, value in zip(("precision", "recall", "f1"), per_label[:, i], strict=True)}
        result[f"{label}/support"] = int(gold[:, i].sum())
    return result


def average_precision(gold: np.ndarray, scores: np.ndarray) -> float:
    """Average precision of one ranking, `gold` bool (n,) and `scores` (n,): the precision at every cut, times the recall gained there. 0 without positives.

    No interpolation, and equal scores fall together, as in scikit-learn's `average_precision_score`.
    """
    correct, size = _cuts(gold, scores)[:2]
    gained = np.diff(correct, prepend=0)
    return float((gained * correct / size).sum() / max(gold.sum(), 1))


def best_thresholds(gold: np.ndarray, scores: np.ndarray, *, default: float = 0.5) -> np.ndarray:
    """float64 (L,): for each label the threshold with the largest F1 on these examples, where a label is predicted if its score is >= the threshold.

    `gold` bool (n, L), `scores` (n, L). Exact: every cut between unequal scores is looked at, and the threshold is the score just above the cut. Of several
    best cuts the one with the highest threshold, which predicts least. A label without positives has no best cut and gets `default`.
    """
    gold, scores = np.asarray(gold).astype(bool), np.asarray(scores)
    assert gold.shape == scores.shape, (gold.shape, scores.shape)
    result = np.full(gold.shape[1], default, np.float64)
    for i in np.flatnonzero(gold.any(0)):
        correct, size, cut = _cuts(gold[:, i], scores[:, i])
        result[i] = cut[np.argmax(2 * correct / (size + gold[:, i].sum()))]
    return result


def _cuts(gold: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every distinct score, from the largest: how many positives and how many examples have at least that score, and the score."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.flatnonzero(falling != np.append(falling[1:], np.nan))  # of each run of equal scores; the last one of all differs from NaN
    return np.cumsum(gold[order])[last], last + 1, falling[last]


def _precision_recall_f1(correct: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """float64 (3, ...) from the counts (...)."""
    total = predicted + gold
    return np.stack([correct / np.maximum(predicted, 1), correct / np.maximum(gold, 1), 2 * correct / np.maximum(total, 1)])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
