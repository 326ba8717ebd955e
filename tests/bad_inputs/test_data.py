"""Bad data files. Numbers 17 to 48 of the corpus."""

from __future__ import annotations

import codecs
import json
import lzma

import pytest

from flaxft import errors
from tests.bad_inputs.corpus import Case

GOOD = "anna\tB-PER\nlives\tO\n\n"
LABELS_OF_TINY = ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
TRAIN, VALIDATION, TEST = ("--config.task.train={tmp}/data.conll", "--config.task.validation={tmp}/data.conll", "--config.task.test={tmp}/data.conll")
# What must work is read and scored as it is.
SCORED = ("--config.num_steps=0", "--config.task.test=", "--config.data.max_length=16")


def conll(number: int, name: str, content: str | bytes, *words: str, arguments: tuple[str, ...] = (TRAIN,), **fields) -> Case:
    """A column file."""
    return Case(number, name, arguments, words, files={"data.conll": content}, **fields)


def works(number: int, name: str, file: str, content: str | bytes, *words: str, arguments: tuple[str, ...] = (), **fields) -> Case:
    """Of the same classes as `GOOD`, or read by `fields["lines"]`."""
    paths = [f"--config.task.{split}={{tmp}}/{file}" for split in ("train", "validation")]
    return Case(number, name, [*paths, *(arguments or SCORED)], words, code=errors.OK, files={file: content}, **fields)


def task(module: str, name: str, *fields: str) -> list[str]:
    """Lines of a config file: another task, whose train file the command names, with a plain schedule."""
    return [f"from flaxft.tasks.{module} import {name}", f"cfg.task = {name}(train='none', {', '.join(fields)})", "cfg.evals = {}"]


CLASSES = task("sequence_classification", "SequenceClassification")
NUMBERS = task("regression", "Regression")
SQUAD = task("question_answering", "QuestionAnswering")


def other(number: int, name: str, file: str, content: str | bytes, *words: str, lines: list[str], arguments: tuple[str, ...] = (), **fields) -> Case:
    """A file of another task."""
    return Case(number, name, [f"--config.task.train={{tmp}}/{file}", *arguments], words, files={file: content}, lines=lines, **fields)


def spanned(name: str, record: dict[str, object], *words: str) -> Case:
    """A text with spans of characters, behind one that is sound."""
    lines = jsonl({"text": "anna lives", "entities": [[0, 4, "PER"]]}, record)
    return Case(48, name, ["--config.task.train={tmp}/data.jsonl"], words, files={"data.jsonl": lines})


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def tagged(*tags: object, words: tuple[object, ...] = ("anna", "lives")) -> dict[str, object]:
    return {"tokens": list(words), "ner_tags": list(tags)}


def labelled(*labels: object) -> str:
    """One text a label, as JSON lines."""
    return jsonl(*({"text": f"{word} lives", "label": label} for word, label in zip("anna bob carl dora".split(), labels, strict=False)))


def squad(*names: str) -> str:
    qas = [{"id": name, "question": "who lives ?", "answers": [{"text": "anna", "answer_start": 0}]} for name in names]
    return json.dumps({"data": [{"paragraphs": [{"context": "anna lives in paris .", "qas": qas}]}]})


