"""Questions become groups of pairs, one a choice; the softmax over each group and the head equal PyTorch's."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxft
from flaxft.data.base import IGNORE
from flaxft.data.items import build_items
from flaxft.data.packing import Shape, make_plan, rows_of_step
from flaxft.data.pipeline import Pipeline
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained, hf_names
from flaxft.tasks.multiple_choice import MultipleChoice, log_softmax_of_groups
from tests import tiny
from tests.tasks.contract import check_temperature, compute, overconfident

ROOT = Path(__file__).parents[2]
COMMONSENSE = ROOT / "../shared/data/commonsenseqa/dev_rand_split.jsonl.gz"
BOUND = 1e-5
FAST = settings(max_examples=100, deadline=None, derandomize=True)
TASK = MultipleChoice(question_column="question", choices_column="choices", label_column="label")
SWAG = {"sent1": "Anna works in paris .", "sent2": "the old", "ending0": "corp", "ending1": "bob", "ending2": "is", "ending3": "red", "label": 2}
HUB = {"question": "is carl red ?", "choices": {"label": ["A", "B", "C"], "text": ["red", "blue", "anna"]}, "answerKey": "B"}
NAMES = ("anna", "bob", "carl", "dora")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("choice") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


@pytest.fixture(scope="module")
def checkpoint(directory):
    return Pretrained(path=str(directory)).open()


def write(file, records):
    file.write_text("\n".join(json.dumps(record) for record in records))
    return str(file)


def questions(num=8):
    """Where somebody lives, with two to four choices; the right one is a town, the others are people."""
    found = []
    for i in range(num):
        choices, label = [name for name in NAMES if name != NAMES[i % 4]][: 1 + i % 3], i % 2
        choices.insert(label, ("paris", "rome", "oslo")[i // 2 % 3])
        found.append({"question": f"{NAMES[i % 4]} lives in", "choices": choices, "label": label})
    return found


def example(folder):
    """What the contract tests run on: questions of two, three and four choices."""
    file = write(folder / "eight.jsonl", questions())
    return MultipleChoice(train=file, validation=file)


def pieces(tokenizer, features):
    return " ".join(tokenizer.backend.id_to_token(i) for i in features.tokens["input_ids"])


# ---- features -------------------------------------------------------------------------------------------------------------------------------------


def test_a_feature_for_each_choice(tokenizer):
    features = TASK.features({"question": "Who works ?", "choices": ["Anna", "red corp", "bob"], "label": 1}, tokenizer, max_length=32)
    assert [pieces(tokenizer, one).partition("[SEP] ")[2] for one in features] == ["anna [SEP]", "red corp [SEP]", "bob [SEP]"]
    assert [one.example["labels"].tolist() for one in features] == [0, 1, 0]
    assert {one.group for one in features} == {0}
    assert features[0].tokens["token_type_ids"].tolist() == [0] * (len(features[0].tokens["input_ids"]) - 2) + [1, 1]


def test_without_a_label(tokenizer):
    features = TASK.features({"question": "red ?", "choices": ["red", "blue"]}, tokenizer, max_length=32)
    assert [one.example["labels"].tolist() for one in features] == [IGNORE, IGNORE]


def test_the_start_of_an_ending_is_read_before_it(tokenizer):
    features = MultipleChoice().features(SWAG, tokenizer, max_length=32)
    assert pieces(tokenizer, features[3]) == "[CLS] anna works in paris . [SEP] the old red [SEP]"
    assert len(features) == 4


def test_of_a_long_pair_the_longer_text_is_cut_and_counted(tmp_path, tokenizer, caplog):
    record = {"question": "red " * 9, "choices": ["blue", "blue " * 12], "label": 0}
    first, second = TASK.features(record, tokenizer, max_length=11)
    assert pieces(tokenizer, first) == f"[CLS] {'red ' * 7}[SEP] blue [SEP]"
    assert pieces(tokenizer, second) == f"[CLS] {'red ' * 4}[SEP] {'blue ' * 4}[SEP]"
    assert (first.num_cut, second.num_cut) == (2, 13)
    task = dataclasses.replace(TASK, train=write(tmp_path / "t.jsonl", [record, *questions(2)]))
    build_items(task.records("train"), task, tokenizer, max_length=11, key="k", cache=tmp_path)
    assert "1 of 3 records are longer than data.max_length=11" in caplog.text


@pytest.mark.parametrize("text", ["", "NA", "null", "None", "  ", "[SEP]"])
def test_odd_texts_are_texts(tmp_path, tokenizer, text):
    task = dataclasses.replace(TASK, train=write(tmp_path / "t.jsonl", [{"question": text, "choices": ["red", text], "label": 0}]))
    features = task.features(task.records("train")[0], tokenizer, max_length=16)
    assert [pieces(tokenizer, one).count("[SEP]") for one in features] == [2, 2]


# ---- columns and labels ---------------------------------------------------------------------------------------------------------------------------


def test_layouts_are_found(tmp_path, tokenizer, checkpoint):
    def resolved(record, **fields):
        task = MultipleChoice(train=write(tmp_path / "t.jsonl", [record]), **fields).resolve(tokenizer, checkpoint)
        return task.question_column, task.start_column, task.choices_column, task.choice_columns, task.label_column, task._gold(record)

    assert resolved(SWAG) == ("sent1", "sent2", "", ("ending0", "ending1", "ending2", "ending3"), "label", 2)
    assert resolved(HUB) == ("question", "", "choices", (), "answerKey", 1)
    assert resolved({"ctx": "red", "endings": ["red", "blue"], "label": "1"}) == ("ctx", "", "endings", (), "label", 1)
    asked = {"question_column": "article", "start_column": "question", "choices_column": "options", "label_column": "answer"}  # RACE
    assert resolved({"article": "red", "question": "is it ?", "options": ["no", "yes"], "answer": "B"}, **asked) == (*list(asked.values())[:3], (), "answer", 1)
    columns = {"question_column": "premise", "choice_columns": ("choice1", "choice2")}  # COPA, whose column "question" is another thing
    found = resolved({"premise": "red", "choice1": "red", "choice2": "blue", "question": "cause", "label": 0}, **columns)
    assert found == ("premise", "", "", ("choice1", "choice2"), "label", 0)


def test_csv_has_a_column_for_each_choice(tmp_path, tokenizer):
    (tmp_path / "t.csv").write_text("question,ending0,ending1,ending2,label\nred,a,b,c,2\nblue,a,b,,b\n")
    source = MultipleChoice(train=str(tmp_path / "t.csv")).records("train")
    task = MultipleChoice()
    assert [len(task.features(record, tokenizer, max_length=16)) for record in source] == [3, 2]  # an empty cell behind the last choice is none
    assert [task._gold(record) for record in source] == [2, 1]


@pytest.mark.parametrize(
    ("label", "choices", "kind", "wanted"),
    [
        (1, ["x", "y"], "", 1),
        ("1", ["x", "y"], "", 1),
        ("B", ["x", "y"], "", 1),
        ("y", ["x", "y"], "", 1),
        (1, ["0", "1", "2"], "", 1),
        (1, ["1", "0"], "", 1),  # a number is a place
        ("1", ["x", "1"], "", 1),  # both readings agree
        ("1", ["1", "0"], "text", 0),
        ("1", ["1", "0"], "index", 1),
        ("1", ["1", "0"], "number", 0),
        (1, ["1", "0"], "text", 0),
        (2, ["x", "y"], "number", 1),
        ("A", ["B", "A"], "letter", 0),
        ("NA", ["x", "NA"], "", 1),
        ("2", {"label": ["1", "2", "3"], "text": ["x", "y", "z"]}, "", 1),  # ARC: the record says what its letters are
        ("E", {"label": list("ABCDE"), "text": list("vwxyz")}, "", 4),
        (0, {"label": list("ABC"), "text": list("xyz")}, "", 0),
    ],
)
def test_what_a_label_means(label, choices, kind, wanted):
    assert dataclasses.replace(TASK, label_kind=kind)._gold({"question": "red", "choices": choices, "label": label}) == wanted


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"label": None}, "column 'label' is 'None' (NoneType), expected the right one of 2 choices"),
        ({"label": 0.0}, "(float)"),
        ({"label": True}, "(bool)"),
        ({"label": ""}, "expected the right one of 2 choices: its place from 0, its letter or its text"),
        ({"label": 2}, "'2', expected the right one of 2 choices"),
        ({"label": -1}, "'-1', expected the right one of 2 choices"),
        ({"label": "C"}, "'C', expected"),
        ({"label": "1", "choices": ["1", "2"]}, "the index of choice 1 or the text of choice 0? set task.label_kind to one of index, number, letter, text"),
        ({"label": "a", "choices": ["a", "a"]}, "write equal choices once"),
        ({"question": None}, "column 'question' is 'None' (NoneType), expected text"),
        ({"question": 3}, "column 'question' is '3' (int), expected text"),
        ({"choices": ["red", None]}, "choice 1 of column 'choices' is 'None' (NoneType), expected text"),
        ({"choices": ["red", 3]}, "choice 1 of column 'choices' is '3' (int), expected text"),
        ({"choices": ["red"]}, "column 'choices': 1 choice, expected at least two"),
        ({"choices": []}, "column 'choices': 0 choices"),
        ({"choices": "red, blue"}, "'red, blue' (str), expected a list of texts; in CSV give each choice a column"),
        ({"choices": {"label": ["A"], "text": ["x", "y"]}}, "the labels of the choices are ['A'], expected 2"),
        ({"choices": {"label": ["A", "A"], "text": ["x", "y"]}}, "expected 2 that differ"),
    ],
)
def test_bad_records_are_named_by_their_line(tmp_path, change, what):
    good = {"question": "red", "choices": ["x", "y"], "label": 0}
    file = write(tmp_path / "t.jsonl", [good, good | change])
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TASK, train=file).records("train")
    assert str(caught.value).startswith(f"{file}:2: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "fields", "what"),
    [
        ({"questoin": "red", "choices": ["x", "y"], "label": 0}, {}, "no column of questions; found are ['choices', 'label', 'questoin']; set task."),
        ({"questoin": "red", "choices": ["x", "y"], "label": 0}, {"question_column": "question"}, "did you mean 'questoin'"),
        ({"question": "red", "choice": ["x", "y"], "label": 0}, {}, "no column of choices; found are"),
        ({"question": "red", "choice": ["x", "y"], "label": 0}, {"choices_column": "choices"}, "set task.choices_column; did you mean 'choice'"),
        ({"question": "red", "a": "x", "label": 0}, {"choice_columns": ("a", "b")}, "no column 'b'"),
        ({"question": "red", "choices": ["x", "y"], "lable": 0}, {}, "set task.label_column"),
        ({"question": "red", "choices": ["x", "y"], "label": 0}, {"start_column": "begin"}, "no column 'begin'"),
        ({"question": "red", "ending0": "x", "ending1": None, "ending2": "y", "label": 0}, {}, "column 'ending1' is 'None'"),
        ({"question": "red", "ending0": "x", "ending1": "", "label": 0}, {}, "1 choice, expected at least two"),
    ],
)
def test_wrong_columns(tmp_path, record, fields, what):
    with pytest.raises(UserError) as caught:
        MultipleChoice(train=write(tmp_path / "t.jsonl", [record]), **fields).records("train")
    assert what in str(caught.value)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e400"])
def test_labels_that_are_no_numbers(tmp_path, literal):
    (tmp_path / "t.jsonl").write_text(f'{{"question": "red", "choices": ["x", "y"], "label": {literal}}}')
    with pytest.raises(UserError, match=r"t\.jsonl:1"):
        dataclasses.replace(TASK, train=str(tmp_path / "t.jsonl")).records("train")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"main_metric": "acuracy"}, "did you mean 'accuracy'"),
        ({"label_kind": "indx"}, "did you mean 'index'"),
        ({"choices_column": "choices", "choice_columns": ("a", "b")}, "both set"),
        ({"choice_columns": ("a", "a")}, "two columns or more, each once"),
        ({"choice_columns": ("a",)}, "two columns or more, each once"),
    ],
)
def test_bad_settings(tokenizer, checkpoint, fields, what):
    with pytest.raises(UserError) as caught:
        MultipleChoice(**fields).resolve(tokenizer, checkpoint)
    assert what in str(caught.value)


def test_a_pair_needs_two_token_types(tmp_path, tokenizer):
    other = Pretrained(path=str(tiny.encoder(tmp_path / "one type", type_vocab_size=1))).open()
    with pytest.raises(UserError, match="type_vocab_size"):
        MultipleChoice().resolve(tokenizer, other)


@pytest.mark.skipif(not COMMONSENSE.exists(), reason="needs ../shared/data/commonsenseqa")
def test_commonsenseqa_is_read_as_it_is():
    source = MultipleChoice(validation=str(COMMONSENSE)).records("validation")
    assert len(source) == 1221
    gold = [MultipleChoice()._gold(record) for record in source]
    assert [source[i]["choices"]["label"][place] for i, place in enumerate(gold)] == [record["answerKey"] for record in source]


# ---- the softmax over a group ---------------------------------------------------------------------------------------------------------------------


of_groups = jax.jit(log_softmax_of_groups)
gradient_of_groups = jax.jit(jax.grad(lambda logits, groups: log_softmax_of_groups(logits, groups)[0, 0]))


@FAST
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(1, 1), (1, 6), (4, 1), (3, 4)]), scale=st.sampled_from([1.0, 100.0, 1e4]))
def test_groups_are_those_of_a_loop(seed, shape, scale):
    """Whatever numbers the groups have, wherever their slots lie; slots of no group give 0 and no gradient, even where their logits are not finite."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(shape) * scale).astype(np.float32)
    groups = rng.integers(-1, math.prod(shape), shape).astype(np.int32)
    logits[groups < 0] = rng.choice([np.nan, np.inf, 3.0])
    found = np.asarray(of_groups(logits, groups))
    wanted = np.zeros(shape)
    for group in set(groups.ravel().tolist()) - {-1}:
        values = logits[groups == group].astype(np.float64)
        wanted[groups == group] = values - values.max() - np.log(np.exp(values - values.max()).sum())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    gradient = np.asarray(gradient_of_groups(logits, groups))
    assert np.isfinite(gradient).all()
    assert (gradient[groups != groups[0, 0]] == 0).all()
    assert abs(gradient.sum()) < 1e-5


