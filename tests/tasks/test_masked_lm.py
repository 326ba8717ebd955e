"""Masks on the host, only labelled tokens against the vocabulary, filled masks; the head equals PyTorch's."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxft
from flaxft.config import Eval
from flaxft.data.base import IGNORE
from flaxft.data.items import build_items
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained, Untrained, hf_names
from flaxft.tasks.masked_lm import ASKED, MaskedLm
from flaxft.train.loop import run
from tests import tiny

BOUND = 1e-5
FAST = settings(max_examples=100, deadline=None, derandomize=True)
MASK = tiny.PIECES.index("[MASK]")
TEXTS = ("anna works in paris", "bob lives in rome .", "the old corp", "a new acme at oslo !", "is carl red ?", "dora was blue", "for the corp", "red with a")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("mlm") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


@pytest.fixture(scope="module")
def checkpoint(directory):
    return Pretrained(path=str(directory)).open()


@pytest.fixture(scope="module")
def task(tokenizer, checkpoint):
    return MaskedLm().resolve(tokenizer, checkpoint)


def example(folder):
    """What the contract tests run on. What is hidden differs in every epoch and cannot be learnt by heart; so nearly every token is predicted, and none hidden.

    Few words: in the contract's 60 steps the head learns which they are, and then to say what it sees.
    """
    file = folder / "eight.txt"
    words = ("red", "blue", "anna", "in")
    file.write_text("\n".join(" ".join((words[i % 4], words[i // 2 % 4], words[i // 4])) for i in range(8)))
    return MaskedLm(train=str(file), validation=str(file), mask_probability=0.999, mask_share=0.0, random_share=0.0)


# ---- masks ----------------------------------------------------------------------------------------------------------------------------------------


@FAST
@given(
    words=st.lists(st.sampled_from(["anna", "paris", "xyz", "qqqqqq", "red", "é"]), max_size=40),
    probability=st.floats(0.01, 0.9),
    whole_words=st.booleans(),
    seed=st.integers(0, 99),
)
def test_masks_hold_the_budget_and_keep_words_whole(tokenizer, task, words, probability, whole_words, seed):
    task = dataclasses.replace(task, mask_probability=probability, whole_words=whole_words)
    for features in task.features({"text": " ".join(words)}, tokenizer, max_length=20):
        again = task.augment(features, np.random.default_rng(seed))
        for one in (features, again):
            labels, ids, raw = one.tokens["labels"], one.tokens["input_ids"], one.host["ids"]
            chosen = labels != IGNORE
            assert len(ids) == len(labels) == len(raw) <= 20
            assert not chosen[[0, -1]].any()  # [CLS] and [SEP]
            num_words = int((one.host["words"] >= 0).sum())
            assert min(1, num_words) <= chosen.sum() <= max(1, int(probability * len(raw)))
            assert (labels[chosen] == raw[chosen]).all()
            assert (ids[~chosen] == raw[~chosen]).all()
            if whole_words and chosen.sum() > 1:
                for word in np.unique(one.host["words"][chosen]):
                    assert chosen[one.host["words"] == word].all()


def test_shares_of_mask_random_and_same(tokenizer, task):
    (features,) = task.features({"text": "anna lives in paris and works at acme corp with bob in rome . a new red corp is old !"}, tokenizer, max_length=64)
    fates = np.zeros(3)
    for seed in range(4000):
        one = task.augment(features, np.random.default_rng(seed))
        chosen = one.tokens["labels"] != IGNORE
        ids, raw = one.tokens["input_ids"][chosen], one.host["ids"][chosen]
        fates += [(ids == MASK).sum(), ((ids != MASK) & (ids != raw)).sum(), (ids == raw).sum()]
        assert not np.isin(ids[ids != MASK], [0, 1, 2, 3]).any()  # no special token is drawn
    np.testing.assert_allclose(fates / fates.sum(), [0.8, 0.1, 0.1], atol=0.01)


def test_evaluation_sees_the_same_masks_each_time_and_training_others(tokenizer, task):
    record = {"text": "anna lives in paris . bob works at acme corp in rome"}
    (first,), (second,) = (task.features(record, tokenizer, max_length=64) for _ in range(2))
    np.testing.assert_array_equal(first.tokens["input_ids"], second.tokens["input_ids"])
    masks = {tuple(task.augment(first, np.random.default_rng(seed)).tokens["labels"]) for seed in range(20)}
    assert len(masks) > 5


def test_a_long_text_becomes_windows_that_lose_nothing(tokenizer, task):
    words = [tiny.WORDS[i % 20] for i in range(50)]
    features = task.features({"text": " ".join(words)}, tokenizer, max_length=12)
    inside = np.concatenate([one.host["ids"][1:-1] for one in features])
    np.testing.assert_array_equal(inside, tokenizer.text(" ".join(words))[0])


# ---- the head and the loss ------------------------------------------------------------------------------------------------------------------------


@FAST
@given(data=st.data())
def test_every_label_is_gathered(tokenizer, task, data):
    """The number of gathered tokens of a row is fixed; no packing of features that hold their budget may ever need more."""
    probability = data.draw(st.floats(0.05, 0.5))
    lengths = data.draw(st.lists(st.integers(3, 30), min_size=1, max_size=8))
    task = dataclasses.replace(task, mask_probability=probability, whole_words=False)
    row = [one for n in lengths for one in task.features({"text": " ".join(["red"] * (n - 2))}, tokenizer, max_length=32)]
    num_tokens = sum(len(one.host["ids"]) for one in row)
    num_labels = sum(int((one.tokens["labels"] != IGNORE).sum()) for one in row)
    assert num_labels <= min(num_tokens, int(probability * num_tokens) + len(row))


def small(checkpoint, task, texts, tokenizer, tmp_path, *, num_rows, row_length=32, num_slots=4):
    file = tmp_path / "small.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    task = dataclasses.replace(task, train=str(file))
    items = build_items(task.records("train"), task, tokenizer, max_length=32, key=repr(task), use_cache=False)
    loaded = Pretrained(path=checkpoint.name).load(checkpoint, task.head, reuse_head=False, seed=0)
    batch = next(iter(Pipeline(items, task.spec(), seed=0).once(Shape(row_length=row_length, num_slots=num_slots, num_rows=num_rows))))
    return task, items, loaded, batch


def test_only_labelled_tokens_meet_the_vocabulary(checkpoint, task, tokenizer, tmp_path):
    _, _, loaded, batch = small(checkpoint, task, TEXTS, tokenizer, tmp_path, num_rows=2)
    outputs = tiny.outputs(loaded, batch)
    assert outputs.logits.shape == (2, int(0.15 * 32) + 4, 128)
    labels = np.take_along_axis(batch["labels"], np.asarray(outputs.positions), axis=1)
    assert (labels != IGNORE).sum() == (batch["labels"] != IGNORE).sum() > 0


def test_the_loss_is_the_mean_over_masked_tokens(checkpoint, task, tokenizer, tmp_path):
    """Against a plain computation with the whole vocabulary on every token."""
    task, _, loaded, batch = small(checkpoint, task, TEXTS, tokenizer, tmp_path, num_rows=2)
    @jax.jit
    def of(params):
        model = nnx.merge(loaded.graphdef, params)
        output = model.encoder(batch)
        hidden = model.head.cls.predictions.transform(output.hidden)
        logits = hidden @ output.word_embeddings.T + model.head.cls.predictions.bias[...]
        return task.loss(model(batch), batch)["mlm"], jax.nn.log_softmax(logits)

    (total, weight), scores = of(loaded.params)
    chosen = batch["labels"] != IGNORE
    wanted = -np.asarray(scores)[chosen][np.arange(chosen.sum()), batch["labels"][chosen]].sum()
    assert weight == chosen.sum()
    assert abs(float(total) - float(wanted)) <= BOUND * float(wanted)


@needs_torch
def test_logits_loss_and_gradients_equal_pytorch(checkpoint, directory, task, tokenizer, tmp_path):
    import torch
    from transformers import BertConfig, BertForMaskedLM

    task, items, loaded, batch = small(checkpoint, task, [TEXTS[0]], tokenizer, tmp_path, num_rows=1, row_length=8, num_slots=1)
    length = int(items.lengths[0])
    config = BertConfig(**{key: value for key, value in tiny.ENCODER.items() if key not in ("model_type", "architectures")}, attn_implementation="eager")
    model = BertForMaskedLM(config).eval()
    tensors = {}
    for path, leaf in flatten(loaded.params).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        tensors[name] = torch.tensor(np.array(np.asarray(leaf).T if transposed else leaf))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "bert.embeddings.position_ids"}
    labels = torch.tensor(batch["labels"][:, :length], dtype=torch.long)
    found = model(input_ids=torch.tensor(batch["input_ids"][:, :length], dtype=torch.long), labels=labels)
    found.loss.backward()

    def loss_fn(params):
        outputs = nnx.merge(loaded.graphdef, params)(batch)
        total, weight = task.loss(outputs, batch)["mlm"]
        return total / weight, outputs

    (loss, outputs), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(loaded.params)
    at = np.asarray(outputs.positions[0])
    at = at[at < length]
    wanted = found.logits.detach().numpy()[0][at]
    assert np.abs(np.asarray(outputs.logits[0])[: len(at)] - wanted).max() <= BOUND * max(1.0, np.abs(wanted).max())
    assert abs(float(loss) - found.loss.item()) <= BOUND * found.loss.item()
    theirs = dict(model.named_parameters())
    for path, gradient in flatten(gradients).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        wanted = theirs[name].grad.numpy()
        ours = np.asarray(gradient).T if transposed else np.asarray(gradient)
        assert np.abs(ours - wanted).max() <= BOUND * max(1.0, np.abs(wanted).max()), path


# ---- a run ----------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run from new weights on eight sentences, each of them many times."""
    folder = tmp_path_factory.mktemp("run")
    cfg = tiny.config(folder, **{"num_epochs": 60, "optim.learning_rate": 3e-3, "evals": {"validation": Eval(every=100)}, "checkpoint.every": 1000})
    lines = folder / "train.txt"
    lines.write_text("\n".join(TEXTS * 3))
    cfg.task = MaskedLm(train=str(lines), validation=str(lines))
    cfg.model = Untrained(path=str(folder / "encoder"))
    return folder / "run", run(cfg, folder / "run")


