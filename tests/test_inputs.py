"""What a prediction is given, from Python and in files, and what comes back: the same kind, row by row, without a look at labels."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from flaxft import inputs, predict
from flaxft.data.pipeline import Data
from flaxft.data.raw import read_raw
from flaxft.data.scores import Scores
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.hf import Pretrained
from flaxft.sharding import Mesh, make_mesh
from flaxft.tasks.mixture import Mixture
from flaxft.tasks.multilabel_classification import MultiLabelClassification
from flaxft.tasks.multiple_choice import MultipleChoice
from flaxft.tasks.question_answering import QuestionAnswering
from flaxft.tasks.regression import Regression
from flaxft.tasks.relation_classification import RelationClassification
from flaxft.tasks.sentence_embedding import SentenceEmbedding
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.tasks.token_classification import TokenClassification
from tests import tiny

pd = pytest.importorskip("pandas")
datasets = pytest.importorskip("datasets")

LABELS = ("refund", "delivery", "other", "praise", "login")
TEXTS = ["anna lives in paris", "bob works", "a new red house !", ""]


@pytest.fixture(scope="module")
def make(tmp_path_factory) -> Any:
    """A Predictor of a resolved task over the tiny encoder, whose head nobody trained."""
    model = Pretrained(path=str(tiny.encoder(tmp_path_factory.mktemp("model") / "encoder")))
    checkpoint = model.open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)

    def made(task: Any) -> predict.Predictor:
        loaded = model.load(checkpoint, task.head, reuse_head=False, seed=0)
        data = Data(max_length=32, eval_tokens=128)
        return predict.Predictor(task, tokenizer, loaded, model=checkpoint.directory, mesh=make_mesh(Mesh()), data=data, calibration={})

    return made


@pytest.fixture(scope="module")
def classifier(make) -> predict.Predictor:
    return make(SequenceClassification(labels=LABELS, text_columns=("body",), label_column="queue"))


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    """But for float32's noise, which moves with the shape of the batch."""
    return [one["label"] for one in found] == [one["label"] for one in wanted] and np.allclose(
        [list(one["scores"].values()) for one in found], [list(one["scores"].values()) for one in wanted], atol=1e-5
    )


# ---- labels are not read ------------------------------------------------------------------------------------------------------------------------

NER = TokenClassification(labels=("O", "B-PER", "I-PER"), scheme="IOB2")
QA = QuestionAnswering(version_2=True)
ASKED = {"question": "who lives ?", "context": "anna lives in paris"}
CHOICE = {"question": "who lives ?", "choices": ["anna", "bob"]}
MARKED = "<e1>anna</e1> lives in <e2>paris</e2>"
UNREADABLE = (None, -1, "", "unknown", 17.5, [], {"a": 1}, math.nan, True)  # whatever stands in the label's column


@pytest.mark.parametrize(
    ("task", "record", "column"),
    [
        (SequenceClassification(labels=("a", "b"), text_columns=("body",), label_column="queue"), {"body": "anna"}, "queue"),
        (SequenceClassification(labels=("a", "b")), {"text": "anna"}, "label"),  # as of a model that was not trained here
        (SequenceClassification(labels=("a", "b"), text_columns=("intent",), label_column="label"), {"intent": "anna"}, "label"),
        (Regression(), {"text": "anna", "text_pair": "bob"}, "score"),
        (MultiLabelClassification(labels=("a", "b")), {"text": "anna"}, "labels"),
        (MultiLabelClassification(labels=("a", "b"), label_columns=("a", "b")), {"text": "anna"}, "a"),
        (RelationClassification(labels=("a", "b")), {"text": MARKED}, "relation"),
        (MultipleChoice(), CHOICE, "answerKey"),
        (QA, ASKED, "answers"),
        (QA, ASKED, "is_impossible"),
        (SentenceEmbedding(objective="cosine", text_columns=("text", "text_pair"), score_column="score", scale=1.0), {"text": "a", "text_pair": "b"}, "score"),
        (SentenceEmbedding(objective="in_batch", text_columns=("text",), label_column="label"), {"text": "anna"}, "label"),
        (NER, {"tokens": ["anna", "lives"]}, "ner_tags"),
        (dataclasses.replace(NER, label_column="mine"), {"tokens": ["anna", "lives"]}, "mine"),
        (NER, {"0": ["anna", "lives"]}, "3"),  # of a column file
        (dataclasses.replace(NER, text_columns=("1",)), {"0": ["1", "2"], "1": ["anna", "lives"]}, "2"),
        (Mixture(tasks={"one": SequenceClassification(labels=("a", "b"), text_columns=("text",), label_column="label")}), {"text": "anna"}, "label"),
        (
            Mixture(tasks={"one": SequenceClassification(labels=("a", "b"), text_columns=("text",), label_column="label")}),
            {"task": "one", "text": "anna"},
            "label",
        ),
    ],
    ids=lambda value: type(value).__name__ if dataclasses.is_dataclass(value) else None,
)
def test_a_label_is_not_read(make, task, record, column):
    predictor = make(task)
    rows = predictor._rows([inputs.Placed("x:1", record | {column: label}) for label in UNREADABLE], name="x")
    (wanted,) = predictor._rows([inputs.Placed("x:1", record)], name="x")
    features = [task.features(row, predictor.tokenizer, max_length=32) for row in (wanted, *rows)]
    assert all(jax.tree.all(jax.tree.map(np.array_equal, one, features[0])) for one in features)


