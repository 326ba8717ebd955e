"""A few seconds of what fuzz_parsers.py does at length: mutated files, and any text, for each reader."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.fuzz_parsers import DICTIONARY, READERS, problem

NUM_INPUTS = 150  # a reader


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: a byte, a cut, a word put in or in place of others, a part twice."""
    for _ in range(rng.randint(1, 4)):
        at, to = sorted((rng.randint(0, len(content)), rng.randint(0, len(content))))
        to = min(to, at + 20)
        change = rng.choice(("byte", "cut", "end", "word", "insert", "twice"))
        if change == "byte":
            content = content[:at] + bytes([rng.randint(0, 255)]) + content[at + 1 :]
        elif change == "cut":
            content = content[:at] + content[to:]
        elif change == "end":
            content = content[:at]
        elif change == "word":
            content = content[:at] + rng.choice(DICTIONARY) + content[to:]
        elif change == "insert":
            content = content[:at] + rng.choice(DICTIONARY) + content[at:]
        else:
            content = content[:to] + content[at:]
    return content


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.file)
def test_mutated(reader, tmp_path):
    rng = random.Random(reader.file)
    for content in [reader.seed, b"", *(mutated(reader.seed, rng) for _ in range(NUM_INPUTS))]:
        assert problem(reader, content, tmp_path) is None, content


@pytest.mark.parametrize("reader", [one for one in READERS if one.file not in ("a.unknown", "a.zip", "vocab.txt", "plan.json")], ids=lambda reader: reader.file)
def test_seeds_are_read_deep(reader, tmp_path):
    """What is mutated is sound or nearly so: it is refused for what it lacks, not for its form."""
    assert problem(reader, reader.seed, tmp_path) is None
