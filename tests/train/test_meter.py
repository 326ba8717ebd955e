"""What a run says of its speed: rates, padding, the share of the devices' peak, waiting, memory."""

from __future__ import annotations

import json
import types

import jax
import numpy as np
import pytest

from flaxft.data.packing import Shape
from flaxft.data.pipeline import Workload, empty_batch, workload
from flaxft.log import Writer
from flaxft.train import meter as meters
from flaxft.train import peak
from flaxft.train.meter import Meter, memory_bytes
from flaxft.train.peak import PEAKS, peak_flops


def device(kind, *, platform="tpu", peak_bytes=0):
    return types.SimpleNamespace(platform=platform, device_kind=kind, memory_stats=lambda: {"peak_bytes_in_use": peak_bytes})


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now.seconds)
    return now


def step_metrics(loss=1.0, skipped=0):
    return jax.device_put({"loss": np.float32(loss), "grad_norm": np.float32(2.0), "num_nonfinite": np.int32(skipped)})


def run(clock, tmp_path, devices, *, totals=None, num_steps=4):
    """Four steps of half a second, a fifth of it spent waiting for a batch, two log lines."""
    tmp_path.mkdir(exist_ok=True)
    writer = Writer(tmp_path)
    meter = Meter(writer, lambda step: step * 0.5, num_steps=num_steps, num_dense=1000, devices=devices, totals=totals)
    for step in range(1, num_steps + 1):
        with meter.waiting():
            clock.seconds += 0.1
        clock.seconds += 0.4
        meter.add(step, step_metrics(loss=step), Workload(examples=8, tokens=90, positions=100))
        if step % 2 == 0:
            assert meter.fetch() == {step - 1: 0, step: 0}
            clock.seconds += 50.0  # an evaluation: not a train step's time
            meter.write(evals={"validation": {"f1": 0.5}} if step == num_steps else None)
    meter.close()
    writer.close()
    return meter


def test_rates_are_of_train_steps_alone(clock, tmp_path, capsys):
    results = run(clock, tmp_path, [device("TPU v5 lite")] * 2).results()
    assert results["seconds"] == pytest.approx(2.0)
    assert results["useful_tokens_per_second"] == pytest.approx(180.0)
    assert results["examples_per_second"] == pytest.approx(16.0)
    assert results["padding_fraction"] == pytest.approx(0.1)
    assert results["input_wait_fraction"] == pytest.approx(0.2)
    assert results["windows"] == [{"step": 2, "seconds": 1.0, "tokens": 180}, {"step": 4, "seconds": 1.0, "tokens": 180}]
    json.dumps(results, allow_nan=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 2/4  loss 2.0000  rate 5.00e-01  180 useful tokens/s  10.0% padding  16.0 examples/s  norm 2.00  0% mfu  20% input wait")
    assert lines[0].endswith("0 compiles")
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert records[-1]["validation"] == {"f1": 0.5}
    assert set(records[0]) == {"step", "loss", "grad_norm", "learning_rate"}  # nothing that another run of the same steps would have otherwise


def test_totals_span_resumes(clock, tmp_path):
    first = run(clock, tmp_path / "a", [device("TPU v4")])
    again = run(clock, tmp_path / "b", [device("TPU v4")], totals=json.loads(json.dumps(first.totals)))
    assert again.totals["tokens"] == 2 * first.totals["tokens"] == 720
    assert again.results()["useful_tokens_per_second"] == pytest.approx(180.0)


def test_mfu(clock, tmp_path, monkeypatch):
    monkeypatch.setitem(PEAKS, "TPU v4", 4.0e6)
    assert run(clock, tmp_path / "one", [device("TPU v4")]).results()["mfu"] == pytest.approx(6 * 1000 * 180 / 4.0e6, abs=1e-4)
    assert run(clock, tmp_path / "two", [device("TPU v4")] * 2).results()["mfu"] == pytest.approx(6 * 1000 * 180 / 8.0e6, abs=1e-4)


def test_mfu_that_cannot_be(clock, tmp_path, monkeypatch, capsys):
    """A CPU was measured at a busy moment: it is measured again, and where the share is above 1 still, none is shown."""
    peaks = iter([1.0, 2.0e6, 1.0e6, 1.0e6])
    monkeypatch.setattr(meters, "peak_flops", lambda devices: next(peaks))
    assert run(clock, tmp_path / "busy", [device("cpu", platform="cpu")]).results()["mfu"] == pytest.approx(6 * 1000 * 180 / 2.0e6, abs=1e-4)
    assert "54% mfu" in capsys.readouterr().out
    monkeypatch.setattr(meters, "peak_flops", lambda devices: 1.0)
    assert run(clock, tmp_path / "always", [device("cpu", platform="cpu")]).results()["mfu"] is None
    assert run(clock, tmp_path / "table", [device("TPU v4")]).results()["mfu"] is None, "a peak from the table may be wrong too"
    assert "mfu" not in capsys.readouterr().out


def test_an_unknown_device_has_no_mfu(clock, tmp_path, capsys):
    assert run(clock, tmp_path, [device("a new one")]).results()["mfu"] is None
    assert "mfu" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("TPU v5 lite", 197e12), ("TPU v5p", 459e12), ("TPU v6 lite", 918e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12)],
)
def test_the_longest_name_decides(kind, wanted):
    assert peak_flops([device(kind)] * 3) == 3 * wanted


def test_a_name_is_of_whole_words():
    assert peak_flops([device("NVIDIA A100-SXM4-40GB")]) == 312e12
    assert peak_flops([device("NVIDIA L40")]) is None  # not an L4


def test_a_cpu_is_measured_once_for_all_its_devices(monkeypatch):
    monkeypatch.setattr(peak, "SIZE", 64)
    assert peak_flops(jax.devices("cpu")[:1]) > 1e6
    monkeypatch.setattr(peak, "_measured", lambda: 7.0)
    assert peak_flops([device("cpu", platform="cpu")] * 8) == 7.0


def test_memory():
    assert memory_bytes([device("TPU v4", peak_bytes=5), device("TPU v4", peak_bytes=9)]) == 9
    assert memory_bytes(jax.devices("cpu")) > 50e6  # this process


def test_workload_counts_what_is_there():
    batch = empty_batch({}, Shape(num_rows=3, row_length=16, num_slots=4))
    assert workload([batch]) == (0, 0, 48)
    batch["segment_ids"][0, :10] = 1
    batch["example_weight"][0, :2] = np.float32(1)
    assert workload([batch, batch]) == Workload(examples=4, tokens=20, positions=96)
