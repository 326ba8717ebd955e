"""Sources: the records of a column, JSON, CSV, TSV or Parquet file, or of a data set on the Hugging Face hub."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxft.data.base import Record, Source
from flaxft.errors import UserError, nearest

FORMATS = ("columns", "jsonl", "csv", "tsv", "parquet")
SUFFIXES = {
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2", ".txt"), "columns"),
    **dict.fromkeys((".jsonl", ".json"), "jsonl"),
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
MAX_CELL = 1 << 27  # characters in one CSV cell; Python's own limit of 131072 is shorter than a book
NEWLINE = "\n"  # nothing else ends a line: U+2028 and U+0085, where str.splitlines cuts, are found inside tokens
JSON_SPACE = re.compile(r"[ \t\r\n]*")

Placed = Iterator[tuple[int, dict[str, Any]]]  # the line or row number of each record, and the record


@dataclass(eq=False)
class Records:
    """A `Source` in memory: record i stands at number `places[i]` of what `where_format` names."""

    name: str
    fingerprint: str
    records: Sequence[Record]
    places: Sequence[int]
    where_format: str  # "train.conll:{}" or "train.parquet: row {}"

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def where(self, index: int) -> str:
        return self.name + self.where_format.format(self.places[index])


def open_source(path: str, *, split: str, format: str | None = None, comment: str = "", max_examples: int | None = None) -> Source:
    """The records of a file, or of `hub:NAME[/SUBSET][@REVISION]`.

    A file's format is `format`, or follows from the suffix (`.gz` may stand behind it), or else from the content. Records are:
    columns: one sentence each, `{"0": [token, ...], "1": [...], ...}`, a list per column; jsonl, parquet: the object or row as it is;
    csv, tsv: the row as strings under the header's names; hub: the row, with class labels as their names.

    Args:
      split: which split of a hub data set; a file is one split.
      comment: in a column file, lines that begin so at the start of a sentence are skipped. None by default: `#` is a token of tweets.
      max_examples: only the first so many records.

    Raises UserError for whatever cannot be read, with the file and the line.
    """
    if max_examples is not None and max_examples < 1:
        raise UserError(f"max_examples={max_examples}: give at least 1, or None for all records")
    if path.startswith("hub:"):
        if format or comment:
            raise UserError(f"{path}: format and comment are for files; leave them out for a hub data set")
        return _open_hub(path, split=split, max_examples=max_examples)
    if format is not None and format not in FORMATS:
        raise UserError(f"format={format!r} is unknown; use one of {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    return _open_file(path, format=format, comment=comment, max_examples=max_examples)


def _open_file(path: str, *, format: str | None, comment: str, max_examples: int | None) -> Source:
    packed = _read_bytes(path)
    data = _unpack(packed, path)
    format = format or SUFFIXES.get(Path(path.removesuffix(".gz")).suffix.lower()) or _sniff(data, path)
    if comment and format != "columns":
        raise UserError(f"{path}: comment={comment!r} is for column files, but this one is read as {format}; leave it out or set format='columns'")
    placed = list(itertools.islice(_read(data, path, format=format, comment=comment), max_examples))
    if not placed:
        raise UserError(f"{path}: no records; expected at least one{' row below the header' if format in ('csv', 'tsv') else ''}")
    fingerprint = hashlib.sha256(packed)
    fingerprint.update(repr((format, comment, max_examples)).encode())
    places, records = zip(*placed, strict=True)
    return Records(path, fingerprint.hexdigest(), records, places, where_format=": row {}" if format == "parquet" else ":{}")


# ---- bytes and text ----


def _read_bytes(path: str) -> bytes:
    file = Path(path).expanduser()
    try:
        return file.read_bytes()
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise UserError(f"{path}: no such file, nor is there a folder {str(file.parent)!r}; correct the path") from None
        raise UserError(f"{path}: no such file; correct the path{nearest(file.name, os.listdir(file.parent))}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; name one file in it") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read; give yourself the right to (chmod u+r)") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{path}: cannot be read ({error}); correct the path") from None


def _unpack(data: bytes, path: str) -> bytes:
    """The content without gzip. Gzip is known by its first two bytes, which begin neither UTF-8 text nor Parquet."""
    if not data:
        raise UserError(f"{path}: the file is empty (0 bytes); write or download it again")
    if data[:2] != b"\x1f\x8b":
        if path.endswith(".gz"):
            raise UserError(f"{path}: ends in .gz but holds no gzip data; download it again, or drop .gz from its name if it is plain text")
        return data
    try:
        unpacked = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip data is cut off or corrupt ({error}); download it again") from None
    if not unpacked:
        raise UserError(f"{path}: the file is empty (0 bytes after gzip); write or download it again")
    return unpacked


def _decode(data: bytes, path: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}:1: the text is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        where = f"{path}:{data.count(NEWLINE.encode(), 0, error.start) + 1}"
        byte = f"byte 0x{data[error.start]:02x}"
        raise UserError(f"{where}: {byte} is not UTF-8; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 if it is Latin-1)") from None
    if (nul := text.find("\0")) >= 0:
        raise UserError(f"{path}:{_line(text, nul)}: a NUL byte, so this is no UTF-8 text file; save it as UTF-8 text without NUL")
    if "\r" in text and NEWLINE not in text:
        raise UserError(f"{path}:1: the line ends are lone CR; turn them into LF (tr '\\r' '\\n')")
    return text


def _line(text: str, position: int) -> int:
    return text.count(NEWLINE, 0, position) + 1


def _sniff(data: bytes, path: str) -> str:
    """The format of a file whose suffix says nothing, such as WNUT-17's `emerging.test.annotated.gz`."""
    if data.startswith(b"PAR1"):
        return "parquet"
    lines = (line.strip(" \t\r") for line in _decode(data, path).split(NEWLINE))
    first = list(itertools.islice((line for line in lines if line and not line.startswith("-DOCSTART-")), 10))
    if first and first[0].startswith("{") and first[0].endswith("}"):
        return "jsonl"
    # Running text has several columns too, but not the same number in each line.
    widths = {len(_cells(line)) for line in first}
    if len(widths) == 1 and widths.pop() >= 2:
        return "columns"
    raise UserError(f"{path}: cannot tell the format from the suffix or the content; set format to one of {', '.join(FORMATS)}")


