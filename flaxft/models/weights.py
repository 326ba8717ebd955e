"""Weights files: the tensors of model.safetensors, of its shards, or of flax_model.msgpack, checked before they are read. No pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxft import files
from flaxft.errors import UserError
from flaxft.models.base import flatten

HEADER_CAP = 10 << 20  # bytes; the header of a 24-layer encoder takes about 50 kB
MSGPACK_CAP = 8 << 30  # bytes
SINGLE, INDEX, MSGPACK = "model.safetensors", "model.safetensors.index.json", "flax_model.msgpack"


class Stored(NamedTuple):
    """A tensor of a weights file, not yet read."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def stored_tensors(directory: Path) -> dict[str, Stored]:
    """All tensors of a model directory by their name in the file, none of them read yet. Raises UserError."""
    if (directory / SINGLE).is_file():
        return _safetensors(directory / SINGLE)
    if (directory / INDEX).is_file():
        return _sharded(directory / INDEX)
    if (directory / MSGPACK).is_file():
        return _msgpack(directory / MSGPACK)
    others = sorted(file.name for file in directory.iterdir() if file.suffix in (".bin", ".pt", ".h5", ".ckpt", ".pkl"))
    held = f"; it holds {others}, which is not read because pickle can run code" if others else ""
    if any(name.endswith(".bin") for name in others):
        mend = f"python -m flaxft.convert_bin {directory} NEW_DIRECTORY makes safetensors of it"
    elif root_of(directory) != directory.resolve():  # in the hub's cache, where .bin files are never fetched
        mend = "where the hub has pytorch_model.bin alone, download it (hf download) and run python -m flaxft.convert_bin DIRECTORY NEW_DIRECTORY"
    else:
        mend = "save the model as safetensors"
    raise UserError(f"{directory} holds no weights ({SINGLE}, {INDEX} or {MSGPACK}){held}; {mend}, and point model.path there")


def root_of(directory: Path) -> Path:
    """What links in a model directory may not leave: itself, or the model's folder in the hub's cache, where snapshots/<commit> links to ../../blobs."""
    real = directory.resolve()
    in_cache = real.parent.name == "snapshots" and (real.parent.parent / "blobs").is_dir()
    return real.parent.parent if in_cache else real


def names_outside(names: Iterable[str], directory: Path) -> list[str]:
    """Those of `names`, which some index gives, that are no plain file names, or lead out of the model directory as links."""
    root = root_of(directory)

    def stays(name: str) -> bool:
        return Path(name).name == name != ".." and "\0" not in name and (directory / name).resolve().is_relative_to(root)

    return sorted({name for name in names if not stays(name)})


def _safetensors(file: Path) -> dict[str, Stored]:
    from safetensors import SafetensorError, safe_open

    _sniff(file)
    try:
        handle = safe_open(file, framework="numpy")
        names = list(handle.keys())
        return {name: Stored(name, tuple(handle.get_slice(name).get_shape()), partial(handle.get_tensor, name)) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: damaged or cut off ({error}); fetch it again") from None


def _sniff(file: Path) -> None:
    """safetensors says "header too large" of everything that is something else; this says what it is, and refuses what the library lets pass."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(64)
        kinds = {
            b"version https://git-lfs": "a git-lfs pointer, not the weights (run git lfs pull)",
            b"<": "an HTML page",
            b"\x80": "a pickle",
            b"PK": "a zip or PyTorch archive",
        }
        found = next((kind for magic, kind in kinds.items() if start.startswith(magic) and start[8:9] != b"{"), None)
        if found:
            raise UserError(f"{file}: it is {found}; put a real safetensors file there")
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > min(size - 8, HEADER_CAP):
            raise UserError(f"{file}: {size} bytes with a header of {length}: damaged, cut off, or no safetensors file; fetch it again")
        stream.seek(8)
        try:
            json.loads(stream.read(length), object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}: its header cannot be read ({error}); fetch it again") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return found


def _sharded(index: Path) -> dict[str, Stored]:
    content = read_json(index, cap=HEADER_CAP, missing=str(index))
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index}: no weight_map of tensor name -> file name; fetch it again")
    outside = names_outside(shards.values(), index.parent)
    if outside:
        raise UserError(f"{index}: shard names {outside} leave the directory; refused")
    missing = sorted({name for name in shards.values() if not os.path.isfile(index.parent / name)})
    if missing:
        raise UserError(f"{index} names shards that are not there: {missing}; fetch the whole model")
    found: dict[str, Stored] = {}
    for name in sorted(set(shards.values())):
        found |= _safetensors(index.parent / name)
    return found


def _msgpack(file: Path) -> dict[str, Stored]:
    from flax import serialization

    if file.stat().st_size > MSGPACK_CAP:
        raise UserError(f"{file}: {file.stat().st_size} bytes, at most {MSGPACK_CAP} are read")
    try:
        tree = serialization.msgpack_restore(file.read_bytes())
        flat = flatten(tree)
    except Exception as error:  # noqa: BLE001 (msgpack raises a dozen unrelated types on damaged bytes)
        raise UserError(f"{file}: damaged, cut off, or no Flax weights ({type(error).__name__}: {error}); fetch it again") from None
    return {name: Stored(name, tuple(np.shape(leaf)), partial(np.asarray, leaf)) for name, leaf in flat.items()}


def read_array(tensor: Stored, *, where: Path) -> np.ndarray:
    try:
        array = tensor.read()
    except (AttributeError, TypeError, ValueError):  # safetensors has no NumPy type for float8 and smaller
        array = None
    if array is None or array.dtype.name not in ("float32", "float16", "bfloat16", "float64"):
        kind = "of another type" if array is None else array.dtype.name
        raise UserError(f"{where}: {tensor.name} is {kind}, expected float32, float16 or bfloat16; use a checkpoint that is not quantised")
    array = np.ascontiguousarray(array.astype(np.float32))
    if not np.isfinite(array).all():
        raise UserError(f"{where}: {tensor.name} holds NaN or infinity; the file is damaged or the model diverged")
    return array


def read_json(file: Path, *, cap: int, missing: str) -> Any:
    if not file.is_file():
        raise UserError(missing)
    if files.size(file) > cap:
        raise UserError(f"{file}: {files.size(file)} bytes, at most {cap} are read; is it the right file?")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON ({error}); fetch it again") from None
