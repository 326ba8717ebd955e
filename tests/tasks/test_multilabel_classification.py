"""Records of a text or two and a set of labels become features, and predictions sets of labels; head and loss equal PyTorch's."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging

import jax
import numpy as np
import pytest
from flax import nnx

import flaxft
from flaxft.config import Eval
from flaxft.data.base import IGNORE
from flaxft.data.items import build_items
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained, hf_names
from flaxft.tasks.multilabel_classification import MultiLabelClassification
from tests import tiny

BOUND = 1e-5
TASK = MultiLabelClassification(labels=("anger", "fear", "joy"), text_columns=("text",), label_column="labels")
WIDE = MultiLabelClassification(label_columns=("joy", "anger"))
TEXTS = ("anna works in paris", "bob lives in rome .", "the old corp", "a new acme at oslo !", "is carl red ?", "dora was blue", "for the corp", "red")
SETS = (["joy"], [], ["anger", "joy"], ["fear"], ["anger", "fear", "joy"], [], ["fear", "joy"], ["anger"])
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("multilabel") / "encoder")


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
    """What the contract tests run on: pairs, of which some have no label and one has all; a word stands for each label.

    Cross-entropy begins at log 2 and dropout holds it near 0.15 for 60 steps, which is not a fifth; of the focal loss that is less than a tenth.
    """
    words = {"anger": "red", "fear": "blue", "joy": "a new acme"}
    records = [
        {"premise": " ".join(["the", *(words[name] for name in names)]), "hypothesis": text, "labels": names} for names, text in zip(SETS, TEXTS, strict=True)
    ]
    file = write(folder / "eight.jsonl", records)
    return MultiLabelClassification(train=file, validation=file, focal_gamma=1.0)


def labels_of(task, record, tokenizer):
    (features,) = task.features({"text": "red"} | record, tokenizer, max_length=16)
    return features.example["labels"].tolist()


# ---- records --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (["joy"], [0, 0, 1]),
        (["joy", "anger"], [1, 0, 1]),
        (["joy", "joy"], [0, 0, 1]),
        ([], [0, 0, 0]),
        ([2, 0], [1, 0, 1]),
        (["2", "anger"], [1, 0, 1]),
        (("fear",), [0, 1, 0]),
        ("joy", [0, 0, 1]),
        ("joy,anger", [1, 0, 1]),
        (" joy , fear ", [0, 1, 1]),
        ("", [0, 0, 0]),
        ("  ", [0, 0, 0]),
        ("2,0", [1, 0, 1]),
        (1, [0, 1, 0]),
    ],
)
def test_what_a_set_of_labels_may_look_like(tokenizer, value, wanted):
    assert labels_of(TASK, {"labels": value}, tokenizer) == wanted


def test_a_record_without_labels_counts_in_no_loss(tokenizer):
    labels = labels_of(TASK, {}, tokenizer)
    assert labels == [IGNORE] * 3
    assert TASK.spec()["labels"].pad == IGNORE
    batch = {"labels": np.array([[labels, [1, 0, 0], labels]])}
    total, weight = TASK.loss(np.zeros((1, 3, 3), np.float32), batch)["sequence"]
    np.testing.assert_allclose([total, weight], [3 * np.log(2), 3], rtol=1e-6)


def test_another_separator(tokenizer):
    task = dataclasses.replace(TASK, label_separator=" | ")
    assert labels_of(task, {"labels": "joy | fear"}, tokenizer) == [0, 1, 1]
    comma = dataclasses.replace(TASK, labels=("joy, mild", "fear"), label_separator=";")
    assert labels_of(comma, {"labels": "joy, mild"}, tokenizer) == [1, 0]
    assert labels_of(dataclasses.replace(comma, label_separator=","), {"labels": ["joy, mild"]}, tokenizer) == [1, 0]  # a list needs none


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), (1, 0), (True, False), (1.0, 0.0)])
def test_a_column_per_label(tmp_path, tokenizer, checkpoint, yes, no):
    records = [{"text": "red", "joy": yes, "anger": no}, {"text": "blue", "joy": no, "anger": no}]
    task = dataclasses.replace(WIDE, train=write(tmp_path / "t.jsonl", records)).resolve(tokenizer, checkpoint)
    assert (task.labels, task.label_column) == (("joy", "anger"), "")
    assert [labels_of(task, record, tokenizer) for record in records] == [[1, 0], [0, 0]]
    assert labels_of(task, {}, tokenizer) == [IGNORE] * 2
    other = dataclasses.replace(task, labels=("anger", "fear", "joy")).resolve(tokenizer, checkpoint)
    assert labels_of(other, records[0], tokenizer) == [0, 0, 1]


def test_csv(tmp_path, tokenizer, checkpoint):
    (tmp_path / "t.csv").write_bytes('\ufefftext,labels,more\r\nNA,"joy,anger",x\r\nnull,,y\r\n"",NA,z\r\n'.encode())
    task = MultiLabelClassification(train=str(tmp_path / "t.csv")).resolve(tokenizer, checkpoint)
    assert (task.text_columns, task.label_column, task.labels) == (("text",), "labels", ("NA", "anger", "joy"))
    source = task.records("train")
    assert [labels_of(task, record, tokenizer) for record in source] == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert [record["text"] for record in source] == ["NA", "null", ""]


def test_parquet(tmp_path, tokenizer, checkpoint):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["red", "blue"], "label": pa.array([[10, 2], []], pa.list_(pa.int32()))}), tmp_path / "t.parquet")
    task = MultiLabelClassification(train=str(tmp_path / "t.parquet")).resolve(tokenizer, checkpoint)
    assert (task.label_column, task.labels) == ("label", ("2", "10"))
    assert labels_of(task, task.records("train")[0], tokenizer) == [1, 1]
    assert labels_of(task, {"label": [2]}, tokenizer) == [1, 0]


@pytest.mark.parametrize("label", ["labels", "label", "categories", "emotions", "tags"])
def test_columns_are_found(tmp_path, tokenizer, checkpoint, label):
    records = [{"sentence1": "red", "sentence2": "blue", label: names} for names in (["b"], ["a", "b"])]
    task = MultiLabelClassification(train=write(tmp_path / "t.jsonl", records)).resolve(tokenizer, checkpoint)
    assert (task.text_columns, task.label_column, task.labels) == (("sentence1", "sentence2"), label, ("a", "b"))
    assert task.resolve(tokenizer, checkpoint) == task


@pytest.mark.parametrize(
    ("task", "record", "what"),
    [
        (TASK, {"text": None, "labels": []}, "expected text"),
        (TASK, {"text": 3, "labels": []}, "'3' (int), expected text"),
        (TASK, {"text": "red", "labels": None}, "'None' (NoneType), expected a list of labels"),
        (TASK, {"text": "red", "labels": True}, "'True' (bool), expected a list of labels"),
        (TASK, {"text": "red", "labels": {"a": 1}}, "(dict), expected a list of labels"),
        (TASK, {"text": "red", "labels": {"joy": 1}}, "(dict), expected a list of labels"),
        (TASK, {"text": "red", "labels": ["joy", None]}, "'None' (NoneType), expected a label"),
        (TASK, {"text": "red", "labels": [True]}, "'True' is a bool, expected a label"),
        (TASK, {"text": "red", "labels": [0.5]}, "'0.5' (float), expected a label"),
        (TASK, {"text": "red", "labels": [["joy"]]}, "is a list, expected a label"),
        (TASK, {"text": "red", "labels": ["joy", ""]}, "a label is empty"),
        (TASK, {"text": "red", "labels": "joy,,fear"}, "a label is empty"),
        (TASK, {"text": "red", "labels": [3]}, "label number 3 in 'labels', expected 0 to 2"),
        (TASK, {"text": "red", "lables": []}, "found are ['lables', 'text']; set task.label_column; did you mean 'lables'?"),
        (WIDE, {"text": "red", "joy": 1}, "no column 'anger'; found are ['joy', 'text']; set task.label_columns"),
        (WIDE, {"text": "red", "joy": 1, "anger": 2}, "column 'anger' is '2' (int), expected 0 or 1"),
        (WIDE, {"text": "red", "joy": "", "anger": 1}, "column 'joy' is '' (str), expected 0 or 1"),
        (WIDE, {"text": "red", "joy": None, "anger": 1}, "column 'joy' is 'None' (NoneType), expected 0 or 1"),
        (WIDE, {"text": "red", "joy": 0.5, "anger": 1}, "expected 0 or 1"),
    ],
)
def test_bad_records_are_named_by_their_line(tmp_path, task, record, what):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "labels": ["joy"], "joy": 1, "anger": 0}, record])
    with pytest.raises(UserError) as caught:
        dataclasses.replace(task, train=file).records("train")
    assert str(caught.value).startswith(f"{file}:2: ")
    assert what in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_no_number_is_no_label(tmp_path, number):
    (tmp_path / "t.jsonl").write_text(f'{{"text": "red", "labels": [{number}]}}')
    with pytest.raises(UserError, match=r"t\.jsonl:1: bad JSON"):
        dataclasses.replace(TASK, train=str(tmp_path / "t.jsonl")).records("train")


def test_an_unknown_label_is_named_with_the_nearest(tmp_path, tokenizer):
    source = dataclasses.replace(TASK, train=write(tmp_path / "t.jsonl", [{"text": "red", "labels": ["joy", "angre"]}])).records("train")
    with pytest.raises(UserError, match=r"t\.jsonl:1: label 'angre' is not among .* did you mean 'anger'"):
        build_items(source, TASK, tokenizer, max_length=16, key="k", cache=tmp_path)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"labels": ("a", "a")}, "task.labels names .* more than once"),
        ({"label_columns": ("a", "a")}, "task.label_columns names .* more than once"),
        ({"label_columns": ("a",), "label_column": "labels"}, "are both set"),
        ({"label_columns": ("a",)}, "no column 'a'; .* set task.label_columns"),
        ({"label_separator": ""}, "label_separator is empty"),
        ({"text_columns": ("text", "text", "text")}, "names 3 columns"),
        ({"focal_gamma": -1.0}, "focal_gamma is -1.0"),
        ({"focal_gamma": float("nan")}, "focal_gamma is nan"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"positive_weights": "balance"}, "'balanced'"),
        ({"positive_weights": (1.0,)}, "each of the 2 labels"),
        ({"positive_weights": (1.0, -1.0)}, "a positive number"),
        ({"main_metric": "makro_f1"}, "did you mean 'macro_f1'"),
        ({"main_metric": "c/f1"}, "'a/f1', 'b/f1'"),
    ],
)
def test_bad_settings(tmp_path, tokenizer, checkpoint, fields, what):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "labels": [name]} for name in "ab"])
    with pytest.raises(UserError, match=what):
        MultiLabelClassification(train=file, **fields).resolve(tokenizer, checkpoint)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b"]])
def test_every_record_with_the_same_labels(tmp_path, tokenizer, checkpoint, names):
    file = write(tmp_path / "t.jsonl", [{"text": "red", "labels": names}] * 3)
    with pytest.raises(UserError, match="every record has the labels"):
        MultiLabelClassification(train=file, labels=("a", "b")).resolve(tokenizer, checkpoint)


def test_nothing_says_the_labels(tokenizer, checkpoint):
    with pytest.raises(UserError, match=r"no labels: task\.train is empty"):
        MultiLabelClassification().resolve(tokenizer, checkpoint)


def test_balanced_weights(tmp_path, tokenizer, checkpoint):
    sets = (["a"], ["a", "c"], ["a"], [], ["c", "a"], ["a", "d"])
    file = write(tmp_path / "t.jsonl", [{"text": "red", "labels": names} for names in sets])
    task = MultiLabelClassification(train=file, labels=("a", "b", "c", "d"), positive_weights="balanced").resolve(tokenizer, checkpoint)
    assert task.positive_weights == (1 / 5, 1.0, 4 / 2, 5 / 1)
    assert task.resolve(tokenizer, checkpoint) == task


def test_labels_of_a_fine_tuned_model(tmp_path, tokenizer, checkpoint, caplog):
    def of(names, problem_type):
        config = {**checkpoint.config, "problem_type": problem_type}
        return dataclasses.replace(checkpoint, kind="sequence", labels=names, config=config)

    file = write(tmp_path / "t.jsonl", [{"text": "red", "labels": [name]} for name in "ab"])
    task = MultiLabelClassification(train=file)
    ours = "multi_label_classification"
    assert task.resolve(tokenizer, of(("c", "b", "a"), ours)).labels == ("c", "b", "a")
    assert task.resolve(tokenizer, of(("c", "b", "a"), None)).labels == ("c", "b", "a")
    assert task.resolve(tokenizer, of(("c", "b", "a"), "single_label_classification")).labels == ("a", "b")
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="flaxft"):
        assert task.resolve(tokenizer, of(("b", "c"), ours)).labels == ("a", "b")
    assert "its labels lack ['a']" in caplog.text


# ---- results --------------------------------------------------------------------------------------------------------------------------------------

RECORDS = [{"text": "red", "labels": ["joy"]}, {"text": "blue", "labels": ["joy", "fear"]}, {"text": "new", "labels": []}, {"text": "old", "labels": ["fear"]}]
SCORES = np.array([[0.1, 0.3, 0.9], [0.2, 0.4, 0.3], [0.3, 0.1, 0.25], [0.1, 0.35, 0.2]], np.float32)


def decoded_with(task, calibration):
    raw = [task.decode(record, [], [{"scores": scores}]) for record, scores in zip(RECORDS, SCORES, strict=True)]
    return [task.calibrated(one, calibration) for one in raw]


def test_without_calibration_a_label_needs_one_half():
    decoded = decoded_with(TASK, {})
    assert decoded[0] == {"text": "red", "labels": ["joy"], "scores": {"anger": 0.1, "fear": 0.3, "joy": 0.9}}
    assert decoded[1]["labels"] == []
    assert decoded_with(dataclasses.replace(TASK, labels=("joy", "fear", "anger")), {})[0]["labels"] == ["anger"]
    pair = dataclasses.replace(TASK, text_columns=("premise", "hypothesis")).decode({"text": "red", "text_pair": "blue"}, [], [{"scores": SCORES[0]}])
    assert (pair["text"], pair["text_pair"], pair["labels"]) == ("red", "blue", ["joy"])


def test_thresholds_are_tuned_for_each_label():
    raw = [TASK.decode(record, [], [{"scores": scores}]) for record, scores in zip(RECORDS, SCORES, strict=True)]
    calibration = TASK.calibrate(raw, RECORDS)
    assert calibration == {"threshold/anger": 0.5, "threshold/fear": 0.35, "threshold/joy": 0.3}  # nobody is angry
    decoded = [TASK.calibrated(one, json.loads(json.dumps(calibration))) for one in raw]
    assert [one["labels"] for one in decoded] == [["joy"], ["fear", "joy"], [], ["fear"]]
    scores = TASK.score(decoded, RECORDS, calibration)
    assert (scores["micro_f1"], scores["exact_match"], scores["fear/f1"], scores["joy/support"]) == (1.0, 1.0, 1.0, 2)


def test_thresholds_of_very_many_labels_are_exact():
    """A label's threshold is the score of a text, and that text reaches it."""
    rng = np.random.default_rng(0)
    labels = tuple(f"label {i}" for i in range(150))
    task = dataclasses.replace(TASK, labels=labels)
    records = [{"text": "red", "labels": [str(label) for label in rng.choice(labels, 3, replace=False)]} for _ in range(40)]
    raw = [task.decode(record, [], [{"scores": scores}]) for record, scores in zip(records, rng.random((40, 150), np.float32), strict=True)]
    calibration = task.calibrate(raw, records)
    for label in sorted({label for record in records for label in record["labels"]}):
        reached = [task.calibrated(one, calibration) for one in raw if round(one["scores"][label], 6) >= calibration[f"threshold/{label}"]]
        assert reached and all(label in one["labels"] for one in reached)
        assert min(one["scores"][label] for one in reached) == calibration[f"threshold/{label}"]


