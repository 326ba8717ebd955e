"""The command line: plain flags, the config they name, and its overrides."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from flaxft import config as configs
from flaxft import files
from flaxft.config import Config, from_file
from flaxft.errors import UsageError, UserError, nearest, reason

PLAIN = ("config", "workdir", "mode", "from", "input", "output", "keep", "top_k", "seeds", "target", "task", "dtype", "topology")
TOP_K = 3
ONLY = {  # flags of one mode
    "from": "train", "input": "predict", "keep": "predict", "top_k": "predict",
    "target": "export", "task": "export", "dtype": "export", "topology": "compile",
}  # fmt: skip


class Command(NamedTuple):
    mode: str
    workdir: Path | None
    config: Config | None  # None where neither a file nor a run's folder gives one
    has_run: bool  # `config` is that of the run in `workdir`, for all modes but train
    origin: Path | None  # --from: the run whose weights training begins with
    input: str | None
    output: str | None
    keep: str | None  # for predict: columns of the input, with commas between
    top_k: int | None  # for predict: so many scores of labels, None for all
    seeds: int | None  # for train: so many runs
    target: str | None  # this and the next two are of export
    task: str | None
    dtype: str | None
    topology: str | None  # for compile
    runs: tuple[Path, ...]  # for compare


def parse(arguments: Sequence[str], *, modes: Sequence[str]) -> Command:
    """Raises UsageError for a wrong flag, UserError for a wrong config or field.

    All modes but `train` start from the config that a run saved in --workdir, and `train` from the file; overrides apply to either. Whether the values can be
    meant is not looked at: see `Config.check`.
    """
    plain, overrides, others = _split(arguments)
    values = _plain_flags(plain, modes)
    if others and values["mode"] != "compare":
        raise UsageError(f"{others[0]!r} is no flag; see --help")
    if values["seeds"] is not None:
        _check_seeds(values["seeds"], values["mode"], overrides)
    workdir = files.path(values["workdir"]) if values["workdir"] else None
    if workdir is None and values["config"]:
        workdir = Path("runs") / Path(values["config"].rpartition(".py")[0] or values["config"]).name
    cfg = from_file(values["config"]) if values["config"] else None
    has_run = False
    goes_by_file = values["mode"] == modes[0] or (values["mode"] in ("doctor", "compile") and cfg is not None)
    if not goes_by_file and workdir and (workdir / "config.json").is_file():
        saved, _ = configs.read(workdir / "config.json", own=(type(cfg.task), type(cfg.model)) if cfg else ())
        other = next((one for one in overrides if one.startswith("--config.model.path=") and one.partition("=")[2] != saved.model.path), None)
        if other and values["workdir"]:
            raise UserError(f"{workdir} holds a run that began with {saved.model.path}, and {other} would not be used; leave out one of the two")
        if not other:  # another model is asked for, and the run only lies in the default place
            cfg, has_run = saved, True
    if cfg is None and overrides:
        raise UsageError(f"{overrides[0]} changes a config, but there is none; give --config=configs/ner.py")
    if cfg is not None:
        apply_overrides(cfg, overrides)
    others_of = {name: values[name] for name in PLAIN if name not in ("config", "workdir", "from", "top_k")}
    origin, top_k = files.path(values["from"]) if values["from"] else None, _top_k(values["top_k"])
    return Command(workdir=workdir, config=cfg, has_run=has_run, origin=origin, top_k=top_k, runs=tuple(map(files.path, others)), **others_of)


def apply_overrides(cfg: Config, overrides: Sequence[str]) -> None:
    """`--config.optim.learning_rate=3e-5` and the like, typed by the field's annotation. Raises UserError: got, expected, nearest name."""
    # Not ml_collections.config_flags: it reads annotations as written, and fails on those that `from __future__ import annotations` leaves as strings.
    seen: set[str] = set()
    for override in overrides:
        flag, given, text = override.partition("=")
        name = re.sub(r"^--(no)?config\.", "", flag)
        if name in seen:
            raise UsageError(f"--config.{name} is given twice; give it once")
        seen.add(name)
        owner, field = _find(cfg, name)
        value = owner[field] if isinstance(owner, dict) else getattr(owner, field)
        hint = type(value) if dataclasses.is_dataclass(value) or isinstance(owner, dict) else typing.get_type_hints(type(owner))[field]
        if given and flag.startswith("--no"):
            raise UsageError(f"{flag} takes no value; give --config.{name}={text}")
        if not given and bool not in (hint, *typing.get_args(hint)):
            raise UsageError(f"{flag} is missing its value; give --config.{name}=VALUE")
        if not given:
            text = "false" if flag.startswith("--no") else "true"
        try:
            setattr(owner, field, _value(text, hint))
        except ValueError:
            raise UserError(f"--config.{name} is {text!r}, expected {_words(hint)}") from None


