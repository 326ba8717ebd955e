"""What a program wants to be told during a run: `flaxft.run(cfg, workdir, callbacks=[MyCallback()])`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flaxft import processes
from flaxft.errors import UserError, nearest


class Callback(Protocol):
    """Subclass it and write the methods that you want; the others do nothing. They are called in the process that trains, between two steps, and by the
    first process alone where there are several. What they raise ends the run, as an error of the run's own would; it goes on from its last checkpoint."""

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """At every log line, and so every `log.every` steps. metrics: loss, grad_norm, learning_rate, useful_tokens_per_second and the like."""

    def on_evaluation(self, step: int, split: str, scores: Mapping[str, float]) -> None:
        """After each evaluation during training. scores: all of them, with those of your own metrics."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """When a checkpoint is saved; its files are being written to `folder` meanwhile, and are whole when they have a manifest."""

    def on_end(self, results: Mapping[str, Any]) -> None:
        """Once, when all is scored and written. results: what results.json holds."""


METHODS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class Callbacks:
    """All callbacks of a run, in the order in which they were given; one that lacks a method is not asked for it."""

    def __init__(self, callbacks: Sequence[Callback]):
        """Raises UserError for an object that none of the methods is of, and for a method whose name is near one of them."""
        for number, one in enumerate(callbacks):
            _check(one, f"callbacks[{number}]")
        self._callbacks = list(callbacks) if processes.is_first() else []

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._call("on_log", step, metrics)

    def on_evaluation(self, step: int, split: str, scores: Mapping[str, float]) -> None:
        self._call("on_evaluation", step, split, dict(scores))

    def on_checkpoint(self, step: int, folder: Path) -> None:
        self._call("on_checkpoint", step, folder)

    def on_end(self, results: Mapping[str, Any]) -> None:
        self._call("on_end", results)

    def _call(self, method: str, *arguments: Any) -> None:
        for one in self._callbacks:
            if (function := getattr(one, method, None)) is not None:
                function(*arguments)


def _check(callback: object, name: str) -> None:
    allowed = f"expected an object with {', '.join(METHODS)} (subclass flaxft.Callback)"
    if isinstance(callback, type):
        raise UserError(f"{name} is the class {callback.__name__}, {allowed}; give {callback.__name__}()")
    own = [method for method in dir(callback) if method.startswith("on_") and callable(getattr(callback, method))]
    if not own:
        raise UserError(f"{name} is of the type {type(callback).__name__}, {allowed}")
    if unknown := [method for method in own if method not in METHODS and nearest(method, METHODS)]:
        raise UserError(f"{name} has a method {unknown[0]}, which is none of {', '.join(METHODS)}{nearest(unknown[0], METHODS)}")
