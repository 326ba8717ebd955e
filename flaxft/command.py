"""The command line: plain flags, the config they name, and its overrides."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from flaxft import config as configs
from flaxft import config_file, files, plugins, synonyms
from flaxft import flags as flags_of
from flaxft.config import Config, from_file
from flaxft.errors import UsageError, UserError, nearest, reason

SECTIONS = tuple(field.name for field in dataclasses.fields(Config))
TOP_K = 3  # scores of labels that a result has, where nothing is said
START = "start"  # a word of a sub-command that may be a file of data, a config or a run


class Command(NamedTuple):
    mode: str
    workdir: Path | None
    config: Config | None  # None where neither a file nor a run's folder gives one
    has_run: bool  # `config` is that of the run in `workdir`, for all modes but train
    origin: Path | None  # --from: the run whose weights training begins with
    data: str | None  # the file that a config was guessed from, or that one is to be written for
    notes: tuple[str, ...]  # what was guessed, in lines for people
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

    The first argument may be a sub-command, one of `modes`: it is --mode in a word, and the words behind it are what `flags.SUBCOMMANDS` says.
    All modes but `train` start from the config that a run saved in --workdir, and `train` from the file; overrides apply to either. Whether the values can be
    meant is not looked at: see `Config.check`.
    """
    plain, overrides, words = _split(arguments)
    subcommand = words.pop(0) if words and words[0] in modes else None
    values = _plain_flags(plain, modes, subcommand=subcommand)
    if words and not subcommand and flags_of.SUBCOMMANDS[values["mode"]].takes != ("*",):
        hint = nearest(words[0], modes) or (f"; did you mean flaxft {modes[0]} {words[0]}?" if Path(words[0]).exists() else "")
        raise UsageError(f"{words[0]!r} is no sub-command and no flag{hint}; see --help")
    runs, data = _place(words, values)
    overrides = _with_short_forms(values, overrides, data=data)
    mode = values["mode"]
    if values["seeds"] is not None:
        _check_seeds(values["seeds"], mode, overrides)
    workdir = files.path(values["workdir"]) if values["workdir"] else None
    if workdir is None and (data or values["config"]):
        workdir = Path("runs") / (_name_of(data) if data else Path(values["config"].partition(":")[0].removesuffix(".py")).name)
    cfg = from_file(values["config"]) if values["config"] else None
    has_run = False
    goes_by_file = mode == modes[0] or data is not None or (mode in ("doctor", "compile") and cfg is not None)
    if not goes_by_file and workdir and (workdir / "config.json").is_file():
        saved, _ = configs.read(workdir / "config.json", own=(type(cfg.task), type(cfg.model)) if cfg else ())
        other = next((one for one in overrides if one.startswith("--config.model.path=") and one.partition("=")[2] != saved.model.path), None)
        if other and values["workdir"]:
            raise UserError(f"{workdir} holds a run that began with {saved.model.path}, and {other} would not be used; leave out one of the two")
        if not other:  # another model is asked for, and the run only lies in the default place
            cfg, has_run = saved, True
    if values["from"]:
        overrides = [f"--config.task.train={data}", *overrides] if data and cfg is None else overrides
        cfg = _from_run(files.path(values["from"]), cfg, workdir, overrides)
    notes: tuple[str, ...] = ()
    if cfg is None and data:
        cfg, notes = _guessed(data, overrides)
    if cfg is None and overrides:
        raise UsageError(f"{overrides[0]} changes a config, but there is none; give --config=configs/ner.py")
    if cfg is not None:
        apply_overrides(cfg, overrides)
    others_of = {name: values[name] for name in Command._fields if name in values and name not in ("config", "workdir", "top_k")}
    origin, top_k = files.path(values["from"]) if values["from"] else None, _top_k(values["top_k"])
    return Command(
        workdir=workdir, config=cfg, has_run=has_run, data=data, notes=notes, origin=origin, top_k=top_k, runs=runs, **others_of
    )  # fmt: skip


# ---- words without dashes -------------------------------------------------------------------------------------------------------------------------


def _place(words: Sequence[str], values: dict[str, Any]) -> tuple[tuple[Path, ...], str | None]:
    """Puts each word of a sub-command where its flag would be, in `values`. Returns the runs of compare, and a file of data."""
    mode, data = values["mode"], None
    takes = list(flags_of.SUBCOMMANDS[mode].takes)
    if takes == ["*"]:
        return tuple(map(files.path, words)), None
    if len(words) > len(takes):
        usage = f"flaxft {mode} takes {flags_of.SUBCOMMANDS[mode].usage}; see flaxft {mode} --help"
        raise UsageError(f"{words[len(takes)]!r} is one word too many; {usage}")
    for word, name in zip(words, takes, strict=False):
        kind = _kind_of(word) if name == START else name
        if kind == "data" and data is not None:
            raise UsageError(f"{word!r} is a second file; say what it is for: --config.task.validation={word} or --config.task.test={word}")
        if kind == "data":
            data = word
        elif values[kind] is not None:
            raise UsageError(f"{word!r} and --{kind}={values[kind]} are both given; give it once")
        elif kind == "workdir" and name == START and mode == "train":
            raise UsageError(f"{word} is a run; the command that began it goes on with it, and flaxft eval {word} scores it")
        else:
            values[kind] = word
    return (), data