# ---- formats ----


def _read(data: bytes, path: str, *, format: str, comment: str) -> Placed:
    if format == "parquet":
        return _read_parquet(data, path)
    text = _decode(data, path)
    if format == "columns":
        return _read_columns(text, path, comment=comment)
    if format == "jsonl":
        return _read_json_array(text, path) if text.lstrip().startswith("[") else _read_json_lines(text, path)
    return _read_table(text, path, delimiter="," if format == "csv" else "\t")


def _read_columns(text: str, path: str, *, comment: str) -> Placed:
    start, width = 0, 0
    sentence: list[list[str]] = []
    for number, line in enumerate(itertools.chain(text.split(NEWLINE), [""]), 1):
        line = line.removesuffix("\r")
        if not line.strip(" \t") or line.startswith("-DOCSTART-"):
            if sentence:
                yield start, {str(i): list(column) for i, column in enumerate(zip(*sentence, strict=True))}
            sentence = []
            continue
        if comment and not sentence and line.startswith(comment):
            continue
        cells = _cells(line)
        width = width or max(len(cells), 2)
        if len(cells) != width:
            hint = "a token and its labels, with a TAB or spaces between, and a blank line after each sentence"
            raise UserError(f"{path}:{number}: found {len(cells)} column(s) in {line[:80]!r}, expected {width}: {hint}")
        start = start if sentence else number
        sentence.append(cells)


def _cells(line: str) -> list[str]:
    """The cells of a line that is not blank. Empty ones at its end do not count; NBSP and the like are part of a cell."""
    cells = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
    while not cells[-1].strip(" "):
        cells.pop()
    return cells


