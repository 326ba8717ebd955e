"""JSON files: one object a line, or an array of objects."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from flaxft.data.content import NEWLINE, Content, Placed, line_number
from flaxft.errors import UserError, reason

# Keys that a record has, not what holds records. The first two are no lists of texts in a record.
TEXTS = ("text", "sentence", "tokens", "words", "sentence1", "context", "question", "messages", "conversation", "conversations", "content", "label", "labels",
         "paragraphs")  # fmt: skip
JSON_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(file: Content) -> Placed:
    """An object a record, as it is. Raises UserError, also for sound JSON that is no list of records."""
    first = next((line for line in file.lines() if line.strip()), "").strip()
    if first.startswith("["):
        return _read_array(file)
    records = _read_lines(file) if first.endswith(("}", "},")) or not first.startswith("{") else _read_stream(file)
    return records if file.is_asked else _not_wrapped(records, file.path)


def looks_like_json_lines(file: Content) -> bool:
    """The first line that is not blank is an object."""
    first = next((line.strip() for line in file.head.split(NEWLINE) if line.strip()), "")
    return first.startswith("{") and first.endswith("}")


def _read_lines(file: Content) -> Placed:
    path = file.path
    for number, line in enumerate(file.lines(), 1):
        if line.strip():
            record, end = json_object(line, skip(line, 0), path, first_line=number)
            if line[skip(line, end) :].strip() == ",":
                hint = "JSON lines have none: delete them (sed 's/},[[:space:]]*$/}/'), or put [ before the first and ] behind the last object"
                raise UserError(f"{path}:{number}: a comma behind the JSON object; {hint}")
            if skip(line, end) < len(line):
                raise UserError(f"{path}:{number}: more text behind the JSON object; write one object per line")
            yield number, record


def _read_stream(file: Content) -> Placed:
    """Objects over several lines, one behind the other, as jq prints them."""
    text, path = file.text(), file.path
    position, number, counted = skip(text, 0), 1, 0
    while position < len(text):
        number, counted = number + text.count(NEWLINE, counted, position), position
        record, end = json_object(text, position, path, first_line=1)
        yield number, record
        position = skip(text, end)
        if text.startswith(",", position):
            hint = "put [ before the first and ] behind the last object, or write one object per line without commas"
            raise UserError(f"{path}:{line_number(text, position)}: a comma behind a JSON object, but no array around them; {hint}")


def _read_array(file: Content) -> Placed:
    path, text = file.path, file.text()
    position = skip(text, text.index("[") + 1)
    if text.startswith("]", position):
        return
    number, counted, separator = 1, 0, ","
    while separator == ",":
        number, counted = number + text.count(NEWLINE, counted, position), position
        if text.startswith("]", position):
            raise UserError(f"{path}:{line_number(text, position)}: bad JSON: Expecting value: a comma stands before the closing ]; delete it")
        record, end = json_object(text, position, path, first_line=1)
        yield number, record
        end = skip(text, end)
        separator, position = text[end : end + 1], skip(text, end + 1)
    if separator != "]":
        raise UserError(f"{path}:{line_number(text, end)}: expected ',' or ']' behind an object of the JSON array; is the file cut off?")
    if position < len(text):
        raise UserError(f"{path}:{line_number(text, position)}: more text behind the JSON array; write one array, or one object per line")


# ---- an object that holds the records ----


def _not_wrapped(records: Placed, path: str) -> Placed:
    """The records, unless they are one alone that holds others. Raises UserError."""
    first = next(records, None)
    if first is None:
        return
    second = next(records, None)
    if second is None and (told := _wrapped(first[1])):
        raise UserError(f"{path}:{first[0]}: one JSON object, {told}")
    yield first
    if second is not None:
        yield second
    yield from records


def _wrapped(value: dict[str, Any]) -> str:
    """What an object is that holds records in place of being one, and what to do; "" for a record."""
    records = "write it with df.to_json(FILE, orient='records', lines=True)"
    if {"columns", "data"} <= value.keys() and all(isinstance(value[key], list) for key in ("columns", "data")):
        return f"a table of pandas (orient='split'); {records}"
    if {"schema", "data"} <= value.keys() and isinstance(value["schema"], dict):
        return f"a table of pandas (orient='table'); {records}"
    parts = list(value.values())
    if parts and all(isinstance(part, dict) and part and part.keys() == parts[0].keys() for part in parts):
        if all(key.isdecimal() for key in parts[0]):
            return f"a table of pandas, a column at a time; {records}"
        if len(parts) > 1 and all(key.isdecimal() for key in value):
            return f"a table of pandas, whose rows have numbers (orient='index'); {records}"
    if len(parts) > 1 and all(isinstance(part, dict) and any(key in part for key in TEXTS) for part in parts):
        return f"which holds {len(parts)} objects by name, its records, it seems; write them as a list (jq '[.[]]' FILE > NEW.json)"
    if any(isinstance(value.get(key), list) and value[key] and all(isinstance(item, str) for item in value[key]) for key in TEXTS[:2]):
        return "whose columns are lists; write one object per line, a record each"
    if any(key in value for key in TEXTS):
        return ""
    found = max(_lists(value, dict), key=lambda pair: len(pair[1]), default=None)
    if found is None:
        if found := max(_lists(value, list), key=lambda pair: len(pair[1]), default=None):
            return f"which holds a list of {len(found[1])} lists at {found[0]!r}; write one object per line, such as {{\"text\": ..., \"label\": ...}}"
        return ""
    key, items = found
    return f"which holds a list of {len(items)} objects at {key!r}: its records, it seems; write that list alone (jq .{key} FILE > NEW.json)"


def _lists(value: dict[str, Any], kind: type) -> list[tuple[str, list[Any]]]:
    """The lists of objects (or of lists) in an object, and in the objects in it, each with its name."""
    found = []
    for key, part in value.items():
        inside = part.items() if isinstance(part, dict) else ()
        for name, items in ((key, part), *((f"{key}.{inner}", items) for inner, items in inside)):
            if isinstance(items, list) and items and all(isinstance(item, kind) for item in items):
                found.append((name, items))
    return found


# ---- one object ----


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
        raise UserError(f"{where}: bad JSON: {message}; {_mend(error, text, at, usual=hint)}") from None
    if not isinstance(value, dict):
        where = f"{path}:{first_line - 1 + line_number(text, position)}"
        raise UserError(f'{where}: found a JSON {type(value).__name__}, expected an object such as {{"text": "..."}}')
    return value, end


def _mend(error: ValueError | RecursionError, text: str, at: int, *, usual: str) -> str:
    if isinstance(error, NotJsonError):
        return error.mend
    if isinstance(error, UnicodeEncodeError):
        return "write both halves of the pair, or leave the character out"
    if isinstance(error, RecursionError):
        return "lists and objects are nested too deep"
    if text[at : at + 1] == "'":
        return "names and texts stand in double quotes; Python writes JSON with json.dumps"
    if text[at : at + 4] in ("True", "None") or text[at : at + 5] == "False":
        return "JSON has true, false and null; Python writes JSON with json.dumps"
    return usual


class NotJsonError(ValueError):
    """What Python reads and JSON does not have."""

    def __init__(self, message: str, mend: str):
        super().__init__(message)
        self.mend = mend


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise NotJsonError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object", "rename or delete one of them")
    return dict(pairs)


def _refuse_constant(constant: str) -> float:
    raise NotJsonError(f"{constant} is no JSON number", "write null, or leave the record out (Python and pandas write it for a missing value)")


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise NotJsonError(f"{number} is beyond the range of a float", "write a number of less than 1e308, or null")
    return float(number)


JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