EIGHT = """
import sys
import jax, numpy as np
from flax import nnx
from pathlib import Path
from flaxft.data.pipeline import Pipeline
from flaxft.data.items import build_items
from flaxft.data.packing import Shape, make_plan, rows_of_step
from flaxft.sharding import Mesh, infer, make_mesh, put, rows
from tests import tiny
from tests.tasks.contract import prepare

folder = Path(sys.argv[1])
_, task, items, loaded = prepare(folder, "multiple_choice")
(batch,) = Pipeline(items, task.spec(), seed=0, num_devices=8).once(Shape(row_length=16, num_slots=1, num_rows=len(items.lengths)))
groups, rows_each = batch["example_group"], len(batch["labels"]) // 8
used = {int(group): {int(r) // rows_each for r in np.nonzero(groups == group)[0]} for group in groups[groups >= 0]}
assert max(map(len, used.values())) > 1, "a question whose choices lie on several devices"

@jax.jit
def loss(params, batch):
    def mean(params):
        ((total, weight),) = task.loss(nnx.merge(loaded.graphdef, params)(batch), batch).values()
        return total / weight
    return jax.value_and_grad(mean)(params)

found = []
for mesh in (make_mesh(Mesh(), jax.devices()[:1]), make_mesh(Mesh(data=4, fsdp=2)), make_mesh(Mesh(data=8))):
    params = put(loaded.params, infer(loaded.params, loaded.encoder.sharding, mesh))
    found.append(jax.device_get(loss(params, put(batch, rows(mesh)))))
for value, gradient in found[1:]:
    assert abs(value - found[0][0]) <= 1e-5 * max(1.0, value), (value, found[0][0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max())), gradient, found[0][1])
print("all eight")
"""


