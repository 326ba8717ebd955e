"""Files in the layout of SQuAD 1.1 or 2.0."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    for number, article in enumerate(_part(content, "data", list, path), 1):
        where = f"{path}: article {number}"
        for record in _questions(article, where):
            yield f"article {number}, question {record['id']}", record


def questions_of(record: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """The records of an object that is a paragraph or an article of SQuAD's layout, a question each; any other is itself.

    Answers that are a list of objects become an object of lists, `{"text": [...], "answer_start": [...]}`, and an id is text. Raises UserError.
    """
    if isinstance(record.get("qas"), list) and "context" in record:
        yield from _questions({"title": record.get("title", ""), "paragraphs": [record]} if "title" in record else {"paragraphs": [record]}, where)
    elif isinstance(record.get("paragraphs"), list) and any(isinstance(part, dict) and "qas" in part for part in record["paragraphs"]):
        yield from _questions(record, where)
    elif "context" in record and "question" in record:
        yield _flat(record)
    else:
        yield record


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """With answers as an object of lists, where they are a list of objects or one object."""
    answers = record.get("answers")
    if isinstance(answers, dict) and isinstance(answers.get("text"), str):
        answers = [answers]
    if isinstance(answers, list) and all(isinstance(answer, dict) and {"text", "answer_start"} <= answer.keys() for answer in answers):
        record = record | {"answers": {key: [answer[key] for answer in answers] for key in ("text", "answer_start")}}
    return record


def _questions(article: Any, where: str) -> Iterator[dict[str, Any]]:
    paragraphs = _part(article, "paragraphs", list, where)
    title = {"title": _part(article, "title", str, where)} if "title" in article else {}
    for place, paragraph in enumerate(paragraphs, 1):
        context = _part(paragraph, "context", str, f"{where}, paragraph {place}")
        for question in _part(paragraph, "qas", list, f"{where}, paragraph {place}"):
            name = _name(question, f"{where}, paragraph {place}")
            here = f"{where}, question {name}"
            record = {"id": name, **title, "context": context, "question": _part(question, "question", str, here)}
            if "answers" in question:
                answers = _part(question, "answers", list, here)
                kinds = {"text": str, "answer_start": int}
                record["answers"] = {key: [_part(answer, key, kind, here) for answer in answers] for key, kind in kinds.items()}
            if "is_impossible" in question:
                record["is_impossible"] = _part(question, "is_impossible", bool, here)
            yield record


def _name(question: Any, where: str) -> str:
    """The id, which other programs write as a number."""
    number = question.get("id") if isinstance(question, dict) else None
    return str(number) if isinstance(number, int) and not isinstance(number, bool) else str(_part(question, "id", str, where))


def _part(holder: Any, key: str, kind: type, where: str) -> Any:
    """`holder[key]`, which must be of this kind. Raises UserError."""
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, kind):
        layout = "data[].paragraphs[] have a context and qas[], and these a question, an id and answers[] of text and answer_start"
        names = {list: "list", str: "text", int: "number", bool: "true or false"}
        raise UserError(f"{where}: no {names[kind]} {key!r}{f' but {found!r}'[:40] if found is not None else ''}; expected SQuAD's layout: {layout}")
    return found
