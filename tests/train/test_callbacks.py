"""Callbacks: called in order, by the methods that they have; what is none is refused at the start."""

import pytest

from flaxft.data.base import Records
from flaxft.errors import UserError
from flaxft.train.callbacks import Callback, Callbacks
from flaxft.train.evaluate import own_scores


class OnlyEnd:
    def __init__(self):
        self.results = None

    def on_end(self, results):
        self.results = results


class Misspelt:
    def on_evaluate(self, step, split, scores):
        pass


def test_one_method_is_enough():
    one = OnlyEnd()
    calls = Callbacks([one, Callback.__new__(type("All", (Callback,), {}))])
    calls.on_log(1, {})
    calls.on_evaluation(1, "validation", {"accuracy": 1.0})
    calls.on_checkpoint(1, None)
    calls.on_end({"steps": 1})
    assert one.results == {"steps": 1}


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (print, r"callbacks\[0\] is of the type builtin_function_or_method, expected an object with on_log, on_evaluation"),
        (OnlyEnd, r"is the class OnlyEnd, .*; give OnlyEnd\(\)"),
        (Misspelt(), r"has a method on_evaluate, which is none of .*; did you mean 'on_evaluation'"),
    ],
)
def test_what_is_no_callback(callback, message):
    with pytest.raises(UserError, match=message):
        Callbacks([callback])


def test_own_metrics():
    records = Records("own.csv", "0", [{"y": 1}, {"y": 2}], (1, 2), ":{}")
    decoded = [{"y": 1}, {"y": 1}]
    right = lambda records, predictions: sum(a["y"] == b["y"] for a, b in zip(records, predictions, strict=True)) / len(records)  # noqa: E731
    assert own_scores({"right": right}, records, decoded, taken=()) == {"right": 0.5}
    with pytest.raises(UserError, match=r"metrics\['f1'\] has the name of a metric of the task"):
        own_scores({"f1": right}, records, decoded, taken={"f1": 0.0})
    with pytest.raises(UserError, match=r"metrics\['bad'\] failed on own\.csv: KeyError: 'z'; mend the function"):
        own_scores({"bad": lambda records, predictions: records[0]["z"]}, records, decoded, taken=())
    with pytest.raises(UserError, match=r"metrics\['none'\] failed on own\.csv: TypeError"):
        own_scores({"none": lambda records, predictions: None}, records, decoded, taken=())
