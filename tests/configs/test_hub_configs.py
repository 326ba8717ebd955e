"""The published recipes whose data is on the hub: each reads data laid out as the hub's, from a hub on the loopback, and its real training step lowers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.hub import HubServer

ROOT = Path(__file__).resolve().parents[2]
PAIR, QUESTIONS = ("sentence1", "sentence2"), ("question1", "question2")
YES_NO = ("entailment", "not_entailment")
# Columns and label names as on the hub; stsb's label is a number.
GLUE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cola": (("sentence",), ("unacceptable", "acceptable")),
    "sst2": (("sentence",), ("negative", "positive")),
    "mrpc": (PAIR, ("not_equivalent", "equivalent")),
    "stsb": (PAIR, ()),
    "qqp": (QUESTIONS, ("not_duplicate", "duplicate")),
    "mnli": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "qnli": (("question", "sentence"), YES_NO),
    "rte": (PAIR, YES_NO),
    "wnli": (PAIR, ("not_entailment", "entailment")),
}
SPLITS = {"mnli": ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")}
TAGS = ["O", *(f"{letter}-{name}" for name in ("PER", "ORG", "LOC", "MISC") for letter in "BI")]
STRING, INT, FLOAT = ({"dtype": kind, "_type": "Value"} for kind in ("string", "int32", "float32"))
CONFIGS = ["conll2003.py", *(f"glue.py:{name}" for name in GLUE), "squad_hub.py", "swag.py"]
LOWERED = {"conll2003.py", "glue.py:cola", "squad_hub.py", "swag.py"}  # the other steps of GLUE differ in the head's width alone


def write(folder: Path, splits: tuple[str, ...], features: dict[str, Any], record: Any) -> None:
    """Parquet files of 8 records each: `record(number)`, without label in a test split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    for split in splits:
        rows = [record(i) | ({"label": -1} if split.startswith("test") and "label" in features else {}) for i in range(8)]
        table = pa.Table.from_pylist(rows)
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{split}-00000-of-00001.parquet")


def card(folder: Path, subsets: dict[str, tuple[str, ...]]) -> None:
    lines = ["---", "configs:"]
    for subset, splits in subsets.items():
        lines += [f"- config_name: {subset}", "  data_files:", *(f"  - {{split: {split}, path: {subset}/{split}-*}}" for split in splits)]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def lay_out(root: Path) -> None:
    usual = ("train", "validation", "test")
    glue = root / "datasets/nyu-mll/glue"
    for name, (columns, labels) in GLUE.items():
        label = {"names": list(labels), "_type": "ClassLabel"} if labels else FLOAT

        def record(i: int, columns: tuple[str, ...] = columns, labels: tuple[str, ...] = labels) -> dict[str, Any]:
            return {column: f"a {column} of number {i}" for column in columns} | {"label": i % len(labels) if labels else i / 2, "idx": i}

        write(glue / name, SPLITS.get(name, usual), dict.fromkeys(columns, STRING) | {"label": label, "idx": INT}, record)
    card(glue, {name: SPLITS.get(name, usual) for name in GLUE})
    tags = {"feature": {"names": TAGS, "_type": "ClassLabel"}, "_type": "List"}
    words = {"tokens": {"feature": STRING, "_type": "List"}, "pos_tags": {"feature": INT, "_type": "List"}, "ner_tags": tags, "id": STRING}
    write(
        root / "datasets/lhoestq/conll2003", usual, words,
        lambda i: {"tokens": ["Ada", "saw", "Rome"], "pos_tags": [1, 2, 3], "ner_tags": [1, 0, 5 if i else 3], "id": str(i)},
    )  # fmt: skip
    answers = {"text": {"feature": STRING, "_type": "List"}, "answer_start": {"feature": INT, "_type": "List"}}
    write(
        root / "datasets/rajpurkar/squad", ("train", "validation"), {"id": STRING, "title": STRING, "context": STRING, "question": STRING, "answers": answers},
        lambda i: {"id": str(i), "title": "t", "context": "Ada saw Rome .", "question": "Who ?", "answers": {"text": ["Ada"], "answer_start": [0]}},
    )  # fmt: skip
    swag = ("video-id", "fold-ind", "startphrase", "sent1", "sent2", "gold-source", *(f"ending{i}" for i in range(4)))
    regular = root / "datasets/allenai/swag/regular"
    label = {"names": ["0", "1", "2", "3"], "_type": "ClassLabel"}
    write(regular, usual, dict.fromkeys(swag, STRING) | {"label": label}, lambda i: {name: f"{name} {i}" for name in swag} | {"label": i % 4})
    card(regular.parent, {"regular": usual})