def test_a_threshold_that_is_set_is_not_tuned():
    task = dataclasses.replace(TASK, threshold=0.25)
    assert task.calibrate(decoded_with(task, {}), RECORDS) == {}
    assert [one["labels"] for one in decoded_with(task, {"threshold/joy": 0.99})] == [["fear", "joy"], ["fear", "joy"], ["anger", "joy"], ["fear"]]


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score, f1_score, precision_score

    task = dataclasses.replace(TASK, threshold=0.3)
    found = task.score(decoded_with(task, {}), RECORDS, {})
    gold = np.array([[0, 0, 1], [0, 1, 1], [0, 0, 0], [0, 1, 0]])
    predicted = (SCORES.round(6) >= np.float32(0.3)).astype(int)
    for average in ("micro", "macro", "samples"):
        np.testing.assert_allclose(found[f"{average}_f1"], f1_score(gold, predicted, average=average, zero_division=0))
    np.testing.assert_allclose(found["micro_average_precision"], average_precision_score(gold.ravel(), SCORES.ravel()))
    assert found["exact_match"] == (gold == predicted).all(1).mean()
    assert found["anger/recall"] == 0
    np.testing.assert_allclose(found["micro avg/precision"], precision_score(gold, predicted, average="micro"))
    assert not any(name.endswith(("_precision", "_recall")) for name in found if "average_precision" not in name)  # a console line has room for the rest


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1", "samples_f1", "exact_match", "-hamming_loss", "joy/f1", "joy/precision", "joy/recall"])
def test_the_main_metric_has_an_interval(metric):
    task = dataclasses.replace(TASK, threshold=0.3, main_metric=metric)
    decoded, records = decoded_with(task, {}) * 10, RECORDS * 10
    found, name = task.score(decoded, records, {}), metric.removeprefix("-")
    assert 0 <= found[f"{name}/low"] < found[name] < found[f"{name}/high"] <= 1 or found[name] == found[f"{name}/high"] == 1
    assert f"95 % interval of {name}: {found[f'{name}/low']:.4f} to" in task.report(decoded, records)


