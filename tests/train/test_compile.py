"""What --mode=compile says of a step: counted by the compiler, and near what a hand count gives. For a TPU where its compiler is installed."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest

from flaxft.errors import UserError
from flaxft.train.compile import CHIPS, Chip, Step, collectives, compile_step, lines
from flaxft.train.peak import PEAKS
from flaxft.train.step import TrainStep
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
# One line for each form in which the compiler writes a collective.
PROGRAM = """
  %all-reduce.1 = f32[768,3072]{1,0:T(8,128)} all-reduce(%fusion.2), channel_id=1, replica_groups=[1,8]<=[8], use_global_device_ids=true, to_apply=%add
  %ar = (f32[16]{0}, bf16[4,2]{1,0}) all-reduce(%a, %b), channel_id=2, replica_groups={{0,1},{2,3}}, to_apply=%add
  %ags = (bf16[8,4]{1,0}, bf16[32,4]{1,0}) all-gather-start(%p), channel_id=3, replica_groups=[2,4]<=[8], dimensions={0}
  %agm = f32[8]{0} all-gather(%q), channel_id=6, replica_groups=mesh['axis_0'=4,'axis_1'=3] {'axis_0':(1)2,'axis_1'}, dimensions={0}
  %agd = bf16[32,4]{1,0} all-gather-done(%ags)
  %rs = f32[10]{0} reduce-scatter(%c), channel_id=4, replica_groups={{0,1,2,3,4}}, dimensions={0}, to_apply=%add
  %cps = (f32[6]{0}, f32[6]{0}, u32[], u32[]) collective-permute-start(%d), channel_id=5, source_target_pairs={{0,1},{1,0}}
  %cpd = f32[6]{0} collective-permute-done(%cps)
  %fusion.9 = f32[4]{0} fusion(%all-reduce.1), kind=kLoop, calls=%computation
