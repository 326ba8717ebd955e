"""A config file: where the one that a name stands for is, and what its `get_config()` returns."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from flaxft.errors import UserError, nearest, reason

PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "configs", PACKAGE.parent / "configs")  # of a wheel, and of a checkout that is installed as editable


def find(name: str) -> Path:
    """The file that a name stands for: a path, or the name of one of flaxft's own configs with or without its folder and suffix.

    `my/ner.py` is that file; `intent`, `intent.py` and `configs/intent.py` are intent.py here, or else the one that comes with flaxft. Raises UserError.
    """
    found = next((file for file in _candidates(name) if file.is_file()), None)
    if found is None:
        path = Path(name)
        beside = sorted(str(file) for file in path.parent.glob("*.py")) if _is_path(path) and path.parent.is_dir() else []
        what = "is a directory" if name and path.is_dir() else "no such file"
        near = nearest(name, beside) or nearest(path.stem, own_names())
        hint = f"give a Python file with get_config(), or the name of one that comes with flaxft: {', '.join(own_names())}"
        raise UserError(f"--config={name}: {what}; {hint}{near}")
    return found


def is_known(name: str) -> bool:
    """Whether `find` finds it; a name may have `:ARG` behind it."""
    return any(file.is_file() for file in _candidates(name.partition(":")[0]))


def own_names() -> list[str]:
    """The names of the configs that come with flaxft: choice, conll2003, ..."""
    return sorted({file.stem for folder in INSTALLED for file in folder.glob("*.py")})


def _candidates(name: str) -> list[Path]:
    file = Path(name).expanduser()
    if not file.name or "\0" in name:
        return []
    named = file if file.suffix == ".py" else file.with_name(f"{file.name}.py")
    its_own = [] if _is_path(file) else [folder / named.name for folder in INSTALLED]
    return [*([file] if file.suffix else []), named, *its_own]


def _is_path(file: Path) -> bool:
    """Whether a name can only be a file of the user's own: it lies in a folder."""
    return str(file.parent) not in (".", "configs")


def read(name: str) -> tuple[Path, Any]:
    """The file of `NAME` or `NAME:ARG`, and what its `get_config()`, which is handed ARG, returned. Raises UserError for what the file's code raises."""
    file_name, _, argument = name.partition(":")
    file = find(file_name)
    spec = importlib.util.spec_from_file_location(f"flaxft_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"--config={file_name}: not a Python file; give one that defines get_config(); a file of data is a word: flaxft train {file_name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and typing look up the annotations of classes that the file defines
    _call(file, spec.loader.exec_module, module)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(f"{file} has no function get_config(); it must return a flaxft.config.Config")
    takes = len(inspect.signature(get_config).parameters)
    if argument and not takes:
        raise UserError(f"--config={name}: get_config() of {file} takes no argument; leave out :{argument}")
    return file, _call(file, get_config, *([argument] if argument else []))


def _call(file: Path, function: Any, *arguments: Any) -> Any:
    """What the user's code returns. What it raises becomes a UserError with the last line of `file` that it came by."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 (a config file is code: it may raise anything)
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
        place = f"{file}:{lines[-1]}" if lines else str(file)
        raise UserError(f"{place}: {type(error).__name__}: {reason(error)}{_meant(error)}; mend the file") from None


def _meant(error: Exception) -> str:
    """Of an import that failed, the nearest name that flaxft has."""
    if isinstance(error, ModuleNotFoundError):
        known = [".".join(("flaxft", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in PACKAGE.rglob("*.py") if file.stem != "__init__"]
        return nearest(error.name or "", known)
    if isinstance(error, ImportError) and (wanted := re.match(r"cannot import name '(\w+)'", str(error))):
        return nearest(wanted[1], vars(sys.modules[error.name])) if error.name in sys.modules else ""
    return ""