def _kind_of(word: str) -> str:
    """What a word is that may be several things: "workdir" of a run's folder, "config" of a config by file or name, or else "data"."""
    saved = Path(word).expanduser() / "config.json"
    if saved.is_file():
        content = saved.read_text(encoding="utf-8", errors="replace")
        if '"model_type"' in content and '"facts"' not in content:
            raise UsageError(f"{word} is a model, and not data; give --model={word}")
        return "workdir"
    is_script = word.partition(":")[0].endswith(".py")
    looks_named = re.fullmatch(r"[\w.-]+(:\w+)?", word) is not None and not Path(word).suffix
    if is_script or (not Path(word).exists() and (config_file.is_known(word) or looks_named)):
        return "config"
    return "data"


def _with_short_forms(values: dict[str, Any], overrides: Sequence[str], *, data: str | None) -> list[str]:
    """The overrides, with those that --model and a file beside a config stand for."""
    short = [f"--config.model.path={values['model']}"] if values["model"] is not None else []
    if data and values["config"]:
        short.append(f"--config.task.train={data}")
    return [*short, *overrides]


def _name_of(data: str) -> str:
    from flaxft.guess import name_of

    return name_of(data)


def _guessed(data: str, overrides: Sequence[str]) -> tuple[Config, tuple[str, ...]]:
    """A config for a file of data, and how it was guessed, as lines for people."""
    from flaxft.guess import ASKED, guess_config

    given = {one.partition("=")[0].removeprefix("--config."): one.partition("=")[2] for one in overrides}
    cfg, line = guess_config(data, asked={name: given.get(f"task.{name}", "") for name in ASKED})
    task = re.sub(r"(?<!^)(?=[A-Z])", " ", type(cfg.task).__name__).lower()
    model = given.get("model.path")
    encoder = f"encoder: {model}" if model else "encoder: the packaged small one; another with --model=DIRECTORY or a hub id"
    return cfg, (f"{data}: {task}; {line}", encoder)


# ---- overrides ------------------------------------------------------------------------------------------------------------------------------------


def _from_run(origin: Path, cfg: Config | None, workdir: Path | None, overrides: Sequence[str]) -> Config:
    """The config, or where there is none that of the run in `origin`, with that run as its model. Raises UserError."""
    if not (origin / "config.json").is_file():
        raise UserError(f"--from={origin} holds no run; give the workdir of one, or --config.model.path for a model directory")
    if workdir is None:
        raise UsageError(f"--workdir is missing: the run that goes on from {origin} needs a folder of its own")
    if workdir.absolute() == origin.absolute():
        raise UserError(f"--from={origin} is the --workdir itself; give another --workdir, or leave --from out to resume the run")
    given = next((one for one in overrides if one.startswith("--config.model.path=")), None)
    if given:
        raise UserError(f"--from={origin} and {given} both say where the weights are; leave out one of the two")
    if cfg is None:
        cfg = configs.read(origin / "config.json")[0]
        fields = {field.name for field in dataclasses.fields(cfg.task)}  # type: ignore[arg-type]  # every task is a dataclass
        if "labels" in fields and any(one.startswith("--config.task.train=") for one in overrides):
            cfg.task.labels = ()  # those of the run, if the new file has no others
    cfg.model.path = str(origin)
    return cfg


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
        try:
            owner, field = _find(cfg, name)
        except UserError as error:
            raise UserError(f"{error}{'' if 'did you mean' in str(error) else _elsewhere(cfg, name)}") from None
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


def _elsewhere(cfg: Config, name: str) -> str:
    """Of a dotted name that is no field: where the config has a field that is called so, or that is another word for it."""
    last = name.rpartition(".")[2].replace("-", "_")
    found = leaves(cfg).get(last) or leaves(cfg).get(synonyms.FIELDS.get(last, ""), [])
    return f"; did you mean {' or '.join(f'--config.{one}' for one in found)}?" if found else ""


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
    """Plain flags and overrides, each as one "--name=value", and what is no flag. `--optim.warmup=0` is `--config.optim.warmup=0`."""
    joined: list[str] = []
    others: list[str] = []
    for argument in arguments:
        is_word = not argument.startswith("-") or re.fullmatch(r"-|-\.?\d.*", argument) is not None  # a negative number is a value
        if is_word and joined and "=" not in joined[-1] and not joined[-1].startswith("--no"):
            joined[-1] += f"={argument}"
        elif is_word:
            others.append(argument)
        else:
            joined.append(re.sub(rf"^--(no)?({'|'.join(SECTIONS)})\.", r"--\1config.\2.", f"--{argument.lstrip('-')}"))
    overrides = [one for one in joined if re.match(r"--(no)?config\.", one)]
    return [one for one in joined if one not in overrides], overrides, others


