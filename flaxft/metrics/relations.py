"""Scores of relations between two entities: the official ones of SemEval-2010 task 8 (Hendrickx et al. 2010), from label strings.

A label is a relation with its direction, `Cause-Effect(e1,e2)` or `Cause-Effect(e2,e1)`, or without one, or `Other`. The official score is macro_f1:
"(9+1)-way evaluation with directionality taken into account" of semeval2010_task8_scorer-v1.2.pl. That is, F1 of each relation, both directions as one,
where a right relation in the wrong direction is wrong, and their mean without Other. What would divide by zero is 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

OTHER = "Other"

_DIRECTION = re.compile(r"\(e[12],e[12]\)$")


def relation_scores(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """macro_f1 (the official score), macro_precision, macro_recall, micro_f1, micro_precision, micro_recall, accuracy, and `RELATION/precision`,
    `RELATION/recall`, `RELATION/f1`, `RELATION/support` of every relation, as fractions in Python numbers; a label each for n examples.

    As in the scorer, the relations are those of `gold`: one that is only predicted is but a mistake where it stands. Macro and micro leave Other out,
    accuracy, the share of labels that are right to the direction, does not.
    """
    correct, guessed, wanted, relations = relation_counts(gold, predicted)
    counts = np.stack([correct.sum(0), guessed.sum(0), wanted.sum(0)])  # (3, num_relations)
    counted = np.array([relation != OTHER for relation in relations], bool)
    per_relation = _precision_recall_f1(counts)
    micro = _precision_recall_f1(counts[:, counted].sum(1))

    names = ("precision", "recall", "f1")
    macro = per_relation[:, counted].mean(1) if counted.any() else np.zeros(3)
    result = {f"macro_{name}": float(value) for name, value in zip(names, macro, strict=True)}
    result |= {f"micro_{name}": float(value) for name, value in zip(names, micro, strict=True)}
    result["accuracy"] = float(np.mean([a == b for a, b in zip(gold, predicted, strict=True)])) if len(gold) else 0.0
    for i, relation in enumerate(relations):
        result |= {f"{relation}/{name}": float(value) for name, value in zip(names, per_relation[:, i], strict=True)}
        result[f"{relation}/support"] = int(counts[2, i])
    return result


def relation_counts(gold: Sequence[str], predicted: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """What each example adds to the relations' counts, bool (n, num_relations) each: right, predicted, in gold; and the relations of `gold`, sorted.

    Without the column of Other they are what `confidence.weighted_macro_f1` takes: the interval of the official score.
    """
    wanted, guessed = (np.array([_DIRECTION.sub("", label) for label in labels], object) for labels in (gold, predicted))
    relations = sorted(set(wanted))
    columns = np.array(relations, object)
    wanted, guessed = wanted[:, None] == columns, guessed[:, None] == columns
    right = np.array([a == b for a, b in zip(gold, predicted, strict=True)], bool)
    return wanted & right[:, None], guessed, wanted, relations


def _precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """float64 (3, ...) from the counts (3, ...) of what is right, was predicted, is in gold."""
    correct, predicted, gold = counts
    return np.stack([correct / np.maximum(predicted, 1), correct / np.maximum(gold, 1), 2 * correct / np.maximum(predicted + gold, 1)])