def test_scores_of_a_run(trained):
    _, results = trained
    scores = results["evals"]["validation"]
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert scores["loss/low"] <= scores["loss"] <= scores["loss/high"]
    assert scores["masked_accuracy"] > 0.5
    assert scores["num_masked"] >= 24
    assert results["compiles_after_start"] == 0


def test_masks_are_filled(trained):
    workdir, _ = trained
    first, second, none = flaxft.load(str(workdir)).predict(["anna works in [MASK]", "a new [MASK] at [MASK] !", "red [SEP]"])
    assert first["filled"] == "anna works in paris"
    assert [len(mask) for mask in first["masks"]] == [5]
    assert first["masks"][0][0]["token"] == "paris"
    assert first["masks"][0][0]["score"] >= first["masks"][0][1]["score"]
    assert len(second["masks"]) == 2
    assert second["filled"].startswith("a new ")
    assert none["num_masked"] == 1  # "[SEP]" is plain text, of which a token is masked


def test_a_vocabulary_that_is_filled_up_has_candidates_without_a_name(tokenizer, task):
    (features,) = task.features({"text": "anna lives in [MASK]"}, tokenizer, max_length=20)
    num = len(features.tokens["labels"])
    beyond = {"candidates": np.full((num, 2), 10**6), "scores": np.full((num, 2), 0.5, np.float32), "loss": np.zeros(num, np.float32)}
    assert task.decode({"text": "anna lives in [MASK]"}, [features], [beyond])["masks"] == [[{"token": "", "score": 0.5}] * 2]


