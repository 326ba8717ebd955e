"""The old Flax files: our own reader gets every bit back; transformers 4.57, where there is one, gives our logits."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest

from flaxft.export import flax_msgpack, reference
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained
from tests.export.untrained import AUTO, untrained

LEGACY = os.environ.get("FLAXFT_LEGACY_PYTHON")
# Run by an interpreter with transformers 4 and flax: the class of the head, its logits for stored inputs, and what it says of the weights.
SCRIPT = """
import json, logging, sys
import numpy as np
import transformers
transformers.logging.set_verbosity_error()
folder, name, stored = sys.argv[1:]
model, info = getattr(transformers, name).from_pretrained(folder, _do_init=True), None
given = {key: value.astype(np.int32) for key, value in np.load(stored).items()}
if "MultipleChoice" in name:
    given = {key: value[:, None] for key, value in given.items()}
outputs = model(**given)
if "QuestionAnswering" in name:
    logits = np.stack([outputs.start_logits, outputs.end_logits], -1)
elif name.endswith("Model"):
    logits = outputs.last_hidden_state
else:
    logits = outputs.logits
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
np.savez(stored, logits=np.asarray(logits), pieces=np.asarray(tokenizer("anna lives in paris .").input_ids), version=transformers.__version__)
"""


@pytest.mark.parametrize("family", AUTO)
def test_our_own_reader_gets_every_bit_back(tmp_path, family):
    given = untrained(tmp_path, family)
    folder = tmp_path / "out"
    folder.mkdir()
    flax_msgpack.write(given, folder)
    task = given.predictor.task
    source = Pretrained(path=str(folder))
    checkpoint = source.open()
    assert (checkpoint.kind, checkpoint.labels or ()) == (task.kind, task.labels or (("LABEL_0",) if task.problem_type == "regression" else ()))
    loaded = source.load(checkpoint, task.head, reuse_head=True, seed=1)
    assert loaded.fresh == ()
    wanted, found = flatten(given.predictor.params), flatten(loaded.params)
    assert set(found) == set(wanted)
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(found[path], np.asarray(leaf), err_msg=path)
    assert (folder / "tokenizer.json").is_file()
    assert json.loads((folder / "config.json").read_text())["architectures"] == [given.predictor.encoder.architectures[task.kind]]


@pytest.mark.skipif(not LEGACY, reason="FLAXFT_LEGACY_PYTHON names no interpreter with transformers 4 and flax")
@pytest.mark.parametrize("family", AUTO)
def test_transformers_4_gives_our_logits(tmp_path, family):
    given = untrained(tmp_path, family)
    folder = tmp_path / "out"
    folder.mkdir()
    flax_msgpack.write(given, folder)
    rng = np.random.default_rng(0)
    mask = (np.arange(19) < np.asarray([19, 4, 11])[:, None]).astype(np.int32)
    types = mask * rng.integers(0, 2, mask.shape, np.int32)
    inputs = {"input_ids": rng.integers(5, 60, mask.shape, np.int32), "attention_mask": mask, "token_type_ids": types}
    np.savez(tmp_path / "stored.npz", **inputs)
    name = f"Flax{given.predictor.encoder.architectures[given.predictor.task.kind]}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    command = [str(LEGACY), "-c", SCRIPT, str(folder), name, str(tmp_path / "stored.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "stored.npz")
    assert str(theirs["version"]).startswith("4.")
    ours = reference.logits_of(given.predictor, given.predictor.params)(inputs)
    found = theirs["logits"].reshape(ours.shape)
    kept = mask > 0 if ours.shape[:2] == mask.shape else slice(None)
    assert np.abs(found - ours)[kept].max() <= 1e-5 * max(1.0, np.abs(ours[kept]).max())
    tokenizer = given.predictor.tokenizer
    assert theirs["pieces"].tolist() == tokenizer.wrap(tokenizer.text("anna lives in paris .")[0]).tolist()
