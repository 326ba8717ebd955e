"""Readers: the records of a column, JSON, SQuAD, CSV, TSV or Parquet file. The hub's are in hub.py."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import itertools
import json
import math
import mmap
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flaxft.data.base import Record, Records, Source
from flaxft.data.spool import Packed, Spool
from flaxft.errors import UserError, nearest, reason

FORMATS = ("columns", "jsonl", "csv", "tsv", "parquet", "text", "squad")
SUFFIXES = {
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2", ".txt"), "columns"),
    **dict.fromkeys((".jsonl", ".json"), "jsonl"),
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
MAX_CELL = 1 << 27  # characters in one CSV cell; Python's own limit of 131072 is shorter than a book
BLOCK = 1 << 20  # bytes of a file that are looked at together
NEWLINE = "\n"  # nothing else ends a line: U+2028 and U+0085, where str.splitlines cuts, are found inside tokens
LINE_END = NEWLINE.encode()
JSON_SPACE = re.compile(r"[ \t\r\n]*")
# How a SQuAD file begins: an object whose "data", after scalars such as "version", is a list of objects or empty.
SQUAD = re.compile(rb'(\xef\xbb\xbf)?\s*\{(\s*"[^"\\]*"\s*:\s*("[^"\\]*"|[\w.+-]+)\s*,)*\s*"data"\s*:\s*\[\s*[{\]]')
WHERE = {"parquet": ": row {}", "squad": ": {}"}  # how a place is said; elsewhere it is a line

Data = bytes | mmap.mmap  # of a file; the latter where it is large
KEPT = 4  # files whose records are kept: a task looks through its train split for labels, and a run opens the split anew, often of several tasks
_opened: dict[tuple[str, str], Records] = {}  # (path, fingerprint) -> records, the last one last
Placed = Iterator[tuple[int | str, dict[str, Any]]]  # the place of each record, for most formats the number of its line, and the record


def open_source(path: str, *, split: str, format: str | None = None, comment: str = "", max_examples: int | None = None) -> Source:
    """The records of a file, or of `hub:NAME[/SUBSET][@REVISION][#SPLIT]`.

    A file's format is `format`, or follows from the suffix (`.gz` may stand behind it), or else from the content. Records are:
    columns: one sentence each, `{"0": [token, ...], "1": [...], ...}`, a list per column; jsonl, parquet: the object or row as it is;
    csv, tsv: the row as strings under the header's names; text (only where asked for): `{"text": line}` of each line that is not blank;
    squad: one question each, see `_read_squad`; hub: the row, with class labels as their names. A .json file is JSON lines or an array of objects, or SQuAD's
    layout if it begins so.

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
        from flaxft.data.hub import open_hub

        return open_hub(path, split=split, max_examples=max_examples)
    if format is not None and format not in FORMATS:
        raise UserError(f"format={format!r} is unknown; use one of {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    return _open_file(path, format=format, comment=comment, max_examples=max_examples)


def _open_file(path: str, *, format: str | None, comment: str, max_examples: int | None) -> Source:
    packed = _read_bytes(path)
    fingerprint = hashlib.sha256(packed)
    data = _unpack(packed, path)
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    format = format or ("squad" if suffix == ".json" and SQUAD.match(data) else SUFFIXES.get(suffix)) or _sniff(data, path)
    if comment and format != "columns":
        raise UserError(f"{path}: comment={comment!r} is for column files, but this one is read as {format}; leave it out or set format='columns'")
    fingerprint.update(repr((format, comment, max_examples)).encode())
    key = path, fingerprint.hexdigest()  # of the content as it is now, so that what is kept is never old
    found = _opened.get(key)
    if found is None:
        places, records = Packed(), Packed()
        for place, record in itertools.islice(_read(data, path, format=format, comment=comment), max_examples):
            places.append(place)
            records.append(record)
        if not records:
            raise UserError(f"{path}: no records; expected at least one{' row below the header' if format in ('csv', 'tsv') else ''}")
        found = _opened[key] = Records(path, key[1], records, places, where_format=WHERE.get(format, ":{}"))
        for old in list(_opened)[:-KEPT]:
            _opened.pop(old, None)
    return found


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


# ---- bytes and text ----


def _read_bytes(path: str) -> Data:
    if re.match(r"[A-Za-z][\w+.-]+://", path):
        raise UserError(f"{path}: an address, and only files and hub:NAME are read; download it, and name the file")
    file = Path(path).expanduser()
    spool = Spool()  # a copy: the file itself may change, and a pipe is read once
    try:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                spool.write(block)
        return spool.content()
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


def _unpack(data: Data, path: str) -> Data:
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


def _lines(data: Data) -> Iterator[str]:
    """The lines of a sound text, without their ends."""
    return (line for block in _blocks(data) for line in block.removesuffix(NEWLINE).split(NEWLINE))


def _blocks(data: Data) -> Iterator[str]:
    """A sound text, some whole lines at a time."""
    return (block.decode() for block in _byte_blocks(data))


def _byte_blocks(data: Data) -> Iterator[bytes]:
    start = len(codecs.BOM_UTF8) if data[:3] == codecs.BOM_UTF8 else 0
    while start < len(data):
        end = data.find(LINE_END, start + BLOCK) + 1 or len(data)
        yield data[start:end]
        start = end


def _check_text(data: Data, path: str) -> None:
    """All of it, before a line is read. Raises UserError."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(f"{path}:1: the text is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    nul, line = 0, 1
    for block in _byte_blocks(data):
        try:
            block.decode()
        except UnicodeDecodeError as error:
            where = f"{path}:{line + block.count(LINE_END, 0, error.start)}"
            byte = f"byte 0x{block[error.start]:02x}"
            raise UserError(f"{where}: {byte} is not UTF-8; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 if it is Latin-1)") from None
        if not nul and (at := block.find(b"\0")) >= 0:
            nul = line + block.count(LINE_END, 0, at)
        line += block.count(LINE_END)
    if nul:
        raise UserError(f"{path}:{nul}: a NUL byte, so this is no UTF-8 text file; save it as UTF-8 text without NUL")
    if line == 1 and data.find(b"\r") >= 0:
        raise UserError(f"{path}:1: the line ends are lone CR; turn them into LF (tr '\\r' '\\n')")


def _line(text: str, position: int) -> int:
    return text.count(NEWLINE, 0, position) + 1


def _sniff(data: Data, path: str) -> str:
    """The format of a file whose suffix says nothing, such as WNUT-17's `emerging.test.annotated.gz`."""
    if data[:4] == b"PAR1":
        return "parquet"
    _check_text(data, path)
    lines = (line.strip(" \t\r") for line in _lines(data))
    first = list(itertools.islice((line for line in lines if line and not line.startswith("-DOCSTART-")), 10))
    if first and first[0].startswith("{") and first[0].endswith("}"):
        return "jsonl"
    # Running text has several columns too, but not the same number in each line.
    widths = {len(_cells(line)) for line in first}
    if len(widths) == 1 and widths.pop() >= 2:
        return "columns"
    raise UserError(f"{path}: cannot tell the format from the suffix or the content; set format to one of {', '.join(FORMATS)}")


# ---- formats ----


def _read(data: Data, path: str, *, format: str, comment: str) -> Placed:
    if format == "parquet":
        return _read_parquet(data, path)
    _check_text(data, path)
    if format == "columns":
        return _read_columns(_lines(data), path, comment=comment)
    if format == "text":
        lines = ((number, line.removesuffix("\r")) for number, line in enumerate(_lines(data), 1))
        return ((number, {"text": line}) for number, line in lines if line.strip())
    if format in ("csv", "tsv"):
        return _read_table(_blocks(data), path, delimiter="," if format == "csv" else "\t")
    first = next((line for line in _lines(data) if line.strip()), "")
    if format == "jsonl" and not first.lstrip().startswith("["):
        return _read_json_lines(_lines(data), path)
    text = "".join(_blocks(data))
    return _read_squad(text, path) if format == "squad" else _read_json_array(text, path)


def _read_columns(lines: Iterable[str], path: str, *, comment: str) -> Placed:
    start, width = 0, 0
    sentence: list[list[str]] = []
    for number, line in enumerate(itertools.chain(lines, [""]), 1):
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


def _read_table(blocks: Iterable[str], path: str, *, delimiter: str) -> Placed:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    lines = (line for block in blocks for line in io.StringIO(block, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
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


def _read_parquet(data: Data, path: str) -> Placed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(pa.py_buffer(data)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a whole Parquet file ({reason(error)}); write or download it again") from None
    _unique(table.column_names, path)
    rows = (row for batch in table.to_batches(max_chunksize=1024) for row in batch.to_pylist())  # each of them as Python objects for a moment alone
    yield from enumerate(rows)


def _unique(names: list[str], where: str) -> list[str]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where}: the column name(s) {', '.join(map(repr, twice))} stand more than once; rename all but one")
    return names


# ---- JSON ----


def _read_json_lines(lines: Iterable[str], path: str) -> Placed:
    for number, line in enumerate(lines, 1):
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


def _read_squad(text: str, path: str) -> Placed:
    """One record a question of a file in the layout of SQuAD 1.1 or 2.0; its place is "article 3, question 5733be28".

    `{"id", "title", "context", "question", "answers": {"text": [...], "answer_start": [...]}, "is_impossible"}`, as the hub's squad_v2 has it; title, answers
    and is_impossible are there where the file has them.
    """
    content, end = _json_object(text, _skip(text, 0), path, first_line=1, hint="a SQuAD file is one JSON object; is it cut off?")
    if (end := _skip(text, end)) < len(text):
        raise UserError(f"{path}:{_line(text, end)}: more text behind the JSON object; a SQuAD file is one, and one object per line is format='jsonl'")
    for number, article in enumerate(_squad_part(content, "data", list, path), 1):
        where = f"{path}: article {number}"
        paragraphs = _squad_part(article, "paragraphs", list, where)
        title = {"title": _squad_part(article, "title", str, where)} if "title" in article else {}
        for place, paragraph in enumerate(paragraphs, 1):
            context = _squad_part(paragraph, "context", str, f"{where}, paragraph {place}")
            for question in _squad_part(paragraph, "qas", list, f"{where}, paragraph {place}"):
                name = _squad_part(question, "id", str, f"{where}, paragraph {place}")
                here = f"{where}, question {name}"
                record = {"id": name, **title, "context": context, "question": _squad_part(question, "question", str, here)}
                if "answers" in question:
                    answers = _squad_part(question, "answers", list, here)
                    kinds = {"text": str, "answer_start": int}
                    record["answers"] = {key: [_squad_part(answer, key, kind, here) for answer in answers] for key, kind in kinds.items()}
                if "is_impossible" in question:
                    record["is_impossible"] = _squad_part(question, "is_impossible", bool, here)
                yield f"article {number}, question {name}", record


def _squad_part(holder: Any, key: str, kind: type, where: str) -> Any:
    """`holder[key]`, which must be of this kind. Raises UserError."""
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, kind):
        layout = "data[].paragraphs[] have a context and qas[], and these a question, an id and answers[] of text and answer_start"
        names = {list: "list", str: "text", int: "number", bool: "true or false"}
        raise UserError(f"{where}: no {names[kind]} {key!r}{f' but {found!r}'[:40] if found is not None else ''}; expected SQuAD's layout: {layout}")
    return found


def _skip(text: str, position: int) -> int:
    match = JSON_SPACE.match(text, position)
    assert match is not None  # it matches the empty string
    return match.end()


def _json_object(
    text: str, position: int, path: str, *, first_line: int, hint: str = "write one JSON object per line, or an array of objects"
) -> tuple[dict[str, Any], int]:
    """The object that begins at `position`, and where it ends. `first_line` is the number of the text's first line."""
    try:
        value, end = JSON.raw_decode(text, position)
        if "\\u" in text[position:end]:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is JSON but not text: no tokenizer takes it
    except (ValueError, RecursionError) as error:
        message, at = (error.msg, error.pos) if isinstance(error, json.JSONDecodeError) else (reason(error), position)
        where = f"{path}:{first_line - 1 + _line(text, at)}"
        raise UserError(f"{where}: bad JSON: {message}; {hint}") from None
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
