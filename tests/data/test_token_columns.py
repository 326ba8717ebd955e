"""Which columns of a column file are words and tags, and what is no column file."""

from __future__ import annotations

import itertools

import pytest

from flaxft.data.base import Records
from flaxft.data.token_columns import Oddities, choose
from flaxft.errors import UserError

SENTENCES = ["Anna_B-PER Berg_I-PER lives_O in_O Oslo_B-LOC ._O", "Rome_B-LOC is_O old_O ._O", "Ida_B-PER sleeps_O ._O"]


def source(text: str, *, name: str = "train.conll"):
    """Sentences between blank lines, cells between blanks."""
    sentences = [[line.split("\t") for line in block.splitlines()] for block in text.strip("\n").split("\n\n")]
    records = [{str(i): list(cells) for i, cells in enumerate(zip(*lines, strict=True))} for lines in sentences]
    return Records(name, "", records, range(1, len(records) + 1), where_format=":{}")


def made(line, *, times: int = 1):
    """SENTENCES, each word's line made by `line(number in the file, number in the sentence, sentence, word, tag)`."""
    counter = itertools.count(1)
    blocks = []
    for number, sentence in enumerate(SENTENCES * times):
        pairs = [pair.rsplit("_", 1) for pair in sentence.split()]
        blocks.append("\n".join("\t".join(line(next(counter), i, number, word, tag)) for i, (word, tag) in enumerate(pairs, 1)))
    return source("\n\n".join(blocks))


COUNTED = {
    "1, 2, 3 in each sentence": lambda n, i, s, w, t: (str(i), w, t),
    "0, 1, 2 in each sentence": lambda n, i, s, w, t: (str(i - 1), w, t),
    "on through the file": lambda n, i, s, w, t: (str(n), w, t),
    "the sentence's number": lambda n, i, s, w, t: (str(s), w, t),
    "the sentence's name": lambda n, i, s, w, t: (f"doc-{s}", w, t),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_first_column_that_counts_holds_no_words(name):
    found = choose(made(COUNTED[name]))
    assert (found.words, found.tags) == ("1", "2")
    assert found.note.startswith("words from column 1, tags from column 2 (column 0 ")


def test_both_numbers_stand_before_the_words():
    found = choose(made(lambda n, i, s, w, t: (f"doc-{s}", str(i), w, t)))
    assert (found.words, found.tags) == ("2", "3")


def test_numbers_without_words_are_refused():
    with pytest.raises(UserError, match=r"train.conll:1: column 0 counts the words, and beside it there are no two columns"):
        choose(made(lambda n, i, s, w, t: (str(i), t)))


def test_the_first_and_the_last_column():
    found = choose(made(lambda n, i, s, w, t: (w, "NN", t)))
    assert (found.words, found.tags, found.note) == ("0", "2", "")
    assert choose(Records("a", "", [{"tokens": ["a"], "tags": ["O"]}], [1], where_format=":{}")) is None


def test_numbers_can_be_words():
    """A file of numbers that do not count: scores, years."""
    found = choose(source("1984\tB-YEAR\n7\tO\n\n12\tO\n3\tO"))
    assert (found.words, found.note) == ("0", "")


def test_tags_in_the_first_column():
    found = choose(made(lambda n, i, s, w, t: (t, w)))
    assert (found.words, found.tags) == ("1", "0")
    found = choose(made(lambda n, i, s, w, t: ("VERB" if w.islower() else "NOUN", "x", f"{w}{n}"), times=3))  # parts of speech, by their number
    assert (found.words, found.tags) == ("2", "0")


@pytest.mark.parametrize("filler", ["_", "-", "O", "SpaceAfter=No"])
def test_a_last_column_of_fillers_holds_no_tags(filler):
    found = choose(made(lambda n, i, s, w, t: (w, t, filler)))
    assert (found.words, found.tags) == ("0", "1")


def test_what_the_user_names_stays():
    counted = made(COUNTED["1, 2, 3 in each sentence"])
    assert choose(counted, words="0", tags="1")[:2] == ("0", "1")
    assert choose(counted, words="1")[:2] == ("1", "2")


REFUSED = {
    "annotations of brat": ("T1\tPER 0 9\tMara Lind\nT2\tORG 20 31\tHolt Motors\nT3\tLOC 35 41\tBergen", "holds texts"),
    "running text": ("Mara Lind works for Holt Motors today .\nThe office moved to Turku last year .\nNobody there had heard of it before !", "running text"),
    "short lines": ("red house\nblue car\ngreen tree\nold dog\nnew cat\nbig bird\nhot soup", "nearly as many tags as words (7 for 7"),
    "coreference": ("a\t(12\nb\t-\nc\t12)\n\nd\t(3)|(4)\ne\t-", "coreference chains"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_column_file_is_refused(name):
    text, message = REFUSED[name]
    with pytest.raises(UserError) as error:
        choose(source(text if "\t" in text else text.replace(" ", "\t")))
    assert message in str(error.value)
    assert str(error.value).startswith("train.conll:1: ")


def odd(*sentences: str) -> list[str]:
    found = Oddities()
    for sentence in sentences:
        found.add(sentence.split())
    return found.warnings()


def test_odd_sentences():
    assert "every one of its 12 sentences has one word" in odd(*["a"] * 12)[0]
    assert "all its 600 words are one sentence" in odd("a " * 600)[0]
    assert "every word begins with 'en:'" in odd("en:a en:b", *["en:c en:d"] * 12)[0]
    assert not odd("en:a b", *["en:c en:d"] * 12)
    assert not odd("a", "b", "a b")


@pytest.mark.parametrize("name", ["1, 2, 3 in each sentence", "0, 1, 2 in each sentence", "on through the file"])
def test_a_last_column_that_counts_holds_no_tags(name):
    def line(*of: object) -> tuple[str, str, str]:
        number, word, tag = COUNTED[name](*of)
        return word, tag, number

    found = choose(made(line))
    assert (found.words, found.tags, found.note) == ("0", "1", "words from column 0, tags from column 1 (column 2 counts)")
