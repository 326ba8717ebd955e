"""The program that tokenises for a run."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flaxft import worker
from flaxft.data import items as items_module
from flaxft.data.items import build_items
from flaxft.data.tokenize import load_tokenizer
from flaxft.tasks.mixture import Mixture
from flaxft.tasks.regression import Regression
from flaxft.tasks.token_classification import TokenClassification
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(tiny.encoder(tmp_path / "encoder"), vocab_size=128, max_length=64)


def ner(tmp_path):
    rows = [{"tokens": f"anna in paris {'bob works ' * (i % 40)}".split(), "tags": ["B-PER", "O", "B-LOC"] + ["O"] * (2 * (i % 40))} for i in range(300)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TokenClassification(train=str(tmp_path / "a.jsonl"), labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), scheme="IOB2")


def test_the_same_table(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(items_module, "START_SECONDS", 1e-9)
    monkeypatch.setattr(items_module, "RECORDS", 50)
    monkeypatch.setattr(items_module, "num_cpus", lambda: 2)
    task, started = ner(tmp_path), []

    def start(num):
        started.append(worker.start(num, task=task, tokenizer=tokenizer))
        return started[-1]

    source = task.records("train")
    for name, how in {"alone": None, "together": start}.items():
        build_items(source, task, tokenizer, max_length=16, key="k", cache=tmp_path / name, start_workers=how)
    (first,), (second,) = ((tmp_path / name).iterdir() for name in ("alone", "together"))
    assert first.read_bytes() == second.read_bytes()
    (workers,) = started
    assert not any(one.is_new for one in iter(functools.partial(next_free, workers), None)), "both have worked to the end"


def next_free(workers):
    return None if workers._free.empty() else workers._free.get_nowait()


class Own(Regression):
    pass


@pytest.mark.parametrize(
    "task", [Own(), Mixture(tasks={"own": Own()}), dataclasses.replace(TokenClassification(), labels=object())], ids=["own", "own in a mixture", "no JSON"]
)
def test_a_task_that_workers_cannot_make(task, tokenizer):
    assert worker.start(2, task=task, tokenizer=tokenizer) is None


SERVED = """
import json, multiprocessing, sys
from flaxft import worker
from flaxft.data.spool import pack, unpack
ours, theirs = multiprocessing.Pipe()
ours.send_bytes(sys.stdin.buffer.read())
ours.send_bytes(pack([16, [[7, {"tokens": ["anna"], "tags": ["O"]}]]]))
ours.send_bytes(pack([16, [[8, {"tokens": ["anna"], "tags": ["X"]}]]]))
import threading
answers = []
def listen():
    answers.extend([ours.recv_bytes(), ours.recv_bytes()])
    ours.close()
thread = threading.Thread(target=listen)
thread.start()
worker.main(theirs.fileno())
thread.join()
assert answers[0] and not answers[1]
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized(), sorted({"orbax", "grain", "datasets", "transformers", "tensorboard", "matplotlib", "pickle5"} & set(sys.modules)))
"""


def test_it_takes_no_device_and_imports_little(tmp_path, tokenizer):
    from flaxft import config as configs

    setup = json.dumps([configs.to_json(ner(tmp_path)), tokenizer.backend.to_str(), 64, tokenizer.fingerprint])
    done = subprocess.run([sys.executable, "-c", SERVED], cwd=ROOT, input=setup.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == "False []\n"
