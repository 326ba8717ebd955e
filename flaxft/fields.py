"""The fields of a dataclass as people read them: name, type, default, and the docstring that stands below each field in the source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from typing import Any, NamedTuple

WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", tuple: "list", dict: "names with values", type(None): "none"}


class Row(NamedTuple):
    """One field, such as `("learning_rate", "number", "5e-05", "The peak of the schedule, such as 5e-5.")`."""

    name: str
    type: str
    default: str
    meaning: str


def rows(section: Any) -> list[Row]:
    """The fields of a dataclass with their defaults, or of an object of one with its values; a field without default has an empty one."""
    cls = section if isinstance(section, type) else type(section)
    hints, meanings = typing.get_type_hints(cls), docstrings(cls)
    return [Row(field.name, type_words(hints[field.name]), _value_of(section, field), meanings.get(field.name, "")) for field in dataclasses.fields(cls)]


def _value_of(section: Any, field: dataclasses.Field[Any]) -> str:
    if not isinstance(section, type):
        return value_words(getattr(section, field.name))
    if field.default is not dataclasses.MISSING:
        return value_words(field.default)
    return value_words(field.default_factory()) if field.default_factory is not dataclasses.MISSING else ""


@functools.cache
def docstrings(cls: type) -> dict[str, str]:
    """Field -> the text below it in the class or in one that it inherits from, on one line; without the fields that have none."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        except (OSError, TypeError, SyntaxError):  # a class of a module that has no source, such as object
            continue
        assert isinstance(body, ast.ClassDef), body
        for field, below in zip(body.body, body.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def type_words(hint: Any) -> str:
    """An annotation in words: "whole number or none" of `int | None`, "list" of `tuple[str, ...]`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(type_words(one) for one in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if kind in WORDS:
        return WORDS[kind]
    return str(getattr(kind, "words", getattr(kind, "__name__", kind)))


def value_words(value: Any) -> str:
    """A value as it is written on the command line: `true`, `none`, `a,b`; "empty" of a text, list or table without content."""
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    if isinstance(value, str | tuple | list | dict) and not value:
        return "empty"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {value_words(one)}" for name, one in value.items())
    return {True: "true", False: "false", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)
