"""The rules of the verdict, each on observations that have the fault and on ones that have not."""

from __future__ import annotations

import dataclasses

import pytest

from flaxft import verdict as rules
from flaxft.verdict import Observations, contented, foresight, verdict

BAND = (3e-4, 3e-3)
LARGER = "--config.model.path=sentence-transformers/all-MiniLM-L6-v2"


def falling(start: float, end: float, num: int = 100, *, flat: float = 0.5) -> list[float]:
    """Losses that fall to `end` in the first `flat` of the run, and stay there."""
    until = max(1, int(num * flat))
    return [start + (end - start) * min(1.0, i / until) for i in range(num)]


GOOD = Observations(
    main_metric="accuracy",
    scores={"validation": {"accuracy": 0.90, "macro_f1": 0.88, "loss": 0.4}, "test": {"accuracy": 0.91, "macro_f1": 0.89, "loss": 0.4}},
    baselines={"test": {"majority": {"accuracy": 0.03}, "TF-IDF + logistic regression": {"accuracy": 0.89}}},
    losses=falling(4.3, 0.3),
    evals=[(50, {"accuracy": 0.85, "loss": 0.6}), (100, {"accuracy": 0.90, "loss": 0.4})],
    guess_loss=4.3,
    learning_rate=1e-3,
    band=BAND,
    hidden_size=192,
    is_packaged=True,
    label_counts={"a": 100, "b": 90, "c": 10},
    num_seen={"test": (0, 300)},
    num_cut={"train": (0, 1000, 60), "test": (1, 300, 70)},
    max_length=64,
    max_positions=512,
    batch_size=32,
    num_examples=1000,
    steps_per_epoch=50,
    num_epochs=2,
    fields=frozenset({"class_weights"}),
)
FAULTS = {
    "rate too low": ("rate", {"learning_rate": 5e-5}, "--config.optim.learning_rate=0.0009", ["5e-05 is below", "hidden size 192", "0.0003 to 0.003"]),
    "rate too high": ("rate", {"learning_rate": 3.0}, "--config.optim.learning_rate=0.0009", ["3 is above"]),
    "loss of guessing": ("underfit", {"losses": falling(4.34, 3.8), "baselines": {}}, "--config.num_epochs=4", ["training loss 3.8", "4.3 is what guessing"]),
    "still falling": ("underfit", {"losses": falling(4.3, 1.9, flat=1.0)}, "--config.num_epochs=4", ["it still falls"]),
    "still falling, in steps": ("underfit", {"losses": falling(4.3, 1.9, flat=1.0), "num_steps": 100}, "--config.num_steps=200", ["it still falls"]),
    "no loss of guessing": ("underfit", {"losses": falling(4.3, 1.9, flat=1.0), "guess_loss": None}, "--config.num_epochs=4", ["it still falls"]),
    "overfit": (
        "overfit",
        {"losses": falling(4.3, 0.01), "evals": [(50, {"accuracy": 0.90, "loss": 0.4}), (100, {"accuracy": 0.80, "loss": 0.9})]},
        "--config.num_epochs=1",
        ["training loss 0.01, validation loss 0.9", "was 0.9000 at step 50 and is 0.8000", "step 50 is kept"],
    ),
    "overfit by the loss": (
        "overfit",
        {"main_metric": "-loss", "losses": falling(4.3, 0.01), "evals": [(75, {"loss": 0.4}), (100, {"loss": 0.9})], "baselines": {}},
        "--config.evals.validation.patience=2",
        ["was 0.4000 at step 75"],
    ),
    "below the baseline": (
        "below_baseline",
        {"scores": {"test": {"accuracy": 0.183}}},
        LARGER,
        ["accuracy 0.1830", "TF-IDF + logistic regression has 0.8900", "packaged"],
    ),
    "below with a tiny encoder": ("below_baseline", {"scores": {"test": {"accuracy": 0.5}}, "is_packaged": False}, LARGER, ["hidden size 192"]),
    "below with a base model": (
        "below_baseline",
        {"scores": {"test": {"accuracy": 0.5}}, "is_packaged": False, "hidden_size": 768},
        "--config.num_epochs=4",
        ["far simpler"],
    ),
    "below, of what should be small": (
        "below_baseline",
        {"main_metric": "-mae", "scores": {"test": {"mae": 2.0}}, "baselines": {"test": {"mean": {"mae": 1.0}}}},
        LARGER,
        ["mae 2.0000", "mean has 1.0000"],
    ),
    "one label": (
        "dominated",
        {"scores": {"test": {"accuracy": 0.95, "macro_f1": 0.487}}, "baselines": {"test": {"majority": {"accuracy": 0.95}, "x": {"accuracy": 0.95}}}},
        "--config.task.class_weights=balanced",
        ["0.9500", "macro F1 is 0.4870"],
    ),
    "one label, no weights": (
        "dominated",
        {"scores": {"test": {"accuracy": 0.95, "macro_f1": 0.487}}, "baselines": {"test": {"majority": {"accuracy": 0.95}}}, "fields": frozenset()},
        "--config.task.main_metric=macro_f1",
        [],
    ),
    "rare labels": ("rare_labels", {"label_counts": {"a": 50, "b": 9, "c": 0}}, "--config.task.class_weights=balanced", ["2 of 3 labels", "c 0, b 9"]),
    "rare types": ("rare_labels", {"label_counts": {"PER": 9}, "noun": "entity types", "fields": frozenset()}, "", ["1 of 1 entity types"]),
    "overlap": ("overlap", {"num_seen": {"test": (30, 300), "validation": (0, 300)}}, "", ["30 of 300 records of test"]),
    "cut": ("cut_texts", {"num_cut": {"train": (500, 1000, 203)}}, "--config.data.max_length=208", ["500 of 1,000 records of train", "64 tokens", "203"]),
    "cut, and no positions left": ("cut_texts", {"num_cut": {"train": (500, 1000, 900)}, "max_length": 512}, "", ["no more positions"]),
    "cut, and both ends may be read": (
        "cut_texts",
        {"num_cut": {"train": (500, 1000, 203)}, "fields": frozenset({"long_text"})},
        "--config.data.max_length=208 or --config.task.long_text=head_tail",
        [],
    ),
    "cut, no positions left, and both ends may be read": (
        "cut_texts",
        {"num_cut": {"train": (500, 1000, 900)}, "max_length": 512, "fields": frozenset({"long_text"})},
        "--config.task.long_text=head_tail",
        ["no more positions", "both ends"],
    ),
    "one step an epoch": ("large_batch", {"batch_size": 100_000, "num_examples": 2000}, "--config.data.batch_size=32", ["100,000", "2,000"]),
}


