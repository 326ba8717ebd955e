"""Records of a text or two and a label become features, and predictions become what a user reads; the head equals PyTorch's."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging

import jax
import numpy as np
import pytest
from flax import nnx, serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import flaxft
from flaxft.data.base import IGNORE, Records
from flaxft.data.items import build_items
from flaxft.data.texts import longest_first
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.base import flatten, unflatten
from flaxft.models.hf import Pretrained, hf_names
from flaxft.tasks.sequence_classification import SequenceClassification
from tests import tiny
from tests.tasks.contract import check_temperature, overconfident

BOUND = 1e-5
FAST = settings(max_examples=150, deadline=None, derandomize=True)
TASK = SequenceClassification(labels=("neg", "pos"), text_columns=("text",), label_column="label")
PAIR = dataclasses.replace(TASK, text_columns=("premise", "hypothesis"))
TEXTS = ("anna works in paris", "bob lives in rome .", "the old corp", "a new acme at oslo !", "is carl red ?", "dora was blue", "for the corp", "red")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("sequence") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


@pytest.fixture(scope="module")
def checkpoint(directory):
    return Pretrained(path=str(directory)).open()


def write(file, records):
    file.write_text("\n".join(json.dumps(record) for record in records))
    return str(file)


def example(folder):
    """What the contract tests run on: pairs, so that token types matter."""
    records = [{"premise": text, "hypothesis": TEXTS[i - 3], "label": ("neg", "pos", "so so")[i % 3]} for i, text in enumerate(TEXTS)]
    file = write(folder / "eight.jsonl", records)
    return SequenceClassification(train=file, validation=file, label_smoothing=0.0)


def pieces(tokenizer, features):
    return " ".join(tokenizer.backend.id_to_token(i) for i in features.tokens["input_ids"])


# ---- features -------------------------------------------------------------------------------------------------------------------------------------


def test_one_text(tokenizer):
    (features,) = TASK.features({"text": "Anna works", "label": "pos"}, tokenizer, max_length=16)
    assert pieces(tokenizer, features) == "[CLS] anna works [SEP]"
    assert set(features.tokens) == {"input_ids"}
    assert features.example["labels"] == 1
    assert features.example["labels"].dtype == np.int32
    assert features.num_cut == 0


def test_a_pair(tokenizer):
    (features,) = PAIR.features({"premise": "Anna works", "hypothesis": "red", "label": "neg"}, tokenizer, max_length=16)
    assert pieces(tokenizer, features) == "[CLS] anna works [SEP] red [SEP]"
    assert features.tokens["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1]
    assert features.example["labels"] == 0


def test_a_long_text_is_cut_at_its_end(tokenizer):
    (features,) = TASK.features({"text": "anna works in paris for acme"}, tokenizer, max_length=5)
    assert pieces(tokenizer, features) == "[CLS] anna works in [SEP]"
    assert features.num_cut == 3
    assert features.example["labels"] == IGNORE


def test_of_a_long_pair_the_longer_text_is_cut_first(tokenizer):
    (features,) = PAIR.features({"premise": "anna works in paris for acme", "hypothesis": "bob lives"}, tokenizer, max_length=8)
    assert pieces(tokenizer, features) == "[CLS] anna works in [SEP] bob lives [SEP]"
    assert features.num_cut == 3
    with pytest.raises(UserError, match="at least 4"):
        PAIR.features({"premise": "a", "hypothesis": "a"}, tokenizer, max_length=3)


@FAST
@given(first=st.integers(0, 12), second=st.integers(0, 12), capacity=st.integers(1, 14))
def test_longest_first_is_that_of_tokenizers(tokenizer, first, second, capacity):
    tokenizer.backend.enable_truncation(capacity + 3, strategy="longest_first")
    try:
        types = np.array(tokenizer.backend.encode(" ".join(["red"] * first), " ".join(["blue"] * second)).sequence_ids, float)
    finally:
        tokenizer.backend.no_truncation()
    assert longest_first(first, second, capacity=capacity) == ((types == 0).sum(), (types == 1).sum())


def test_the_number_of_cut_texts_is_said_once_even_from_the_cache(tmp_path, tokenizer, caplog):
    records = [{"text": "red " * n, "label": "pos"} for n in (3, 6, 7)]
    task = dataclasses.replace(TASK, train=write(tmp_path / "train.jsonl", records))
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="flaxft"):
            items = build_items(task.records("train"), task, tokenizer, max_length=7, key="k", cache=tmp_path)
        assert items.num_cut.tolist() == [0, 1, 2]
        (line,) = [record.getMessage() for record in caplog.records if "cut" in record.getMessage()]
        assert "train.jsonl: 2 of 3 records" in line
        assert "max_length=7" in line


@pytest.mark.parametrize("text", ["", "NA", "null", "nan", "None", "  "])
def test_odd_texts_are_texts(tmp_path, tokenizer, text):
    (tmp_path / "train.csv").write_text(f'text,label\n"{text}",pos\nred,neg\n')
    source = dataclasses.replace(TASK, train=str(tmp_path / "train.csv")).records("train")
    assert source[0]["text"] == text
    assert len(TASK.features(source[0], tokenizer, max_length=16)[0].tokens["input_ids"]) >= 2


# ---- columns and labels ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ("text", ("text",)),
        ("sentence text", ("text",)),
        ("sentence", ("sentence",)),
        ("sentence1", ("sentence1",)),
        ("sentence1 sentence2", ("sentence1", "sentence2")),
        ("premise hypothesis idx", ("premise", "hypothesis")),
    ],
)
@pytest.mark.parametrize("label", ["label", "labels", "category", "intent"])
def test_columns_are_found(tmp_path, tokenizer, checkpoint, columns, wanted, label):
    records = [{**dict.fromkeys(columns.split(), "red"), label: name} for name in ("b", "a", "b")]
    task = SequenceClassification(train=write(tmp_path / "t.jsonl", records)).resolve(tokenizer, checkpoint)
    assert (task.text_columns, task.label_column, task.labels) == (wanted, label, ("a", "b"))


def test_number_labels(tmp_path, tokenizer, checkpoint):
    records = [{"text": "red", "label": i} for i in (10, 2, 2)]
    task = SequenceClassification(train=write(tmp_path / "t.jsonl", records)).resolve(tokenizer, checkpoint)
    assert task.labels == ("2", "10")
    assert [task._label_id(record) for record in records] == [1, 0, 0]
    assert TASK._label_id({"text": "red", "label": 1}) == 1
    assert TASK._label_id({"text": "red", "label": "1"}) == 1  # a CSV cell


def test_balanced_weights(tmp_path, tokenizer, checkpoint):
    from sklearn.utils.class_weight import compute_class_weight

    names = ["b", "a", "b", "b", "c"]
    task = SequenceClassification(train=write(tmp_path / "t.jsonl", [{"text": "red", "label": name} for name in names]), class_weights="balanced")
    found = task.resolve(tokenizer, checkpoint)
    np.testing.assert_allclose(found.class_weights, compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=names))
    assert found.resolve(tokenizer, checkpoint) == found


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"text": None, "label": "pos"}, "expected text"),
        ({"text": 3, "label": "pos"}, "'3' (int), expected text"),
        ({"text": "red", "label": None}, "expected a label"),
        ({"text": "red", "label": 0.5}, "expected a label"),
        ({"text": "red", "label": ["pos", "neg"]}, "several labels, and this task learns one"),
        ({"text": "red", "label": ""}, "is empty"),
        ({"text": "red", "lable": "pos"}, "found are ['lable', 'text']; set task.label_column; did you mean 'lable'?"),
        ({"txt": "red", "label": "pos"}, "no column 'text'; found are ['label', 'txt']; set task.text_columns; did you mean 'txt'?"),
        ({"text": "red", "label": 2}, "label number 2 in 'label', expected 0 to 1"),
    ],
)
def test_bad_records_are_named_by_their_line(tmp_path, record, what):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "label": "neg"}, record])
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TASK, train=file).records("train")
    assert str(caught.value).startswith(f"{file}:2: ")
    assert what in str(caught.value)


def test_an_unknown_label_is_named_with_the_nearest(tmp_path, tokenizer):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "label": "posi"}])
    source = dataclasses.replace(TASK, train=file).records("train")
    with pytest.raises(UserError, match=r"t\.jsonl:1: label 'posi' is not among .* did you mean 'pos'"):
        build_items(source, TASK, tokenizer, max_length=16, key="k", cache=tmp_path)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"labels": ("a", "a")}, "more than once"),
        ({"labels": ("a",)}, "at least two"),
        ({"text_columns": ("text", "text", "text")}, "names 3 columns"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"focal_gamma": -1.0}, "focal_gamma is -1.0"),
        ({"class_weights": "balance"}, "'balanced'"),
        ({"class_weights": (1.0,)}, "each of the 2 labels"),
        ({"class_weights": (1.0, 0.0)}, "a positive number"),
        ({"main_metric": "acuracy"}, "did you mean 'accuracy'"),
    ],
)
def test_bad_settings(tmp_path, tokenizer, checkpoint, fields, what):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "label": name} for name in "ab"])
    with pytest.raises(UserError, match=what):
        SequenceClassification(train=file, **fields).resolve(tokenizer, checkpoint)


def test_one_label_only(tmp_path, tokenizer, checkpoint):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "label": "a"}] * 3)
    with pytest.raises(UserError, match="every record has the label 'a'"):
        SequenceClassification(train=file, labels=("a", "b")).resolve(tokenizer, checkpoint)


def test_a_pair_needs_two_token_types(tmp_path, tokenizer):
    file = write(tmp_path / "t.jsonl", [{"premise": "red", "hypothesis": "red", "label": name} for name in "ab"])
    other = Pretrained(path=str(tiny.encoder(tmp_path / "one type", type_vocab_size=1))).open()
    with pytest.raises(UserError, match="type_vocab_size"):
        SequenceClassification(train=file).resolve(tokenizer, other)


# ---- results --------------------------------------------------------------------------------------------------------------------------------------


def test_decode_score_report():
    records = [{"text": "red", "label": "pos"}, {"text": "blue", "label": "neg"}]
    predictions = [{"label": np.int32(1), "scores": np.array([0.25, 0.75], np.float32)}] * 2
    decoded = [TASK.decode(record, [], [one]) for record, one in zip(records, predictions, strict=True)]
    assert decoded[0] == {"text": "red", "label": "pos", "score": 0.75, "scores": {"neg": 0.25, "pos": 0.75}}
    scores = TASK.score(decoded, records, {})
    assert (scores["accuracy"], scores["mcc"], scores["pos/recall"], scores["neg/support"]) == (0.5, 0.0, 1.0, 1)
    assert "macro avg" in TASK.report(decoded, records)
    pair = PAIR.decode({"text": "red", "text_pair": "blue"}, [], predictions[:1])
    assert (pair["text"], pair["text_pair"]) == ("red", "blue")


@needs_torch
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.25)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_that_of_torch(weights, smoothing):
    import torch

    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 4, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (3, 4))
    labels[0, 1] = labels[2, 2] = IGNORE
    task = SequenceClassification(labels=("a", "b", "c"), class_weights=weights, label_smoothing=smoothing)

    def loss_fn(logits):
        ((total, weight),) = task.loss(logits, {"labels": labels}).values()
        return total / weight

    loss, gradient = jax.value_and_grad(loss_fn)(logits)
    theirs = torch.tensor(logits.reshape(-1, 3), requires_grad=True)
    of_torch = torch.nn.CrossEntropyLoss(weight=None if weights is None else torch.tensor(weights), label_smoothing=smoothing)
    wanted = of_torch(theirs, torch.tensor(labels.reshape(-1)))
    wanted.backward()
    assert abs(float(loss) - wanted.item()) < 1e-6
    np.testing.assert_allclose(np.asarray(gradient).reshape(-1, 3), theirs.grad.numpy(), atol=1e-6)


# ---- weights --------------------------------------------------------------------------------------------------------------------------------------

POOLER = {
    "pooler.dense.weight": np.random.default_rng(1).standard_normal((32, 32)).astype(np.float32),
    "pooler.dense.bias": np.random.default_rng(2).standard_normal(32).astype(np.float32),
}


def load(directory, kind="sequence"):
    source = Pretrained(path=str(directory))
    return source.load(source.open(), lambda encoder, rngs: encoder.head(kind, 3, rngs=rngs), reuse_head=False, seed=0)


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("layout", ["safetensors", "msgpack"])
def test_a_pretrained_pooler_is_read(tmp_path, prefix, layout):
    tiny.encoder(tmp_path)
    tensors = {f"{prefix}{name}": tensor for name, tensor in (tiny.weights(tiny.ENCODER) | POOLER).items()}
    if layout == "safetensors":
        save_file(tensors, tmp_path / "model.safetensors")
    else:
        encoder = Pretrained(path=str(tmp_path)).open().encoder
        (tmp_path / "model.safetensors").unlink()
        names = {hf_names(path, encoder, with_prefix=False)[0]: path for path in flatten(load(tiny.encoder(tmp_path / "other")).params)}
        paths = {names[name.removeprefix("bert.")].partition("/")[2]: name for name in tensors}  # without encoder/ or head/
        flat = {("bert/" if prefix else "") + path: tensors[name].T if path.endswith("kernel") else tensors[name] for path, name in paths.items()}
        (tmp_path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(unflatten(flat)))
    loaded = load(tmp_path)
    assert set(loaded.fresh) == {"head/classifier/kernel", "head/classifier/bias"}
    np.testing.assert_array_equal(loaded.params["head"]["pooler"]["dense"]["kernel"], POOLER["pooler.dense.weight"].T)
    np.testing.assert_array_equal(loaded.params["head"]["pooler"]["dense"]["bias"], POOLER["pooler.dense.bias"])
    assert set(load(tmp_path, "token").params["head"]) == {"classifier"}


def test_a_missing_pooler_is_new(directory):
    assert len(load(directory).fresh) == 4


def test_what_is_right_already_counts_less_in_the_focal_loss():
    logits, labels = np.array([[[3.0, 0.0], [0.0, 3.0]]], np.float32), np.array([[0, 0]])

    def gradient(task):
        return jax.grad(lambda x: task.loss(x, {"labels": labels})["sequence"][0])(logits)

    right, wrong = np.abs(np.asarray(gradient(dataclasses.replace(TASK, focal_gamma=2.0)) / gradient(TASK)))[0, :, 0]
    assert right < 0.05 < 0.8 < wrong


@needs_torch
def test_outputs_loss_and_gradients_are_those_of_torch(tmp_path):
    """At most 1e-5 x max(1, largest magnitude), float32, dropout off; ours on rows of two examples each."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    names = ("neg", "pos", "so so")
    config = tiny.ENCODER | {"architectures": ["BertForSequenceClassification"], "id2label": {str(i): name for i, name in enumerate(names)}}
    (tmp_path / "config.json").write_text(json.dumps(config | {"label2id": {name: i for i, name in enumerate(names)}}))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(tmp_path), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    lengths = np.array([[9, 15], [20, 4]])
    labels = np.array([[2, 0], [1, 1]])
    batch = {name: np.zeros((2, 24), np.int32) for name in ("input_ids", "token_type_ids", "position_ids", "segment_ids")}
    batch |= {"example_start": np.stack([0 * lengths[:, 0], lengths[:, 0]], 1), "labels": labels}
    examples = []
    for r, s in np.ndindex(2, 2):
        start, n = int(batch["example_start"][r, s]), lengths[r, s]
        ids, types = rng.integers(1, 128, n), rng.integers(0, 2, n)
        for name, values in (("input_ids", ids), ("token_type_ids", types), ("position_ids", np.arange(n)), ("segment_ids", s + 1)):
            batch[name][r, start : start + n] = values
        examples.append((ids, types))
    logits = torch.cat([model(input_ids=torch.tensor(ids)[None], token_type_ids=torch.tensor(types)[None]).logits for ids, types in examples])
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels.reshape(-1)))
    loss.backward()

    source = Pretrained(path=str(tmp_path))
    checkpoint = source.open()
    assert (checkpoint.kind, checkpoint.labels) == ("sequence", names)
    task = SequenceClassification(labels=names)
    loaded = source.load(checkpoint, task.head, reuse_head=True, seed=0)

    def loss_fn(params):
        outputs = nnx.merge(loaded.graphdef, params)(batch)
        ((total, weight),) = task.loss(outputs, batch).values()
        return total / weight, outputs

    (ours, outputs), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(loaded.params)
    wanted = {"loss": loss.item(), "logits": logits.detach().numpy()}
    found = {"loss": ours, "logits": np.asarray(outputs).reshape(4, 3)}
    wanted |= {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    for path, gradient in flatten(gradients).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        found[name] = gradient.T if transposed else gradient
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert np.abs(np.asarray(found[name]) - array).max() <= BOUND * max(1.0, np.abs(array).max()), name


@needs_torch
def test_a_run_goes_to_transformers_and_back(tmp_path):
    """Trained on pairs, applied to raw pairs, written, and loaded by PyTorch and by flaxft: the same scores."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    cfg = tiny.config(tmp_path, num_epochs=20, **tiny.ONCE)
    cfg.task = dataclasses.replace(example(tmp_path), class_weights="balanced", label_smoothing=0.1)
    results = flaxft.run(cfg, str(tmp_path / "run"))
    assert results["compiles_after_start"] == 0
    trained = flaxft.load(str(tmp_path / "run"))
    assert trained.task.text_columns == ("premise", "hypothesis")
    pairs = [{"text": text, "text_pair": TEXTS[i - 3]} for i, text in enumerate(TEXTS)]
    found = trained.predict(pairs)
    trained.save_pretrained(tmp_path / "out")
    again = flaxft.load(str(tmp_path / "out"), task=SequenceClassification()).predict(pairs)
    assert [one["label"] for one in again] == [one["label"] for one in found]
    source = Pretrained(path=str(tmp_path / "out"))
    loaded = source.load(source.open(), trained.task.head, reuse_head=True, seed=0)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval(), AutoTokenizer.from_pretrained(tmp_path / "out")
    for pair, one in zip(pairs, found, strict=True):
        given = tokenizer(pair["text"], pair["text_pair"], padding=False, return_tensors="pt")
        with torch.no_grad():
            logits = model(**given).logits[0]
        scores = logits.softmax(-1).numpy()
        batch = {name: given[name].numpy().astype(np.int32) for name in ("input_ids", "token_type_ids")}
        batch |= {"segment_ids": np.ones_like(batch["input_ids"]), "position_ids": np.arange(batch["input_ids"].size)[None]}
        ours = tiny.outputs(loaded, batch | {"example_start": np.zeros((1, 1), np.int32)})[0, 0]
        assert np.abs(np.asarray(ours) - logits.numpy()).max() <= BOUND * max(1.0, np.abs(logits.numpy()).max())
        assert model.config.id2label[int(scores.argmax())] == one["label"]
        np.testing.assert_allclose(list(one["scores"].values()), scores, atol=BOUND)
    with pytest.raises(UserError, match="no column 'premise'"):
        trained.predict(["only one text"])


# ---- confidence -----------------------------------------------------------------------------------------------------------------------------------


def confident(num=400):
    told, gold = overconfident(num, 2)
    scores = [dict(zip(("neg", "pos"), row, strict=True)) for row in told.tolist()]
    decoded = [{"label": max(one, key=one.get), "score": max(one.values()), "scores": one} for one in scores]
    return decoded, [{"text": "a", "label": ("neg", "pos")[g]} for g in gold]


def test_the_temperature_makes_scores_honest():
    check_temperature(TASK, *confident())
    decoded, records = confident()
    assert "95 % interval of accuracy" in TASK.report(decoded, records)


@pytest.mark.parametrize("main_metric", ["accuracy", "macro_f1", "micro_f1", "mcc"])
def test_each_main_metric_has_its_interval(main_metric):
    decoded, records = confident()
    scores = dataclasses.replace(TASK, main_metric=main_metric).score(decoded, records, {})
    assert scores[f"{main_metric}/low"] < scores[main_metric] < scores[f"{main_metric}/high"]
    assert scores[f"{main_metric}/high"] - scores[f"{main_metric}/low"] < 0.25


def test_a_confusion_matrix_of_thousands_of_labels_shows_those_with_the_most_mistakes():
    labels = tuple(f"label {i}" for i in range(1000))
    task = SequenceClassification(text_columns=("text",), label_column="label", labels=labels)
    records = [{"text": "a", "label": labels[i]} for i in range(300)]
    decoded = [{"text": "a", "label": labels[i if i < 100 else i + 1], "score": 0.5} for i in range(300)]
    matrix = task.sections(decoded, Records("t", "0", records, range(300), ":{}"))[0]
    assert len(matrix.labels) == len(matrix.counts) == 200 and matrix.note == "The 200 labels with the most mistakes, of 1,000."
    assert matrix.labels[0] == "label 100" and matrix.counts[0][1] == 1
