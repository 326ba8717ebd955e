"""The text of --help: examples, sub-commands, their flags, and every field of the config with its default and its meaning."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flaxft import config_file
from flaxft.errors import UsageError, nearest
from flaxft.flags import BY_CONFIG, FIRST, FLAGS, SUBCOMMANDS

ASKS = ("-h", "--help", "-help", "--helpfull", "--helpshort")
EXAMPLES = (
    ("flaxft train tickets.csv", "your own file; its columns are guessed"),
    ("flaxft doctor tickets.csv", "look at it without training"),
    ("flaxft init tickets.csv", "write a config for it, to change"),
    ("flaxft predict runs/tickets new.csv", "apply the result to new texts"),
    ("flaxft eval runs/tickets", "score it again"),
    ("flaxft export runs/tickets", "for PyTorch transformers"),
    ("flaxft train --config=ner", "a config of flaxft, on its demo data"),
    ("flaxft train --config=ner --config.seed=1", "every field of a config is a flag"),
    ("flaxft compare runs/a runs/b", "side by side"),
    ("flaxft doctor", "this machine and installation"),
)
NARROW, WIDE = 60, 100  # columns that a text is wrapped to, at least and at most
INDENT = 6  # of the meaning of a field


def is_asked(arguments: Sequence[str]) -> bool:
    """Whether arguments ask for help rather than for a command."""
    return arguments[:1] == ["help"] or any(one in ASKS or one.startswith(("--help=", "--help-")) for one in arguments)


def text(arguments: Sequence[str]) -> str:
    """What help says for these arguments: of a sub-command, of sections named behind it, or in general. Raises UsageError for a word that is neither."""
    topics = [one.partition("=")[2] for one in arguments if one.startswith("--help=")]
    words = [*topics, *(one for one in arguments if not one.startswith("-"))]
    mode = next((one.partition("=")[2] for one in arguments if one.startswith("--mode=")), "")
    words = [word for word in [mode, *words] if word and word != "help"]
    by_config = any(one.startswith(("--config", "-config")) for one in arguments)
    if words and words[0] in SUBCOMMANDS:
        return of_subcommand(words[0], words[1:], arguments)
    if by_config:
        return of_subcommand(FIRST, words, arguments)
    if words and words[0] in ("all", *_sections()):
        return of_fields(words, _config(words, arguments))
    if words:
        raise UsageError(f"{words[0]!r} is no sub-command{nearest(words[0], SUBCOMMANDS)}; known are {', '.join(SUBCOMMANDS)}")
    return general()


def general() -> str:
    """The short help: usage, examples that work, sub-commands."""
    width = _width()
    lines = ["Fine-tunes BERT-family encoders on labelled text.", "", "examples:"]
    lines += _table(EXAMPLES, width)
    lines += ["", "sub-commands:"]
    lines += _table([(name, one.meaning) for name, one in SUBCOMMANDS.items()], width)
    lines += ["", "more:"]
    more = (
        ("flaxft COMMAND --help", "the flags of a sub-command"),
        ("flaxft train --help", "every field of the config, with default and meaning"),
        ("flaxft train --help optim", "those of one section"),
        ("flaxft --version", ""),
    )
    lines += _table(more, width)
    lines += ["", *textwrap.wrap("python -m flaxft.main --mode=COMMAND is the same program.", width)]
    return "\n".join(lines)


def of_subcommand(name: str, topics: Sequence[str], arguments: Sequence[str]) -> str:
    """Usage, examples and flags of a sub-command; of those that go by a config its fields too, or only those of the sections named in `topics`."""
    width, one = _width(), SUBCOMMANDS[name]
    known = ("all", *filter(None, _sections())) if topics else ()
    odd = next((topic for topic in topics if topic not in known and not Path(topic).exists() and not config_file.is_known(topic)), "")
    if odd:
        raise UsageError(f"{odd!r} is no section of a config{nearest(odd, known)}; known are {', '.join(known)}")
    topics = [topic for topic in topics if topic in known]
    if topics:
        return of_fields(topics, _config(topics, arguments))
    fields = " [--config.SECTION.FIELD=VALUE ...]" if name in BY_CONFIG else ""
    usage = f"flaxft {name} {one.usage} [--FLAG=VALUE ...]{fields}"
    lines = textwrap.wrap(usage, width, initial_indent="usage: ", subsequent_indent=" " * 8, break_on_hyphens=False)
    lines += ["", *textwrap.wrap(f"{one.meaning[0].upper()}{one.meaning[1:]}.", width), "", "examples:"]
    lines += [f"  {example}" for example in one.examples]
    lines += ["", "flags:"]
    lines += _table([(f"--{flag}={it.value}", it.meaning_for(name)) for flag, it in FLAGS.items() if not it.modes or name in it.modes], width)
    if name == FIRST:
        return "\n".join([*lines, "", of_fields(["all"], _config([], arguments))])
    if name in BY_CONFIG:
        lines += ["", *textwrap.wrap("Every field of the config is a flag too: flaxft train --help has them.", width)]
    return "\n".join(lines)


# ---- fields ---------------------------------------------------------------------------------------------------------------------------------------


def of_fields(topics: Sequence[str], cfg: Any) -> str:
    """The fields of some sections, or with "all" of every one, as flags. `cfg` has the values and the task; without one all tasks are listed on demand."""
    width = _width()
    chosen = list(_sections()) if "all" in topics else list(dict.fromkeys(topics))
    lines = ["fields of the config:"] if "all" in topics else []
    if "all" in topics:
        said = "Each is a flag, --config.optim.learning_rate=1e-4, and `config.` may be left out before a section. The default stands behind the type"
        said += ", as this config has it." if cfg else "."
        lines += textwrap.wrap(said, width, initial_indent="  ", subsequent_indent="  ")
    for section in chosen:
        lines += ["", *_section(section, cfg, is_alone="all" not in topics)]
    return "\n".join(lines).strip("\n")


def _section(name: str, cfg: Any, *, is_alone: bool) -> Iterator[str]:
    from flaxft import plugins
    from flaxft.config import Config, Eval
    from flaxft.fields import rows

    hint = typing.get_type_hints(Config)[name] if name else None
    if not name:
        named = [row for row in rows(cfg or Config) if row.name not in _sections()]
        yield from _rows("the run", "", named)
    elif name in ("task", "model") and cfg is None:
        classes = plugins.tasks() if name == "task" else plugins.models()
        if not is_alone and name == "task":
            yield f"{name}: its fields depend on the task"
            said = "flaxft train --help task has those of every task, flaxft train --config=ner --help those of one."
            yield from textwrap.wrap(said, _width(), initial_indent="  ", subsequent_indent="  ")
            return
        for cls in (one for one in classes if dataclasses.fields(one)):
            yield from _rows(f"{name} = {cls.__name__}", f"{name}.", rows(cls), summary=cls.__doc__)
            yield ""
    elif name == "evals":
        names = list(cfg.evals) if cfg else ["validation"]
        for one in names:
            yield from _rows(f"evals.{one}", f"evals.{one}.", rows(cfg.evals[one] if cfg else Eval), summary=Eval.__doc__)
    else:
        value = getattr(cfg, name) if cfg else hint
        cls = value if isinstance(value, type) else type(value)
        title = name if cls is hint else f"{name} = {cls.__name__}"
        yield from _rows(title, f"{name}.", rows(value), summary=cls.__doc__)


def _rows(title: str, prefix: str, found: Sequence[Any], *, summary: str | None = None) -> Iterator[str]:
    width = _width()
    first = (summary or "").strip().split("\n\n")[0]
    yield from textwrap.wrap(f"{title}: {' '.join(first.split())}" if first else f"{title}:", width)
    for row in found:
        kind = f"{row.type}, default {row.default}" if row.default else row.type
        flag = f"  --config.{prefix}{row.name}"
        head = f"{flag}  ({kind})"
        yield from [head] if len(head) <= width else [flag, *textwrap.wrap(f"({kind})", width, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT)]
        yield from textwrap.wrap(row.meaning, width, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT, break_on_hyphens=False)


def _sections() -> dict[str, str]:
    """The names of a config's sections; "" stands for the fields that are in none."""
    from flaxft.config import Config

    hints = typing.get_type_hints(Config)
    plain = [name for name, hint in hints.items() if not (dataclasses.is_dataclass(hint) or name in ("task", "model", "evals"))]
    return {"": "", **{name: name for name in hints if name not in plain}}