def test_more_masks_than_the_budget_are_all_filled(trained):
    workdir, _ = trained
    (found,) = flaxft.load(str(workdir)).predict(["[MASK] " * 12])
    assert len(found["masks"]) == 12
    assert "[MASK]" not in found["filled"]


@needs_torch
def test_pytorch_loads_the_result_and_fills_the_same(trained, tmp_path):
    from transformers import pipeline

    workdir, _ = trained
    predictor = flaxft.load(str(workdir))
    predictor.save_pretrained(tmp_path / "out")
    fill = pipeline("fill-mask", model=str(tmp_path / "out"))
    for text in ("anna works in [MASK]", "the old [MASK]"):
        ours = predictor.predict([text])[0]["masks"][0]
        theirs = fill(text)
        assert [one["token"] for one in ours] == [one["token_str"] for one in theirs]
        np.testing.assert_allclose([one["score"] for one in ours], [one["score"] for one in theirs], atol=BOUND)


def test_a_saved_masked_lm_goes_on_with_its_head(trained, tmp_path):
    workdir, results = trained
    flaxft.load(str(workdir)).save_pretrained(tmp_path / "out")
    cfg = tiny.config(tmp_path, num_steps=0)
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS * 3))
    cfg.task = MaskedLm(train=str(lines), validation=str(lines))
    cfg.model = Pretrained(path=str(tmp_path / "out"))
    again = run(cfg, tmp_path / "again")
    assert again["evals"]["validation"]["loss"] == pytest.approx(results["evals"]["validation"]["loss"], rel=1e-5)


