"""What an encoder's recipe fills in, and what it leaves alone."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from flaxft import recipe
from flaxft.config import Config
from flaxft.models.base import Modules
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.mixture import Mixture
from flaxft.tasks.sentence_embedding import SentenceEmbedding
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.tasks.token_classification import TokenClassification


def checkpoint(hidden_size: int, *, is_sentence_encoder: bool = False, own: str | None = None) -> Any:
    modules = None if own is None else Modules(own, False, ())
    return SimpleNamespace(encoder=SimpleNamespace(hidden_size=hidden_size), is_sentence_encoder=is_sentence_encoder, modules=modules)


def completed(cfg: Config, of: Any, *, num_examples: int) -> tuple[Config, tuple[recipe.Choice, ...]]:
    """As a run completes it."""
    cfg, first = recipe.of_encoder(cfg, of)
    cfg, then = recipe.of_data(cfg, of, num_examples=num_examples)
    return cfg, first + then


def config(**changes: Any) -> Config:
    return dataclasses.replace(Config(task=SequenceClassification(), model=Pretrained()), **changes)


@pytest.mark.parametrize(("hidden_size", "rate"), [(192, 1e-3), (256, 1e-3), (312, 3e-4), (384, 3e-4), (768, 5e-5), (1024, 2e-5)])
def test_the_rate_goes_by_the_size_of_the_encoder(hidden_size, rate):
    cfg, choices = completed(config(), checkpoint(hidden_size), num_examples=5000)
    assert cfg.optim.learning_rate == rate
    assert cfg.optim.warmup == recipe.WARMUP
    assert {one.field for one in choices} == {"optim.learning_rate", "optim.warmup", "num_epochs"}
    low, high = recipe.band(checkpoint(hidden_size))
    assert low < rate < high


def test_a_task_may_want_another_rate():
    cfg, choices = completed(config(task=SentenceEmbedding()), checkpoint(768), num_examples=5000)
    assert cfg.optim.learning_rate == pytest.approx(1.5e-5)
    assert "times 0.3 for this task" in recipe.line(choices)


def test_what_the_config_says_stays():
    given = config(optim=Optim(learning_rate=7e-5, warmup=0.0), num_epochs=2.5)
    cfg, choices = completed(given, checkpoint(384), num_examples=10)
    assert cfg == given
    assert choices == ()
    assert recipe.line(choices) == "recipe: the config's own"


def test_a_number_of_steps_leaves_no_epochs_to_choose():
    cfg, choices = completed(config(num_steps=7), checkpoint(384), num_examples=10)
    assert cfg.num_epochs is None
    assert "num_epochs" not in {one.field for one in choices}


def test_a_sentence_encoder_is_pooled_by_the_mean_where_nothing_is_said():
    found = [completed(config(), checkpoint(384, is_sentence_encoder=is_one), num_examples=100)[0].task.pooling for is_one in (True, False)]  # type: ignore[attr-defined]
    assert found == ["mean", None]
    for own, pooling in (("cls", "cls"), ("max", "mean")):  # its own modules decide, where a sequence head can do the same
        task = completed(config(), checkpoint(384, is_sentence_encoder=True, own=own), num_examples=100)[0].task
        assert task.pooling == pooling  # type: ignore[attr-defined]
    asked = config(task=SequenceClassification(pooling="cls"))
    assert completed(asked, checkpoint(384, is_sentence_encoder=True), num_examples=100)[0].task == asked.task
    words = config(task=TokenClassification())
    assert completed(words, checkpoint(384, is_sentence_encoder=True), num_examples=100)[0].task == words.task
    several = config(task=Mixture(tasks={"a": SequenceClassification(), "b": TokenClassification()}))
    task = completed(several, checkpoint(384, is_sentence_encoder=True), num_examples=100)[0].task
    assert task.tasks["a"].pooling == "mean"  # type: ignore[attr-defined]


def test_few_examples_get_more_epochs_up_to_a_bound():
    size = recipe.size_of(checkpoint(384))
    epochs = [completed(config(), checkpoint(384), num_examples=n)[0].num_epochs for n in (100_000, 5000, 1000, 100, 1)]
    assert epochs == sorted(epochs)
    assert epochs[0] == size.num_epochs
    assert epochs[-1] == size.max_epochs
    steps = epochs[2] * -(-1000 // 32)
    assert steps >= size.num_steps or epochs[2] == size.max_epochs


def test_the_line_names_value_and_reason():
    _, choices = completed(config(), checkpoint(192), num_examples=5000)
    assert "optim.learning_rate 0.001 (very small encoder, hidden size 192)" in recipe.line(choices)
    _, choices = completed(config(), checkpoint(192), num_examples=40)
    assert "are few" in recipe.line(choices)