def test_predictions_of_labelled_records_are_those_of_raw_ones(classifier):
    wanted = classifier.predict(TEXTS[:3])
    assert classifier.predict([{"body": text, "queue": "no such label"} for text in TEXTS[:3]]) == wanted
    assert classifier.predict([{"text": text} for text in TEXTS[:3]]) == wanted
    assert "queue" not in wanted[0]


# ---- from Python: the same kind comes back -------------------------------------------------------------------------------------------------------


def test_a_frame_comes_back_with_its_index_and_columns(classifier):
    when = pd.to_datetime(["2024-01-01", "2024-01-02", None, "2024-01-04"])
    frame = pd.DataFrame({"id": [7, 8, 9, 10], "body": TEXTS, "date": when, "n": [1, None, 3, 4]}, index=["w", "x", "y", "z"])
    before = frame.copy(deep=True)
    found = classifier.predict(frame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(found[list(frame.columns)], frame)  # types too
    wanted = classifier.predict(TEXTS)
    assert found["label"].tolist() == [one["label"] for one in wanted]
    assert found["scores"].tolist() == [one["scores"] for one in wanted]
    assert list(classifier.predict(frame, keep=["id"]).columns) == ["id", "text", "label", "score", "scores"]
    assert classifier.predict(frame.iloc[:0]).columns.tolist() == frame.columns.tolist()


def test_what_the_input_holds_is_never_replaced(classifier, caplog):
    with caplog.at_level("INFO", "flaxft"):
        found = classifier.predict(pd.DataFrame({"text": TEXTS, "label": ["mine"] * 4, "score": 0}))
    assert found["label"].tolist() == ["mine"] * 4
    assert found["predicted_label"].tolist() == [one["label"] for one in classifier.predict(TEXTS)]
    assert found.columns.tolist() == ["text", "label", "score", "predicted_label", "predicted_score", "scores"]
    assert "'label' is the input's, and what was predicted is 'predicted_label'" in caplog.text


def test_a_series_a_data_set_and_a_dict_of_lists(classifier):
    wanted = classifier.predict(TEXTS)
    found = classifier.predict(pd.Series(TEXTS, index=[3, 1, 4, 5], name="mail"))
    assert found.index.tolist() == [3, 1, 4, 5]
    assert found["label"].tolist() == [one["label"] for one in wanted]
    data = datasets.Dataset.from_dict({"id": [1, 2, 3, 4], "body": TEXTS})
    found = classifier.predict(data)
    assert isinstance(found, datasets.Dataset)
    assert found.column_names == ["id", "body", "text", "label", "score", "scores"]
    assert found["label"][:] == [one["label"] for one in wanted]
    cut = classifier.predict(TEXTS, top_k=2)[0]["scores"]
    assert classifier.predict(data, top_k=2)[0]["scores"] == [{"label": label, "score": score} for label, score in cut.items()]
    found = classifier.predict({"id": [1, 2, 3, 4], "body": TEXTS})
    assert list(found) == ["id", "body", "text", "label", "score", "scores"]
    assert found["label"] == [one["label"] for one in wanted]
    assert classifier.predict(tuple(TEXTS)) == wanted
    assert classifier.predict([]) == []


def test_columns_come_back_on_request(classifier):
    records = [{"id": i, "body": text, "queue": "refund", "x": None} for i, text in enumerate(TEXTS)]
    assert "id" not in classifier.predict(records)[0]
    for keep in ("id", ["id"], "id, id"):
        found = classifier.predict(records, keep=keep)
        assert [list(one) for one in found] == [["id", "text", "label", "score", "scores"]] * 4
        assert [one["id"] for one in found] == [0, 1, 2, 3]
    (one,) = classifier.predict(records[:1], keep="*")
    assert list(one) == ["id", "body", "queue", "x", "text", "label", "score", "scores"]
    found = classifier.predict([{"id": 1, "text": "a"}, {"text": "b"}], keep="id")
    assert [one["id"] for one in found] == [1, None]  # a record may lack it
    with pytest.raises(UserError, match=r"^keep names 'ident', which is no column of the input; found are \['body', 'id', 'queue', 'x'\]"):
        classifier.predict(records, keep="ident")


def test_so_many_scores(classifier):
    full = classifier.predict(TEXTS)
    for one, cut in zip(full, classifier.predict(TEXTS, top_k=2), strict=True):
        assert list(cut["scores"]) == sorted(one["scores"], key=one["scores"].get, reverse=True)[:2]
        assert {**cut, "scores": 0} == {**one, "scores": 0}
    assert classifier.predict(TEXTS, top_k=5) == full
    for wrong in (0, -1, True, "3", 1.5):
        with pytest.raises(UserError, match="top_k is"):
            classifier.predict(TEXTS, top_k=wrong)


def test_thousands_of_labels_are_no_dict_a_text(make):
    labels = tuple(f"label {i}" for i in range(300))
    for task in (SequenceClassification(labels=labels), MultiLabelClassification(labels=labels)):
        predictor = make(task)
        rows = predictor._rows([inputs.Placed("x", {"text": text}) for text in TEXTS], name="x")
        items = predictor._items(rows, use_cache=False)
        (raw, *_) = predictor._results(rows, items, predictor._shape(items))
        assert isinstance(raw["scores"], Scores)
        full, cut, usual = (predictor.predict(TEXTS, top_k=num)[0] for num in ("all", 4, None))
        assert type(full["scores"]) is dict
        assert list(full["scores"]) == list(labels)
        assert full["scores"] == raw["scores"]
        assert all(round(score, 6) == score for score in full["scores"].values())
        best = sorted(labels, key=full["scores"].get, reverse=True)[:4]
        given = [label for label in cut.get("labels", []) if label not in best]
        assert list(cut["scores"]) == [*best, *given]
        given = [label for label in usual.get("labels", []) if label not in list(usual["scores"])[:20]]
        assert len(usual["scores"]) == 20 + len(given)
        json.dumps([full, cut, usual])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("anna lives", "not one string; give ['anna lives']"),
        (b"anna", "not a bytes"),
        (None, "not a NoneType"),
        (5, "not a int"),
        ({"text": "anna"}, "not one record (a dict); give a list of it"),
        ({1, 2}, "not a set"),
        ((i for i in range(3)), "not a generator; give list(...) of it"),
        (range(3), "not a range"),
        (np.array(["anna"]), "not a ndarray"),
        ({"text": ["a", "b"], "id": [1]}, "the columns are of different lengths ('text' 2, 'id' 1)"),
        (["anna", None], "input:2: 'None' (NoneType), expected a text or a record"),
        (["anna", math.nan], "input:2: 'nan' (float), expected a text or a record"),
        (["anna", 5], "input:2: '5' (int)"),
        (["anna", b"bob"], "input:2: \"b'bob'\" (bytes)"),
        (["anna", ["bob", "works"]], 'input:2: "[\'bob\', \'works\']" (list), expected a text or a record; give its words as {"tokens": [...]}'),
        (["anna", {5: "bob"}], "input:2: a record has the key 5 (int)"),
        ([{"body": "anna"}, {"body": math.nan}], "input:2: column 'body' is 'nan' (float)"),
        (pd.DataFrame({"body": ["anna", None]}, index=[40, 41]), "input:2 (index 41): column 'body' is"),
        (pd.DataFrame({"mail": ["anna"]}), "input:1 (index 0): no column 'body'; found are ['mail']"),
        (pd.DataFrame([["a", "b"]], columns=["body", "body"]), "the column name(s) 'body' stand more than once"),
        (pd.Series(["anna", 5]), "input:2 (index 1): column 'text' is '5' (int)"),
        (datasets.DatasetDict({"train": datasets.Dataset.from_dict({"body": ["a"]})}), "not a DatasetDict of the splits ['train']; give one of them"),
    ],
)
def test_what_is_none_of_these_is_refused(classifier, data, words):
    with pytest.raises(UserError) as caught:
        classifier.predict(data)
    assert words in str(caught.value)


