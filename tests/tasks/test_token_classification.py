"""Records of words and tags become features, and predictions become what a user reads: alignment, windows, odd words, columns, labels, scores."""

from __future__ import annotations

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft.data import tags as schemes
from flaxft.data.base import IGNORE
from flaxft.data.items import build_items
from flaxft.data.source import open_source
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.hf import Pretrained
from flaxft.tasks.token_classification import TokenClassification
from tests import tiny

FAST = settings(max_examples=150, deadline=None, derandomize=True)
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
NER = TokenClassification(labels=LABELS, scheme="IOB2")
NOTHING = ["\u200b", "\ufeff", "\u00ad", "\ufe0f", "\u0301", "\u2028", "\ufffd", "\ue000", "\0", "", " "]  # the normaliser leaves nothing of these
LONG = "q" * 90  # one word of 90 pieces
IDS = {label: i for i, label in enumerate(LABELS)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("token") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


@pytest.fixture(scope="module")
def checkpoint(directory):
    return Pretrained(path=str(directory)).open()


def example(folder):
    """What the contract tests run on."""
    file = str(tiny.corpus(folder / "eight.conll", num=8, longest=12))
    return TokenClassification(train=file, validation=file)


def record(words, tags=None):
    return {"tokens": list(words)} | ({} if tags is None else {"tags": list(tags)})


def echo(task, features):
    """Predictions whose label at each token is its target, and 0 where it has none."""
    return [{"label": np.maximum(f.tokens["labels"], 0), "score": np.full(len(f.tokens["labels"]), 0.5, np.float32)} for f in features]


def by_number(features):
    """Predictions that tell which window and token they come from: score = (100 * window + token) / 10000."""
    lengths = [len(f.tokens["input_ids"]) for f in features]
    return [{"label": np.zeros(n, np.int32), "score": (np.arange(n) + 100.0 * i) / 1e4} for i, n in enumerate(lengths)]


def write(file, sentences):
    """A column file of (words, tags) pairs."""
    file.write_text("\n".join("".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) for words, tags in sentences))
    return str(file)


# ---- alignment ----


def test_labels_on_first_subwords(tokenizer):
    (features,) = NER.features(record(["anna", "xyz", "in", "paris"], ["B-PER", "I-PER", "O", "B-LOC"]), tokenizer, max_length=16)
    pieces = [tokenizer.backend.id_to_token(i) for i in features.tokens["input_ids"]]
    assert pieces == ["[CLS]", "anna", "x", "##y", "##z", "in", "paris", "[SEP]"]
    assert features.tokens["labels"].tolist() == [IGNORE, 3, 4, IGNORE, IGNORE, 0, 1, IGNORE]
    assert features.tokens["labels"].dtype == np.int32
    assert features.host["owned"].tolist() == [-1, 0, 1, -1, -1, 2, 3, -1]
    assert features.group == -1


def test_labels_on_all_subwords(tokenizer):
    task = dataclasses.replace(NER, label_all_tokens=True)
    (features,) = task.features(record(["xyz", "zyx", "qq", "aq"], ["B-PER", "I-PER", "O", "B-LOC"]), tokenizer, max_length=16)
    wanted = ["B-PER", "I-PER", "I-PER", "I-PER", "I-PER", "I-PER", "O", "O", "B-LOC", "I-LOC"]
    assert features.tokens["labels"].tolist() == [IGNORE, *(IDS[tag] for tag in wanted), IGNORE]
    assert features.host["owned"].tolist() == [-1, 0, -1, -1, 1, -1, -1, 2, -1, 3, -1, -1]  # a word is still predicted once


def test_all_subwords_without_an_inside_label(tokenizer):
    """Where the labels lack I-LOC, the later pieces of a B-LOC word say B-LOC; plain tags are repeated."""
    task = dataclasses.replace(NER, label_all_tokens=True, labels=("O", "B-LOC"))
    assert task.features(record(["aq"], ["B-LOC"]), tokenizer, max_length=8)[0].tokens["labels"].tolist() == [IGNORE, 1, 1, IGNORE]
    task = dataclasses.replace(NER, label_all_tokens=True, labels=("B-x", "NN"), scheme="plain")
    assert task.features(record(["aq", "aq"], ["NN", "B-x"]), tokenizer, max_length=8)[0].tokens["labels"].tolist() == [IGNORE, 1, 1, 0, 0, IGNORE]


def test_records_without_tags(tokenizer):
    (features,) = NER.features(record(["anna", "xyz"]), tokenizer, max_length=16)
    assert features.tokens["labels"].tolist() == [IGNORE] * 6
    assert features.host["owned"].tolist() == [-1, 0, 1, -1, -1, -1]
    (features,) = NER.features({"text": "Anna xyz"}, tokenizer, max_length=16)
    assert features.tokens["labels"].tolist() == [IGNORE] * 6
    assert features.host["owned"].tolist() == [-1, 0, 1, -1, -1, -1]


@pytest.mark.parametrize("task", [NER, dataclasses.replace(NER, text_columns=("text",)), dataclasses.replace(NER, text_columns=("1",), label_column="2")])
def test_raw_text_whatever_the_columns_were(tokenizer, task):
    (features,) = task.features({"text": "Anna lives"}, tokenizer, max_length=16)
    assert features.host["spans"].tolist() == [[0, 4], [5, 10]]
    assert task.decode({"text": "Anna lives"}, [features], echo(task, [features]))["words"] == ["Anna", "lives"]


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\n"])
def test_raw_text_without_words(tokenizer, text):
    features = NER.features({"text": text}, tokenizer, max_length=16)
    assert [f.tokens["input_ids"].tolist() for f in features] == [[2, 3]]
    assert NER.decode({"text": text}, features, by_number(features)) == {"text": text, "words": [], "tags": [], "entities": []}


ODD = ["xyzzy", LONG, "[SEP]", "2020-01", *NOTHING]
WORDS = st.lists(st.one_of(st.sampled_from(tiny.WORDS), st.sampled_from(ODD), st.text("abz", min_size=1, max_size=12)), min_size=1, max_size=40)


