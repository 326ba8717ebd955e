"""Write the demo corpus and the demo encoder anew, byte for byte the same on every machine.   python -m flaxft.demo.make [--out DIR]"""

from __future__ import annotations

import argparse
import collections
import json
import math
import pathlib
import random
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import save

from flaxft.demo.templates import ENTITIES, FILLERS, HELD_OUT, TEMPLATES, words

SIZES = {"train": 2000, "validation": 300, "test": 300}
JOINABLE = ("news", "sports", "reviews", "travel")
JOINTS = (", and", ", but", ", while", ";", "; meanwhile ,")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SUFFIXES = words("##s ##es ##ed ##er ##ing ##ly ##en ##on ##an ##in ##al ##le ##el ##or ##ar ##ton ##ville ##ford ##land ##son ##ia ##ra")

CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "max_position_embeddings": 256,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "dtype": "float32",  # the file holds float16 to stay small; transformers would otherwise compute in it
}

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


# --------------------------------------------------------------------------- encoder


def make_vocabulary(train: list[Sentence]) -> list[str]:
    """Special tokens, all ASCII characters, suffixes, and the words that train holds at least twice, the most frequent first."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [f"##{character}" for character in characters if character.isalnum()]
    counts = collections.Counter(word for sentence in train for token, _ in sentence for word in re.findall("[a-z0-9]{2,}", token.lower()))
    frequent = sorted((word for word in counts if counts[word] >= 2), key=lambda word: (-counts[word], word))
    return [*SPECIAL, *characters, *pieces, *SUFFIXES, *frequent]


def make_tokenizer(vocabulary: list[str]) -> dict[str, Any]:
    """The contents of tokenizer.json. Written out here, because the library's own writer changes with its version."""
    cls, sep = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **flags} for index, token in enumerate(SPECIAL)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special("[CLS]", 0), _sequence("A", 0), _special("[SEP]", 0)],
            "pair": [_special("[CLS]", 0), _sequence("A", 0), _special("[SEP]", 0), _sequence("B", 1), _special("[SEP]", 1)],
            "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]} for token, index in (("[CLS]", cls), ("[SEP]", sep))},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: index for index, token in enumerate(vocabulary)},
        },
    }


def _special(token: str, type_id: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": type_id}}


def _sequence(name: str, type_id: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": type_id}}


def make_weights(num_words: int) -> dict[str, np.ndarray]:
    """Untrained float16 weights under their Hugging Face names, kernels as (out, in)."""
    bits = np.random.Philox(key=2026)
    D, F = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    weights = {}

    def normal(*shape: int) -> np.ndarray:
        # The sum of 12 uniform numbers is close to normal, with variance 1. Whole numbers add up alike on every machine; logarithms may differ.
        uniform = bits.random_raw(3 * math.prod(shape)).view(np.uint16).reshape(*shape, 12)  # 12 pieces of 16 bits
        centred = uniform.astype(np.int64).sum(axis=-1) - 12 * 0xFFFF // 2
        return (centred * (CONFIG["initializer_range"] / 2**16)).astype(np.float16)

    def linear(name: str, num_in: int, num_out: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = normal(num_out, num_in), np.zeros(num_out, np.float16)

    def norm(name: str) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = np.ones(D, np.float16), np.zeros(D, np.float16)

    weights["embeddings.word_embeddings.weight"] = normal(num_words, D)
    weights["embeddings.word_embeddings.weight"][CONFIG["pad_token_id"]] = 0
    weights["embeddings.position_embeddings.weight"] = normal(CONFIG["max_position_embeddings"], D)
    weights["embeddings.token_type_embeddings.weight"] = normal(CONFIG["type_vocab_size"], D)
    norm("embeddings.LayerNorm")
    for layer in range(CONFIG["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{name}.attention.self.{part}", D, D)
        linear(f"{name}.attention.output.dense", D, D)
        norm(f"{name}.attention.output.LayerNorm")
        linear(f"{name}.intermediate.dense", D, F)
        linear(f"{name}.output.dense", F, D)
        norm(f"{name}.output.LayerNorm")
    linear("pooler.dense", D, D)
    return weights


# --------------------------------------------------------------------------- files


def write(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    write(path, json.dumps(value, indent=1) + "\n")


def make(out: pathlib.Path) -> None:
    """Write the three .conll files and the directory `encoder` below `out`."""
    corpus = make_corpus()
    encoder = out / "encoder"
    encoder.mkdir(parents=True, exist_ok=True)
    for split, sentences in corpus.items():
        write(out / f"{split}.conll", "\n".join("".join(f"{token}\t{tag}\n" for token, tag in sentence) for sentence in sentences))
    vocabulary = make_vocabulary(corpus["train"])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    write(encoder / "vocab.txt", "".join(f"{token}\n" for token in vocabulary))
    write_json(encoder / "tokenizer.json", make_tokenizer(vocabulary))
    write_json(
        encoder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": CONFIG["max_position_embeddings"], **special},
    )
    write_json(encoder / "config.json", {**CONFIG, "vocab_size": len(vocabulary)})
    (encoder / "model.safetensors").write_bytes(save(make_weights(len(vocabulary)), metadata={"format": "pt"}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="directory to write into (default: this package)")
    make(parser.parse_args().out)
