from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2
from seqeval.scheme import Entities as SeqevalEntities

from flaxft.metrics.confidence import bootstrap_interval, weighted_f1
from flaxft.metrics.entities import entities, entity_counts, entity_scores, mistakes, report

FAST = settings(max_examples=100, deadline=None, derandomize=True)
LABELS = ["O", *(f"{letter}-{kind}" for kind in ("PER", "LOC", "creative-work", "a") for letter in "BI")]
IOBES = ["O", *(f"{letter}-{kind}" for kind in ("PER", "creative-work") for letter in "BIES")]
BILOU = ["O", *(f"{letter}-{kind}" for kind in ("PER", "creative-work") for letter in "BILU")]
SHUFFLED = sorted(LABELS, reverse=True)  # I- before B-, types not in alphabetical order
ODD_STRICT = [*LABELS, "B", "I", "B-", "O-PER", "B--x-", "I-x-", "I-x"]
ODD_DEFAULT = [*ODD_STRICT, "E-PER", "S-PER", "E", "U-PER", "L-PER", "X", ".", ".-PER", "NN", "-PER"]


@st.composite
def tagged(draw, labels):
    """`(gold, predicted, lengths)`: runs of one type, well formed or not, predictions that often agree; empty sentences; all O."""
    label = st.integers(0, len(labels) - 1)
    # A B-, then I- of its type, is drawn as one piece: chance alone seldom spells an entity of three tokens.
    chunks = [[labels.index(f"B-{k}")] + [labels.index(f"I-{k}")] * n for k in ("PER", "creative-work") for n in range(3)]
    sentence = st.lists(st.one_of(st.just([0]), st.sampled_from(chunks), label.map(lambda i: [i])), max_size=5).map(lambda parts: sum(parts, []))
    gold = draw(st.lists(sentence, min_size=1, max_size=5))
    predicted = [[draw(label) if draw(st.integers(0, 3)) == 0 else i for i in ids] for ids in gold]
    if draw(st.integers(0, 4)) == 0:
        gold = [[0] * len(ids) for ids in gold]
    return gold, predicted, np.array([len(ids) for ids in gold])


def flat(sentences):
    return np.array(sum(sentences, []), np.int32)


def names(sentences, labels):
    return [[labels[i] for i in ids] for ids in sentences]


