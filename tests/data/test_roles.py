"""Columns as a person would guess them, header by header; where two fit, the error names both and the flag."""

import pytest

from flaxft.data.base import Records
from flaxft.data.roles import NUMBER_NAMES, flag_columns, label_column, text_columns
from flaxft.errors import UserError

WORDS = "cards money trains films food rain music books".split()
VALUES = {  # kind -> the value of record i
    "T": lambda i: f"someone wrote about {WORDS[i % 8]} and {WORDS[i // 8 % 8]} on line {i}",
    "t": lambda i: f"{WORDS[i % 8]} {WORDS[i // 8 % 8]} {i}",  # short ones, all different
    "L": lambda i: WORDS[i % 3],
    "l": lambda i: i % 4,
    "n": lambda i: round(i * 0.37 % 5, 2),
    "#": lambda i: i,
    "I": lambda i: f"T-{i:05}",
    "U": lambda i: f"6ba7b8{i:02}-9dad-11d1-80b4-00c04fd430c8",
    "D": lambda i: f"2024-0{i % 9 + 1}-{i % 28 + 1:02}",
    "F": lambda i: str(int(i % 3 == 0)),
    "w": lambda i: f"https://example.org/{i}",
    "c": lambda i: "en",
    "P": lambda i: f"{WORDS[i % 7]} {WORDS[i % 5]}",  # names of persons, many of them
}


def table(header):
    """A source of 60 records of a header such as "id:# body:T queue:L"."""
    kinds = [one.rpartition(":") for one in header.split()]
    records = [{name.replace("~", " "): VALUES[kind](i) for name, _, kind in kinds} for i in range(60)]
    return Records("own.csv", "0", records, range(60), where_format=":{}")


@pytest.mark.parametrize(
    ("header", "texts", "label"),
    [
        ("text:T label:L", "text", "label"),
        ("ticket_id:# body:T queue:L", "body", "queue"),
        ("id:U utterance:T intent:L", "utterance", "intent"),
        ("Review:T Rating:l", "Review", "Rating"),
        ("TEXT:T LABEL:L", "TEXT", "LABEL"),
        ("created_at:D tweet:T sentiment:L", "tweet", "sentiment"),
        ("reviewText:T overall:l", "reviewText", "overall"),
        ("message:T class:L", "message", "class"),
        ("v1:L v2:T", "v2", "v1"),
        ("Category:L Message:T", "Message", "Category"),
        ("comment_text:T toxicity:F", "comment_text", "toxicity"),
        ("date:D author:P content:T topic:L url:w", "content", "topic"),
        ("id:I question:T y:l", "question", "y"),
        ("Unnamed:~0:# query:T target:l".replace("Unnamed:~0", "Unnamed~0"), "query", "target"),
        ("headline:t department:L", "headline", "department"),
        ("a:T b:L", "a", "b"),
        ("x:# y:L z:T", "z", "y"),
        ("Consumer~complaint:T Product:L", "Consumer complaint", "Product"),
        ("uuid:U lang:c abstract:T genre:L", "abstract", "genre"),
        ("sentence:T label:l idx:#", "sentence", "label"),
        ("Tweet~Content:T Tweet~ID:# Emotion:L", "Tweet Content", "Emotion"),
        ("text:T label:l label_text:L", "text", "label"),
        ("body:T label_text:L label:l", "body", "label"),
        ("post:T spam:F", "post", "spam"),
        ("sentence1:T sentence2:T label:L", "sentence1 sentence2", "label"),
        ("question1:T question2:T is_duplicate:F", "question1 question2", "is_duplicate"),
        ("premise:T hypothesis:T gold_label:L", "premise hypothesis", "gold_label"),
        ("id:# text_a:T text_b:T class:L", "text_a text_b", "class"),
        ("\ufefftext:T label:L", "\ufefftext", "label"),
        ("doc:T tags:L num_words:#", "doc", "tags"),
        ("body:T priority:L", "body", "priority"),
        ("text:T stars:l length:#", "text", "stars"),
    ],
)
def test_header(header, texts, label):
    source = table(header)
    found = text_columns(source, ())
    assert found == (tuple(texts.split(" ")) if not any(texts == name for name in source[0]) else (texts,))
    assert label_column(source, "", ("label", "labels", "category", "intent"), texts=found) == label


@pytest.mark.parametrize(
    ("header", "texts", "number"),
    [
        ("sentence1:T sentence2:T score:n", "sentence1 sentence2", "score"),
        ("review:T stars:l", "review", "stars"),
        ("id:# essay:T grade:n", "essay", "grade"),
        ("text:T similarity:n year:D", "text", "similarity"),
        ("excerpt:T readability:n", "excerpt", "readability"),
    ],
)
def test_number(header, texts, number):
    source = table(header)
    found = text_columns(source, ())
    assert found == tuple(texts.split())
    assert label_column(source, "", ("score", "label"), texts=found, names=NUMBER_NAMES, what="number") == number


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("title:T body:T label:L", r"'title' \(.*\) and 'body' \(.*\) may all be the text; set task.text_columns=title or another of them or .*=title,body"),
        ("a:T b:T c:L", "'a' .* and 'b' .* may all be the text"),
        ("id:# day:D url:w", "no column of texts; found are .*; set task.text_columns"),
        ("ticket:I label:L", "no column of texts"),
    ],
)
def test_two_texts_or_none(header, message):
    with pytest.raises(UserError, match=message):
        text_columns(table(header), ())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text:T sentiment:L topic:L", r"'sentiment' \(.*\) and 'topic' \(.*\) may all be the label; set task.label_column=sentiment or another"),
        ("text:T first:L second:l", "may all be the label"),
        ("text:T id:# day:D", "no column of labels; found are .*; set task.label_column"),
    ],
)
def test_two_labels_or_none(header, message):
    with pytest.raises(UserError, match=message):
        label_column(table(header), "", ("label",), texts=("text",))


def test_what_is_asked_for_is_taken():
    source = table("title:T body:T label:L queue:L")
    assert text_columns(source, ["body"]) == ("body",)
    assert label_column(source, "queue", ("label",), texts=("body",)) == "queue"
    with pytest.raises(UserError, match=r"no column 'queu'.*did you mean 'queue'"):
        label_column(source, "queu", ("label",), texts=("body",))


def test_a_column_a_label():
    assert flag_columns(table("id:# text:T anger:F joy:F other:L"), texts=("text",)) == ("anger", "joy")
    assert flag_columns(table("text:T spam:F"), texts=("text",)) == ()


def test_a_file_sorted_by_label_is_looked_at_from_end_to_end():
    records = [{"body": VALUES["T"](i), "side": "ab"[i // 3000]} for i in range(6000)]
    source = Records("own.csv", "0", records, range(6000), where_format=":{}")
    assert label_column(source, "", ("label",), texts=("body",)) == "side"


def test_a_column_of_one_label_is_found_by_its_name():
    records = [{"body": VALUES["T"](i), "target": "pos", "id": str(i)} for i in range(50)]
    source = Records("own.csv", "0", records, range(50), where_format=":{}")
    assert label_column(source, "", ("label",), texts=("body",)) == "target"
