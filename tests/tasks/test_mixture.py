"""Several tasks in one batch: each has the loss, the predictions and the scores that it has alone, and its share of every step."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import flaxft
from flaxft import config as configs
from flaxft.config import differences
from flaxft.data.base import Chain, Records
from flaxft.data.items import build_items
from flaxft.data.packing import Shape, make_parts, make_plan
from flaxft.data.pipeline import Pipeline
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.tasks.mixture import Mixture
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.tasks.token_classification import TokenClassification
from flaxft.train.loop import run
from tests import tiny
from tests.tasks import contract

BOUND = contract.BOUND
ALONE = [family for family in contract.FAMILIES if family != "mixture"]
TEXTS = ("anna works in paris", "bob lives in rome .", "the old corp", "a new acme at oslo !")


def write(file, records):
    file.write_text("\n".join(json.dumps(record) for record in records))
    return str(file)


def example(folder):
    """What the contract tests run on: four sentences with entities, four texts with a label."""
    sentences = str(tiny.corpus(folder / "four.conll", num=4, longest=12))
    texts = write(folder / "four.jsonl", [{"text": text, "label": ("neg", "pos")[i % 2]} for i, text in enumerate(TEXTS)])
    return Mixture(tasks={"ner": TokenClassification(train=sentences, validation=sentences), "mood": SequenceClassification(train=texts, validation=texts)})


def resolved(task, directory):
    from flaxft.models.hf import Pretrained

    checkpoint = Pretrained(path=str(directory)).open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=128, max_length=64)
    return task.resolve(tokenizer, checkpoint), tokenizer


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("mixture") / "encoder")


@pytest.fixture
def mixture(tmp_path):
    return example(tmp_path)


# ---- one batch, many tasks ------------------------------------------------------------------------------------------------------------------------


def whole_batch(items, task, *, parts=(), augment=None):
    """All items in one packed batch, short features in rows with long ones of whatever task."""
    settings = dict(fingerprint="", batch_size=len(items), num_steps=1, seed=0, num_devices=1, hidden_size=32, num_shapes=1)
    plan = make_plan(items.lengths, items.item_starts, parts=parts, **settings)
    plan = dataclasses.replace(plan, shapes=(Shape(plan.shapes[-1].num_rows, 128, 16),))
    (batch,) = Pipeline(items, task.spec(), seed=0, augment=augment).batch(plan, 0)
    return batch


PAIRS = [*((family, "token_classification") for family in ALONE), ("token_classification", "sequence_classification")]


@pytest.mark.parametrize(("family", "other"), PAIRS)
def test_a_task_among_others_is_what_it_is_alone(tmp_path, family, other):
    """Loss terms, gradients of its head, and predictions, where every row may hold examples of both; padding values are neutral, or this fails."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    task, added = contract.example(family, tmp_path / "one"), contract.example(other, tmp_path / "two")
    cfg = tiny.config(tmp_path)
    checkpoint = cfg.model.open()
    both, tokenizer = resolved(Mixture(tasks={"one": task, "two": added}), checkpoint.directory)
    alone = both.tasks["one"]
    source = both.records("train")
    items = build_items(source, both, tokenizer, max_length=32, key="both", cache=tmp_path / "cache")
    own_items = build_items(alone.records("train"), alone, tokenizer, max_length=32, key="alone", cache=tmp_path / "cache")
    parts = make_parts({"one": len(own_items), "two": len(items) - len(own_items)}, weights={}, temperature=1.0)
    batch = whole_batch(items, both, parts=parts, augment=both.augment)
    own_batch = whole_batch(own_items, alone, augment=alone.augment)
    assert (np.diff(batch["task_id"], axis=1) != 0)[batch["example_weight"][:, 1:] > 0].any(), "no row holds both"

    loaded = cfg.model.load(checkpoint, both.head, reuse_head=False, seed=0)
    own = cfg.model.load(checkpoint, alone.head, reuse_head=False, seed=0)
    own_params = with_head("one", loaded.params)

    def of(task, graphdef, params, batch):
        @jax.jit
        def compute(params, batch):
            def loss(params):
                outputs = nnx.merge(graphdef, params)(batch)
                terms = task.loss(outputs, batch)
                return sum(total for name, (total, _) in terms.items() if not name.startswith("two/")), (terms, task.predict(outputs, batch))

            return jax.grad(loss, has_aux=True)(params)

        return compute(params, batch)

    gradients, (terms, predictions) = of(both, loaded.graphdef, loaded.params, batch)
    own_gradients, (own_terms, own_predictions) = of(alone, own.graphdef, own_params, own_batch)
    assert {name for name in terms if name.startswith("one/")} == {f"one/{name}" for name in own_terms}
    assert sum(float(weight) for _, weight in own_terms.values()) > 0
    for name, (total, weight) in own_terms.items():
        assert float(terms[f"one/{name}"][1]) == pytest.approx(float(weight), rel=1e-6)
        assert abs(float(terms[f"one/{name}"][0]) - float(total)) <= BOUND * max(1.0, abs(float(total)))
    mixed_gradients = flatten(with_head("one", gradients))
    for path, wanted in flatten(own_gradients).items():
        assert np.abs(np.asarray(mixed_gradients[path]) - np.asarray(wanted)).max() <= BOUND * max(1.0, np.abs(wanted).max()), path
    assert all(np.abs(leaf).max() == 0 for leaf in flatten(gradients["head"]["two"]).values())

    found = taken_apart(items, batch, predictions)
    for number, wanted in taken_apart(own_items, own_batch, own_predictions).items():
        for key, array in wanted.items():
            np.testing.assert_allclose(found[number][f"one.{key}"], array, atol=BOUND)


