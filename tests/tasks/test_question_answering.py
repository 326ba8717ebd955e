"""A question and its context become windows, and logits the answer that a full search finds; head and answers equal PyTorch's."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import itertools
import json
import logging
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxft
from flaxft.data.base import IGNORE, Records
from flaxft.data.items import build_items
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.metrics import questions
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained, hf_names
from flaxft.tasks.question_answering import QuestionAnswering, windows
from tests import tiny

BOUND = 1e-5
FAST = settings(max_examples=100, deadline=None, derandomize=True)
TASK = QuestionAnswering(version_2=False)
SILENT = dataclasses.replace(TASK, version_2=True)
REAL = Path(__file__).parents[3] / "shared" / "data"
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("span") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


@pytest.fixture(scope="module")
def checkpoint(directory):
    return Pretrained(path=str(directory)).open()


def write(file, records):
    file.write_text("\n".join(json.dumps(record) for record in records))
    return str(file)


def question(asked, context, *answers, **more):
    """A record whose answers stand at their first place in the context."""
    places = [context.index(answer) for answer in answers]
    return {"question": asked, "context": context, "answers": {"text": list(answers), "answer_start": places}, **more}


SHORT = "anna works in paris . bob lives in rome . carl was at acme corp in oslo !"
LONG = " ".join(["dora is at the old corp"] + ["red"] * 12 + ["and bob was in paris"] + ["blue"] * 9 + ["for carl"])
EIGHT = [
    question("anna works in ?", SHORT, "paris", id="a"),
    question("bob lives in ?", SHORT, "rome", "in rome", id="b"),
    question("was carl at ?", SHORT, "acme corp", id="c"),
    question("dora is at ?", LONG, "the old corp", id="d"),
    question("bob was in ?", LONG, "paris", id="e"),
    question("for ?", LONG, "carl", id="f"),
    question("is anna red ?", SHORT, id="g"),
    question("the new corp ?", LONG, id="h"),
]


def example(folder):
    """What the contract tests run on: contexts of one and of several windows, answers and none, token types that matter."""
    file = write(folder / "eight.jsonl", EIGHT)
    return QuestionAnswering(train=file, validation=file, stride=8)


def pieces(tokenizer, features):
    return " ".join(tokenizer.backend.id_to_token(i) for i in features.tokens["input_ids"])


def span(features):
    return tuple(int(features.example[name]) for name in ("start_positions", "end_positions"))


# ---- features -------------------------------------------------------------------------------------------------------------------------------------


def test_one_window(tokenizer):
    (features,) = TASK.features(question("who works ?", "Anna Works in paris", "Works in"), tokenizer, max_length=32)
    assert pieces(tokenizer, features) == "[CLS] w ##h ##o works ? [SEP] anna works in paris [SEP]"
    assert features.tokens["token_type_ids"].tolist() == [0] * 7 + [1] * 5
    assert features.tokens["context"].tolist() == [0] * 7 + [1] * 4 + [0]
    assert features.host["offsets"][7:11].tolist() == [[0, 4], [5, 10], [11, 13], [14, 19]]
    assert span(features) == (8, 9)
    assert features.example["start_positions"].dtype == np.int32
    assert (features.group, features.num_cut) == (-1, 0)


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ({"text": ["works"], "answer_start": [5]}, (4, 4)),
        ({"text": [" works "], "answer_start": [4]}, (4, 4)),  # blanks beside it are no reason to take more tokens
        ({"text": ["ork"], "answer_start": [6]}, (4, 4)),  # part of a token: the whole of it
        ({"text": ["works"], "answer_start": [6]}, (IGNORE, IGNORE)),  # it does not stand there
        ({"text": ["works"], "answer_start": [-1]}, (IGNORE, IGNORE)),
        ({"text": ["paris"], "answer_start": [-5]}, (IGNORE, IGNORE)),  # not counted from the end
        ({"text": ["oslo", "paris", "anna"], "answer_start": [0, 14, 0]}, (6, 6)),  # the first that does
        ({"text": [" "], "answer_start": [4]}, (IGNORE, IGNORE)),  # no tokens
        ({"text": [""], "answer_start": [0]}, (0, 0)),
        ({"text": [], "answer_start": []}, (0, 0)),
    ],
)
def test_labels(tokenizer, answers, wanted):
    record = {"question": "?", "context": "anna works in paris", "answers": answers}
    (features,) = TASK.features(record, tokenizer, max_length=32)
    assert span(features) == wanted


def test_windows_overlap_by_the_stride_and_label_what_they_hold(tokenizer):
    context = "anna works in paris for bob . carl"
    record = question("red ?", context, "for bob")
    found = dataclasses.replace(TASK, stride=2).features(record, tokenizer, max_length=9)  # five places for the context
    assert [pieces(tokenizer, one) for one in found] == [
        "[CLS] red ? [SEP] anna works in paris [SEP]",
        "[CLS] red ? [SEP] in paris for bob [SEP]",
        "[CLS] red ? [SEP] for bob . carl [SEP]",
    ]
    assert [span(one) for one in found] == [(0, 0), (6, 7), (4, 5)]
    assert [one.host["offsets"][one.tokens["context"] > 0][0].tolist() for one in found] == [[0, 4], [11, 13], [20, 23]]
    unknown = dataclasses.replace(TASK, stride=2).features({"question": "red ?", "context": context}, tokenizer, max_length=9)
    assert [span(one) for one in unknown] == [(IGNORE, IGNORE)] * 3


@FAST
@given(num_question=st.integers(0, 6), num_context=st.integers(0, 30), max_length=st.integers(12, 20), stride=st.integers(0, 3))
def test_windows_are_those_of_tokenizers(tokenizer, num_question, num_context, max_length, stride):
    rng = np.random.default_rng([num_question, num_context])
    asked, context = (" ".join(rng.choice(tiny.WORDS, num)) for num in (num_question, num_context))
    tokenizer.backend.enable_truncation(max_length, stride=min(stride, (max_length - 3 - num_question) // 2), strategy="only_second")
    try:
        encoding = tokenizer.backend.encode(asked, context)
    finally:
        tokenizer.backend.no_truncation()
    found = dataclasses.replace(TASK, stride=stride).features({"question": asked, "context": context}, tokenizer, max_length=max_length)
    assert len(found) == 1 + len(encoding.overflowing)
    for one, wanted in zip(found, [encoding, *encoding.overflowing], strict=True):
        assert one.tokens["input_ids"].tolist() == wanted.ids
        assert one.tokens["token_type_ids"].tolist() == wanted.type_ids
        inside = one.tokens["context"] > 0
        assert inside.tolist() == [place == 1 for place in wanted.sequence_ids]
        assert one.host["offsets"][inside].tolist() == [list(offset) for offset, place in zip(wanted.offsets, wanted.sequence_ids, strict=True) if place == 1]


@FAST
@given(num_tokens=st.integers(0, 60), capacity=st.integers(1, 12), stride=st.integers(0, 200))
def test_windows_cover_all(num_tokens, capacity, stride):
    found = windows(num_tokens, capacity=capacity, stride=stride)
    assert found[0][0] == 0
    assert found[-1][1] == num_tokens
    for before, after in itertools.pairwise(found):
        assert before[1] - before[0] == capacity
        assert before[1] - after[0] == min(stride, capacity // 2)
        assert after[1] > before[1]


def test_a_long_question_is_cut_and_counted(tokenizer, tmp_path, caplog):
    record = question("is anna at the old corp ?", "red blue", "red")
    task = dataclasses.replace(TASK, max_question_length=2, train=write(tmp_path / "train.jsonl", [record, question("red ?", "red", "red")]))
    found = task.features(record | {"context": "red blue " * 9}, tokenizer, max_length=10)
    assert [one.num_cut for one in found] == [5, *[0] * (len(found) - 1)]
    assert pieces(tokenizer, found[0]).startswith("[CLS] is anna [SEP] red blue")
    with caplog.at_level(logging.WARNING, logger="flaxft"):
        build_items(task.records("train"), task, tokenizer, max_length=10, key="k", cache=tmp_path)
    assert "train.jsonl: 1 of 2 records" in caplog.text
    assert "5 tokens" in caplog.text


def test_a_question_that_leaves_no_room_is_named(tokenizer, tmp_path):
    record = question("is anna at the old corp ?", "red blue", "red")
    assert len(TASK.features(record, tokenizer, max_length=11)) == 2
    task = dataclasses.replace(TASK, train=write(tmp_path / "train.jsonl", [question("red ?", "red", "red"), record]))
    with pytest.raises(UserError) as caught:
        build_items(task.records("train"), task, tokenizer, max_length=10, key="k", cache=tmp_path)
    assert str(caught.value).startswith(f"{task.train}:2: the question has 7 tokens, and with 3 special ones data.max_length=10 leaves no room")
    assert "task.max_question_length" in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", "NA", "null", "[SEP]", "\u200b", "\u00ad\u2028"])
def test_odd_texts_are_texts(tokenizer, text):
    for record in ({"question": text, "context": "anna"}, {"question": "anna", "context": text}):
        (features,) = TASK.features(record, tokenizer, max_length=32)
        assert np.sum(features.tokens["input_ids"] == 3) == 2  # "[SEP]" in a text is letters


# ---- records and settings -------------------------------------------------------------------------------------------------------------------------


def test_an_answer_ends_with_the_mark_of_its_last_letter(tokenizer):
    """Accents as code points of their own, which the normaliser takes off."""
    context = "anna lives in Jose\u0301 , bob in Rome\u0301\u0301"
    (features,) = TASK.features(question("anna lives in ?", context, "Jose\u0301"), tokenizer, max_length=64)
    places = features.host["offsets"]
    start, end = span(features)
    assert context[places[start, 0] : places[end, 1]] == "Jose\u0301"
    assert places.max() == len(context)


def test_answers_that_stand_elsewhere_are_counted_once_and_scored(tmp_path, tokenizer, checkpoint, caplog):
    wrong = {"text": ["rome", "oslo"], "answer_start": [3, 0]}
    records = [question("red ?", "red", "red", id=1), {"id": 2, "question": "?", "context": "rome", "answers": wrong}]
    task = QuestionAnswering(train=write(tmp_path / "train.jsonl", records)).resolve(tokenizer, checkpoint)
    assert not caplog.records
    source = task.records("train")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{task.train}: 2 of 3 answers do not stand at their answer_start, the first at {task.train}:2;")
    decoded = [{"answer": "red"}, {"answer": "oslo"}]
    assert task.score(decoded, source, {})["exact_match"] == 1.0


@pytest.mark.skipif(not (REAL / "cmrc2018").is_dir(), reason="needs the real data in ../shared/data/cmrc2018")
def test_cmrc_has_200_answers_elsewhere(caplog):
    QuestionAnswering(validation=str(REAL / "cmrc2018" / "cmrc2018_dev.json.gz")).records("validation")
    assert "200 of 9657 answers" in caplog.text


def test_ids_that_stand_twice_are_said(tmp_path, caplog):
    file = write(tmp_path / "dev.jsonl", [question("red ?", "red", "red", id=i) for i in (7, 8, 7)])
    dataclasses.replace(TASK, train=file).records("train")
    assert not caplog.records
    dataclasses.replace(TASK, validation=file).records("validation")
    assert "1 ids stand more than once, the first is 7" in caplog.text


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"question": None}, "column 'question' is 'None' (NoneType), expected text"),
        ({"context": 3}, "column 'context' is '3' (int), expected text"),
        ({"answers": None}, "column 'answers' is 'None', expected {\"text\""),
        ({"answers": "red"}, "column 'answers' is 'red', expected"),
        ({"answers": [{"text": "red", "answer_start": [0]}]}, "expected a whole number: the answer's first character"),
        ({"answers": {"text": "red", "answer_start": [0, 0, 0]}}, "expected a whole number: the answer's first character"),
        ({"answers": {"text": ["red"], "answer_start": []}}, "two lists of one length"),
        ({"answers": {"text": ["red"]}}, "two lists of one length"),
        ({"answers": {"text": [None], "answer_start": [0]}}, "an answer in 'answers' is 'None' (NoneType), expected text"),
        ({"answers": {"text": ["red"], "answer_start": [0.5]}}, "an answer_start in 'answers' is '0.5', expected a whole number"),
        ({"answers": {"text": ["red"], "answer_start": ["0"]}}, "expected a whole number"),
        ({"answers": {"text": ["red"], "answer_start": [True]}}, "expected a whole number"),
        ({"is_impossible": True}, "is_impossible is true, but there are 1 answers"),
        ({"is_impossible": False, "answers": {"text": [], "answer_start": []}}, "is_impossible is false, but there are 0 answers"),
        ({"is_impossible": "no"}, "column 'is_impossible' is 'no', expected true or false"),
        ({"id": None}, "column 'id' is 'None', expected a text or a whole number"),
        ({"id": [1]}, "column 'id' is '[1]'"),
    ],
)
def test_bad_records_are_named_by_their_line(tmp_path, change, what):
    file = write(tmp_path / "t.jsonl", [question("red ?", "red", "red"), question("red ?", "red", "red") | change])
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TASK, train=file).records("train")
    assert str(caught.value).startswith(f"{file}:2: ")
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("names", "fields", "what"),
    [
        ("quest context answers", {}, "no column 'question'; found are ['answers', 'context', 'quest']"),
        ("question text answers", {}, "no column 'context'"),
        ("question context answer", {}, "no column 'answers'; found are ['answer', 'context', 'question']; set task.label_column; did you mean 'answer'?"),
        ("question context answers", {"text_columns": ("q", "context")}, "no column 'q'"),
        ("question context answers", {"label_column": "gold"}, "no column 'gold'"),
    ],
)
def test_wrong_columns(tmp_path, names, fields, what):
    record = dict(zip(names.split(), question("red ?", "red", "red").values(), strict=True))
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TASK, train=write(tmp_path / "t.jsonl", [record]), **fields).records("train")
    assert what in str(caught.value)


def test_columns_of_other_names_and_csv(tmp_path, tokenizer, checkpoint):
    record = {"frage": "red ?", "text": "anna is red", "gold": {"text": ["red"], "answer_start": [8]}}
    fields = {"text_columns": ("frage", "text"), "label_column": "gold"}
    task = QuestionAnswering(train=write(tmp_path / "t.jsonl", [record]), **fields).resolve(tokenizer, checkpoint)
    assert span(task.features(task.records("train")[0], tokenizer, max_length=32)[0]) == (6, 6)
    assert len(task.features({"question": "red ?", "context": "anna"}, tokenizer, max_length=32)) == 1  # when predicting
    with pytest.raises(UserError, match="no column 'frage'"):
        task.features({"text": "anna"}, tokenizer, max_length=32)
    (tmp_path / "t.csv").write_text("question,context,answers\nred ?,red,red\n")
    with pytest.raises(UserError, match=r"t\.csv:2: column 'answers' is 'red', expected"):
        dataclasses.replace(TASK, train=str(tmp_path / "t.csv")).records("train")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"text_columns": ("context",)}, "expected two"),
        ({"stride": -1}, "task.stride is -1, expected at least 0"),
        ({"max_question_length": 0}, "max_question_length is 0"),
        ({"n_best_size": 0}, "n_best_size is 0"),
        ({"max_answer_length": 0}, "max_answer_length is 0"),
        ({"script": "cmrc2018"}, "task.script is 'cmrc2018'"),
        ({"main_metric": "exact_macth"}, "did you mean 'exact_match'?; allowed are ['f1', 'exact_match', '-loss']"),
    ],
)
def test_bad_settings(tokenizer, checkpoint, fields, what):
    with pytest.raises(UserError) as caught:
        QuestionAnswering(**fields).resolve(tokenizer, checkpoint)
    assert what in str(caught.value)


def test_version_2_looks_at_the_data(tmp_path, tokenizer, checkpoint, caplog):
    def resolved(records, **fields):
        return QuestionAnswering(train=write(tmp_path / "t.jsonl", records), **fields).resolve(tokenizer, checkpoint).version_2

    some, none = question("red ?", "red", "red"), question("blue ?", "red")
    caplog.set_level(logging.INFO, logger="flaxft")
    assert resolved([some, some]) is False
    assert not caplog.records
    assert resolved([some, none]) is True
    assert "1 of 2 questions have no answer, so task.version_2 is on" in caplog.text
    assert resolved([some, none], version_2=False) is False
    assert resolved([some], version_2=True) is True
    assert QuestionAnswering().resolve(tokenizer, checkpoint).version_2 is False
    assert QuestionAnswering(test=str(tmp_path / "t.jsonl")).resolve(tokenizer, checkpoint).version_2 is False


def test_a_pair_needs_two_token_types(tmp_path, tokenizer):
    other = Pretrained(path=str(tiny.encoder(tmp_path / "one type", type_vocab_size=1))).open()
    with pytest.raises(UserError, match="type_vocab_size"):
        QuestionAnswering().resolve(tokenizer, other)


# ---- predictions ----------------------------------------------------------------------------------------------------------------------------------


PROGRAMS = {}


def predicted(task, batch, outputs):
    """`task.predict` for each slot, compiled once for all tasks that predict the same."""
    settings = task.n_best_size, task.max_answer_length
    of = PROGRAMS.setdefault(settings, jax.jit(task.predict))
    return jax.device_get(of(outputs, batch))["S"]


def rows_of(examples, *, row_length, num_slots, num_rows=1):
    """A batch, and the logits (R, T, 2) in it, of `[(context mask (n,), logits (n, 2))]`, laid one behind the other; what is padding has the best logits.

    It has `num_rows`, or more where they are needed.
    """
    rows, room = [[]], row_length
    for number, (mask, _) in enumerate(examples):
        if len(mask) > room or len(rows[-1]) == num_slots:
            rows.append([])
            room = row_length
        rows[-1].append(number)
        room -= len(mask)
    rows += [[]] * (num_rows - len(rows))
    shape = (len(rows), row_length)
    batch = {"segment_ids": np.zeros(shape, np.int32), "context": np.zeros(shape, np.int32)}
    batch |= {name: np.full((len(rows), num_slots), -1, np.int32) for name in ("example_start", "example_id")}
    batch["example_start"][:] = 0
    outputs = np.full((*shape, 2), 100.0, np.float32)
    for r, numbers in enumerate(rows):
        start = 0
        for s, number in enumerate(numbers):
            mask, logits = examples[number]
            end = start + len(mask)
            batch["segment_ids"][r, start:end], batch["context"][r, start:end], outputs[r, start:end] = s + 1, mask, logits
            batch["example_start"][r, s], batch["example_id"][r, s] = start, number
            start = end
    return batch, outputs


def all_spans(mask, logits, *, longest):
    """Every span that may be an answer: {(first, last): score}, by looking at all."""
    found = {}
    for first in np.flatnonzero(mask):
        for last in range(first, min(first + longest, len(mask))):
            if mask[last]:
                found[int(first), last] = float(logits[first, 0] + logits[last, 1])
    return found


@FAST
@given(seed=st.integers(0, 2**32 - 1), limits=st.sampled_from([(1, 30), (3, 4), (20, 30), (20, 1)]), has_ties=st.booleans())
def test_predict_finds_the_best_of_all_spans(seed, limits, has_ties):
    n_best, longest = limits
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(rng.integers(1, 8)):
        num_question, num_context = rng.integers(0, 5), rng.integers(0, 9)
        mask = np.array([0] * (num_question + 2) + [1] * num_context + [0])
        size = (len(mask), 2)
        examples.append((mask, (rng.integers(-3, 4, size) if has_ties else rng.standard_normal(size)).astype(np.float32)))
    task = dataclasses.replace(TASK, n_best_size=n_best, max_answer_length=longest)
    batch, outputs = rows_of(examples, row_length=24, num_slots=4, num_rows=7)
    found = predicted(task, batch, outputs)
    for r, s in zip(*np.nonzero(batch["example_id"] >= 0), strict=True):
        mask, logits = examples[batch["example_id"][r, s]]
        every = all_spans(mask, logits, longest=longest)
        start, end = found["start"][r, s], found["end"][r, s]
        is_span = start >= 0
        spans = list(zip(start[is_span].tolist(), end[is_span].tolist(), strict=True))
        scores = [every[span] for span in spans]
        assert len(set(spans)) == len(spans)
        assert scores == sorted(every.values(), reverse=True)[:n_best]
        np.testing.assert_array_equal(found["start_logit"][r, s][is_span], logits[start[is_span], 0])
        np.testing.assert_array_equal(found["end_logit"][r, s][is_span], logits[end[is_span], 1])
        assert (end[~is_span] == -1).all()
        np.testing.assert_array_equal(found["null"][r, s], logits[0])


def decoded_from(task, record, tokenizer, rng, *, max_length, scale=2.0):
    """What `decode` gives for random logits, and the windows' features and logits."""
    features = task.features(record, tokenizer, max_length=max_length)
    logits = [(rng.standard_normal((len(one.tokens["input_ids"]), 2)) * scale).astype(np.float32) for one in features]
    batch, outputs = rows_of([(one.tokens["context"], each) for one, each in zip(features, logits, strict=True)], row_length=64, num_slots=6, num_rows=3)
    found = predicted(task, batch, outputs)
    predictions = [{} for _ in features]
    for r, s in zip(*np.nonzero(batch["example_id"] >= 0), strict=True):
        predictions[batch["example_id"][r, s]] = {name: array[r, s] for name, array in found.items()}
    return task.decode(record, features, predictions), features, logits


