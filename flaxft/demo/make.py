"""Write the demo corpus anew, byte for byte the same on every machine.   python -m flaxft.demo.make [--out DIR]"""

from __future__ import annotations

import argparse
import pathlib
import random
import re
from collections.abc import Sequence
from typing import TypeVar

from flaxft.demo.templates import ENTITIES, FILLERS, HELD_OUT, TEMPLATES

SIZES = {"train": 2000, "validation": 300, "test": 300}
JOINABLE = ("news", "sports", "reviews", "travel")
JOINTS = (", and", ", but", ", while", ";", "; meanwhile ,")

Sentence = list[tuple[str, str]]  # (token, tag)
T = TypeVar("T")


# --------------------------------------------------------------------------- corpus


def choice(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options. Python promises that `Random(seed).random()` stays the same for ever, and promises it for no other method."""
    return options[int(rng.random() * len(options))]


def fill(template: str, rng: random.Random, *, train: bool) -> Sentence:
    """A sentence from a template. One in four combinations of root and pattern never comes in train."""
    lower, template = template.startswith("~"), template.removeprefix("~")
    template = re.sub(r"\[(.*?)\]", lambda found: choice(rng, found[1].split("|")), template)
    sentence: Sentence = []
    used = set()  # no train from a town to itself
    for piece in template.split():
        slot = piece.strip("{}")
        if piece == slot:
            sentence.append((piece, "O"))
        elif slot in FILLERS:
            sentence.append((choice(rng, FILLERS[slot]), "O"))
        else:
            kind, roots, patterns = ENTITIES[slot]
            while True:
                i, j = choice(rng, range(len(roots))), choice(rng, range(len(patterns)))
                if (slot, i) not in used and (not train or (i + j) % 4):
                    break
            used.add((slot, i))
            tokens = patterns[j].replace("*", roots[i]).split()
            sentence += [(token, f"{'I' if k else 'B'}-{kind}") for k, token in enumerate(tokens)]
    return [(token.lower() if lower else token, tag) for token, tag in sentence]


def join(clauses: list[Sentence], rng: random.Random) -> Sentence:
    """One long sentence out of several."""
    sentence = clauses[0]
    for clause in clauses[1:]:
        first, tag = clause[0]
        keep = tag != "O" or first == "I"
        sentence = sentence[:-1] + [(token, "O") for token in choice(rng, JOINTS).split()] + [(first if keep else first.lower(), tag)] + clause[1:]
    return sentence


def draw(table: dict[str, tuple[str, ...]], rng: random.Random, *, train: bool) -> Sentence:
    """A sentence from one template of the table, or from up to four of one kind."""
    kind, template = choice(rng, [(kind, template) for kind in table for template in table[kind]])
    sentence = fill(template, rng, train=train)
    num_more = 0
    if kind in JOINABLE and template.endswith("."):
        num_more = choice(rng, (0, 0, 0, 0, 0, 0, 1, 1, 2, 3))
    clauses, rest = [sentence], [other for other in table[kind] if other.endswith(".")]
    for _ in range(num_more):
        rest = [other for other in rest if other != template]
        if rest:
            template = choice(rng, rest)
            clauses.append(fill(template, rng, train=train))
    return join(clauses, rng)


def make_corpus() -> dict[str, list[Sentence]]:
    """The sentences of each split. All differ, and a word of validation or test also occurs in train."""
    rng = random.Random(2026)
    seen: set[str] = set()
    known: set[str] = set()
    corpus: dict[str, list[Sentence]] = {split: [] for split in SIZES}
    for split, size in SIZES.items():
        train = split == "train"
        while len(corpus[split]) < size:
            held_out = not train and rng.random() < 0.25
            sentence = draw(HELD_OUT if held_out else TEMPLATES, rng, train=train)
            tokens = [token for token, _ in sentence]
            text = " ".join(tokens)
            if text in seen or len(tokens) > 60 or not (train or known.issuperset(tokens)):
                continue
            seen.add(text)
            corpus[split].append(sentence)
            if train:
                known.update(tokens)
    return corpus


# --------------------------------------------------------------------------- files


def make(out: pathlib.Path) -> None:
    """Write the three .conll files into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for split, sentences in make_corpus().items():
        text = "\n".join("".join(f"{token}\t{tag}\n" for token, tag in sentence) for sentence in sentences)
        (out / f"{split}.conll").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="directory to write into (default: this package)")
    make(parser.parse_args().out)
