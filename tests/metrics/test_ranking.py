from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flaxft.metrics import ranking
from flaxft.metrics.confidence import bootstrap_interval, weighted_mean
from flaxft.metrics.ranking import embeddings_per_query, mean_scores, per_query, ranking_scores

FAST = settings(max_examples=150, deadline=None, derandomize=True)
KS = (1, 2, 5)


@st.composite
def cases(draw):
    shape = draw(st.integers(0, 6)), draw(st.integers(1, 8))
    numbers = st.one_of(st.integers(-2, 2).map(float), st.floats(-1, 1))
    return draw(arrays(np.float64, shape, elements=numbers)), draw(arrays(bool, shape, elements=st.booleans(), fill=st.booleans()))


def loop(similarity, relevant):
    recall, reciprocal = np.zeros((len(similarity), len(KS))), np.zeros(len(similarity))
    for q, (row, wanted) in enumerate(zip(similarity, relevant, strict=True)):
        ranked = sorted(range(len(row)), key=lambda d: (-row[d], wanted[d]))  # the irrelevant of a tie first
        hits = [bool(wanted[d]) for d in ranked]
        if any(hits):
            recall[q] = [sum(hits[:k]) / sum(hits) for k in KS]
            reciprocal[q] = 1 / (hits.index(True) + 1)
    return recall, reciprocal


@FAST
@given(cases())
def test_equal_to_a_loop(case):
    similarity, relevant = case
    wanted = loop(similarity, relevant)
    for given_as in (relevant, [np.flatnonzero(row) for row in relevant]):
        for ours, theirs in zip(per_query(similarity, given_as, ks=KS), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    found = ranking_scores(similarity, relevant, ks=KS)
    assert list(found) == ["recall@1", "recall@2", "recall@5", "mrr"]
    means = [*wanted[0].mean(0), wanted[1].mean()] if len(similarity) else [0] * 4
    np.testing.assert_allclose(list(found.values()), means, rtol=0, atol=1e-12)
    json.dumps(found, allow_nan=False)


def test_an_encoder_that_tells_nothing_apart_finds_nothing():
    found = ranking_scores(np.ones((100, 100)), np.eye(100, dtype=bool))
    assert found == {"recall@1": 0, "recall@5": 0, "recall@10": 0, "mrr": pytest.approx(0.01)}


def test_embeddings_in_chunks_are_the_matrix_whole(monkeypatch):
    rng = np.random.default_rng(0)
    queries, documents = rng.integers(-2, 3, (23, 4)).astype(np.float32), rng.integers(-2, 3, (17, 4)).astype(np.float32)  # whole numbers: ties are exact
    relevant = [rng.choice(17, 2, replace=False) for _ in range(23)]
    whole = per_query(queries @ documents.T, relevant)
    monkeypatch.setattr(ranking, "_CHUNK", 17 * 5)
    parts = embeddings_per_query(queries, documents, relevant)
    for ours, theirs in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert mean_scores(*parts) == ranking_scores(queries @ documents.T, relevant)
    assert [part.shape for part in embeddings_per_query(queries[:0], documents, [])] == [(0, 3), (0,)]
    low, high = bootstrap_interval(weighted_mean(parts[1]), 23)
    assert low < mean_scores(*parts)["mrr"] < high


def test_a_matrix_of_numbers_is_a_mistake():
    with pytest.raises(AssertionError, match="as indices"):
        per_query(np.ones((2, 2)), np.eye(2, dtype=int))