@FAST
@given(seed=st.integers(0, 2**32 - 1), num_words=st.integers(0, 30), n_best=st.sampled_from([2, 20]), version_2=st.booleans())
def test_decode_finds_the_best_of_all_windows(tokenizer, seed, num_words, n_best, version_2):
    """Against a search of all spans of all windows, each place of the context once."""
    rng = np.random.default_rng(seed)
    context = " ".join(rng.choice([*tiny.WORDS, "zab", "Xy"], num_words))
    task = dataclasses.replace(TASK, version_2=version_2, n_best_size=n_best, max_answer_length=6, stride=4)
    record = {"id": "q", "question": "is anna red ?", "context": context}
    found, features, logits = decoded_from(task, record, tokenizer, rng, max_length=18)
    places, nulls = {}, []
    for one, each in zip(features, logits, strict=True):
        nulls.append(float(each[0].sum()))
        for (first, last), score in all_spans(one.tokens["context"], each, longest=6).items():
            place = int(one.host["offsets"][first, 0]), int(one.host["offsets"][last, 1])
            places[place] = max(places.get(place, -np.inf), score)
    wanted = sorted(((score, place) for place, score in places.items()), reverse=True)[:n_best]
    texts = [one for one in found["nbest"] if one["text"]]
    if not wanted:
        assert (found["answer"], found["start"], found["end"]) == ("", 0, 0)
        assert len(found["nbest"]) == version_2
        assert found.get("no_answer_score", 0.0) == 0.0
        assert not version_2 or found["probability"] == 1.0
        return
    best, (start, end) = wanted[0]
    assert (found["id"], found["question"]) == ("q", "is anna red ?")
    assert (found["score"], found["start"], found["end"], found["answer"]) == (best, start, end, context[start:end])
    assert [(one["score"], (one["start"], one["end"])) for one in texts] == wanted[: len(texts)]
    assert all(one["text"] == context[one["start"] : one["end"]] for one in texts)
    assert all(one["score"] == np.float32(one["start_logit"]) + np.float32(one["end_logit"]) for one in texts)
    if version_2:
        (null,) = [one for one in found["nbest"] if not one["text"]]
        assert null["score"] == pytest.approx(min(nulls), abs=1e-6)
        assert found["no_answer_score"] == null["score"] - best
        assert len(texts) >= min(len(wanted), n_best - 1)
    else:
        assert len(texts) == len(wanted)
        assert "no_answer_score" not in found
    scores = np.array([one["score"] for one in found["nbest"]])
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose([one["probability"] for one in found["nbest"]], np.exp(scores) / np.exp(scores).sum(), rtol=1e-6)


