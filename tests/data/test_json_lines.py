"""JSON as people have it: sound JSON that holds no records is called what it is; SQuAD's variants and conversations are read."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flaxft.data.chats import with_text
from flaxft.data.source import open_source
from flaxft.errors import UserError

FRAME = pd.DataFrame({"text": ["a b", "c d"], "label": ["x", "y"]})
RECORDS = [{"text": "a b", "label": "x"}, {"text": "c d", "label": "y"}]


def read(folder: Path, content: str, name: str = "a.json", **fields) -> list:
    (folder / name).write_text(content)
    return list(open_source(str(folder / name), split="train", **fields))


def refused(folder: Path, content: str, name: str = "a.json") -> str:
    with pytest.raises(UserError) as caught:
        read(folder, content, name)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).removeprefix(f"{folder / name}")


HELD = {
    "pandas": (FRAME.to_json(), "a table of pandas, a column at a time; write it with df.to_json(FILE, orient='records', lines=True)"),
    "pandas, index": (FRAME.to_json(orient="index"), "a table of pandas, whose rows have numbers (orient='index')"),
    "pandas, split": (FRAME.to_json(orient="split"), "a table of pandas (orient='split')"),
    "pandas, table": (FRAME.to_json(orient="table"), "a table of pandas (orient='table')"),
    "a list inside": (json.dumps({"version": "1", "examples": RECORDS}), "which holds a list of 2 objects at 'examples': its records, it seems"),
    "a list inside, over lines": (json.dumps({"meta": {"n": 2}, "examples": RECORDS}, indent=1), "at 'examples'"),
    "a list deep inside": (json.dumps({"result": {"items": RECORDS}, "tags": [{"a": 1}]}), "holds a list of 2 objects at 'result.items'"),
    "the datasets server": (json.dumps({"features": [{"name": "text"}], "rows": [{"row": one} for one in RECORDS]}), "at 'rows'"),
    "records by name": (json.dumps({"q1": RECORDS[0], "q2": RECORDS[1]}), "which holds 2 objects by name, its records, it seems; write them as a list"),
    "lists of lists": (json.dumps({"train": [["a b", "x"], ["c d", "y"]], "val": [["e", "x"]]}), "a list of 2 lists at 'train'; write one object per line"),
    "columns": (json.dumps({"text": ["a", "b"], "label": [0, 1]}), "whose columns are lists; write one object per line, a record each"),
}


@pytest.mark.parametrize("case", HELD)
def test_an_object_that_holds_the_records_is_called_so(case, tmp_path):
    content, message = HELD[case]
    line = refused(tmp_path, content)
    assert line.startswith(":1: one JSON object, ")
    assert message in line


@pytest.mark.parametrize(
    "record",
    [
        {"text": "a", "entities": [{"start": 0, "end": 1}]},
        {"tokens": ["a", "b"], "ner_tags": ["O", "O"]},
        {"messages": [{"role": "user", "content": "a"}], "label": "x", "text": "a"},
        {"question": "a", "context": "b", "answers": {"text": ["b"], "answer_start": [0]}},
        {"a": 1},
        {},
    ],
)
def test_one_record_is_a_record(record, tmp_path):
    assert read(tmp_path, json.dumps(record)) == [record]
    assert read(tmp_path, json.dumps(record, indent=2)) == [record]
    assert read(tmp_path, json.dumps(record), "a.jsonl") == [record]


def test_what_is_asked_for_is_read(tmp_path):
    held = {"examples": RECORDS}
    assert read(tmp_path, json.dumps(held), format="jsonl") == [held]
    assert read(tmp_path, f"{json.dumps(held)}\n" * 2) == [held] * 2


def test_objects_over_several_lines(tmp_path):
    (tmp_path / "a.json").write_text("\n".join(json.dumps(record, indent=2) for record in RECORDS) + "\n")
    source = open_source(str(tmp_path / "a.json"), split="train")
    assert list(source) == RECORDS
    assert [source.where(i) for i in range(2)] == [f"{tmp_path}/a.json:{line}" for line in (1, 5)]


MISTAKES = {
    "commas behind lines": ('{"a": 1},\n{"a": 2}\n', ":1: a comma behind the JSON object; JSON lines have none: delete them"),
    "commas between objects": ('{\n"a": 1\n},\n{\n"a": 2\n}\n', ":3: a comma behind a JSON object, but no array around them; put [ before the first"),
    "a comma before the end": ('[{"a": 1},\n {"a": 2},\n]\n', ":3: bad JSON: Expecting value: a comma stands before the closing ]; delete it"),
    "NaN": ('{"a": NaN}\n', ":1: bad JSON: NaN is no JSON number; write null, or leave the record out"),
    "single quotes": ("{'a': 1}\n", ":1: bad JSON: Expecting property name enclosed in double quotes; names and texts stand in double quotes"),
    "a single-quoted text": ("{\"a\": 'b'}\n", ":1: bad JSON: Expecting value; names and texts stand in double quotes; Python writes JSON with json.dumps"),
    "True": ('{"a": True}\n', ":1: bad JSON: Expecting value; JSON has true, false and null"),
    "a key twice": ('{"a": 1, "a": 2}\n', ":1: bad JSON: the key 'a' stands twice in one object; rename or delete one of them"),
    "a cut object": ('{\n"a": 1,\n"b": \n', ":4: bad JSON: Expecting value; write one JSON object per line"),
    "lists": ('[["text", "label"], ["a", "x"]]', ":1: found a JSON list, expected an object"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(case, tmp_path):
    content, message = MISTAKES[case]
    assert refused(tmp_path, content).startswith(message)


# ---- SQuAD ----

CONTEXT = "Mara paid Jose for it."
FLAT = {"id": "0", "context": CONTEXT, "question": "Who?", "answers": {"text": ["Mara"], "answer_start": [0]}}
QUESTION = {"id": 0, "question": "Who?", "answers": [{"text": "Mara", "answer_start": 0, "answer_end": 4, "answer_category": "SHORT"}]}
PARAGRAPH = {"context": CONTEXT, "qas": [QUESTION, QUESTION | {"id": "1", "is_impossible": False}], "document_id": 3}
FLATS = [FLAT, FLAT | {"id": "1", "is_impossible": False}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("haystack.json", json.dumps({"data": [{"paragraphs": [PARAGRAPH]}]})),
        ("paragraphs.json", json.dumps([PARAGRAPH])),
        ("paragraphs.json", json.dumps([PARAGRAPH], indent=2)),
        ("paragraphs.jsonl", json.dumps(PARAGRAPH) + "\n"),
        ("paragraph.json", json.dumps(PARAGRAPH)),
        ("articles.jsonl", json.dumps({"paragraphs": [PARAGRAPH]}) + "\n"),
    ],
)
def test_variants_of_squad(name, content, tmp_path):
    assert read(tmp_path, content, name) == FLATS


def test_answers_in_other_forms(tmp_path):
    one = FLAT | {"answers": [{"text": "Mara", "answer_start": 0}]}
    assert read(tmp_path, json.dumps(one), "a.jsonl") == [FLAT]
    assert read(tmp_path, json.dumps([one, FLAT | {"answers": {"text": "Mara", "answer_start": 0}}])) == [FLAT] * 2
    assert read(tmp_path, json.dumps(FLAT | {"answers": []}), "a.jsonl") == [FLAT | {"answers": {"text": [], "answer_start": []}}]
    pq.write_table(pa.Table.from_pylist([one]), tmp_path / "a.parquet")
    assert list(open_source(str(tmp_path / "a.parquet"), split="train")) == [FLAT]
    other = {"answers": [{"text": "Mara", "answer_start": 0}]}  # no question
    assert read(tmp_path, json.dumps(other), "b.jsonl", format="jsonl") == [other]


def test_a_question_of_a_paragraph_has_the_place_of_its_line(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(PARAGRAPH)}\n" * 2)
    source = open_source(str(tmp_path / "a.jsonl"), split="train")
    assert [source.where(i) for i in range(4)] == [f"{tmp_path}/a.jsonl:{line}" for line in (1, 1, 2, 2)]
    broken = PARAGRAPH | {"qas": [{"id": 5, "question": 3}]}
    assert refused(tmp_path, json.dumps([broken])).startswith(":1, question 5: no text 'question' but 3")


# ---- conversations ----


def turns(*pairs: tuple[str, object], role: str = "role", content: str = "content") -> list[dict]:
    return [{role: who, content: what} for who, what in pairs]


@pytest.mark.parametrize(
    ("column", "messages", "text"),
    [
        ("messages", turns(("system", "be nice"), ("user", "Hi"), ("assistant", "Hello"), ("user", "Where is my card?")), "Hi\nWhere is my card?"),
        ("conversations", turns(("human", "Hi"), ("gpt", "Hello"), role="from", content="value"), "Hi"),
        ("conversation", turns(("Anna", "Hi"), ("Tom", "Hello"), role="speaker", content="text"), "Hi\nHello"),
        ("messages", turns(("user", [{"type": "text", "text": "Hi"}, {"type": "image_url"}, {"type": "text", "text": "there"}])), "Hi\nthere"),
        ("messages", turns(("assistant", None), ("user", "Hi")), None),
        ("messages", ["Hi"], None),
        ("messages", [], None),
        ("messages", "Hi", None),
    ],
)
def test_conversations_have_the_text_of_the_user(column, messages, text, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="flaxft")
    record = {column: messages, "label": "card"}
    whole = record if text is None else record | {"text": text}
    assert with_text(record) == whole
    assert read(tmp_path, json.dumps([record] * 2)) == [whole] * 2
    assert caplog.messages == ([] if text is None else [f"{tmp_path}/a.json: the text of a record is what its messages of the user say"])


def test_a_conversation_with_a_text_keeps_it():
    record = {"messages": turns(("user", "Hi")), "text": "greeting"}
    assert with_text(record) is record