@FAST
@given(words=WORDS, max_length=st.integers(3, 64), label_all_tokens=st.booleans(), data=st.data())
def test_windows(tokenizer, words, max_length, label_all_tokens, data):
    """A sentence of any length: each word is labelled in one window and predicted once, and the windows hold all pieces."""
    tags = data.draw(st.lists(st.sampled_from(LABELS), min_size=len(words), max_size=len(words)))
    task = dataclasses.replace(NER, label_all_tokens=label_all_tokens)
    gold = schemes.to_iob2(tags, "IOB2")  # an I- that continues nothing is read as B-
    features = task.features(record(words, tags), tokenizer, max_length=max_length)
    ids, word_ids = tokenizer.words(words)
    assert len(features) == 1 if len(ids) + 2 <= max_length else len(features) > 1

    owned = np.concatenate([f.host["owned"] for f in features])
    assert sorted(owned[owned >= 0].tolist()) == list(range(len(words)))  # each word exactly once
    seen = np.zeros(len(ids), bool)
    start = 0
    for f in features:
        inside = f.tokens["input_ids"][1:-1]
        assert 0 < len(inside) <= max_length - 2
        assert f.tokens["input_ids"][[0, -1]].tolist() == [2, 3]
        assert f.tokens["labels"][[0, -1]].tolist() == [IGNORE, IGNORE]
        assert f.host["owned"][[0, -1]].tolist() == [-1, -1]
        # windows go on, so the next one begins at the first place behind `start` that explains the words it owns
        mine = np.flatnonzero(f.host["owned"] >= 0)
        candidates = [s for s in range(start, len(ids)) if ids[s : s + len(inside)].tolist() == inside.tolist()]
        if len(mine):
            first_pieces = np.searchsorted(word_ids, f.host["owned"][mine])
            start = int(first_pieces[0] - (mine[0] - 1))
            assert (first_pieces - (mine - 1) == start).all(), "an owned word is not on its first piece"
            assert start in candidates
        else:
            start = candidates[0]
        seen[start : start + len(inside)] = True
        for t, label in enumerate(f.tokens["labels"][1:-1].tolist()):
            word = word_ids[start + t]
            is_first = start + t == 0 or word_ids[start + t - 1] != word
            if f.host["owned"][1 + t] >= 0:
                assert is_first
                assert label == IDS[gold[word]]
            elif label != IGNORE:  # a later piece of a word that this window owns
                assert label_all_tokens
                assert not is_first
                assert word in f.host["owned"]
                assert label == IDS[gold[word].replace("B-", "I-")]
    if all((f.host["owned"] >= 0).any() for f in features):
        assert seen.all()
    if not label_all_tokens:
        assert sum((f.tokens["labels"] != IGNORE).sum() for f in features) == len(words)

    decoded = task.decode(record(words, tags), features, echo(task, features))
    assert decoded["tags"] == gold
    assert decoded["words"] == words


def test_windows_overlap(tokenizer):
    features = NER.features(record(["anna"] * 20), tokenizer, max_length=10)
    assert [len(f.tokens["input_ids"]) for f in features] == [10, 10, 10]
    assert [f.host["owned"][f.host["owned"] >= 0].tolist() for f in features] == [[*range(7)], [*range(7, 13)], [*range(13, 20)]]
    assert [len(f.host["spans"]) for f in features] == [20, 0, 0], "the spans of a book, once a window, would fill the disk"
    decoded = NER.decode(record(["anna"] * 20), features, by_number(features))
    assert len(decoded["tags"]) == 20


@pytest.mark.parametrize("word", NOTHING, ids=ascii)
@pytest.mark.parametrize("max_length", [3, 4, 16])
def test_words_of_nothing(tokenizer, word, max_length):
    """Their neighbours keep their labels, and they have a place, a label and a prediction of their own."""
    for words, tags in (
        (["anna", word, "paris"], ["B-PER", "O", "B-LOC"]),
        ([word, "anna", word, word, "paris", word], ["O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC"]),
        ([word], ["B-PER"]),
    ):
        features = NER.features(record(words, tags), tokenizer, max_length=max_length)
        found = {}
        for f in features:
            for at in np.flatnonzero(f.host["owned"] >= 0):
                found[int(f.host["owned"][at])] = (tokenizer.backend.id_to_token(int(f.tokens["input_ids"][at])), LABELS[f.tokens["labels"][at]])
        assert [found[i] for i in range(len(words))] == [("[UNK]" if w == word else w, tag) for w, tag in zip(words, tags, strict=True)]
        assert NER.decode(record(words, tags), features, echo(NER, features))["tags"] == tags


def test_special_tokens_in_the_text(tokenizer):
    words = ["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]", "anna"]
    (features,) = NER.features(record(words, ["O"] * 5 + ["B-PER"]), tokenizer, max_length=64)
    assert features.tokens["input_ids"].tolist().count(3) == 1
    assert not set(features.tokens["input_ids"][1:-1].tolist()) & {0, 2, 3, 4}
    assert features.host["owned"].max() == 5
    (features,) = NER.features({"text": "anna [SEP] bob"}, tokenizer, max_length=64)
    assert features.tokens["input_ids"].tolist().count(3) == 1


def test_a_word_of_200_characters(tokenizer):
    """Longer than WordPiece cuts up: one unknown token, as in transformers; below its limit of 100 it has its pieces, in several windows."""
    for word, num_pieces in (("q" * 200, 1), ("q" * 100, 100), ("q" * 101, 1)):
        words, tags = ["anna", word, "paris"], ["B-PER", "I-PER", "B-LOC"]
        features = NER.features(record(words, tags), tokenizer, max_length=32)
        assert len(tokenizer.words(words)[0]) == num_pieces + 2
        assert NER.decode(record(words, tags), features, echo(NER, features))["tags"] == tags


# ---- bad input ----


@pytest.mark.parametrize(("word", "name"), [("\ud800", "'\\ud800'"), (None, "None"), (7, "7"), (True, "True"), (["a"], "['a']")])
def test_a_word_that_is_no_text(tokenizer, word, name):
    with pytest.raises(UserError, match="is not text") as error:
        NER.features(record(["anna", word], ["O", "O"]), tokenizer, max_length=16)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (record(["anna", "bob"], ["O"]), "2 words but 1 tags in 'tags'"),
        (record([], []), "empty list of words"),
        ({"tokens": 5, "tags": ["O"]}, "expected a list of words"),
        ({"tokens": None, "tags": ["O"]}, "expected a list of words"),
        ({"tokens": ["anna"], "tags": 5}, "expected a list of tags"),
        ({"tokens": ["anna"], "tags": None}, "expected a list of tags"),
        ({"text": ["anna"], "tags": ["O"]}, "no column of words among"),
        (record(["anna"], ["B-ORG"]), "tag 'B-ORG' is not among the labels"),
        (record(["anna"], ["X"]), "'X' outside IOB2"),
        (record(["anna", "ran"], ["O", " "]), "the tag of word 2 is empty"),
        (record(["anna"], [None]), "tag None is no text"),
        (record(["anna"], [1.5]), "tag 1.5 is no text"),
        (record(["anna"], [True]), "tag True is no text"),
        (record(["anna"], [5]), "tag number 5, but task.labels has 5 names"),
        (record(["anna"], [-1]), "tag number -1"),
        (record(["anna"], [-99]), "tag number -99"),
    ],
    ids=str,
)
def test_bad_records(tokenizer, one, message):
    with pytest.raises(UserError) as error:
        NER.features(one, tokenizer, max_length=16)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_place_of_a_bad_tag(tokenizer, checkpoint, tmp_path):
    train = write(tmp_path / "train.conll", [(["anna", "lives"], ["B-PER", "O"])])
    validation = write(tmp_path / "dev.conll", [(["anna"], ["B-PER"]), (["in", "paris"], ["O", "B-LOC"])])
    task = TokenClassification(train=train, validation=validation).resolve(tokenizer, checkpoint)
    with pytest.raises(UserError, match="tag 'B-LOC' is not among the labels") as error:
        build_items(task.records("validation"), task, tokenizer, max_length=16, key="", cache=tmp_path / "cache")
    assert str(error.value).startswith(f"{validation}:3: ")
    assert not list((tmp_path / "cache").iterdir()), "something half-written"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"tokens": ["a"], "tags": ["O", "O"]}, "1 words but 2 tags"),
        ({"tokens": ["a"], "tags": [None]}, "tag None is no text"),
        ({"tokens": ["a"], "tags": ["Q-X"]}, "'Q-X'"),
        ({"tokens": ["a"]}, "no column of tags"),
        ({"wrong": ["a"], "tags": ["O"]}, "no column of words"),
        ({"tokens": [], "tags": []}, "empty list of words"),
    ],
    ids=str,
)
def test_the_place_of_a_bad_record_in_train(tokenizer, checkpoint, tmp_path, line, message):
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in (record(["a"], ["B-X"]), line)))
    with pytest.raises(UserError) as error:
        TokenClassification(train=str(file)).resolve(tokenizer, checkpoint)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{file}:2: ")