def with_head(name, params):
    """The encoder with one head alone; a head may have no parameters."""
    head = params["head"].get(name)
    return {"encoder": params["encoder"]} | ({"head": head} if head else {})


def taken_apart(items, batch, predictions):
    from flaxft.train.evaluate import _take_apart

    return dict(_take_apart(jax.device_get(predictions), batch, items.lengths))


def test_the_comparison_can_fail(tmp_path):
    """With a padding value that is a label, tokens of the other task would count."""
    both, tokenizer = resolved(example(tmp_path), tiny.encoder(tmp_path / "encoder"))
    items = build_items(both.records("train"), both, tokenizer, max_length=32, key="x", cache=tmp_path / "cache")
    batch = whole_batch(items, both)
    outputs = {"ner": np.zeros((*batch["input_ids"].shape, 7)), "mood": np.zeros((*batch["task_id"].shape, 2))}
    weights = {name: float(weight) for name, (_, weight) in both.loss(outputs, batch).items()}
    assert weights["mood/sequence"] == 4
    spoilt = batch | {"ner.labels": np.where(batch["ner.labels"] < 0, 0, batch["ner.labels"])}
    assert float(both.loss(outputs, spoilt)["ner/token"][1]) > weights["ner/token"]


def test_loss_weights_multiply_the_sum_alone(tmp_path, directory):
    both, tokenizer = resolved(dataclasses.replace(example(tmp_path), loss_weights={"mood": 0.5}), directory)
    items = build_items(both.records("train"), both, tokenizer, max_length=32, key="x", cache=tmp_path / "cache")
    batch = whole_batch(items, both)
    outputs = {"ner": np.zeros((*batch["input_ids"].shape, 7)), "mood": np.zeros((*batch["task_id"].shape, 2))}
    half = both.loss(outputs, batch)
    whole = dataclasses.replace(both, loss_weights={}).loss(outputs, batch)
    assert {name: float(weight) for name, (_, weight) in half.items()} == {name: float(weight) for name, (_, weight) in whole.items()}
    assert float(half["mood/sequence"][0]) == pytest.approx(0.5 * float(whole["mood/sequence"][0]))
    assert float(half["ner/token"][0]) == float(whole["ner/token"][0])


def test_a_view_is_what_the_task_would_have_alone(mixture, directory):
    from flaxft.tasks.mixture import view

    batch = {"example_weight": np.ones((1, 3), np.float32), "example_group": np.array([[0, 1, -1]]), "task_id": np.array([[0, 1, 1]])}
    batch |= {"a.labels": np.zeros(1), "ab.labels": np.ones(1), "input_ids": np.zeros((1, 4))}
    found = view(batch, "ab", number=1, keys=("labels",))
    assert set(found) == {"example_weight", "example_group", "input_ids", "labels"}
    assert found["example_weight"].tolist() == [[0, 1, 1]]
    assert found["example_group"].tolist() == [[-1, 1, -1]]
    assert found["labels"].tolist() == [1]


# ---- runs ----------------------------------------------------------------------------------------------------------------------------------------


