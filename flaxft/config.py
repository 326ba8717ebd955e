"""The config of a run: sections, checks that span them, from a file, to and from JSON. Each section's dataclass lives with its owner."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxft import config_file, files
from flaxft.checkpoint import Checkpointing
from flaxft.data import memory, splits
from flaxft.data.pipeline import Data
from flaxft.errors import UserError, nearest
from flaxft.log import Log
from flaxft.models.base import ModelSource
from flaxft.optim import Optim
from flaxft.sharding import Mesh
from flaxft.tasks.base import Task
from flaxft.watchdog import Watchdog

PLUG_INS = ("tasks", "models", "peft", "methods")  # the packages that a saved "type" may name
FACTS = ("data", "model", "tokenizer", "vocab_size", "max_length")  # what a run saves beside its config
# May differ on resume: they change how a run is computed, not what.
OPERATIONAL = (
    "mesh", "log", "checkpoint", "watchdog", "data.threads", "data.cache", "data.eval_tokens", "model.path", "model.revision", "model.remat", "model.attention",
)  # fmt: skip


@dataclasses.dataclass
class Eval:
    """One split, scored during training. The first in `Config.evals` picks the best checkpoint."""

    every: int = 0
    """How many steps lie between two evaluations of this split; 0 evaluates at the end of each epoch."""
    patience: int = 0
    """Training stops after so many evaluations in a row without a better main metric; 0 never stops early."""


@dataclasses.dataclass
class Config:
    """Everything that a run depends on."""

    task: Task
    """What is learnt, and from which records: one of the classes of flaxft.tasks, such as TokenClassification."""
    model: ModelSource
    """The pretrained encoder, or the fine-tuned model, that training begins with."""
    optim: Optim = dataclasses.field(default_factory=Optim)
    """The optimizer and its schedule."""
    data: Data = dataclasses.field(default_factory=Data)
    """How records become batches."""
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    """How the devices are divided between batch rows and parameters."""
    checkpoint: Checkpointing = dataclasses.field(default_factory=Checkpointing)
    """When a run is saved, and how many checkpoints stay."""
    log: Log = dataclasses.field(default_factory=Log)
    """How often a line is written, and where the numbers go."""
    watchdog: Watchdog = dataclasses.field(default_factory=Watchdog)
    """When a run that makes no progress is given up."""
    evals: dict[str, Eval] = dataclasses.field(default_factory=lambda: {"validation": Eval()})
    """The splits that are scored during training, by name; the first of them picks the best checkpoint."""
    num_epochs: float | None = None
    """How many times training goes through the train split; a fraction is allowed, such as 0.5. None is what suits the encoder and the number of examples."""
    num_steps: int | None = None
    """The number of optimizer steps, which wins over num_epochs where it is given; 0 trains nothing and evaluates the model as it is."""
    seed: int = 0
    """The number that the order of the data, dropout and new heads are drawn from; the same seed gives the same run."""

    def check(self) -> None:
        """Raises UserError for a value of the wrong type or one that cannot be meant. Lists become tuples, and data in memory become sources."""
        problems = self.problems()
        if problems:
            raise UserError("; ".join(problems))

    def problems(self) -> list[str]:
        """Everything that `check` finds, one line each. Where types are wrong, these alone: nothing else can be compared."""
        try:
            splits.settle(self.task)
        except UserError as error:
            return [str(error)]
        _make_tuples(self)
        found = _wrong_types(self, "")
        if found:
            return found
        for section in (self.optim, self.data, self.checkpoint, self.log, self.watchdog):
            wrong = list(wrong_fields(section).values())
            if not wrong:
                try:
                    section.check()  # what only several fields together get wrong
                except UserError as error:
                    wrong = [str(error)]
            found += wrong
        if not 0 <= self.seed < 2**32:
            found.append(f"seed is {self.seed}, expected from 0 to 2**32 - 1")
        if self.num_epochs is not None and not 0 < self.num_epochs < math.inf:
            found.append(f"num_epochs is {self.num_epochs}, expected a positive number; num_steps=0 trains nothing")
        if self.num_steps is not None and self.num_steps < 0:
            found.append(f"num_steps is {self.num_steps}, expected at least 0, or none to go by num_epochs")
        for name, one in self.evals.items():
            if one.every < 0 or one.patience < 0:
                found.append(f"evals.{name} is {one}, expected numbers that are not negative")
        return found


class _Callable(types.ModuleType):
    """This module can be called, so that `flaxft.config("intent")` is a config in whatever order the modules are imported."""

    def __call__(self, name: str) -> Config:
        return from_file(name)


sys.modules[__name__].__class__ = _Callable


def from_file(name: str) -> Config:
    """The config that a Python file's `get_config()` returns. Raises UserError.

    name: a path, or the name of a config that comes with flaxft, such as `intent`; `glue:sst2` hands sst2 to `get_config()`.
    """
    file, cfg = config_file.read(name)
    if not isinstance(cfg, Config):
        raise UserError(f"{file}: get_config() returned {type(cfg).__name__}, expected a flaxft.config.Config")
    return cfg


def check_types(value: Any, path: str) -> None:
    """Compares each field of a dataclass, and of those inside it, with its annotation. Raises UserError that lists all that differ."""
    wrong = _wrong_types(value, path)
    if wrong:
        raise UserError("; ".join(wrong))


def wrong_fields(section: Any) -> dict[str, str]:
    """Field -> what the section's `check` says of its value, where the others have their defaults."""
    found = {}
    for field in dataclasses.fields(section):
        try:
            type(section)(**{field.name: getattr(section, field.name)}).check()
        except UserError as error:
            found[field.name] = str(error)
    return found