# ---- schemes ----

WORDS_OF_SCHEMES = ["anna", "bob", "lives", "in", "paris", "rome", "oslo", "xyz"]
TAGS = {
    "IOB2": "B-PER I-PER O O B-LOC B-LOC I-LOC I-LOC",
    "IOB1": "I-PER I-PER O O I-LOC B-LOC I-LOC I-LOC",
    "IOBES": "B-PER E-PER O O S-LOC B-LOC I-LOC E-LOC",
    "BMES": "B-PER E-PER O O S-LOC B-LOC M-LOC E-LOC",
    "BILOU": "B-PER L-PER O O U-LOC B-LOC I-LOC L-LOC",
}


@pytest.mark.parametrize("scheme", TAGS)
@pytest.mark.parametrize("label_all_tokens", [False, True])
def test_every_scheme_gives_the_same_features(tokenizer, checkpoint, tmp_path, scheme, label_all_tokens):
    def of(scheme):
        file = write(tmp_path / f"{scheme}.conll", [(WORDS_OF_SCHEMES, TAGS[scheme].split())])
        task = TokenClassification(train=file, label_all_tokens=label_all_tokens).resolve(tokenizer, checkpoint)
        (one,) = task.records("train")
        return task, one, task.features(one, tokenizer, max_length=8)

    task, one, features = of(scheme)
    reference, _, wanted = of("IOB2")
    assert (task.scheme, task.labels) == (scheme, LABELS)
    assert reference.labels == LABELS
    assert len(features) == len(wanted) > 1
    for f, w in zip(features, wanted, strict=True):
        assert f.tokens["input_ids"].tolist() == w.tokens["input_ids"].tolist()
        assert f.tokens["labels"].tolist() == w.tokens["labels"].tolist()
    decoded = task.decode(one, features, echo(task, features))
    assert decoded["tags"] == TAGS["IOB2"].split()
    assert [(e["type"], e["text"]) for e in decoded["entities"]] == [("PER", "anna bob"), ("LOC", "paris"), ("LOC", "rome oslo xyz")]
    assert task.score([decoded], [one], {})["strict_entity_f1"] == 1.0


@pytest.mark.parametrize("scheme", ["IOB2", "IOBES", "BILOU"])
def test_labels_of_another_scheme(tokenizer, checkpoint, scheme):
    """A fine-tuned model may have IOBES for its labels: what it predicts is scored as chunks."""
    labels = ("O", *(f"{letter}-{kind}" for kind in ("LOC", "PER") for letter in dict.fromkeys(schemes.LETTERS[scheme])))
    task = TokenClassification().resolve(tokenizer, dataclasses.replace(checkpoint, kind="token", labels=labels))
    assert (task.labels, task.scheme) == (labels, scheme)
    tags = TAGS[scheme].split()
    one = record(WORDS_OF_SCHEMES, tags)
    (features,) = task.features(one, tokenizer, max_length=64)
    (prediction,) = echo(task, [features])
    at = np.flatnonzero(features.host["owned"] >= 0)
    prediction["label"][at] = [labels.index(tag) for tag in tags]
    decoded = task.decode(one, [features], [prediction])
    assert decoded["tags"] == tags
    assert [(e["type"], e["text"]) for e in decoded["entities"]] == [("PER", "anna bob"), ("LOC", "paris"), ("LOC", "rome oslo xyz")]
    scores = task.score([decoded], [one], {})
    assert scores["accuracy"] == scores["entity_f1"] == scores["strict_entity_f1"] == 1.0
    assert scores["num_entities"] == 3
    lines = [line.split() for line in task.report([decoded], [one]).split("\n") if line]
    assert [line[0] for line in lines][1:6] == ["LOC", "PER", "micro", "macro", "weighted"]
    assert lines[6] == "95 % interval of entity_f1: 1.0000 to 1.0000 (bootstrap over records)".split()
    assert {line[0] for line in lines[9:]} >= {"O", "accuracy"}  # the tags of single words


def test_malformed_tags_are_counted(tokenizer, checkpoint, tmp_path):
    file = write(tmp_path / "train.conll", [(["anna", "bob", "in"], ["B-PER", "I-LOC", "O"])])
    task = TokenClassification(train=file).resolve(tokenizer, checkpoint)
    look = task.look(task.records("train"), split="train")
    assert look.warnings == (f"{file}: 1 tags are out of place in IOB2 (most often 'I-LOC' behind 'B-PER'); read as conlleval reads them",)
    assert task.labels == LABELS


def test_a_forced_scheme(tokenizer, checkpoint, tmp_path):
    file = write(tmp_path / "train.conll", [(["anna", "in"], ["B-PER", "O"])])
    assert TokenClassification(train=file, scheme="plain").resolve(tokenizer, checkpoint).labels == ("B-PER", "O")
    with pytest.raises(UserError, match="did you mean 'IOB2'"):
        TokenClassification(train=file, scheme="IBO2").resolve(tokenizer, checkpoint)
    write(tmp_path / "train.conll", [(["anna"], ["B-PER"]), (["in"], ["E-PER"])])
    with pytest.raises(UserError, match="outside BILOU") as error:
        TokenClassification(train=file, scheme="BILOU").resolve(tokenizer, checkpoint)
    assert str(error.value).startswith(f"{file}:3: ")


