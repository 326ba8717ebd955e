"""JSON files: one object a line, or an array of objects."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from flaxft.data.content import NEWLINE, Content, Placed, line_number
from flaxft.errors import UserError, reason

JSON_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(file: Content) -> Placed:
    """An object a record, as it is. Raises UserError."""
    first = next((line for line in file.lines() if line.strip()), "")
    return _read_array(file) if first.lstrip().startswith("[") else _read_lines(file)


def looks_like_json_lines(file: Content) -> bool:
    """The first line that is not blank is an object."""
    first = next((line.strip() for line in file.head.split(NEWLINE) if line.strip()), "")
    return first.startswith("{") and first.endswith("}")


def _read_lines(file: Content) -> Placed:
    path = file.path
    for number, line in enumerate(file.lines(), 1):
        if line.strip():
            record, end = json_object(line, skip(line, 0), path, first_line=number)
            if skip(line, end) < len(line):
                raise UserError(f"{path}:{number}: more text behind the JSON object; write one object per line")
            yield number, record


def _read_array(file: Content) -> Placed:
    path, text = file.path, file.text()
    position = skip(text, text.index("[") + 1)
    if text.startswith("]", position):
        return
    number, counted, separator = 1, 0, ","
    while separator == ",":
        number, counted = number + text.count(NEWLINE, counted, position), position
        record, end = json_object(text, position, path, first_line=1)
        yield number, record
        end = skip(text, end)
        separator, position = text[end : end + 1], skip(text, end + 1)
    if separator != "]":
        raise UserError(f"{path}:{line_number(text, end)}: expected ',' or ']' behind an object of the JSON array; is the file cut off?")
    if position < len(text):
        raise UserError(f"{path}:{line_number(text, position)}: more text behind the JSON array; write one array, or one object per line")


def skip(text: str, position: int) -> int:
    """Where the blanks that JSON allows end."""
    match = JSON_SPACE.match(text, position)
    assert match is not None  # it matches the empty string
    return match.end()


def json_object(
    text: str, position: int, path: str, *, first_line: int, hint: str = "write one JSON object per line, or an array of objects"
) -> tuple[dict[str, Any], int]:
    """The object that begins at `position`, and where it ends. `first_line` is the number of the text's first line. Raises UserError."""
    try:
        value, end = JSON.raw_decode(text, position)
        if "\\u" in text[position:end]:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is JSON but not text: no tokenizer takes it
    except (ValueError, RecursionError) as error:
        message, at = (error.msg, error.pos) if isinstance(error, json.JSONDecodeError) else (reason(error), position)
        where = f"{path}:{first_line - 1 + line_number(text, at)}"
        raise UserError(f"{where}: bad JSON: {message}; {hint}") from None
    if not isinstance(value, dict):
        where = f"{path}:{first_line - 1 + line_number(text, position)}"
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
