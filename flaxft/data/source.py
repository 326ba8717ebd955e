"""The records of a file, or of a data set of the hub."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from flaxft.data.base import Record, Records, Source
from flaxft.data.compression import unpack
from flaxft.data.content import Content, read_bytes
from flaxft.data.folders import files_of
from flaxft.data.formats import Format, find_format, guess_format, read
from flaxft.data.spool import Packed
from flaxft.errors import UserError

KEPT = 4  # files whose records are kept: a task looks through its train split for labels, and a run opens the split anew, often of several tasks
_opened: dict[tuple[tuple[str, ...], str], Records] = {}  # (paths, fingerprint) -> records, the last one last


def open_source(path: str | Sequence[str], *, split: str, format: str | None = None, comment: str = "", max_examples: int | None = None) -> Source:
    """The records of a file, of several (`files_of`: a glob, a folder, a list of paths), or of `hub:NAME[/SUBSET][@REVISION][#SPLIT]`.

    A file's format is `format`, or follows from the suffix (`.gz` may stand behind it), or else from the content. Records are:
    columns: one sentence each, `{"0": [token, ...], "1": [...], ...}`, a list per column; jsonl, parquet: the object or row as it is;
    csv, tsv: the row as strings under the header's names; text (only where asked for): `{"text": line}` of each line that is not blank;
    squad: one question each, see `read_squad`; hub: the row, with class labels as their names. A .json file is JSON lines or an array of objects, or SQuAD's
    layout if it begins so.

    Args:
      split: which split of a hub data set or of a folder; a file is one split.
      comment: in a column file, lines that begin so at the start of a sentence are skipped. None by default: `#` is a token of tweets.
      max_examples: only the first so many records.

    Raises UserError for whatever cannot be read, with the file and the line.
    """
    if max_examples is not None and max_examples < 1:
        raise UserError(f"max_examples={max_examples}: give at least 1, or None for all records")
    if isinstance(path, str) and path.startswith("hub:"):
        if format or comment:
            raise UserError(f"{path}: format and comment are for files; leave them out for a hub data set")
        from flaxft.data.hub import open_hub

        return open_hub(path, split=split, max_examples=max_examples)
    files = files_of(path, split=split)
    parts = [_open(file, format=format, comment=comment, is_kept=len(files) == 1) for file in files]
    content = parts[0].fingerprint if len(parts) == 1 else [part.fingerprint for part in parts]
    fingerprint = hashlib.sha256(repr((content, max_examples)).encode()).hexdigest()
    key = files, fingerprint  # of the content as it is now, so that what is kept is never old
    found = _opened.get(key)
    if found is None:
        places, records = Packed(), Packed()
        for number, place, record in itertools.islice(_placed(parts, format=format, comment=comment), max_examples):
            places.append([number, place])
            records.append(record)
        if not records:
            raise _no_records(path, parts)
        found = _opened[key] = FileRecords(_named(path), fingerprint, records, places, "", [(part.path, part.format.where) for part in parts])
        for old in list(_opened)[:-KEPT]:
            _opened.pop(old, None)
    return found


def read_records(path: str | Sequence[str], *, split: str = "", format: str | None = None, comment: str = "") -> Iterator[tuple[str, Record]]:
    """`(place, record)` of each record of a file, or of several, as `open_source` gives them, one by one: none is kept. The place is `train.csv:17`.

    Raises UserError.
    """
    is_empty, parts = True, []
    for file in files_of(path, split=split):
        parts = [_open(file, format=format, comment=comment, is_kept=True)]
        for _, place, record in _placed(parts, format=format, comment=comment):
            is_empty = False
            yield file + parts[0].format.where.format(place), record
    if is_empty:
        raise _no_records(path, parts)


@dataclasses.dataclass(eq=False)
class FileRecords(Records):
    """Records of one file or several: a place is the number of the file, and the place in it."""

    files: Sequence[tuple[str, str]]  # of each the path and how a place in it is said: ("train.conll", ":{}")

    def where(self, index: int) -> str:
        number, place = cast("tuple[int, int | str]", self.places[index])
        path, where_format = self.files[number]
        return path + where_format.format(place)


class Part(NamedTuple):
    """One file of a source."""

    path: str
    content: Content | None  # None for one of several: their contents are not all held at once
    format: Format
    fingerprint: str  # of content and format


def _open(path: str, *, format: str | None, comment: str, is_kept: bool) -> Part:
    """Raises UserError."""
    asked = find_format(format) if format is not None else None
    packed = read_bytes(path)
    content = hashlib.sha256(packed)
    file = Content(path, unpack(packed, path), comment=comment, is_asked=asked is not None)
    kind = asked or guess_format(file)
    if comment and not kind.takes_comment:
        raise UserError(f"{path}: comment={comment!r} is for column files, but this one is read as {kind.name}; leave it out or set format='columns'")
    if kind.beside:
        others = {other: bytes(read_bytes(other)) for other in kind.beside(path) if Path(other).is_file()}
        content.update(repr(sorted((Path(other).name, hashlib.sha256(data).hexdigest()) for other, data in others.items())).encode())
        file = Content(path, file.data, comment=comment, is_asked=file.is_asked, beside=others)
    content.update(repr((kind.name, comment)).encode())
    return Part(path, file if is_kept else None, kind, content.hexdigest())


def _placed(parts: Sequence[Part], *, format: str | None, comment: str) -> Iterator[tuple[int, int | str, Record]]:
    """The number of the file, the place in it, and the record. Raises UserError."""
    for number, part in enumerate(parts):
        now = part if part.content is not None else _open(part.path, format=format, comment=comment, is_kept=True)
        if now.fingerprint != part.fingerprint:
            raise UserError(f"{part.path}: changed while it was read; start again when it is whole")
        assert now.content is not None
        for place, record in read(now.content, now.format):
            yield number, place, record


def _named(path: str | Sequence[str]) -> str:
    return path if isinstance(path, str) else ", ".join(path)


def _no_records(path: str | Sequence[str], parts: Sequence[Part]) -> UserError:
    return UserError(f"{_named(path)}: no records; expected at least one{parts[0].format.least if parts else ''}")


def checked(source: Source, *checks: Callable[[Record], object]) -> Source:
    """The source, after each check has read every record: a task's mistakes in the data are found at the start, not hours later at the first evaluation.

    A UserError of a check gets the record's place before it.
    """
    for i, record in enumerate(source):
        try:
            for check in checks:
                check(record)
        except UserError as error:
            raise UserError(f"{source.where(i)}: {error}") from None
    return source
