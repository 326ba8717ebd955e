"""Training data of spaCy: its lists of texts with entities, its older JSON, and `.spacy` files (through the extra of that name)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from flaxft.data.content import Content, Placed, line_number
from flaxft.data.json_lines import JSON, skip
from flaxft.errors import UserError, reason

PAIR = re.compile(r'\s*(\[\s*)?\[\s*"')  # [["text", {"entities": ...}], ...], or such a pair a line
CLASSES = re.compile(r'\s*\{\s*"classes"\s*:')  # {"classes": [...], "annotations": [["text", {"entities": ...}], ...]}


def looks_like_pairs(file: Content) -> bool:
    return '"entities"' in file.head and (PAIR.match(file.head) or CLASSES.match(file.head)) is not None


def read_pairs(file: Content) -> Placed:
    """A text a record, `{"text", "entities": [[start, end, label]]}`, with `label` where categories were given. Raises UserError."""
    for place, entry in _entries(file):
        if entry is None:
            continue
        known = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], dict)
        if not known:
            raise UserError(f'{file.path}:{place}: found {str(entry)[:60]}, expected ["text", {{"entities": [[0, 4, "PER"]]}}]')
        text, about = entry
        spans, categories = about.get("entities", about.get("spans", [])), about.get("cats")
        chosen = [name for name, share in categories.items() if share] if isinstance(categories, dict) else []
        yield place, {"text": text, "entities": spans} | ({"label": chosen[0] if len(chosen) == 1 else chosen} if chosen else {})


def _entries(file: Content) -> Iterator[tuple[int, Any]]:
    """The pairs, and the lines in which they begin. Raises UserError."""
    text, position = file.text(), 0
    while (position := skip(text, position)) < len(text):
        number = line_number(text, position)
        try:
            value, end = JSON.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file.path}:{number}: bad JSON: {reason(error)}; is the file cut off?") from None
        if isinstance(value, dict):
            value = value.get("annotations")
        is_pair = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
        yield from [(number, value)] if is_pair else ((number, entry) for entry in value or [])
        position = end


def looks_like_docs(file: Content) -> bool:
    """The JSON of spaCy 2: documents of paragraphs of sentences of tokens."""
    return file.head.lstrip()[:1] == "[" and all(f'"{key}"' in file.head for key in ("paragraphs", "sentences", "tokens", "orth"))


def read_docs(file: Content) -> Placed:
    """A sentence a record: `{"tokens", "ner_tags", "pos_tags"}`, those that are there; "-" says nothing of a word. Raises UserError."""
    try:
        documents = JSON.decode(file.text())
        sentences = [sentence for one in documents for paragraph in one["paragraphs"] for sentence in paragraph["sentences"]]
        tokens = [sentence["tokens"] for sentence in sentences]
        for number, sentence in enumerate(tokens, 1):
            columns = {name: [token.get(key) for token in sentence] for name, key in (("tokens", "orth"), ("ner_tags", "ner"), ("pos_tags", "tag"))}
            if sentence:
                yield number, {name: cells for name, cells in columns.items() if None not in cells}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file.path}: not the JSON of spaCy 2 ({reason(error)}); convert it anew, or export texts with entities") from None


def read_doc_bin(file: Content) -> Placed:
    """A document a record: `{"text", "tokens", "entities"}` with spaCy's own words. Raises UserError."""
    try:
        import spacy
        from spacy.tokens import DocBin
    except ImportError:
        raise UserError(f'{file.path}: .spacy files are read by spaCy; pip install "flaxft[spacy]", or export the texts with their entities as JSON') from None
    try:
        docs = list(DocBin().from_bytes(bytes(file.data)).get_docs(spacy.blank("xx").vocab))
    except Exception as error:  # noqa: BLE001  zlib, srsly and spaCy each raise their own
        raise UserError(f"{file.path}: not a whole .spacy file ({reason(error)}); write it again") from None
    for number, doc in zip(itertools.count(1), docs, strict=False):
        tokens = [{"text": token.text, "start": token.idx, "end": token.idx + len(token)} for token in doc if not token.is_space]
        spans = [[span.start_char, span.end_char, span.label_] for span in doc.ents]
        yield number, {"text": doc.text, "tokens": tokens, "entities": spans} | _category(doc.cats)


def _category(shares: Mapping[str, float]) -> dict[str, Any]:
    chosen = [name for name, share in shares.items() if share >= 0.5]
    return {"label": chosen[0] if len(chosen) == 1 else chosen} if chosen else {}