def test_one_bad_record_spoils_all_and_is_named(classifier):
    with pytest.raises(UserError, match=r"^input:3: column 'body' is '7' \(int\)"):
        classifier.predict([{"body": "a"}, {"body": "b"}, {"body": 7}, {"body": "c"}])


# ---- block by block -----------------------------------------------------------------------------------------------------------------------------


def placed(texts: list[str]) -> list[inputs.Placed]:
    return [inputs.Placed(f"x:{i}", {"text": text, "id": i}) for i, text in enumerate(texts, 1)]


def test_blocks_are_what_the_whole_is_and_nothing_compiles_after_the_first(classifier, monkeypatch):
    monkeypatch.setattr(predict, "BLOCK", 8)
    texts = ["anna"] * 8 + [" ".join(["bob"] * num) for num in range(1, 60, 3)]  # the first block is of short ones, later ones are cut
    predictor = classifier
    compiled: list[int] = []
    sizes = []
    for block in predictor.stream(placed(texts), name="x", keep="id"):
        sizes.append(len(block))
        compiled.append(len(predictor._evaluator._compiled))
        if len(sizes) == 1:
            found = list(block)
        else:
            found += block
    assert sizes == [8, 8, 8, 4]
    assert len(set(compiled)) == 1
    assert [one["id"] for one in found] == list(range(1, 29))
    assert same(found, classifier.predict(texts))