def run_config(folder, **changes):
    """A mixture of 60 tagged sentences and 24 labelled texts."""
    cfg = tiny.config(folder, **{"log.every": 1, "checkpoint.every": 5, "checkpoint.keep": 9, "num_epochs": 2, "optim.learning_rate": 3e-3} | changes)
    for split, seed in (("train", 0), ("validation", 1)):
        rng = np.random.default_rng(seed)
        picked = [[tiny.WORDS[i] for i in rng.integers(0, 12, rng.integers(3, 9))] for _ in range(24)]
        write(folder / f"{split}.jsonl", [{"text": " ".join(words), "label": "red" if "paris" in words else "blue"} for words in picked])
    mood = SequenceClassification(train=str(folder / "train.jsonl"), validation=str(folder / "validation.jsonl"))
    cfg.task = Mixture(tasks={"ner": cfg.task, "mood": mood}, temperature=2.0)
    return cfg


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(run_config(folder), folder / "run")


def test_a_run_learns_both(whole):
    folder, results = whole
    losses = list(tiny.losses(folder / "run").values())
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    assert results["compiles_after_start"] == 0
    assert results["steps"] == 2 * 11  # 86 examples, two of them second windows, in batches of 8
    scores = results["evals"]["validation"]
    assert scores["mean"] == pytest.approx((scores["ner/entity_f1"] + scores["mood/accuracy"]) / 2)
    assert (scores["ner_entity_f1"], scores["mood_accuracy"]) == (scores["ner/entity_f1"], scores["mood/accuracy"])
    assert results["best"]["metric"] == "mean"
    assert set(results["evals"]) == {"validation", "test"}
    test = results["evals"]["test"]  # which only one of the tasks has
    assert test["mean"] == test["ner_entity_f1"]
    assert not [name for name in test if name.startswith("mood")]
    lines = [json.loads(line) for line in (folder / "run/predictions/validation.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [["ner"]] * 20 + [["mood"]] * 24
    parts = json.loads((folder / "run/plan.json").read_text())["parts"]
    assert [part[:2] for part in parts] == [["ner", 62], ["mood", 24]]


def test_resume_has_the_same_bits(whole, tmp_path, capsys):
    folder, results = whole
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run/results.json").unlink()
    for entry in (tmp_path / "run/checkpoints").iterdir():
        if int(entry.name) > 10:
            shutil.rmtree(entry)
    again = run(run_config(folder), tmp_path / "run")
    assert "resumed from step 10" in capsys.readouterr().out
    assert tiny.losses(tmp_path / "run") == tiny.losses(folder / "run")
    assert again["evals"] == results["evals"]


def test_another_mixture_is_refused(whole):
    folder, _ = whole
    cfg = run_config(folder)
    cfg.task.temperature = 1.0
    with pytest.raises(UserError, match=r"task.temperature: 2.0 -> 1.0"):
        run(cfg, folder / "run")
    cfg = run_config(folder)
    cfg.task.tasks = dict(reversed(cfg.task.tasks.items()))
    with pytest.raises(UserError, match="train data"):
        run(cfg, folder / "run")


def test_accumulation_is_exact(whole, tmp_path):
    folder, _ = whole
    still = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0, "model.classifier_dropout": 0.0, "optim.learning_rate": 1e-3, "num_steps": 6}
    run(run_config(folder, **still), tmp_path / "one")
    run(run_config(folder, **still, **{"data.max_rows": 2}), tmp_path / "many")
    assert json.loads((tmp_path / "many/plan.json").read_text())["shapes"][-1][0] <= 2
    one, many = tiny.losses(tmp_path / "one"), tiny.losses(tmp_path / "many")
    assert max(abs(one[step] - many[step]) for step in one) < 1e-5 * max(1.0, *one.values())


def test_predict_asks_all_or_one(whole):
    folder, _ = whole
    predictor = flaxft.load(str(folder / "run"))
    both, ner, mood = predictor.predict(["anna lives in paris", {"task": "ner", "text": "bob"}, {"task": "mood", "record": {"text": "in rome"}}])
    assert list(both) == ["text", "ner", "mood"]
    assert both["ner"]["words"] == "anna lives in paris".split()
    assert set(both["mood"]) >= {"text", "label", "score", "scores"}
    assert list(ner) == ["ner"]
    assert ner["ner"]["text"] == "bob"
    assert list(mood) == ["mood"]
    (words,) = predictor.predict([{"tokens": ["anna", "bob"]}])  # only one task can take words
    assert list(words) == ["ner"]
    long = " ".join(["anna lives in paris ."] * 20)  # windows of one task and the cut text of the other
    (found,) = predictor.predict([long])
    assert len(found["ner"]["words"]) == 100
    assert found["mood"]["text"] == long


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"task": "nerr", "text": "x"}, r"\"task\" is 'nerr'; did you mean 'ner'\?"),
        ({"task": ["ner"], "text": "x"}, "known are"),
        ({"task": None, "text": "x"}, "known are"),
        ({"title": "x"}, r"no task can take this record \(ner: .*; mood: .*\)"),
        ({"task": "mood", "title": "x"}, r"set task.tasks.mood.text_columns"),
        ({}, "no task can take"),
    ],
    ids=str,
)
def test_bad_records_for_prediction(whole, record, message):
    folder, _ = whole
    with pytest.raises(UserError, match=message) as caught:
        flaxft.load(str(folder / "run")).predict([record])
    assert "input:1: " in str(caught.value)