# BERT base as both checkpoints have it; the vocabulary is bert-base-uncased's.
BASE = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 30522}
CLIENT = """
import json, sys
from pathlib import Path

import jax
from flaxft import encoder
from flaxft.command import from_file
from flaxft.data.items import build_items
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline
from flaxft.data.tokenize import load_tokenizer
from flaxft.models.hf import Untrained
from flaxft.optim import make_schedule, make_tx
from flaxft.train import state as states
from flaxft.train.step import make_loss_fn, make_train_step

folder, names, lowered = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
tokenizer = load_tokenizer(Path(encoder.DIRECTORY), vocab_size=30522, max_length=512)
for name in names:
    cfg = from_file(f"configs/{name}")
    cfg.check()
    model = Untrained(path=str(folder), dtype=cfg.model.dtype)
    checkpoint = model.open()
    task = cfg.task.resolve(tokenizer, checkpoint)
    records = {split: task.records(split) for split in task.splits()}
    items = build_items(records["train"], task, tokenizer, max_length=cfg.data.max_length, key=name, cache=folder / "cache")
    found = {"labels": list(task.labels), "model": cfg.model.path, "metric": task.main_metric, "rate": cfg.optim.learning_rate, "epochs": cfg.num_epochs,
             "batch": cfg.data.batch_size, "splits": {split: source.name for split, source in records.items()}, "items": len(items),
             "columns": list(getattr(task, "text_columns", ()))}
    if name in lowered:
        loaded = model.skeleton(checkpoint.config, task.head, where=folder)
        tx = make_tx(cfg.optim, make_schedule(cfg.optim, 100))
        state = jax.eval_shape(lambda params: states.create(loaded.graphdef, params, tx), loaded.params)
        batch = Pipeline(items, task.spec(), seed=0).empty(Shape(num_rows=2, row_length=cfg.data.max_length, num_slots=2))
        traced = jax.jit(make_train_step(make_loss_fn(task, state.graphdef), tx, seed=0), donate_argnums=0).trace(state, batch)
        texts = [traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "tpu")]
        found["products"], found["calls"] = ([text.count(word) for text in texts] for word in ("dot_general", "call @_call"))
        found["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(loaded.params))
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("hub")
    lay_out(root)
    folder = tmp_path_factory.mktemp("base")
    (folder / "config.json").write_text(json.dumps(BASE))
    with HubServer(root) as server:
        done = server.client(CLIENT, str(folder), json.dumps(CONFIGS), json.dumps(sorted(LOWERED)), home=tmp_path_factory.mktemp("home"))
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(CONFIGS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", GLUE)
def test_glue(found, name):
    columns, labels = GLUE[name]
    one = found[f"glue.py:{name}"]
    assert one["columns"] == list(columns)
    assert sorted(one["labels"]) == sorted(labels)
    assert one["items"] == 8
    assert (one["rate"], one["batch"], one["epochs"]) == (2e-5, 32, 5 if name in ("mrpc", "wnli") else 3)
    assert one["metric"] == {"cola": "mcc", "mrpc": "equivalent/f1", "stsb": "pearson"}.get(name, "accuracy")
    hub = f"hub:nyu-mll/glue/{name}"
    if name == "mnli":
        assert one["splits"] == {"train": hub, "validation": f"{hub}#validation_matched", "test": f"{hub}#validation_mismatched"}
    else:
        assert one["splits"] == {"train": hub, "validation": f"{hub}#validation"}


def test_the_others(found):
    assert set(found["conll2003.py"]["labels"]) == {"O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"}
    assert set(found["conll2003.py"]["splits"]) == {"train", "validation", "test"}
    assert found["squad_hub.py"]["items"] == 8
    assert found["swag.py"]["items"] == 8


@pytest.mark.parametrize("name", sorted(LOWERED))
def test_the_step_of_the_real_shape_lowers(found, name):
    """BERT base, without its weights: a layer's 8 products, forward and twice backward, and 12 layers that call them both ways."""
    for products, calls in zip(found[name]["products"], found[name]["calls"], strict=True):
        assert products >= 3 * 8
        assert calls == 2 * 12
    assert 108e6 < found[name]["parameters"] < 112e6


@pytest.mark.parametrize("name", ["conll2003", "glue", "squad_hub", "swag"])
def test_what_the_docstring_says(name):
    text = " ".join((ast.get_docstring(ast.parse((ROOT / "configs" / f"{name}.py").read_text())) or "").split())
    assert "Not run here" in text
    assert f"--config=configs/{name}.py" in text


@pytest.mark.parametrize("name", ["", "sst-2"])
def test_a_task_that_glue_has_not(name):
    from flaxft.command import from_file
    from flaxft.errors import UserError

    with pytest.raises(UserError, match=r"allowed are cola, sst2, .*--config=configs/glue.py:sst2"):
        from_file(f"{ROOT}/configs/glue.py:{name}")


def test_the_configs_of_an_installed_wheel(tmp_path):
    """`--config=configs/NAME.py` as the README has it, in a folder without configs."""
    pytest.importorskip("hatchling", reason="hatchling is not installed; it comes with the launch extra")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "here").mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import flaxft; from flaxft.command import parse; "
        "print(flaxft.__file__); print(parse(sys.argv[1:], modes=['train']).config.task.validation)"
    )
    for name, validation in (("conll2003.py", "hub:lhoestq/conll2003"), ("glue.py:sst2", "hub:nyu-mll/glue/sst2#validation")):
        done = subprocess.run([sys.executable, "-c", code, f"--config=configs/{name}"], cwd=tmp_path / "here", capture_output=True, text=True)
        assert done.stdout.splitlines() == [str(tmp_path / "site/flaxft/__init__.py"), validation], done.stderr
