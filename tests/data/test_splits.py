"""Shares of the train split: stable, near their size, with every label on the side where it can be learnt, groups and equal texts together."""

import dataclasses
import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest

from flaxft.data.base import Packaged
from flaxft.data.splits import open_split, paths, settle, share, with_default
from flaxft.errors import UserError
from flaxft.tasks.sequence_classification import SequenceClassification


@dataclasses.dataclass
class Task:
    train: Any = ""
    validation: Any = None
    test: Any = ""
    group_column: str = ""

    def records(self, split, *, max_examples=None):
        return open_split(self, split, key=lambda record: record["text"], labels=lambda record: [record["y"]], max_examples=max_examples)


def rows(num, *, rare=()):
    """Labels a, b, c of which c has a twentieth."""
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], num, p=[0.6, 0.35, 0.05]).tolist()
    return [{"text": f"text number {i}", "y": label, "author": f"author {i % 40}"} for i, label in enumerate(labels)] + [
        {"text": f"rare {label} {i}", "y": label, "author": f"author {label}"} for label, count in rare for i in range(count)
    ]


def split(records, **fields):
    task = Task(train=records, **{"validation": "10%"} | fields)
    settle(task)
    return {name: list(task.records(name)) for name in paths(task)}


def texts(records):
    return {record["text"] for record in records}


def test_every_record_is_on_one_side():
    records = rows(2000)
    found = split(records, validation="10%", test="20%")
    assert sorted(record["text"] for part in found.values() for record in part) == sorted(record["text"] for record in records)
    assert 160 <= len(found["validation"]) <= 240 and 350 <= len(found["test"]) <= 450


def test_sides_stay_where_rows_are_added_or_reordered_or_another_share_is_asked_for():
    records = rows(1000)
    before = split(records)
    shuffled = split([records[i] for i in np.random.default_rng(1).permutation(1000)])
    more = split(records + [{"text": f"more {i}", "y": "a"} for i in range(500)])
    with_test = split(records, test="10%")
    assert texts(before["validation"]) == texts(shuffled["validation"]) == texts(with_test["validation"])
    assert texts(before["validation"]) == texts(more["validation"]) & texts(records)
    assert texts(before["validation"]) < texts(split(records, validation="20%")["validation"])


def test_labels_keep_about_their_share_and_none_is_lost_to_training():
    found = split(rows(2000, rare=[("once", 1), ("twice", 2), ("ten", 10), ("twelve", 12)]))
    train, validation = (Counter(record["y"] for record in found[name]) for name in ("train", "validation"))
    for label in "abc":
        assert 0.05 <= validation[label] / (train[label] + validation[label]) <= 0.16
    assert train["once"] == 1 and train["twice"] >= 1
    assert validation["ten"] >= 1 and validation["twelve"] >= 1 and train["ten"] >= 8


@pytest.mark.parametrize("seed", range(5))
def test_many_rare_labels(seed):
    rng = np.random.default_rng(seed)
    records = [{"text": f"{seed} {i}", "y": str(label)} for i, label in enumerate(rng.integers(0, 100, 300).tolist())]
    found = split(records)
    assert {record["y"] for record in records} == {record["y"] for record in found["train"]}


def test_equal_texts_are_on_one_side_whatever_their_case_and_blanks():
    records = [{"text": text, "y": "ab"[i % 2]} for i in range(300) for text in (f"text {i}", f"Text  {i} ", f"text {i}")]
    found = split(records)
    folded = {name: {" ".join(text.split()).lower() for text in texts(part)} for name, part in found.items()}
    assert not folded["train"] & folded["validation"]
    assert 60 <= len(found["validation"]) <= 120


def test_a_group_is_on_one_side():
    found = split(rows(2000), group_column="author", validation="25%")
    groups = {name: {record["author"] for record in part} for name, part in found.items()}
    assert not groups["train"] & groups["validation"] and groups["validation"]
    with pytest.raises(UserError, match=r"group_column=autor: no such column; .*did you mean 'author'"):
        split(rows(20), group_column="autor")


