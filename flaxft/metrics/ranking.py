"""Scores of a search: recall at k and mean reciprocal rank, from how similar each query is to each document.

Ties are broken against the system: of equally similar documents the irrelevant ones come first. So an encoder that maps every text to one place finds
nothing, wherever the relevant documents stand. A query without a relevant document scores 0.

`relevant` is a bool matrix (num_queries, num_documents), or, in less space, a list that holds for each query the indices of its relevant documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CHUNK = 2**22  # similarities held at once by `embeddings_per_query`: 16 MiB in float32


def ranking_scores(similarity: np.ndarray, relevant: np.ndarray | Sequence[np.ndarray], *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """`recall@k` for every k, and `mrr`: the means of `per_query`, in Python numbers; 0 of no query."""
    return mean_scores(*per_query(similarity, relevant, ks=ks), ks=ks)


def per_query(
    similarity: np.ndarray, relevant: np.ndarray | Sequence[np.ndarray], *, ks: Sequence[int] = (1, 5, 10)
) -> tuple[np.ndarray, np.ndarray]:
    """`(recall (num_queries, len(ks)), reciprocal rank (num_queries,))`, float64, from `similarity` float (num_queries, num_documents), NaN nowhere.

    recall at k is the share of a query's relevant documents among its k most similar ones; the reciprocal rank is 1 over the place, from 1, of its first
    relevant document.
    """
    similarity = np.asarray(similarity)
    num_queries, num_documents = similarity.shape
    assert len(relevant) == num_queries, (len(relevant), num_queries)
    assert not isinstance(relevant, np.ndarray) or relevant.dtype == bool, "a matrix of 0 and 1 would be read as indices"
    recall, reciprocal_rank = np.zeros((num_queries, len(ks))), np.zeros(num_queries)
    for q in range(num_queries):  # one row at a time: nothing else as large as `similarity` is ever made
        is_relevant = np.zeros(num_documents, bool)
        is_relevant[relevant[q]] = True
        places = _places(similarity[q], is_relevant)
        if len(places):
            recall[q] = [(places <= k).mean() for k in ks]
            reciprocal_rank[q] = 1 / places[0]
    return recall, reciprocal_rank


def embeddings_per_query(
    queries: np.ndarray, documents: np.ndarray, relevant: np.ndarray | Sequence[np.ndarray], *, ks: Sequence[int] = (1, 5, 10)
) -> tuple[np.ndarray, np.ndarray]:
    """`per_query` of `queries @ documents.T`, (num_queries, D) and (num_documents, D), some queries at a time: the matrix is never held whole.

    Give vectors of length 1 for cosine similarity.
    """
    rows = max(1, _CHUNK // max(1, len(documents)))
    starts = range(0, len(queries), rows)
    parts = [per_query(queries[start : start + rows] @ documents.T, relevant[start : start + rows], ks=ks) for start in starts]
    if not parts:
        return np.zeros((0, len(ks))), np.zeros(0)
    recall, reciprocal_rank = zip(*parts, strict=True)
    return np.concatenate(recall), np.concatenate(reciprocal_rank)


def mean_scores(recall: np.ndarray, reciprocal_rank: np.ndarray, *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """`recall@k` and `mrr` from what `per_query` or `embeddings_per_query` returned for these ks."""
    result = {f"recall@{k}": _mean(column) for k, column in zip(ks, recall.T, strict=True)}
    return result | {"mrr": _mean(reciprocal_rank)}


def _places(similarity: np.ndarray, is_relevant: np.ndarray) -> np.ndarray:
    """The places, from 1, of the relevant documents among all, rising; both arguments are (num_documents,)."""
    assert not np.isnan(similarity).any()
    found = np.sort(similarity[is_relevant])
    # Of the irrelevant documents only their place between the relevant ones matters: no need to sort them.
    beaten = np.searchsorted(found, similarity[~is_relevant], side="right")  # how many relevant ones are behind this one, or level with it
    ahead = np.cumsum(np.bincount(beaten, minlength=len(found) + 1)[::-1])[:-1]  # of the best relevant one, the second best, ...
    return ahead + np.arange(1, len(found) + 1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
