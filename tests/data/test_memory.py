"""Data in memory: the same records and the same fingerprint of every kind; what is none of them is refused by its type."""

import datetime

import datasets
import numpy as np
import pandas as pd
import pytest

from flaxft.data.memory import Gone, from_json, is_given, open_memory
from flaxft.errors import UserError

RECORDS = [{"body": "my card is lost", "queue": "cards"}, {"body": "what is my balance", "queue": "money"}, {"body": "ça va, été 🙂", "queue": "cards"}]
LISTS = {name: [record[name] for record in RECORDS] for name in RECORDS[0]}
KINDS = {
    "list": lambda: [dict(record) for record in RECORDS],
    "tuple": lambda: tuple(RECORDS),
    "dict of lists": lambda: LISTS,
    "dict of arrays": lambda: {name: np.asarray(values) for name, values in LISTS.items()},
    "DataFrame": lambda: pd.DataFrame(RECORDS),
    "DataFrame with an index": lambda: pd.DataFrame(RECORDS, index=[7, 3, 3]),
    "DataFrame of categories": lambda: pd.DataFrame(RECORDS).astype({"queue": "category"}),
    "Dataset": lambda: datasets.Dataset.from_list(RECORDS),
    "Dataset with class labels": lambda: datasets.Dataset.from_list(RECORDS).class_encode_column("queue"),
    "Dataset formatted": lambda: datasets.Dataset.from_list(RECORDS).with_format("numpy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_holds_the_same_records(kind):
    source = open_memory(KINDS[kind](), name="task.train")
    assert list(source) == RECORDS and len(source) == 3
    assert source.fingerprint == open_memory(RECORDS, name="another").fingerprint
    assert source.columns == ("body", "queue")
    assert source.where(1) == "task.train: row 1" and str(source) == "in memory (3 records)"


def test_other_content_has_another_fingerprint():
    other = [*RECORDS[:2], {"body": "ça va, été 🙂", "queue": "money"}]
    assert open_memory(other, name="a").fingerprint != open_memory(RECORDS, name="a").fingerprint
    assert open_memory(RECORDS, name="a").first(2).fingerprint != open_memory(RECORDS, name="a").fingerprint
    assert list(open_memory(RECORDS, name="a").first(2)) == RECORDS[:2]


def test_values_are_plain():
    frame = pd.DataFrame({"text": ["a", None], "n": pd.array([1, None], dtype="Int64"), "f": [1.0, np.nan], "day": pd.to_datetime(["2024-05-01", None])})
    frame["words"] = [np.array(["a", "b"]), ["c"]]
    first, second = open_memory(frame, name="a")
    assert first == {"text": "a", "n": 1, "f": 1.0, "day": "2024-05-01T00:00:00", "words": ["a", "b"]}
    assert second == {"text": None, "n": None, "f": None, "day": None, "words": ["c"]}
    record = {"a": np.int64(3), "b": np.bool_(True), "c": np.str_("x"), "d": datetime.date(2024, 5, 1), "e": ({"f": np.float32(0.5)},)}
    [numbers] = open_memory([record], name="a")
    assert numbers == {"a": 3, "b": True, "c": "x", "d": "2024-05-01", "e": [{"f": 0.5}]}
    assert [type(one) for one in numbers.values()] == [int, bool, str, str, list]


def test_an_unlabelled_class_label_is_none():
    tags, label = datasets.Sequence(datasets.ClassLabel(names=["O", "B"])), datasets.ClassLabel(names=["n", "p"])
    features = datasets.Features({"text": datasets.Value("string"), "tags": tags, "y": label})
    dataset = datasets.Dataset.from_list([{"text": "a", "tags": [0, 1], "y": -1}, {"text": "b", "tags": [], "y": 1}], features=features)
    assert list(open_memory(dataset, name="a")) == [{"text": "a", "tags": ["O", "B"], "y": None}, {"text": "b", "tags": [], "y": "p"}]


def test_texts_are_records_where_they_are_asked_for():
    for value in (["a", "b"], ("a", "b"), np.asarray(["a", "b"]), pd.Series(["a", "b"])):
        assert list(open_memory(value, name="input", texts=True)) == [{"text": "a"}, {"text": "b"}]
    assert list(open_memory(pd.Series(["a"], name="body"), name="input", texts=True)) == [{"body": "a"}]
    assert list(open_memory([{"text": "a"}, "b"], name="input", texts=True)) == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "is of the type int"),
        (object(), "is of the type object"),
        ({"a", "b"}, "is of the type set"),
        ((one for one in RECORDS), "is of the type generator"),
        (np.zeros((2, 2)), "is of the type ndarray of numpy"),
        (b"text", "is of the type bytes"),
        (["a", "b"], "is a list of texts, which have no labels"),
        ([("a", "b")], r"row 0 is .* \(tuple\), expected a dict"),
        ([{"a": 1}, None], r"row 1 is 'None' \(NoneType\)"),
        ([{1: "a"}], r"a column named 1 \(int\)"),
        (pd.DataFrame([["a", "b"]]), r"a column named 0 \(int\)"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "'x' stand more than once"),
        (pd.Series(["a"]), "is a pandas Series, which is one column"),
        ([], "no records in this list"),
        ({}, "no records in this dict"),
        (pd.DataFrame({"a": []}), "no records in this DataFrame"),
        ({"a": ["x"], "b": []}, "of different lengths"),
        ({"a": "x"}, r"whose 'a' is 'x' \(str\)"),
        (datasets.DatasetDict({"train": datasets.Dataset.from_list(RECORDS)}), r"DatasetDict of the splits 'train'; .*dataset\['train'\]"),
        (datasets.Dataset.from_list(RECORDS).to_iterable_dataset(), "IterableDataset, whose records come but once"),
    ],
)
def test_what_is_none_of_them_is_refused(value, message):
    with pytest.raises(UserError, match=message) as error:
        open_memory(value, name="task.train")
    assert str(error.value).startswith("task.train") and "\n" not in str(error.value)


def test_a_config_keeps_the_fingerprint_alone():
    source = open_memory(RECORDS, name="task.train")
    gone = from_json(source.to_json())
    assert gone == Gone(source.fingerprint, 3) and gone.to_json() == source.to_json()
    assert "the 3 records that this run was given in memory are not on disk" in str(gone.refuse("train"))
    assert from_json({"type": "x"}) is None and from_json("train.csv") is None
    assert [is_given(value) for value in ("train.csv", None, "", source, gone, RECORDS, 3)] == [False, False, False, False, False, True, True]
