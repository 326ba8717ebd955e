"""Spans of characters in a text, as annotation tools export them, and the words and tags that they become.

`[[0, 9, "PER"]]` of doccano and spaCy, `[{"start": 0, "end": 9, "label": "PER"}]` of Prodigy, Label Studio and many more,
`{"PER": {"Anna": [[0, 3]]}}` of CLUENER.
Offsets count code points and the end stands behind the last one; what counts otherwise (UTF-16, bytes, an end that is inside) is known by the texts of the
spans, or by most spans cutting words, and said.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flaxft.data import words
from flaxft.data.base import Record, Source
from flaxft.data.derived import Derived, kept
from flaxft.data.spool import Packed
from flaxft.errors import UserError

SAMPLE = 200  # records that are looked at for spans
TEXTS = ("text", "content", "sentence", "document", "body", "context", "utterance")
SPANS = ("entities", "spans", "label", "labels", "annotations", "annotation", "ner", "ents")  # looked at first; then any other column
STARTS = ("start", "start_offset", "startOffset", "start_char", "begin", "from")
ENDS = ("end", "end_offset", "endOffset", "end_char", "stop", "to")
LABELS = ("label", "labels", "type", "tag", "entity", "entity_type", "entity_group", "category", "class", "hypertextlabels")
MENTIONS = ("text", "mention", "value", "word", "surface")
WAYS = ("punctuation", "clitics", "penn", "pattern")  # of cutting a text that spans were drawn in, the likelier first
UNITS = {"code points": None, "UTF-16 units": "utf-16-le", "bytes": "utf-8"}
PLACES = "word_offsets"  # the column of a made record with the characters of its words


class Span(NamedTuple):
    """Characters of a text: the first, one past the last, a label, and what the file says stands there ("" where it does not)."""

    start: int
    end: int
    label: str
    mention: str = ""


class Columns(NamedTuple):
    """Where texts and their spans stand."""

    text: str
    spans: str


def find(source: Source, *, text: str = "", spans: str = "") -> Columns | None:
    """The columns of texts and of their spans; None where the records have none. `text` and `spans` are those that the user asked for."""
    sample = list(itertools.islice(source, SAMPLE))
    names = dict.fromkeys(name for record in sample for name in record)
    strings = [name for name in names if all(isinstance(record.get(name), str) for record in sample)]
    texts = [text] if text else [*(name for name in TEXTS if name in strings), *sorted(strings, key=lambda name: -sum(len(record[name]) for record in sample))]
    if not texts or texts[0] not in strings:
        return None
    order = [spans] if spans else [*(name for name in SPANS if name in names), *(name for name in names if name not in SPANS)]
    for name in order:
        values = [_value(record.get(name)) for record in sample]
        if name != texts[0] and any(map(_entries, values)) and all(value is None or _entries(value) is not None for value in values):
            return Columns(texts[0], name)
    return None


def _value(cell: Any) -> Any:
    """A cell, read where it is a list or an object written as text."""
    if isinstance(cell, str) and cell.strip()[:1] in ("[", "{"):
        try:
            return ast.literal_eval(cell.strip().replace("null", "None"))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return cell
    return cell


def _entries(value: Any) -> list[Any] | None:
    """The spans of a record as they stand in the file, one an entry, or None for what holds none."""
    if isinstance(value, Mapping):  # {type: {mention: [[start, end]]}}, or {type: [[start, end]]}
        found: list[Any] = []
        for label, places in value.items():
            pairs = places.items() if isinstance(places, Mapping) else [("", places)]
            for mention, ends in pairs:
                if not isinstance(ends, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 and _are_whole(pair) for pair in ends):
                    return None
                found += [{"start": start, "end": end, "label": label, "text": mention} for start, end in ends]
        return found
    if not isinstance(value, list | tuple):
        return None
    entries = [point | {"label": entry.get("label")} for entry in value if isinstance(entry, dict) and isinstance(entry.get("points"), list)
               for point in entry["points"] if isinstance(point, dict)] or list(value)  # fmt: skip
    return entries if all(map(_is_span, entries)) else None


def _is_span(entry: Any) -> bool:
    if isinstance(entry, Mapping):
        return _of(entry, STARTS) is not None and _of(entry, ENDS) is not None and any(key in entry for key in LABELS)
    return isinstance(entry, list | tuple) and len(entry) >= 3 and _are_whole(entry[:2]) and any(isinstance(one, str) for one in entry[2:])


def _are_whole(numbers: Sequence[Any]) -> bool:
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)


def _of(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if key in entry), None)


def _span(entry: Any, text: str) -> Span:
    """Raises UserError."""
    if isinstance(entry, Mapping):
        start, end, label, mention = (_of(entry, keys) for keys in (STARTS, ENDS, LABELS, MENTIONS))
    else:
        (start, end), strings = entry[:2], [one for one in entry[2:] if isinstance(one, str)]
        mention = next((one for one in strings if len(strings) > 1 and one == text[start:end]), "")
        label = next((one for one in strings if not mention or one != mention), mention)
    label = label[0] if isinstance(label, list) and label else label
    if not _are_whole((start, end)) or not isinstance(label, str) or not label.strip():
        raise UserError(f"the span {str(entry)[:80]} has no start, end and label; expected whole numbers and a text")
    return Span(start, end, label.strip(), mention if isinstance(mention, str) else "")


def _moved(span: Span, text: str, unit: str) -> Span:
    """A span whose offsets count another unit, in code points."""
    encoding = UNITS[unit]
    if encoding is None:
        return span
    size = 2 if encoding == "utf-16-le" else 1
    data = text.encode(encoding)
    return span._replace(start=_points(data, span.start * size, encoding), end=_points(data, span.end * size, encoding))


def _points(data: bytes, offset: int, encoding: str) -> int:
    return len(data[:offset].decode(encoding, errors="ignore")) + max(0, offset - len(data))


def unit_of(pairs: Sequence[tuple[str, Sequence[Span]]]) -> str:
    """What offsets count: code points, or another unit where by those most spans of texts beyond ASCII cut words, and by it hardly any."""
    odd = [(text, span) for text, spans in pairs if not text.isascii() for span in spans]
    shares = {unit: sum(_is_clean(_moved(span, text, unit), text) for text, span in odd) / max(len(odd), 1) for unit in UNITS}
    best = max(shares, key=lambda unit: shares[unit])
    return best if len(odd) > 2 and shares["code points"] < 0.6 and shares[best] > 0.9 else "code points"


def _is_clean(span: Span, text: str) -> bool:
    """Whether a span begins and ends where a word does."""
    if not 0 <= span.start < span.end <= len(text):
        return False
    if span.mention:
        return text[span.start : span.end] == span.mention
    before, after = text[span.start - 1 : span.start], text[span.end : span.end + 1]
    inside = text[span.start : span.end]
    return inside == inside.strip() and not (before.isalnum() and inside[0].isalnum()) and not (after.isalnum() and inside[-1].isalnum())


def read(record: Record, columns: Columns) -> tuple[str, list[Span]]:
    """A record's text and its spans as they stand in the file. Raises UserError."""
    text, value = record.get(columns.text), _value(record.get(columns.spans))
    if not isinstance(text, str):
        raise UserError(f"column {columns.text!r} is {str(text)[:40]!r}, expected a text; set task.text_columns")
    entries = [] if value is None else _entries(value) if value else []
    if entries is None:
        raise UserError(f"column {columns.spans!r} is {str(value)[:60]!r}, expected spans such as [0, 9, 'PER']; set task.label_column")
    return text, [_span(entry, text) for entry in entries]


