"""Which tokens of a long text are read, in which examples."""

import itertools

import numpy as np
import pytest

from flaxft.data.texts import HEAD, HEAD_TAIL, WINDOWS, check_long_text, reads_more, text_examples, token_ranges
from flaxft.errors import UserError
from flaxft.tasks.regression import Regression


def runs(*examples):
    return [tuple(range(*run) for run in example) for example in examples]


RANGES = [  # of n tokens, in examples of c
    (HEAD, 0, 4, runs([(0, 0)])),
    (HEAD, 4, 4, runs([(0, 4)])),
    (HEAD, 5, 4, runs([(0, 4)])),
    (HEAD_TAIL, 4, 4, runs([(0, 4)])),
    (HEAD_TAIL, 5, 4, runs([(0, 2), (3, 5)])),
    (HEAD_TAIL, 9, 5, runs([(0, 3), (7, 9)])),
    (HEAD_TAIL, 9, 1, runs([(0, 1), (9, 9)])),
    (WINDOWS, 0, 4, runs([(0, 0)])),
    (WINDOWS, 4, 4, runs([(0, 4)])),
    (WINDOWS, 5, 4, runs([(0, 4)], [(1, 5)])),
    (WINDOWS, 7, 4, runs([(0, 4)], [(3, 7)])),
    (WINDOWS, 8, 4, runs([(0, 4)], [(2, 6)], [(4, 8)])),
    (WINDOWS, 10, 4, runs([(0, 4)], [(3, 7)], [(6, 10)])),
    (WINDOWS, 3, 1, runs([(0, 1)], [(1, 2)], [(2, 3)])),
]


@pytest.mark.parametrize(("long_text", "num_tokens", "capacity", "wanted"), RANGES)
def test_the_tokens_of_each_example(long_text, num_tokens, capacity, wanted):
    assert token_ranges(num_tokens, capacity, long_text=long_text) == wanted


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 16])
def test_windows_are_full_cover_the_text_and_overlap(capacity):
    for num_tokens in range(1, 100):
        windows = [window for (window,) in token_ranges(num_tokens, capacity, long_text=WINDOWS)]
        assert {len(window) for window in windows} == {min(capacity, num_tokens)}
        assert set().union(*windows) == set(range(num_tokens))
        assert all(left.stop - right.start >= capacity // 4 for left, right in itertools.pairwise(windows))
        assert len(windows) <= 1 + -(-max(0, num_tokens - capacity) // (capacity - capacity // 4))


class Letters:
    """A tokenizer of one token a letter."""

    num_special = 2

    def text(self, text):
        ids = np.asarray([ord(letter) for letter in text], np.int32)
        return ids, ids, ids

    def wrap(self, ids):
        return np.concatenate([[1], ids, [2]]).astype(np.int32)


def test_head_tail_keeps_the_first_and_the_last_tokens():
    (tokens,), num_cut = text_examples(["abcdefghij"], Letters(), max_length=7, long_text=HEAD_TAIL)
    assert "".join(map(chr, tokens["input_ids"][1:-1])) == "abcij" and num_cut == 5


def test_windows_cut_nothing():
    examples, num_cut = text_examples(["abcdefghij"], Letters(), max_length=6, long_text=WINDOWS)
    assert ["".join(map(chr, tokens["input_ids"][1:-1])) for tokens in examples] == ["abcd", "defg", "ghij"] and num_cut == 0
    assert all(tokens["input_ids"].dtype == np.int32 for tokens in examples)


def test_pairs_are_cut_at_their_ends_alone():
    with pytest.raises(UserError, match="'windows', but pairs of texts are cut at their ends; leave it at head, or give one column of text"):
        text_examples(["a", "b"], Letters(), max_length=6, long_text=WINDOWS)
    with pytest.raises(UserError, match=r"task\.long_text is 'window', expected one of head, head_tail, windows; did you mean 'windows'"):
        check_long_text("window", ["text"])
    check_long_text(HEAD, ["premise", "hypothesis"])


def test_who_can_read_more():
    assert reads_more(Regression()) and reads_more(Regression(text_columns=("body",)))
    assert not reads_more(Regression(long_text=HEAD_TAIL)) and not reads_more(Regression(text_columns=("a", "b"))) and not reads_more(object())
