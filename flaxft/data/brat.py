"""Annotations of brat (https://brat.nlplab.org/standoff.html): spans in an .ann file, their text in the .txt beside it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from flaxft.data.content import Content, Placed
from flaxft.errors import UserError

ENTITY = re.compile(r"(T\d+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)\t?(.*)")
log = logging.getLogger("flaxft")


def beside(path: str) -> Sequence[str]:
    """The file of the text."""
    return [str(Path(path).with_suffix(".txt"))]


def read_brat(file: Content) -> Placed:
    """A line of the text a record, `{"text", "entities": [{"start", "end", "label", "text"}]}`; lines that one span covers are one. Raises UserError.

    A discontinuous span is left out, and said.
    """
    (name,) = beside(file.path)
    if name not in file.beside:
        raise UserError(f"{file.path}: an annotation file of brat, whose text {name} is not beside it; put it there")
    try:
        text = file.beside[name].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 ({error}); save it as UTF-8") from None
    spans: list[tuple[int, int, str, str]] = []
    broken = []
    for number, line in enumerate(file.lines(), 1):
        if not line.startswith("T"):
            continue  # relations, events, attributes, notes
        match = ENTITY.fullmatch(line.removesuffix("\r"))
        if match is None:
            raise UserError(f"{file.path}:{number}: found {line[:80]!r}, expected T1, a TAB, a type, its start and end, a TAB and its text")
        if ";" in match[3]:
            broken.append(f"{file.path}:{number}: {match[4]!r}")
            continue
        start, end = map(int, match[3].split())
        if not 0 <= start < end <= len(text):
            raise UserError(f"{file.path}:{number}: the span {start} {end} is empty or beyond {name} of {len(text)} characters; is it its text?")
        spans.append((start, end, match[2], match[4]))
    if broken:
        log.warning("%s: %d discontinuous spans are left out, the first is %s", file.path, len(broken), broken[0])
    for start, end in _pieces(text, spans):
        inside = [
            # brat writes a line break inside a span as a blank
            {"start": s - start, "end": e - start, "label": label, "text": "" if "\n" in text[s:e] else mention}
            for s, e, label, mention in sorted(spans)
            if start <= s < end
        ]
        yield text.count("\n", 0, start) + 1, {"text": text[start:end], "entities": inside}


def _pieces(text: str, spans: Sequence[tuple[int, int, str, str]]) -> list[tuple[int, int]]:
    """The lines of a text that are not blank, without their ends; those that a span joins are one."""
    pieces: list[tuple[int, int]] = []
    begin = 0
    for match in re.finditer(r"\r?\n|\Z", text):
        if any(start < match.end() and match.start() < end for start, end, _, _ in spans) and match.start() < len(text):
            continue
        if text[begin : match.start()].strip():
            pieces.append((begin, match.start()))
        begin = match.end()
    return pieces
