"""Records of a text or two and a number become features, and predictions numbers; head, loss and gradients equal PyTorch's."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxft
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained, hf_names
from flaxft.tasks.base import fits_head
from flaxft.tasks.regression import Regression
from tests import tiny

BOUND = 1e-5
FAST = settings(max_examples=200, deadline=None, derandomize=True)
TASK = Regression(text_columns=("text",), label_column="score")
TEXTS = ("anna works in paris", "bob lives in rome .", "the old corp", "a new acme at oslo !", "is carl red ?", "dora was blue", "for the corp", "red")
NUMBERS = (0.0, 2.5, 5, 3.8, 1.25, 4, 0.6, 3.0)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("regression") / "encoder")


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
    """What the contract tests run on: pairs."""
    records = [{"sentence1": text, "sentence2": TEXTS[i - 3], "score": NUMBERS[i]} for i, text in enumerate(TEXTS)]
    file = write(folder / "eight.jsonl", records)
    return Regression(train=file, validation=file)


def target_of(record, tokenizer, task=TASK):
    (features,) = task.features({"text": "red"} | record, tokenizer, max_length=16)
    assert set(features.example) == set(task.spec())
    assert all(array.dtype == np.float32 for array in features.example.values())
    return features.example["labels"], features.example["label_weight"]


# ---- records --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3.5, "3.5", " 3.5 ", "+3.50", "35e-1", "3.5E0"])
def test_what_a_number_may_look_like(tokenizer, value):
    assert target_of({"score": value}, tokenizer) == (3.5, 1)


@pytest.mark.parametrize(("value", "wanted"), [(-2, -2), ("-2", -2), (0, 0), ("0", 0), ("5.", 5), (".5", 0.5), (10**20, 1e20), (1e-300, 0)])
def test_other_numbers(tokenizer, value, wanted):
    assert target_of({"score": value}, tokenizer) == (np.float32(wanted), 1)


@FAST
@given(st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(10**30), 10**30))
def test_a_number_and_its_text_are_the_same(value):
    assert TASK._gold({"score": value}) == TASK._gold({"score": repr(value)}) == float(value)


@FAST
@given(st.text(max_size=8) | st.none() | st.booleans() | st.floats() | st.integers() | st.lists(st.floats(), max_size=2))
def test_anything_is_a_finite_number_or_a_user_error(value):
    try:
        found = TASK._gold({"score": value})
    except UserError:
        return
    assert np.isfinite(np.float32(found))


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"text": None, "score": 1}, "expected text"),
        ({"text": 3, "score": 1}, "'3' (int), expected text"),
        ({"text": "red", "score": None}, "'None' (NoneType); every record needs a number"),
        ({"text": "red", "score": ""}, "'' (str); every record needs a number"),
        ({"text": "red", "score": "  "}, "expected a number such as 3.5"),
        ({"text": "red", "score": "good"}, "'good' (str); expected a number such as 3.5"),
        ({"text": "red", "score": "3,5"}, "'3,5' (str); expected a number such as 3.5"),
        ({"text": "red", "score": "1_000"}, "expected a number such as 3.5"),
        ({"text": "red", "score": "nan"}, "'nan' (str); expected a number such as 3.5"),
        ({"text": "red", "score": "inf"}, "'inf' (str); expected a number such as 3.5"),
        ({"text": "red", "score": True}, "'True' (bool); expected a number"),
        ({"text": "red", "score": [1.0]}, "'[1.0]' (list); expected a number"),
        ({"text": "red", "score": 1e39}, "is 1e+39, expected a finite number up to 3.4e+38"),
        ({"text": "red", "score": "1e999"}, "is 1e999, expected a finite number up to 3.4e+38"),
        ({"text": "red", "score": 10**400}, "expected a finite number up to 3.4e+38"),
        ({"text": "red", "skore": 1}, "no column 'score'; found are ['skore', 'text']; set task.label_column; did you mean 'skore'?"),
        ({"txt": "red", "score": 1}, "no column 'text'; found are ['score', 'txt']; set task.text_columns; did you mean 'txt'?"),
    ],
)
def test_bad_records_are_named_by_their_line(tmp_path, record, what):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "score": 1}, record])
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TASK, train=file).records("train")
    assert str(caught.value).startswith(f"{file}:2: ")
    assert what in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_json_that_is_no_number(tmp_path, number):
    (tmp_path / "t.jsonl").write_text(f'{{"text": "red", "score": {number}}}')
    with pytest.raises(UserError, match=r"t\.jsonl:1: bad JSON"):
        dataclasses.replace(TASK, train=str(tmp_path / "t.jsonl")).records("train")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), None])
def test_parquet_that_holds_no_number(tmp_path, number):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["red", "blue"], "score": pa.array([1.0, number])}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="row 1: column 'score' is "):
        dataclasses.replace(TASK, train=str(tmp_path / "t.parquet")).records("train")


def test_csv(tmp_path, tokenizer, checkpoint):
    (tmp_path / "t.tsv").write_bytes("\ufeffsentence1\tsentence2\tgenre\tscore\r\nNA\tnull\tx\t3.5\r\n\tred\ty\t0\r\n".encode())
    task = Regression(train=str(tmp_path / "t.tsv")).resolve(tokenizer, checkpoint)
    assert (task.text_columns, task.label_column) == (("sentence1", "sentence2"), "score")
    source = task.records("train")
    assert [target_of(record, tokenizer, task) for record in source] == [(3.5, 1), (0, 1)]
    assert task._texts(source[0]) == ["NA", "null"]
    assert task.resolve(tokenizer, checkpoint) == task


@pytest.mark.parametrize("label", ["score", "label", "labels", "similarity_score", "rating"])
def test_columns_are_found(tmp_path, tokenizer, checkpoint, label):
    task = Regression(train=write(tmp_path / "t.jsonl", [{"text": "red", label: i} for i in range(2)])).resolve(tokenizer, checkpoint)
    assert (task.text_columns, task.label_column) == (("text",), label)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"main_metric": "spearmann"}, "did you mean 'spearman'"),
        ({"main_metric": "mse"}, "allowed are .*'-mse'"),
        ({"text_columns": ("text", "text", "text")}, "names 3 columns"),
        ({"label_column": "scor"}, "set task.label_column; did you mean 'score'"),
    ],
)
def test_bad_settings(tmp_path, tokenizer, checkpoint, fields, what):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "score": i} for i in range(2)])
    with pytest.raises(UserError, match=what):
        Regression(train=file, **fields).resolve(tokenizer, checkpoint)


def test_one_number_only(tmp_path, tokenizer, checkpoint):
    with pytest.raises(UserError, match="every record has the number 3; expected at least two that differ"):
        Regression(train=write(tmp_path / "t.jsonl", [{"text": "red", "score": 3}] * 3)).resolve(tokenizer, checkpoint)


# ---- loss and results -----------------------------------------------------------------------------------------------------------------------------


def test_a_record_without_a_number_counts_in_no_loss(tokenizer):
    target, weight = target_of({}, tokenizer)
    assert (target, weight) == (0, 0)
    outputs = np.array([[[1.0], [7.0], [3.0], [np.nan]]], np.float32)
    batch = {"labels": np.array([[0.0, target, 1.0, 0.0]]), "label_weight": np.array([[1.0, weight, 1.0, 0.0]])}
    total, num = TASK.loss(outputs, batch)["sequence"]
    assert (total, num) == (1 + 4, 2)
    gradient = jax.grad(lambda x: TASK.loss(x, batch)["sequence"][0])(outputs)
    np.testing.assert_array_equal(gradient[0, :, 0], [2, 0, 4, 0])
    assert all(field.pad == 0 for field in TASK.spec().values())  # an empty slot, or another task's, has no weight


RECORDS = [{"text": text, "score": str(number)} for text, number in zip(TEXTS, NUMBERS, strict=True)]
PREDICTED = np.array([0.5, 2.0, 4.5, 4.0, 1.0, 3.5, 1.5, 2.25], np.float32)


def decoded():
    raw = [TASK.decode(record, [], [{"score": one}]) for record, one in zip(RECORDS, PREDICTED, strict=True)]
    calibration = TASK.calibrate(raw, RECORDS)
    return [TASK.calibrated(one, calibration) for one in raw]


def test_decode_gives_a_number():
    assert decoded()[0] == {"text": TEXTS[0], "score": 0.5}
    assert TASK.calibrated(TASK.decode({"text": "red"}, [], [{"score": np.float32(1 / 3)}]), {}) == {"text": "red", "score": 0.333333}
    pair = dataclasses.replace(TASK, text_columns=("premise", "hypothesis")).decode({"text": "red", "text_pair": "blue"}, [], [{"score": np.float32(2)}])
    assert pair == {"text": "red", "text_pair": "blue", "score": 2.0}


def test_scores_are_those_of_scipy():
    from scipy.stats import pearsonr, spearmanr

    found = TASK.score(decoded(), RECORDS, {})
    np.testing.assert_allclose(found["pearson"], pearsonr(NUMBERS, PREDICTED).statistic)
    np.testing.assert_allclose(found["spearman"], spearmanr(NUMBERS, PREDICTED).statistic)
    np.testing.assert_allclose(found["mse"], np.square(np.array(NUMBERS) - PREDICTED).mean(), rtol=1e-6)


@pytest.mark.parametrize("metric", ["spearman", "pearson", "-mse", "-mae", "-loss"])
def test_the_main_metric_has_an_interval(metric):
    task, name = dataclasses.replace(TASK, main_metric=metric), metric.removeprefix("-")
    found, report = task.score(decoded(), RECORDS, {}), task.report(decoded(), RECORDS)
    if metric == "-loss":
        assert not any("/" in key for key in found)
        assert "interval" not in report
        return
    assert found[f"{name}/low"] < found[name] < found[f"{name}/high"]
    assert f"95 % interval of {name}: {found[f'{name}/low']:.4f} to" in report
    assert report.split()[:2] == ["pearson", f"{found['pearson']:.4f}"]


# ---- PyTorch --------------------------------------------------------------------------------------------------------------------------------------


def save_random(folder, problem_type):
    """A BertForSequenceClassification of one output with random weights, saved as transformers does, and the model."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tiny.encoder(folder)
    (folder / "config.json").write_text(json.dumps(tiny.ENCODER))
    config = AutoConfig.from_pretrained(folder, num_labels=1, problem_type=problem_type)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model