def test_plain_tags(tokenizer, checkpoint, tmp_path):
    file = write(tmp_path / "train.conll", [(["anna", "lives", "."], ["NNP", "VBZ", "."]), (["in", "paris"], ["IN", "NNP"])])
    task = TokenClassification(train=file).resolve(tokenizer, checkpoint)
    assert (task.scheme, task.main_metric, task.labels) == ("plain", "accuracy", (".", "IN", "NNP", "VBZ"))
    source = task.records("train")
    decoded = []
    for one in source:
        features = task.features(one, tokenizer, max_length=16)
        decoded.append(task.decode(one, features, echo(task, features)))
    assert decoded[1] == {
        "text": "in paris",
        "words": ["in", "paris"],
        "tags": ["IN", "NNP"],
        "tokens": [
            {"tag": "IN", "text": "in", "start": 0, "end": 2, "score": 0.5},
            {"tag": "NNP", "text": "paris", "start": 3, "end": 8, "score": 0.5},
        ],
    }
    assert task.score(decoded, source, {}) == {"accuracy": 1.0, "accuracy/low": 1.0, "accuracy/high": 1.0}
    decoded[0]["tags"][1] = "IN"
    scores = task.score(decoded, source, {})
    assert scores["accuracy"] == 0.8
    assert scores["accuracy/low"] <= 0.8 <= scores["accuracy/high"]
    lines = task.report(decoded, source).split("\n")
    assert [line.split()[0] for line in lines if line.strip()][1:5] == [".", "IN", "NNP", "VBZ"]
    assert TokenClassification(train=file, main_metric="-loss").resolve(tokenizer, checkpoint).main_metric == "-loss"
    with pytest.raises(UserError, match=r"task.main_metric is 'strict_entity_f1'"):
        TokenClassification(train=file, main_metric="strict_entity_f1").resolve(tokenizer, checkpoint)


# ---- labels ----


def test_labels_of_a_fine_tuned_model(tokenizer, checkpoint, tmp_path, caplog):
    labels = ("B-PER", "O", "I-PER", "B-LOC", "I-LOC")
    fine_tuned = dataclasses.replace(checkpoint, kind="token", labels=labels)
    train = write(tmp_path / "train.conll", [(["anna", "lives"], ["B-PER", "O"])])
    assert TokenClassification().resolve(tokenizer, fine_tuned).labels == labels
    assert TokenClassification(train=train).resolve(tokenizer, fine_tuned).labels == labels
    assert TokenClassification(train=train).resolve(tokenizer, checkpoint).labels == ("O", "B-PER", "I-PER")
    # the head of another kind of task is no help
    assert TokenClassification(train=train).resolve(tokenizer, dataclasses.replace(fine_tuned, kind="sequence")).labels == ("O", "B-PER", "I-PER")
    assert not [one for one in caplog.records if one.levelname != "INFO"]
    write(tmp_path / "train.conll", [(["acme"], ["B-ORG"])])
    with caplog.at_level("WARNING", logger="flaxft"):
        assert TokenClassification(train=train).resolve(tokenizer, fine_tuned).labels == ("O", "B-ORG", "I-ORG")
    assert "of the train split, which are new to its head" in caplog.text
    for nothing in (checkpoint, dataclasses.replace(fine_tuned, kind="sequence"), dataclasses.replace(fine_tuned, labels=None)):
        with pytest.raises(UserError, match=r"no labels: task.train is empty"):
            TokenClassification().resolve(tokenizer, nothing)


def test_given_labels(tokenizer, checkpoint, tmp_path):
    train = write(tmp_path / "train.conll", [(["anna", "lives"], ["B-PER", "O"])])
    given_labels = ("I-PER", "B-PER", "O", "B-X")
    assert TokenClassification(train=train, labels=given_labels).resolve(tokenizer, checkpoint).labels == given_labels
    assert TokenClassification(labels=given_labels).resolve(tokenizer, checkpoint).labels == given_labels
    for task in (TokenClassification(train=train, labels=("O", "B-PER", "O")), TokenClassification(labels=("O", "B-PER", "O"))):
        with pytest.raises(UserError, match=r"task.labels names \['O'\] more than once"):
            task.resolve(tokenizer, checkpoint)


def test_numbers_for_tags(tokenizer, checkpoint, tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps({"tokens": ["anna", "lives", "in"], "ner_tags": [1, 0, 2]}) + "\n")
    task = TokenClassification(train=str(file), labels=("O", "B-PER", "I-PER")).resolve(tokenizer, checkpoint)
    (one,) = task.records("train")
    assert task.scheme == "IOB2"
    (features,) = task.features(one, tokenizer, max_length=8)
    assert features.tokens["labels"].tolist() == [IGNORE, 1, 0, 1, IGNORE]  # I-PER behind O begins an entity
    with pytest.raises(UserError, match=r"tags are numbers \(1\), whose names are not known; set task.labels") as error:
        TokenClassification(train=str(file)).resolve(tokenizer, checkpoint)
    assert str(error.value).startswith(f"{file}:1: ")
    with pytest.raises(UserError, match=r"tag number 2, but task.labels has 2 names"):
        TokenClassification(train=str(file), labels=("O", "B-PER")).resolve(tokenizer, checkpoint)
    file.write_text(json.dumps({"tokens": ["anna", "lives"], "ner_tags": [1, -2]}) + "\n")
    with pytest.raises(UserError, match="tag number -2") as error:
        TokenClassification(train=str(file), labels=("O", "B-PER")).resolve(tokenizer, checkpoint)
    assert str(error.value).startswith(f"{file}:1: ")


# ---- columns ----


def test_columns_by_name(tokenizer, tmp_path):
    one = {"forms": ["anna", "in"], "ner": ["B-PER", "O"], "tokens": ["x", "y"], "tags": ["O", "O"]}
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(one))
    task = dataclasses.replace(NER, text_columns=("forms",), label_column="ner")
    (features,) = task.features(one, tokenizer, max_length=8)
    assert features.tokens["labels"].tolist() == [IGNORE, 3, 0, IGNORE]
    assert task.decode(one, [features], echo(task, [features]))["text"] == "anna in"
    assert NER.features(one, tokenizer, max_length=8)[0].tokens["labels"].tolist() == [IGNORE, 0, 0, IGNORE]
    for field, name, hint in (("text_columns", ("form",), "did you mean 'forms'"), ("label_column", "nerr", "did you mean 'ner'")):
        with pytest.raises(UserError, match=f"set task.{field}; {hint}"):
            dataclasses.replace(task, train=str(file), **{field: name}).records("train")


COLUMNS = {"0": ["1", "2"], "1": ["anna", "paris"], "2": ["B-PER", "B-LOC"], "3": ["O", "O"]}


