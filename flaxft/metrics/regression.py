"""Scores of one number per example: correlations and errors, from float arrays (n,). Of no example, and where a side is constant, a correlation is 0."""

from __future__ import annotations

import numpy as np


def regression_scores(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """pearson, spearman, mse, mae, in Python numbers; `gold` and `predicted` are (n,)."""
    return {"pearson": pearson(gold, predicted), "spearman": spearman(gold, predicted), "mse": mse(gold, predicted), "mae": mae(gold, predicted)}


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation, -1 to 1."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    assert x.shape == y.shape == (len(x),), (x.shape, y.shape)
    if len(x) == 0 or (x == x[0]).all() or (y == y[0]).all():  # by value: the spread of equal numbers is not 0 but rounding
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1, 1))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation, -1 to 1: Pearson's of the average ranks."""
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """float64 (n,): the rank of each value from 1, the smallest; equal values share the mean of their ranks."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[group]


def mse(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Mean squared error."""
    return _mean(np.subtract(gold, predicted, dtype=np.float64) ** 2)


def mae(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error."""
    return _mean(np.abs(np.subtract(gold, predicted, dtype=np.float64)))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
