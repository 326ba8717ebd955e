"""Scores of answers to questions: exact match and F1 of the official scripts, from texts. All are fractions, 0 to 1, not percent.

Two scripts, chosen by `script`:

* "squad": evaluate-v2.0.py of SQuAD (https://rajpurkar.github.io/SQuAD-explorer/). Words in lower case without ASCII punctuation and English articles; F1 over
  bags of words. It gives what evaluate-v1.1.py gives, except for an answer that normalising empties ("The"): v2.0 drops it among others, as is done here.
* "cmrc": cmrc2018_evaluate.py of CMRC 2018 (https://github.com/ymcui/cmrc2018), for Chinese. A Chinese character is a token; F1 over the longest run of tokens
  that both texts share. Other scripts' words are split at spaces and signs, where the official script asks NLTK's English tokeniser.

A question without an answer has no answers, or only such as normalising empties: then the empty prediction scores 1 and any other 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

Script = Literal["squad", "cmrc"]
Measure = Literal["exact_match", "f1"]

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")

# What CMRC's script drops. Its list also names "……", which its loop over single characters never meets: so the "…" of a text stays.
_WITHOUT_SIGNS = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CHINESE = "\u4e00-\u9fa5"
_TOKEN = re.compile(rf"[{_CHINESE}]|[^\W{_CHINESE}]+(?:[.,]\d+)*|…+|[^\w\s]")  # "3.5", "1,000" and "……" are one


def normalize(text: str, *, script: Script = "squad") -> str:
    """What exact match compares. "squad": lower case, no ASCII punctuation, no a, an, the, single spaces. "cmrc": lower case, no signs, spaces as they are."""
    if script == "cmrc":
        return text.lower().strip().translate(_WITHOUT_SIGNS)
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str], *, script: Script = "squad") -> float:
    """1.0 if the prediction is one of the answers once both are normalised, else 0.0."""
    return _scores(prediction, answers, script)[0]


def f1(prediction: str, answers: Sequence[str], *, script: Script = "squad") -> float:
    """The largest F1 of the prediction with any of the answers. Of two texts that normalising empties it is 1, of one such and another text 0."""
    return _scores(prediction, answers, script)[1]


def per_question(predictions: Sequence[str], answers: Sequence[Sequence[str]], *, script: Script = "squad") -> tuple[np.ndarray, np.ndarray]:
    """Exact match and F1 of each question, float64 (n,) each. `answers[i]` are the right answers of question i, as many as there are, none included."""
    scores = np.array([_scores(*pair, script) for pair in zip(predictions, answers, strict=True)], np.float64).reshape(-1, 2)
    return scores[:, 0], scores[:, 1]


def has_answer(answers: Sequence[Sequence[str]], *, script: Script = "squad") -> np.ndarray:
    """bool (n,): which questions have an answer that normalising leaves something of."""
    return np.array([any(normalize(answer, script=script) for answer in texts) for texts in answers], bool)


def question_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]], *, script: Script = "squad") -> dict[str, float]:
    """"exact_match" and "f1", the means over all questions, in Python numbers; arguments as in `per_question`.

    Where a question has no answer also "has_answer_exact_match" and "has_answer_f1", over the questions that have one, and "no_answer_accuracy", the share
    of the others that were left without a prediction. A mean over no question is 0.
    """
    exact, overlap = per_question(predictions, answers, script=script)
    result = {"exact_match": _mean(exact), "f1": _mean(overlap)}
    found = has_answer(answers, script=script)
    if not found.all():
        result |= {"has_answer_exact_match": _mean(exact[found]), "has_answer_f1": _mean(overlap[found]), "no_answer_accuracy": _mean(exact[~found])}
    return result


def best_threshold(
    scores: Sequence[float] | np.ndarray, predictions: Sequence[str], answers: Sequence[Sequence[str]], *, measure: Measure = "f1", script: Script = "squad"
) -> tuple[float, float]:
    """`(threshold, value)`: where "" is predicted instead if the question's score is above the threshold, the mean of `measure` is largest, and is `value`.

    `scores` (n,) say how likely a question has no answer, on any scale; `predictions` are the best answers that are not empty. As `find_best_thresh` of
    evaluate-v2.0.py: the lowest such threshold, and one of the scores, or 0.0 for "" throughout (the next number below all scores where 0.0 is not). Only
    for questions with one score the two differ: there the script may count some without the others, a value that no threshold reaches.
    """
    values = np.asarray(scores)
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    assert values.shape == (len(predictions),), (values.shape, len(predictions))
    assert np.isfinite(values).all()
    if len(values) == 0:
        return 0.0, 0.0
    kept = per_question(predictions, answers, script=script)[0 if measure == "exact_match" else 1]
    silent = (~has_answer(answers, script=script)).astype(np.float64)  # the score of an empty prediction
    order = np.argsort(values, kind="stable")
    totals = np.cumsum(np.append(silent.sum(), (kept - silent)[order]))  # [i]: the i questions of the lowest scores keep their predictions
    rising = values[order]
    cuts = np.append(0, np.flatnonzero(np.append(rising[1:] != rising[:-1], True)) + 1)  # never between equal scores
    cut = cuts[np.argmax(totals[cuts])]
    if cut > 0:
        threshold = rising[cut - 1]
    elif rising[0] > 0:
        threshold = 0.0
    else:
        threshold = np.nextafter(rising[0], np.array(-np.inf, values.dtype))  # in the scores' own precision: it must stay below them
    return float(threshold), float(totals[cut] / len(values))


def _scores(prediction: str, answers: Sequence[str], script: Script) -> tuple[float, float]:
    text = normalize(prediction, script=script)
    rights = [right for answer in answers if (right := normalize(answer, script=script))] or [""]
    tokens, share = _tokens(text, script), _longest_run if script == "cmrc" else _common
    overlap = 0.0
    for right in rights:
        others = _tokens(right, script)
        if tokens and others:
            overlap = max(overlap, 2 * share(tokens, others) / (len(tokens) + len(others)))
        else:
            overlap = max(overlap, float(tokens == others))
    return float(text in rights), overlap


def _tokens(text: str, script: Script) -> list[str]:
    return _TOKEN.findall(text) if script == "cmrc" else text.split()


def _common(a: list[str], b: list[str]) -> int:
    """How many words two bags of words share."""
    return (Counter(a) & Counter(b)).total()


def _longest_run(a: list[str], b: list[str]) -> int:
    """Length of the longest run of tokens that is in both."""
    longest, above = 0, [0] * (len(b) + 1)  # above[j]: length of the run that ends at the last token of `a` and at b[j - 1]
    for token in a:
        above = [0, *(above[j] + 1 if token == other else 0 for j, other in enumerate(b))]
        longest = max(longest, *above)
    return longest


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