def test_untrained_weights_follow_from_the_seed(directory, task):
    model = Untrained(path=str(directory))
    first, again, other = (flatten(model.load(model.open(), task.head, reuse_head=False, seed=seed).params) for seed in (0, 0, 1))
    path = "encoder/encoder/layer/0/intermediate/dense/kernel"
    np.testing.assert_array_equal(first[path], again[path])
    assert not np.array_equal(first[path], other[path])
    stored = flatten(Pretrained(path=str(directory)).load(model.open(), task.head, reuse_head=False, seed=0).params)
    assert not np.array_equal(first[path], stored[path])


# ---- mistakes -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"mask_probability": 0.0}, "between 0 and 1"),
        ({"mask_probability": 1.5}, "between 0 and 1"),
        ({"mask_share": 0.9, "random_share": 0.2}, "at most 1"),
        ({"random_share": -0.1}, "at most 1"),
        ({"main_metric": "perplexity"}, "-perplexity"),
        ({"text_columns": ("a", "b")}, "reads one"),
    ],
)
def test_bad_settings(tokenizer, checkpoint, changes, what):
    with pytest.raises(UserError, match=what):
        MaskedLm(**changes).resolve(tokenizer, checkpoint)


def test_a_tokenizer_without_mask_is_refused(tokenizer, checkpoint, monkeypatch):
    monkeypatch.setattr(tokenizer, "mask_id", None)
    with pytest.raises(UserError, match=r"no \[MASK\]"):
        MaskedLm().resolve(tokenizer, checkpoint)


@pytest.mark.parametrize(("record", "what"), [({"text": None}, "expected text"), ({"text": 5}, "expected text"), ({"words": "a"}, "no column of text")])
def test_bad_records_are_named_by_place(tmp_path, record, what):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps({"text": "fine"}) + "\n" + json.dumps(record))
    with pytest.raises(UserError, match=rf"train.jsonl:2: .*{what}"):
        MaskedLm(train=str(file)).records("train")


def test_na_is_text_and_empty_text_has_no_mask(tokenizer, task):
    for text, num in (("NA", 1), ("null", 1), ("", 0), ("\u200b", 0)):
        (features,) = task.features({"text": text}, tokenizer, max_length=16)
        assert (features.tokens["labels"] != IGNORE).sum() == num
        assert not (features.tokens["labels"] == ASKED).any()


def test_text_files_are_lines_of_text_in_folders_and_globs_too(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name} O\n\nlives O\n")
    texts = [{"text": text} for name in ("a.txt", "b.txt") for text in (f"{name} O", "lives O")]
    for path in (f"{tmp_path}", f"{tmp_path}/*.txt", f"{tmp_path}/a.txt,{tmp_path}/b.txt"):
        assert list(MaskedLm(train=path).records("train")) == texts
