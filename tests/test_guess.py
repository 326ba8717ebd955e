"""Which task some records are for, told from their columns: one case for each layout that people have."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from flaxft.data.kinds import Columns
from flaxft.errors import UserError
from flaxft.guess import guess_config, guess_task, name_of
from flaxft.plugins import tasks

WORDS = "the card was late and my money is gone again please help me now with this order from last week".split()
CLASS = {cls.__name__: cls for cls in tasks()}


def text(i: int, num: int = 7) -> str:
    return " ".join(WORDS[(i * 3 + j * (i % 5 + 1)) % len(WORDS)] for j in range(num)) + f" {i}"


def records(num: int = 40, **columns: Any) -> list[dict[str, Any]]:
    """Each column is a function of the record's number, or a list to go round in."""
    return [{name: column(i) if callable(column) else column[i % len(column)] for name, column in columns.items()} for i in range(num)]


NAMES = ["refund", "lost_card", "other question"]
TAGS = lambda i: ["O"] * (i % 4 + 2)  # noqa: E731
TOKENS = lambda i: WORDS[: i % 4 + 2]  # noqa: E731
SPANS = [{"start": 0, "end": 3, "label": "PER"}]
ANSWERS = {"text": ["card"], "answer_start": [4]}
ONE, SEVERAL, NUMBER, TAGGED = "SequenceClassification", "MultiLabelClassification", "Regression", "TokenClassification"
POS = lambda i: [1] * (i % 4 + 2)  # noqa: E731