def test_one_task_of_a_run(whole, tmp_path):
    """The predictor of one task gives what the mixture gives for it, and its model directory loads anywhere."""
    folder, _ = whole
    predictor = flaxft.load(str(folder / "run"))
    with pytest.raises(UserError, match=r"only\('ner'\)"):
        predictor.save_pretrained(tmp_path / "all")
    with pytest.raises(UserError, match=r"no task 'moody'.*did you mean 'mood'"):
        predictor.only("moody")
    texts = ["anna lives in paris", "the old corp is red"]
    wanted = predictor.predict(texts)
    for name, task in (("ner", TokenClassification()), ("mood", SequenceClassification())):
        only = predictor.only(name)
        assert same(only.predict(texts), [one[name] for one in wanted])
        only.save_pretrained(tmp_path / name)
        only.calibration = {}  # fitted numbers are the run's; a model directory has none
        wanted_raw = only.predict(texts)
        assert same(flaxft.load(str(tmp_path / name), task=task).predict(texts), wanted_raw)
    with pytest.raises(UserError, match="no task 'ner'"):
        predictor.only("ner").only("ner")


def same(one, other):
    """Equal but for the last digits of numbers."""
    if isinstance(one, float):
        return abs(one - other) <= 2e-5
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_pytorch_loads_one_task(whole, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder, _ = whole
    predictor = flaxft.load(str(folder / "run")).only("mood")
    predictor.save_pretrained(tmp_path / "mood")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "mood").eval()
    ids = predictor.tokenizer.wrap(predictor.tokenizer.text("anna lives in paris")[0])
    with torch.no_grad():
        scores = torch.softmax(model(torch.tensor(ids[None].astype(np.int64))).logits, -1)[0].tolist()
    predictor.calibration = {}
    found = predictor.predict(["anna lives in paris"])[0]["scores"]
    assert [found[model.config.id2label[i]] for i in range(2)] == pytest.approx(scores, abs=1e-5)


def test_every_sequence_head_begins_with_the_pretrained_pooler(tmp_path, mixture):
    from flaxft.models.hf import Pretrained

    directory = tiny.encoder(tmp_path / "encoder")
    tensors = load_file(directory / "model.safetensors")
    pooler = {"pooler.dense.weight": np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32), "pooler.dense.bias": np.ones(32, np.float32)}
    save_file(tensors | pooler, directory / "model.safetensors")
    mixture.tasks["more"] = mixture.tasks["mood"]
    both, _ = resolved(mixture, directory)
    model = Pretrained(path=str(directory))
    loaded = model.load(model.open(), both.head, reuse_head=False, seed=0)
    for name in ("mood", "more"):
        np.testing.assert_array_equal(loaded.params["head"][name]["pooler"]["dense"]["kernel"], pooler["pooler.dense.weight"].T)
    assert sorted(loaded.fresh) == [f"head/{name}/classifier/{leaf}" for name in ("mood", "more", "ner") for leaf in ("bias", "kernel")]
    kernels = [np.asarray(loaded.params["head"][name]["classifier"]["kernel"]) for name in ("mood", "more")]
    assert not np.array_equal(*kernels)


# ---- features and results --------------------------------------------------------------------------------------------------------------------------


