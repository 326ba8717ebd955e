"""Files in the layout of SQuAD 1.1 or 2.0."""

from __future__ import annotations

import re
from typing import Any

from flaxft.data.content import Content, Placed, line_number
from flaxft.data.json_lines import json_object, skip
from flaxft.errors import UserError

# How a SQuAD file begins: an object whose "data", after scalars such as "version", is a list of objects or empty.
BEGINNING = re.compile(r'\s*\{(\s*"[^"\\]*"\s*:\s*("[^"\\]*"|[\w.+-]+)\s*,)*\s*"data"\s*:\s*\[\s*[{\]]')


def looks_like_squad(file: Content) -> bool:
    return bool(BEGINNING.match(file.head))


def read_squad(file: Content) -> Placed:
    """One record a question of a file in the layout of SQuAD 1.1 or 2.0; its place is "article 3, question 5733be28".

    `{"id", "title", "context", "question", "answers": {"text": [...], "answer_start": [...]}, "is_impossible"}`, as the hub's squad_v2 has it; title, answers
    and is_impossible are there where the file has them.
    """
    path, text = file.path, file.text()
    content, end = json_object(text, skip(text, 0), path, first_line=1, hint="a SQuAD file is one JSON object; is it cut off?")
    if (end := skip(text, end)) < len(text):
        raise UserError(f"{path}:{line_number(text, end)}: more text behind the JSON object; a SQuAD file is one, and one object per line is format='jsonl'")
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
