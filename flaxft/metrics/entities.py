"""Precision, recall and F1 of entities: seqeval's figures, from flat arrays of label ids.

The reference is seqeval 1.2.2 (https://github.com/chakki-works/seqeval), which the tests compare with, figure by figure. Two modes:

* "default": seqeval's `get_entities`, the reading of conlleval. Malformed tags form entities too: an I- after O begins one. Knows B I E S O.
* "strict": seqeval's `mode="strict", scheme=IOB2`. An entity begins at B- and nowhere else. Labels start with B, I or O.

Sentences are given as `lengths`, not as a sentence number per token: an empty sentence has a place, and nothing needs to be sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from flaxft.errors import printable

Mode = Literal["default", "strict"]
Chunk = tuple[int, int, str]  # first token, one past the last, type


class Entities(NamedTuple):
    """Entities in the order of their ends; `words[start:end]` of the sentence are one."""

    sentence: np.ndarray  # int (num_entities,)
    start: np.ndarray  # int (num_entities,) first token, counted inside the sentence
    end: np.ndarray  # int (num_entities,) one past the last token
    type: np.ndarray  # int (num_entities,) into `types`
    types: list[str]  # sorted; every type in `labels`, found or not


def entities(ids: np.ndarray, lengths: np.ndarray, labels: Sequence[str], *, mode: Mode = "default") -> Entities:
    """The entities of all sentences.

    `ids` int (num_tokens,) are the tokens of all sentences, one after the other, each an index into `labels`: none is ignored (-100). `lengths` int
    (num_sentences,) are the sentences' tokens and sum to num_tokens.
    """
    first, last, kind, types = _chunks(ids, lengths, labels, mode=mode)
    offset = np.cumsum(lengths + 1) - (lengths + 1)  # of each sentence in the flat positions
    sentence = np.repeat(np.arange(len(lengths)), lengths + 1)[last]
    return Entities(sentence, first - offset[sentence], last - offset[sentence] + 1, kind, types)


class Mistake(NamedTuple):
    """An entity of gold that was not given as it is, or one that was given and is none: `(start, end, type)` as in `Entities`."""

    sentence: int
    kind: str  # missed, invented, boundary, type, boundary and type
    gold: tuple[int, int, str] | None
    given: tuple[int, int, str] | None


def mistakes(gold: np.ndarray, predicted: np.ndarray, lengths: np.ndarray, labels: Sequence[str]) -> list[Mistake]:
    """All of them, sentence by sentence. Each entity is in at most one: what has the same words goes together first, then the same type, then any overlap."""
    wanted, given = (_by_sentence(entities(ids, lengths, labels)) for ids in (gold, predicted))
    result = []
    for sentence in sorted(wanted.keys() | given.keys()):
        missing = [one for one in wanted.get(sentence, ()) if one not in given.get(sentence, ())]
        extra = [one for one in given.get(sentence, ()) if one not in wanted.get(sentence, ())]
        rules: tuple[tuple[str, Callable[[Chunk, Chunk], bool]], ...] = (
            ("type", lambda one, other: one[:2] == other[:2]),
            ("boundary", lambda one, other: _overlap(one, other) and one[2] == other[2]),
            ("boundary and type", _overlap),
        )
        for kind, fits in rules:
            for one in list(missing):
                match = next((other for other in extra if fits(one, other)), None)
                if match:
                    missing.remove(one)
                    extra.remove(match)
                    result.append(Mistake(sentence, kind, one, match))
        result += [Mistake(sentence, "missed", one, None) for one in missing] + [Mistake(sentence, "invented", None, one) for one in extra]
    return result


def _by_sentence(found: Entities) -> dict[int, list[Chunk]]:
    result: dict[int, list[Chunk]] = {}
    for sentence, start, end, kind in zip(*(column.tolist() for column in found[:4]), strict=True):
        result.setdefault(sentence, []).append((start, end, found.types[kind]))
    return result


def _overlap(one: Chunk, other: Chunk) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def entity_scores(
    gold: np.ndarray, predicted: np.ndarray, lengths: np.ndarray, labels: Sequence[str], *, mode: Mode = "default"
) -> dict[str, dict[str, float]]:
    """`{type: {"precision", "recall", "f1-score", "support"}}` in Python numbers, with the rows and keys of seqeval's `classification_report`.

    Arguments as in `entities`. Rows: the types found in `gold` or in `predicted`, sorted; then "micro avg", "macro avg" over just those types, and
    "weighted avg" by support. What would divide by zero is 0, as with `zero_division=0`; so is the macro average where there is no entity at all, for
    which seqeval says NaN: JSON has no NaN, and the best checkpoint is picked with `>`.
    """
    correct, found, wanted, types = _correct_found_wanted(gold, predicted, lengths, labels, mode=mode)
    counts = np.stack([np.bincount(kind, minlength=len(types)) for _, kind in (correct, found, wanted)])  # (3, num_types)
    present = np.flatnonzero(counts.any(0))
    types, counts = [types[t] for t in present], counts[:, present]
    support, num_gold = counts[2], int(counts[2].sum())

    per_type = _precision_recall_f1(counts)  # (3, num_types)
    micro = _precision_recall_f1(counts.sum(1))
    macro = per_type.sum(1) / max(len(types), 1)
    weighted = (per_type * support).sum(1) / max(num_gold, 1)  # np.average's arithmetic, to the bit: a tie rounds in the table as seqeval's does

    rows = [(name, per_type[:, t], int(support[t])) for t, name in enumerate(types)]
    rows += [("micro avg", micro, num_gold), ("macro avg", macro, num_gold), ("weighted avg", weighted, num_gold)]
    return {name: {"precision": float(p), "recall": float(r), "f1-score": float(f1), "support": num} for name, (p, r, f1), num in rows}


def entity_counts(
    gold: np.ndarray, predicted: np.ndarray, lengths: np.ndarray, labels: Sequence[str], *, mode: Mode = "default"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many entities of each sentence are right, were predicted and are in gold: int (num_sentences,) each. Arguments as in `entities`.

    They sum to the counts behind "micro avg", and are what `confidence.weighted_f1` takes: the interval of the entity F1.
    """
    *ends, _ = _correct_found_wanted(gold, predicted, lengths, labels, mode=mode)
    sentence = np.repeat(np.arange(len(lengths)), lengths + 1)
    correct, found, wanted = (np.bincount(sentence[last], minlength=len(lengths)) for last, _ in ends)
    return correct, found, wanted