def test_a_question_may_lie_on_several_devices(tmp_path):
    environment = tiny.devices(8)
    done = subprocess.run([sys.executable, "-W", "error", "-c", EIGHT, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all eight\n"


def test_a_group_has_one_number_wherever_it_lies(tmp_path, tokenizer, directory):
    """In rows of one slot and of many: the slots of a question share a number below R * S, and no two questions do."""
    task = example(tmp_path)
    items = build_items(task.records("train"), task, tokenizer, max_length=32, key="k", cache=tmp_path)
    for row_length, num_slots, num_rows in ((16, 1, len(items.lengths)), (64, 8, 6)):
        seen = set()
        for number, batch in enumerate(Pipeline(items, task.spec(), seed=0).once(Shape(row_length=row_length, num_slots=num_slots, num_rows=num_rows))):
            groups, ids = batch["example_group"], batch["example_id"]
            assert ((groups >= 0) == (ids >= 0)).all()
            assert groups.max() < groups.size
            seen |= {(number, int(g), int(items.item_of[i])) for g, i in zip(groups[ids >= 0], ids[ids >= 0], strict=True)}
        assert len(seen) == len({(number, group) for number, group, _ in seen}) == 8


# ---- results --------------------------------------------------------------------------------------------------------------------------------------


def predicted(*scores):
    return [{"log_probability": np.float32(np.log(score))} for score in scores]


def test_decode_score_report():
    records = [{"question": "red ?", "choices": ["no", "yes", "so so"], "label": 1}, {"question": "blue ?", "choices": ["no", "yes"], "label": "yes"}]
    raw = [TASK.decode(records[0], [], predicted(0.1, 0.7, 0.2)), TASK.decode(records[1], [], predicted(0.5, 0.5))]
    decoded = [TASK.calibrated(one, {}) for one in raw]
    wanted = {"question": "red ?", "choices": ["no", "yes", "so so"]}
    wanted |= {"label": 1, "answer": "yes", "score": 0.7, "scores": [0.1, 0.7, 0.2], "ranking": [1, 2, 0]}
    assert decoded[0] == wanted
    assert list(decoded[0]) == list(wanted)
    assert (decoded[1]["label"], decoded[1]["ranking"]) == (0, [0, 1])  # equal scores: the first
    json.dumps(decoded, allow_nan=False)
    scores = TASK.score(decoded, records, {})
    wanted = {"accuracy": 0.5, "accuracy/chance": pytest.approx((1 / 3 + 1 / 2) / 2), "accuracy/low": 0.0, "accuracy/high": 1.0}
    assert scores == wanted | {"ece/score": pytest.approx((0.3 + 0.5) / 2)}
    assert all(isinstance(value, float) for value in scores.values())
    report = TASK.report(decoded, records)
    assert "2 to 3" in report
    assert "95 % interval of accuracy: 0.0000 to 1.0000" in report
    found = MultipleChoice().decode(SWAG, [], predicted(0.1, 0.1, 0.2, 0.6))
    assert (found["question"], found["start"], found["answer"]) == ("Anna works in paris .", "the old", "red")


def test_the_temperature_makes_scores_honest_whatever_the_number_of_choices():
    told, gold = overconfident(600, 3)
    other, other_gold = overconfident(200, 2, seed=1)
    rows, places = [*told.tolist(), *other.tolist()], [*gold.tolist(), *other_gold.tolist()]
    records = [{"question": "?", "choices": ["no", "yes", "so so"][: len(row)], "label": place} for row, place in zip(rows, places, strict=True)]
    check_temperature(TASK, [TASK.decode(record, [], predicted(*row)) for record, row in zip(records, rows, strict=True)], records)


def test_raw_records_have_the_names_of_results(tokenizer):
    """Whatever columns the training data had, a raw record is {"question", "choices"}, with "start" where there is one."""
    raw = {"question": "red ?", "start": "bob is", "choices": ["red", "blue"]}
    swag = MultipleChoice(question_column="sent1", start_column="sent2", choice_columns=("ending0", "ending1"), label_column="label")
    other = MultipleChoice(question_column="q", start_column="s", choices_column="c", label_column="gold")
    for task in (swag, other):
        features = task.features(raw, tokenizer, max_length=16)
        assert [pieces(tokenizer, one) for one in features] == [f"[CLS] red ? [SEP] bob is {color} [SEP]" for color in ("red", "blue")]
        assert task.decode(raw, features, predicted(0.25, 0.75))["answer"] == "blue"
    with pytest.raises(UserError, match="no column 'sent1'; found are"):
        swag.features({"text": "red"}, tokenizer, max_length=16)


# ---- weights --------------------------------------------------------------------------------------------------------------------------------------


@needs_torch
def test_outputs_loss_and_gradients_are_those_of_torch(tmp_path):
    """At most 1e-5 x max(1, largest magnitude), float32, dropout off; ours packed in rows, theirs (questions, choices, tokens) padded."""
    import torch
    from transformers import AutoConfig, AutoModelForMultipleChoice

    tiny.encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(tiny.ENCODER | {"architectures": ["BertForMultipleChoice"]}))
    torch.manual_seed(0)
    model = AutoModelForMultipleChoice.from_config(AutoConfig.from_pretrained(tmp_path), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    source = Pretrained(path=str(tmp_path))
    checkpoint = source.open()
    assert checkpoint.kind == "choice"
    tokenizer = load_tokenizer(tmp_path, vocab_size=128, max_length=64)
    records = [one | {"choices": NAMES[:3], "label": i % 3} for i, one in enumerate(questions())]
    task = MultipleChoice(train=write(tmp_path / "t.jsonl", records)).resolve(tokenizer, checkpoint)
    items = build_items(task.records("train"), task, tokenizer, max_length=32, key="k", cache=tmp_path)
    loaded = source.load(checkpoint, task.head, reuse_head=True, seed=0)
    total, weight, gradients, found = compute(task, items, loaded, row_length=40, num_slots=8, num_rows=5)

    features = [items.feature(number) for number in range(24)]
    length = max(len(one.tokens["input_ids"]) for one in features)
    given = {name: torch.zeros((24, length), dtype=torch.long) for name in ("input_ids", "token_type_ids", "attention_mask")}
    for i, one in enumerate(features):
        n = len(one.tokens["input_ids"])
        for name, values in (one.tokens | {"attention_mask": np.ones(n)}).items():
            given[name][i, :n] = torch.tensor(values)
    theirs = model(**{name: array.reshape(8, 3, length) for name, array in given.items()}, labels=torch.tensor([record["label"] for record in records]))
    (theirs.loss * 8).backward()  # ours is the sum over the questions
    assert weight == 8
    wanted = {"loss": theirs.loss.item() * 8, "log_probabilities": theirs.logits.log_softmax(-1).detach().numpy()}
    ours = {"loss": total, "log_probabilities": np.asarray([found[number]["log_probability"] for number in range(24)]).reshape(8, 3)}
    wanted |= {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    for path, gradient in gradients.items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        ours[name] = gradient.T if transposed else gradient
    (batch,) = Pipeline(items, task.spec(), seed=0).once(Shape(row_length=32, num_slots=1, num_rows=24))
    ours["logits"] = np.asarray(tiny.outputs(loaded, batch)).reshape(8, 3)
    wanted["logits"] = theirs.logits.detach().numpy()
    assert set(ours) == set(wanted)
    assert {name.partition(".")[0] for name in wanted if "." in name} == {"bert", "classifier"}
    for name, array in wanted.items():
        assert np.abs(np.asarray(ours[name]) - array).max() <= BOUND * max(1.0, np.abs(array).max()), name


@needs_torch
def test_a_run_goes_to_transformers_and_back(tmp_path):
    """Trained, applied to raw questions, written, and loaded by PyTorch and by flaxft: the same scores."""
    import torch
    from transformers import AutoModelForMultipleChoice, AutoTokenizer

    cfg = tiny.config(tmp_path, num_epochs=12, **tiny.ONCE)
    cfg.task = example(tmp_path)
    results = flaxft.run(cfg, str(tmp_path / "run"))
    assert results["compiles_after_start"] == 0
    trained = flaxft.load(str(tmp_path / "run"))
    raw = [{"question": one["question"], "choices": one["choices"]} for one in questions()]
    found = trained.predict(raw)
    trained.save_pretrained(tmp_path / "out")
    for one, again in zip(found, flaxft.load(tmp_path / "out", task=MultipleChoice()).predict(raw), strict=True):
        assert again["ranking"] == one["ranking"]
        np.testing.assert_allclose(again["scores"], one["scores"], atol=BOUND)
    model, info = AutoModelForMultipleChoice.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for one in found:
        given = tokenizer([one["question"]] * len(one["choices"]), one["choices"], padding=True, return_tensors="pt")
        with torch.no_grad():
            scores = model.eval()(**{name: array[None] for name, array in given.items()}).logits[0].softmax(-1).numpy()
        np.testing.assert_allclose(one["scores"], scores, atol=BOUND)
        assert one["ranking"][0] == one["label"] == int(scores.argmax())
    assert set(flatten(trained.params)) >= {"head/pooler/dense/kernel", "head/classifier/kernel"}
    with pytest.raises(UserError, match="no column 'question'"):
        trained.predict(["only one text"])


def test_a_question_that_does_not_fit_says_what_to_raise(tmp_path, tokenizer):
    """All choices of a question stand in one micro-batch."""
    task = example(tmp_path)
    items = build_items(task.records("train"), task, tokenizer, max_length=32, key="k", cache=tmp_path)
    shape = {"num_slots": 1, "num_shapes": 1, "batch_size": 2, "num_steps": 4, "seed": 0, "num_devices": 1, "hidden_size": 32, "fingerprint": ""}
    enough = make_plan(items.lengths, items.item_starts, max_rows=4, **shape)
    assert all(len(rows.features) <= 4 for step in range(4) for rows in rows_of_step(enough, items.lengths, items.item_starts, seed=0, step=step))
    with pytest.raises(UserError, match=r"one item has [34] features, .* raise data\.max_rows"):  # before the first step, not at the one with that question
        make_plan(items.lengths, items.item_starts, max_rows=2, **shape)


def test_a_question_of_many_choices_is_evaluated_whatever_eval_tokens_says(tmp_path):
    """A batch has a row for each choice of the largest question, though that be more than `data.eval_tokens`."""
    from flaxft.train.loop import run

    cfg = tiny.config(tmp_path, **{"data.eval_tokens": 32, "num_steps": 1})
    lines = [json.dumps({"question": "who is red", "choices": [f"{word} lives in paris at a corp" for word in tiny.WORDS[:9]], "label": i}) for i in range(3)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    cfg.task = MultipleChoice(train=str(tmp_path / "many.jsonl"), validation=str(tmp_path / "many.jsonl"))
    assert 0.0 <= run(cfg, tmp_path / "run")["evals"]["validation"]["accuracy"] <= 1.0