def source_of(records):
    return Records("test", "", records, range(len(records)), ":{}")


def test_the_null_threshold_is_fitted_and_applied(tokenizer):
    """Of random answers: the fitted threshold gives the best F1 that any gives, and `calibrated` says "" above it."""
    rng = np.random.default_rng(0)
    records = [question("who ?", SHORT, *answers, id=str(i)) for i, answers in enumerate([["paris"], [], ["bob lives"], [], [], ["acme corp in oslo"]] * 4)]
    decoded = [decoded_from(SILENT, record, tokenizer, rng, max_length=32)[0] for record in records]
    source = source_of(records)
    fitted = SILENT.calibrate(decoded, source)
    assert list(fitted) == ["null_threshold"]
    assert json.loads(json.dumps(fitted)) == fitted

    def f1(threshold):
        shown = [SILENT.calibrated(one, {"null_threshold": threshold}) for one in decoded]
        for one, raw in zip(shown, decoded, strict=True):
            assert (one["answer"] == "") == (raw["no_answer_score"] > threshold)
            assert one["answer"] == SHORT[one["start"] : one["end"]]
        return SILENT.score(shown, source, fitted)["f1"]

    best = f1(fitted["null_threshold"])
    assert best == max(map(f1, [-100.0, 100.0, *(one["no_answer_score"] for one in decoded)]))
    assert best >= 0.5
    raw = decoded[0]
    assert SILENT.calibrated(raw, {}) == SILENT.calibrated(raw, {"null_threshold": 0.0})
    silent = SILENT.calibrated(raw, {"null_threshold": -100.0})
    null = next(one for one in silent["nbest"] if not one["text"])
    assert (silent["answer"], silent["score"], silent["probability"]) == ("", null["score"], null["probability"])
    assert silent["probability"] == round(silent["probability"], 6)
    assert TASK.calibrate(decoded, source) == {}


