"""Tables with a word a row, as of Kaggle's NER data: the rows of a sentence become one record."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flaxft.data.base import Record, Source
from flaxft.data.derived import Derived, kept
from flaxft.data.spool import Packed
from flaxft.errors import UserError

SAMPLE = 200
SENTENCES = ("sentence", "sentenceid", "sentenceidx", "sentenceno", "sentencenumber", "sentencenum", "sentenceindex", "sent", "sentid", "sentno", "sid")
WORDS = ("word", "words", "token", "tokens", "form")
TAGS = ("tag", "tags", "label", "labels", "nertag", "nertags", "ner", "bio", "iob", "entity", "netag", "pos", "postag", "upos")


class Rows(NamedTuple):
    """The columns of a table with a word a row; `sentence` is "" where blank lines are between sentences."""

    sentence: str
    word: str
    tag: str


def find(source: Source, *, word: str = "", tag: str = "") -> Rows | None:
    """The columns of a table with a word a row; None for other records. `word` and `tag` are those that the user asked for.

    Raises UserError for such a table that does not say which words are one sentence.
    """
    sample = list(itertools.islice(source, SAMPLE))
    names = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(list(sample[0]))}
    words, tags = word or _first(names, WORDS), tag or _first(names, TAGS)
    is_there = {words, tags} <= set().union(*sample)  # a number counts the columns of other files, and of a slip the columns are told later
    if words == tags or not is_there or not all(_is_word(record.get(words)) and _is_word(record.get(tags)) for record in sample):
        return None
    sentence = next((names[name] for name in SENTENCES if name in names and names[name] not in (words, tags)), "")
    if sentence and all(_is_word(record.get(words)) for record in sample):
        return Rows(sentence, words, tags)
    if _gaps(source):
        return Rows("", words, tags)
    if len(sample) < 3:
        return None
    hint = "add a column such as sentence_id, or a blank line after each sentence"
    raise UserError(f"{source.where(0)}: a table with a word a row ({words!r}, {tags!r}) that does not say where sentences end; {hint}")


def _first(names: Mapping[str, str], usual: Sequence[str]) -> str:
    return next((names[name] for name in usual if name in names), "")


def _is_word(cell: Any) -> bool:
    """One word, number or empty cell."""
    return cell is None or isinstance(cell, int | float) or (isinstance(cell, str) and len(cell.split()) < 2 and cell[:1] not in ("[", "{"))


def _gaps(source: Source) -> bool:
    """Whether lines were left out between records."""
    lines = [_line(source, number) for number in range(min(len(source), 50 * SAMPLE))]
    return any(after - before > 1 for before, after in itertools.pairwise(lines))


def _line(source: Source, number: int) -> int:
    line = source.where(number).rpartition(":")[2]
    return int(line) if line.isdecimal() else number


def _is_new(rows: Rows, record: Record, current: Any, gap: int) -> bool:
    if not rows.sentence:
        return gap > 1
    value = record.get(rows.sentence)
    is_empty = value is None or value == "" or value != value  # NaN: as in the row above
    return not is_empty and value != current


def group(source: Source, rows: Rows) -> Derived:
    """A record a sentence: a list for each column, and `tokens` and `tags` beside them."""
    fingerprint = hashlib.sha256(repr((source.fingerprint, rows)).encode()).hexdigest()
    return kept(fingerprint, lambda: _group(source, rows, fingerprint))


def _group(source: Source, rows: Rows, fingerprint: str) -> Derived:
    places, records = Packed(), Packed()
    sentence: list[Record] = []
    first, current, before = 0, None, _line(source, 0) - 1

    def close() -> None:
        if sentence:
            columns = {name: [record.get(name) for record in sentence] for name in sentence[0] if name != rows.sentence}
            texts = {name: ["" if cell is None else str(cell) for cell in columns[column]] for name, column in (("tokens", rows.word), ("tags", rows.tag))}
            records.append(columns | {rows.word: texts["tokens"], rows.tag: texts["tags"]} | texts)
            places.append(source.where(first))

    for number, record in enumerate(source):
        line = _line(source, number)
        if number and _is_new(rows, record, current, line - before):
            close()
            sentence, first = [], number
        value = record.get(rows.sentence) if rows.sentence else None
        current = value if value not in (None, "") and value == value else current
        before = line
        sentence.append(record)
    close()
    return Derived(source.name, fingerprint, records, places, "")
