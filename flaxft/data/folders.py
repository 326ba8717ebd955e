"""Many files as one: a glob, a folder, a list of paths, and data sets that `datasets` left on the disk."""

from __future__ import annotations

import glob
import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxft.data.formats import FORMATS, suffix_of
from flaxft.errors import UserError, nearest

SPLITS = (("train", "training"), ("validation", "valid", "val", "dev", "devel"), ("test", "testing", "eval"))  # what files call each of them
NAMED = re.compile(rf"(?<![a-z])({'|'.join(itertools.chain(*SPLITS))})(?![a-z])", re.IGNORECASE)
PAPERS = re.compile(r"(readme|licen[sc]e|notice|changelog|citation)\b", re.IGNORECASE)  # beside data
DICT, STATE = "dataset_dict.json", "state.json"  # of DatasetDict.save_to_disk and Dataset.save_to_disk
SUFFIXES = {suffix for format in FORMATS for suffix in format.suffixes}
BESIDE = {"dataset_info.json", "dataset_infos.json", DICT, STATE}  # JSON that holds no records
log = logging.getLogger("flaxft")


def files_of(path: str | Sequence[str], *, split: str) -> tuple[str, ...]:
    """The files that a path names, in order: itself, what a glob matches, what a folder holds of the split, or those of several paths.

    Several are a list, or stand with commas between. A folder is of `save_to_disk` (of a DatasetDict the split is taken), or has files with splits in their
    names, such as train.csv or data/test-00000-of-00001.parquet, of which those of the split are taken, or else all files in it count.
    `folder#SPLIT` names another split. Raises UserError where there are none, or of several kinds.
    """
    if not isinstance(path, str):
        return tuple(file for one in path for file in files_of(one, split=split))
    folder, _, named = path.partition("#")
    if os.path.isdir(os.path.expanduser(folder)) and not os.path.exists(os.path.expanduser(path)):
        path, split = folder, named
    place = Path(path).expanduser()
    try:
        if place.is_dir():
            return _told(path, _of_folder(place, path, split=split))
        if place.exists():
            return (path,)
    except (OSError, ValueError):  # a NUL in the path, or a folder that may not be read: opening it says so
        return (path,)
    if re.search(r"[*?\[]", path):
        return _told(path, _of_glob(path))
    parts = [part.strip() for part in path.split(",") if part.strip()]
    if len(parts) > 1:
        return tuple(file for part in parts for file in files_of(part, split=split))
    return (path,)


def _told(path: str, files: Sequence[str]) -> tuple[str, ...]:
    log.info("%s: %s", path, f"{len(files)} files are read, {files[0]} to {files[-1]}" if len(files) > 1 else f"{files[0]} is read")
    return tuple(files)


def _of_glob(path: str) -> list[str]:
    files = sorted((file for file in glob.glob(os.path.expanduser(path), recursive=True) if os.path.isfile(file)), key=_natural)
    if not files:
        folder = path[: re.search(r"[*?\[]", path).start()].rpartition("/")[0] or "."  # type: ignore[union-attr]
        raise UserError(f"{path}: no file matches; correct the pattern, or look what {folder!r} holds")
    return files


def _of_folder(folder: Path, path: str, *, split: str) -> list[str]:
    if (folder / DICT).is_file():
        splits = _json(folder / DICT).get("splits", [])
        name = _choose(split, [str(name) for name in splits], path)
        return _of_folder(folder / name, f"{path}/{name}", split="")
    if (folder / STATE).is_file():
        return _of_save_to_disk(folder, path)
    files = _of_splits(folder, path, split=split)
    kinds = Counter(suffix_of(file) for file in files)
    if not kinds:
        raise UserError(f"{path}: is a directory without a file of a known kind ({', '.join(sorted(SUFFIXES))}); name one file in it, or a glob")
    if len(kinds) > 1:
        shown = ", ".join(f"{number} {suffix}" for suffix, number in sorted(kinds.items()))
        raise UserError(f"{path}: is a directory of files of several kinds ({shown}); name those to read by a glob: {path.rstrip('/')}/*{min(kinds)}")
    return files


def _of_save_to_disk(folder: Path, path: str) -> list[str]:
    state = _json(folder / STATE)
    if state.get("_indices_data_files"):
        raise UserError(f"{path}: was saved by an old version of datasets, with its rows in another order; save it again (load_from_disk, then save_to_disk)")
    names = [entry["filename"] for entry in state.get("_data_files") or [] if isinstance(entry, dict) and isinstance(entry.get("filename"), str)]
    if not names:
        raise UserError(f"{path}: {STATE} names no data files; save the data set again (save_to_disk)")
    if outside := next((name for name in names if Path(name).name != name), None):
        raise UserError(f"{path}: {STATE} names the file {outside!r}, which is not in this folder; save the data set again (save_to_disk)")
    return [str(folder / name) for name in names]


def _of_splits(folder: Path, path: str, *, split: str) -> list[str]:
    """The files of known kinds in a folder and the folders in it: of the split, where their names tell splits."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in BESIDE and suffix_of(file.name) in SUFFIXES]
    files = [file for file in files if not PAPERS.match(file.name) and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)]
    others = {other for file in files for format in FORMATS if format.beside and suffix_of(file.name) in format.suffixes for other in format.beside(str(file))}
    files = sorted((file for file in files if str(file) not in others), key=lambda file: _natural(str(file)))
    by_split: dict[str, list[str]] = {}
    for file in files:
        name = file.relative_to(folder).as_posix().removesuffix(suffix_of(file.name))
        if found := NAMED.search(name):
            by_split.setdefault(found[1].lower(), []).append(str(file))
    if not by_split:
        return [str(file) for file in files]
    return by_split[_choose(split, list(by_split), path)]


def _choose(split: str, names: Sequence[str], path: str) -> str:
    """The name of the split among those that are there, by its own name or another usual one. Raises UserError."""
    usual = next((usual for usual in SPLITS if split in usual), ())
    found = next((name for name in (split, *usual) if name in names), None)
    if found is None:
        asked = f"no split {split!r}" if split else "several splits"
        first = names[0] if names else "SPLIT"
        raise UserError(f"{path}: {asked}; found {', '.join(names) or 'none'}{nearest(split, names)}; name one as {path}#{first}")
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read ({error}); save the data set again (save_to_disk)") from None
    return found if isinstance(found, dict) else {}


def _natural(name: str) -> list[Any]:
    """part-2 before part-10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
