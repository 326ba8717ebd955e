"""The turns of benchmarks/step_speed.py train on the same tokens, FLOPs are counted as its docstring says, and its tables are those of the runs."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import pytest

from benchmarks import gpu_speed, step_speed
from benchmarks.train_speed import drawn_lengths

ARGS = argparse.Namespace(num_steps=1, length=128, lengths="conll2003", batch_size=4)
TINY = step_speed.Shape(num_layers=1, hidden_size=16, num_heads=2, mlp_size=32, rows=2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(step_speed, "VOCABULARY", 40)
    monkeypatch.setattr(step_speed, "PRODUCT_SIZE", 32)
    monkeypatch.setattr(step_speed, "NUM_SENTENCES", 100)


def test_flops_of_a_step():
    """One layer of size 2, 10 parameters, examples of 3 and 5 tokens: 6 * 10 * 8 + 12 * 2 * (9 + 25)."""
    shape = TINY._replace(hidden_size=2)
    assert step_speed.num_flops(10, np.asarray([3, 5]), shape) == 480 + 816


def test_our_turn_has_full_rows():
    found = step_speed.our_turn(ARGS, "flaxft", TINY)
    assert found["tokens"] == found["positions"] == [256]
    assert len(found["seconds"]) == 1
    assert found["losses"][0] == pytest.approx(math.log(9), abs=0.2)
    assert len(set(found["losses"])) == step_speed.SKIP + 1  # the parameters move


@pytest.mark.parametrize("side", ["packed", "packed_bf16"])
def test_our_packed_turn_counts_its_flops(side):
    found = step_speed.our_turn(ARGS, side, TINY)
    assert found["tokens"][0] < found["positions"][0]
    # a layer's products, its biases and norms, those of the embeddings' norm, and the head
    num_dense = 4 * 16 * 16 + 2 * 16 * 32 + (9 * 16 + 32) + 2 * 16 + (16 * 9 + 9)
    products = 6 * num_dense * found["tokens"][0]
    assert products < found["flops"][0] < products + 12 * 16 * found["tokens"][0] * 128  # no example is longer than 128
    assert step_speed.share(found) > 0


@pytest.mark.parametrize("side", ["torch_heap", "torch_bf16_heap"])
def test_their_turn_sees_the_same_tokens(side):
    pytest.importorskip("torch", reason="torch is not installed")
    found = step_speed.torch_turn(ARGS, side, TINY)
    assert found["tokens"] == [256]
    assert found["losses"][0] == pytest.approx(math.log(9), abs=0.2)


def test_padded_to_the_longest():
    args = argparse.Namespace(**vars(ARGS) | {"lengths": "wnut17"})
    batches = step_speed.their_batches(args, "torch_longest_bf16", TINY)
    assert len(batches) == step_speed.SKIP + 1
    lengths = drawn_lengths("wnut17", 4 * len(batches)).reshape(-1, 4)
    for batch, own in zip(batches, lengths, strict=True):
        assert batch["input_ids"].shape == (4, own.max())
        assert batch["attention_mask"].sum(1).tolist() == own.tolist()
        assert ((batch["labels"] == step_speed.IGNORED) == (batch["attention_mask"] == 0)).all()
        assert step_speed.useful(batch) == own.sum()
    pytest.importorskip("torch", reason="torch is not installed")
    found = step_speed.torch_turn(args, "torch_longest_bf16", TINY)
    assert found["tokens"] == [lengths[-1].sum()]
    assert found["losses"][0] == pytest.approx(math.log(9), abs=0.2)


def test_turns_alternate_and_torch_compile_may_fail(tmp_path, monkeypatch, capsys):
    ran = []

    def execute(command, *, workdir):
        side, shape = command[command.index("--turn") + 1 :][:2]
        ran.append((shape, side))
        if side == "torch_compile_heap":
            return {"failed": "InductorError: no compiler"}
        more = {"flops": [8e9], "product_rate": 1e10, "positions": [120]} if side == "packed" else {}
        return {"seconds": [1.0], "tokens": [150 if side.startswith("flaxft") else 100]} | more

    monkeypatch.setattr(step_speed, "execute", execute)
    monkeypatch.setattr(step_speed, "machine", lambda: {"cpu": "this one"})
    out = tmp_path / "out.json"
    sides = ["flaxft", "torch_heap", "torch_compile_heap", "packed"]
    step_speed.main(["--shapes", "mini", "base", "--sides", *sides, "--rounds=2", f"--out={out}"])
    assert ran[:5] == [("mini", "flaxft"), ("mini", "torch_heap"), ("mini", "torch_compile_heap"), ("mini", "torch_heap"), ("mini", "flaxft")]
    assert ran[5:] == [("base", side) for side in ("flaxft", "torch_heap", "packed", "packed", "torch_heap", "flaxft")]
    assert len(json.loads(out.read_text())["runs"]) == 10
    shown = capsys.readouterr().out
    assert "| flaxft / torch_heap | 1.50 (1.50 to 1.50) | 1.50 (1.50 to 1.50) | 1.0 | 1.50 | 1.1 |" in shown
    assert "| 80.0% (80.0% to 80.0%) | 70% | 10 (10 to 10) | 83.3% |" in shown
    assert "torch_compile_heap did not run: InductorError: no compiler" in shown


def test_the_aims_of_a_gpu_in_one_command(tmp_path, monkeypatch, capsys):
    """Made-up rates of all sides; torch.compile is their better one at 512, eager at 128."""
    commands = []

    def execute(command, *, workdir):
        side = command[command.index("--turn") + 1]
        commands.append(command)
        rates = {"flaxft_bf16": 180, "torch_bf16": 120, "torch_compile_bf16": 150 if "--length=512" in command else 100, "flax457_bf16": 90}
        rates |= {"packed_bf16": 300, "torch_longest_bf16": 125}
        ours = {"flops": [3e14], "product_rate": 4e14, "positions": [200], "device": "NVIDIA H100 80GB HBM3"}
        return {"seconds": [1.0], "tokens": [rates[side]]} | (ours if side in ("flaxft_bf16", "packed_bf16") else {})

    monkeypatch.setattr(step_speed, "execute", execute)
    monkeypatch.setattr(step_speed, "machine", lambda: {"gpu": "this one"})
    gpu_speed.main([f"--out={tmp_path / 'gpu.json'}", "--legacy_python=old/python", "--rounds=1"])
    table = capsys.readouterr().out.split("| | measured | aim |")[1]
    assert "matmul rate, rows of 512 | 75.0% | 60% |" in table
    assert "published peak, rows of 512 | 30.3% | 55% |" in table
    assert "rows of 128, over torch_bf16 | 1.50 | 1.2 |" in table
    assert "rows of 512, over torch_compile_bf16 | 1.20 | 1.2 |" in table
    assert "rows of 512, over flax457_bf16 | 2.00 | - |" in table
    assert "over torch_longest_bf16 | 2.40 | 2.0 |" in table
    assert {name.name for name in tmp_path.iterdir()} == {"gpu.json", "gpu.128.json", "gpu.512.json", "gpu.mixed.json"}
    assert [command[0] for command in commands if "flax457_bf16" in command] == ["old/python"] * 2
    assert {command[-2] for command in commands if "--length=512" in command} == {"--rows=64"}