def _plain_flags(arguments: Sequence[str], modes: Sequence[str], *, subcommand: str | None) -> dict[str, Any]:
    """Flag -> value, None where it is not given. Raises UsageError, which says what a flag that is not known may have been meant for."""
    values = flags.FlagValues()
    for name in (one for one in flags_of.FLAGS if one not in ("mode", "seeds")):
        flags.DEFINE_string(name, None, "", flag_values=values)
    flags.DEFINE_enum("mode", modes[0], list(modes), "", flag_values=values)
    flags.DEFINE_integer("seeds", None, "", flag_values=values)
    names = [one.partition("=")[0] for one in arguments]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"{twice} is given twice; give it once")
    unknown = next((one for one in arguments if one.partition("=")[0].lstrip("-") not in flags_of.FLAGS), "")
    if unknown:
        given = {one.partition("=")[0].lstrip("-"): one.partition("=")[2] for one in arguments}
        raise UsageError(_meant(unknown, given.get("config", "")))
    try:
        values(["flaxft", *arguments])
    except flags.Error as error:
        if number := re.match(r"flag --(\w+)=(.*?): invalid literal for int", str(error)):
            raise UsageError(f"--{number[1]} is {number[2]!r}, expected a whole number") from None
        raise UsageError(f"{reason(error).rstrip('.')}; see --help") from None
    found = {name: getattr(values, name) for name in flags_of.FLAGS}
    if subcommand and "--mode" in names:
        raise UsageError(f"{subcommand} and --mode={found['mode']} are both given; leave out --mode")
    found["mode"] = subcommand or found["mode"]
    for name, flag in flags_of.FLAGS.items():
        if found[name] is not None and flag.modes and found["mode"] not in flag.modes and name != "seeds":
            fields = " or ".join(f"--config.{one}" for one in _leaves(found["config"] or "").get(name, []))
            hint = f"; the field of a config is {fields}" if fields else ""
            raise UsageError(f"--{name} is for {_modes(flag.modes)}; leave it out, or give that mode{hint}")
    return found


def _meant(given: str, config_name: str) -> str:
    """What to say of a flag that is none: the field, the flag or the row of docs/migrating.md that may be meant."""
    flag, _, value = given.partition("=")
    name = flag.lstrip("-").replace("-", "_")
    own = synonyms.FIELDS.get(name, name)
    known = _leaves(config_name)
    fields = known.get(own, [])
    if fields:
        given_as = [f"--config.{field}{f'={value}' if value else ''}" for field in fields]
        return f"{flag} is no flag, but a field of the config; give {' or '.join(given_as)}"
    if said := synonyms.answer(name):
        return f"{flag} is no flag; here it is {said}"
    if own in SECTIONS:
        return f"{flag} is a section of the config; name one of its fields, such as --config.{own}.FIELD=VALUE; see flaxft train --help"
    short = next((one for one in flags_of.FLAGS if len(name) == 1 and one.startswith(name)), "")
    meant = f"; did you mean '--{short}'?" if short else nearest(f"--{name}", [f"--{one}" for one in flags_of.FLAGS])
    if not meant and (close := difflib.get_close_matches(name, known, n=1, cutoff=0.7)):
        meant = f"; did you mean --config.{known[close[0]][0]}?"
    return f"{flag} is no flag{meant}; see --help"


def _leaves(config_name: str) -> dict[str, list[str]]:
    """Last part -> dotted names of the fields that end so, in the config of that name, or else in any."""
    try:
        return leaves(from_file(config_name))
    except UserError:
        pass
    found: dict[str, list[str]] = {}
    hints = typing.get_type_hints(Config)
    classes = {name: [hint] for name, hint in hints.items() if dataclasses.is_dataclass(hint)} | {"task": plugins.tasks(), "model": plugins.models()}
    for section, kinds in classes.items():
        for name in dict.fromkeys(field.name for kind in kinds for field in dataclasses.fields(kind)):
            found.setdefault(name, []).append(f"{section}.{name}")
    return found | {name: [name] for name in hints if name not in classes and name != "evals"}


def leaves(value: Any, path: str = "") -> dict[str, list[str]]:
    """Last part -> dotted names of the fields of a config that end so: {"every": ["checkpoint.every", "log.every", ...], ...}."""
    inner = value.items() if isinstance(value, dict) else [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    found: dict[str, list[str]] = {}
    for name, one in inner:
        if dataclasses.is_dataclass(one) or (isinstance(one, dict) and any(map(dataclasses.is_dataclass, one.values()))):
            for leaf, names in leaves(one, f"{path}{name}.").items():
                found.setdefault(leaf, []).extend(names)
        else:
            found.setdefault(name, []).append(f"{path}{name}")
    return found


def _modes(names: Sequence[str]) -> str:
    return " or ".join(f"--mode={name}" for name in names)


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