# (name, records, class, fields)
LAYOUTS = [
    ("plain names", records(text=text, label=NAMES), ONE, {"text_columns": ("text",), "label_column": "label"}),
    ("tickets", records(ticket_id=lambda i: i, body=text, queue=NAMES), ONE, {"text_columns": ("body",), "label_column": "queue"}),
    ("as strings of a csv", records(ticket_id=lambda i: str(i), body=text, queue=NAMES), ONE, {"text_columns": ("body",), "label_column": "queue"}),
    ("names of no list", records(verbatim=text, cluster=NAMES), ONE, {"text_columns": ("verbatim",), "label_column": "cluster"}),
    ("capitals", records(Text=text, Label=NAMES), ONE, {"text_columns": ("Text",), "label_column": "Label"}),
    ("ids and dates", records(id=lambda i: f"T-{i:04}", day=lambda i: f"2024-1-{i % 28 + 1}", tweet=text, target=["0", "4"]), ONE, {"label_column": "target"}),
    ("numbers of classes", records(text=text, label=list(range(6))), ONE, {"label_column": "label"}),
    ("many numbers of classes", records(200, text=text, label=list(range(77))), ONE, {"label_column": "label"}),
    ("0 and 1", records(sentence=text, label=[0, 1]), ONE, {"text_columns": ("sentence",)}),
    ("booleans", records(text=text, is_spam=[True, False]), ONE, {"label_column": "is_spam"}),
    ("numbers beside their names", records(text=text, label=[0, 1, 2], label_text=NAMES), ONE, {"label_column": "label_text"}),
    ("a title beside the text", records(title=lambda i: text(i, 4), body=text, label=NAMES), ONE, {"text_columns": ("body",)}),
    ("short texts", records(6, text=["good film", "bad film", "fine"], label=["pos", "neg", "pos"]), ONE, {"text_columns": ("text",)}),
    ("two rows", records(2, text=["a good film", "a bad film"], label=["pos", "neg"]), ONE, {}),
    ("Chinese", records(text=["这部电影非常好看我很喜欢它的故事", "服务太差了我再也不会来这家店了"], label=["pos", "neg"]), ONE, {"text_columns": ("text",)}),
    ("a list of one label", records(text=text, label=[["a"], ["b"]]), ONE, {}),
    ("pair", records(premise=text, hypothesis=lambda i: text(i + 9), label=["entailment", "neutral"]), ONE, {"text_columns": ("premise", "hypothesis")}),
    ("pair of questions", records(id=lambda i: i, qid1=lambda i: 2 * i, question1=text, question2=lambda i: text(i + 9), is_duplicate=["0", "1"]), ONE,
     {"text_columns": ("question1", "question2"), "label_column": "is_duplicate"}),
    ("scored pair", records(sentence1=text, sentence2=lambda i: text(i + 3), score=[0.5, 3.25, 5.0]), NUMBER, {"text_columns": ("sentence1", "sentence2")}),
    ("fractions", records(essay=text, grade=["1.5", "3.0", "2.25"]), NUMBER, {"label_column": "grade"}),
    ("ratings", records(review=text, rating=[1, 2, 3, 4, 5]), NUMBER, {"label_column": "rating"}),
    ("prices", records(200, description=text, price=lambda i: 100 + 37 * (i * 7 % 39)), NUMBER, {}),
    ("lists of labels", records(text=text, labels=[["joy", "anger"], [], ["joy"]]), SEVERAL, {"label_column": "labels"}),
    ("lists in cells", records(text=text, labels=["['joy', 'anger']", "['joy']"]), SEVERAL, {"label_column": "labels"}),
    ("joined labels", records(text=text, tags=["joy,anger", "anger", "joy, fear", "fear", "joy"]), SEVERAL, {"label_separator": ","}),
    ("joined by |", records(text=text, tags=["joy|anger", "anger", "joy|fear", "fear", "joy"]), SEVERAL, {"label_separator": "|"}),
    ("a column per label", records(id=lambda i: f"{i:016x}", comment_text=text, toxic=[0, 1], obscene=[0, 0, 1], threat=[0]), SEVERAL,
     {"label_columns": ("toxic", "obscene", "threat"), "text_columns": ("comment_text",)}),
    ("words and tags", records(tokens=TOKENS, ner_tags=TAGS), TAGGED, {}),
    ("words and numbers of tags", records(id=lambda i: str(i), tokens=TOKENS, pos=POS, ner_tags=POS), TAGGED, {}),
    ("column file", records(**{"0": TOKENS, "1": TAGS, "2": TAGS}), TAGGED, {}),
    ("spans", records(text=text, entities=[SPANS, []]), TAGGED, {}),
    ("spans as lists", records(text=text, label=[[[0, 3, "PER"]], []]), TAGGED, {}),
    ("spans of Prodigy", records(text=text, tokens=[[{"text": "the", "start": 0, "end": 3, "id": 0}]], spans=[SPANS, []]), TAGGED, {}),
    ("spans by type", records(text=text, label=[{"PER": {"the": [[0, 2]]}}, {}]), TAGGED, {}),
    ("a word a row", records(sentence_id=lambda i: i // 4, word=WORDS, tag=["O", "O", "B-PER"]), TAGGED, {}),
    ("questions", records(id=lambda i: str(i), title=["a", "b"], context=text, question=text, answers=[ANSWERS]), "QuestionAnswering", {}),
    ("choices", records(id=lambda i: str(i), question=text, choices=[{"label": ["A", "B"], "text": ["x", "y"]}], answerKey=["A", "B"]), "MultipleChoice", {}),
    ("SWAG", records(sent1=text, sent2=text, ending0=text, ending1=text, label=[0, 1]), "MultipleChoice", {}),
    ("relation", records(sentence=lambda i: f"<e1>a</e1> of <e2>b</e2> {text(i)}", relation=["Cause(e1,e2)", "Other"]), "RelationClassification", {}),
    ("relation by places", records(tokens=TOKENS, head=[[0, 1]], tail=[[1, 2]], relation=["a", "b"]), "RelationClassification", {}),
    ("a question and many others", records(question_1=["what is the card for", "where is my card"], question_2=text, similar=[0, 1]), ONE,
     {"text_columns": ("question_1", "question_2")}),
    ("a list of one number", records(text=text, label=[[3], [1], [2]]), ONE, {"label_column": "label"}),
    ("numbered texts", records(text_1=text, text_2=lambda i: text(i + 9), same=["yes", "no"]), ONE, {"text_columns": ("text_1", "text_2")}),
    ("lettered texts", records(a_textA=text, a_textB=lambda i: text(i + 9), same=["0", "1"]), ONE, {"text_columns": ("a_textA", "a_textB")}),
    ("what stands beside", records(body=text, team=NAMES, language=["de", "en"], source=["web", "mail"], split=["train"]), ONE, {"label_column": "team"}),
    ("dates and labels", records(year=[2023, 2024], author=["x", "y"], comment=text, stance=NAMES), ONE, {"label_column": "stance"}),
    ("anchors", records(anchor=text, positive=lambda i: text(i + 2)), "SentenceEmbedding", {"text_columns": ("anchor", "positive")}),
]  # fmt: skip


@pytest.mark.parametrize(("held", "name", "fields"), [layout[1:] for layout in LAYOUTS], ids=[layout[0] for layout in LAYOUTS])
def test_a_layout_has_its_task(held, name, fields):
    guess = guess_task(held)
    assert type(guess.task).__name__ == name, guess.line
    assert {field: getattr(guess.task, field) for field in fields} == fields
    assert guess.task.splits() == {}
    assert all(repr(column) in guess.line for column in fields.get("text_columns", ()))


REFUSED = [
    ("texts alone", records(text=text), ["text in 'text', but there is no column of labels", "label_column=COLUMN", "--config=mlm"]),
    ("texts and dates", records(date=lambda i: f"2024-1-{i % 28 + 1}", text=text), ["text in 'text', but none of 'date' can be its label"]),
    (
        "running text in columns",
        records(**{str(i): lambda k, i=i: [text(k * 7 + i + j, 1)[:9] for j in range(3)] for i in range(4)}),
        ["no task can be told", "'3' (words)"],
    ),
    ("numbers alone", records(a=lambda i: i, b=[1.5, 2]), ["no task can be told", "'a' (ids)"]),
    (
        "two texts without names",
        records(mine=text, yours=lambda i: text(i + 1), label=NAMES),
        ["'mine' (", "and 'yours' (", "may all be the text", "text_columns=mine"],
    ),
    (
        "two labels",
        records(text=text, region=["north", "south"], team=NAMES),
        ["'region' ('north') and 'team' ('refund') may all be the label", "label_column=region"],
    ),
    ("a summary", records(text=text, summary=lambda i: text(i + 5)), ["but none of 'summary' can be its label"]),
    ("words without sentences", records(word=WORDS, tag=["O", "O", "B-PER"]), ["a word a row", "where sentences end"]),
    ("lists of sentences", records(title=text, source=lambda i: [text(3 * i + j) for j in range(3)]), ["none of 'source' can be its label"]),
    ("an empty label", records(text=text, label=[None]), ["but none of 'label' can be its label"]),
]


@pytest.mark.parametrize(("held", "words"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_what_cannot_be_told_is_said(held, words):
    with pytest.raises(UserError) as error:
        guess_task(held, name="x.csv")
    assert str(error.value).startswith("x.csv: ")
    assert all(word in str(error.value) for word in words), error.value


def test_what_the_user_names_is_taken():
    held = records(left=text, right=lambda i: text(i + 1), region=["north", "south"], team=NAMES)
    task = guess_task(held, text_columns=["left"], label_column="team").task
    assert (task.text_columns, task.label_column) == (("left",), "team")  # type: ignore[attr-defined]
    assert guess_task(held, text_columns=["left", "right"], label_column="team").task.text_columns == ("left", "right")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no column 'lef'; found are left, right, region, team"):
        guess_task(held, text_columns=["lef"])


def test_kinds_are_told_from_records_of_the_whole_file():
    held = records(5000, text=text, label=lambda i: NAMES[i // 2500])
    assert Columns(held).kinds["label"].num_distinct == 2
    assert len(Columns(held).records) <= 600


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_config_of_a_file(tmp_path, suffix):
    file = tmp_path / f"tickets.{suffix}"
    held = records(ticket_id=lambda i: i, body=text, queue=NAMES)
    with file.open("w", newline="") as stream:
        if suffix == "csv":
            table = csv.DictWriter(stream, list(held[0]))
            table.writeheader()
            table.writerows(held)
        else:
            stream.writelines(json.dumps(record) + "\n" for record in held)
    cfg, line = guess_config(str(file), model="somewhere")
    assert line == "text in 'body', one label in 'queue'"
    assert (cfg.task.train, cfg.model.path) == (str(file), "somewhere")
    cfg.check()
    cfg, _ = guess_config(str(file), asked={"text_columns": "('body', 'queue')", "label_column": "queue"})
    assert cfg.task.text_columns == ("body", "queue")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("tickets.csv", "tickets"), ("data/tickets.v2.csv.gz", "tickets"), ("hub:leondz/wnut_17@main", "wnut_17"), ("hub:org/glue/sst2#dev", "sst2"),
        ("data/", "data"), ("my tickets (1).csv", "my-tickets-1"), ("*.csv", "data"), ("/", "data"), (".hidden.csv", "hidden"),
    ],
)  # fmt: skip
def test_a_file_has_a_short_name(path, name):
    assert name_of(path) == name