def _config(topics: Sequence[str], arguments: Sequence[str]) -> Any:
    """The config that the arguments name by --config or as a word, or None."""
    from flaxft.config import from_file

    joined = " ".join(arguments).replace("--config ", "--config=").split()
    name = next((one.partition("=")[2] for one in joined if one.startswith(("--config=", "-config="))), "")
    words = [one for one in arguments if not one.startswith("-") and one not in (*SUBCOMMANDS, *topics)]
    name = name or next((word for word in words if config_file.is_known(word)), "")
    return from_file(name) if name else None


# ---- lines ----------------------------------------------------------------------------------------------------------------------------------------


def _width() -> int:
    return min(max(shutil.get_terminal_size((80, 24)).columns, NARROW), WIDE)


def _table(entries: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Two columns; where the first is too wide for the second to stand beside it, the second stands below."""
    column = max([len(left) for left, _ in entries if len(left) <= width // 2 - 2], default=0) + 4
    lines = []
    for left, right in entries:
        wrapped = textwrap.wrap(right, width - column, break_on_hyphens=False) or [""]
        if len(left) + 4 > column:
            lines += [f"  {left}", *(f"{'':{column}}{line}" for line in wrapped)]
        else:
            lines += [f"  {left:{column - 2}}{wrapped[0]}".rstrip(), *(f"{'':{column}}{line}" for line in wrapped[1:])]
    return lines