@pytest.mark.parametrize(
    ("text_columns", "label_column", "tags"),
    [
        (("1",), "2", [3, 1]),
        (("1",), "-2", [3, 1]),
        (("-3",), "2", [3, 1]),
        (("1",), "3", [0, 0]),
        (("1",), "-1", [0, 0]),
        (("1",), "", [0, 0]),
        ((1,), 2, [3, 1]),
        ((-3,), -2, [3, 1]),
    ],
)
def test_columns_by_number(tokenizer, text_columns, label_column, tags):
    task = dataclasses.replace(NER, text_columns=text_columns, label_column=label_column)
    (features,) = task.features(COLUMNS, tokenizer, max_length=8)
    assert features.tokens["labels"].tolist() == [IGNORE, *tags, IGNORE]
    assert task.decode(COLUMNS, [features], echo(task, [features]))["words"] == ["anna", "paris"]


@pytest.mark.parametrize("number", ["4", "-5", "-99", "--1", "-", "1.0"])
def test_a_column_that_is_not_there(tmp_path, number):
    file = tmp_path / "train.conll"
    file.write_text("".join("\t".join(cells) + "\n" for cells in zip(*COLUMNS.values(), strict=True)))
    for columns in ({"text_columns": ("1",), "label_column": number}, {"text_columns": (number,), "label_column": "2"}):
        with pytest.raises(UserError, match=f"train.conll:1: no column '{number}'"):
            dataclasses.replace(NER, train=str(file), **columns).records("train")


def test_words_and_tags_in_csv_cells(tokenizer, tmp_path):
    file = tmp_path / "train.csv"
    file.write_text("id,text,tags\n1,anna in paris,B-PER O B-LOC\n2,NA null,O O\n")
    source = dataclasses.replace(NER, train=str(file), text_columns=("text",)).records("train")
    task = dataclasses.replace(NER, text_columns=("text",))
    (features,) = task.features(source[0], tokenizer, max_length=8)
    assert features.tokens["labels"].tolist() == [IGNORE, 3, 0, 1, IGNORE]
    assert task.decode(source[1], task.features(source[1], tokenizer, max_length=16), [{"label": np.zeros(16, int), "score": np.ones(16)}])["words"] == [
        "NA",
        "null",
    ]


@pytest.mark.parametrize("tags", ["B-PER O O", ["B-PER", "O", "O"]])
def test_a_sentence_and_its_tags_between_blanks(tokenizer, checkpoint, tmp_path, tags):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps({"sentence": "anna is in", "tags": tags}) + "\n")
    assert TokenClassification(train=str(file)).resolve(tokenizer, checkpoint).labels == ("O", "B-PER", "I-PER")


def test_a_split_without_tags_is_found_at_once(tmp_path):
    file = tmp_path / "validation.jsonl"
    file.write_text('{"tokens": ["anna"]}\n')
    with pytest.raises(UserError, match=r"validation.jsonl:1: no column of tags"):
        dataclasses.replace(NER, validation=str(file)).records("validation")


def test_a_record_without_tags_is_predicted_whatever_the_label_column(tokenizer):
    (features,) = dataclasses.replace(NER, label_column="ner").features({"tokens": ["anna"]}, tokenizer, max_length=8)
    assert (features.tokens["labels"] == IGNORE).all()


def test_a_file_of_four_columns(tokenizer, checkpoint, tmp_path):
    """GermEval 2014: number, token, outer and inner tags, and a source line that begins with #."""
    file = tmp_path / "NER-de-train.tsv"
    file.write_text("#\thttp://a.de\t[2010-07-04]\t\n1\tAnna\tB-PER\tO\n2\t#\tO\tO\n3\tParis\tB-LOC\tB-PER\n\n#\thttp://b.de\t[2010]\t\n1\tRome\tB-LOC\tO\n")
    task = TokenClassification(train=str(file), format="columns", comment="#", text_columns=("1",), label_column="2").resolve(tokenizer, checkpoint)
    assert (task.labels, task.scheme) == (LABELS, "IOB2")
    decoded = []
    for one in task.records("train"):
        features = task.features(one, tokenizer, max_length=16)
        decoded.append(task.decode(one, features, echo(task, features)))
    assert [one["words"] for one in decoded] == [["Anna", "#", "Paris"], ["Rome"]]
    assert [one["tags"] for one in decoded] == [["B-PER", "O", "B-LOC"], ["B-LOC"]]
    inner = dataclasses.replace(task, labels=(), label_column="-1").resolve(tokenizer, checkpoint)
    assert inner.labels == ("O", "B-PER", "I-PER")


# ---- decode ----

TEXTS = [
    "Anna Müller lives in São Paulo .",
    "Jose\u0301 e\u0301 (東京都)は\U0001f600paris\U0001f468\u200d\U0001f469\u200d\U0001f467, ok",
    "\u200b anna\u00a0bob\u2028carl\tdora  ",
    "İstanbul ﬁx Ω≈ç",
]


def check_offsets(decoded):
    text = decoded["text"]
    for entity in decoded["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"] != ""
        assert 0 <= entity["score"] <= 1
        assert list(entity) == ["type", "text", "start", "end", "score"]
    assert len(decoded["words"]) == len(decoded["tags"])
    assert json.loads(json.dumps(decoded)) == decoded  # plain Python values


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("max_length", [3, 5, 64])
def test_offsets_of_raw_text(tokenizer, text, max_length):
    features = NER.features({"text": text}, tokenizer, max_length=max_length)
    num_words = len(features[0].host["spans"])
    for pattern in (["B-PER"], ["B-PER", "I-PER", "O"], ["B-LOC", "I-LOC", "I-LOC", "I-LOC"], ["I-PER", "I-LOC"]):
        tags = [pattern[i % len(pattern)] for i in range(num_words)]
        predictions = by_number(features)
        for f, prediction in zip(features, predictions, strict=True):
            at = np.flatnonzero(f.host["owned"] >= 0)
            prediction["label"][at] = [IDS[tags[word]] for word in f.host["owned"][at]]
        decoded = NER.decode({"text": text}, features, predictions)
        assert decoded["text"] == text
        assert decoded["tags"] == tags
        check_offsets(decoded)
        covered = [entity["start"] for entity in decoded["entities"]]
        assert covered == sorted(covered)
        if pattern == ["B-PER"]:
            assert [entity["text"] for entity in decoded["entities"]] == decoded["words"]


def test_words_of_raw_text(tokenizer):
    (features,) = NER.features({"text": TEXTS[0]}, tokenizer, max_length=64)
    assert NER.decode({"text": TEXTS[0]}, [features], echo(NER, [features]))["words"] == ["Anna", "Müller", "lives", "in", "São", "Paulo", "."]