def _wrong_types(value: Any, path: str) -> list[str]:
    hints = typing.get_type_hints(type(value))
    wrong = []
    for field in dataclasses.fields(value):
        found, name = getattr(value, field.name), f"{path}{field.name}"
        if not _is(found, hints[field.name]):
            wrong.append(f"{name} is {found!r}, expected {_name(hints[field.name])}")
        elif dataclasses.is_dataclass(found) and not isinstance(found, memory.InMemory):
            wrong += _wrong_types(found, f"{name}.")
        elif isinstance(found, dict):
            kind = (*typing.get_args(hints[field.name]), Any, Any)[1]
            wrong += [f"{name}.{key} is {one!r}, expected {_name(kind)}" for key, one in found.items() if not _is(one, kind)]
            wrong += [problem for key, one in found.items() if dataclasses.is_dataclass(one) for problem in _wrong_types(one, f"{name}.{key}.")]
    return wrong


def _is(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(_is(value, one) for one in typing.get_args(hint))
    if hint is Any:
        return True
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = typing.get_origin(hint) or hint
    if getattr(kind, "_is_protocol", False):  # a plug-in is a dataclass with the protocol's methods
        is_dataclass = dataclasses.is_dataclass(value) and not isinstance(value, type)
        return is_dataclass and all(hasattr(value, name) for name in vars(kind) if not name.startswith("_"))
    return isinstance(value, kind)


def _make_tuples(value: Any) -> None:
    """Of lists in the fields of a dataclass, and of those inside it, that are to be tuples."""
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        found, hint = getattr(value, field.name), hints[field.name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if isinstance(found, list) and any((typing.get_origin(kind) or kind) is tuple for kind in kinds):
            setattr(value, field.name, tuple(found))
        for one in found.values() if isinstance(found, dict) else (found,):
            if dataclasses.is_dataclass(one) and not isinstance(one, type) and not isinstance(one, memory.InMemory):
                _make_tuples(one)


def _name(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " | ".join(_name(kind).replace("NoneType", "None") for kind in typing.get_args(hint) if kind is not memory.InMemory)
    return hint.__name__ if isinstance(hint, type) and typing.get_origin(hint) is None else str(hint)


# ---- JSON -----------------------------------------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> Any:
    """Dataclasses become objects with their "type"; tuples become lists; records in memory their fingerprint and number."""
    if isinstance(value, memory.InMemory):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"type": name} | {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    return value


def from_json(value: Any, where: str, *, own: Sequence[type] = ()) -> Any:
    """The inverse. A "type" names a section, a class of flaxft's plug-in packages, or one of `own`; nothing else is imported. Raises UserError."""
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        cls = _class(value["type"], where, own)
        names = {field.name for field in dataclasses.fields(cls)}
        given = {key: from_json(one, where, own=own) for key, one in value.items() if key != "type"}
        unknown = sorted(set(given) - names)
        if unknown:
            raise UserError(f"{where}: {cls.__name__} has no field {unknown[0]!r}{nearest(unknown[0], names)}; was it written by another flaxft?")
        try:
            return cls(**given)
        except TypeError as error:
            raise UserError(f"{where}: {cls.__name__} cannot be built ({error})") from None
    if (gone := memory.from_json(value)) is not None:
        return gone
    if isinstance(value, dict):
        return {key: from_json(one, where, own=own) for key, one in value.items()}
    if isinstance(value, list):
        return tuple(from_json(one, where, own=own) for one in value)
    return value


def _class(name: Any, where: str, own: Sequence[type]) -> Any:
    known = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in (Config, Eval, Optim, Data, Mesh, Checkpointing, Log, Watchdog, *own)}
    if name in known:
        return known[name]
    package = Path(__file__).parent
    module, _, attribute = str(name).rpartition(".")
    allowed = {f"flaxft.{folder}.{file.stem}" for folder in PLUG_INS for file in (package / folder).glob("*.py")}
    if module not in allowed:
        raise UserError(f"{where}: type {name!r} is no part of flaxft; pass your own class with load(..., types=[...])")
    cls = getattr(importlib.import_module(module), attribute, None)
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{where}: {module} has no class {attribute!r}; was it written by another flaxft?")
    return cls


def save(file: Path, cfg: Config, facts: Mapping[str, Any]) -> None:
    """config.json: the resolved config, and the fingerprints of what its paths held."""
    files.write_json(file, {"config": to_json(cfg), "facts": dict(facts)})


def read(file: Path, *, own: Sequence[type] = ()) -> tuple[Config, dict[str, Any]]:
    """`(config, facts)` of a saved run. Raises UserError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        saved, facts = content["config"], dict(content["facts"])
    except FileNotFoundError:
        raise UserError(f"{file.parent} holds no run (no {file.name}); train first, or give another --workdir") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: damaged ({error}); restore it, or start a new workdir") from None
    try:
        cfg = from_json(saved, str(file), own=own)
    except RecursionError:
        raise UserError(f"{file}: damaged (nested too deep); restore it, or start a new workdir") from None
    if not isinstance(cfg, Config):
        raise UserError(f"{file}: holds no Config; restore it, or start a new workdir")
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise UserError(f"{file}: damaged (its facts lack {missing}); restore it, or start a new workdir")
    try:
        check_types(cfg, "")
    except UserError as error:
        raise UserError(f"{file}: damaged ({error}); restore it, or start a new workdir") from None
    return cfg, facts


def differences(old: Config, new: Config) -> list[str]:
    """`"optim.learning_rate: 5e-05 -> 0.1"` for each field in which a resumed run would differ. Data and model paths go by fingerprint, not here."""
    splits = {*old.task.splits(), *new.task.splits()}
    before, after = _decisive(old, splits), _decisive(new, splits)
    return [
        f"{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}"
        for name in sorted(set(before) | set(after))
        if before.get(name) != after.get(name)
    ]


def fingerprint(cfg: Config) -> str:
    """A sha256 over all that decides what is computed: equal where `differences` finds none."""
    splits = {*cfg.task.splits(), "train", "validation", "test"}
    return hashlib.sha256(json.dumps(_decisive(cfg, splits), sort_keys=True).encode()).hexdigest()


def _decisive(cfg: Config, splits: set[str]) -> dict[str, Any]:
    """Dotted field -> value, without those that are operational and those that are paths of `splits`."""
    fields = flat(to_json(cfg))
    paths = [name for name in fields if name.startswith("task.") and splits & {*name.split(".")[-2:]}]  # of a mixture's tasks too, and of records in memory
    return {name: value for name, value in fields.items() if not any(name == one or name.startswith(f"{one}.") for one in (*OPERATIONAL, *paths))}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of what `to_json` gives; a list is one value."""
    if not isinstance(value, dict):
        return {prefix.rstrip("."): value}
    return {name: leaf for key, one in value.items() for name, leaf in flat(one, f"{prefix}{key}.").items()}
