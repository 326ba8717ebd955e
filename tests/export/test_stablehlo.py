"""The StableHLO program: run by its own loader in a process that cannot see flaxft, for every head, any batch and any length."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from jax import export

from flaxft.export import reference, stablehlo
from tests.export.untrained import untrained

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")

FAMILIES = (
    ("regression", {}), ("question_answering", {}), ("multiple_choice", {}), ("masked_lm", {}), ("sentence_embedding", {}), ("regression", {"pooling": "mean"}),
)  # fmt: skip
SHAPES = ((1, 1), (3, 7), (2, 33))
# The loader's folder is the only one beside jax's own that is looked into: -I leaves out the working directory and the user's settings.
SCRIPT = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("flaxft", "flax", "transformers", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from load import logits
given = np.load(sys.argv[2])
shapes = sorted({key.partition(":")[0] for key in given})
np.savez(sys.argv[3], **{shape: logits(*(given[f"{shape}:{name}"] for name in ("input_ids", "attention_mask", "token_type_ids"))) for shape in shapes})
print(sorted({"flaxft", "flax", "transformers"} & set(sys.modules)))
"""


def batch(rng: np.random.Generator, size: int, length: int) -> dict[str, np.ndarray]:
    mask = (np.arange(length) < rng.integers(1, length + 1, size)[:, None]).astype(np.int32)
    return {"input_ids": rng.integers(5, 100, (size, length)), "attention_mask": mask, "token_type_ids": rng.integers(0, 2, (size, length))}


def test_it_runs_where_flaxft_is_not(tmp_path):
    given = untrained(tmp_path, "token_classification")
    folder = tmp_path / "out"
    folder.mkdir()
    stablehlo.write(given, folder)
    rng = np.random.default_rng(0)
    inputs = {f"{size}x{length}": batch(rng, size, length) for size, length in SHAPES}
    np.savez(tmp_path / "in.npz", **{f"{shape}:{name}": array for shape, one in inputs.items() for name, array in one.items()})
    command = [sys.executable, "-I", "-c", SCRIPT, str(folder), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    ours = reference.logits_of(given.predictor, given.predictor.params)
    found = np.load(tmp_path / "out.npz")
    for shape, one in inputs.items():
        wanted, real = ours({name: array.astype(np.int32) for name, array in one.items()}), one["attention_mask"] > 0
        assert found[shape].shape == wanted.shape
        assert np.abs(found[shape] - wanted)[real].max() <= 1e-5 * max(1.0, np.abs(wanted).max())
    program = export.deserialize((folder / "model.stablehlo").read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert [str(dim) for dim in program.in_avals[-1].shape] == ["batch", "length"]
    assert len(stablehlo.SCRIPT.strip().splitlines()) <= 25
    assert json.loads((folder / "labels.json").read_text()) == list(given.predictor.task.labels)


@pytest.mark.parametrize(("family", "settings"), FAMILIES)
def test_every_head(tmp_path, family, settings):
    given = untrained(tmp_path, family, **settings)
    (tmp_path / "out").mkdir()
    lines = stablehlo.write(given, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert report["passed"]
    assert report["num_examples"] >= 8
    assert "cpu, cuda, tpu" in lines[-1]
