"""The most that the devices of a run can compute, to say how much of it a run uses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxft.data.workers import num_cpus

# Dense bfloat16 FLOP/s of one jax device, by the first words of its `device_kind`; of V100 and T4 float16. TPU: cloud.google.com/tpu/docs (a v2 or v3 chip has
# two devices); NVIDIA: the data sheets, without sparsity.
PEAKS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,  # what jax calls a v5p
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "Tesla V100": 125e12,
    "Tesla T4": 65e12,
}
SIZE = 1536  # of the matrices that a CPU is measured with: 7 GFLOP, some 40 ms on two cores


def peak_flops(devices: Sequence[Any]) -> float | None:
    """FLOP/s of all `devices` together; None for a kind that is not in the table.

    A CPU's is measured: the best of three float32 products in numpy, which uses all cores whatever number of devices the host pretends to have. Of a busy
    machine that is what the others leave, or what the product would have had alone, by the time that its threads were computing: whichever is more.
    """
    if devices[0].platform == "cpu":
        return _measured()
    kind = devices[0].device_kind
    # whole words: an L40 is no L4
    found = max((name for name in PEAKS if kind == name or kind.startswith((f"{name} ", f"{name}-"))), key=len, default=None)
    return None if found is None else PEAKS[found] * len(devices)


def _measured() -> float:
    a = np.ones((SIZE, SIZE), np.float32)
    seconds = []
    for _ in range(3):
        began, began_computing = time.perf_counter(), time.process_time()
        a @ a
        seconds += [time.perf_counter() - began, (time.process_time() - began_computing) / num_cpus()]
    return float(2 * SIZE**3 / min(one for one in seconds if one > 0))
