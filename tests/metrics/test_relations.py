from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.metrics.confidence import weighted_macro_f1
from flaxft.metrics.relations import relation_counts, relation_scores

FAST = settings(max_examples=100, deadline=None, derandomize=True)
SCORER = Path(__file__).parents[2] / "../shared/data/semeval2010_task8/semeval2010_task8_scorer-v1.2.pl"
RELATIONS = """Cause-Effect Component-Whole Content-Container Entity-Destination Entity-Origin Instrument-Agency Member-Collection Message-Topic
    Product-Producer""".split()
LABELS = ["Other", *(f"{relation}({direction})" for relation in RELATIONS for direction in ("e1,e2", "e2,e1"))]


def undirected(label):
    return label.split("(")[0]


def loop(gold, predicted):
    """Macro F1 as the scorer's comments describe it."""
    scores = []
    for relation in sorted({undirected(label) for label in gold} - {"Other"}):
        right = sum(g == p and undirected(g) == relation for g, p in zip(gold, predicted, strict=True))
        precision = right / max(sum(undirected(p) == relation for p in predicted), 1)
        recall = right / sum(undirected(g) == relation for g in gold)
        scores.append(2 * precision * recall / (precision + recall) if right else 0.0)
    return sum(scores) / len(scores) if scores else 0.0


@FAST
@given(st.lists(st.tuples(st.sampled_from(LABELS[:7]), st.sampled_from(LABELS[:9]), st.booleans()), max_size=20))
def test_equal_to_a_loop(triples):
    gold, predicted = [g for g, _, _ in triples], [g if agrees else p for g, p, agrees in triples]
    found = relation_scores(gold, predicted)
    assert abs(found["macro_f1"] - loop(gold, predicted)) < 1e-12
    assert found["accuracy"] == (np.mean([g == p for g, p in zip(gold, predicted, strict=True)]) if gold else 0)
    correct, guessed, wanted, relations = relation_counts(gold, predicted)
    keep = [relation != "Other" for relation in relations]
    statistic = weighted_macro_f1(correct[:, keep], guessed[:, keep], wanted[:, keep])
    assert abs(statistic(np.ones((1, len(gold)), int))[0] - found["macro_f1"]) < 1e-12
    json.dumps(found, allow_nan=False)


@pytest.mark.skipif(shutil.which("perl") is None, reason="the official scorer needs perl")
@pytest.mark.skipif(not SCORER.exists(), reason="needs ../shared/data/semeval2010_task8")
@pytest.mark.parametrize("seed", range(12))
def test_equal_to_the_official_scorer(seed, tmp_path):
    rng = np.random.default_rng(seed)
    # From all labels to few, so that some relations stand on one side alone; from always right to hardly ever.
    known, guessed = rng.choice(LABELS, rng.integers(2, 20), replace=False), rng.choice(LABELS, rng.integers(1, 20), replace=False)
    gold = [str(label) for label in rng.choice(known, 200)]
    kept = rng.random(200) < rng.random()
    turned = {label: label.translate(str.maketrans("12", "21")) for label in LABELS}
    predicted = [g if keep else turned[g] if rng.random() < 0.3 else str(rng.choice(guessed)) for g, keep in zip(gold, kept, strict=True)]
    if seed == 0:
        gold = predicted = LABELS
    for name, labels in (("gold", gold), ("predicted", predicted)):
        (tmp_path / name).write_text("".join(f"{i}\t{label}\n" for i, label in enumerate(labels)))
    printed = subprocess.run(["perl", SCORER, tmp_path / "predicted", tmp_path / "gold"], capture_output=True, text=True, check=True).stdout
    official = printed.split("TAKING DIRECTIONALITY INTO ACCOUNT -- OFFICIAL")[1]

    found, checked = relation_scores(gold, predicted), set()

    def agrees(name, percent):
        assert abs(100 * found[name] - float(percent)) < 0.005 + 1e-9, name
        checked.add(name)

    agrees("macro_f1", re.search(r"official score is .* macro-averaged F1 = *([\d.]+)%", official)[1])
    agrees("accuracy", re.search(r"Accuracy \(calculated for the above confusion matrix\) = .* = *([\d.]+)%", official)[1])
    for average, title in (("micro", "Micro"), ("macro", "MACRO")):
        line = re.search(rf"{title}-averaged result \(excluding Other\):\n(.*)\n", official)[1]
        for name, percent in zip(("precision", "recall", "f1"), re.findall(r"= *([\d.]+)%", line), strict=True):
            agrees(f"{average}_{name}", percent)
    for relation, right, wanted in re.findall(r"^ *(\w+(?:-\w+)?) : .* R = *(\d+)/ *(\d+) =", official, re.MULTILINE):
        line = re.search(rf"^ *{relation} : (.*)$", official, re.MULTILINE)[1]
        relation = relation.removeprefix("_")
        for name, percent in zip(("precision", "recall", "f1"), re.findall(r"= *([\d.]+)%", line), strict=True):
            agrees(f"{relation}/{name}", percent)
        assert found[f"{relation}/support"] == int(wanted)
        assert found[f"{relation}/recall"] == int(right) / int(wanted)
        checked.add(f"{relation}/support")
    assert checked == set(found)


def test_a_wrong_direction_is_wrong_twice():
    """It costs precision and recall of its relation, and of no other."""
    gold = ["Cause-Effect(e1,e2)", "Cause-Effect(e1,e2)", "Message-Topic(e1,e2)", "Other"]
    predicted = ["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Message-Topic(e1,e2)", "Other"]
    found = relation_scores(gold, predicted)
    assert (found["Cause-Effect/precision"], found["Cause-Effect/recall"], found["macro_f1"], found["accuracy"]) == (0.5, 0.5, 0.75, 0.75)


def test_nothing_to_find():
    assert set(relation_scores([], []).values()) == {0.0}
    assert relation_scores(["Other"], ["Cause-Effect(e1,e2)"])["macro_f1"] == 0