@needs_torch
@pytest.mark.parametrize("problem_type", [None, "regression"])
def test_outputs_loss_and_gradients_are_those_of_torch(tmp_path, problem_type):
    """At most 1e-5 x max(1, largest magnitude), float32, dropout off; the loss is the model's own. Ours on a row of three, one without a number."""
    import torch

    model = save_random(tmp_path, problem_type)
    rng = np.random.default_rng(0)
    starts, n = np.array([[0, 9, 18]]), 9
    batch = {name: np.zeros((1, 28), np.int32) for name in ("input_ids", "token_type_ids", "position_ids", "segment_ids")}
    ids, types = rng.integers(1, 128, (3, n)), rng.integers(0, 2, (3, n))
    for s in range(3):
        for name, values in (("input_ids", ids[s]), ("token_type_ids", types[s]), ("position_ids", np.arange(n)), ("segment_ids", s + 1)):
            batch[name][0, starts[0, s] : starts[0, s] + n] = values
    batch |= {"example_start": starts, "labels": np.array([[4.5, 0.0, 1.0]], np.float32), "label_weight": np.array([[1.0, 0.0, 1.0]], np.float32)}
    used = [0, 2]
    out = model(input_ids=torch.tensor(ids[used]), token_type_ids=torch.tensor(types[used]), labels=torch.tensor([4.5, 1.0]))
    out.loss.backward()

    source = Pretrained(path=str(tmp_path))
    checkpoint = source.open()
    assert fits_head(TASK, checkpoint)
    loaded = source.load(checkpoint, TASK.head, reuse_head=True, seed=0)

    def loss_fn(params):
        outputs = nnx.merge(loaded.graphdef, params)(batch)
        ((total, weight),) = TASK.loss(outputs, batch).values()
        return total / weight, outputs

    (ours, outputs), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(loaded.params)
    wanted = {"loss": out.loss.item(), "logits": out.logits.detach().numpy()}
    found = {"loss": ours, "logits": np.asarray(outputs)[0, used]}
    wanted |= {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    for path, gradient in flatten(gradients).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        found[name] = gradient.T if transposed else gradient
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert np.abs(np.asarray(found[name]) - array).max() <= BOUND * max(1.0, np.abs(array).max()), name


@needs_torch
def test_a_fine_tuned_model_is_applied_as_it_is(tmp_path):
    import torch
    from transformers import AutoTokenizer

    model = save_random(tmp_path / "out", "regression")
    found = flaxft.load(str(tmp_path / "out"), task=Regression()).predict(list(TEXTS))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text, one in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            wanted = model(**tokenizer(text, padding=False, return_tensors="pt")).logits.item()
        assert abs(one["score"] - wanted) <= BOUND * max(1.0, abs(wanted))


@needs_torch
def test_a_classifier_is_no_regression_model(tmp_path):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tiny.encoder(tmp_path)
    AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(tmp_path, num_labels=3)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="LABEL_2"):
        flaxft.load(str(tmp_path), task=Regression())


