"""The classes of the plug-in folders: every task and every model source, found by what they have."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from pathlib import Path

NOT_PLUGINS = ("__init__", "base")


def tasks() -> list[type]:
    """The task classes of flaxft/tasks, in the order of their files."""
    return _classes("tasks", method="features")


def models() -> list[type]:
    """The classes of flaxft/models that a config's `model` may be."""
    return _classes("models", method="load")


@functools.cache
def _classes(folder: str, *, method: str) -> list[type]:
    """The dataclasses that a folder's modules define themselves, with this method."""
    names = sorted(file.stem for file in (Path(__file__).parent / folder).glob("*.py") if file.stem not in NOT_PLUGINS)
    modules = [importlib.import_module(f"flaxft.{folder}.{name}") for name in names]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    return [value for value in found if dataclasses.is_dataclass(value) and hasattr(value, method)]
