"""Lists in the cells of a table, as pandas, NumPy, `datasets` and JSON write them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 20
OPENING, CLOSING = "[({", "])}"
TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
       |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
       |(?P<name>[A-Za-z_][\w.]*)
       |(?P<cut>\.\.\.)
       |(?P<mark>[\[\](){},:=])""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4}|.)", re.DOTALL)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "/": "/", "\\": "\\", "'": "'", '"': '"', "\n": ""}
# The lists that most cells hold, which need no parser: of texts without escapes, and of whole numbers with blanks between.
TEXTS = re.compile(r"""\[\s*(?:(?:'[^'\\]*'|"[^"\\]*")(?:\s*,\s*|\s+|(?=\])))*\]""")
TEXT = re.compile(r"""'([^']*)'|"([^"]*)\"""")
NUMBERS = re.compile(r"\[[\d\s]*\]")
NAMES = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}


class CutError(ValueError):
    """NumPy left elements out, of which "..." is what stays."""


def looks_like_list(cell: str) -> bool:
    """Whether a cell stands in brackets or braces, or is an array."""
    cell = cell.strip()
    return bool(cell) and (cell[0] in OPENING or cell.startswith(("array(", "np.array("))) and cell[-1] in CLOSING


def parse_list(cell: str) -> list[Any] | dict[str, Any]:
    """The list or object that a cell spells. Raises ValueError for what is neither.

    Lists are `['a', 'b']`, `["a", "b"]`, `['a' 'b']`, `[1 0 1]`, `array(['a'], dtype=object)` and `(1, 2)`; `{'text': ['a'], 'answer_start': [0]}` is an
    object. `['a' ... 'b']` raises CutError.
    """
    cell = cell.strip()
    if TEXTS.fullmatch(cell):
        return [one or other for one, other in TEXT.findall(cell)]
    if NUMBERS.fullmatch(cell):
        return [int(number) for number in cell[1:-1].split()]
    value: Any = None
    try:
        value = json.loads(cell, parse_constant=_refuse, parse_float=_finite)
        if "\\u" in cell:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        value = _Parser(cell).whole()
    if not isinstance(value, list | dict):
        raise ValueError("neither a list nor an object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no value")


class _Parser:
    """Values with commas, blanks or both between them, by recursive descent."""

    def __init__(self, text: str):
        self._text, self._position = text, 0

    def whole(self) -> Any:
        self._skip()
        value = self._value(MAX_DEPTH)
        self._skip()
        if self._position < len(self._text):
            raise ValueError("text behind the list")
        return value

    def _skip(self) -> bool:
        """Passes over blanks; whether there were any."""
        start = self._position
        while self._text[self._position : self._position + 1].isspace():
            self._position += 1
        return self._position > start

    def _next(self) -> tuple[str, str]:
        found = TOKEN.match(self._text, self._position)
        if found is None:
            raise ValueError(f"no value at {self._text[self._position : self._position + 20]!r}")
        self._position = found.end()
        return found.lastgroup or "", found[0]

    def _value(self, depth: int) -> Any:
        if not depth:
            raise ValueError("lists in lists, too deep")
        kind, token = self._next()
        if kind == "text":
            return _text(token)
        if kind == "number":
            return int(token) if token.lstrip("+-").isdecimal() else _finite(token)
        if kind == "cut":
            raise CutError("elements are left out where '...' stands")
        if kind == "name" and token in NAMES:
            return NAMES[token]
        if kind == "name" and self._text[self._position : self._position + 1] == "(":
            self._position += 1
            return self._call(depth)
        if token == "[":
            return self._elements("]", depth)[0]
        if token == "(":
            elements, has_comma = self._elements(")", depth)
            return elements if has_comma or len(elements) != 1 else elements[0]
        if token == "{":
            return self._object(depth)
        raise ValueError(f"no value at {token!r}")

    def _elements(self, closing: str, depth: int) -> tuple[list[Any], bool]:
        """Those up to the closing bracket, and whether a comma stood between any."""
        elements: list[Any] = []
        is_apart, has_comma = True, False
        while True:
            is_apart = self._skip() or is_apart
            mark = self._text[self._position : self._position + 1]
            if mark == closing:
                self._position += 1
                return elements, has_comma
            if mark == "," and elements:
                self._position += 1
                is_apart = has_comma = True
                continue
            if not is_apart:
                raise ValueError("neither a comma nor a blank between two values")
            elements.append(self._value(depth - 1))
            is_apart = False

    def _call(self, depth: int) -> Any:
        """The first argument of `array([...], dtype=object)` or `np.int64(3)`."""
        self._skip()
        value = self._value(depth - 1)
        while (token := self._next_mark())[1] != ")":
            if token[0] not in ("name", "mark", "text", "number") or token[1] in OPENING:
                raise ValueError("a call of more than one value")
        return value

    def _next_mark(self) -> tuple[str, str]:
        self._skip()
        return self._next()

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            self._skip()
            if self._text[self._position : self._position + 1] == "}":
                self._position += 1
                return found
            kind, token = self._next()
            if token == "," and found:
                continue
            if kind != "text" or self._next_mark()[1] != ":":
                raise ValueError("an object without a name")
            self._skip()
            found[_text(token)] = self._value(depth - 1)


def _text(token: str) -> str:
    """What a quoted text spells. Raises ValueError for half a surrogate pair, which is no text."""
    text = ESCAPE.sub(_unescaped, token[1:-1])
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # JSON writes an emoji as a pair
        text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    return text


def _unescaped(found: re.Match[str]) -> str:
    spelt = found[1]
    if len(spelt) > 1:
        return chr(int(spelt[1:], 16))
    return ESCAPED.get(spelt, found[0])


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is beyond the range of a float")
    return float(number)