# ---- words and tags -------------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Tagger:
    """Makes words and tags of texts and spans, and counts what did not fit."""

    how: str  # a way of `words`, for records that bring no words of their own
    unit: str = "code points"
    num_spans: int = 0
    num_widened: int = 0
    num_stripped: int = 0
    num_inside: int = 0  # ends that stand inside the span
    left_out: list[str] = dataclasses.field(default_factory=list)

    def tagged(self, record: Record, columns: Columns, *, where: str) -> dict[str, Any]:
        """`{"text", "tokens", "tags", PLACES}` and the other columns. Raises UserError."""
        text, spans = read(record, columns)
        places = _own_places(record.get("tokens"), text)
        places = words.split(text, self.how) if places is None else places
        if not places:
            raise UserError(f"column {columns.text!r} holds no word; remove the record")
        tags = ["O"] * len(places)
        spans = sorted((self._sound(span, text) for span in spans), key=lambda span: (span.start - span.end, span.start))
        for span in spans:  # the longest first
            inside = [i for i, (start, end) in enumerate(places) if start < span.end and span.start < end]
            self.num_spans += 1
            if not inside or any(tags[i] != "O" for i in inside):
                self.left_out.append(f"{where}: {text[span.start : span.end][:40]!r} ({span.label})")
                continue
            self.num_widened += places[inside[0]][0] < span.start or span.end < places[inside[-1]][1]
            for i in inside:
                tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.label}"
        others = {name: cell for name, cell in record.items() if name not in (*columns, "tokens", "tags", "ner_tags")}
        return others | {"text": text, "tokens": [text[start:end] for start, end in places], "tags": tags, PLACES: [list(place) for place in places]}

    def _sound(self, span: Span, text: str) -> Span:
        """A span in code points that begins and ends with no blank. Raises UserError."""
        given, span = span, _moved(span, text, self.unit)
        if given.mention and text[span.start : span.end] != given.mention and text[span.start : span.end + 1] == given.mention:
            self.num_inside += 1
            span = span._replace(end=span.end + 1)
        what = f"the span [{given.start}, {given.end}] of {given.label!r}"
        if not 0 <= span.start <= span.end <= len(text):
            raise UserError(f"{what} is beyond its text of {len(text)} characters; offsets count characters from 0, and the end stands behind the last one")
        inside = text[span.start : span.end]
        if not inside.strip():
            raise UserError(f"{what} is empty; remove it")
        if given.mention.strip() and inside.strip() != given.mention.strip():
            raise UserError(f"{what} is {inside[:40]!r} in the text, but {given.mention[:40]!r} in its own words; mend the offsets")
        start = span.start + len(inside) - len(inside.lstrip())
        end = span.end - len(inside) + len(inside.rstrip())
        self.num_stripped += (start, end) != (span.start, span.end)
        return span._replace(start=start, end=end)

    def notes(self) -> Iterator[str]:
        if self.unit != "code points":
            yield f"the offsets of its spans count {self.unit} and not characters: they are read so"
        if self.num_widened:
            yield f"{self.num_widened:,} of {self.num_spans:,} spans cut a word and were widened to whole words"
        if self.num_stripped:
            yield f"blanks at the ends of {self.num_stripped:,} spans were taken off"
        if self.left_out:
            yield f"{len(self.left_out):,} spans overlap a longer one and are left out, the first is {self.left_out[0]}"


