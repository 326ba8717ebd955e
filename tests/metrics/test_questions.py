"""The references are the official scripts' logic, in their own form of loops."""

from __future__ import annotations

import json
import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.metrics.questions import best_threshold, exact_match, f1, has_answer, normalize, per_question, question_scores

FAST = settings(max_examples=150, deadline=None, derandomize=True)

# ---------------------------------------------------------------- evaluate-v1.1.py and evaluate-v2.0.py


def clean(text):
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def overlap(prediction, answer):
    predicted, right = clean(prediction).split(), clean(answer).split()
    same = sum((Counter(predicted) & Counter(right)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(right)
    return 2 * precision * recall / (precision + recall)


def version_1(prediction, answers):
    return max(float(clean(prediction) == clean(a)) for a in answers), max(overlap(prediction, a) for a in answers)


def version_2(prediction, answers):
    answers = [a for a in answers if clean(a)] or [""]
    exact, best = 0.0, 0.0
    for a in answers:
        exact = max(exact, float(clean(a) == clean(prediction)))
        both = clean(a).split() and clean(prediction).split()
        best = max(best, overlap(prediction, a) if both else float(clean(a).split() == clean(prediction).split()))
    return exact, best


def find_best_thresh(scores, predictions, answers, values):
    """As the script has it: from all silent, the questions by their score. `values` are those of the predictions as they stand."""
    total = best = sum(not a for a in answers)
    threshold = 0.0
    for i in sorted(range(len(scores)), key=lambda i: scores[i]):
        total += values[i] if answers[i] else (-1 if predictions[i] else 0)
        if total > best:
            best, threshold = total, scores[i]
    return best / len(scores), threshold


# ---------------------------------------------------------------- cmrc2018_evaluate.py

SIGNS = [*"-:_*^/\\~`+=，。：？！“”；’《》", "……", *"·、「」（）－～『』"]


def without_signs(text):
    return "".join(c for c in text.lower().strip() if c not in SIGNS)


def segments(text):
    """Chinese characters alone; between them, words as spaces part them (the texts drawn have no more than that for NLTK to do)."""
    found, word = [], ""
    for c in without_signs(text):
        if "\u4e00" <= c <= "\u9fa5":
            found += [*word.split(), c]
            word = ""
        else:
            word += c
    return found + word.split()


def cmrc(prediction, answers):
    scores = []
    for answer in answers:
        a, b = segments(answer), segments(prediction)
        runs = {tuple(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1)}
        longest = max((len(run) for run in runs if any(tuple(b[k : k + len(run)]) == run for k in range(len(b)))), default=0)
        scores.append(2 * (longest / len(b)) * (longest / len(a)) / (longest / len(b) + longest / len(a)) if longest else 0.0)
    return float(any(without_signs(a) == without_signs(prediction) for a in answers)), max(scores)


# ---------------------------------------------------------------- tests

PIECES = ["the", "a", "An", "cat", "Cat", "Theo", "dog's", "U.S.", "3.5", "—", "«", ".", "-", "Ünï", "İ", "日本", "an-the", "", " ", "\u00a0", "\t", "_the_"]
TEXT = st.one_of(st.lists(st.sampled_from(PIECES), max_size=5).map(" ".join), st.text(max_size=8))
ANSWERS = st.lists(TEXT, max_size=3)
CHINESE = st.lists(st.sampled_from([*"北京大学二零", " ", "abc", "Δ", "12", "，", "-", " …… ", "《", "年 b"]), max_size=8).map("".join)


@FAST
@given(st.lists(st.tuples(TEXT, ANSWERS), max_size=6))
def test_equal_to_the_scripts_of_squad(questions):
    predictions, answers = [p for p, _ in questions], [a for _, a in questions]
    exact, overlaps = per_question(predictions, answers)
    wanted = np.array([version_2(*question) for question in questions]).reshape(-1, 2)
    np.testing.assert_allclose(np.stack([exact, overlaps], 1), wanted, rtol=0, atol=1e-12)
    for i, (p, a) in enumerate(questions):
        assert normalize(p) == clean(p)
        assert (exact_match(p, a), f1(p, a)) == (exact[i], overlaps[i])
        if a and all(map(clean, a)):  # where the two versions agree
            np.testing.assert_allclose(version_1(p, a), wanted[i], rtol=0, atol=1e-12)

    found = question_scores(predictions, answers)
    answered = [any(map(clean, a)) for a in answers]
    mean = lambda column, rows: float(np.mean(wanted[rows, column])) if np.any(rows) else 0.0  # noqa: E731
    everything = np.ones(len(questions), bool)
    expected = {"exact_match": mean(0, everything), "f1": mean(1, everything)}
    if not all(answered):
        rows = np.array(answered)
        expected |= {"has_answer_exact_match": mean(0, rows), "has_answer_f1": mean(1, rows), "no_answer_accuracy": mean(0, ~rows)}
    assert found == pytest.approx(expected, abs=1e-12)
    assert has_answer(answers).tolist() == answered
    json.dumps(found, allow_nan=False)


@FAST
@given(CHINESE, st.lists(CHINESE, min_size=1, max_size=3))
def test_equal_to_the_script_of_cmrc(prediction, answers):
    if not all(segments(a) for a in answers):  # dropped here
        return
    exact, best = cmrc(prediction, answers)
    assert exact_match(prediction, answers, script="cmrc") == exact
    assert abs(f1(prediction, answers, script="cmrc") - best) < 1e-12


def test_a_chinese_answer():
    assert normalize(" 《北京》-ABC …", script="cmrc") == "北京abc …"
    # 北京大 of 北京大学 and 去北京大厦, four tokens and five.
    assert f1("去北京大厦", ["北京大学"], script="cmrc") == pytest.approx(2 * 3 / 9)
    assert f1("2009年3.5公里", ["2009年3.5公里"], script="cmrc") == exact_match("（1903年）", ["1903年"], script="cmrc") == 1
    assert f1("3.5公里", ["3公里"], script="cmrc") == pytest.approx(2 * 2 / 6)  # a number is one token
    scores = question_scores(["", "北"], [[], ["北"]], script="cmrc")
    assert set(scores.values()) == {1.0}
    assert len(scores) == 5


def with_threshold(scores, predictions, threshold):
    return ["" if score > threshold else p for score, p in zip(scores, predictions, strict=True)]


SCORES = st.one_of(st.integers(-3, 3).map(float), st.floats(-5, 5))


@FAST
@given(st.lists(st.tuples(SCORES, TEXT, ANSWERS), min_size=1, max_size=8), st.sampled_from(["exact_match", "f1"]), st.sampled_from(["float64", "float32"]))
def test_best_threshold_is_the_best_that_a_threshold_can_do(questions, measure, dtype):
    scores = np.array([s for s, _, _ in questions], dtype)
    predictions, answers = [p for _, p, _ in questions], [a for _, _, a in questions]
    threshold, value = best_threshold(scores, predictions, answers, measure=measure)
    assert type(threshold) is type(value) is float
    reached = lambda t: question_scores(with_threshold(scores, predictions, t), answers)[measure]  # noqa: E731
    assert abs(reached(threshold) - value) < 1e-12
    assert abs(max(reached(t) for t in [-1e9, *scores.tolist()]) - value) < 1e-12
    if measure == "exact_match":  # whole numbers: no lower one does as well, by rounding or not
        assert all(reached(t) < value for t in scores.tolist() if t < threshold)


PROBABILITY = st.floats(0, 1, exclude_min=True)
WORDS_AND_ANSWERS = ["cat", "dog cat", "dog"], [[], ["cat"], ["dog", "a cat"]]


@FAST
@given(st.lists(st.tuples(PROBABILITY, *map(st.sampled_from, WORDS_AND_ANSWERS)), min_size=1, max_size=8, unique_by=lambda question: question[0]))
def test_best_threshold_equals_the_script(questions):
    scores, predictions, answers = ([q[i] for q in questions] for i in range(3))
    for column, measure in enumerate(("exact_match", "f1")):
        values = [version_2(p, a)[column] for p, a in zip(predictions, answers, strict=True)]
        value, threshold = find_best_thresh(scores, predictions, answers, values)
        found = best_threshold(scores, predictions, answers, measure=measure)
        assert abs(found[1] - value) < 1e-12
        if measure == "exact_match":
            assert found[0] == threshold


def test_best_threshold_by_hand():
    predictions, answers = ["cat", "cat", "cat"], [["cat"], [], ["cat"]]
    assert best_threshold([0.1, 0.9, 0.5], predictions, answers) == (0.5, 1.0)
    assert best_threshold([0.1, 0.5, 0.5], predictions, answers) == (0.1, pytest.approx(2 / 3))  # (1 + 1 + 0) / 3 already
    assert best_threshold([1, 2, 3], predictions, [[], [], []]) == (0.0, 1.0)
    threshold, value = best_threshold(np.array([-1, 2, 3], np.float32), predictions, [[], [], []])
    assert value == 1
    assert np.float32(-1) > threshold
    assert best_threshold([], [], []) == (0.0, 0.0)


def test_no_question():
    assert question_scores([], []) == {"exact_match": 0.0, "f1": 0.0}
