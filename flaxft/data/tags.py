"""Tag schemes: which one some sentences use, and the way from each to IOB2.

A tag is `O`, or a letter, a dash and a type: `B-PER`. The type may hold dashes itself (`B-creative-work`). The letter says the token's place in its
chunk. Any order of tags has a reading, that of conlleval (https://www.clips.uantwerpen.be/conll2000/chunking/conlleval.txt): a letter that should
continue a chunk but finds none of its type open begins one. So conversion never fails; `count_malformed` says how many tags needed that kindness.

Many files write nearly so: `B_PER`, `B:PER`, `b-per`, `PER-B`, or B, I and O alone. `Tally` counts the tags of a split and decides by vote, and `canonical`
is how such a tag is read. MISSING stands for a word that nothing is said of: nobody learns from it, and no score counts it.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from flaxft.data.base import IGNORE
from flaxft.errors import UserError

# Letters for a chunk's first token, the tokens between, its last one, and its only one. The order is that of preference in `Tally.scheme`.
# IOB1 (Ramshaw & Marcus 1995) says B only for the first token of a chunk that directly follows a chunk of its own type.
LETTERS = {"IOB2": "BIIB", "IOB1": "BIII", "IOBES": "BIES", "BMES": "BMES", "BILOU": "BILU"}
PLAIN = "plain"  # tags without chunks: parts of speech
MEND = "mend the tag, or name the scheme in task.scheme"
MISSING = str(IGNORE)  # of a word that is neither learnt from nor scored
UNSAID = ("-", "_")  # how files write that: spaCy's and Prodigy's missing value, and CoNLL-U's
ENTITY = "ENTITY"  # the type of chunks whose tags have none: B, I and O alone
_CLOSING = frozenset("ESLU")  # after these letters no chunk is open
_KNOWN = frozenset("".join(LETTERS.values()))
_FIRST = re.compile(r"([BIESLUM])(?:\s*[-_:./|]\s*|\s+)(\S.*)", re.IGNORECASE)  # B_PER, b-per, B PER
_LAST = re.compile(r"(.*\S)\s*[-_:]\s*([BIESLUM])", re.IGNORECASE)  # PER-B
_BARE = re.compile(r"([BIESLUM])[-_:]?", re.IGNORECASE)
MAJORITY = 0.9  # of the tags that are not O, which have to be near-schemes' before they are read so


def clean(tag: str) -> str:
    """A tag as it stands in a file, without blanks around it; `MISSING` where it says that it says nothing."""
    tag = tag.strip()
    return MISSING if tag in UNSAID else tag


@functools.lru_cache(maxsize=4096)
def canonical(tag: str, *, bare: bool = False) -> str:
    """A chunk tag as the schemes write it: `B_PER`, `B:PER`, `b-PER`, `B- PER` and `PER-B` are `B-PER`, `o` is `O`; where all tags are `bare`, `B` is
    `B-ENTITY`. What is none of these comes back as it is, for `check` to refuse."""
    if tag == MISSING or _is_valid(tag, _KNOWN):
        return tag
    if tag == "o":
        return "O"
    if bare and (match := _BARE.fullmatch(tag)):
        return f"{match[1].upper()}-{ENTITY}"
    if match := _FIRST.fullmatch(tag):
        return f"{match[1].upper()}-{match[2]}"
    if match := _LAST.fullmatch(tag):
        return f"{match[2].upper()}-{match[1]}"
    return tag


_BRACKETS = re.compile(r"(?:\([^()*\s]+)*\*?\)*")


def from_brackets(tags: Sequence[str]) -> list[str] | None:
    """The IOB2 tags of brackets as in OntoNotes and CoNLL-2012: `(PERSON* * *)` is `B-PERSON I-PERSON I-PERSON`, of nested ones the outermost.

    None where these are no brackets. Raises UserError where they do not close.
    """
    if not all(tag == MISSING or (tag and _BRACKETS.fullmatch(tag)) for tag in tags) or set(tags) <= {MISSING}:
        return None
    read, open_types = [], list[str]()
    for tag in tags:
        starts = not open_types
        open_types += re.findall(r"\(([^()*\s]+)", tag)
        if tag == MISSING:
            read.append(MISSING)
        else:
            read.append(f"{'B' if starts else 'I'}-{open_types[0]}" if open_types else "O")
        if tag.count(")") > len(open_types):
            raise UserError(f"the tags {' '.join(tags)[:80]!r} close a bracket that is not open; mend it")
        del open_types[len(open_types) - tag.count(")") :]
    if open_types:
        raise UserError(f"the bracket ({open_types[0]} in the tags {' '.join(tags)[:80]!r} is not closed in its sentence; close it with *)")
    return read


def is_bare(labels: Iterable[str]) -> bool:
    """Whether these labels are those of chunks without types."""
    return {label[2:] for label in labels if label[1:2] == "-"} == {ENTITY}


class Tally:
    """The tags of a split, `clean`ed, counted in small space however large it is; and what they say together."""

    def __init__(self) -> None:
        self.tags: Counter[str] = Counter()
        self.first: dict[str, int] = {}  # the number of the sentence that has a tag first
        self._places: Counter[tuple[str, str, str]] = Counter()  # a chunk tag with its neighbours: all that tells one scheme from another

    def add(self, tags: Sequence[str], number: int) -> None:
        for tag in tags:
            self.tags[tag] += 1
            self.first.setdefault(tag, number)
        around = ["O", *(tag if len(tag) < 3 or tag == MISSING or is_chunk_tag(tag) else "O" for tag in tags), "O"]
        self._places.update(zip(around, around[1:], around[2:], strict=False))

    @functools.cached_property
    def is_bare(self) -> bool:
        """Whether the tags are B, I and O without types, where word segmentation (B, M, E, S and no O) is none."""
        seen = {tag.rstrip("-_:").upper() for tag in self.tags if tag != MISSING}
        return "O" in seen and bool(seen & {"B", "I"}) and seen <= {"O", *_KNOWN}

    @functools.cached_property
    def scheme(self) -> str:
        """The scheme that has the fewest tags out of place, the first of `LETTERS` among equals; or "plain".

        Tags are chunks' where half of those that are not O are in a scheme as they stand, or nine of ten in a near one. IOE1 and IOE2 come out as IOBES.
        """
        counted = {tag: num for tag, num in self.tags.items() if tag not in ("O", "o", "0", MISSING)}  # a 0 is an O mistyped
        if not counted:
            return "IOB2" if self.tags.keys() <= {"O", "o", MISSING} else PLAIN
        total = sum(counted.values())
        exact = sum(num for tag, num in counted.items() if _is_valid(tag, _KNOWN))
        if 2 * exact < total and not self.is_bare:
            near = {canonical(tag): num for tag, num in counted.items() if is_chunk_tag(tag)}
            letters = {kind: {tag[0] for tag in near if _type(tag) == kind} for kind in map(_type, near)}
            has_both = any(len(found) > 1 and found & {"B", "I"} for found in letters.values())
            has_start = ("O" in self.tags or "o" in self.tags) and any(found & {"B", "I"} for found in letters.values())
            fits_one = any(set("".join(map("".join, letters.values()))) <= set(letter) for letter in LETTERS.values())
            if sum(near.values()) < MAJORITY * total or not (has_both or has_start) or not fits_one:
                return PLAIN
        strays = {scheme: sum(num for tag, num in counted.items() if tag[:1] not in letters) for scheme, letters in LETTERS.items()}
        return min(LETTERS, key=lambda scheme: (self.num_malformed(scheme), strays[scheme]))

    def num_malformed(self, scheme: str) -> int:
        """How many tags have another letter than `scheme` asks for in their place."""
        return sum(num for (before, tag, after), num in self._places.items() if not _fits(before, tag, after, scheme, bare=self.is_bare))

    def first_malformed(self, scheme: str) -> str:
        """One of the tags that are out of place, in a place of its kind that is the most frequent."""
        wrong = [(num, place) for place, num in self._places.items() if not _fits(*place, scheme, bare=self.is_bare)]
        before, tag, _ = max(wrong)[1]
        return f"{tag!r} behind {before!r}"

    def near(self) -> dict[str, str]:
        """The tags that stand otherwise in the file than they are read: {"B_PER": "B-PER"}."""
        read = {tag: canonical(tag, bare=self.is_bare) for tag in self.tags}
        return {tag: other for tag, other in read.items() if tag != other}


def detect(sentences: Iterable[Sequence[str]], *, where: Callable[[int], str] = lambda index: f"sentence {index + 1}") -> str:
    """The scheme of all sentences together, as `Tally` votes.

    Raises UserError, with `where(index of the sentence)`, at a tag that has no reading among chunks.
    """
    tally = Tally()
    for index, tags in enumerate(sentences):
        tally.add([clean(tag) for tag in tags], index)
    check_tally(tally, tally.scheme, where=where)
    return tally.scheme


def check_tally(tally: Tally, scheme: str, *, where: Callable[[int], str]) -> None:
    """Raises UserError at the first sentence whose tags have no reading in a scheme that was voted: a letter of another scheme is read, an unknown one not."""
    letters = "".join(LETTERS.values()) if scheme in LETTERS else ""
    for tag, index in tally.first.items():
        read = canonical(tag, bare=tally.is_bare) if letters else tag
        if read != MISSING and (not _is_valid(read, set(letters)) if letters else not read):
            raise UserError(f"{where(index)}: tag {tag!r} outside {_allowed(scheme)}{_zero(tag)}; {MEND}")


def scheme_of_labels(labels: Iterable[str]) -> str:
    """The scheme of a model's labels: the first that has all their letters. Raises UserError for chunk tags of no scheme."""
    tally = Tally()
    tally.add(list(labels), 0)
    if tally.scheme == PLAIN:
        return PLAIN
    check_tally(tally, tally.scheme, where=lambda index: "the labels")
    letters = {read[0] for label in tally.tags if (read := canonical(label, bare=tally.is_bare)) not in ("O", MISSING)}
    return next((scheme for scheme, own in LETTERS.items() if letters <= set(own)), tally.scheme)