def test_a_stream_reads_no_more_than_it_needs(classifier, monkeypatch):
    monkeypatch.setattr(predict, "BLOCK", 4)
    read = []

    def records():
        for one in placed(["anna"] * 40):
            read.append(one.where)
            yield one

    stream = classifier.stream(records(), name="x")
    next(stream)
    assert len(read) == 5  # a block, and one more to know that it is not the last
    monkeypatch.setattr(predict, "BLOCK_CHARACTERS", 10)
    assert [len(block) for block in classifier.stream(placed(["anna bob carl dora"] * 3), name="x")] == [1, 1, 1]
    assert list(classifier.stream([], name="x")) == []


def test_what_was_cut_is_said_once(classifier, monkeypatch, caplog):
    monkeypatch.setattr(predict, "BLOCK", 2)
    list(classifier.stream(placed(["anna " * 40, "bob", "anna " * 50, "bob", "carl"]), name="mails.txt"))
    assert [record.getMessage() for record in caplog.records] == [
        "mails.txt: 2 of 5 records are longer than data.max_length=32 and were cut; 30 tokens are not read (task.long_text=head_tail or windows)"
    ]


def test_a_larger_item_than_the_first_block_had(make, monkeypatch):
    """More choices than the batch has rows: one more program, and a right answer."""
    monkeypatch.setattr(predict, "BLOCK", 2)
    predictor = make(MultipleChoice())
    few = {"question": "who ?", "choices": ["anna", "bob"]}
    many = {"question": "who ?", "choices": [f"anna {letter} " + "bob " * 12 for letter in "abcdefghijkl"]}
    records = [few, few, many]
    found = [one for block in predictor.stream([inputs.Placed("x", record) for record in records], name="x") for one in block]
    wanted = predictor.predict(records)
    assert [one["label"] for one in found] == [one["label"] for one in wanted]
    np.testing.assert_allclose(found[2]["scores"], wanted[2]["scores"], atol=1e-5)


# ---- files --------------------------------------------------------------------------------------------------------------------------------------


def read(file: Path, **options: Any) -> list[dict[str, Any]]:
    return [dict(record) for _, record in read_raw(str(file), **{"takes_columns": False, **options})]


