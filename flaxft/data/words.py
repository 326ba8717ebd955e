"""Words of raw text: the known ways to cut a text, and which of them gives the words that a data set has.

A way is a regular expression over the text's skeleton, a string as long as the text whose letters are classes: what is a letter, a mark, a sign of a script
without blanks. So marks that belong to the letter before them (accents of their own, vowel signs, joiners of emoji) are never cut off.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Place = tuple[int, int]  # characters of a word
Splitter = Callable[[str], list[Place]]

# Classes of the skeleton. ASCII stands for itself, other letters and digits are "x", quotes and dashes their ASCII likes.
SIGN, MARK, POINT, SYMBOL, JOINER = "\x01", "\x02", "\x03", "\x04", "\x05"  # of a script without blanks; combining; punctuation; emoji; U+200D
WITHOUT_BLANKS = (  # ranges of scripts that put no blanks between words
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D), (0x20000, 0x323AF),
)  # fmt: skip
LIKES = {
    "’": "'", "‘": "'", "ʼ": "'", "‐": "-", "‑": "-", "–": "-",
    "\u200b": " ", "\ufeff": " ", "\u200d": JOINER, "\u200c": MARK, "\u00ad": MARK, "々": SIGN, "ー": SIGN,
}  # fmt: skip

M = f"[{MARK}{JOINER}]"
W = rf"[A-Za-z0-9_x{MARK}{JOINER}]"
UNIT = rf"{SIGN}{M}*|{SYMBOL}(?:{MARK}*{JOINER}{SYMBOL})*{M}*"  # what is a word of its own everywhere
URL = rf"(?:https?://|www\.)[^\s{SIGN}-{JOINER}\"<>]*[^\s{SIGN}-{JOINER}\"<>.,;:!?)'\]]|{W}[{MARK}\w.+-]*@[\w-]+\.[\w.-]*\w"
EMOTICON = r"(?<![^\s])(?:[<>]?[:;=8][-o*']?[)\](\[dDpP/\\|}{@*]|<3)(?![^\s])"
NUMBER = r"(?<![^\s(])[-+]?\d+(?:[.,:/]\d+)+%?|(?<![^\s(])[-+]\d+(?![\w])"
INNER = rf"(?:[-'.&/:·@+]+{W}+|,(?<=\d,)\d+)"
ABBREVIATION = r"(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Corp|Co|Ltd|Bros|vs|etc|No|Nos|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Rev|Hon|Mt|Ft|Ave|Blvd|bzw|usw|ca|Nr)\."
WORD = rf"{ABBREVIATION}(?!\w)|{W}+(?:\.{W}+)+\.(?![\w])|(?<!\w)[A-Z]\.(?!\w)|[@#]?{W}+{INNER}*"
OTHER = rf"([^\s\w{SIGN}{MARK}{SYMBOL}{JOINER}]){M}*(?:\1{M}*)*|[^\s]{M}*"
CLITIC = r"(?i:'(?:s|m|d|re|ve|ll))"
# Letters after which the clitic begins, and what is left of the word before it.
PENN = rf"(?i:{W}+?(?=n't(?!\w)))|(?i:n't(?!\w))"

PATTERNS = {
    "blanks": r"\S+",
    "punctuation": rf"{UNIT}|{URL}|{EMOTICON}|{NUMBER}|{WORD}|{OTHER}",
    "clitics": rf"{UNIT}|{URL}|{EMOTICON}|{NUMBER}|{CLITIC}(?!\w)|{W}+(?:(?!{CLITIC}(?!\w)){INNER})*(?={CLITIC}(?!\w))|{WORD}|{OTHER}",
    "penn": (
        rf"{UNIT}|{URL}|{EMOTICON}|{NUMBER}|{PENN}|{CLITIC}(?!\w)|{W}+(?:(?!{CLITIC}(?!\w)){INNER})*(?={CLITIC}(?!\w))|{WORD}|{OTHER}"
    ),
    "pattern": rf"{UNIT}|{W}+|[^\s]{M}*",
    "characters": rf"{UNIT}|[^\s]{M}*",
}
COMPILED = {name: re.compile(pattern, re.ASCII) for name, pattern in PATTERNS.items()}
SPACED = re.compile(r"(?:^|\s)[.,;:!?](?:\s|$)")
ATTACHED = re.compile(rf"[^\s][,;:!?)](?:\s|$)|[a-z0-9x]\.(?:\s|$)|[(\"][^\s]|[{SIGN}{POINT}]", re.ASCII)
SAID = {
    "blanks": "at blanks",
    "punctuation": "at blanks, punctuation around words apart",
    "clitics": "at blanks, punctuation around words and 's, 'm, 'll apart",
    "penn": "at blanks, punctuation around words, 's, 'll and n't apart, as in the Penn Treebank",
    "pattern": "into runs of letters and digits, every other character apart",
    "characters": "into single characters",
    "tokenizer": "as the tokenizer does before it looks for pieces",
}
NAMES = tuple(SAID)
SAMPLE = 500  # sentences that are looked at


class _Skeleton(dict[int, str]):
    """Code point -> class; grows as they come up."""

    def __missing__(self, point: int) -> str:
        self[point] = found = _class(chr(point))
        return found


def _class(char: str) -> str:
    point, category = ord(char), unicodedata.category(char)
    if char in LIKES:
        return LIKES[char]
    if point < 128:
        return " " if category == "Cc" else char
    if category[0] == "M" or 0x1F3FB <= point <= 0x1F3FF or 0xFE00 <= point <= 0xFE0F or 0xE0000 <= point <= 0xE01EF:
        return MARK
    if any(first <= point <= last for first, last in WITHOUT_BLANKS):
        return SIGN if category[0] in "LN" else POINT
    if category[0] in "LN":
        return "x"
    if category[0] in "ZC" and category != "Cs":  # half of a surrogate pair stays, for the tokenizer to refuse
        return MARK if category == "Cf" else " "
    if category in ("Pi", "Pf") or char in "„‟":
        return '"'
    return SYMBOL if category in ("So", "Sk") else POINT


_CLASSES = _Skeleton()


def skeleton(text: str) -> str:
    """As many characters as the text has, each a class."""
    return text.translate(_CLASSES)


def is_mark(char: str) -> bool:
    """Whether a character belongs to the one before it."""
    return _CLASSES[ord(char)] in (MARK, JOINER)


def with_marks(text: str, end: int) -> int:
    """Where a piece of text that ends at `end` ends with the marks that belong to its last character."""
    while 0 < end < len(text) and is_mark(text[end]):
        end += 1
    return end


def cover_marks(text: str, offsets: np.ndarray) -> np.ndarray:
    """Offsets of pieces, int (n, 2), each up to the end of the marks behind it, which a normaliser that strips accents leaves out."""
    if text.isascii() or not len(offsets):
        return offsets
    covered = offsets.copy()
    for i, end in enumerate(offsets[:, 1].tolist()):
        if end < len(text) and is_mark(text[end]):
            covered[i, 1] = with_marks(text, end)
    return covered


def split(text: str, how: str) -> list[Place]:
    """The places of a text's words, in order. `how` is one of PATTERNS. A text that was cut already, blanks around all punctuation, is cut at its blanks."""
    classes = skeleton(text)
    if how not in ("blanks", "characters") and SPACED.search(classes) and not ATTACHED.search(classes):
        how = "blanks"
    places = [match.span() for match in COMPILED[how].finditer(classes)]
    return places if text.isascii() else _with_their_marks(classes, places)