def test_features_come_back_as_they_were(mixture, directory):
    """Through `_marked`, the table on disk, and `_own`; groups of two tasks are never one."""
    both, tokenizer = resolved(mixture, directory)
    for record in both.records("train"):
        task = both.tasks[record["task"]]
        for wanted, found in zip(task.features(record["record"], tokenizer, max_length=32), both.features(record, tokenizer, max_length=32), strict=True):
            back = both._own(record["task"], found)
            for part in ("tokens", "example", "host"):
                assert getattr(back, part).keys() == getattr(wanted, part).keys()
                assert all(np.array_equal(getattr(back, part)[key], array) for key, array in getattr(wanted, part).items())
            for group in (-1, 0, 3):
                marked = {name: both._marked(name, wanted._replace(group=group)).group for name in both.tasks}
                assert all(both._own(name, found._replace(group=number)).group == group for name, number in marked.items())
                assert len(set(marked.values())) == (1 if group < 0 else 2)


def test_calibration_is_each_tasks_own(mixture):
    class Fits:
        """A task whose results are numbers and whose calibration is their sum."""

        main_metric = "-error"

        def calibrate(self, decoded, records):
            return {"sum": float(sum(decoded)), "n": float(len(records))}

        def calibrated(self, decoded, calibration):
            return decoded / calibration["sum"]

        def score(self, decoded, records, calibration):
            return {"error": sum(decoded) + calibration["n"], "error/low": 0.0}

        def report(self, decoded, records):
            return f"sum {sum(decoded)}\n"

    both = Mixture(tasks={"a": Fits(), "b": Fits()})
    chain = Chain({name: Records(name, name, [{}] * n, range(n), ":{}") for name, n in (("a", 2), ("b", 1))})
    decoded = [{"a": 1.0}, {"a": 3.0}, {"b": 5.0}]
    fitted = both.calibrate(decoded, chain)
    assert fitted == {"a/sum": 4.0, "a/n": 2.0, "b/sum": 5.0, "b/n": 1.0}
    calibrated = [both.calibrated(one, fitted) for one in decoded]
    assert calibrated == [{"a": 0.25}, {"a": 0.75}, {"b": 1.0}]
    scores = both.score(calibrated, chain, fitted)
    assert scores == {"a_error": 3.0, "b_error": 2.0, "a/error": 3.0, "a/error/low": 0.0, "b/error": 2.0, "b/error/low": 0.0}  # and no mean of errors
    assert both.report(calibrated, chain) == "a: a\n\nsum 1.0\n\nb: b\n\nsum 1.0\n"


def test_a_chain(mixture):
    chain = Chain({name: Records(f"{name}.txt", name, [{"x": i} for i in range(n)], range(1, n + 1), ":{}") for name, n in (("a", 3), ("b", 0), ("c", 2))})
    assert list(chain) == [chain[i] for i in range(len(chain))]
    assert [record["task"] for record in chain] == ["a", "a", "a", "c", "c"]
    assert [chain.where(i) for i in range(5)] == ["a.txt:1", "a.txt:2", "a.txt:3", "c.txt:1", "c.txt:2"]
    assert chain.starts == {"a": 0, "b": 3, "c": 3}
    assert chain.name == "a.txt + b.txt + c.txt"
    with pytest.raises(IndexError):
        chain[5]
    other = Chain({"a": chain.sources["a"], "d": chain.sources["b"], "c": chain.sources["c"]})
    assert other.fingerprint != chain.fingerprint


# ---- settings ----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {}}, "task.tasks is empty"),
        ({"weights": {"ner": 1.0}}, "task.weights has none for mood"),
        ({"weights": {"ner": 1.0, "mode": 1.0}}, "task.weights names 'mode'.*did you mean 'mood'"),
        ({"weights": {"ner": 1.0, "mood": 0.0}}, "task.weights.mood is 0.0, expected a positive number"),
        ({"weights": {"ner": 1.0, "mood": float("inf")}}, "task.weights.mood is inf"),
        ({"loss_weights": {"x": 1.0}}, "task.loss_weights names 'x'"),
        ({"loss_weights": {"ner": -1.0}}, "task.loss_weights.ner is -1.0"),
        ({"temperature": 0.5}, "task.temperature is 0.5, expected at least 1"),
        ({"temperature": float("inf")}, "task.temperature is inf"),
        ({"weights": {"ner": 1.0, "mood": 1.0}, "temperature": 2.0}, "both set"),
        ({"main_metric": "accuracy"}, r"task.main_metric is 'accuracy'.*allowed are \['-loss', 'mean', 'mood_accuracy', 'ner_entity_f1'\]"),
        ({"main_metric": "mood_acuracy"}, "did you mean 'mood_accuracy'"),
    ],
    ids=str,
)
def test_bad_settings(mixture, directory, changes, message):
    with pytest.raises(UserError, match=message):
        resolved(dataclasses.replace(mixture, **changes), directory)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a.b", "a/b", "é", "text", "train", "eval", "set_attributes", "_keys"])