def test_a_good_run_has_none_of_them():
    assert verdict(GOOD) == []
    line = contented(GOOD)
    assert line == (
        "nothing to mend: test accuracy 0.9100 beside 0.8900 of TF-IDF + logistic regression; training loss 0.3 (guessing: 4.3), validation loss 0.4; "
        "rate 0.001 within 0.0003 to 0.003"
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_nothing_else(name):
    rule, changes, flag, words = FAULTS[name]
    found = verdict(dataclasses.replace(GOOD, **changes))
    assert [one.rule for one in found] == [rule], found
    assert found[0].flag == flag
    assert all(word in found[0].line for word in words), found[0].line
    assert "\n" not in found[0].line and len(found[0].line) < 260


NO_FAULT = {
    "nothing is known": Observations(),
    "nothing but scores": Observations(main_metric="f1", scores={"test": {"f1": 0.2}}),
    "a rate at the edge": dataclasses.replace(GOOD, learning_rate=BAND[0]),
    "learnt by heart, and validation as good as ever": dataclasses.replace(
        GOOD, losses=falling(4.3, 0.001), evals=[(50, {"accuracy": 0.900, "loss": 0.4}), (100, {"accuracy": 0.899, "loss": 0.7})]
    ),
    "a loss that is small and falls": dataclasses.replace(GOOD, losses=falling(4.3, 0.02, flat=1.0)),
    "as good as the baseline": dataclasses.replace(GOOD, scores={"test": {"accuracy": 0.89}}),
    "one label is most, and the others are found": dataclasses.replace(
        GOOD, scores={"test": {"accuracy": 0.97, "macro_f1": 0.9}}, baselines={"test": {"majority": {"accuracy": 0.95}}}
    ),
    "a skipped evaluation": dataclasses.replace(GOOD, evals=[(100, {})]),
    "guessing among many labels": dataclasses.replace(
        GOOD, scores={"test": {"accuracy": 0.03, "macro_f1": 0.001}}, baselines={"test": {"majority": {"accuracy": 0.03}}}
    ),
    "a hard task, on which nothing does better": dataclasses.replace(GOOD, losses=falling(4.3, 3.9)),
    "falling, and validation is past its best": dataclasses.replace(
        GOOD, losses=falling(4.3, 1.9, flat=1.0), evals=[(50, {"accuracy": 0.905, "loss": 1.9}), (100, {"accuracy": 0.90, "loss": 2.0})]
    ),
    "noise that looks like a fall": dataclasses.replace(GOOD, losses=[4.3] * 60 + [2.0, 2.6] * 17 + [2.6] + [1.6, 2.4] * 2 + [1.6]),
    "a short run": dataclasses.replace(GOOD, losses=falling(4.3, 1.9, num=30, flat=1.0)),
    "three steps": dataclasses.replace(GOOD, losses=[4.3, 4.2, 4.1]),
    "a small data set in one step": dataclasses.replace(GOOD, batch_size=32, num_examples=20),
    "a few cut records": dataclasses.replace(GOOD, num_cut={"train": (9, 1000, 900)}),
}


@pytest.mark.parametrize("name", NO_FAULT)
def test_no_alarm(name):
    assert verdict(NO_FAULT[name]) == []
    assert contented(NO_FAULT[name]).startswith("nothing to mend")


def test_before_the_first_step():
    """What doctor says; of what every start warns of anyway it says nothing twice."""
    assert foresight(GOOD) == foresight(Observations()) == []
    faults = {"learning_rate": 1e3, "batch_size": 100_000, "num_examples": 2000, "label_counts": {"a": 95, "b": 5}, "num_seen": {"test": (9, 9)}}
    found = foresight(dataclasses.replace(GOOD, **faults))
    assert [one.rule for one in found] == ["rate", "large_batch", "rare_labels", "imbalance"]
    assert "'a' is 95% of all labels in train" in found[-1].line and found[-1].flag == "--config.task.main_metric=macro_f1"
    assert [one.rule for one in foresight(dataclasses.replace(GOOD, main_metric="macro_f1", label_counts={"a": 95, "b": 25}))] == []


def test_the_first_user():
    """BANKING77 with the packaged encoder and a base model's rate: the rate comes first, and each line has the flag that mends it."""
    seen = dataclasses.replace(GOOD, losses=falling(4.34, 3.8, flat=1.0), learning_rate=5e-5, scores={"test": {"accuracy": 0.183, "macro_f1": 0.1}})
    assert [(one.rule, one.flag) for one in verdict(seen)] == [
        ("rate", "--config.optim.learning_rate=0.0009"),
        ("underfit", "--config.optim.learning_rate=0.0009"),
        ("below_baseline", LARGER),
    ]


def test_every_rule_has_its_tests():
    known = {"rate", "underfit", "overfit", "below_baseline", "dominated", "large_batch", "rare_labels", "overlap", "cut_texts"}
    assert {rule for rule, *_ in FAULTS.values()} == known
    assert len(rules.RULES) == len(known)
