"""The scores of labels: a dict for a few, an array for thousands, of which a dict a text would take a hundred times the memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

MANY = 100  # labels from which on scores are an array


class Scores(Mapping[str, float]):
    """{label: score} over an array; equal to the dict of the same content."""

    def __init__(self, labels: tuple[str, ...], values: np.ndarray):
        """values: (L,), one for each label."""
        assert values.shape == (len(labels),), (values.shape, len(labels))
        self.labels, self.array = labels, values

    def __getitem__(self, label: str) -> float:
        return float(self.array[_places(self.labels)[label]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)


def scores_of(labels: Sequence[str], values: np.ndarray) -> Mapping[str, float]:
    """The scores of these labels, in their order."""
    return dict(zip(labels, values.tolist(), strict=True)) if len(labels) <= MANY else Scores(tuple(labels), np.array(values))


def rounded(scores: Mapping[str, float], digits: int = 6) -> Mapping[str, float]:
    """Each to so many decimals, as users read them."""
    if isinstance(scores, Scores):
        return Scores(scores.labels, np.round(scores.array.astype(np.float64), digits))
    return {label: round(score, digits) for label, score in scores.items()}


def values_of(scores: Mapping[str, float]) -> Any:
    """The numbers alone, (L,): a list or an array."""
    return scores.array if isinstance(scores, Scores) else list(scores.values())


def largest(scores: Mapping[str, float], num: int) -> list[str]:
    """The labels of the `num` largest scores, the largest first; of equal ones the first label."""
    values = np.asarray(values_of(scores))
    labels = scores.labels if isinstance(scores, Scores) else tuple(scores)
    return [labels[place] for place in np.argsort(-values, kind="stable")[:num].tolist()]


def some(scores: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """The scores of these labels alone, in their order, each once."""
    if isinstance(scores, Scores):
        places = _places(scores.labels)  # once: finding it costs a look at all labels
        return {label: float(scores.array[places[label]]) for label in labels}
    return {label: scores[label] for label in labels}


@functools.lru_cache(8)
def _places(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: place for place, label in enumerate(labels)}