def _value(text: str, hint: Any) -> Any:
    """Text as a value of the annotated type. Raises ValueError."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in allowed and text.lower() == "none":
        return None
    if bool in allowed:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    for kind in (int, float, str):
        if kind in allowed:
            return kind(text)
    if any(typing.get_origin(kind) is tuple for kind in allowed):  # `a,b`, `('a', 'b')` and `["a", "b"]` alike
        return tuple(part for one in text.strip("()[] ").split(",") if (part := one.strip().strip("'\"")))
    raise ValueError(text)


def _words(hint: Any) -> str:
    if dataclasses.is_dataclass(hint):
        return f"one of its fields: {', '.join(field.name for field in dataclasses.fields(hint))}"
    if isinstance(hint, types.UnionType):
        return ", or ".join(map(_words, typing.get_args(hint)))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", types.NoneType: "none"}
    return names.get(hint, str(hint))


def _top_k(text: str | None) -> int | None:
    """How many scores of labels a result has: three where nothing is said, None for all of them."""
    if text in ("all", "0"):
        return None
    if text is not None and not (text.isascii() and text.isdecimal()):
        raise UsageError(f"--top_k={text}, expected how many scores of labels to write of each text, such as 3, or all")
    return TOP_K if text is None else int(text)


def _check_seeds(num: int, mode: str, overrides: Sequence[str]) -> None:
    if mode != "train":
        raise UsageError(f"--seeds is for --mode=train, not for {mode}; leave it out")
    if num < 1:
        raise UsageError(f"--seeds is {num}, expected how many runs: at least 1")
    given = next((one for one in overrides if one.startswith("--config.seed=")), None)
    if given:
        raise UsageError(f"{given} and --seeds={num} are both given, and --seeds runs the seeds 1 to {num}; leave out one of the two")


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Plain flags and overrides, each as one "--name=value", and what is no flag."""
    joined: list[str] = []
    others: list[str] = []
    for argument in arguments:
        if not argument.startswith("-") and joined and "=" not in joined[-1]:
            joined[-1] += f"={argument}"
        elif argument.startswith("-"):
            joined.append(f"--{argument.lstrip('-')}")
        else:
            others.append(argument)
    overrides = [one for one in joined if re.match(r"--(no)?config\.", one)]
    return [one for one in joined if one not in overrides], overrides, others


def _plain_flags(arguments: Sequence[str], modes: Sequence[str]) -> dict[str, Any]:
    values = flags.FlagValues()
    for name in (one for one in PLAIN if one not in ("mode", "seeds")):
        flags.DEFINE_string(name, None, "", flag_values=values)
    flags.DEFINE_enum("mode", modes[0], list(modes), "", flag_values=values)
    flags.DEFINE_integer("seeds", None, "", flag_values=values)
    names = [one.partition("=")[0] for one in arguments]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"{twice} is given twice; give it once")
    try:
        values(["flaxft", *arguments])
    except flags.Error as error:
        unknown = next((name.lstrip("-") for name in names if name.lstrip("-") not in PLAIN), "")
        raise UsageError(reason(error).rstrip(".") + nearest(unknown, PLAIN) + "; see --help") from None
    found = {name: getattr(values, name) for name in PLAIN}
    idle = next((name for name, mode in ONLY.items() if found[name] is not None and found["mode"] != mode), None)
    if idle:
        raise UsageError(f"--{idle} is for --mode={ONLY[idle]}; leave it out, or give that mode")
    return found


def _find(cfg: Any, name: str) -> tuple[Any, str]:
    """The object that holds the last part of a dotted name, and that part."""
    owner, path = cfg, "config"
    *parents, last = name.split(".")
    for part in parents:
        owner = _child(owner, part, path)
        path = f"{path}.{part}"
    _child(owner, last, path)
    return owner, last


def _child(owner: Any, part: str, path: str) -> Any:
    if isinstance(owner, dict):
        known = list(owner)
    elif dataclasses.is_dataclass(owner):
        known = [field.name for field in dataclasses.fields(owner)]
    else:
        known = []
    if part not in known:
        allowed = f"known are {', '.join(known)}" if known else "it has no fields"
        raise UserError(f"--{path}.{part}: {type(owner).__name__} has no field {part!r}{nearest(part, known)}; {allowed}")
    return owner[part] if isinstance(owner, dict) else getattr(owner, part)
