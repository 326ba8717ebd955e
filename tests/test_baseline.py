"""The baselines of texts and tags: better than guessing where words tell, sound where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from flaxft import baseline

TEXTS = {0: "the film was a joy, warm and funny {}", 1: "a dull mess that bored me to tears {}", 2: "the acting is neither here nor there {}"}
RECORDS = [{"text": TEXTS[i % 3].format(i)} for i in range(60)]
GOLD = [i % 3 for i in range(60)]


def texts(record):
    return [record["text"]]


def keep(record, found):
    return dict(found)


def names(found):
    return [one.name for one in found]


def test_labels():
    majority, model = baseline.of_labels(RECORDS[:31], texts, GOLD[:31], num_labels=4, decode=keep)
    assert (majority.name, model.name, model.num_records) == (baseline.MAJORITY, baseline.LOGISTIC, 31)
    assert {int(one["label"]) for one in majority.predict(RECORDS)} == {0}
    found = model.predict(RECORDS[31:])
    assert [int(one["label"]) for one in found] == GOLD[31:]
    assert all(one["scores"].shape == (4,) and one["scores"].sum() == pytest.approx(1.0) for one in found)
    again = baseline.of_labels(RECORDS[:31], texts, GOLD[:31], num_labels=4, decode=keep)[1].predict(RECORDS[31:])
    assert all((one["scores"] == other["scores"]).all() for one, other in zip(found, again, strict=True)), "the same each time"


def test_two_labels_and_records_without_one():
    gold = [-100 if i % 3 == 2 else i % 3 for i in range(60)]
    _, model = baseline.of_labels(RECORDS, texts, gold, num_labels=2, decode=keep)
    assert model.num_records == 40
    assert [int(one["label"]) for one, label in zip(model.predict(RECORDS), gold, strict=True) if label >= 0] == [0, 1] * 20


def test_one_label_alone():
    assert names(baseline.of_labels(RECORDS, texts, [1] * 60, num_labels=2, decode=keep)) == [baseline.MAJORITY]


def test_more_labels_than_can_be_fitted(monkeypatch):
    monkeypatch.setattr(baseline, "MOST_LABELS", 2)
    _, model = baseline.of_labels(RECORDS, texts, GOLD, num_labels=3, decode=keep)
    assert model.name == baseline.CENTROID
    assert [int(one["label"]) for one in model.predict(RECORDS)] == GOLD


@pytest.mark.parametrize("text", ["!?", "", " ", "好" * 5000, "😀"])
def test_texts_of_any_kind(text):
    records = [{"text": text}] * 8
    _, model = baseline.of_labels(records, texts, [0, 1] * 4, num_labels=2, decode=keep)
    assert np.isfinite([one["scores"] for one in model.predict(records)]).all()


def test_sets_of_labels():
    gold = np.asarray([[i % 3 == 0, i % 3 != 2, False] for i in range(60)])
    _, model = baseline.of_label_sets(RECORDS, texts, gold, decode=keep)
    scores = np.asarray([one["scores"] for one in model.predict(RECORDS)])
    assert ((scores > 0.5) == gold).all()


def test_numbers_of_pairs():
    """Alike pairs have high numbers: the words that both have say it."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    records, gold = [], []
    for _ in range(200):
        one, other = rng.choice(words, 6), rng.choice(words, 6)
        num = int(rng.integers(0, 7))
        other[:num] = one[:num]
        records.append({"pair": [" ".join(one), " ".join(other)]})
        gold.append(float(num))
    mean, model = baseline.of_numbers(records[:150], lambda record: record["pair"], gold[:150], decode=keep)
    assert {one["score"] for one in mean.predict(records)} == {np.mean(gold[:150])}
    assert np.corrcoef([one["score"] for one in model.predict(records[150:])], gold[150:])[0, 1] > 0.9


def test_tags():
    usual, tag = baseline.tags_of_words([("Anna", "PER"), ("will", "O"), ("go", "O"), ("Will", "PER"), ("Smith", "PER"), ("will", "O")])
    assert usual in ("O", "PER")
    assert tag(["Anna", "ANNA", "will", "Will", "unknown"]) == ["PER", "PER", "O", "PER", usual]