def to_iob2(tags: Sequence[str], scheme: str) -> list[str]:
    """The same chunks in IOB2, one tag for each tag. `tags` are canonical. Behind a MISSING one, a letter that continues a chunk is left to do so."""
    assert scheme in LETTERS, scheme
    # No letter means two things in two schemes, so one reading serves them all.
    converted, open_type = [], None
    for tag in tags:
        if tag == MISSING:
            read, open_type = MISSING, MISSING
        elif open_type == MISSING and tag[0] not in "OBSU":
            read, open_type = f"I-{_type(tag)}", None if tag[0] in _CLOSING else _type(tag)
        else:
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
    around = ["O", *tags, "O"]
    return sum(not _fits(before, tag, after, scheme) for before, tag, after in zip(around, around[1:], around[2:], strict=False))


@functools.lru_cache(maxsize=65536)
def _fits(before: str, tag: str, after: str, scheme: str, *, bare: bool = False) -> bool:
    """Whether a tag has the letter that its place between two others asks for. Beside a MISSING tag every letter of the scheme is right."""
    before, tag, after = (canonical(one, bare=bare) for one in (before, tag, after))
    if tag in ("O", MISSING) or not _is_valid(tag, _KNOWN):
        return True
    if MISSING in (before, after):
        return tag[0] in LETTERS[scheme]
    first, between, last, only = tuple(LETTERS[scheme])
    starts, ends = not _goes_on(before, tag), not _goes_on(tag, after)
    if scheme == "IOB1":
        return tag[0] == ("B" if starts and before != "O" and _type(before) == _type(tag) else "I")
    return tag[0] == ((only if ends else first) if starts else (last if ends else between))


