"""The simplest ways to do a task, beside which a score is read: the most frequent answer, and counts of words and letters with a linear model."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flaxft.data.base import Record

MAJORITY = "majority"
LOGISTIC = "TF-IDF + logistic regression"
CENTROID = "TF-IDF + nearest mean"  # where labels are too many for a regression of each
RIDGE = "TF-IDF + ridge regression"
COSINE = "TF-IDF cosine"
WORDS = "most frequent tag of each word"
LONGEST = 2000  # characters of a text that are read
NUM_FEATURES = 15_000  # of words, and as many of letters
MOST_LABELS = 200
NUM_FITS = 1_000_000  # records times labels: 6,600 records of 151 labels, some seven seconds of one CPU; of more labels fewer records are fitted
STRENGTH = 10.0  # of the fit against the penalty (scikit-learn's C): TF-IDF rows have length 1
ROWS = 2048  # records that are answered at once
Texts = Callable[[Record], Sequence[str]]  # one text of a record, or the two of a pair
Decode = Callable[[Record, Mapping[str, Any]], dict[str, Any]]  # what a task's `decode` makes of a record and of arrays as its `predict` gives them


class Baseline(NamedTuple):
    """A simple way to do a task, fitted."""

    name: str
    predict: Callable[[Sequence[Record]], list[dict[str, Any]]]  # one result a record, as the task's `decode` gives them
    num_records: int  # that it was fitted on


# ---- for tasks of texts ---------------------------------------------------------------------------------------------------------------------------


def of_labels(records: Sequence[Record], texts: Texts, gold: Sequence[int], *, num_labels: int, decode: Decode) -> list[Baseline]:
    """Majority, and TF-IDF with logistic regression, for one label a text. gold: a label's number for each record, below 0 for none.

    `decode` is given "label" and "scores" (L,).
    """
    known = np.flatnonzero(np.asarray(gold) >= 0)[: max(1000, NUM_FITS // num_labels)]
    label = np.asarray(gold)[known]
    counts = np.bincount(label, minlength=num_labels)

    def answer(record: Record, scores: np.ndarray) -> dict[str, Any]:
        return decode(record, {"label": np.int32(scores.argmax()), "scores": scores})

    majority = Baseline(MAJORITY, lambda records: [answer(record, counts / counts.sum()) for record in records], len(known))
    if num_labels < 2 or (counts > 0).sum() < 2:
        return [majority]
    features = TextFeatures([texts(records[i]) for i in known])
    rows = features.fitted
    log_odds = _nearest_mean(rows, label, num_labels) if num_labels > MOST_LABELS else _logistic(rows, label[:, None] == np.arange(num_labels))

    def predict(records: Sequence[Record]) -> list[dict[str, Any]]:
        found = []
        for some, chunk in _chunks(records, texts, features):
            odds = 1 / (1 + np.exp(-log_odds(chunk)))
            found += [answer(record, scores) for record, scores in zip(some, odds / odds.sum(1, keepdims=True), strict=True)]
        return found

    return [majority, Baseline(CENTROID if num_labels > MOST_LABELS else LOGISTIC, predict, len(known))]


def of_label_sets(records: Sequence[Record], texts: Texts, gold: np.ndarray, *, decode: Decode) -> list[Baseline]:
    """Majority, and TF-IDF with a logistic regression of each label, for any number of labels a text. gold: bool (num_records, L).

    `decode` is given "scores" (L,), each from 0 to 1.
    """
    gold = gold[: max(1000, NUM_FITS // gold.shape[1])]
    shares = gold.mean(0)
    majority = Baseline(MAJORITY, lambda records: [decode(record, {"scores": shares}) for record in records], len(gold))
    features = TextFeatures([texts(record) for record in records[: len(gold)]])
    log_odds = _logistic(features.fitted, gold)

    def predict(records: Sequence[Record]) -> list[dict[str, Any]]:
        return [
            decode(record, {"scores": scores})
            for some, chunk in _chunks(records, texts, features)
            for record, scores in zip(some, 1 / (1 + np.exp(-log_odds(chunk))), strict=True)
        ]

    return [majority, Baseline(LOGISTIC, predict, len(gold))]


def of_numbers(records: Sequence[Record], texts: Texts, gold: Sequence[float], *, decode: Decode) -> list[Baseline]:
    """The mean, and TF-IDF with ridge regression, for one number a text. `decode` is given "score"."""
    from sklearn.linear_model import Ridge

    numbers = np.asarray(gold, float)
    mean = Baseline("mean", lambda records: [decode(record, {"score": numbers.mean()}) for record in records], len(numbers))
    features = TextFeatures([texts(record) for record in records])
    model = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-3, max_iter=200).fit(features.fitted, numbers)

    def predict(records: Sequence[Record]) -> list[dict[str, Any]]:
        return [
            decode(record, {"score": score})
            for some, chunk in _chunks(records, texts, features)
            for record, score in zip(some, model.predict(chunk).tolist(), strict=True)
        ]

    return [mean, Baseline(RIDGE, predict, len(numbers))]


class TextFeatures:
    """TF-IDF of one and two words in a row, and of two to five letters in a row within words; sparse rows of length 1, float32 (n, F).

    Of a pair: the features of both together, where they differ, which they share, and how many.
    """

    def __init__(self, texts: Sequence[Sequence[str]], *, num_features: int = NUM_FEATURES):
        from sklearn.feature_extraction.text import TfidfVectorizer

        common = {"max_features": num_features, "sublinear_tf": True, "dtype": np.float32}
        some = 2 if len(texts) > 500 else 1  # what stands in one text alone is noise, and most of the memory
        self._parts, made = [], []
        joined = [text[:LONGEST] for column in zip(*texts, strict=True) for text in column]
        for kind in ({"ngram_range": (1, 2), "token_pattern": r"(?u)\w+"}, {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": some}):
            with contextlib.suppress(ValueError):  # no words in any of the texts
                part = TfidfVectorizer(**kind, **common)
                made.append(part.fit_transform(joined))
                self._parts.append(part)
        rows = _side_by_side(made, len(joined))
        self.fitted = _paired([rows[start : start + len(texts)] for start in range(0, len(joined), len(texts))])  # of the texts themselves

    def single(self, texts: Sequence[str]) -> Any:
        """Of single texts."""
        return _side_by_side([part.transform([text[:LONGEST] for text in texts]) for part in self._parts], len(texts))

    def __call__(self, texts: Sequence[Sequence[str]]) -> Any:
        return _paired([self.single(column) for column in zip(*texts, strict=True)])


def _side_by_side(made: Sequence[Any], num_rows: int) -> Any:
    """Rows of length 1 of several matrices of such rows; with a column of 0, so that there is one."""
    from scipy import sparse

    rows = sparse.hstack([*made, sparse.csr_matrix((num_rows, 1), dtype=np.float32)], format="csr")
    return rows * np.float32(1 / np.sqrt(max(1, len(made))))


def _paired(columns: Sequence[Any]) -> Any:
    from scipy import sparse

    if len(columns) == 1:
        return columns[0]
    one, other = columns
    shared = one.multiply(other)
    cosine = sparse.csr_matrix(np.asarray(shared.sum(1), np.float32))
    return sparse.hstack([(one + other) * np.float32(0.5), abs(one - other), shared, cosine], format="csr")


def cosines(records: Sequence[Record], pairs: Callable[[Record], Sequence[str]], features: TextFeatures) -> list[np.ndarray]:
    """For each record the cosine of its first text with each of the others."""
    found = []
    for record in records:
        vectors = features.single(pairs(record))
        found.append(np.asarray((vectors[1:] @ vectors[0].T).todense(), float).ravel())
    return found


# ---- for tags of words ----------------------------------------------------------------------------------------------------------------------------


def tags_of_words(pairs: Sequence[tuple[str, str]]) -> tuple[str, Callable[[Sequence[str]], list[str]]]:
    """`(most frequent tag, words -> tags)`: each word's most frequent tag, in its own case or else in any; of an unknown word the most frequent tag."""
    counts: dict[str, Counter[str]] = {}
    lower: dict[str, Counter[str]] = {}
    all_tags: Counter[str] = Counter()
    for word, tag in pairs:
        all_tags[tag] += 1
        counts.setdefault(word, Counter())[tag] += 1
        lower.setdefault(word.lower(), Counter())[tag] += 1
    usual = all_tags.most_common(1)[0][0]
    best, best_lower = ({word: found.most_common(1)[0][0] for word, found in table.items()} for table in (counts, lower))
    return usual, lambda words: [best.get(word) or best_lower.get(word.lower(), usual) for word in words]


