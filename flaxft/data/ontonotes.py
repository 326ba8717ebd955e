"""The column files of CoNLL-2012 and OntoNotes 5: documents between `#begin document` and `#end document`, a word a line, brackets around entities."""

from __future__ import annotations

import itertools

from flaxft.data.content import Content, Placed
from flaxft.errors import UserError

# Document, part, number, word, part of speech, parse, lemma, frameset, sense, speaker, entities; then an arguments column a verb, and coreference.
WORD, POS, ENTITIES = 3, 4, 10


def read_conll2012(file: Content) -> Placed:
    """A sentence a record, `{"tokens", "pos_tags", "ner_tags"}`; the last are brackets, as in (PERSON* *). Raises UserError."""
    start = 0
    rows: list[list[str]] = []
    for number, line in enumerate(itertools.chain(file.lines(), [""]), 1):
        cells = line.split()
        if not cells or line.startswith("#"):
            if rows:
                yield start, {name: [row[i] for row in rows] for name, i in (("tokens", WORD), ("pos_tags", POS), ("ner_tags", ENTITIES))}
            rows = []
            continue
        if len(cells) < ENTITIES + 2:
            raise UserError(f"{file.path}:{number}: found {len(cells)} column(s) in {line[:80]!r}, expected the {ENTITIES + 2} or more of CoNLL-2012")
        start = start if rows else number
        rows.append(cells)


def looks_like_conll2012(file: Content) -> bool:
    return file.head.lstrip().startswith("#begin document")