@FAST
@given(words=WORDS, max_length=st.integers(3, 64), seed=st.integers(0, 1000))
def test_offsets_of_word_lists(tokenizer, words, max_length, seed):
    rng = np.random.default_rng(seed)
    features = NER.features(record(words), tokenizer, max_length=max_length)
    predictions = [
        {"label": rng.integers(0, len(LABELS), len(f.tokens["input_ids"])), "score": rng.random(len(f.tokens["input_ids"]), np.float32)} for f in features
    ]
    decoded = NER.decode(record(words), features, predictions)
    assert decoded["text"] == " ".join(words)
    assert decoded["words"] == words
    for entity in decoded["entities"]:
        assert decoded["text"][entity["start"] : entity["end"]] == entity["text"]
        assert 0 <= entity["score"] <= 1
    assert sum(len(entity["text"].split(" ")) for entity in decoded["entities"]) >= sum(tag.startswith("B-") for tag in decoded["tags"])


def test_the_score_is_the_mean_over_words(tokenizer):
    one = record(["anna", "xyz", "in"], ["B-PER", "I-PER", "O"])
    features = NER.features(one, tokenizer, max_length=16)
    predictions = echo(NER, features)
    predictions[0]["score"] = np.array([9, 0.9, 0.3, 9, 9, 0.7, 9], np.float32)  # [CLS] anna x ##y ##z in [SEP]
    assert NER.decode(one, features, predictions)["entities"] == [{"type": "PER", "text": "anna xyz", "start": 0, "end": 8, "score": pytest.approx(0.6)}]


def test_predict_gives_labels_and_probabilities():
    outputs = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 5)) * 30, jnp.bfloat16)
    predicted = NER.predict(outputs, {})["T"]
    assert (predicted["label"].shape, predicted["label"].dtype) == ((2, 8), jnp.int32)
    assert (predicted["label"] == outputs.argmax(-1)).all()
    assert predicted["score"].dtype == jnp.float32
    assert 1 / 5 <= float(predicted["score"].min()) <= float(predicted["score"].max()) <= 1


# ---- score ----


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore")  # seqeval warns of every 0/0
def test_score_is_seqevals(data, lengths):
    from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    task = TokenClassification(labels=LABELS, scheme="IOB2")
    tags = [data.draw(st.lists(st.sampled_from(LABELS), min_size=n, max_size=n)) for n in lengths]
    predicted = [data.draw(st.lists(st.sampled_from(LABELS), min_size=n, max_size=n)) for n in lengths]
    records = [record(["w"] * n, t) for n, t in zip(lengths, tags, strict=True)]
    gold = [task._gold(one) for one in records]  # malformed gold is read as conlleval reads it
    scores = task.score([{"tags": t} for t in predicted], records, {})
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    assert scores["entity_precision"] == pytest.approx(precision_score(gold, predicted, zero_division=0))
    assert scores["entity_recall"] == pytest.approx(recall_score(gold, predicted, zero_division=0))
    assert scores["entity_f1"] == pytest.approx(f1_score(gold, predicted, zero_division=0))
    if any(tag.startswith("B-") for t in gold for tag in t):
        assert scores["strict_entity_f1"] == pytest.approx(f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0))
        rows = classification_report(gold, predicted, output_dict=True, zero_division=0)
        for kind in ("LOC", "PER"):
            if kind in rows:
                found = [scores[f"{kind}/{name}"] for name in ("precision", "recall", "f1", "support")]
                assert found == pytest.approx([rows[kind][name] for name in ("precision", "recall", "f1-score", "support")])
        assert scores["num_entities"] == rows["micro avg"]["support"]
        table = task.report([{"tags": t} for t in predicted], records).partition("95 %")[0]
        assert table.split() == classification_report(gold, predicted, digits=4, zero_division=0).split()
    assert all(np.isfinite(value) for value in scores.values())


def test_score_over_a_source(tokenizer, checkpoint, tmp_path):
    """From the file to the score, as an evaluation does it: windows included, each record once."""
    file = str(tiny.corpus(tmp_path / "train.conll", num=20))
    task = TokenClassification(train=file).resolve(tokenizer, checkpoint)
    items = build_items(task.records("train"), task, tokenizer, max_length=8, key="", cache=tmp_path / "cache")
    source = open_source(file, split="train")
    decoded = []
    for i, one in enumerate(source):
        features = [items.feature(int(number)) for number in np.flatnonzero(items.records == i)]
        decoded.append(task.decode(one, features, echo(task, features)))
    assert items.lengths.max() <= 8 < items.num_tokens / 20
    scores = task.score(decoded, source, {})
    assert scores["accuracy"] == scores["entity_f1"] == scores["strict_entity_f1"] == 1.0
    assert [one["words"] for one in decoded] == [one["0"] for one in source]


# ---- how tags are written ----


def resolved(tokenizer, checkpoint, file, sentences, **fields):
    return TokenClassification(train=write(file, sentences), **fields).resolve(tokenizer, checkpoint)


@pytest.mark.parametrize("written", ["B_PER I_PER O", "B:PER I:PER O", "PER-B PER-I O", "b-PER i-PER o", "(PER* *) *", "B-PER  E-PER  O "])
def test_near_schemes_are_chunks(tokenizer, checkpoint, tmp_path, written):
    """Read as chunks, whose labels are the canonical ones; so are the validation's."""
    sentence = (["anna", "bob", "lives"], written.split() if written[-1] != " " else written.split("  "))
    task = resolved(tokenizer, checkpoint, tmp_path / "train.conll", [sentence] * 3)
    assert task.labels == ("O", "B-PER", "I-PER")
    (features,) = task.features(record(*sentence), tokenizer, max_length=8)
    assert features.tokens["labels"].tolist() == [IGNORE, 1, 2, 0, IGNORE]
    assert task.score([{"tags": ["B-PER", "I-PER", "O"]}], [record(*sentence)], {})["entity_f1"] == 1.0


def test_bare_letters_are_chunks_of_one_type(tokenizer, checkpoint, tmp_path):
    sentence = (["anna", "bob", "lives"], ["B", "I", "O"])
    task = resolved(tokenizer, checkpoint, tmp_path / "train.conll", [sentence] * 3)
    assert (task.labels, task.scheme) == (("O", "B-ENTITY", "I-ENTITY"), "IOB2")
    (features,) = task.features(record(*sentence), tokenizer, max_length=8)
    assert features.tokens["labels"].tolist() == [IGNORE, 1, 2, 0, IGNORE]


def test_how_a_split_is_read_is_one_line(tokenizer, checkpoint, tmp_path):
    task = resolved(tokenizer, checkpoint, tmp_path / "a.conll", [(["anna", "bob", "lives"], ["B_PER", "I_PER", "O"])] * 3)
    look = task.look(task.records("train"), split="train")
    assert not look.warnings
    assert look.line == (
        f"{tmp_path}/a.conll: 3 sentences, 9 words; words in column 0, tags in column 1; IOB2, 1 types (PER); "
        "6 tags such as 'B_PER' are read as 'B-PER'; the first: anna/B_PER bob/I_PER lives/O"
    )
    task = resolved(tokenizer, checkpoint, tmp_path / "b.conll", [(["anna", "lives", "."], ["NNP", "VBZ", "."])] * 3)
    assert "; plain tags, no entity scores: 3 of them; " in task.look(task.records("train"), split="train").line