# ---- linear models --------------------------------------------------------------------------------------------------------------------------------


def _logistic(rows: Any, is_label: np.ndarray) -> Callable[[Any], np.ndarray]:
    """One regression a label, is_label being bool (n, L); rows -> log-odds, float (n, L).

    By coordinate descent on the dual: 77 labels of 5,000 texts take 2.4 s of one CPU, scikit-learn's default (L-BFGS) the double and three times the memory.
    """
    from sklearn.linear_model import LogisticRegression

    num, num_labels = is_label.shape
    weights, bias = np.zeros((rows.shape[1], num_labels), np.float32), np.zeros(num_labels, np.float32)
    for i in range(num_labels):
        count = int(is_label[:, i].sum())
        if num_labels == 2 and i == 1 and (is_label[:, 0] != is_label[:, 1]).all():
            weights[:, 1], bias[1] = -weights[:, 0], -bias[0]
        elif 0 < count < num:
            model = LogisticRegression(C=STRENGTH, solver="liblinear", dual=True, tol=0.05, max_iter=30, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it might go on: it need not be exact
                model.fit(rows, is_label[:, i])
            weights[:, i], bias[i] = model.coef_[0], model.intercept_[0]
        else:
            bias[i] = np.log((count + 0.5) / (num - count + 0.5))
    return lambda rows: np.asarray(rows @ weights) + bias


def _nearest_mean(rows: Any, label: np.ndarray, num_labels: int) -> Callable[[Any], np.ndarray]:
    """rows -> the cosine with the mean of each label's rows, sharpened, float (n, L)."""
    from scipy import sparse
    from sklearn.preprocessing import normalize

    is_label = sparse.csr_matrix((np.ones(len(label), np.float32), (label, np.arange(len(label)))), shape=(num_labels, len(label)))
    means = normalize(is_label @ rows)
    return lambda rows: 10 * np.asarray((rows @ means.T).todense())


def _chunks(records: Sequence[Record], texts: Texts, features: TextFeatures) -> Iterator[tuple[Sequence[Record], Any]]:
    """So many records at once that their scores, (n, L), stay small, with their features."""
    for start in range(0, len(records), ROWS):
        some = records[start : start + ROWS]
        yield some, features([texts(record) for record in some])
