"""The shipped demo files are what make.py writes, and are what they claim to be."""

from __future__ import annotations

import collections
import itertools
import json
import pathlib

import pytest
from safetensors.numpy import load_file
from seqeval.metrics import f1_score
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import BertProcessing

from flaxft import demo
from flaxft.demo.make import make
from flaxft.demo.templates import HELD_OUT, TEMPLATES

SPLITS = {"train": demo.TRAIN, "validation": demo.VALIDATION, "test": demo.TEST}


def read(path: pathlib.Path) -> list[list[tuple[str, str]]]:
    return [[tuple(line.split("\t")) for line in block.split("\n")] for block in path.read_text("utf-8").strip("\n").split("\n\n")]


@pytest.fixture(scope="module")
def corpus():
    return {split: read(path) for split, path in SPLITS.items()}


def text(sentence) -> str:
    return " ".join(token for token, _ in sentence)


def test_make_writes_the_shipped_files(tmp_path):
    make(tmp_path)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert {str(path) for path in written} >= {"train.conll", "validation.conll", "test.conll", "encoder/model.safetensors"}
    for path in written:
        assert (tmp_path / path).read_bytes() == (demo.TRAIN.parent / path).read_bytes(), f"{path} is stale: run python -m flaxft.demo.make"
    assert sum(path.stat().st_size for path in demo.ENCODER.iterdir()) < 1.5e6


def test_counts_and_lengths(corpus):
    assert {split: len(sentences) for split, sentences in corpus.items()} == {"train": 2000, "validation": 300, "test": 300}
    for sentences in corpus.values():
        lengths = [len(sentence) for sentence in sentences]
        assert min(lengths) == 3
        assert 50 < max(lengths) <= 60
        assert 14 < sum(lengths) / len(lengths) < 18


def test_tags_are_iob2(corpus):
    types = collections.Counter()
    for sentence in itertools.chain(*corpus.values()):
        before = "O"
        for token, tag in sentence:
            assert token.strip() == token != ""
            assert tag == "O" or tag[:2] in ("B-", "I-")
            if tag.startswith("I-"):
                assert before[2:] == tag[2:], sentence
            before = tag
            types[tag[2:]] += tag.startswith("B-")
    assert {kind for kind in types if kind} == {"PER", "ORG", "LOC", "PROD"}
    assert min(types[kind] for kind in ("PER", "ORG", "LOC", "PROD")) > 500


def test_splits_share_words_but_no_sentence(corpus):
    everything = [text(sentence) for sentences in corpus.values() for sentence in sentences]
    assert len(everything) == len(set(everything))
    words = {split: {token for sentence in sentences for token, _ in sentence} for split, sentences in corpus.items()}
    assert words["validation"] | words["test"] <= words["train"]


def test_held_out_templates_reach_every_split_but_train(corpus):
    assert not {template for table in TEMPLATES.values() for template in table} & {template for table in HELD_OUT.values() for template in table}
    begins = {"train": 0, "validation": 0, "test": 0}
    for split, sentences in corpus.items():
        begins[split] = sum("The fans praised" in text(sentence) or "a warehouse near" in text(sentence) for sentence in sentences)
    assert begins["train"] == 0
    assert begins["validation"] > 0
    assert begins["test"] > 0


def test_a_look_up_of_words_is_not_enough(corpus):
    counts = collections.defaultdict(collections.Counter)
    for sentence in corpus["train"]:
        for token, tag in sentence:
            counts[token][tag] += 1
    best = {token: counter.most_common(1)[0][0] for token, counter in counts.items()}
    gold = [[tag for _, tag in sentence] for sentence in corpus["test"]]
    guess = [[best[token] for token, _ in sentence] for sentence in corpus["test"]]
    assert 0.3 < f1_score(gold, guess) < 0.7  # 0.49: one name stands for several types, and now begins an entity and now ends one


def test_both_tokenizers_give_the_same_ids(corpus):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(demo.ENCODER)
    ours = Tokenizer.from_file(str(demo.ENCODER / "tokenizer.json"))
    vocabulary = {token: index for index, token in enumerate((demo.ENCODER / "vocab.txt").read_text("utf-8").splitlines())}
    built = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # what tokenizer.json says, said through the library
    built.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    built.normalizer, built.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    built.decoder = decoders.WordPiece()
    built.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))

    assert len(theirs) == ours.get_vocab_size() == len(vocabulary)
    assert theirs.get_vocab() == ours.get_vocab() == vocabulary
    assert (theirs.pad_token_id, theirs.model_max_length) == (0, 256)
    sentences = [text(sentence) for sentence in corpus["test"][:50]] + ["Unseen Zyzzyva-words, at #4: (don't) [go]~ {3%} Über!"]
    for sentence in sentences:
        ids = ours.encode(sentence).ids
        assert ids == theirs(sentence)["input_ids"] == built.encode(sentence).ids
        assert vocabulary["[UNK]"] not in ids
        assert ours.decode(ids) == built.decode(ids)
    pair = ours.encode(sentences[0], sentences[1])
    assert pair.ids == theirs(sentences[0], sentences[1])["input_ids"] == built.encode(sentences[0], sentences[1]).ids
    assert pair.type_ids == theirs(sentences[0], sentences[1])["token_type_ids"] == built.encode(sentences[0], sentences[1]).type_ids


def test_weights_are_a_bert():
    config = json.loads((demo.ENCODER / "config.json").read_text("utf-8"))
    weights = load_file(demo.ENCODER / "model.safetensors")
    assert len(weights) == 5 + 2 * 16 + 2  # embeddings, two layers, pooler
    assert weights["embeddings.word_embeddings.weight"].shape == (config["vocab_size"], 96)
    assert weights["encoder.layer.1.intermediate.dense.weight"].shape == (384, 96)
    kernel = weights["encoder.layer.0.attention.self.query.weight"].astype("float32")
    assert kernel.shape == (96, 96)
    assert abs(kernel.std() - 0.02) < 0.001
    assert abs(kernel.mean()) < 0.001