@needs_torch
def test_a_run_goes_to_transformers_and_back(tmp_path):
    """Trained on pairs, applied to raw pairs, written, and loaded by PyTorch and by flaxft: the same numbers."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    cfg = tiny.config(tmp_path, num_epochs=40, **tiny.ONCE)
    cfg.task = example(tmp_path)
    results = flaxft.run(cfg, str(tmp_path / "run"))
    assert results["compiles_after_start"] == 0
    assert results["best"]["metric"] == "spearman"
    scores = results["evals"]["validation"]
    assert scores["spearman"] > 0.9
    assert abs(scores["mse"] - scores["loss"]) < 1e-5
    trained = flaxft.load(str(tmp_path / "run"))
    pairs = [{"text": text, "text_pair": TEXTS[i - 3]} for i, text in enumerate(TEXTS)]
    found = trained.predict(pairs)
    trained.save_pretrained(tmp_path / "out")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval(), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
    again = flaxft.load(str(tmp_path / "out"), task=Regression()).predict(pairs)
    for pair, one, other in zip(pairs, found, again, strict=True):
        with torch.no_grad():
            wanted = model(**tokenizer(pair["text"], pair["text_pair"], padding=False, return_tensors="pt")).logits.item()
        assert abs(one["score"] - wanted) <= BOUND * max(1.0, abs(wanted))
        assert abs(other["score"] - wanted) <= BOUND * max(1.0, abs(wanted))
