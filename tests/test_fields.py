"""Fields as people read them, and that each of them says what it is."""

from __future__ import annotations

import dataclasses
import typing
from typing import ClassVar

import pytest

from flaxft import plugins
from flaxft.config import Config, Eval
from flaxft.fields import docstrings, rows, type_words, value_words

SECTIONS = [hint for hint in typing.get_type_hints(Config).values() if dataclasses.is_dataclass(hint)]
CLASSES = [Config, Eval, *SECTIONS, *plugins.tasks(), *plugins.models()]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_field_says_what_it_is(cls):
    for row in rows(cls):
        assert len(row.meaning.split()) >= 4, f"{cls.__name__}.{row.name}: write a docstring below the field: what it is, its unit, what the default means"
        assert row.meaning[0].isupper() and row.meaning.endswith("."), f"{cls.__name__}.{row.name}: {row.meaning}"


def test_all_kinds_of_classes_are_looked_at():
    assert len(SECTIONS) >= 6
    assert len(plugins.tasks()) >= 10
    assert plugins.models()


@dataclasses.dataclass
class Base:
    size: int = 3
    """Number of things,
    as a worked example."""
    silent: bool = False


@dataclasses.dataclass
class Child(Base):
    kind: ClassVar[str] = "a"
    names: tuple[str, ...] = ()
    """The names."""
    size: int = 4


def test_rows_have_the_defaults_of_a_class_and_the_values_of_an_object():
    assert rows(Child) == [
        ("size", "whole number", "4", "Number of things, as a worked example."),
        ("silent", "true or false", "false", ""),
        ("names", "list", "empty", "The names."),
    ]
    assert rows(Child(names=("a", "b")))[2] == ("names", "list", "a,b", "The names.")
    assert docstrings(int) == {}


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "whole number or none"),
        (float, "number"),
        (tuple[str, ...], "list"),
        (str | tuple[float, ...] | None, "text or list or none"),
        (dict[str, float], "names with values"),
        (typing.Optional[int], "whole number or none"),  # noqa: UP045
    ],
)
def test_types_in_words(hint, words):
    assert type_words(hint) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"),
        (True, "true"),
        (0, "0"),
        (1, "1"),
        (5e-5, "5e-05"),
        ("", "empty"),
        ((), "empty"),
        (("a", "b"), "a,b"),
        ({"a": 1.0}, "a: 1.0"),
        (Eval(), "Eval"),
    ],
)
def test_values_in_words(value, words):
    assert value_words(value) == words
