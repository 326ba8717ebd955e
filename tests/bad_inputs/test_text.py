"""Texts and words that are odd. Numbers 49 to 70 of the corpus."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from flaxft import errors
from flaxft.main import main
from tests.bad_inputs.corpus import Case
from tests.bad_inputs.test_data import CLASSES, jsonl, other

# A word of which the tokenizer makes one unknown token, whatever its normaliser leaves of it; so its neighbours keep their labels and predictions.
UNKNOWN = [
    (49, "empty", ""),
    (50, "whitespace", " "),
    (50, "tab", "\t"),
    (51, "U+200B", "\u200b"),
    (52, "U+FEFF", "\ufeff"),
    (53, "NUL", "\0"),
    (54, "U+00AD", "\u00ad"),
    (55, "U+FE0F", "\ufe0f"),
    (56, "lone combining mark", "\u0301"),
    (57, "U+202E", "\u202e"),
    (58, "U+FFFD", "\ufffd"),
    (59, "NBSP", "\u00a0"),
    (60, "private use", "\ue000"),
    (61, "U+2028", "\u2028"),
    (62, "200 characters", "q" * 200),
    (63, "emoji with ZWJ", "\U0001f469\u200d\U0001f469\u200d\U0001f467"),
]
WORDS = [Case(number, name, words=[word], code=errors.OK) for number, name, word in UNKNOWN]
PIECES = [
    Case(64, "literal [SEP]", words=["[SEP]"], code=errors.OK),
    Case(64, "literal [CLS]", words=["[CLS]"], code=errors.OK),
    Case(64, "literal [PAD]", words=["[PAD]"], code=errors.OK),
]

LINES = {"data.jsonl": '{"text": "anna", "label": "a"}\n{"text": "bob", "label": "b"}\n{"text": "anna \\ud800", "label": "b"}\n'}
TRAIN = ["--config.task.train={tmp}/data.jsonl"]
REFUSED = [
    Case(65, "half a surrogate pair", TRAIN, ["data.jsonl:3", "surrogates not allowed"], files=LINES, lines=CLASSES, is_real=True),
    other(66, "null for a text", "data.jsonl", jsonl({"text": None, "label": "a"}), "data.jsonl:1", "'None' (NoneType), expected text", lines=CLASSES),
    Case(66, "null for a word", TRAIN, ["data.jsonl:1", "None is not text"],
         files={"data.jsonl": jsonl({"tokens": ["anna", None], "ner_tags": ["B-PER", "O"]})}),
    Case(66, "null for the words", TRAIN, ["data.jsonl:1", "expected a list of words"], files={"data.jsonl": jsonl({"tokens": None, "ner_tags": []})}),
    other(67, "a number for a text", "data.jsonl", jsonl({"text": 7, "label": "a"}), "data.jsonl:1", "'7' (int), expected text", lines=CLASSES),
    Case(67, "a number for a word", TRAIN, ["data.jsonl:1", "7 is not text"], files={"data.jsonl": jsonl({"tokens": ["anna", 7], "ner_tags": ["B-PER", "O"]})}),
    Case(0, "a long_text that is none", [*TRAIN, "--config.task.long_text=window"], ["task.long_text is 'window'", "did you mean 'windows'"],
         files={"data.jsonl": jsonl({"text": "anna", "label": "a"}, {"text": "bob", "label": "b"})}, lines=CLASSES),
    Case(0, "windows of pairs", [*TRAIN, "--config.task.long_text=windows"], ["task.long_text is 'windows'", "leave it at head"],
         files={"data.jsonl": jsonl(*({"text": "anna", "text_pair": "bob", "label": label} for label in "ab"))}, lines=CLASSES),
    Case(49, "no words", TRAIN, ["data.jsonl:1", "empty list of words", "remove the record"], files={"data.jsonl": jsonl({"tokens": [], "ner_tags": []})}),
]  # fmt: skip

# Of an encoder with 64 positions, read 16 at a time.
LONG = jsonl({"text": "anna lives " * 50, "label": "a"}, {"text": "bob", "label": "b"})
SCORED = ["--config.task.train={tmp}/data.jsonl", "--config.task.validation={tmp}/data.jsonl", "--config.task.test=", "--config.num_steps=0"]
SHORT = [*SCORED, "--config.data.max_length=16"]
LONG_WORDS = {"tokens": ["anna", "lives"] * 50, "ner_tags": ["B-PER", "O"] * 50}
MEGABYTE = "anna lives in paris . " * 50_000
ACCEPTED = [
    Case(68, "longer than max_length", SHORT, ["1 of 2 records are longer than data.max_length=16 and were cut; 86 tokens are not read"], errors.OK,
         files={"data.jsonl": LONG}, lines=CLASSES),
    Case(69, "a sentence longer than max_length", SHORT, ["validation: 1 records, 9 examples"], errors.OK, files={"data.jsonl": jsonl(LONG_WORDS)}),
    Case(70, "a line of 1 MB", SHORT, ["1 of 2 records are longer"], errors.OK,
         files={"data.jsonl": jsonl({"text": MEGABYTE, "label": "a"}, {"text": "bob", "label": "b"})}, lines=CLASSES),
    Case(70, "a word of 1 MB", SHORT, ["validation: 1 records, 1 examples"], errors.OK,
         files={"data.jsonl": jsonl({"tokens": ["anna", "q" * 1_000_000], "ner_tags": ["B-PER", "O"]})}),
]  # fmt: skip
CASES = [*WORDS, *PIECES, *REFUSED, *ACCEPTED]


@pytest.mark.parametrize("case", [*REFUSED, *ACCEPTED], ids=lambda case: case.id)
def test_case(tried, case):
    tried(case)


@pytest.fixture(scope="module")
def answers(finished, tmp_path_factory):
    """What a run predicts for each word between two others, pre-split, and alone as raw text."""
    folder = tmp_path_factory.mktemp("words")
    words = [case.words[0] for case in (*WORDS, *PIECES)]
    given = {"split": [{"tokens": ["anna", word, "paris"]} for word in (*words, "東")], "raw": [{"text": word} for word in words]}
    found = {}
    for name, records in given.items():
        (folder / f"{name}.jsonl").write_text(jsonl(*records))
        arguments = [f"--workdir={finished}", "--mode=predict", f"--input={folder / name}.jsonl", f"--output={folder / name}.out"]
        assert main(arguments) == errors.OK
        found[name] = [json.loads(line) for line in (folder / f"{name}.out").read_text().split("\n")[:-1]]
        assert len(found[name]) == len(records)
    return found


@pytest.mark.parametrize("case", [*WORDS, *PIECES], ids=lambda case: case.id)
def test_every_word_gets_one_prediction(answers, case, record_property):
    i = [*WORDS, *PIECES].index(case)
    assert answers["split"][i]["words"] == ["anna", case.words[0], "paris"]
    assert len(answers["split"][i]["tags"]) == 3
    if case in WORDS:  # a word of unknown letters: the same token, so the same predictions
        assert answers["split"][i]["tags"] == answers["split"][-1]["tags"]
        assert [one["score"] for one in answers["split"][i]["entities"]] == [one["score"] for one in answers["split"][-1]["entities"]]
    assert answers["raw"][i]["text"] == case.words[0]
    assert len(answers["raw"][i]["words"]) == len(answers["raw"][i]["tags"]) <= 3
    record_property("bad input", (case.number, case.name, errors.OK))


def test_a_long_line_is_predicted(finished, tmp_path):
    (tmp_path / "texts.txt").write_text("anna lives in paris . " * 5000)
    assert main([f"--workdir={finished}", "--mode=predict", f"--input={tmp_path / 'texts.txt'}", f"--output={tmp_path / 'out'}"]) == errors.OK
    (line,) = (tmp_path / "out").read_text().split("\n")[:-1]
    assert len(json.loads(line)["tags"]) == 25_000


def given(number: int, name: str, content: str | bytes | None, *words: str, arguments: Sequence[str] = ()) -> Case:
    """A file to predict."""
    files = {} if content is None else {name: content}
    words = words if arguments else (name, *words)
    return Case(number, name, ["--workdir={finished}", "--mode=predict", f"--input={{tmp}}/{name}", *arguments], words, files=files, config="-")


GIVEN = [
    given(17, "missing.txt", None, "no such file"),
    given(24, "latin.txt", b"Z\xfcrich\n", "latin.txt:1", "is not UTF-8"),
    given(25, "utf16.txt", "anna".encode("utf-16"), "UTF-16"),
    given(29, "bad.jsonl", '{"text": "anna"}\n{"text": "bob",}\n', "bad.jsonl:2", "bad JSON"),
    given(29, "list.jsonl", '{"text": "anna"}\n[1]\n', "list.jsonl:2", "expected an object"),
    given(29, "string.jsonl", '"anna"\n', "string.jsonl:1"),
    given(29, "deep.jsonl", '{"text": "anna"}\n' + "[" * 100_000, "deep.jsonl:2", "bad JSON"),
    given(29, "digits.jsonl", '{"text": ' + "1" * 5000 + "}", "digits.jsonl:1", "bad JSON"),
    given(31, "constant.jsonl", '{"text": NaN}\n', "constant.jsonl:1"),
    given(65, "half.jsonl", '{"text": "anna"}\n{"text": "\\ud800"}\n', "half.jsonl:2", "surrogates not allowed"),
    given(66, "null.jsonl", '{"text": null}\n', "null.jsonl:1"),
    given(67, "number.jsonl", '{"text": 7}\n', "number.jsonl:1"),
    given(0, "texts.log", "anna lives\nbob works\n", "'.log' does not say what it holds", "name it .txt"),
    given(0, "texts", "anna lives in oslo\n", "a name without suffix does not say what it holds"),
    given(0, "picture.txt", b"\x89PNG\r\n\x1a\n" + bytes(40), "picture.txt"),
    given(0, "pickle.txt", b"\x80\x04\x95" + bytes(40), "pickle.txt"),
    given(0, "table.csv", "name,age\nanna,7\n", "table.csv:2", "no column of words"),
    given(0, "keep.jsonl", '{"text": "anna"}\n', "keep names 'id'", "found are ['text']", arguments=["--keep=id"]),
    given(0, "good.txt", "anna\n", "--output=", "give the name of a file", arguments=["--output={tmp}/nowhere/good.txt.jsonl"]),
]
CASES += GIVEN


@pytest.mark.parametrize("case", GIVEN, ids=lambda case: case.id)
def test_predict_with_bad_files(tried, finished, case):
    tried(case, finished=finished)