def test_places_and_names_are_those_of_the_file(tmp_path):
    (tmp_path / "own.csv").write_text("text,y\n" + "".join(f"text {i},a\n" for i in range(200)))
    task = Task(train=str(tmp_path / "own.csv"), validation="10%")
    part = task.records("validation")
    number = int(part[0]["text"].split()[1])
    assert part.where(0) == f"{tmp_path / 'own.csv'}:{number + 2}"
    assert part.name == f"10% of {tmp_path / 'own.csv'}" and task.records("train").name == f"90% of {tmp_path / 'own.csv'}"
    assert part.fingerprint == task.records("validation").fingerprint != task.records("train").fingerprint
    assert len(task.records("train", max_examples=7)) == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation": "0%"}, "between 0% and 100%"),
        ({"validation": "100%"}, "between 0% and 100%"),
        ({"validation": "60%", "test": "40%"}, "leave nothing to train on"),
        ({"validation": "0.01%"}, "none of its 50 records"),
    ],
)
def test_shares_that_cannot_be_meant(fields, message):
    with pytest.raises(UserError, match=message):
        split(rows(50), **fields)


def test_a_share_of_nothing():
    with pytest.raises(UserError, match=r"a share of task.train, which is empty"):
        Task(validation="10%").records("validation")
    with pytest.raises(UserError, match=r"is for task.validation and task.test"):
        share(Task(train="10%"), "train")


def test_the_default_is_a_tenth_of_a_hundred_records_or_more(caplog):
    def validation(num, **fields):
        task = Task(train=rows(num), **fields)
        settle(task)
        return with_default(task).validation

    with caplog.at_level(logging.INFO, logger="flaxft"):
        assert validation(99) == "" and not caplog.text
        assert validation(100) == "10%" and "no validation split is given: 10% of in memory (100 records)" in caplog.text
    assert validation(100, validation="") == "" and validation(100, validation="own.csv") == "own.csv"
    assert with_default(Task()).validation == ""
    assert paths(Task(train="a.csv")) == {"train": "a.csv"}


def test_the_packaged_splits_are_left_out_where_the_train_split_is_ones_own(caplog):
    def settled(train, **fields):
        task = Task(train=train, **{"validation": Packaged("v.conll"), "test": Packaged("t.conll")} | fields)
        settle(task)
        return paths(task)

    assert settled(Packaged("p.conll")) == {"train": "p.conll", "validation": "v.conll", "test": "t.conll"}
    with caplog.at_level(logging.INFO, logger="flaxft"):
        assert settled("own.conll") == {"train": "own.conll"}
    assert caplog.messages == ["the packaged validation and test are left out, because task.train is data of your own"]
    assert settled("own.conll", test="mine.conll") == {"train": "own.conll", "test": "mine.conll"}
    assert settled("") == {}


def test_a_list_of_paths_is_no_list_of_texts(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"text,y\ntext {name},1\n")
    task = Task(train=[str(tmp_path / "a.csv"), tmp_path / "b.csv"], validation=tmp_path / "a.csv")
    settle(task)
    assert task.train == (str(tmp_path / "a.csv"), str(tmp_path / "b.csv")) and paths(task)["train"] == f"{tmp_path / 'a.csv'}, {tmp_path / 'b.csv'}"
    assert [record["text"] for record in task.records("train")] == ["text a", "text b"]
    with pytest.raises(UserError, match=r"task\.train is a list of texts"):
        settle(Task(train=["a text. Like this.", "b"]))


def test_the_default_looks_at_all_of_a_file_that_is_sorted_by_label(tmp_path):
    """The first hundred records have one label alone."""
    file = tmp_path / "sorted.csv"
    file.write_text("content,target\n" + "".join(f"some text number {i} of the file,{'positive' if i < 200 else 'negative'}\n" for i in range(400)))
    assert with_default(SequenceClassification(train=str(file))).validation == "10%"