@pytest.mark.parametrize("script", ["squad", "cmrc"])
def test_scores_are_those_of_the_script(script):
    records = [question("?", "in the red corp", "red corp", "the red corp"), question("?", "红色的公司", "红色"), question("?", "blue")]
    answers = ["the Red", "红色的", ""]
    task = dataclasses.replace(SILENT, script=script, main_metric="exact_match")
    found = task.score([{"answer": answer} for answer in answers], source_of(records), {})
    exact, overlap = questions.per_question(answers, [record["answers"]["text"] for record in records], script=script)
    assert (found["exact_match"], found["f1"]) == (exact.mean(), overlap.mean())
    assert 0.0 <= found["exact_match/low"] <= found["exact_match"] <= found["exact_match/high"] <= 1.0
    assert (found["no_answer_accuracy"], found["num_questions"]) == (1.0, 3)
    report = task.report([{"answer": answer} for answer in answers], source_of(records))
    assert "95 % interval of exact_match: " in report
    assert "without" in report


def test_files_have_the_official_layout(tokenizer):
    records = [EIGHT[0], {key: value for key, value in EIGHT[6].items() if key != "id"}]
    rng = np.random.default_rng(1)
    decoded = [SILENT.calibrated(decoded_from(SILENT, record, tokenizer, rng, max_length=32)[0], {}) for record in records]
    found = {name: json.loads(content) for name, content in SILENT.files(decoded).items()}
    assert list(found) == ["predictions.json", "nbest_predictions.json", "null_odds.json"]
    assert found["predictions.json"] == {"a": decoded[0]["answer"], "1": decoded[1]["answer"]}
    assert found["null_odds.json"] == {"a": decoded[0]["no_answer_score"], "1": decoded[1]["no_answer_score"]}
    assert set(found["nbest_predictions.json"]["a"][0]) == {"text", "probability", "start_logit", "end_logit"}
    assert len(found["nbest_predictions.json"]["a"]) in (20, 21)
    assert list(TASK.files([])) == ["predictions.json", "nbest_predictions.json"]


