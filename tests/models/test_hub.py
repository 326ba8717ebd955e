"""`model.path` as a hub id. Clients are processes of their own: huggingface_hub reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE at import."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import tiny
from tests.hub import HubServer

LABELS = ["O", "B-PER", "I-PER"]
CLIENT = """
import hashlib, json, sys, time
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained
answers = []
for path, revision in json.loads(sys.argv[1]):
    source, began = Pretrained(path=path, revision=revision), time.monotonic()
    try:
        checkpoint = source.open()
        loaded = source.load(checkpoint, lambda encoder, rngs: encoder.head("token", 3, rngs=rngs), reuse_head=True, seed=0)
        tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
        digest = hashlib.sha256(b"".join(array.tobytes() for _, array in sorted(flatten(loaded.params).items()))).hexdigest()
        files = sorted(file.name for file in checkpoint.directory.iterdir())
        answers.append({"name": checkpoint.name, "labels": checkpoint.labels, "files": files, "params": digest, "tokenizer": tokenizer.fingerprint})
    except UserError as error:
        answers.append({"error": str(error), "seconds": time.monotonic() - began})
print(json.dumps(answers))
"""
MAIN = "import sys; from flaxft.main import main; sys.exit(main(sys.argv[1:]))"


class Hub:
    """The server, and one cache folder that its clients share."""

    def __init__(self, server: HubServer, home: Path):
        self.server, self.home = server, home

    def load(self, *asked: tuple[str, str | None], home: Path | None = None, offline: bool = False) -> list[dict]:
        done = self.server.client(CLIENT, json.dumps(asked), home=home or self.home, offline=offline)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "the library's progress bars and warnings are off"
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("hub")
    model = tiny.encoder(root / "models/acme/ner", architectures=["BertForTokenClassification"], id2label=dict(enumerate(LABELS)))
    rng = np.random.default_rng(0)
    head = {"classifier.weight": rng.standard_normal((3, 32)).astype(np.float32), "classifier.bias": np.ones(3, np.float32)}
    save_file(load_file(model / "model.safetensors") | head, model / "model.safetensors")
    (model / "pytorch_model.bin").write_bytes(b"a pickle")
    (model / "README.md").write_text("A card.")
    (root / "models/acme/card").mkdir()
    (root / "models/acme/card/README.md").write_text("A card without a model.")
    with HubServer(root, moved={"ner-old": "acme/ner"}) as server:
        yield Hub(server, tmp_path_factory.mktemp("home"))


def test_loads_online_and_then_from_the_cache(hub: Hub):
    asked = [("acme/ner", None), ("acme/ner", "main"), ("acme/ner", hub.server.commit("models", "acme/ner"))]
    online = hub.load(*asked)
    for answer in online:
        assert "error" not in answer, answer
        assert answer["labels"] == LABELS
        assert answer["files"] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert online[1] == online[0] == online[2]
    assert not [request for request in hub.server.requests if "pytorch_model.bin" in request or "README" in request]

    num_requests = len(hub.server.requests)
    assert hub.load(*asked, offline=True) == online
    assert len(hub.server.requests) == num_requests

    with HubServer(hub.home) as gone:
        pass  # its port refuses from here on
    assert Hub(gone, hub.home).load(("acme/ner", None)) == online[:1]


def test_a_hub_id_loads_what_its_directory_loads(hub: Hub):
    directory = hub.server.root / "models/acme/ner"
    from_hub, from_directory = hub.load(("acme/ner", None), (str(directory), None))
    assert from_hub["params"] == from_directory["params"]
    assert from_hub["tokenizer"] == from_directory["tokenizer"]
    (renamed,) = hub.load(("ner-old", None))
    assert renamed["params"] == from_hub["params"]


def test_what_is_not_there_is_one_line(hub: Hub):
    cases = {
        ("acme/missing", None): ["model.path=acme/missing", "neither a directory here nor a model on the hub", "mend the name"],
        ("missing", None): ["model.path=missing", "neither a directory here nor a model on the hub"],
        ("acme/ner", "v9"): ["model.revision='v9' does not exist in acme/ner", "branch, tag or commit"],
        ("acme/card", None): ["holds no config.json", "model.path needs a Hugging Face model directory"],
        ("acme--ner", None): ["model.path=acme--ner"],
        ("-ner", None): ["model.path=-ner"],
        ("a" * 200, None): ["model.path=aaa"],
        ("a" * 300, None): ["model.path=aaa"],
        ("acme/ner/tree/main", None): ["model.path=acme/ner/tree/main: no such directory"],
        (f"{hub.server.endpoint}/acme/ner", None): ["no such directory"],
    }
    answers = hub.load(*cases)
    for (path, _), parts, answer in zip(cases, cases.values(), answers, strict=True):
        assert "error" in answer, path
        assert "\n" not in answer["error"]
        assert answer["seconds"] < 10, (path, answer)
        for part in parts:
            assert part in answer["error"], (path, answer)


def test_without_cache_or_network_is_one_line(hub: Hub, tmp_path: Path):
    (offline,) = hub.load(("acme/ner", None), home=tmp_path, offline=True)
    with HubServer(tmp_path) as gone:
        pass
    (refused,) = Hub(gone, tmp_path).load(("acme/ner", None))
    for answer in (offline, refused):
        assert answer["error"].startswith("model.path=acme/ner is no directory here, not in the hub's cache, and could not be fetched ("), answer
        assert answer["error"].endswith("give a directory, or connect to the hub")
        assert "\n" not in answer["error"]
        assert answer["seconds"] < 10, answer
    hub.load(("acme/ner", None), home=tmp_path)
    (other,) = hub.load(("acme/ner", "v9"), home=tmp_path, offline=True)
    assert "error" in other, "another revision than the one asked for was taken"


def test_the_command_prints_one_line(hub: Hub, tmp_path: Path):
    tiny.config(tmp_path)
    config = f"from pathlib import Path\nfrom tests import tiny\ndef get_config():\n    return tiny.config(Path({str(tmp_path)!r}))\n"
    (tmp_path / "ner.py").write_text(config)
    flags = [f"--config={tmp_path}/ner.py", f"--workdir={tmp_path}/run", "--config.model.path=acme/missing"]
    done = hub.server.client(MAIN, *flags, home=hub.home)
    assert done.returncode == 1
    assert done.stderr.startswith("error: model.path=acme/missing")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