@pytest.mark.parametrize(
    ("sentences", "warning"),
    [
        ([(["anna", "is", "in"], ["PER", "O", "O"])] * 3, "for entities write B- and I- before their types"),
        ([(["anna", "is"], ["B-PER", "O"]), (["bob", "is"], ["B-per", "O"])], "differ in case alone are different ones: 'B-PER', 'B-per'"),
        ([(["anna"], ["NN"]), (["is"], ["VB"])] * 6, "every one of its 12 sentences has one word"),
        ([(["anna", "is", "bob"], ["B-PER", "O", "B-PER"])] * 9 + [(["bob"], ["B_PER"])], "1 tags such as 'B_PER' are read as 'B-PER'"),
    ],
)
def test_what_may_be_wrong_is_a_warning(tokenizer, checkpoint, tmp_path, sentences, warning):
    task = resolved(tokenizer, checkpoint, tmp_path / "train.conll", sentences)
    assert warning in " ".join(task.look(task.records("train"), split="train").warnings)


def test_blanks_make_no_other_tag(tokenizer, checkpoint, tmp_path):
    sentences = [(["anna", "is"], ["NOUN", "VERB "]), (["bob", "is"], [" NOUN", "VERB"])]
    assert resolved(tokenizer, checkpoint, tmp_path / "train.conll", sentences).labels == ("NOUN", "VERB")
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(record(*sentence)) + "\n" for sentence in sentences))
    task = TokenClassification(train=str(file)).resolve(tokenizer, checkpoint)
    assert task.labels == ("NOUN", "VERB")
    assert task.look(task.records("train"), split="train").warnings == (f"{file}: blanks around 2 tags are taken off",)


@pytest.mark.parametrize("missing", ["-", "_", "-100", -100])
@pytest.mark.parametrize("scheme", ["IOB2", "plain"])
def test_a_word_without_a_tag_is_neither_learnt_from_nor_scored(tokenizer, checkpoint, tmp_path, missing, scheme):
    tags = {"IOB2": ["B-PER", missing, "O", "B-LOC"], "plain": ["NN", missing, "VB", "NN"]}[scheme]
    file = tmp_path / "train.jsonl"
    file.write_text((json.dumps(record(["anna", "bob", "in", "paris"], tags)) + "\n") * 2)
    task = TokenClassification(train=str(file)).resolve(tokenizer, checkpoint) if isinstance(missing, str) else None
    task = task or TokenClassification(labels=("O", "B-PER", "I-PER", "B-LOC") if scheme == "IOB2" else ("NN", "VB"), scheme=scheme)
    assert not {"-", "_", "-100"} & set(task.labels)
    one = record(["anna", "bob", "in", "paris"], tags)
    features = task.features(one, tokenizer, max_length=16)
    assert features[0].tokens["labels"].tolist()[2] == IGNORE
    decoded = task.decode(one, features, echo(task, features))
    assert len(decoded["tags"]) == 4
    scores = task.score([decoded], [one], {})
    assert scores["accuracy"] == 1.0
    assert scores.get("num_entities", 2) == 2
    assert task.report([decoded], [one])
    json.dumps([dataclasses.asdict(section) for section in task.sections([decoded], [one])])
    assert task.score([decoded | {"tags": [decoded["tags"][0], decoded["tags"][3], *decoded["tags"][2:]]}], [one], {})["accuracy"] == 1.0


def test_tags_that_all_say_nothing_are_refused(tokenizer, checkpoint, tmp_path):
    with pytest.raises(UserError, match="no word has a tag"):
        resolved(tokenizer, checkpoint, tmp_path / "train.conll", [(["anna", "is"], ["_", "-"])] * 2, label_column="1")
    task = resolved(tokenizer, checkpoint, tmp_path / "train.conll", [(["anna", "is", "in"], ["B-PER", "_", "_"])] * 2)
    with pytest.raises(UserError, match="no word is tagged O, and 4 of 6 say nothing"):
        task.look(task.records("train"), split="train")


def test_digits_are_numbers_of_the_labels(tokenizer, checkpoint, tmp_path):
    sentences = [(["anna", "bob", "lives"], ["1", "2", "0"])] * 2
    task = resolved(tokenizer, checkpoint, tmp_path / "train.conll", sentences, labels=("O", "B-PER", "I-PER"))
    assert (task.scheme, task.labels) == ("IOB2", ("O", "B-PER", "I-PER"))
    assert task.features(record(*sentences[0]), tokenizer, max_length=8)[0].tokens["labels"].tolist() == [IGNORE, 1, 2, 0, IGNORE]
    assert resolved(tokenizer, checkpoint, tmp_path / "train.conll", sentences).labels == ("0", "1", "2")
    with pytest.raises(UserError, match=r"train.conll:1: tag number 2, but task.labels has 2 names"):
        resolved(tokenizer, checkpoint, tmp_path / "train.conll", sentences, labels=("O", "B-PER"))


def test_words_behind_their_numbers(tokenizer, checkpoint, tmp_path, caplog):
    file = tmp_path / "train.conll"
    file.write_text("1\tanna\tB-PER\n2\tlives\tO\n\n1\tin\tO\n2\tparis\tB-LOC\n")
    with caplog.at_level("INFO", logger="flaxft"):
        task = TokenClassification(train=str(file)).resolve(tokenizer, checkpoint)
    assert "words from column 1, tags from column 2 (column 0 counts)" in caplog.text
    assert [task._words(one) for one in task.records("train")] == [["anna", "lives"], ["in", "paris"]]


# ---- words of raw text ----


def test_raw_text_is_cut_as_the_training_words_were(tokenizer, checkpoint, tmp_path, caplog):
    sentences = [("anna left the U.S. for AL-AIN , with Jean-Luc .".split(), ["B-PER", *["O"] * 2, "B-LOC", "O", "B-LOC", *["O"] * 2, "B-PER", "O"])] * 3
    with caplog.at_level("INFO", logger="flaxft"):
        task = resolved(tokenizer, checkpoint, tmp_path / "train.conll", sentences)
    assert task.words == "punctuation"
    assert "raw text will be cut at blanks, punctuation around words apart (task.words=punctuation), which gives 100.0 % of the words" in caplog.text
    joined, written = " ".join(sentences[0][0]), "Anna left the U.S. for AL-AIN, with Jean-Luc."
    for text in (joined, written):
        raw, cut = (task.features(one, tokenizer, max_length=64) for one in ({"text": text}, record(sentences[0][0])))
        assert raw[0].tokens["input_ids"].tolist() == cut[0].tokens["input_ids"].tolist()
        decoded = task.decode({"text": text}, raw, echo(task, raw))
        assert [word.lower() for word in decoded["words"]] == [word.lower() for word in sentences[0][0]]
        assert decoded["text"] == text
    own = dataclasses.replace(task, words="tokenizer").features({"text": written}, tokenizer, max_length=64)[0].host["spans"].tolist()
    assert [written[start:end] for start, end in own][3:7] == ["U", ".", "S", "."]
    assert TokenClassification(train=task.train, words="blanks").resolve(tokenizer, checkpoint).words == "blanks"
    with pytest.raises(UserError, match=r"task.words is 'blank', allowed are .*did you mean 'blanks'"):
        TokenClassification(train=task.train, words="blank").resolve(tokenizer, checkpoint)


