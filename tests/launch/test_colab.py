"""The notebook, cell by cell in a kernel of its own on the CPU, with two steps of training."""

from __future__ import annotations

import re

import pytest

from flaxft.main import MODES
from tests.launch.fakes import LAUNCH, ROOT

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed; it comes with the launch extra")
NOTEBOOK = LAUNCH / "colab.ipynb"
TRAINING = "results = flaxft.run(cfg, workdir)"


def code(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_a_clean_notebook():
    """Valid, for a TPU runtime, without outputs, and with neither TensorFlow nor a call that sets the TPU up."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["accelerator"] == "TPU"
    assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert not re.search(r"tensorflow|setup_tpu|torch_xla|import torch", "\n".join(code(notebook)))


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed; it comes with the launch extra")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed; it comes with the launch extra")
    if "export" not in MODES:
        pytest.skip("flaxft.main has no --mode=export in this tree")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (training,) = (cell for cell in notebook.cells if TRAINING in cell.source)
    training.source = training.source.replace(TRAINING, f"cfg.num_steps, cfg.data.max_examples = 2, 20\n{TRAINING}")
    # pip itself runs, and finds the package that is installed; nothing is fetched.
    for name, value in {"FLAXFT_SOURCE": "flaxft", "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "configs").symlink_to(ROOT / "configs")  # which an installed wheel has inside
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = {cell.source.split("\n")[0]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    texts = {name: "".join(str(one.get("text", one.get("data", ""))) for one in found) for name, found in outputs.items()}
    assert "CpuDevice" in texts["import flaxft  # before jax: it sets the compile cache up"]
    assert "0." in texts["from flaxft.command import from_file"]  # the score
    assert "<html" in texts["from pathlib import Path"]
    assert "nothing is pushed" in texts["from huggingface_hub import HfApi"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in (tmp_path / "ner-model").iterdir()}