def _own_places(tokens: Any, text: str) -> list[words.Place] | None:
    """The places of the words that a record brings itself, as Prodigy's do; None where it brings none."""
    if not isinstance(tokens, list) or not tokens or not all(isinstance(one, Mapping) and {"start", "end"} <= set(one) for one in tokens):
        return None
    places = [(one["start"], one["end"]) for one in tokens]
    if not all(_are_whole(place) and 0 <= place[0] <= place[1] <= len(text) for place in places):
        raise UserError("the column 'tokens' has places outside the text; export the data anew")
    return [(start, end) for start, end in places if text[start:end].strip()]


def is_rejected(record: Record) -> bool:
    """Whether an annotator of Prodigy did not accept it."""
    return record.get("answer") in ("reject", "ignore")


def choose_way(source: Source, columns: Columns) -> str:
    """The way to cut its texts that cuts the fewest spans, the first of `WAYS` among equals."""
    cut = dict.fromkeys(WAYS, 0)
    for number, record in enumerate(itertools.islice(source, 5 * SAMPLE)):
        try:
            text, spans = read(record, columns)
        except UserError as error:
            raise UserError(f"{source.where(number)}: {error}") from None
        for way in WAYS if spans else ():
            starts, ends = (set(one) for one in zip(*words.split(text, way) or [(0, 0)], strict=True))
            cut[way] += sum(span.start not in starts or span.end not in ends for span in spans)
    return min(cut, key=lambda way: cut[way])


def convert(source: Source, columns: Columns, *, how: str) -> Derived:
    """The records as words and tags. Raises UserError with a record's place."""
    fingerprint = hashlib.sha256(repr((source.fingerprint, columns, how)).encode()).hexdigest()
    return kept(fingerprint, lambda: _convert(source, columns, how, fingerprint))


def _convert(source: Source, columns: Columns, how: str, fingerprint: str) -> Derived:
    pairs = []
    for number, record in enumerate(itertools.islice(source, SAMPLE)):
        try:
            pairs.append(read(record, columns))
        except UserError as error:
            raise UserError(f"{source.where(number)}: {error}") from None
    tagger = Tagger(how, unit_of(pairs))
    places, records, num_rejected = Packed(), Packed(), 0
    for number, record in enumerate(source):
        if is_rejected(record):
            num_rejected += 1
            continue
        where = source.where(number)
        try:
            made = tagger.tagged(record, columns, where=where)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        records.append(made)
        places.append(where)
    if not records:
        raise UserError(f"{source.name}: its annotators accepted none of its {num_rejected} records; export accepted ones")
    notes = list(tagger.notes())
    if num_rejected:
        notes.append(f"{num_rejected:,} records that were rejected or ignored are left out")
    return Derived(source.name, fingerprint, records, places, "", notes=tuple(notes))