FILES = [
    Case(17, "missing", [TRAIN], ["data.conll", "no such file", "correct the path"], is_real=True),
    Case(17, "misspelt", ["--config.task.train={folder}/trian.conll"], ["no such file", "did you mean 'train.conll'"]),
    Case(18, "a directory", ["--config.task.train={tmp}"], ["is a directory", "name one file in it"]),
    Case(18, "a directory of several kinds", ["--config.task.train={tmp}"], ["several kinds", "a glob"], files={"a.csv": "a", "b.conll": ""}),
    Case(18, "a directory of another split", ["--config.task.train={tmp}"], ["no split 'train'; found test", "#test"], files={"test.conll": GOOD}),
    Case(18, "a glob without files", ["--config.task.train={tmp}/*.conll"], ["*.conll: no file matches", "correct the pattern"]),
    works(0, "a glob", "data*.conll", GOOD),
    conll(19, "0 bytes", "", "data.conll", "empty (0 bytes)"),
    other(19, "0 bytes of JSON lines", "data.jsonl", "", "data.jsonl", "empty (0 bytes)", lines=CLASSES),
    conll(19, "blank lines alone", "\n\n \n", "data.conll", "no records"),
    other(20, "a header alone", "data.csv", "text,label\n", "data.csv", "no records", "one row below the header", lines=CLASSES),
    works(21, "BOM", "data.conll", codecs.BOM_UTF8 + GOOD.encode()),
    works(22, "CRLF", "data.conll", GOOD.replace("\n", "\r\n")),
    conll(23, "lone CR", GOOD.replace("\n", "\r"), "data.conll:1", "CR"),
    conll(24, "Latin-1", "Zürich\tB-LOC\n".encode("latin-1"), "data.conll:1", "byte 0xfc is not UTF-8", is_real=True),
    conll(25, "UTF-16", GOOD.encode("utf-16"), "data.conll:1", "UTF-16", "save it as UTF-8"),
    conll(26, "NUL", GOOD + "a\0b\tO\n", "data.conll:4", "NUL"),
    conll(27, "a column less", GOOD + "paris\n", "data.conll:4", "found 1 column(s) in 'paris'", "expected 2", is_real=True),
    conll(27, "a column less in validation", GOOD * 3 + "in\tO\nparis\n", "data.conll:11", "expected 2", arguments=(VALIDATION,)),
    conll(27, "a column more", GOOD + "paris\tB-LOC\tx\n", "data.conll:4", "found 3 column(s)"),
    other(27, "a cell more", "data.csv", "text,label\na,b\na,b,c\n", "data.csv:3", "found 3 cell(s), expected 2", lines=CLASSES),
    other(0, "no header", "data.csv", "good film,pos\nbad film,neg\nso so,pos\nno,neg\nyes,pos\n", "data.csv:1", "'pos' is a cell of 2 other rows",
         "put a row of names above it", lines=CLASSES),
    other(0, "one odd column", "data.csv", "text;label\na; b;pos\nc;neg\n", "data.csv:1", "separated by semicolons", "in quotes", lines=CLASSES),
    other(28, "a quote that swallows records", "data.csv", 'text,label\na,x\nb,x\nc,y\n"d,x\ne,y\nf",x\ng,y\nh,x\n', "data.csv:5", "closes in line 7",
         lines=CLASSES),
    works(0, "semicolons", "data.csv", "text;label\na;b\nc;d\n", "the cells are separated by semicolons", lines=CLASSES),
    works(0, "lists in cells", "data.csv", "tokens,ner_tags\n\"['anna', 'lives']\",['B-PER' 'O']\n", "are read as lists"),
    Case(0, "a cell that is no list", [TRAIN.replace("conll", "csv")], ["data.csv:3", "column 'tokens' holds lists", "no value at 'anna'"],
         files={"data.csv": "tokens,ner_tags\n\"['anna', 'lives']\",['B-PER' 'O']\n\"[anna, lives]\",['O' 'O']\n"}),
    other(28, "unterminated quote", "data.csv", 'text,label\n"a,b\nc,d\n', "data.csv:2", "unexpected end of data", lines=CLASSES),
    other(29, "no JSON on line 2", "data.jsonl", labelled("a") + "garbage\n", "data.jsonl:2", "bad JSON", "one JSON object per line", lines=CLASSES),
    other(0, "an object that holds the records", "data.json", json.dumps({"rows": [{"text": "a"}, {"text": "b"}]}), "data.json:1", "2 objects at 'rows'",
         "write that list alone", lines=CLASSES),
    other(29, "commas behind JSON lines", "data.jsonl", '{"text": "a"},\n{"text": "b"}\n', "data.jsonl:1", "a comma behind", "delete them", lines=CLASSES),
    works(30, "a JSON array", "data.json", json.dumps([tagged("B-PER", "O"), tagged("B-PER", "O")])),
    conll(24, "Windows-1252", "\u201cZürich\u201d\tB-LOC\n".encode("cp1252"), "data.conll:1", "byte 0x93 is not UTF-8", "iconv -f WINDOWS-1252"),
    conll(0, "an archive", b"PK\x05\x06" + bytes(18), "data.conll: is a ZIP archive", "unpack it"),
    conll(0, "a pickle", b"\x80\x04K\x01.", "data.conll: is a pickle", "never is here"),
    conll(0, "a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    works(0, "xz", "data.conll.xz", lzma.compress(GOOD.encode())),
    Case(0, "another format", ["--config.task.format=csv", TRAIN], ["data.conll"], files={"data.conll": GOOD}),
]

LABELS = [
    other(31, "NaN", "data.jsonl", '{"text": "a", "score": 1}\n{"text": "b", "score": NaN}\n', "data.jsonl:2", "NaN is no JSON number", lines=NUMBERS),
    other(31, "NaN in CSV", "data.csv", "text,score\na,1\nb,nan\n", "data.csv:3", "'nan'", lines=NUMBERS),
    other(32, "Infinity", "data.jsonl", '{"text": "a", "score": 1}\n{"text": "b", "score": -Infinity}\n', "data.jsonl:2", "-Infinity is no JSON",
         lines=NUMBERS),
    other(32, "infinity in CSV", "data.csv", "text,score\na,1\nb,inf\n", "data.csv:3", "'inf'", lines=NUMBERS),
    other(33, "an empty label", "data.csv", "text,label\na,b\nc,\n", "data.csv:3", "column 'label' is empty", lines=CLASSES),
    conll(33, "an empty tag", "anna\tB-PER\nlives\t\n", "data.conll:2", "found 1 column(s)"),
    other(33, "an empty number", "data.csv", "text,score\na,1\nc,\n", "data.csv:3", "score", lines=NUMBERS),
    other(34, "a text for a number", "data.csv", "text,score\na,1\nc,high\n", "data.csv:3", "'high'", lines=NUMBERS),
    other(34, "a text for a number in JSON", "data.jsonl", '{"text": "a", "score": 1}\n{"text": "b", "score": "high"}\n', "data.jsonl:2", "'high'",
         lines=NUMBERS),
    works(35, "NA, null and None in CSV", "data.csv", "text,label\nNA,null\nnull,None\nNone,null\nnan,NA\n", "3 labels: NA, None, null", lines=CLASSES),
    works(35, "NA, null and None in JSON lines", "data.jsonl", labelled("null", "None", "NA", "NA"), "3 labels: NA, None, null", lines=CLASSES),
    other(36, "numbers beside texts", "data.jsonl", labelled(1, "a", 1), "data.jsonl:2", "'a' is a text", "the first one is a number", lines=CLASSES),
    other(36, "a list beside a text", "data.jsonl", labelled("a", ["b", "c"]), "data.jsonl:2", "several labels, and this task learns one", lines=CLASSES),
    other(36, "true beside a text", "data.jsonl", labelled("a", True), "data.jsonl:2", "'True' is true or false, but the first one is a text", lines=CLASSES),
    other(36, "numbers beside texts in a list", "data.jsonl", labelled(["a", "b"], ["a", 2]), "data.jsonl:2", "'2' is a number",
         lines=task("multilabel_classification", "MultiLabelClassification")),
    Case(36, "tags of two kinds", ["--config.task.train={tmp}/data.jsonl"], ["data.jsonl:1", "tag"], files={"data.jsonl": jsonl(tagged("B-PER", 3))}),
    conll(37, "a tag outside the labels", GOOD * 2 + "acme\tB-DISEASE\n", "data.conll:7", "'B-DISEASE' is not among the labels", "task.labels",
         arguments=(VALIDATION,)),
    conll(37, "the same in test", GOOD + "acme\tI-DISEASE\n", "data.conll:4", "B-DISEASE", "task.labels", arguments=(TEST,)),
    other(37, "a label outside the labels", "data.jsonl", labelled("a", "b", "c"), "data.jsonl:3", "'c' is not among the labels ['a', 'b']", lines=CLASSES,
         arguments=("--config.task.labels=a,b",)),
    other(37, "a number outside the labels", "data.jsonl", labelled(0, 1, 2), "data.jsonl:3", "label number 2", "expected 0 to 1", lines=CLASSES,
         arguments=("--config.task.labels=a,b",)),
    Case(38, "a label twice", ["--config.task.labels=O,B-PER,O"], ["task.labels names ['O'] more than once", "name each label once"]),
    other(38, "a class twice", "data.jsonl", labelled("a", "b"), "task.labels names ['a'] more than once", lines=CLASSES,
         arguments=("--config.task.labels=a,b,a",)),
]  # fmt: skip

COLUMNS = [
    Case(40, "no such column of tags", ["--config.task.label_column=7"], ["no column '7'", "found are ['0', '1']", "task.label_column"]),
    Case(40, "no such column of words", ["--config.task.text_columns=word"], ["no column 'word'", "found are ['0', '1']", "task.text_columns"]),
    other(40, "no such column of texts", "data.csv", "text,label\na,b\n", "data.csv:2", "no column 'txt'", "['label', 'text']", "did you mean 'text'",
         lines=CLASSES, arguments=("--config.task.text_columns=txt",)),
    works(41, "an extra column", "data.conll", "anna\tNNP\tB-PER\nlives\tVB\tO\n"),
    works(41, "an extra key", "data.jsonl", jsonl(tagged("B-PER", "O") | {"source": "x", "n": 3}, tagged("B-PER", "O"))),
    other(42, "a key twice", "data.jsonl", '{"text": "a", "label": "b"}\n{"text": "a", "text": "c", "label": "b"}\n', "data.jsonl:2",
         "'text' stands twice in one object", lines=CLASSES),
    other(42, "a column twice", "data.csv", "text,label,text\na,b,c\n", "data.csv:1", "'text' stand more than once", "rename", lines=CLASSES),
    works(43, "an id twice", "data.json", squad("q1", "q2", "q1"), "1 ids stand more than once, the first is 'q1'", lines=SQUAD),
]  # fmt: skip

SETS = [
    works(44, "records of train in validation", "data.conll", GOOD, "validation: 1 of 1 records are in the train split too"),
    other(45, "one class alone", "data.jsonl", labelled("a", "a"), "data.jsonl", "every record has the label 'a'", "at least two", lines=CLASSES),
    conll(45, "no entity at all", "anna\tO\nlives\tO\n", "data.conll", "every tag is 'O'", "at least"),
    works(46, "fewer records than a batch", "data.conll", GOOD, "1 records",
         arguments=("--config.data.batch_size=64", "--config.num_steps=1", "--config.task.test=", "--config.data.max_length=16")),
    Case(47, "more words than tags", ["--config.task.train={tmp}/data.jsonl"], ["data.jsonl:2", "2 words but 1 tags", "each word needs one tag"],
         files={"data.jsonl": jsonl(tagged("B-PER", "O"), tagged("O"))}),
    Case(47, "fewer words than tags", ["--config.task.validation={tmp}/data.jsonl"], ["data.jsonl:2", "2 words but 3 tags"],
         files={"data.jsonl": jsonl(tagged("O", "O"), tagged("O", "O", "O"))}),
    works(48, "I- that continues nothing", "data.conll", "anna\tB-PER\nlives\tO\nparis\tI-LOC\nbob\tB-PER\n", "1 tags are out of place in IOB2"),
    conll(48, "no letter of a scheme", GOOD + "paris\tX-PER\n", "data.conll:4", "X-PER", "IOB2"),
    works(48, "the letter at the end", "data.conll", "anna\tPER-B\nlives\tPER-I\nin\tO\n", "tags such as 'PER-B' are read as 'B-PER'"),
    conll(48, "a letter of no scheme at the end", GOOD + "paris\tLOC-X\n", "data.conll:4", "LOC-X", "IOB2"),
    works(48, "no letter, no type", "data.conll", "anna\tPER\nlives\tO\nin\tO\n", "plain tags, no entity scores", "write B- and I- before their types"),
    conll(48, "0 for O", "anna\tB-PER\nlives\t0\nin\t0\n", "data.conll:1", "is 0 the letter O?"),
    works(48, "a word without a tag", "data.conll", "anna\tB-PER\nlives\tO\nin\t-\n", "1 words whose tag is '-'"),
    conll(48, "no tag says anything", "anna\t_\nlives\t_\nin\t-\n", "data.conll", "no word has a tag"),
    spanned("a span beyond its text", {"text": "anna lives", "entities": [[0, 40, "PER"]]}, "data.jsonl:2: the span [0, 40] of 'PER' is beyond its text"),
    spanned("an empty span", {"text": "anna lives", "entities": [[4, 4, "PER"]]}, "data.jsonl:2: the span [4, 4] of 'PER' is empty"),
    spanned("a span of other words", {"text": "anna lives", "entities": [{"start": 0, "end": 4, "label": "PER", "text": "bob"}]}, "its own words"),
    Case(48, "annotations without their text", ["--config.task.train={tmp}/data.ann"], ["data.ann", "whose text", "put it there"],
         files={"data.ann": "T1\tPER 0 4\tanna\n"}),
    Case(48, "a word a row, all of them one sentence", ["--config.task.train={tmp}/data.csv"], ["data.csv:2", "does not say where sentences end"],
         files={"data.csv": "word,tag\nanna,B-PER\nlives,O\nin,O\n"}),
    conll(48, "brackets that do not close", "anna\t(PER*\nlives\t*\n", "data.conll:1", "the bracket (PER"),
    conll(48, "numbers for words", "1\tO\n2\tB-PER\n3\tO\n", "data.conll:1", "column 0 counts the words", "task.text_columns"),
    conll(48, "running text", "anna lives in paris .\nbob is in rome .\n", "data.conll:1", "running text"),
    conll(48, "an annotation file", "T1\tPER 0 4\tanna corp\nT2\tLOC 9 14\tnew paris\n", "data.conll:1", "the last column holds texts"),
    conll(48, "no type", GOOD + "paris\tB-\n", "data.conll:4", "'B-'"),
]  # fmt: skip
# 39 needs a model that is fine-tuned already: tests/bad_inputs/test_model.py

CASES = [*FILES, *LABELS, *COLUMNS, *SETS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(tried, case):
    tried(case)
