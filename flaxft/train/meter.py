"""The numbers of a run: losses wait on the device, one fetch a log line writes one record a step; tokens and time of the training steps alone."""

from __future__ import annotations

import contextlib
import mmap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxft.data.pipeline import Workload
from flaxft.log import Writer
from flaxft.train.peak import peak_flops

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
TOTALS = {"seconds": 0.0, "waited": 0.0, "examples": 0, "tokens": 0, "positions": 0, "skipped_steps": 0}


class Meter:
    """Collects steps; `totals` goes into checkpoints, so that rates and fractions span resumes.

    useful_tokens_per_second = tokens with segment_id > 0 / wall time of train steps, without compile, evaluation and saves.
    mfu = 6 * num_dense * useful tokens per second / the devices' peak: forward and backward of the parameters that are multiplied with (Kaplan et al. 2020,
    arXiv 2001.08361). Attention's own products and an MLM head's with the vocabulary are not counted, so it is a lower bound; padding does not count either.
    A CPU's peak is measured, and again where a busy machine made it so small that the share is above 1; what cannot be is not shown.
    """

    def __init__(
        self,
        writer: Writer,
        schedule: Callable[[Any], Any],
        *,
        num_steps: int,
        num_dense: int,
        devices: Sequence[Any],
        totals: Mapping[str, Any] | None = None,
    ):
        self.totals: dict[str, Any] = TOTALS | dict(totals or {})
        self._writer, self._num_steps = writer, num_steps
        self._num_dense, self._devices = num_dense, devices
        self._peak: float | None = None
        # all rates at once: a schedule called step by step would compile and compute on the device in the middle of the run
        self._rates = np.asarray(jax.device_get(jax.vmap(schedule)(np.arange(num_steps)))) if num_steps else np.zeros(0)
        self._buffer: list[tuple[int, dict[str, jax.Array], Workload]] = []
        self._records: list[dict[str, Any]] = []
        self._windows: list[dict[str, Any]] = []
        self._num_compiles = 0
        jax.monitoring.register_event_duration_secs_listener(self._note)
        self.restart()

    def restart(self) -> None:
        """Time counts from here."""
        self._since = time.perf_counter()
        self._waited = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for a batch."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def add(self, step: int, metrics: dict[str, jax.Array], workload: Workload) -> None:
        self._buffer.append((step, metrics, workload))
        self._writer.tick(step, self._num_steps)

    def block(self, *, ahead: int) -> None:
        """Waits until all but the newest `ahead` steps are computed."""
        if len(self._buffer) > ahead:
            jax.block_until_ready(self._buffer[-1 - ahead][1])

    def fetch(self) -> dict[int, int]:
        """Takes the waiting steps off the device and stops the clock; returns how many steps in a row were skipped as of each."""
        if not self._buffer:
            return {}
        fetched = jax.device_get([metrics for _, metrics, _ in self._buffer])
        window: dict[str, Any] = {"seconds": time.perf_counter() - self._since, "waited": self._waited}
        window |= {name: sum(getattr(workload, name) for _, _, workload in self._buffer) for name in Workload._fields}
        window["skipped_steps"] = sum(int(metrics["num_nonfinite"] > 0) for metrics in fetched)
        for name in TOTALS:
            self.totals[name] += window[name]
        self._windows.append({"step": self._buffer[-1][0]} | window)
        for (step, _, _), metrics in zip(self._buffer, fetched, strict=True):
            numbers = {"loss": float(metrics["loss"]), "grad_norm": float(metrics["grad_norm"]), "learning_rate": float(self._rates[step - 1])}
            self._records.append({"step": step} | numbers)
        in_a_row = {step: int(metrics["num_nonfinite"]) for (step, _, _), metrics in zip(self._buffer, fetched, strict=True)}
        self._buffer.clear()
        return in_a_row

    def write(self, *, evals: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, float]:
        """Records the fetched steps; `evals` belongs to the newest, whose numbers are returned, if there is one. The clock runs again from here."""
        numbers: dict[str, float] = {}
        if self._records:
            numbers = {name: value for name, value in self._records[-1].items() if name != "step"}
            self._records[-1] |= evals or {}
            for record in self._records:
                self._writer.record(record)
            last = self._records[-1]
            self._records.clear()
            speed = self._speed(self._windows[-1])
            parts = [
                f"loss {last['loss']:.4f}",
                f"rate {last['learning_rate']:.2e}",
                f"{speed['useful_tokens_per_second']:,.0f} useful tokens/s",
                f"{self.padding_fraction:.1%} padding",
                f"{speed['examples_per_second']:,.1f} examples/s",
                f"norm {last['grad_norm']:.2f}",
                *([f"{speed['mfu']:.0%} mfu"] if speed["mfu"] is not None else []),
                f"{speed['input_wait_fraction']:.0%} input wait",
                f"{memory_bytes(self._devices) / 2**30:.1f} GiB",
                f"{self._num_compiles} compiles",
            ]
            figures = {name: value for name, value in speed.items() if value is not None}
            figures |= {"padding_fraction": self.padding_fraction, "memory_bytes": memory_bytes(self._devices)}
            self._writer.progress(last["step"], self._num_steps, "  ".join(parts), figures=figures)
            numbers |= figures
        self.restart()
        return numbers

    @property
    def padding_fraction(self) -> float:
        return 1 - self.totals["tokens"] / self.totals["positions"] if self.totals["positions"] else 0.0

    def results(self) -> dict[str, Any]:
        """What results.json says of the whole run; "windows" are the spans between two log lines since this process began."""
        if self._peak and self._devices[0].platform == "cpu":  # at another moment, which may be less busy
            self._peak = max(self._peak, peak_flops(self._devices) or 0.0)
        return {
            "seconds": round(self.totals["seconds"], 3),
            **self._speed(self.totals),
            "padding_fraction": round(self.padding_fraction, 4),
            "memory_bytes": memory_bytes(self._devices),
            "compiles_after_start": self._num_compiles,
            "skipped_steps": self.totals["skipped_steps"],
            "windows": [{"step": one["step"], "seconds": round(one["seconds"], 4), "tokens": one["tokens"]} for one in self._windows],
        }

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._note)

    def _speed(self, of: Mapping[str, Any]) -> dict[str, Any]:
        """Rates of a window or of the totals. mfu is None where the devices' peak is not known."""
        seconds = of["seconds"] or float("inf")
        mfu = self._mfu(6 * self._num_dense * of["tokens"] / seconds)
        return {
            "examples_per_second": round(of["examples"] / seconds, 2),
            "useful_tokens_per_second": round(of["tokens"] / seconds, 1),
            "mfu": mfu,
            "input_wait_fraction": round(of["waited"] / seconds, 4),
        }

    def _mfu(self, flops: float) -> float | None:
        """The share of the devices' peak that so many FLOP/s are; None where the peak is not known, or was measured too small twice."""
        if self._peak is None:
            self._peak = peak_flops(self._devices) or 0.0
        if flops > self._peak > 0 and self._devices[0].platform == "cpu":
            self._peak = max(self._peak, peak_flops(self._devices) or 0.0)
        return round(flops / self._peak, 4) if flops <= self._peak and self._peak else None

    def _note(self, event: str, duration_secs: float, **_: str | int) -> None:
        self._num_compiles += event == COMPILE_EVENT


def memory_bytes(devices: Sequence[Any]) -> int:
    """The most that one of the devices has held; on CPU what the process holds now (its resident set). 0 where neither is told."""
    stats = [device.memory_stats() or {} for device in devices if device.platform != "cpu"]
    if stats:
        return max(int(one.get("peak_bytes_in_use", 0)) for one in stats)
    statm = Path("/proc/self/statm")  # Linux
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE if statm.exists() else 0