def report(scores: Mapping[str, Mapping[str, float]]) -> str:
    """The scores as the table of seqeval's `classification_report(digits=4)`; where there is no entity, and seqeval fails, the averages alone."""
    width = max(len(printable(name)) for name in scores)  # "weighted avg" is always among them
    header = ("precision", "recall", "f1-score", "support")
    lines = [f"{'':>{width}}  " + " ".join(f"{name:>9}" for name in header), ""]
    for name, score in scores.items():
        if name == "micro avg":
            lines.append("")
        lines.append(f"{printable(name):>{width}}  " + " ".join(f"{score[key]:>9.4f}" for key in header[:3]) + f" {score['support']:>9}")
    return "\n".join([*lines, ""])


def _correct_found_wanted(
    gold: np.ndarray, predicted: np.ndarray, lengths: np.ndarray, labels: Sequence[str], *, mode: Mode
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], list[str]]:
    """Last token and type, as in `_chunks`, of the entities that are right, that were predicted and that are in gold; and the types."""
    gold_first, gold_last, gold_kind, types = _chunks(gold, lengths, labels, mode=mode)
    first, last, kind, _ = _chunks(predicted, lengths, labels, mode=mode)
    # At most one entity ends at a token, so the ends pair them up.
    _, i, j = np.intersect1d(gold_last, last, assume_unique=True, return_indices=True)
    i = i[(gold_first[i] == first[j]) & (gold_kind[i] == kind[j])]
    return (gold_last[i], gold_kind[i]), (last, kind), (gold_last, gold_kind), types