def test_bad_names(mixture, directory, name):
    with pytest.raises(UserError, match=r"task.tasks has a task of the name"):
        resolved(Mixture(tasks={name: mixture.tasks["ner"]}), directory)


def test_errors_of_a_task_name_its_field(mixture, directory):
    with pytest.raises(UserError, match=r"^task.tasks.mood.label_smoothing is 2.0"):
        resolved(Mixture(tasks=mixture.tasks | {"mood": dataclasses.replace(mixture.tasks["mood"], label_smoothing=2.0)}), directory)
    with pytest.raises(UserError, match=r"set --config.task.tasks.mood.train=FILE"):
        resolved(Mixture(tasks=mixture.tasks | {"mood": SequenceClassification()}), directory)
    with pytest.raises(UserError, match=r"no/task.train.csv: no such file"):  # a path is no field
        resolved(Mixture(tasks=mixture.tasks | {"mood": SequenceClassification(train="no/task.train.csv")}), directory)
    with pytest.raises(UserError, match=r"task.tasks.inner is a mixture itself"):
        resolved(Mixture(tasks={"inner": mixture}), directory)


def test_a_main_metric_that_a_split_lacks(mixture, directory):
    ner = dataclasses.replace(mixture.tasks["ner"], validation="")
    with pytest.raises(UserError, match="'ner_entity_f1', which the split validation lacks"):
        resolved(dataclasses.replace(mixture, tasks=mixture.tasks | {"ner": ner}, main_metric="ner_entity_f1"), directory)
    resolved(dataclasses.replace(mixture, tasks=mixture.tasks | {"ner": ner}), directory)


def test_max_examples_is_of_each_task(mixture, directory):
    both, _ = resolved(mixture, directory)
    chain = both.records("train", max_examples=3)
    assert [record["task"] for record in chain] == ["ner"] * 3 + ["mood"] * 3


def test_one_task_alone_goes_by_the_old_rule(tmp_path):
    cfg = run_config(tmp_path, num_steps=4)
    single = run_config(tmp_path, num_steps=4)
    single.task = single.task.tasks["ner"]
    cfg.task = Mixture(tasks={"ner": single.task})
    run(cfg, tmp_path / "mixture")
    run(single, tmp_path / "single")
    plans = [json.loads((tmp_path / name / "plan.json").read_text()) for name in ("mixture", "single")]
    assert plans[0]["parts"] == []
    assert {**plans[0], "fingerprint": ""} == {**plans[1], "fingerprint": ""}
    one, other = tiny.losses(tmp_path / "mixture"), tiny.losses(tmp_path / "single")
    assert one == pytest.approx(other, abs=1e-5)


def test_config_to_json_and_back_and_overrides(tmp_path, mixture):
    from flaxft.command import apply_overrides

    cfg = tiny.config(tmp_path)
    cfg.task = mixture
    cfg.check()
    apply_overrides(cfg, ["--config.task.temperature=3", "--config.task.tasks.mood.label_smoothing=0.1"])
    assert (cfg.task.temperature, cfg.task.tasks["mood"].label_smoothing) == (3.0, 0.1)
    again = configs.from_json(json.loads(json.dumps(configs.to_json(cfg))), "x")
    assert again == cfg
    with pytest.raises(UserError, match="known are ner, mood"):
        apply_overrides(cfg, ["--config.task.tasks.moot.train=x"])


def test_data_that_moved_is_the_same_data(tmp_path):
    """On resume paths compare by what they hold, those of the tasks inside too; a setting of such a task does not."""

    def config(folder, **changes):
        cfg = tiny.config(tmp_path)
        cfg.task = Mixture(tasks={"ner": TokenClassification(train=f"{folder}/train.conll", **changes)})
        return cfg

    assert differences(config("here"), config("there")) == []
    assert [line.partition(":")[0] for line in differences(config("here"), config("here", label_all_tokens=True))] == ["task.tasks.ner.label_all_tokens"]