TWO = [{"body": "anna lives", "queue": "refund"}, {"body": "bob works", "queue": "other"}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.jsonl.gz"])
def test_files_of_training_are_files_to_predict(tmp_path, name):
    file = tmp_path / name
    frame = pd.DataFrame(TWO)
    content = {
        "csv": frame.to_csv(index=False), "tsv": frame.to_csv(index=False, sep="\t"), "json": json.dumps(TWO),
        "jsonl": "".join(json.dumps(one) + "\n" for one in TWO),
    }  # fmt: skip
    suffix = name.removesuffix(".gz").rpartition(".")[2]
    if suffix == "parquet":
        frame.to_parquet(file)
    else:
        data = content[suffix].encode()
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read(file) == TWO


def test_a_text_file_is_a_text_a_line(tmp_path, caplog):
    file = tmp_path / "a.txt"
    file.write_text("anna lives\n\nin paris\n")
    assert read(file, takes_columns=True, labels=("O", "B-PER")) == [{"text": "anna lives"}, {"text": ""}, {"text": "in paris"}]
    file.write_text("anna B-PER\nlives O\n\nbob B-PER\n")  # a task of words is told that these are words
    with caplog.at_level("INFO", "flaxft"):
        assert read(file, takes_columns=True, labels=("O", "B-PER")) == [{"0": ["anna", "lives"], "1": ["B-PER", "O"]}, {"0": ["bob"], "1": ["B-PER"]}]
    assert "read as a column file" in caplog.text
    assert read(file, takes_columns=True, labels=("O", "B-LOC")) == [{"text": text} for text in ("anna B-PER", "lives O", "", "bob B-PER")]
    file.write_text("ham\tcall me\nspam\twin a prize\n")
    with pytest.raises(UserError, match=r"a\.txt: every line has 2 cells with a TAB between, so it is a table; name it \.tsv"):
        read(file)
    file.write_text("a\tb\nno tab here\n")
    assert len(read(file)) == 2
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"anna\nbob\n"))
    assert read(tmp_path / "a.txt.gz") == [{"text": "anna"}, {"text": "bob"}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.log", b"one line\nand two more\n", "the suffix '.log' does not say what it holds; name it .txt for one text a line"),
        ("a.log", b"two words\ntwo words\n", "the suffix '.log' does not say what it holds"),
        ("texts", b"anna lives\n", "a name without suffix does not say what it holds"),
        ("a.xlsx", b"PK\x03\x04" + bytes(60), "a.xlsx"),
        ("a.pkl", b"\x80\x04\x95" + bytes(60), "a.pkl"),
        ("a.txt", b"PAR1" + bytes(60), "a.txt"),
        ("a.txt", b"anna\0bob\n", "NUL"),
        ("a.txt", b"caf\xe9\n", "is not UTF-8"),
        ("a.csv", b"PAR1" + bytes(60), "a.csv"),
    ],
)
def test_what_is_no_file_of_texts_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name, takes_columns=True)
    assert words in str(caught.value)


def test_a_file_without_suffix_is_known_by_its_content(tmp_path):
    (tmp_path / "export").write_text('{"text": "anna"}\n{"text": "bob"}\n')
    assert read(tmp_path / "export") == [{"text": "anna"}, {"text": "bob"}]
    (tmp_path / "gold").write_text("anna\tB-PER\nlives\tO\n")
    assert read(tmp_path / "gold", takes_columns=True) == [{"0": ["anna", "lives"], "1": ["B-PER", "O"]}]


def test_the_tasks_format_holds_for_files_named_alike(tmp_path):
    (tmp_path / "a.tsv").write_text("anna\tB-PER\nlives\tO\n")
    settings = {"format": "columns", "comment": "#", "like": ["train.tsv"], "takes_columns": True}
    assert read(tmp_path / "a.tsv", **settings) == [{"0": ["anna", "lives"], "1": ["B-PER", "O"]}]
    (tmp_path / "a.jsonl").write_text('{"text": "anna"}\n')
    assert read(tmp_path / "a.jsonl", **settings) == [{"text": "anna"}]


def test_results_are_json(classifier):
    import datetime

    rows = [{"text": "a", "d": datetime.date(2024, 1, 2), "x": math.nan, "n": np.int64(3), "v": [1.0, math.inf]}]
    (line,) = inputs.lines(classifier.predict(rows, keep="*"))
    found = json.loads(line)
    assert (found["d"], found["x"], found["n"], found["v"]) == ("2024-01-02", None, 3, [1.0, None])
    with pytest.raises(UserError, match="holds bytes"):
        list(inputs.lines([{"b": b"x"}]))
