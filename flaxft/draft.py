"""The config file that `flaxft init` writes: what was guessed of a file of data, as plain dataclasses that one reads and changes."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flaxft import encoder
from flaxft.config import Config
from flaxft.errors import UsageError, UserError, reason
from flaxft.fields import docstrings
from flaxft.guess import name_of

ALWAYS = ("train", "validation", "test")  # fields of a task that are written though they have their defaults
LINE = 110  # characters of a comment
HEAD = '''"""{title}

    flaxft train --config={file}

Written by `flaxft init {data}`, and yours to change. What is not named here is as it is by default; `flaxft train --help` has every field.
"""

{imports}


def get_config():
    return Config(
{body}    )
'''


def write(cfg: Config, *, data: str, notes: Sequence[str], output: str | None = None) -> Path:
    """Writes the config as a file and returns it: `output`, or NAME.py after the data. Raises UserError where it is there already."""
    file = Path(output) if output else Path(f"{module_name(data)}.py")
    if file.suffix != ".py":
        raise UsageError(f"--output={output}: a config is a Python file; give NAME.py")
    content = text(cfg, file=file, data=data, title=notes[0] if notes else data)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(content)
    except FileExistsError:
        raise UserError(f"{file} is there already and stays as it is; train with flaxft train --config={file}, or give another --output=NAME.py") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror or reason(error)}); give another --output=NAME.py") from None
    return file


def module_name(data: str) -> str:
    """A name for the config of a file of data: tickets of tickets.csv, and email_config of email.csv, since a file email.py hides Python's own `email`."""
    name = re.sub(r"\W+", "_", name_of(data)).strip("_") or "data"
    name = f"data_{name}" if name[0].isdigit() else name
    return f"{name}_config" if _is_module(name) else name


def _is_module(name: str) -> bool:
    """Whether Python has a module of that name, one in this folder aside."""
    if name in sys.stdlib_module_names:
        return True
    spec = importlib.util.find_spec(name)
    return spec is not None and not (spec.origin and Path(spec.origin).resolve().parent == Path.cwd())


def text(cfg: Config, *, file: Path, data: str, title: str) -> str:
    """The file's content. A field stands in it where it has not its default, with the first sentence of its meaning above it."""
    own = [(field.name, getattr(cfg, field.name)) for field in dataclasses.fields(cfg) if field.name in ("task", "model") or _differs(cfg, field)]
    classes = {type(cfg), *(type(one) for _, value in own for one in _dataclasses(value))}
    imports = {f"from {cls.__module__} import {cls.__name__}" for cls in classes}
    if any(value == str(encoder.DIRECTORY) for _, section in own for one in _dataclasses(section) for value in vars(one).values()):
        imports.add("from flaxft import encoder")
    body = "".join(f"{' ' * 8}{name}={_written(value, indent=8)},\n" for name, value in own)
    return HEAD.format(title=f"{_plain(title)}.", file=file, data=_plain(data), imports="\n".join(sorted(imports)), body=body)


def _differs(owner: Any, field: dataclasses.Field[Any]) -> bool:
    default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return bool(getattr(owner, field.name) != default)


def _dataclasses(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _dataclasses(getattr(value, field.name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from _dataclasses(one)


def _written(value: Any, *, indent: int) -> str:
    """A value as Python code, a dataclass as the call that makes it."""
    if isinstance(value, dict):
        inner = "".join(f"{' ' * (indent + 4)}{name!r}: {_written(one, indent=indent + 4)},\n" for name, one in value.items())
        return f"{{\n{inner}{' ' * indent}}}" if inner else "{}"
    if not dataclasses.is_dataclass(value):
        return "str(encoder.DIRECTORY)" if value == str(encoder.DIRECTORY) else _quoted(value)
    cls: type = type(value)
    meanings, lines = docstrings(cls), []
    for field in dataclasses.fields(value):
        if not field.init or not (_differs(value, field) or field.name in ALWAYS):
            continue
        meaning = re.split(r"(?<=[.;]) ", meanings.get(field.name, ""))[0].rstrip(".;")
        if meaning and len(meaning) <= LINE:
            lines.append(f"# {meaning}")
        lines.append(f"{field.name}={_written(getattr(value, field.name), indent=indent + 4)},")
    inner = "".join(f"{' ' * (indent + 4)}{line}\n" for line in lines)
    return f"{type(value).__name__}(\n{inner}{' ' * indent})" if inner else f"{type(value).__name__}()"


def _quoted(value: Any) -> str:
    """`repr` with double quotes, as the configs that come with flaxft have them."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_quoted, value))}{',' * (len(value) == 1)})"
    code = repr(value)
    return f'"{code[1:-1]}"' if code[:1] == "'" and '"' not in code else code


def _plain(words: str) -> str:
    """Words inside a docstring: nothing in them ends it."""
    return words.replace("\\", "/").replace('"', "'")