# ---- PyTorch --------------------------------------------------------------------------------------------------------------------------------------


def torch_model(directory, config):
    """A random BertForQuestionAnswering, saved."""
    import torch
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config | {"architectures": ["BertForQuestionAnswering"]}))
    torch.manual_seed(0)
    model = AutoModelForQuestionAnswering.from_config(AutoConfig.from_pretrained(directory), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    return model


@needs_torch
def test_outputs_loss_and_gradients_are_those_of_torch(tmp_path):
    """At most 1e-5 x max(1, largest magnitude), float32, dropout off; ours on rows of two examples each, with padding, theirs one by one without."""
    import torch

    model = torch_model(tmp_path, tiny.ENCODER)
    rng = np.random.default_rng(0)
    lengths = np.array([[9, 15], [20, 4]])
    spans = np.array([[[3, 5], [0, 0]], [[19, 19], [1, 2]]])
    batch = {name: np.zeros((2, 26), np.int32) for name in ("input_ids", "token_type_ids", "position_ids", "segment_ids")}
    batch |= {"example_start": np.array([[0, 9, 0], [0, 20, 0]])}
    batch |= {name: np.c_[spans[..., i], [IGNORE, IGNORE]] for i, name in enumerate(("start_positions", "end_positions"))}
    losses, logits = [], []
    for r, s in np.ndindex(2, 2):
        start, n = int(batch["example_start"][r, s]), lengths[r, s]
        ids, types = rng.integers(1, 128, n), rng.integers(0, 2, n)
        for name, values in (("input_ids", ids), ("token_type_ids", types), ("position_ids", np.arange(n)), ("segment_ids", s + 1)):
            batch[name][r, start : start + n] = values
        positions = [torch.tensor([int(place)]) for place in spans[r, s]]
        given = {"input_ids": torch.tensor(ids)[None], "token_type_ids": torch.tensor(types)[None]}
        output = model(**given, start_positions=positions[0], end_positions=positions[1])
        losses.append(output.loss)
        logits.append(torch.stack([output.start_logits[0], output.end_logits[0]], -1))
    loss = torch.stack(losses).mean()
    loss.backward()

    source = Pretrained(path=str(tmp_path))
    checkpoint = source.open()
    assert checkpoint.kind == "span"
    loaded = source.load(checkpoint, TASK.head, reuse_head=True, seed=0)
    assert not loaded.fresh

    def loss_fn(params):
        outputs = nnx.merge(loaded.graphdef, params)(batch)
        ((total, weight),) = TASK.loss(outputs, batch).values()
        return total / weight, outputs

    (ours, outputs), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(loaded.params)
    wanted = {"loss": loss.item(), "logits": torch.cat(logits).detach().numpy()}
    found = {"loss": ours, "logits": np.asarray(outputs)[batch["segment_ids"] > 0]}
    wanted |= {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    for path, gradient in flatten(gradients).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        found[name] = gradient.T if transposed else gradient
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert np.abs(np.asarray(found[name]) - array).max() <= BOUND * max(1.0, np.abs(array).max()), name


def answers_of_torch(model, tokenizer, records, *, max_length, stride, longest):
    """The answers of transformers' own tokenizer and model, by a search of every span of every window; and how far null lies above each."""
    import torch

    answers, above = [], []
    for record in records:
        given = tokenizer(
            record["question"], record["context"], truncation="only_second", max_length=max_length, stride=stride,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        best, answer, null = -np.inf, "", np.inf
        for i in range(len(given["input_ids"])):
            inputs = {name: torch.tensor(given[name][i])[None] for name in ("input_ids", "token_type_ids")}
            with torch.no_grad():
                output = model(**inputs)
            logits = np.stack([output.start_logits[0].numpy(), output.end_logits[0].numpy()], -1)
            null = min(null, float(logits[0].sum()))
            for (first, last), score in all_spans(np.array([place == 1 for place in given.sequence_ids(i)]), logits, longest=longest).items():
                if score > best:
                    best, answer = score, record["context"][given["offset_mapping"][i][first][0] : given["offset_mapping"][i][last][1]]
        answers.append(answer)
        above.append(null - best)
    return answers, above


@needs_torch
@pytest.mark.skipif(not (REAL / "squad").is_dir(), reason="needs the real data in ../shared/data/squad and vocab")
def test_answers_on_squad_are_those_of_torch(tmp_path):
    """Two layers of 128 with random weights, on real contexts of one to five windows; scores as the official script walks the file."""
    from transformers import BertTokenizerFast

    size = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    model = torch_model(tmp_path / "model", tiny.ENCODER | size | {"vocab_size": 30522, "max_position_embeddings": 512, "initializer_range": 0.02})
    tokenizer = BertTokenizerFast(str(REAL / "vocab" / "bert-base-uncased" / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path / "model")
    with gzip.open(REAL / "squad" / "dev-v1.1.json.gz") as file:
        articles = json.load(file)["data"]
    kept = [article | {"paragraphs": [p | {"qas": p["qas"][:1]} for p in article["paragraphs"][:2]]} for article in articles[:7]]
    (tmp_path / "dev.json").write_text(json.dumps({"version": "1.1", "data": kept}))
    task = QuestionAnswering(validation=str(tmp_path / "dev.json"), stride=32, version_2=True)
    predictor = flaxft.load(str(tmp_path / "model"), task=task)  # data.max_length is 128
    result, records = predictor.evaluate("validation")
    raw = predictor.predict([{key: record[key] for key in ("question", "context")} for record in records])
    answers, above = answers_of_torch(model, tokenizer, records, max_length=128, stride=32, longest=30)
    assert sum(len(predictor.task.features(record, predictor.tokenizer, max_length=128)) for record in records) >= 2 * len(records)
    assert len(set(answers)) > 10
    best = [next(one["text"] for one in one["nbest"] if one["text"]) for one in raw]
    assert best == answers
    np.testing.assert_allclose([one["no_answer_score"] for one in raw], above, atol=1e-4)
    assert [one["answer"] for one in result.decoded] == [answer if null <= 0 else "" for answer, null in zip(answers, above, strict=True)]

    predictions = json.loads(predictor.task.files(result.decoded)["predictions.json"])
    exact = overlap = total = 0
    for article in kept:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                gold = [answer["text"] for answer in asked["answers"]]
                exact += questions.exact_match(predictions[asked["id"]], gold)
                overlap += questions.f1(predictions[asked["id"]], gold)
                total += 1
    assert (result.metrics["exact_match"], result.metrics["f1"]) == pytest.approx((exact / total, overlap / total), abs=1e-12)


@needs_torch
def test_a_run_goes_to_transformers_and_back(tmp_path):
    """Trained with and without answers, applied to raw questions, written, and loaded by PyTorch and by flaxft: the same answers."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    cfg = tiny.config(tmp_path, num_epochs=60, **{"optim.learning_rate": 3e-3}, **tiny.ONCE)
    cfg.task = example(tmp_path)
    results = flaxft.run(cfg, str(tmp_path / "run"))
    assert results["compiles_after_start"] == 0
    scores = results["evals"]["validation"]
    assert scores["exact_match"] >= 0.75
    assert (scores["num_questions"], set(results["best"]["calibration"])) == (8, {"null_threshold"})
    trained = flaxft.load(str(tmp_path / "run"))
    assert trained.task.version_2 is True
    raw = [{"question": record["question"], "context": record["context"]} for record in EIGHT]
    found = trained.predict(raw)
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions" / "validation.jsonl").read_text().splitlines()]
    assert [one["answer"] for one in found] == [one["answer"] for one in lines]
    files = tmp_path / "run" / "predictions" / "validation"
    assert sorted(file.name for file in files.iterdir()) == ["nbest_predictions.json", "null_odds.json", "predictions.json"]
    assert json.loads((files / "predictions.json").read_text()) == {one["id"]: one["answer"] for one in lines}
    with pytest.raises(UserError, match=r"no column 'question'; found are \['text'\]; give \{\"question\""):
        trained.predict(["only a text"])

    trained.save_pretrained(tmp_path / "out")
    again = flaxft.load(str(tmp_path / "out"), task=dataclasses.replace(trained.task, train="", validation=""))
    again.data.max_length = 32
    model, tokenizer = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out").eval(), AutoTokenizer.from_pretrained(tmp_path / "out")
    answers, above = answers_of_torch(model, tokenizer, raw, max_length=32, stride=8, longest=30)
    for predictor in (trained, again):
        shown = predictor.predict(raw)
        assert [next(one["text"] for one in one["nbest"] if one["text"]) for one in shown] == answers
        np.testing.assert_allclose([one["no_answer_score"] for one in shown], above, atol=1e-4)