@pytest.mark.parametrize("how", [None, "punctuation", "pattern", "characters"])
@pytest.mark.parametrize("text", [*TEXTS, "Jose\u0301", "in Orle\u0301ans e\u0301\u0301.", "\u0939\u093f\u0928\u094d\u0926\u0940", "ok \U0001f44d\U0001f3fd"])
def test_no_entity_begins_or_ends_with_a_blank_or_without_its_mark(tokenizer, text, how):
    task = dataclasses.replace(NER, words=how)
    features = task.features({"text": text}, tokenizer, max_length=64)
    predictions = [{"label": np.where(f.host["owned"] >= 0, 3, 0), "score": np.ones(len(f.host["owned"]))} for f in features]
    decoded = task.decode({"text": text}, features, predictions)
    check_offsets(decoded)
    assert decoded["entities"]
    for entity in decoded["entities"]:
        assert entity["text"].strip() == entity["text"]
        assert entity["end"] == len(text) or text[entity["end"]] not in "\u0301\u093f\u094d\u0940\U0001f3fd"


@pytest.mark.parametrize("column", ["", "xpos", "3", "-7", "4"])
def test_conllu_records(tokenizer, checkpoint, tmp_path, column):
    file = tmp_path / "train.conllu"
    rows = ["1-2 al _ _ _ _ _ _ _ _", "1 a a ADP IN _ 2 case _ _", "2 el el DET _ _ 0 root _ _", "3 mar mar NOUN NN _ 0 root _ _"]
    file.write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    task = TokenClassification(train=str(file), label_column=column).resolve(tokenizer, checkpoint)
    assert task.labels == (("IN", "NN") if column in ("xpos", "4") else ("ADP", "DET", "NOUN"))
    (one,) = task.records("train")
    assert (task.features(one, tokenizer, max_length=16)[0].tokens["labels"] >= 0).sum() == (2 if column in ("xpos", "4") else 3)


# ---- spans of characters, and a word a row ----

SPANNED = [
    {"id": 1, "text": "Anna's house, in the U.S.!", "label": [[0, 4, "PER"], [21, 25, "LOC"]]},
    {"id": 2, "text": "in Jose\u0301 Oslo.", "label": [[3, 8, "PER"], [9, 13, "LOC"]]},
]


@pytest.mark.parametrize("fields", [{}, {"text_columns": ("text",), "label_column": "label"}])
def test_spans_of_characters_are_words_and_tags(tokenizer, checkpoint, tmp_path, fields):
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in SPANNED))
    task = TokenClassification(train=str(file), validation=str(file), **fields).resolve(tokenizer, checkpoint)
    assert (task.labels, task.scheme, task.words) == (LABELS, "IOB2", "clitics")
    source = task.records("train")
    assert "words and tags from spans of characters; IOB2, 2 types (LOC, PER)" in task.look(source, split="train").line
    for one, raw in zip(source, SPANNED, strict=True):
        features = task.features(one, tokenizer, max_length=64)
        decoded = task.decode(one, features, echo(task, features))
        assert decoded["text"] == raw["text"]
        assert [[entity["start"], entity["end"], entity["type"]] for entity in decoded["entities"]] == raw["label"]
        assert task.score([decoded], [one], {})["entity_f1"] == 1.0
        json.dumps([dataclasses.asdict(section) for section in task.sections([decoded], [one])])
        without = task.features({"text": raw["text"]}, tokenizer, max_length=64)  # prediction cuts the text as training did
        assert without[0].tokens["input_ids"].tolist() == features[0].tokens["input_ids"].tolist()
        assert task.decode({"text": raw["text"]}, without, echo(task, without))["words"] == decoded["words"]


def test_what_spans_did_not_fit_is_a_warning(tokenizer, checkpoint, tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps({"text": "Annas house", "entities": [[0, 4, "PER"]]}) + "\n")
    task = TokenClassification(train=str(file)).resolve(tokenizer, checkpoint)
    assert task.look(task.records("train"), split="train").warnings == (f"{file}: 1 of 1 spans cut a word and were widened to whole words",)
    file.write_text(json.dumps({"text": "Annas house", "entities": [[0, 40, "PER"]]}) + "\n")
    with pytest.raises(UserError, match=r"train.jsonl:1: the span \[0, 40\] of 'PER' is beyond its text of 11 characters"):
        TokenClassification(train=str(file)).resolve(tokenizer, checkpoint)


def test_a_word_a_row(tokenizer, checkpoint, tmp_path):
    file = tmp_path / "train.csv"
    file.write_text("Sentence #,Word,POS,Tag\nSentence: 1,anna,NNP,B-PER\n,lives,VBZ,O\nSentence: 2,in,IN,O\n,paris,NNP,B-LOC\n")
    task = TokenClassification(train=str(file)).resolve(tokenizer, checkpoint)
    assert task.labels == LABELS
    assert [task._words(one) for one in task.records("train")] == [["anna", "lives"], ["in", "paris"]]
    assert TokenClassification(train=str(file), label_column="POS").resolve(tokenizer, checkpoint).labels == ("IN", "NNP", "VBZ")


@pytest.mark.parametrize("file", ["a.jsonl", "a.csv"])
def test_an_empty_tag_is_refused_before_a_scheme_is_guessed(tokenizer, checkpoint, tmp_path, file):
    rows = {"a.jsonl": '{"tokens": ["anna", "ran"], "tags": ["", "B-PER"]}\n', "a.csv": "sentence_id,word,tag\n1,anna,\n1,ran,B-PER\n"}
    (tmp_path / file).write_text(rows[file])
    with pytest.raises(UserError, match="the tag of word 1 is empty"):
        TokenClassification(train=str(tmp_path / file)).resolve(tokenizer, checkpoint)


def test_numbers_of_tags_may_be_written_with_a_fraction_of_zero(tokenizer, checkpoint, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"tokens": ["anna", "ran", "on"], "tags": [1.0, 0.0, -100.0]}\n')
    task = TokenClassification(train=str(tmp_path / "a.jsonl"), labels=("O", "B-PER", "I-PER")).resolve(tokenizer, checkpoint)
    assert task.features(task.records("train")[0], tokenizer, max_length=16)[0].tokens["labels"].tolist().count(1) == 1