def test_the_report():
    task = dataclasses.replace(TASK, threshold=0.3, main_metric="micro_average_precision")
    decoded = decoded_with(task, {})
    lines = task.report(decoded, RECORDS).splitlines()
    assert lines[0].split() == ["precision", "recall", "f1-score", "support"]
    assert len({len(line) for line in lines[2:5]}) == 1
    assert lines[4].split() == ["joy", "1.0000", "1.0000", "1.0000", "2"]
    assert next(line for line in lines if "macro avg" in line).split()[-1] == "4"
    assert "interval" not in "".join(lines)
    one = dataclasses.replace(TASK, labels=("joy",))
    assert "joy" in one.report([one.decode(RECORDS[0], [], [{"scores": SCORES[0, 2:]}])], RECORDS[:1])


# ---- PyTorch --------------------------------------------------------------------------------------------------------------------------------------


def save_random(folder, names):
    """A BertForSequenceClassification with random weights, saved as transformers does, and the model."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tiny.encoder(folder)
    config = tiny.ENCODER | {"architectures": ["BertForSequenceClassification"], "problem_type": "multi_label_classification"}
    config |= {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {name: i for i, name in enumerate(names)}}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model


@needs_torch
def test_outputs_loss_and_gradients_are_those_of_torch(tmp_path):
    """At most 1e-5 x max(1, largest magnitude), float32, dropout off; ours on rows of two examples each and an empty slot."""
    import torch

    model = save_random(tmp_path, TASK.labels)
    rng = np.random.default_rng(0)
    lengths = np.array([[9, 15], [20, 4]])
    labels = np.full((2, 3, 3), IGNORE)
    labels[:, :2] = rng.integers(0, 2, (2, 2, 3))
    batch = {name: np.zeros((2, 24), np.int32) for name in ("input_ids", "token_type_ids", "position_ids", "segment_ids")}
    batch |= {"example_start": np.stack([0 * lengths[:, 0], lengths[:, 0], 0 * lengths[:, 0]], 1), "labels": labels}
    logits = []
    for r, s in np.ndindex(2, 2):
        start, n = int(batch["example_start"][r, s]), lengths[r, s]
        ids, types = rng.integers(1, 128, n), rng.integers(0, 2, n)
        for name, values in (("input_ids", ids), ("token_type_ids", types), ("position_ids", np.arange(n)), ("segment_ids", s + 1)):
            batch[name][r, start : start + n] = values
        logits.append(model(input_ids=torch.tensor(ids)[None], token_type_ids=torch.tensor(types)[None]).logits)
    logits = torch.cat(logits)
    loss = torch.nn.BCEWithLogitsLoss()(logits, torch.tensor(labels[:, :2].reshape(4, 3), dtype=torch.float32))
    loss.backward()

    source = Pretrained(path=str(tmp_path))
    checkpoint = source.open()
    assert (checkpoint.kind, checkpoint.labels) == ("sequence", TASK.labels)
    loaded = source.load(checkpoint, TASK.head, reuse_head=True, seed=0)

    def loss_fn(params):
        outputs = nnx.merge(loaded.graphdef, params)(batch)
        ((total, weight),) = TASK.loss(outputs, batch).values()
        return total / weight, outputs

    (ours, outputs), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(loaded.params)
    wanted = {"loss": loss.item(), "logits": logits.detach().numpy()}
    found = {"loss": ours, "logits": np.asarray(outputs)[:, :2].reshape(4, 3)}
    wanted |= {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    for path, gradient in flatten(gradients).items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        found[name] = gradient.T if transposed else gradient
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert np.abs(np.asarray(found[name]) - array).max() <= BOUND * max(1.0, np.abs(array).max()), name


@needs_torch
def test_the_loss_of_the_transformers_model_is_ours(tmp_path, tokenizer):
    """Its own loss, given labels, is the mean over examples and labels."""
    import torch

    model = save_random(tmp_path, TASK.labels)
    given = tokenizer.wrap(tokenizer.text("anna works")[0])
    out = model(input_ids=torch.tensor(given)[None].long(), labels=torch.tensor([[1.0, 0.0, 1.0]]))
    total, weight = TASK.loss(out.logits.detach().numpy()[None], {"labels": np.array([[[1, 0, 1]]])})["sequence"]
    assert abs(float(total / weight) - out.loss.item()) < 1e-6


@needs_torch
def test_a_fine_tuned_model_is_applied_as_it_is(tmp_path):
    import torch
    from transformers import AutoTokenizer

    model = save_random(tmp_path / "out", ("sad", "glad"))
    predictor = flaxft.load(str(tmp_path / "out"), task=MultiLabelClassification())
    assert predictor.task.labels == ("sad", "glad")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text, one in zip(TEXTS, predictor.predict(list(TEXTS)), strict=True):
        with torch.no_grad():
            scores = model(**tokenizer(text, padding=False, return_tensors="pt")).logits[0].sigmoid().numpy()
        np.testing.assert_allclose(list(one["scores"].values()), scores, atol=BOUND)
        assert one["labels"] == [name for name, score in zip(("sad", "glad"), scores, strict=True) if score >= 0.5]


@needs_torch
def test_a_run_goes_to_transformers_and_back(tmp_path):
    """Trained on pairs with all knobs on, applied to raw pairs at its tuned thresholds, written, and loaded by PyTorch: the same scores."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    cfg = tiny.config(tmp_path, num_epochs=60, **{"optim.learning_rate": 3e-3}, **tiny.ONCE)
    cfg.task = dataclasses.replace(example(tmp_path), positive_weights="balanced")
    cfg.evals = {"validation": Eval(every=10)}
    results = flaxft.run(cfg, str(tmp_path / "run"))
    assert results["compiles_after_start"] == 0
    assert set(results["best"]["calibration"]) == {f"threshold/{name}" for name in TASK.labels}
    assert {"macro_f1/low", "macro_f1/high"} < set(results["evals"]["validation"])
    trained = flaxft.load(str(tmp_path / "run"))
    records = [json.loads(line) for line in (tmp_path / "eight.jsonl").read_text().splitlines()]
    pairs = [{"text": record["premise"], "text_pair": record["hypothesis"]} for record in records]
    found = trained.predict(pairs)
    assert [one["labels"] for one in found] == list(SETS)
    lines = (tmp_path / "run" / "predictions" / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["labels"] for line in lines] == list(SETS)
    trained.save_pretrained(tmp_path / "out")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval(), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (model.config.problem_type, model.config.id2label) == ("multi_label_classification", dict(enumerate(TASK.labels)))
    again = flaxft.load(str(tmp_path / "out"), task=MultiLabelClassification()).predict(pairs)
    for pair, one, other in zip(pairs, found, again, strict=True):
        with torch.no_grad():
            scores = model(**tokenizer(pair["text"], pair["text_pair"], padding=False, return_tensors="pt")).logits[0].sigmoid().numpy()
        np.testing.assert_allclose(list(one["scores"].values()), scores, atol=BOUND)
        np.testing.assert_allclose(list(other["scores"].values()), scores, atol=BOUND)