def seqeval_report(gold, predicted, mode, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels of no scheme, means of nothing
        return classification_report(gold, predicted, zero_division=0, **({"mode": "strict", "scheme": IOB2} if mode == "strict" else {}), **options)


def assert_equal_to_seqeval(case, labels, mode):
    gold, predicted, lengths = case
    ours = entity_scores(flat(gold), flat(predicted), lengths, labels, mode=mode)
    theirs = seqeval_report(names(gold, labels), names(predicted, labels), mode, output_dict=True)
    assert list(ours) == list(theirs)
    for row, figures in theirs.items():
        assert list(ours[row]) == list(figures)
        for key, value in figures.items():
            assert type(ours[row][key]) is (int if key == "support" else float)
            expected = 0.0 if row == "macro avg" and len(theirs) == 3 else value  # no entity at all: NaN there
            assert abs(ours[row][key] - expected) <= 1e-12, (row, key)
    json.dumps(ours, allow_nan=False)
    if len(theirs) > 3:
        assert report(ours) == seqeval_report(names(gold, labels), names(predicted, labels), mode, digits=4)


def assert_same_entities(case, labels, mode):
    gold, _, lengths = case
    found = entities(flat(gold), lengths, labels, mode=mode)
    assert found.types == sorted(set(found.types))
    ours = [(int(s), found.types[t], int(b), int(e)) for s, b, e, t in zip(found.sentence, found.start, found.end, found.type, strict=True)]
    if mode == "strict":
        assert ours == [entity.to_tuple() for sentence in SeqevalEntities(names(gold, labels), IOB2).entities for entity in sentence]
    else:
        offset = np.cumsum(lengths + 1) - (lengths + 1)  # seqeval counts through all sentences, with an O behind each
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert [(t, b + offset[s], e - 1 + offset[s]) for s, t, b, e in ours] == get_entities(names(gold, labels))


def assert_counts_equal_the_entities(case, labels, mode):
    """Sentence by sentence, by seqeval's own entities."""
    gold, predicted, lengths = case
    correct, found, wanted = entity_counts(flat(gold), flat(predicted), lengths, labels, mode=mode)
    for i, pair in enumerate(zip(names(gold, labels), names(predicted, labels), strict=True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a, b = ({e.to_tuple() for e in SeqevalEntities([s], IOB2).entities[0]} if mode == "strict" else set(get_entities(s)) for s in pair)
        assert (correct[i], found[i], wanted[i]) == (len(a & b), len(b), len(a))
    micro = entity_scores(flat(gold), flat(predicted), lengths, labels, mode=mode)["micro avg"]["f1-score"]
    assert abs(weighted_f1(correct, found, wanted)(np.ones((1, len(lengths)), int))[0] - micro) < 1e-12


@pytest.mark.parametrize(
    ("labels", "mode"),
    [(LABELS, "default"), (SHUFFLED, "strict"), (IOBES, "default"), (BILOU, "default"), (ODD_DEFAULT, "default"), (ODD_STRICT, "strict")],
    ids=["iob2-default", "iob2-strict", "iobes-default", "bilou-default", "odd-default", "odd-strict"],
)
def test_equal_to_seqeval(labels, mode):
    @FAST
    @given(tagged(labels))
    def run(case):
        assert_same_entities(case, labels, mode)
        assert_equal_to_seqeval(case, labels, mode)
        assert_counts_equal_the_entities(case, labels, mode)

    run()


def test_modes_differ_on_an_i_that_starts():
    ids = np.array([0, 2, 2, 0], np.int32)  # O I-PER I-PER O
    found = entities(ids, np.array([4]), LABELS, mode="default")
    assert (found.sentence, found.start, found.end, found.types[found.type[0]]) == ([0], [1], [3], "PER")
    assert entities(ids, np.array([4]), LABELS, mode="strict").start.size == 0


def test_no_sentence_and_no_entity():
    nothing = {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "support": 0}
    for lengths in ([], [0], [0, 3, 0]):
        ids = np.zeros(sum(lengths), np.int32)
        scores = entity_scores(ids, ids, np.array(lengths, np.int32), LABELS, mode="strict")
        assert [part.tolist() for part in entity_counts(ids, ids, np.array(lengths, np.int32), LABELS)] == [[0] * len(lengths)] * 3
        assert scores == {"micro avg": nothing, "macro avg": nothing, "weighted avg": nothing}
        assert report(scores).splitlines()[3] == "   micro avg     0.0000    0.0000    0.0000         0"


def test_an_entity_ends_with_its_sentence():
    ids = np.array([1, 2, 2, 2], np.int32)  # B-PER I-PER | I-PER I-PER
    assert entities(ids, np.array([2, 0, 2]), LABELS, mode="default").sentence.tolist() == [0, 2]
    assert entities(ids, np.array([2, 0, 2]), LABELS, mode="strict").sentence.tolist() == [0]


def test_an_ignored_token_is_a_mistake():
    with pytest.raises(AssertionError, match="-100"):
        entities(np.array([0, -100]), np.array([2]), LABELS)


def test_the_interval_of_entity_f1_holds_it():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 30, 300)
    gold = rng.integers(0, len(LABELS), lengths.sum())
    predicted = np.where(rng.random(len(gold)) < 0.9, gold, 0)
    f1 = entity_scores(gold, predicted, lengths, LABELS)["micro avg"]["f1-score"]
    low, high = bootstrap_interval(weighted_f1(*entity_counts(gold, predicted, lengths, LABELS)), len(lengths))
    assert f1 - 0.03 < low < f1 < high < f1 + 0.03


# ---- mistakes -------------------------------------------------------------------------------------------------------------------------------------


def test_mistakes_by_kind():
    labels = ["O", "B-A", "I-A", "B-B", "I-B"]
    sentences = [
        ("A A O", "A A O", []),
        ("A O O", "O O O", ["missed"]),
        ("O O O", "O A O", ["invented"]),
        ("A A O", "A O O", ["boundary"]),
        ("A A O", "B B O", ["type"]),
        ("A A A", "O B B", ["boundary and type"]),
        ("A A A", "B O A", ["boundary", "invented"]),  # the one of the same type goes first
    ]
    gold, predicted = ([i for sentence in sentences for i in _ids(sentence[side])] for side in (0, 1))
    found = mistakes(np.asarray(gold), np.asarray(predicted), np.full(len(sentences), 3), labels)
    assert [[one.kind for one in found if one.sentence == i] for i in range(len(sentences))] == [kinds for *_, kinds in sentences]
    assert (found[3].gold, found[3].given) == ((0, 2, "A"), (0, 2, "B"))
    assert (found[0].gold, found[0].given) == ((0, 1, "A"), None)


def _ids(types: str) -> list[int]:
    """Of "A A O": label ids of runs of one type, each one entity."""
    names = types.split()
    return [0 if name == "O" else {"A": 1, "B": 3}[name] + (i > 0 and names[i - 1] == name) for i, name in enumerate(names)]


@pytest.mark.parametrize("seed", range(20))
def test_mistakes_add_up(seed):
    """Every entity of gold is right or in one mistake, and so is every one that was given."""
    rng = np.random.default_rng(seed)
    labels, lengths = ["O", "B-A", "I-A", "B-B", "I-B"], rng.integers(0, 9, 12)
    gold, predicted = rng.integers(0, 5, (2, lengths.sum()))
    correct, given, wanted = (counts.sum() for counts in entity_counts(gold, predicted, lengths, labels))
    found = mistakes(gold, predicted, lengths, labels)
    assert wanted - correct == sum(one.gold is not None for one in found)
    assert given - correct == sum(one.given is not None for one in found)
