"""Tag schemes: which one some sentences use, and the way from each to IOB2.

A tag is `O`, or a letter, a dash and a type: `B-PER`. The type may hold dashes itself (`B-creative-work`). The letter says the token's place in its
chunk. Any order of tags has a reading, that of conlleval (https://www.clips.uantwerpen.be/conll2000/chunking/conlleval.txt): a letter that should
continue a chunk but finds none of its type open begins one. So conversion never fails; `count_malformed` says how many tags needed that kindness.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from flaxft.errors import UserError

# Letters for a chunk's first token, the tokens between, its last one, and its only one. The order is that of preference in `detect`.
# IOB1 (Ramshaw & Marcus 1995) says B only for the first token of a chunk that directly follows a chunk of its own type.
LETTERS = {"IOB2": "BIIB", "IOB1": "BIII", "IOBES": "BIES", "BMES": "BMES", "BILOU": "BILU"}
PLAIN = "plain"  # tags without chunks: parts of speech
MEND = "mend the tag, or name the scheme in task.scheme"
_CLOSING = frozenset("ESLU")  # after these letters no chunk is open


def detect(sentences: Iterable[Sequence[str]], *, where: Callable[[int], str] = lambda index: f"sentence {index + 1}") -> str:
    """The scheme of all sentences together: "IOB1", "IOB2", "IOBES", "BMES", "BILOU", or "plain" where no tag has a chunk letter.

    The first scheme of `LETTERS` that has every letter seen. IOB1 and IOB2 share their letters: it is IOB2 if every chunk starts with B, else IOB1 if
    B stands only between neighbours of one type, else malformed IOB2. Only `O`, or nothing at all, is IOB2. IOE1 and IOE2 come out as IOBES and
    convert rightly, each single E and each I at a chunk's start counted as malformed.

    Raises UserError, with `where(index of the sentence)`, at the first tag that no scheme explains together with the tags before it, and for tags
    that carry the letter at the end (`PER-B`).
    """
    first_seen: dict[str, int] = {}
    pairs: set[tuple[str, str]] = set()  # neighbours: all that tells IOB1 from IOB2, in small space however large the data
    for index, tags in enumerate(sentences):
        pairs.update(zip(["O", *tags], tags, strict=False))
        for tag in tags:
            first_seen.setdefault(tag, index)

    known = set("".join(LETTERS.values()))
    if not any(tag != "O" and _is_valid(tag, known) for tag in first_seen):
        ends = {letter: {tag[:-2] for tag in first_seen if tag.endswith(f"-{letter}")} for letter in "BI"}
        for kind in sorted(ends["B"] & ends["I"]):
            place = where(first_seen[f"{kind}-B"])
            raise UserError(f"{place}: tag '{kind}-B' has its letter at the end; write it first, as in 'B-{kind}'")
        return "IOB2" if first_seen.keys() <= {"O"} else PLAIN

    fitting = list(LETTERS)
    for tag, index in first_seen.items():  # in order of sight
        before, fitting = fitting, [scheme for scheme in fitting if _is_valid(tag, set(LETTERS[scheme]))]
        if not fitting:
            raise UserError(f"{where(index)}: tag {tag!r} fits no scheme that the tags before it leave open: {', '.join(map(_allowed, before))}; {MEND}")
    if fitting[0] != "IOB2":
        return fitting[0]
    starting = {tag[0] for previous, tag in pairs if tag != "O" and _type(previous) != _type(tag)}  # letters at a start that needs no B in IOB1
    return "IOB1" if "I" in starting and "B" not in starting else "IOB2"


def to_iob2(tags: Sequence[str], scheme: str) -> list[str]:
    """The same chunks in IOB2, one tag for each tag. `tags` has passed `check`."""
    assert scheme in LETTERS, scheme
    # No letter means two things in two schemes, so one reading serves them all.
    converted, open_type = [], None
    for tag in tags:
        read, open_type = _read(tag, open_type)
        converted.append(read)
    return converted


@functools.lru_cache(maxsize=4096)  # a data set has some dozens of such pairs, and an evaluation reads millions of tags
def _read(tag: str, open_type: str | None) -> tuple[str, str | None]:
    """A tag in IOB2 where a chunk of `open_type` is open, and the type that is open after it."""
    letter, _, kind = tag.partition("-")
    if letter == "O":
        return "O", None
    starts = letter in ("B", "S", "U") or kind != open_type
    return f"{'B' if starts else 'I'}-{kind}", None if letter in _CLOSING else kind


def count_malformed(tags: Sequence[str], scheme: str) -> int:
    """How many tags have another letter than their place in their chunk asks for, chunks being read as `to_iob2` reads them."""
    first, between, last, only = tuple(LETTERS[scheme])
    read = [*to_iob2(tags, scheme), "O"]
    num_malformed = 0
    for i, tag in enumerate(tags):
        if tag == "O":
            continue
        starts, ends = read[i].startswith("B-"), not read[i + 1].startswith("I-")
        if scheme == "IOB1":
            expected = "B" if starts and i > 0 and _type(tags[i - 1]) == _type(tag) else "I"
        else:
            expected = (only if ends else first) if starts else (last if ends else between)
        num_malformed += tag[0] != expected
    return num_malformed


def check(tags: Sequence[str], scheme: str, where: str) -> None:
    """Raises UserError if a tag is outside the scheme: a strange letter, no type, no text. `where` is the sentence's place: `train.conll:17`."""
    if scheme == PLAIN:
        wrong = [""] if "" in tags else []
    else:
        wrong = [tag for tag in dict.fromkeys(tags) if not _is_valid(tag, set(LETTERS[scheme]))]
    if wrong:
        raise UserError(f"{where}: {'tag' if len(wrong) == 1 else 'tags'} {', '.join(map(repr, wrong))} outside {_allowed(scheme)}; {MEND}")


def continuation(tag: str) -> str:
    """The IOB2 tag for the later subwords of a word tagged `tag`: `I-X` for `B-X`, any other as it is."""
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag


def _type(tag: str) -> str:
    return tag.partition("-")[2]  # "" for O


def _is_valid(tag: str, letters: set[str]) -> bool:
    letter, _, kind = tag.partition("-")
    return tag == "O" or (letter in letters and kind != "")


def _allowed(scheme: str) -> str:
    if scheme == PLAIN:
        return f"{PLAIN} (any text that is not empty)"
    return f"{scheme} (O, {', '.join(f'{letter}-TYPE' for letter in dict.fromkeys(LETTERS[scheme]))})"
