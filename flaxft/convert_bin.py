"""pytorch_model.bin to model.safetensors, in a process of its own.

    python -m flaxft.convert_bin DIRECTORY_OR_FILE NEW_DIRECTORY

A .bin file is a pickle, which can run code where it is loaded. flaxft never loads one; this command does, by `torch.load(weights_only=True)`, which builds
tensors and nothing else. That has had holes (CVE-2025-32434 before torch 2.6, CVE-2026-24747 before 2.10), so torch must be 2.10 or newer, and the file is read
in a process without the environment's keys; what comes back is safetensors, checked like any. Still: convert files of those whom you trust, or in a container.

NEW_DIRECTORY gets model.safetensors and the config and tokenizer files beside the .bin; it is there whole or not at all.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flaxft import errors
from flaxft.errors import UserError, reason

if TYPE_CHECKING:
    import torch

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
TORCH = (2, 10)  # the first without a known hole in weights_only
BESIDE = ("config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "README.md", "LICENSE*")
CHILD = "--read-untrusted"  # what this command calls itself with
# What a Python process needs to start; keys and tokens are not among it.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit code; a mistake is one line on stderr."""
    if {"--help", "-h"} & set(arguments):
        print(__doc__)
        return errors.OK
    try:
        if arguments[:1] == [CHILD]:
            _read_and_write([Path(file) for file in arguments[2:]], Path(arguments[1]))
            return errors.OK
        if len(arguments) != 2 or any(one.startswith("-") for one in arguments):
            print("error: give two paths: python -m flaxft.convert_bin DIRECTORY_OR_FILE NEW_DIRECTORY", file=sys.stderr)
            return errors.USAGE
        print(convert(Path(arguments[0]), Path(arguments[1])))
        return errors.OK
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def convert(source: Path, target: Path) -> str:
    """Makes the directory `target` of `source`, a .bin file or a directory that holds one or its shards; returns a line that says so. Raises UserError."""
    from flaxft.models import weights

    files = _files(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already; give a new directory")
    if not target.absolute().parent.is_dir():
        raise UserError(f"{target} lies in no directory; make {target.absolute().parent} first")
    check_torch()
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}-") as temporary:
            folder = Path(temporary) / "model"
            folder.mkdir()
            _in_a_process_of_its_own(files, folder / weights.SINGLE)
            for file in _beside(files[0].parent):
                shutil.copyfile(file, folder / file.name)
            tensors = weights.stored_tensors(folder)  # what that process wrote is as little trusted as what it read
            folder.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error}); free space, or give another directory") from None
    has_config = "" if (target / "config.json").is_file() else "; put the model's config.json and tokenizer files there too"
    return f"{target / weights.SINGLE}: {len(tensors)} tensors of {', '.join(file.name for file in files)}{has_config}"


def check_torch() -> None:
    """Raises UserError unless torch is there, and new enough. Does not import it."""
    needs = f"converting .bin files needs torch {TORCH[0]}.{TORCH[1]} or newer, whose weights_only has no known hole"
    mend = f"pip install 'torch>={TORCH[0]}.{TORCH[1]}'"
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"torch is not installed; {needs}: {mend}") from None
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < TORCH:
        raise UserError(f"torch is {version}; {needs}: {mend}")


def _files(source: Path) -> list[Path]:
    """The .bin file, or the shards that an index beside it names."""
    from flaxft.models import weights

    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"{source}: no such file or directory; give pytorch_model.bin, or the directory that holds it")
    if (source / SINGLE).is_file():
        return [source / SINGLE]
    if not (source / INDEX).is_file():
        raise UserError(f"{source} holds neither {SINGLE} nor {INDEX}; give the .bin file itself")
    content = weights.read_json(source / INDEX, cap=weights.HEADER_CAP, missing="")
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{source / INDEX}: no weight_map of tensor name -> file name; fetch it again")
    outside = weights.names_outside(shards.values(), source)
    if outside:
        raise UserError(f"{source / INDEX}: shard names {outside} leave the directory; refused")
    missing = sorted({name for name in shards.values() if not (source / name).is_file()})
    if missing:
        raise UserError(f"{source / INDEX} names shards that are not there: {missing}; fetch the whole model")
    return [source / name for name in sorted(set(shards.values()))]


def _beside(directory: Path) -> list[Path]:
    from flaxft.models import weights

    found = sorted({file for pattern in BESIDE for file in directory.glob(pattern) if file.is_file()})
    outside = weights.names_outside([file.name for file in found], directory)
    if outside:
        raise UserError(f"{directory}: {outside} are links that leave the directory; refused")
    return found


def _in_a_process_of_its_own(files: Sequence[Path], target: Path) -> None:
    """Raises UserError with what the process had to say."""
    environment = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
    command = [sys.executable, "-m", "flaxft.convert_bin", CHILD, str(target), *(str(file.absolute()) for file in files)]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return
    lines = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    if lines:
        raise UserError(lines[-1])
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    raise UserError(f"{files[0]}: reading it ended with {how}: damaged, hostile, or too large for the memory here; fetch it again")


# ---- in that process --------------------------------------------------------------------------------------------------------------------------------


def _read_and_write(files: Sequence[Path], target: Path) -> None:
    import torch  # here and nowhere else
    from safetensors.torch import save_file

    found: dict[str, torch.Tensor] = {}
    for file in files:
        tensors = _load(file)
        twice = sorted(set(found) & set(tensors))
        if twice:
            raise UserError(f"{file}: {twice[:4]} stand in another shard too; fetch the model again")
        found |= tensors
    # Tied weights share memory, which safetensors does not know: each name gets a copy of its own, so that every name of the .bin is there.
    save_file({name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}, target, metadata={"format": "pt"})


def _load(file: Path) -> dict[str, torch.Tensor]:
    """The tensors by name. Raises UserError for whatever else it is."""
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (torch raises UnpicklingError, RuntimeError, EOFError and others on what it does not take)
        named = re.search(r"GLOBAL (\S+)", str(error))  # torch's text is a page of advice, among it how to run the code
        what = f"asks for {named[1]}, which is no tensor: it would run code" if named else f"is no PyTorch file of tensors ({reason(error)[:120]})"
        raise UserError(f"{file}: it {what}; nothing of it was run or kept; use a file from a source that you trust") from None
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{file}: it holds a {type(content).__name__}, expected tensors by name (a state_dict)")
    plain = {name for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided}
    bad = sorted(str(name) for name in content if name not in plain or content[name].is_quantized or content[name].is_complex())
    if bad:
        raise UserError(f"{file}: {bad[:4]} are no plain tensors by name; save model.state_dict() alone")
    return dict(content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
