"""Two entities of a text are marked and stay whole, whatever is cut; scores are the official scorer's; the model is PyTorch's."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxft
from flaxft.data.base import IGNORE
from flaxft.data.items import build_items
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.hf import Pretrained, hf_names
from flaxft.tasks.relation_classification import RelationClassification, kept
from tests import tiny
from tests.tasks.contract import check_temperature, compute, overconfident

ROOT = Path(__file__).parents[2]
SEMEVAL = ROOT / "../shared/data/semeval2010_task8"
BOUND = 1e-5
FAST = settings(max_examples=150, deadline=None, derandomize=True)
MARKERS = ("!", "!", "?", "?")  # the tiny vocabulary has no @ and #
LIVES, WORKS, OTHER = "Lives-In(e1,e2)", "Works-For(e2,e1)", "Other"
TASK = RelationClassification(text_columns=("sentence",), label_column="relation", labels=(LIVES, OTHER, WORKS), markers=MARKERS)
GOOD = {"sentence": "<e1>red</e1> <e2>blue</e2>", "relation": OTHER}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.encoder(tmp_path_factory.mktemp("relation") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(directory):
    return load_tokenizer(directory, vocab_size=128, max_length=64)


@pytest.fixture(scope="module")
def checkpoint(directory):
    return Pretrained(path=str(directory)).open()


def write(file, records):
    file.write_text("\n".join(json.dumps(record) for record in records))
    return str(file)


def sentences():
    """Eight, the relation following from the words."""
    pairs = [("anna", "paris"), ("bob", "acme"), ("carl", "dora"), ("dora", "oslo"), ("anna", "corp"), ("bob", "anna"), ("carl", "rome"), ("dora", "acme")]
    found = []
    for i, (person, other) in enumerate(pairs):
        if i % 3 == 0:
            found.append({"sentence": f"<e1>{person}</e1> lives in <e2>{other}</e2> .", "relation": LIVES, "id": str(10 + i)})
        elif i % 3 == 1:
            found.append({"sentence": f"the old <e1>{other}</e1> works with <e2>{person}</e2> .", "relation": WORKS, "id": str(10 + i)})
        else:
            found.append({"sentence": f"<e1>{person}</e1> and a red <e2>{other}</e2> !", "relation": OTHER, "id": str(10 + i)})
    return found


def example(folder):
    """What the contract tests run on."""
    file = write(folder / "eight.jsonl", sentences())
    return RelationClassification(train=file, validation=file, markers=MARKERS)


def pieces(tokenizer, features):
    return " ".join(tokenizer.backend.id_to_token(i) for i in features.tokens["input_ids"])


def marked(tokenizer, record, *, max_length=32, task=TASK):
    (features,) = task.features(record, tokenizer, max_length=max_length)
    return pieces(tokenizer, features)


# ---- features -------------------------------------------------------------------------------------------------------------------------------------


def test_the_entities_are_marked(tokenizer):
    record = {"sentence": "Anna <e1>works</e1> in <e2>old paris</e2>.", "relation": OTHER}
    (features,) = TASK.features(record, tokenizer, max_length=32)
    assert pieces(tokenizer, features) == "[CLS] anna ! works ! in ? old paris ? . [SEP]"
    assert set(features.tokens) == {"input_ids"}
    assert features.example["labels"] == 1
    assert features.example["labels"].dtype == np.int32
    assert features.num_cut == 0


def test_the_second_entity_may_stand_first(tokenizer):
    assert marked(tokenizer, {"sentence": "<e2>red</e2> <e1>blue</e1>"}) == "[CLS] ? red ? ! blue ! [SEP]"
    assert TASK.features({"sentence": "<e2>red</e2> <e1>blue</e1>"}, tokenizer, max_length=32)[0].example["labels"] == IGNORE


def test_a_part_of_a_word_may_be_an_entity(tokenizer):
    assert marked(tokenizer, {"sentence": "<e1>red</e1>blue <e2>is</e2>"}) == "[CLS] ! red ! blue ? is ? [SEP]"


@pytest.mark.parametrize(
    "record",
    [
        {"sentence": "the old corp at oslo", "e1": [4, 12], "e2": [16, 20]},
        {"sentence": "the old corp at oslo", "head": {"start": 4, "end": 12}, "tail": {"start": 16, "end": 20}},
        {"sentence": ["the", "old", "corp", "at", "oslo"], "e1": [1, 3], "e2": [4, 5]},
        {"sentence": "the <e1>old corp</e1> at <e2>oslo</e2>"},
        {"sentence": "the <e1>old corp</e1> at <e2>oslo</e2>", "e1": "old corp", "e2": "oslo"},  # the tags tell; the columns may hold what they like
        {"text": "the old corp at oslo", "e1": {"text": "old corp", "start": 4, "end": 12}, "e2": {"text": "oslo", "start": 16, "end": 20}},  # a result
        {"tokens": ["the", "old", "corp", "at", "oslo"], "e1": [1, 3], "e2": [4, 5]},
    ],
)
def test_one_text_in_all_layouts(tokenizer, record):
    assert marked(tokenizer, record) == "[CLS] the ! old corp ! at ? oslo ? [SEP]"
    found = TASK.decode(record, [], [{"label": np.int32(0), "scores": np.array([0.5, 0.25, 0.25])}])
    assert found["text"] == "the old corp at oslo"
    assert found["e1"] == {"text": "old corp", "start": 4, "end": 12}
    assert found["e2"] == {"text": "oslo", "start": 16, "end": 20}


WORDS = st.lists(st.sampled_from(["anna", "works", "is", ".", "x7", "red"]), max_size=5).map(" ".join)


@FAST
@given(parts=st.tuples(WORDS, WORDS, WORDS), first=WORDS.filter(bool), second=WORDS.filter(bool), turned=st.booleans())
def test_what_is_read_is_the_text_with_the_markers_written_into_it(tokenizer, parts, first, second, turned):
    """So a user of PyTorch writes "the ! old corp ! at ? oslo ?", and the tokenizer gives the same."""
    (a, b), (m, n) = (("e2", "e1"), ("?", "!")) if turned else (("e1", "e2"), ("!", "?"))
    tagged = f"{parts[0]} <{a}>{first}</{a}> {parts[1]} <{b}>{second}</{b}> {parts[2]}"
    written = f"{parts[0]} {m} {first} {m} {parts[1]} {n} {second} {n} {parts[2]}"
    (features,) = TASK.features({"sentence": tagged}, tokenizer, max_length=64)
    assert features.tokens["input_ids"].tolist() == tokenizer.wrap(tokenizer.text(written)[0]).tolist()


@FAST
@given(*[st.integers(0, 12)] * 3, st.integers(-2, 40))
def test_what_is_kept(left, middle, right, capacity):
    num = kept(left, middle, right, capacity=capacity)
    if capacity < 0:
        assert num is None
        return
    assert sum(num) == min(capacity, left + middle + right)
    assert num.left <= left
    assert num.right <= right
    assert min(num) >= 0
    if middle <= capacity:
        assert (num.after_first, num.before_second) == (middle, 0)
        if num.left < left and num.right < right:
            assert abs(num.left - num.right) <= 1
    else:
        assert (num.left, num.right) == (0, 0)
        assert abs(num.after_first - num.before_second) <= 1


def test_a_long_text_is_cut_around_its_entities(tmp_path, tokenizer, caplog):
    long = {"sentence": f"{'a ' * 9}<e1>red</e1> is <e2>blue</e2> {'b ' * 9}", "relation": OTHER}
    far = {"sentence": f"a <e1>red</e1> is {'c ' * 9} was <e2>blue</e2> b", "relation": OTHER}
    assert marked(tokenizer, long, max_length=13) == "[CLS] a a ! red ! is ? blue ? b b [SEP]"
    assert marked(tokenizer, long, max_length=12) == "[CLS] a ! red ! is ? blue ? b b [SEP]"
    assert marked(tokenizer, far, max_length=12) == "[CLS] ! red ! is c c was ? blue ? [SEP]"
    assert marked(tokenizer, far, max_length=8) == "[CLS] ! red ! ? blue ? [SEP]"
    assert [TASK.features(one, tokenizer, max_length=12)[0].num_cut for one in (long, far)] == [15, 9]
    with pytest.raises(UserError, match=r"the entities 'red' and 'blue' have 6 tokens with their markers, and data\.max_length=7 holds 5; raise it"):
        marked(tokenizer, far, max_length=7)
    task = dataclasses.replace(TASK, train=write(tmp_path / "t.jsonl", [long, far, GOOD]))
    build_items(task.records("train"), task, tokenizer, max_length=12, key="k", cache=tmp_path)
    assert "2 of 3 records are longer than data.max_length=12 and were cut; 24 tokens are not read" in caplog.text


@pytest.mark.parametrize("text", ["NA", "null", "nan", "None", "\u200b", "\u00ad", "[SEP]", "\u2028", "e\u0301"])
def test_odd_texts_are_texts(tmp_path, tokenizer, text):
    task = dataclasses.replace(TASK, train=write(tmp_path / "t.jsonl", [{"sentence": f"<e1>{text}</e1>{text}<e2>red</e2>", "relation": "Other"}]))
    record = task.records("train")[0]
    found = marked(tokenizer, record, task=task)
    assert (found.count("!"), found.count("?"), found.count("[SEP]")) == (2, 2, 1)
    assert task.decode(record, [], [{"label": np.int32(0), "scores": np.ones(3) / 3}])["e1"] == {"text": text, "start": 0, "end": len(text)}


# ---- columns, labels, settings --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["text", "sentence"])
@pytest.mark.parametrize("label", ["relation", "label", "labels"])
def test_columns_and_labels_are_found(tmp_path, tokenizer, checkpoint, text, label):
    records = [{text: one["sentence"], label: one["relation"]} for one in sentences()]
    task = RelationClassification(train=write(tmp_path / "t.jsonl", records), markers=MARKERS).resolve(tokenizer, checkpoint)
    assert (task.text_columns, task.label_column, task.labels) == ((text,), label, (LIVES, OTHER, WORKS))
    assert task.resolve(tokenizer, checkpoint) == task


def test_number_labels_and_csv(tmp_path):
    (tmp_path / "t.csv").write_text('sentence,relation\n"<e1>red</e1>, <e2>blue</e2>",2\n')
    task = dataclasses.replace(TASK, train=str(tmp_path / "t.csv"))
    assert task._gold(task.records("train")[0]) == WORKS


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (GOOD | {"sentence": "red blue"}, "<e1> is missing in 'red blue'; mark one entity as <e1>...</e1> and one as <e2>...</e2>"),
        (GOOD | {"sentence": ""}, "<e1> is missing"),
        (GOOD | {"sentence": "<e1>red</e1> <e2>blue"}, "</e2> is missing"),
        (GOOD | {"sentence": "<e1>red</e1> <e1>red</e1> <e2>blue</e2>"}, "<e1> stands 2 times"),
        (GOOD | {"sentence": "<e1>red <e2>blue</e1> is</e2>"}, "the tags stand as <e1> <e2> </e1> </e2> in"),
        (GOOD | {"sentence": "<e1>red <e2>blue</e2></e1>"}, "close each entity before the next one begins"),
        (GOOD | {"sentence": "</e1>red<e1> <e2>blue</e2>"}, "the tags stand as </e1> <e1>"),
        (GOOD | {"sentence": "<e1></e1> <e2>blue</e2>"}, "<e1></e1> is empty"),
        (GOOD | {"sentence": None}, "column 'sentence' is 'None' (NoneType), expected text"),
        (GOOD | {"sentence": 3}, "column 'sentence' is '3' (int), expected text"),
        (GOOD | {"sentence": ["red", None], "e1": [0, 1], "e2": [1, 2]}, "column 'sentence' holds 'None' (NoneType), expected tokens"),
        (GOOD | {"sentence": ["red", "blue"]}, "a list of tokens, so two columns must say where"),
        (GOOD | {"sentence": "red blue", "e1": [0, 3], "e2": [4, 9]}, "column 'e2' is [4, 9], expected 0 <= start < end <= 8, the text's number of characters"),
        (GOOD | {"sentence": ["red", "blue"], "e1": [0, 1], "e2": [1, 3]}, "<= 2, the text's number of tokens"),
        (GOOD | {"sentence": "red blue", "e1": [0, 0], "e2": [4, 8]}, "column 'e1' is [0, 0]"),
        (GOOD | {"sentence": "red blue", "e1": [-1, 3], "e2": [4, 8]}, "column 'e1' is [-1, 3]"),
        (GOOD | {"sentence": "red blue", "e1": [0.0, 3], "e2": [4, 8]}, "column 'e1' is '[0.0, 3]', expected where the entity stands"),
        (GOOD | {"sentence": "red blue", "e1": "red", "e2": [4, 8]}, "column 'e1' is 'red', expected where the entity stands: [start, end] in characters"),
        (GOOD | {"sentence": "red blue", "e1": {"from": 0}, "e2": [4, 8]}, "expected where the entity stands"),
        (GOOD | {"sentence": "red blue", "e1": [0, 5], "e2": [4, 8]}, "the entities 'red b' and 'blue' overlap"),
        (GOOD | {"relation": None}, "expected a label"),
        (GOOD | {"relation": 0.5}, "expected a label"),
        (GOOD | {"relation": ""}, "column 'relation' is empty"),
        (GOOD | {"relation": 3}, "label number 3 in 'relation', expected 0 to 2"),
        ({"sentense": "red", "relation": OTHER}, "no column 'sentence'; found are ['relation', 'sentense']; set task.text_columns; did you mean 'sentense'?"),
        ({"sentence": "<e1>red</e1> <e2>blue</e2>", "relatoin": OTHER}, "set task.label_column; did you mean 'relatoin'?"),
    ],
)
def test_bad_records_are_named_by_their_line(tmp_path, record, what):
    file = write(tmp_path / "t.jsonl", [GOOD, record])
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TASK, train=file).records("train")
    assert str(caught.value).startswith(f"{file}:2: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_label_is_named_with_the_nearest(tmp_path, tokenizer):
    file = write(tmp_path / "t.jsonl", [GOOD | {"relation": "Lives-In(e2,e1)"}])
    source = dataclasses.replace(TASK, train=file).records("train")
    with pytest.raises(UserError, match=r"t\.jsonl:1: label 'Lives-In\(e2,e1\)' is not among .* did you mean 'Lives-In\(e1,e2\)'"):
        build_items(source, TASK, tokenizer, max_length=16, key="k", cache=tmp_path)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"main_metric": "macro_f2"}, "did you mean 'macro_f1'"),
        ({"text_columns": ("a", "b")}, "names 2 columns"),
        ({"entity_columns": ("a",)}, "expected two columns"),
        ({"entity_columns": ("a", "a")}, "expected two columns"),
        ({"entity_columns": ("subj", "obj")}, "no column 'subj'; found are"),
        ({"markers": ("!", "!", "?")}, "expected four"),
        ({"markers": ("!", "?", "!", "?")}, "others around the second"),
        ({"markers": ("@", "@", "?", "?")}, "task.markers has '@', which the tokenizer of"),
        ({"markers": ("@", "@", "?", "?")}, "reads as ['[UNK]']; give one piece of its vocabulary"),
        ({"markers": ("!!", "!", "?", "?")}, "reads as ['!', '!']"),
        ({"markers": ("", "!", "?", "?")}, "reads as []"),
        ({"labels": (OTHER,)}, "at least two"),
        ({"labels": (OTHER, OTHER)}, "more than once"),
    ],
)
def test_bad_settings(tmp_path, tokenizer, checkpoint, fields, what):
    file = write(tmp_path / "t.jsonl", sentences())
    with pytest.raises(UserError) as caught:
        dataclasses.replace(RelationClassification(train=file, markers=MARKERS), **fields).resolve(tokenizer, checkpoint)
    assert what in str(caught.value)


def test_one_label_only(tmp_path, tokenizer, checkpoint):
    with pytest.raises(UserError, match="every record has the label 'Other'"):
        RelationClassification(train=write(tmp_path / "t.jsonl", [GOOD] * 3), markers=MARKERS).resolve(tokenizer, checkpoint)


# ---- results --------------------------------------------------------------------------------------------------------------------------------------


def test_the_temperature_makes_scores_honest():
    told, gold = overconfident(800, 3)
    records = [{"sentence": GOOD["sentence"], "relation": TASK.labels[place]} for place in gold]
    predictions = [[{"label": np.int32(row.argmax()), "scores": row}] for row in told]
    check_temperature(TASK, [TASK.decode(record, [], one) for record, one in zip(records, predictions, strict=True)], records)


def results(task, records, labels):
    ids = [task.labels.index(label) for label in labels]
    spread = 0.1 / (len(task.labels) - 1)
    scores = [np.full(len(task.labels), spread) + np.eye(len(task.labels))[i] * (0.9 - spread) for i in ids]
    raw = [task.decode(record, [], [{"label": np.int32(i), "scores": one}]) for record, i, one in zip(records, ids, scores, strict=True)]
    calibration = task.calibrate(raw, records)
    return [task.calibrated(one, calibration) for one in raw]


def test_decode_score_report():
    records = sentences()[:4]  # lives, works, other, lives
    decoded = results(TASK, records, [LIVES, LIVES, OTHER, OTHER])
    confidence = decoded[0].pop("confidence")
    assert 1 / 3 < confidence < 0.9  # half of the four are wrong
    assert decoded[0] == {
        "id": "10",
        "text": "anna lives in paris .",
        "e1": {"text": "anna", "start": 0, "end": 4},
        "e2": {"text": "paris", "start": 14, "end": 19},
        "label": LIVES,
        "score": 0.9,
        "scores": {LIVES: 0.9, OTHER: 0.05, WORKS: 0.05},
    }
    decoded[0]["confidence"] = confidence
    json.dumps(decoded, allow_nan=False)
    scores = TASK.score(decoded, records, {})
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == scores["Lives-In/f1"] / 2 == 0.25
    assert 0 <= scores["macro_f1/low"] <= scores["macro_f1"] <= scores["macro_f1/high"] <= 1
    report = TASK.report(decoded, records)
    for line in (r"Lives-In +0\.5000 +0\.5000 +0\.5000 +2", r"Works-For +0\.0000", r"macro avg +0\.2500 +0\.2500 +0\.2500 +3", r"accuracy +0\.5000 +4"):
        assert re.search(line, report), line
    assert "95 % interval of macro_f1: " in report
    assert TASK.files(decoded) == {"answers.txt": f"10\t{LIVES}\n11\t{LIVES}\n12\t{OTHER}\n13\t{OTHER}\n"}
    assert TASK.files([one | {"id": "same"} for one in decoded])["answers.txt"].startswith(f"1\t{LIVES}\n2\t")
    for metric, wanted in (("accuracy", True), ("micro_f1", True), ("-loss", False)):
        found = dataclasses.replace(TASK, main_metric=metric).score(decoded, records, {})
        assert (f"{metric}/low" in found) == wanted


def semeval(name, num):
    """Records of the published file: blocks of four lines."""
    import gzip

    text = gzip.decompress((SEMEVAL / name).read_bytes()).decode().replace("\r\n", "\n")
    found = re.findall(r'^(\d+)\t"(.*)"\s*\n(\S+)', text, flags=re.MULTILINE)[:num]
    return [{"sentence": sentence, "relation": relation, "id": number} for number, sentence, relation in found]


@pytest.mark.skipif(shutil.which("perl") is None, reason="the official scorer needs perl")
@pytest.mark.skipif(not SEMEVAL.exists(), reason="needs ../shared/data/semeval2010_task8")
def test_the_score_is_that_of_the_official_scorer_on_the_written_files(tmp_path):
    """Of records as published, read from a file: what it prints for the answers that a run writes."""
    records = semeval("TEST_FILE_FULL.TXT.gz", 2717)
    assert len(records) == 2717
    labels = tuple(sorted({record["relation"] for record in records} | {"Entity-Destination(e2,e1)"}))  # one pair of the latter stands in train alone
    assert len(labels) == 19
    task = dataclasses.replace(TASK, test=write(tmp_path / "test.jsonl", records), labels=labels)
    source = task.records("test")
    rng = np.random.default_rng(0)
    answers = [record["relation"] if rng.random() < 0.6 else str(rng.choice(labels)) for record in records]
    decoded = results(task, source, answers)
    (tmp_path / "answers.txt").write_text(task.files(decoded)["answers.txt"])
    (tmp_path / "key.txt").write_text("".join(f"{record['id']}\t{record['relation']}\n" for record in records))
    command = ["perl", str(SEMEVAL / "semeval2010_task8_scorer-v1.2.pl"), str(tmp_path / "answers.txt"), str(tmp_path / "key.txt")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    scores = task.score(decoded, source, {})
    official = re.search(r"official score is .* macro-averaged F1 = *([\d.]+)%", printed)[1]
    accuracy = re.search(r"TAKING DIRECTIONALITY.*?Accuracy \(calculated for the above confusion matrix\) = .*? = *([\d.]+)%", printed, flags=re.DOTALL)[1]
    assert abs(100 * scores["macro_f1"] - float(official)) < 0.005 + 1e-9
    assert abs(100 * scores["accuracy"] - float(accuracy)) < 0.005 + 1e-9


@pytest.mark.skipif(not SEMEVAL.exists(), reason="needs ../shared/data/semeval2010_task8")
def test_all_of_semeval_is_read(tmp_path):
    records = semeval("TRAIN_FILE.TXT.gz", 8000)
    source = dataclasses.replace(TASK, labels=(), train=write(tmp_path / "t.jsonl", records)).records("train")
    assert len(source) == 8000
    assert len({TASK._marked(record).text for record in source}) > 7900


# ---- weights --------------------------------------------------------------------------------------------------------------------------------------


@needs_torch
def test_outputs_loss_and_gradients_are_those_of_torch(tmp_path):
    """At most 1e-5 x max(1, largest magnitude), float32, dropout off; ours packed in rows, theirs padded."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tiny.encoder(tmp_path)
    config = tiny.ENCODER | {"architectures": ["BertForSequenceClassification"], "id2label": dict(enumerate(TASK.labels))}
    (tmp_path / "config.json").write_text(json.dumps(config | {"label2id": {name: i for i, name in enumerate(TASK.labels)}}))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(tmp_path), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    source = Pretrained(path=str(tmp_path))
    checkpoint = source.open()
    tokenizer = load_tokenizer(tmp_path, vocab_size=128, max_length=64)
    task = example(tmp_path).resolve(tokenizer, checkpoint)
    assert task.labels == TASK.labels
    items = build_items(task.records("train"), task, tokenizer, max_length=32, key="k", cache=tmp_path)
    loaded = source.load(checkpoint, task.head, reuse_head=True, seed=0)
    total, weight, gradients, _ = compute(task, items, loaded, row_length=40, num_slots=8, num_rows=2)
    outputs = [model(input_ids=torch.tensor(items.feature(i).tokens["input_ids"], dtype=torch.long)[None]).logits for i in range(8)]
    labels = torch.tensor([int(items.feature(i).example["labels"]) for i in range(8)])
    loss = torch.nn.functional.cross_entropy(torch.cat(outputs), labels, reduction="sum")
    loss.backward()
    (batch,) = Pipeline(items, task.spec(), seed=0).once(Shape(row_length=32, num_slots=1, num_rows=8))
    assert weight == 8
    logits = np.asarray(tiny.outputs(loaded, batch))[:, 0]
    ours = {"loss": total, "logits": logits[np.argsort(batch["example_id"][:, 0])]}
    wanted = {"loss": loss.item(), "logits": torch.cat(outputs).detach().numpy()}
    wanted |= {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    for path, gradient in gradients.items():
        name, transposed = hf_names(path, checkpoint.encoder, with_prefix=True)
        ours[name] = gradient.T if transposed else gradient
    assert set(ours) == set(wanted)
    for name, array in wanted.items():
        assert np.abs(np.asarray(ours[name]) - array).max() <= BOUND * max(1.0, np.abs(array).max()), name


@needs_torch
def test_a_run_goes_to_transformers_and_back(tmp_path):
    """Trained, applied to raw texts, written, and loaded by flaxft and by PyTorch, for which the markers are written into the text: the same scores."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    cfg = tiny.config(tmp_path, num_epochs=12, **tiny.ONCE)
    cfg.task = example(tmp_path)
    results = flaxft.run(cfg, str(tmp_path / "run"))
    assert results["compiles_after_start"] == 0
    assert (tmp_path / "run" / "predictions" / "validation" / "answers.txt").read_text().startswith("10\t")
    trained = flaxft.load(str(tmp_path / "run"))
    texts = [one["sentence"] for one in sentences()]
    found = trained.predict(texts)
    again = trained.predict([{key: one[key] for key in ("text", "e1", "e2")} for one in found])
    trained.save_pretrained(tmp_path / "out")
    loaded = flaxft.load(tmp_path / "out", task=RelationClassification(markers=MARKERS)).predict(texts)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text, *ours in zip(texts, found, again, loaded, strict=True):
        written = re.sub("</?e1>", " ! ", re.sub("</?e2>", " ? ", text))
        with torch.no_grad():
            scores = model.eval()(**tokenizer(written, padding=False, return_tensors="pt")).logits[0].softmax(-1).numpy()
        for one in ours:
            assert model.config.id2label[int(scores.argmax())] == one["label"]
            np.testing.assert_allclose(list(one["scores"].values()), scores, atol=BOUND)
    with pytest.raises(UserError, match="input:1: <e1> is missing"):
        trained.predict(["only one text"])