def _chunks(ids: np.ndarray, lengths: np.ndarray, labels: Sequence[str], *, mode: Mode) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """First token, last token and type of each entity, int (num_entities,) each, and the types.

    Tokens count from 0 through all sentences, with one more, an O, behind each sentence, as in seqeval: so no entity crosses into the next.
    """
    assert ids.shape == (lengths.sum(),), (ids.shape, lengths.sum())
    assert ids.size == 0 or (ids.min() >= 0 and ids.max() < len(labels)), "an ignored token (-100) has no place here"
    labels = [*labels, "O"]
    outside = len(labels) - 1
    flat = np.full(len(ids) + len(lengths), outside, np.int64)
    flat[np.arange(len(ids)) + np.repeat(np.arange(len(lengths)), lengths)] = ids
    previous = np.append(outside, flat)[:-1]

    # What starts or ends between two tokens depends on their two labels alone: worked out once per pair of labels, looked up per token.
    kinds = _types(labels, mode=mode)
    starts, ends = (_strict if mode == "strict" else _default)(np.array([label[0] for label in labels]), np.array(kinds))
    pair = previous * len(labels) + flat
    last = np.flatnonzero(ends.ravel()[pair]) - 1
    # The last start so far; 0 where there is none, as in seqeval: labels of no scheme (a lone "X") can end what never started.
    first = np.maximum.accumulate(np.where(starts.ravel()[pair], np.arange(len(flat)), 0))[last]
    if mode == "strict":
        is_entity = np.array([label[0] == "B" for label in labels])[flat[first]]
        first, last = first[is_entity], last[is_entity]

    types = sorted({kind for kind, label in zip(kinds, labels, strict=True) if label[0] != "O"})
    type_of_label = np.array([types.index(kind) if kind in types else -1 for kind in kinds])  # -1: an O, where no entity ends
    return first, last, type_of_label[flat[last]], types


def _default(letter: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool (V, V), [previous, this]: an entity starts at this token; one ends before it. seqeval's `start_of_chunk` and `end_of_chunk`."""

    def previous(letters: str) -> np.ndarray:
        return np.isin(letter, list(letters))[:, None]

    def this(letters: str) -> np.ndarray:
        return np.isin(letter, list(letters))[None, :]

    changes = kind[:, None] != kind[None, :]
    starts = this("BS") | (previous("ESO") & this("EI")) | (~this("O.") & changes)
    ends = previous("ES") | (previous("BI") & this("BSO")) | (~previous("O.") & changes)
    return starts, ends


def _strict(letter: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `_default`, for runs of one type by `IOB2` of seqeval's scheme.py; one that does not start with B is no entity, which the caller sees to."""
    assert np.isin(letter, ["B", "I", "O"]).all(), letter
    previous, this = letter[:, None], letter[None, :]
    continues = (previous != "O") & (this == "I") & (kind[:, None] == kind[None, :])
    return (this != "O") & ~continues, (previous != "O") & ~continues


def _types(labels: Sequence[str], *, mode: Mode) -> list[str]:
    """The type of each label, "_" where it has none. The modes differ for types with a dash at an end: that is seqeval's doing."""
    if mode == "strict":
        return [label[1:].strip("-") or "_" for label in labels]
    return [label[1:].split("-", maxsplit=1)[-1] or "_" for label in labels]


def _precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """float64 (3, ...) from the counts (3, ...) of correct, predicted and gold entities; 0 for 0/0."""
    correct, predicted, gold = counts
    precision, recall = correct / np.maximum(predicted, 1), correct / np.maximum(gold, 1)
    total = precision + recall
    return np.stack([precision, recall, 2 * precision * recall / np.where(total == 0, 1, total)])