"""


def test_collectives_are_counted_by_what_a_device_sends():
    assert collectives(PROGRAM, num_devices=8) == {
        "all-gather": (2, 32 * 4 * 2 * 3 / 4 + int(8 * 4 * 5 / 6)),
        "all-reduce": (2, 768 * 3072 * 4 * 2 * 7 / 8 + (16 * 4 + 8 * 2) * 2 / 2),
        "collective-permute": (1, 24),
        "reduce-scatter": (1, 40 * 4),
    }


def test_a_step_for_the_devices_that_are_here(tmp_path):
    step = compile_step(tiny.config(tmp_path), None)
    assert (step.num_devices, step.collectives) == (1, {})
    assert 16 * step.num_params < step.held < 17 * step.num_params  # float32: parameters, gradients and Adam's two moments, and a batch
    assert step.scratch > 0
    assert step.bounds == {}, "nothing is published of this CPU"
    assert not (tmp_path / "run").exists()


def test_a_micro_batch_is_held_beside_all_of_the_state(tmp_path):
    cfg = tiny.config(tmp_path)
    whole = compile_step(cfg, None)
    cfg.data.max_rows = 1
    part = compile_step(cfg, None)
    assert (whole.is_part, part.is_part, part.num_rows) == (False, True, 1)
    assert part.flops < whole.flops / 2
    assert part.held > 4 * 4 * part.num_params, "parameters, two moments and the sum of the gradients"
    assert "one of several micro-batches: 1 rows" in "\n".join(lines(part))


@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_eight_devices_sum_the_gradients_and_send_little_else(tmp_path, axis):
    """With fsdp too, where activations could go to and fro."""
    command = [sys.executable, "-m", "flaxft.main", "--mode=compile", "--config=configs/ner.py", f"--workdir={tmp_path / 'run'}"]
    command += {"data": [], "fsdp": ["--config.mesh.data=1", "--config.mesh.fsdp=-1"]}[axis]
    env = tiny.devices(8)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    num_params = int(re.search(rf"8 x cpu \({axis} 8\), ([\d,]+) parameters", done.stdout)[1].replace(",", ""))
    sent = sum(float(size) for size in re.findall(r"  \d+ [\w-]+: ([\d.]+) MB", done.stdout)) * 1e6
    assert 0.7 < sent / (2 * 7 / 8 * 4 * num_params) < 1.2
    assert not (tmp_path / "run").exists()


def test_operations_are_those_of_a_hand_count(tmp_path):
    cfg = tiny.config(tmp_path)
    step = compile_step(cfg, None)
    checkpoint = cfg.model.open()
    layers, hidden = checkpoint.config["num_hidden_layers"], checkpoint.config["hidden_size"]
    dense = layers * (4 * hidden**2 + 2 * hidden * checkpoint.config["intermediate_size"])
    tokens = step.num_rows * step.row_length / step.num_devices
    by_hand = 6 * dense * tokens + 12 * layers * hidden * step.row_length * tokens  # Kaplan et al. 2020: forward and backward; attention over whole rows
    assert 0.9 < step.flops / by_hand < 2.0  # a tiny model's norms, softmax and optimizer weigh as much as its products


def test_the_roofline_is_the_slowest_of_the_three():
    step = Step(
        device_kind="TPU v5 lite", num_devices=8, mesh={"data": 8, "fsdp": 1, "tensor": 1}, num_params=10, num_rows=64, row_length=128, useful_tokens=8000.0,
        is_part=False, held=1e9, scratch=3e9, flops=2e12, bytes_accessed=8.19e9, collectives={"all-reduce": (2, 4e9)}, num_loops=3, peak=2e14,
        chip=Chip(16e9, 819e9, 200e9),
    )  # fmt: skip
    assert step.bounds == pytest.approx({"compute": 0.01, "memory": 0.01, "interconnect": 0.02})
    text = "\n".join(lines(step))
    assert "4.00 GB a device" in text and "25% of its 16 GB" in text
    assert "roofline: 20.00 ms, 400,000 useful tokens/s" in text
    assert "2 all-reduce: 4000.0 MB" in text
    assert "note: 3 loops" in text and "loops" not in "\n".join(lines(dataclasses.replace(step, num_loops=0)))


def test_every_chip_has_its_peak():
    assert set(CHIPS) <= set(PEAKS)


def test_a_step_that_does_not_fit_is_one_line(tmp_path, monkeypatch):
    def full(self, state, batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20G of 15G hbm.\nTotal hbm usage >= 20G:")

    monkeypatch.setattr(TrainStep, "compile", full)
    with pytest.raises(UserError, match=r"rows of \d+ tokens do not fit 1 cpu devices \(.*Used 20G of 15G hbm\.\); lower data\.max_rows") as refused:
        compile_step(tiny.config(tmp_path), None)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_compiled_is_one_line(tmp_path):
    cfg = tiny.config(tmp_path)
    if find_spec("libtpu") is None:
        with pytest.raises(UserError, match=r"--topology=v5e:2x4 needs the TPU compiler; pip install flaxft\[tpu\]"):
            compile_step(cfg, "v5e:2x4")
    cfg.task.train = ""
    with pytest.raises(UserError, match=r"task.train is empty"):
        compile_step(cfg, None)


@pytest.mark.skipif(find_spec("libtpu") is None, reason="the TPU compiler is not installed: pip install flaxft[tpu], in an environment of its own")
@pytest.mark.parametrize(
    ("topology", "code", "expected"),
    [("v5e:2x4", 0, "8 x TPU v5 lite (data 4, fsdp 2)"), ("v5e:1x1", 1, "error: --topology=v5e:1x1 is no TPU"), ("tea:2x2", 1, "=tea:2x2 is no TPU")],
)
def test_the_command_compiles_for_a_tpu(tmp_path, topology, code, expected):
    """In a process of its own: libtpu is loaded once, and this process must not look for chips."""
    command = [sys.executable, "-m", "flaxft.main", "--mode=compile", "--config=configs/ner.py", f"--topology={topology}", f"--workdir={tmp_path / 'run'}"]
    command += ["--config.mesh.fsdp=2", "--config.model.dtype=bfloat16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert expected in (done.stderr if code else done.stdout)
    assert done.stderr.count("\n") == (1 if code else 0), done.stderr
    if not code:
        assert "roofline:" in done.stdout and "all-gather" in done.stdout
        assert "loops" not in done.stdout, "kernels are gathered, not passed around"
    assert not (tmp_path / "run").exists()