def _goes_on(before: str, tag: str) -> bool:
    """Whether a tag continues the chunk of the one before it."""
    is_open = before != "O" and before[0] not in _CLOSING
    return tag != "O" and is_open and _type(before) == _type(tag) and tag[0] not in "BSU"


def check(tags: Sequence[str], scheme: str, where: str) -> None:
    """Raises UserError if a tag is outside the scheme: a strange letter, no type, no text. `where` is the sentence's place: `train.conll:17`."""
    _check(tags, scheme, set(LETTERS.get(scheme, "")), where)


def check_readable(tags: Sequence[str], scheme: str, where: str) -> None:
    """As `check`, but letters of the other schemes pass: each letter has one reading (`to_iob2`), and a scheme that was voted has such strays."""
    _check(tags, scheme, set(_KNOWN), where)


def _check(tags: Sequence[str], scheme: str, letters: set[str], where: str) -> None:
    if scheme == PLAIN:
        wrong = [""] if "" in tags else []
    else:
        wrong = [tag for tag in dict.fromkeys(tags) if tag != MISSING and not _is_valid(tag, letters)]
    if wrong:
        what = f"{'tag' if len(wrong) == 1 else 'tags'} {', '.join(map(repr, wrong))}"
        raise UserError(f"{where}: {what} outside {_allowed(scheme)}{_zero(wrong[0])}; {MEND}")


def continuation(tag: str) -> str:
    """The IOB2 tag for the later subwords of a word tagged `tag`: `I-X` for `B-X`, any other as it is."""
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag


def _type(tag: str) -> str:
    return tag.partition("-")[2]  # "" for O


def _is_valid(tag: str, letters: Iterable[str]) -> bool:
    letter, _, kind = tag.partition("-")
    return tag == "O" or (letter in letters and kind != "" and kind == kind.strip())


def is_chunk_tag(tag: str) -> bool:
    """Whether a tag is one of a chunk, as it stands or nearly."""
    return tag != "O" and tag != MISSING and _is_valid(canonical(tag), _KNOWN)


def _zero(tag: str) -> str:
    return " (is 0 the letter O?)" if tag == "0" else ""


def _allowed(scheme: str) -> str:
    if scheme == PLAIN:
        return f"{PLAIN} (any text that is not empty)"
    return f"{scheme} (O, {', '.join(f'{letter}-TYPE' for letter in dict.fromkeys(LETTERS[scheme]))})"