def _read_table(text: str, path: str, *, delimiter: str) -> Placed:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1  # a row's first line; after reading it `line_num` is its last
        try:
            row = next(reader, None)
        except csv.Error as error:
            hint = 'a cell that holds a quote is written "so ""here"" it is"; token files need format=\'columns\''
            raise UserError(f"{path}:{number}: {error}; {hint}") from None
        if row is None:
            return
        if not row:
            continue
        if not header:
            header = _unique(row, f"{path}:{number}")
        elif len(row) != len(header):
            hint = f"put a cell that holds {delimiter!r} in quotes"
            raise UserError(f"{path}:{number}: found {len(row)} cell(s), expected {len(header)} as in the header; {hint}")
        else:
            yield number, dict(zip(header, row, strict=True))


def _read_parquet(data: bytes, path: str) -> Placed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a whole Parquet file ({_one_line(error)}); write or download it again") from None
    _unique(table.column_names, path)
    rows = (row for batch in table.to_batches() for row in batch.to_pylist())
    yield from enumerate(rows)


def _unique(names: list[str], where: str) -> list[str]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where}: the column name(s) {', '.join(map(repr, twice))} stand more than once; rename all but one")
    return names


# ---- JSON ----


def _read_json_lines(text: str, path: str) -> Placed:
    for number, line in enumerate(text.split(NEWLINE), 1):
        if line.strip():
            record, end = _json_object(line, _skip(line, 0), path, first_line=number)
            if _skip(line, end) < len(line):
                raise UserError(f"{path}:{number}: more text behind the JSON object; write one object per line")
            yield number, record


def _read_json_array(text: str, path: str) -> Placed:
    position = _skip(text, text.index("[") + 1)
    if text.startswith("]", position):
        return
    number, counted, separator = 1, 0, ","
    while separator == ",":
        number, counted = number + text.count(NEWLINE, counted, position), position
        record, end = _json_object(text, position, path, first_line=1)
        yield number, record
        end = _skip(text, end)
        separator, position = text[end : end + 1], _skip(text, end + 1)
    if separator != "]":
        raise UserError(f"{path}:{_line(text, end)}: expected ',' or ']' behind an object of the JSON array; is the file cut off?")
    if position < len(text):
        raise UserError(f"{path}:{_line(text, position)}: more text behind the JSON array; write one array, or one object per line")


def _skip(text: str, position: int) -> int:
    match = JSON_SPACE.match(text, position)
    assert match is not None  # it matches the empty string
    return match.end()


def _json_object(text: str, position: int, path: str, *, first_line: int) -> tuple[dict[str, Any], int]:
    """The object that begins at `position`, and where it ends. `first_line` is the number of the text's first line."""
    try:
        value, end = JSON.raw_decode(text, position)
        if "\\u" in text[position:end]:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is JSON but not text: no tokenizer takes it
    except (ValueError, RecursionError) as error:
        message, at = (error.msg, error.pos) if isinstance(error, json.JSONDecodeError) else (_one_line(error), position)
        where = f"{path}:{first_line - 1 + _line(text, at)}"
        raise UserError(f"{where}: bad JSON: {message}; write one JSON object per line, or an array of objects") from None
    if not isinstance(value, dict):
        where = f"{path}:{first_line - 1 + _line(text, position)}"
        raise UserError(f'{where}: found a JSON {type(value).__name__}, expected an object such as {{"text": "..."}}')
    return value, end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return dict(pairs)


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number; write null or leave the record out")


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is beyond the range of a float")
    return float(number)


JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)


# ---- the hub ----


def _open_hub(path: str, *, split: str, max_examples: int | None) -> Source:
    dataset = _load_hub(path, split=split)
    # `datasets` makes this fingerprint from the name, the subset, the commit and the split: equal in every process.
    fingerprint = hashlib.sha256(repr((dataset._fingerprint, max_examples)).encode()).hexdigest()
    if max_examples is not None:
        dataset = dataset.select(range(min(max_examples, len(dataset))))
    records = dataset.to_list()
    if not records:
        raise UserError(f"{path}: split {split!r} holds no records; choose another")
    for column, label in _class_labels(dataset.features).items():
        for record in records:
            record[column] = _label_names(record[column], label.names)
    return Records(path, fingerprint, records, range(len(records)), where_format=": row {}")


