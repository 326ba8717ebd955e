"""Labels by name or number, in which column, and which of several lists of them a task takes. The tests of the tasks have the bad records."""

from __future__ import annotations

import logging

import pytest

from flaxft.data.base import Records
from flaxft.data.labels import (
    check_kinds,
    check_labelled,
    choose_labels,
    has_label,
    in_order,
    label_column,
    label_id,
    label_name,
    list_of_cell,
    named_labels,
    num_blank,
    without_train,
)  # fmt: skip
from flaxft.errors import UserError

USUAL = ("label", "relation")


def test_the_column_asked_for_or_the_first_usual_one():
    record = {"relation": "a", "label": "b", "kind": "c"}
    assert (label_column(record, "kind", USUAL), label_column(record, "", USUAL)) == ("kind", "label")
    assert has_label(record, "", USUAL)
    assert not has_label(record, "kinds", USUAL)
    with pytest.raises(UserError, match=r"no column 'kinds'; .* set task.label_column; did you mean 'kind'"):
        label_column(record, "kinds", USUAL)


@pytest.mark.parametrize(
    ("label", "labels", "wanted"),
    [
        *[("b", ("a", "b"), "b"), (1, ("a", "b"), "b"), ("1", ("a", "b"), "b"), ("1", ("2", "1"), "1"), (7, (), "7"), ("NA", (), "NA")],
        ("-1", ("-1", "1"), "-1"),
        *[(True, (), "true"), (False, ("false", "true"), "false"), (True, ("False", "True"), "True"), (True, ("neg", "pos"), "pos"), ("True", (), "True")],
        *[(1.0, (), "1"), ("1.0", (), "1"), ("1.00 ", ("0", "1"), "1"), (1.0, ("a", "b"), "b"), ("1.5", (), "1.5"), ("1.0", ("1.0", "2.0"), "1.0")],
        *[(["b"], ("a", "b"), "b"), (("b",), (), "b"), ("['b']", (), "b"), ('["b"]', (), "b"), ("[1]", ("a", "b"), "b"), ([1.0], (), "1"), ("('b',)", (), "b")],
        *[(" b ", ("a", "b"), "b"), ("b\t", (), "b"), ("\u00a0b", (), "b"), ("two  words ", (), "two  words"), ("[b", (), "[b"), ("[b]", (), "[b]")],
    ],
)
def test_names_and_numbers(label, labels, wanted):
    assert label_name(label, labels, column="label") == wanted


@pytest.mark.parametrize("label", [None, 0.5, float("nan"), float("inf"), ["a", "b"], "['a', 'b']", "['a' 'b']", "", "  ", [], [None], {"a": 1}])
def test_what_is_no_label(label):
    with pytest.raises(UserError, match="'label'"):
        label_name(label, ("a", "b"), column="label")


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("['Anna', 'Berg']", ["Anna", "Berg"]),
        ('["Anna", "Berg"]', ["Anna", "Berg"]),
        ("['Anna' 'Berg'\n 'it']", ["Anna", "Berg", "it"]),
        ("[1 2 0]", [1, 2, 0]),
        ("[1, 2]", [1, 2]),
        ("[]", []),
        ("['it\\'s']", ["it's"]),
        ("Anna", None),
        ("[Anna]", None),
        ("(a)", None),
        ("[1 2", None),
        ("[" * 5000 + "]" * 5000, None),
        ("[" + "1" * 4000 + "x]", None),
    ],
)
def test_a_list_in_a_cell(cell, found):
    assert list_of_cell(cell) == found


def source_of(*labels):
    return Records("own.csv", "0", [{"text": "a", "y": label} for label in labels], range(2, len(labels) + 2), where_format=":{}")


def test_records_without_a_label_are_counted():
    check_labelled(source_of("a", "b", 0), "y", split="train")
    with pytest.raises(UserError, match=r"own\.csv:3: 3 of 4 records have no label in column 'y', this is the first"):
        check_labelled(source_of("a", None, float("nan"), " "), "y", split="train")
    check_labelled(source_of("", "a"), "y", split="train")  # the check of the record itself tells
    for label in (-1, "-1", None):
        with pytest.raises(UserError, match=r"the split is published without; leave task.test empty"):
            check_labelled(source_of(label, label), "y", split="test")
    with pytest.raises(UserError, match=r"no record has a label in column 'y'; set task.label_column"):
        check_labelled(source_of(None, None), "y", split="train")
    check_labelled(source_of(-1, 0, 1), "y", split="test")  # a sentiment of three values


def test_blanks_around_labels_are_counted():
    assert num_blank(source_of("a", " a", "a ", "b\t", 1, None), "y") == 3


def test_an_id_and_the_order():
    assert label_id("b", ("a", "b")) == 1
    with pytest.raises(UserError, match="did you mean 'bee'"):
        label_id("bea", ("a", "bee"))
    assert in_order(["10", "9", "-1"]) == ("-1", "9", "10")
    assert in_order(["b", "10", "9"]) == ("10", "9", "b")


def test_which_labels_a_task_takes(caplog):
    where = {"model": "m", "source": "train.jsonl"}
    assert choose_labels(("x", 1), ("b", "a"), {"a", "b"}, **where) == ("x", "1")
    assert choose_labels((), ("b", "a", "c"), {"a", "b"}, **where) == ("b", "a", "c")
    assert choose_labels((), None, {"b", "a"}, **where) == ("a", "b")
    with caplog.at_level(logging.WARNING, logger="flaxft"):
        assert choose_labels((), ("b", "c"), {"b", "a"}, **where) == ("a", "b")
    assert "m: its labels lack ['a']" in caplog.text
    with pytest.raises(UserError, match=r"train\.jsonl: every record has the label 'a'"):
        choose_labels(("a", "b"), None, {"a"}, **where)
    assert without_train((), ("b", "a"), model="m") == ("b", "a")
    with pytest.raises(UserError, match="no labels"):
        without_train((), None, model="m")


def test_labels_named_otherwise_than_the_models_are_said(caplog):
    with caplog.at_level(logging.WARNING, logger="flaxft"):
        assert named_labels(("a", "b"), ("a", "b"), model="m") == named_labels(("a", "b"), None, model="m") == ("a", "b")
        assert not caplog.text
        assert named_labels(("b", "a"), ("a", "b"), model="m") == ("b", "a")
        assert "m: its labels are in another order than task.labels, which its head is put into" in caplog.text
        assert named_labels(("a", 1), ("a", "b"), model="m") == ("a", "1")
        assert "m: its labels are not those of task.labels" in caplog.text


@pytest.mark.parametrize(("labels", "message"),
     [(["a", "b", 1], "'1' is a number, but the first one is a text"), ([0, "b"], "'b' is a text, but the first one is a number")])
def test_labels_of_two_kinds(labels, message):
    source = Records("a.jsonl", "f", [{"label": label} for label in labels], range(1, len(labels) + 1), where_format=":{}")
    with pytest.raises(UserError, match=rf"^a.jsonl:{len(labels)}: a label in column 'label': {message}; write all of them as texts"):
        check_kinds(source, lambda record: [record["label"]], column="label")
    one_kind = Records("a.jsonl", "f", [{"label": label} for label in labels[:1]], (1,), where_format=":{}")
    check_kinds(one_kind, lambda record: [record["label"]], column="label")
