"""The packaged encoder is what its card says, and make.py writes what a pretraining run can begin with."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from flaxft import encoder
from flaxft.data.tokenize import load_tokenizer
from flaxft.encoder import make
from flaxft.models.hf import Pretrained
from flaxft.predict import load
from flaxft.tasks.masked_lm import MaskedLm

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
SENTENCES = ("She looked at [MASK] with a smile.", "He sat down on the [MASK].", "The king and the [MASK] were in the palace.")


def test_size_and_type():
    weights = load_file(encoder.DIRECTORY / "model.safetensors")
    assert {tensor.dtype.name for tensor in weights.values()} == {"bfloat16"}
    assert all(np.isfinite(tensor.astype(np.float32)).all() for tensor in weights.values())
    assert 2e6 < sum(tensor.size for tensor in weights.values()) < 6e6
    assert sum(file.stat().st_size for file in encoder.DIRECTORY.iterdir() if file.is_file()) < 8e6


def test_the_tokenizer_is_the_same_for_transformers():
    from transformers import AutoTokenizer

    ours = load_tokenizer(encoder.DIRECTORY, vocab_size=8000, max_length=512)
    theirs = AutoTokenizer.from_pretrained(encoder.DIRECTORY)
    for text in ("Did @Ivarro really play for Plumgate Rovers? #nfl :)", "Ça coûte 5 €", "it's the end"):
        assert ours.wrap(ours.text(text)[0]).tolist() == theirs(text)["input_ids"]
    unknown = ours.backend.token_to_id("[UNK]")
    assert unknown not in ours.text("".join(map(chr, range(33, 127))))[0]  # every printable ASCII sign is known


def test_it_fills_masks():
    """It has learnt something: each of these has words of the right kind among its five candidates."""
    found = load(encoder.DIRECTORY, task=MaskedLm()).predict(list(SENTENCES))
    candidates = [{one["token"] for one in result["masks"][0]} for result in found]
    assert candidates[0] & {"him", "her", "me", "them"}
    assert candidates[1] & {"bed", "ground", "floor", "chair", "grass", "bank", "edge", "table", "bench", "sofa", "steps", "throne", "sand", "stone"}
    assert not {"[UNK]", "[MASK]", "[PAD]"} & set.union(*candidates)


@needs_torch
def test_pytorch_reads_it():
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, tokenizer = AutoModelForMaskedLM.from_pretrained(encoder.DIRECTORY, dtype="float32").eval(), AutoTokenizer.from_pretrained(encoder.DIRECTORY)
    result = load(encoder.DIRECTORY, task=MaskedLm()).predict([SENTENCES[0]])[0]["masks"][0]
    inputs = tokenizer(SENTENCES[0], return_tensors="pt")
    with torch.no_grad():
        scores = model(**inputs).logits.softmax(-1)[0, (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]]
    best = scores.topk(5)
    assert [one["token"] for one in result] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
    np.testing.assert_allclose([one["score"] for one in result], best.values.numpy(), atol=1e-5)


# ---- where a pretraining run begins ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """From a made-up language: animals eat plants, towns have rivers."""
    rng = np.random.default_rng(0)
    groups = {"eats": (("cat", "dog", "cow", "hen"), ("grass", "corn", "hay")), "has": (("Rome", "Oslo", "Bonn"), ("river", "bridge", "market"))}
    lines = []
    for _ in range(3000):
        verb = ("eats", "has")[rng.integers(2)]
        subjects, objects = groups[verb]
        lines.append(json.dumps({"text": f"the {subjects[rng.integers(len(subjects))]} {verb} the {objects[rng.integers(len(objects))]} ."}))
    folder = tmp_path_factory.mktemp("start")
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n")
    make.start([folder / "text.jsonl"], folder / "model")
    return folder / "model"


def test_flaxft_reads_the_start(start):
    checkpoint = Pretrained(path=str(start)).open()
    task = MaskedLm().resolve(load_tokenizer(start, vocab_size=checkpoint.encoder.vocab_size, max_length=512), checkpoint)
    Pretrained(path=str(start)).load(checkpoint, task.head, reuse_head=False, seed=0)


def test_words_of_like_company_are_alike(start):
    tokenizer = load_tokenizer(start, vocab_size=8000, max_length=512).backend
    vectors = load_file(start / "model.safetensors")["embeddings.word_embeddings.weight"]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def likeness(a, b):
        return vectors[tokenizer.token_to_id(a)] @ vectors[tokenizer.token_to_id(b)]

    assert likeness("cat", "dog") > likeness("cat", "Rome") + 0.2
    assert likeness("Oslo", "Bonn") > likeness("Oslo", "hay") + 0.2


def test_heads_of_the_first_layers_look_at_their_offsets(start):
    weights = load_file(start / "model.safetensors")
    rng = np.random.default_rng(0)
    words = weights["embeddings.word_embeddings.weight"]
    x = words[rng.integers(5, len(words), 100)] + weights["embeddings.position_embeddings.weight"][:100]
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    for layer, offsets in enumerate(make.OFFSETS):
        query, key = (x @ weights[f"encoder.layer.{layer}.attention.self.{name}.weight"].T for name in ("query", "key"))
        for head, offset in enumerate(offsets):
            dims = slice(head * 32, (head + 1) * 32)
            best = (query[:, dims] @ key[:, dims].T).argmax(1)
            assert (best[10:90] == np.arange(10, 90) + offset).mean() > 0.9


def test_the_start_is_the_same_each_time(start, tmp_path):
    config = json.loads((start / "config.json").read_text())
    texts = [[5, 6, 7, 8], [6, 5, 9]]
    first, again = make.first_weights(texts, config), make.first_weights(texts, config)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_rotation_moves_sinusoids():
    frequencies = np.asarray([0.3, 1.1, 2.9])
    table = make.sinusoids(20, frequencies)
    np.testing.assert_allclose(table[:15] @ make.rotate(frequencies, 5).T, table[5:], atol=1e-12)


def test_pack_halves_the_weights(start, tmp_path):
    make.pack(start, tmp_path / "small")
    whole, small = load_file(start / "model.safetensors"), load_file(tmp_path / "small" / "model.safetensors")
    for name in whole:
        np.testing.assert_allclose(small[name].astype(np.float32), whole[name], rtol=2**-8)
    assert (tmp_path / "small" / "model.safetensors").stat().st_size < 0.51 * (start / "model.safetensors").stat().st_size
    Pretrained(path=str(tmp_path / "small")).open()