def _with_their_marks(classes: str, places: Sequence[Place]) -> list[Place]:
    """The places, each up to the end of the marks behind it."""
    found: list[Place] = []
    for start, end in places:
        if found and found[-1][1] > start:
            start = found[-1][1]
        while end < len(classes) and classes[end] in (MARK, JOINER):
            end += 1
        if start < end:
            found.append((start, end))
    return found


# ---- which way gives the words of a data set ------------------------------------------------------------------------------------------------------

_CLOSING = frozenset(".,;:!?)]}%…。，、；：？！）」』")
_OPENING = frozenset("([{$£€#（「『")
_CLITIC_WORD = re.compile(r"(?i)['’](?:s|m|d|re|ve|ll)|n['’]t")


def glued(words: Sequence[str], *, hyphens: bool) -> tuple[str, list[Place]]:
    """A text as people write it whose words these are, and their places in it: no blank before a full stop, or between two signs of a script without blanks.

    hyphens: whether one that is a word of its own stood without blanks too.
    """
    parts: list[str] = []
    places: list[Place] = []
    end, tight, quoted = 0, True, False
    for number, word in enumerate(words):
        closes = (word[0] in _CLOSING and len(set(word)) == 1) or bool(_CLITIC_WORD.fullmatch(word)) or (word in ('"', "''") and quoted)
        is_sign = bool(parts) and skeleton(word[0]) in (SIGN, POINT) and skeleton(parts[-1][-1]) in (SIGN, POINT)
        is_hyphen = hyphens and word in ("-", "/") and 0 < number < len(words) - 1
        if not (tight or closes or is_sign or is_hyphen):
            parts.append(" ")
            end += 1
        places.append((end, end + len(word)))
        parts.append(word)
        end += len(word)
        opens = word in _OPENING or word == "``" or (word == '"' and not quoted)
        quoted = quoted ^ (word == '"')
        tight = opens or is_hyphen
    return "".join(parts), places


def choose(sentences: Iterable[Sequence[str]], *, tokenizer: Splitter) -> tuple[str, float]:
    """The way that gives these words from the text that they make, and the share of words that it gives; the first of several equals.

    `tokenizer` is the way of the model's own tokenizer.
    """
    sample = [[word for word in words if word.strip()] for words in sentences]
    flat = [word for words in sample for word in words]
    num_inner = sum("-" in word[1:-1] for word in flat)
    hyphens = sum(word in ("-", "/") for word in flat) > num_inner
    texts = [glued(words, hyphens=hyphens) for words in sample if words]
    order = ("punctuation", "clitics", "penn", "pattern", "blanks", "characters")  # the likelier first: where no word has punctuation, all are equals
    ways: dict[str, Splitter] = {name: functools.partial(_matches, name=name) for name in order}
    scores = {name: _share(way, texts) for name, way in (ways | {"tokenizer": tokenizer}).items()}
    best = max(scores, key=lambda name: scores[name])
    if scores["characters"] > scores[best] - 0.01 and 2 * sum(skeleton(word[0]) == SIGN for word in flat) > len(flat):
        best = "characters"  # says more of foreign words than runs of letters do
    return best, scores[best]


def _matches(text: str, *, name: str) -> list[Place]:
    return [match.span() for match in COMPILED[name].finditer(skeleton(text))]


def _share(way: Splitter, texts: Sequence[tuple[str, list[Place]]]) -> float:
    """F1 of the places of words."""
    right = num_found = num_wanted = 0
    for text, wanted in texts:
        found = way(text)
        right += len(set(found) & set(wanted))
        num_found, num_wanted = num_found + len(found), num_wanted + len(wanted)
    return 2 * right / max(num_found + num_wanted, 1)