def _load_hub(path: str, *, split: str) -> Any:
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    huggingface_hub.utils.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    asked, _, revision = path.removeprefix("hub:").partition("@")
    names = _hub_names(asked, path)
    asked_offline = datasets.config.HF_HUB_OFFLINE
    # Left alone, the library asks a dead network again and again, for 23 s and more, before it looks into its cache.
    offline = datasets.config.HF_HUB_OFFLINE = asked_offline or not _hub_answers()
    failed = []
    try:
        for name, subset in names:
            try:
                found = _load_splits(name, subset, revision, offline=offline)
            except Exception as error:  # noqa: BLE001  datasets, huggingface_hub, httpx, fsspec, yaml and pyarrow each raise their own
                failed.append(f"{name!r}{f' with subset {subset!r}' if subset else ''} ({_one_line(error)})")
                continue
            if split not in found:
                raise UserError(f"{path}: no split {split!r}; found {', '.join(found)}{nearest(split, found)}")
            return found[split]
    finally:
        datasets.config.HF_HUB_OFFLINE = asked_offline
    tried = f"tried {' and '.join(failed)}"
    if offline:
        reason = "HF_HUB_OFFLINE is set" if asked_offline else f"{huggingface_hub.constants.ENDPOINT} does not answer"
        hint = f"the cache {datasets.config.HF_DATASETS_CACHE} has not got it; load it once online, and write its name in full (org/name)"
        raise UserError(f"{path}: {reason} and {hint}; {tried}")
    raise UserError(f"{path}: {tried}; check the name, the subset and the revision, and for a private or gated data set HF_TOKEN")


def _load_splits(name: str, subset: str | None, revision: str, *, offline: bool) -> Any:
    """A dict of splits. Raises whatever the libraries raise."""
    import datasets
    import huggingface_hub

    if "/" not in name and not offline:
        # The hub moved the old one-word names (glue is nyu-mll/glue now), and huggingface_hub 2 refuses them in addresses of files.
        name = huggingface_hub.HfApi().dataset_info(name, timeout=10).id
    # Without the prefix a local folder of this name would be read in the hub's stead.
    found = datasets.load_dataset(f"hf://datasets/{name}", subset, revision=revision or None)
    if revision:
        # Without network the library takes the newest commit of its cache, whatever the revision asked for.
        commit = Path(next(iter(found.values())).cache_files[0]["filename"]).parent.name
        ref = Path(huggingface_hub.constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "refs", revision)
        if commit not in (revision, ref.read_text() if ref.is_file() else None):
            raise ValueError(f"revision {revision!r} is not in the cache, which holds commit {commit}")
    return found


def _hub_answers() -> bool:
    import huggingface_hub

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except (OSError, huggingface_hub.errors.HTTPError):
        return False
    return True


def _hub_names(name: str, path: str) -> list[tuple[str, str | None]]:
    """The (repository, subset) pairs that a name may mean, the likelier first: `glue/sst2` can be either."""
    import pkgutil

    import datasets.packaged_modules

    match name.split("/"):
        case [one] if one:
            pairs: list[tuple[str, str | None]] = [(one, None)]
        case [one, two] if one and two:
            pairs = [(f"{one}/{two}", None), (one, two)]
        case [one, two, three] if one and two and three:
            pairs = [(f"{one}/{two}", three)]
        case _:
            raise UserError(f"{path}: expected hub:NAME[/SUBSET][@REVISION], for example hub:org/name or hub:org/name/subset@main")
    # `load_dataset("csv")` would read the CSV files of the working directory.
    readers = {module.name for module in pkgutil.iter_modules(datasets.packaged_modules.__path__)}
    if pairs := [pair for pair in pairs if pair[0] not in readers]:
        return pairs
    raise UserError(f"{path}: {name!r} is a file format of the datasets library, not a data set; give hub:org/name")


def _class_labels(features: Any) -> dict[str, Any]:
    """The columns that hold class labels, or (nested) lists of them."""
    import datasets

    labels = {}
    for column, feature in features.items():
        while isinstance(feature, (datasets.List, datasets.LargeList)):
            feature = feature.feature
        if isinstance(feature, datasets.ClassLabel):
            labels[column] = feature
    return labels


def _label_names(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_label_names(item, names) for item in value]
    return None if value is None or value < 0 else names[value]  # -1 marks an unlabelled test split, as in GLUE


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
