"""benchmarks/dropout_generator.py trains with the generator that it says, and its table is that of the runs."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from benchmarks import dropout_generator
from flaxft.ops import dropout


def test_each_seed_has_both_generators():
    own, ran = dropout.random_bits, []

    def run(seed):
        mask = dropout.dropout(np.ones((4, 8), np.float32), 0.5, key=jax.random.key(seed))
        ran.append((seed, dropout.random_bits is own, np.asarray(mask).tolist()))
        return {"first": 2.0, "last": 1.0}

    found = dropout_generator.compare(run, [1, 2])
    assert [(seed, is_own) for seed, is_own, _ in ran] == [(1, True), (1, False), (2, False), (2, True)]
    assert ran[0][2] != ran[1][2], "the same masks: the other generator was not used"
    assert [len(one) for one in found.values()] == [2, 2]
    assert dropout.random_bits is own


def test_the_table():
    def side(*losses):
        return [{"first": 2.0, "last": loss, "validation": 50.0, "test": 40.0} for loss in losses]

    text = dropout_generator.table({"own": side(1.0, 1.2, 1.1), "default": side(0.9, 1.2, 1.05)})
    (line,) = [line for line in text.split("\n") if line.startswith("| mean loss, last")]
    differences = np.array([0.1, 0.0, 0.05])
    assert line == f"| mean loss, last 50 steps | 1.1000 ± 0.1000 | 1.0500 ± 0.1500 | +0.0500 | {0.05 / (differences.std(ddof=1) / 3**0.5):+.1f} |"


def test_one_seed_has_no_spread(capsys):
    with pytest.raises(SystemExit):
        dropout_generator.main(["--data=d", "--out=o.json", "--seeds", "1"])
    assert "two or more" in capsys.readouterr().err
