"""What an encoder's recipe fills in, and what it leaves alone."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from flaxft import recipe
from flaxft.config import Config
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.sequence_classification import SequenceClassification


def checkpoint(hidden_size: int) -> Any:
    return SimpleNamespace(encoder=SimpleNamespace(hidden_size=hidden_size))


def config(**changes: Any) -> Config:
    return dataclasses.replace(Config(task=SequenceClassification(), model=Pretrained()), **changes)


@pytest.mark.parametrize(("hidden_size", "rate"), [(192, 1e-3), (256, 1e-3), (312, 3e-4), (384, 3e-4), (768, 5e-5), (1024, 2e-5)])
def test_the_rate_goes_by_the_size_of_the_encoder(hidden_size, rate):
    cfg, choices = recipe.complete(config(), checkpoint(hidden_size), num_examples=5000)
    assert cfg.optim.learning_rate == rate
    assert cfg.optim.warmup == recipe.WARMUP
    assert {one.field for one in choices} == {"optim.learning_rate", "optim.warmup", "num_epochs"}
    low, high = recipe.band(checkpoint(hidden_size))
    assert low < rate < high


def test_what_the_config_says_stays():
    given = config(optim=Optim(learning_rate=7e-5, warmup=0.0), num_epochs=2.5)
    cfg, choices = recipe.complete(given, checkpoint(384), num_examples=10)
    assert cfg == given
    assert choices == ()
    assert recipe.line(choices) == ""


def test_few_examples_get_more_epochs_up_to_a_bound():
    size = recipe.size_of(checkpoint(384))
    epochs = [recipe.complete(config(), checkpoint(384), num_examples=n)[0].num_epochs for n in (100_000, 5000, 1000, 100, 1)]
    assert epochs == sorted(epochs)
    assert epochs[0] == size.num_epochs
    assert epochs[-1] == size.max_epochs
    steps = epochs[2] * -(-1000 // 32)
    assert steps >= size.num_steps or epochs[2] == size.max_epochs


def test_the_line_names_value_and_reason():
    _, choices = recipe.complete(config(), checkpoint(192), num_examples=5000)
    assert "optim.learning_rate 0.001 (very small encoder, hidden size 192)" in recipe.line(choices)
    _, choices = recipe.complete(config(), checkpoint(192), num_examples=40)
    assert "are few" in recipe.line(choices)
