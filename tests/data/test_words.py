"""Raw text is cut into words as people cut it: each way, marks that belong to the letter before them, and the choice of a way by a data set's words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import BertPreTokenizer

from flaxft.data import words

FAST = settings(max_examples=150, deadline=None, derandomize=True)


def own(text):
    return [place for _, place in BertPreTokenizer().pre_tokenize_str(text)]


def cut(text, how):
    return [text[start:end] for start, end in words.split(text, how)]


@pytest.mark.parametrize(
    ("text", "how", "found"),
    [
        ("Anna left the U.S. for AL-AIN, with Jean-Luc.", "punctuation", "Anna|left|the|U.S.|for|AL-AIN|,|with|Jean-Luc|."),
        ("Mr. Smith (No. 5) said: \"It's 12:30!\"", "punctuation", "Mr.|Smith|(|No.|5|)|said|:|\"|It's|12:30|!|\""),
        ("J. Smith's dogs don't bark", "clitics", "J.|Smith|'s|dogs|don't|bark"),
        ("J. Smith's dogs don't bark", "penn", "J.|Smith|'s|dogs|do|n't|bark"),
        ("c-fos (IL-4) isn't", "pattern", "c|-|fos|(|IL|-|4|)|isn|'|t"),
        ("RT @user: see #tag http://t.co/a?b=1, :-) ok...", "punctuation", "RT|@user|:|see|#tag|http://t.co/a?b=1|,|:-)|ok|..."),
        ("me@x.org paid $5.50 (10,000) -5 2-1", "punctuation", "me@x.org|paid|$|5.50|(|10,000|)|-5|2-1"),
        ("\u201cWir\u2019s\u201d \u2013 \u00bbja\u00ab", "punctuation", "\u201c|Wir\u2019s|\u201d|\u2013|\u00bb|ja|\u00ab"),
        ("Jose\u0301, e\u0301te\u0301.", "punctuation", "Jose\u0301|,|e\u0301te\u0301|."),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \u0939\u0948\u0964", "punctuation", "\u0939\u093f\u0928\u094d\u0926\u0940|\u0939\u0948|\u0964"),
        ("ok\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f600\U0001f44d\U0001f3fd!", "punctuation",
         "ok|\U0001f468\u200d\U0001f469\u200d\U0001f467|\U0001f600|\U0001f44d\U0001f3fd|!"),
        ("\u6771\u4eac\u3078 go\u3002", "punctuation", "\u6771|\u4eac|\u3078|go|\u3002"),
        ("\u6771\u4eac go", "characters", "\u6771|\u4eac|g|o"),
        ("\u0e01\u0e34\u0e19 x", "punctuation", "\u0e01\u0e34|\u0e19|x"),
        ("a b,c  d.\n", "blanks", "a|b,c|d."),
        ("Anna 's house , in the U.S. , is n't big .", "punctuation", "Anna|'s|house|,|in|the|U.S.|,|is|n't|big|."),  # it was cut already
        ("", "punctuation", ""),
        (" \u200b\n", "pattern", ""),
    ],
)  # fmt: skip
def test_split(text, how, found):
    assert cut(text, how) == [word for word in found.split("|") if word]


@FAST
@given(st.text(st.sampled_from("ab 1.,-'\"(@#:\u0301\u093f\u200d\u6771\U0001f600\u00a0\u201c\n"), max_size=30), st.sampled_from(sorted(words.PATTERNS)))
def test_every_character_is_in_one_word(text, how):
    """But for blanks; no word begins or ends with one, and none begins with a mark whose letter is in the word before it."""
    places = words.split(text, how)
    covered = [i for start, end in places for i in range(start, end)]
    assert covered == sorted(set(covered))
    assert {i for i, char in enumerate(words.skeleton(text)) if not char.isspace()} <= set(covered)
    for start, end in places:
        assert text[start:end].strip() == text[start:end] != ""
        assert start == 0 or not words.is_mark(text[start]) or text[start - 1].isspace()


SENTENCES = {
    "punctuation": ["Anna left the U.S. for AL-AIN , with Jean-Luc .", "I don't know what it's ( yet ) ."],
    "clitics": ["Anna 's dog left AL-AIN .", "It 's Jean-Luc 's ; we don't know ."],
    "penn": ["Anna 's dog left AL-AIN .", "It 's Jean-Luc 's ; we do n't know , they ca n't ."],
    "blanks": ["Anna left the house.", "It's Jean-Luc's; we don't know, (yet)."],
    "pattern": ["c - fos and IL - 4 ( high ) .", "the c - jun / AP - 1 site"],
    "characters": ["\u6771 \u4eac \u3078 \u3002", "\u5927 \u962a \u3068 g o"],
}


@pytest.mark.parametrize("how", SENTENCES)
def test_the_way_that_gives_the_words_is_found(how):
    found, share = words.choose([sentence.split() for sentence in SENTENCES[how]], tokenizer=own)
    assert (found, share > 0.9) == (how, True)
    text = words.glued(SENTENCES[how][0].split(), hyphens=how == "pattern")[0]
    assert cut(text, found) == SENTENCES[how][0].split()


def test_half_a_surrogate_pair_stays_for_the_tokenizer_to_refuse():
    assert cut("a \ud800 b", "punctuation") == ["a", "\ud800", "b"]


def test_without_punctuation_the_likeliest_way():
    assert words.choose([["Anna", "ran"], ["a", "b"]], tokenizer=own)[0] == "punctuation"


def test_a_text_as_people_write_it():
    written = 'He said , " It is the U.S. ( now ) ! " of Anna \'s \u6771 \u4eac \u3002'.split()
    text, places = words.glued(written, hyphens=False)
    assert text == "He said, \"It is the U.S. (now)!\" of Anna's \u6771\u4eac\u3002"
    assert [text[start:end] for start, end in places] == written


def test_marks_belong_to_the_letter_before_them():
    assert words.with_marks("e\u0301 x", 1) == 2
    assert words.with_marks("ab", 1) == 1
    assert words.with_marks("", 0) == 0
