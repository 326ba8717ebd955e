"""Data sets of the hub, and the loopback hub itself. Clients are processes of their own: the libraries read HF_ENDPOINT and HF_HOME at import."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub import HubServer

CARD = """---
configs:
- config_name: en
  data_files:
  - {split: train, path: en/train.jsonl}
  - {split: dev, path: en/dev.jsonl}
- config_name: de
  data_files:
  - {split: train, path: de/train.jsonl}
dataset_info:
- config_name: en
  features: &features
  - {name: tokens, sequence: string}
  - {name: tags, sequence: {class_label: {names: {'0': O, '1': B-PER}}}}
- config_name: de
  features: *features
---
Tags.
"""
# What `datasets` writes into a Parquet file's own metadata.
PARQUET_FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
}
CLIENT = """
import json, sys
from flaxft.data.source import open_source
from flaxft.errors import UserError
answers = []
for path, split, max_examples in json.loads(sys.argv[1]):
    try:
        source = open_source(path, split=split, max_examples=max_examples)
        answers.append({"records": list(source), "name": source.name, "where": source.where(len(source) - 1), "fingerprint": source.fingerprint})
    except UserError as error:
        answers.append({"error": str(error)})
print(json.dumps(answers))
"""
SNAPSHOT = """
import sys, huggingface_hub
print(huggingface_hub.snapshot_download(sys.argv[1], allow_patterns=["*.json"]))
"""


def write_tagged(folder: Path) -> None:
    for name in ("en/train", "en/dev", "de/train"):
        file = folder / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps({"tokens": ["Ada", name], "tags": [1, 0]}) + "\n" for _ in range(3)))
    (folder / "README.md").write_text(CARD)


def write_parquet(folder: Path) -> None:
    folder.mkdir(parents=True)
    schema = pa.schema(
        [("text", pa.string()), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": PARQUET_FEATURES}})},
    )
    for split in ("train", "test"):
        table = pa.table({"text": [split, "b", "c"], "label": [1, 0, -1]}, schema=schema)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


class Hub:
    """The server with its folder, and one cache folder that its clients share."""

    def __init__(self, server: HubServer, home: Path):
        self.server, self.home = server, home

    def open(self, *asked: tuple[str, str, int | None], home: Path | None = None, offline: bool = False) -> list[dict]:
        done = self.server.client(CLIENT, json.dumps(asked), home=home or self.home, offline=offline)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "the libraries' progress bars and warnings are off"
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("hub")
    write_tagged(root / "datasets/acme/tags")
    write_parquet(root / "datasets/acme/flat")
    (root / "models/acme/bert").mkdir(parents=True)
    (root / "models/acme/bert/config.json").write_text('{"model_type": "bert"}')
    (root / "models/acme/bert/weights.bin").write_bytes(b"no")
    with HubServer(root, moved={"tagset": "acme/tags"}) as server:
        yield Hub(server, tmp_path_factory.mktemp("home"))


def test_reads_data_sets_online_and_then_from_the_cache(hub: Hub):
    commit = hub.server.commit("datasets", "acme/tags")
    asked = [
        ("hub:acme/tags/en", "train", None),
        ("hub:acme/tags/en", "dev", 2),
        (f"hub:acme/tags/de@{commit}", "train", None),
        ("hub:acme/tags/en@main", "train", None),
        ("hub:acme/flat", "test", None),
    ]
    english, dev, german, main, flat = online = hub.open(*asked)

    assert english["records"] == [{"tokens": ["Ada", "en/train"], "tags": ["B-PER", "O"]}] * 3
    assert english["name"] == "hub:acme/tags/en"
    assert english["where"] == "hub:acme/tags/en: row 2"
    assert dev["records"] == [{"tokens": ["Ada", "en/dev"], "tags": ["B-PER", "O"]}] * 2
    assert german["records"][0] == {"tokens": ["Ada", "de/train"], "tags": ["B-PER", "O"]}
    assert flat["records"] == [{"text": "test", "label": "yes"}, {"text": "b", "label": "no"}, {"text": "c", "label": None}]
    assert english["fingerprint"] == main["fingerprint"]
    assert len({answer["fingerprint"] for answer in online}) == 4
    assert all(len(answer["fingerprint"]) == 64 for answer in online)

    num_requests = len(hub.server.requests)
    assert hub.open(*asked, offline=True) == online  # a second process: equal fingerprints too
    assert len(hub.server.requests) == num_requests


def test_old_one_word_names(hub: Hub):
    old, new = hub.open(("hub:tagset/en", "dev", None), ("hub:acme/tags/en", "dev", None))
    assert old["records"] == new["records"]
    assert old["fingerprint"] == new["fingerprint"]


def test_errors_are_one_line(hub: Hub):
    cases = {
        ("hub:acme/missing", "train"): ["acme/missing", "'acme' with subset 'missing'", "doesn't exist on the Hub"],
        ("hub:acme/tags/fr", "train"): ["'acme/tags' with subset 'fr'", "'en', 'de'"],
        ("hub:acme/tags", "train"): ["'en', 'de'"],
        ("hub:acme/tags/en", "tran"): ["no split 'tran'; found train, dev; did you mean 'train'?"],
        ("hub:acme/tags/en@v9", "train"): ["evision 'v9'"],
        ("hub:a/b/c/d", "train"): ["expected hub:NAME[/SUBSET][@REVISION]"],
        ("hub:", "train"): ["expected hub:NAME[/SUBSET][@REVISION]"],
        ("hub:../../etc", "train"): ["leads out of the hub's cache"],
        ("hub:csv", "train"): ["'csv' is a file format of the datasets library"],
        ("hub:tests/data", "train"): ["'tests/data'"],  # a local folder of that name is not read
    }
    answers = hub.open(*[(path, split, None) for path, split in cases])
    for (path, _), parts, answer in zip(cases, cases.values(), answers, strict=True):
        assert "records" not in answer, path
        assert answer["error"].startswith(path)
        assert "\n" not in answer["error"]
        for part in parts:
            assert part in answer["error"]


def test_offline_names_what_is_not_in_the_cache(hub: Hub, tmp_path: Path):
    (answer,) = hub.open(("hub:acme/tags/en", "train", None), home=tmp_path, offline=True)
    assert "tried 'acme/tags' with subset 'en'" in answer["error"]
    assert f"HF_HUB_OFFLINE is set and the cache {tmp_path}" in answer["error"]


def test_offline_never_takes_another_revision(hub: Hub, tmp_path: Path):
    hub.open(("hub:acme/tags/en", "train", None), home=tmp_path)
    (answer,) = hub.open(("hub:acme/tags/en@v9", "train", None), home=tmp_path, offline=True)
    assert "revision 'v9' is not in the cache" in answer["error"]


def test_without_network_the_cache_serves(hub: Hub, tmp_path: Path):
    with HubServer(tmp_path) as server:
        pass  # stopped: its port refuses
    asked = ("hub:acme/tags/en", "dev", None)
    online = hub.open(asked)
    assert "records" in online[0]
    assert Hub(server, hub.home).open(asked) == online

    start = time.monotonic()
    (answer,) = Hub(server, tmp_path).open(("hub:tagset/en", "dev", None))
    assert f"{server.endpoint} does not answer" in answer["error"]
    assert "tried 'tagset/en'" in answer["error"]
    assert "and 'tagset' with subset 'en'" in answer["error"]
    assert time.monotonic() - start < 20, "the library alone takes 46 s"


def test_the_loopback_hub_serves_models(hub: Hub, tmp_path: Path):
    online = hub.server.client(SNAPSHOT, "acme/bert", home=tmp_path)
    assert online.returncode == 0, online.stderr
    folder = Path(online.stdout.strip())
    assert folder.name == hub.server.commit("models", "acme/bert")
    assert [file.name for file in folder.iterdir()] == ["config.json"]
    assert json.loads((folder / "config.json").read_text()) == {"model_type": "bert"}
    assert hub.server.client(SNAPSHOT, "acme/bert", home=tmp_path, offline=True).stdout == online.stdout

    missing = hub.server.client(SNAPSHOT, "acme/none", home=tmp_path)
    assert "RepositoryNotFoundError" in missing.stderr
