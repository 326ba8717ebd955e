"""One look at texts and labels: what cannot be meant is refused, what may be wrong is told, and sound data pass without a word."""

import pytest

from flaxft.data.base import Records
from flaxft.data.plausible import check_labels_of, check_numbers, check_texts, kind_of, look_at
from flaxft.errors import UserError

TEXTS = [f"a text about {word} number {i}" for i, word in enumerate("cards money trains films food".split() * 8)]


def look(records, **changes):
    source = Records("train.csv", "0", records, range(2, len(records) + 2), where_format=":{}")
    options = dict(split="train", columns=("body",), texts=lambda record: [record["body"]], column="queue", labels=lambda record: [record["queue"]])
    return look_at(source, **options | changes)


def test_the_line_says_columns_labels_and_the_first_record():
    found = look([{"body": text, "queue": "ab"[i % 2]} for i, text in enumerate(TEXTS)])
    assert found.line == "train.csv: 40 records; text in 'body', label in 'queue'; 2 labels: a 20, b 20; the first: 'a text about cards number 0' -> a"
    assert not found.warnings


def test_blanks_around_labels_are_told():
    found = look([{"body": text, "queue": ("a", "a ", "b")[i % 3]} for i, text in enumerate(TEXTS)], labels=lambda record: [record["queue"].strip()])
    assert "; 2 labels: a 27, b 13; blanks around 13 labels are dropped; " in found.line and not found.warnings


def test_a_number_is_told_by_its_range():
    found = look([{"body": text, "score": i % 5} for i, text in enumerate(TEXTS)], labels=None, number=lambda record: record["score"], column="score")
    assert "number in 'score'; from 0 to 4, mean 2; the first: 'a text about cards number 0' -> 0" in found.line


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([str(i) for i in range(40)], "holds numbers"),
        ([f"{i / 7:.3f}" for i in range(40)], "holds numbers"),
        ([f"T-{i:04}" for i in range(40)], "holds ids"),
        ([f"{i:032x}" for i in range(40)], "holds (ids|numbers)"),
        ([f"6ba7b81{i % 10}-9dad-11d1-80b4-00c04fd43{i:03}" for i in range(40)], "holds ids"),
        ([f"https://example.org/{i}" for i in range(40)], "holds ids"),
        ([f"2024-01-{i % 28 + 1:02} 10:{i:02}" for i in range(40)], "holds dates"),
        ([f"{i % 28 + 1}.{i % 12 + 1}.2023" for i in range(40)], "holds dates"),
        (["the same"] * 40, "every text in column 'body' is 'the same'"),
        (["", " "] * 20, "every text in column 'body' is empty"),
    ],
)
def test_what_is_no_text_is_refused(texts, message):
    with pytest.raises(UserError, match=message):
        check_texts(texts, column="body")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([*TEXTS, "", "  "], "2 of 42 texts in column 'body' are empty"),
        (["good", "bad"] * 20, "only 2 different texts in 40 records"),
        ([*TEXTS, "body"], "a header among the records"),
    ],
)
def test_what_is_hardly_a_text_is_told(texts, message):
    [found] = check_texts(texts, column="body")
    assert message in found


@pytest.mark.parametrize("texts", [TEXTS, ["12", "good", "x1"], ["same", "same"], ["2 apples", "3 pears"] * 20 + TEXTS * 3])
def test_texts_pass(texts):
    assert not check_texts(texts, column="body")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([str(i) for i in range(40)], "holds numbers"),
        ([f"T-{i}" for i in range(40)], "holds ids"),
        ([f"2024-05-{i % 28 + 1:02}T{i % 24}:00" for i in range(28)], "holds dates"),
        ([f"a long explanation of why this text should be labelled as it was, number {i}" for i in range(40)], "holds running texts"),
    ],
)
def test_what_is_no_label_is_refused(labels, message):
    with pytest.raises(UserError, match=message):
        check_labels_of(dict.fromkeys(labels, 1), column="queue", num_records=len(labels))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({f"name {chr(97 + i)}": 1 for i in range(22)}, "22 of 22 labels in column 'queue' have one example"),
        ({"a": 30, "b": 1, "c": 1, "d": 1}, "3 of 4 labels in column 'queue' have one example"),
        ({"['neg']": 20, "['pos']": 20}, "begin or end with brackets or quotes: "),
        ({'"neg"': 20, "pos": 20}, "begin or end with brackets or quotes"),
        ({"neg": 10, "Neg": 10, "pos": 20}, "'Neg' (10) and 'neg' (10)"),
        ({"not ok": 10, "not  ok": 10, "not_ok": 20}, "'not  ok' (10) and 'not ok' (10) and 'not_ok' (20)"),
        ({"a": 20, "b": 20, "queue": 1}, "a header among the records"),
    ],
)
def test_what_is_hardly_a_label_is_told(counts, message):
    found = check_labels_of(counts, column="queue", num_records=sum(counts.values()))
    assert any(message in one for one in found), found


SOUND = [{"a": 20, "b": 20}, {"a": 1, "b": 1}, {"other (misc)": 20, "fine": 20}, {"1": 20, "2": 20}, {f"intent_{i}": 10 for i in range(150)}]


@pytest.mark.parametrize("counts", SOUND)
def test_labels_pass(counts):
    assert not check_labels_of(counts, column="queue", num_records=sum(counts.values()))


def test_labels_of_other_splits_are_not_judged():
    assert not check_labels_of({f"name {i}": 1 for i in range(40)}, column="queue", num_records=40, split="test")


def test_numbers_that_count_the_records_are_refused():
    with pytest.raises(UserError, match="counts the records"):
        check_numbers([float(i) for i in range(40)], column="score")
    assert not check_numbers([1.0, 2.0, 3.0], column="score")


def test_kinds_of_a_column():
    assert [kind_of(values) for values in (["1", "2"], ["a1", "b2"], ["a", "b"], [])] == ["numbers", "ids", "", ""]


def test_labels_that_differ_in_letters_of_no_width_are_told():
    (told,) = check_labels_of({"neg": 8, "neg\u200b": 8, "\ufeffpos": 9, "pos": 9}, column="queue", num_records=34)
    assert "'neg' (8) and 'neg\\u200b' (8)" in told and "'pos' (9)" in told


def test_a_label_that_means_none_elsewhere_is_told():
    (told,) = check_labels_of({"-100": 4, "0": 10, "1": 10}, column="queue", num_records=24)
    assert told.startswith("4 records have the label -100 in column 'queue'")
    assert not check_labels_of({"-1": 8, "0": 10, "1": 10}, column="queue", num_records=28)  # a polarity
