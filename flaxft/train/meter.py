"""The numbers of a run: losses wait on the device, one fetch a log line writes one record a step; tokens and time of the training steps alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from flaxft.log import Writer

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class Meter:
    """Collects steps; `totals` goes into checkpoints, so that rates and fractions span resumes.

    useful_tokens_per_second = tokens with segment_id > 0 / wall time of train steps, without compile, evaluation and saves.
    """

    def __init__(self, writer: Writer, schedule: Callable[[Any], Any], *, num_steps: int, totals: dict[str, Any] | None = None):
        self.totals: dict[str, Any] = totals or {"seconds": 0.0, "tokens": 0, "positions": 0, "skipped_steps": 0}
        self._writer, self._num_steps = writer, num_steps
        # all rates at once: a schedule called step by step would compile and compute on the device in the middle of the run
        self._rates = np.asarray(jax.device_get(jax.vmap(schedule)(np.arange(num_steps)))) if num_steps else np.zeros(0)
        self._buffer: list[tuple[int, dict[str, jax.Array], int, int]] = []
        self._records: list[dict[str, Any]] = []
        self._num_compiles = 0
        jax.monitoring.register_event_duration_secs_listener(self._note)
        self.restart()

    def restart(self) -> None:
        """Time counts from here."""
        self._since = time.perf_counter()

    def add(self, step: int, metrics: dict[str, jax.Array], *, tokens: int, positions: int) -> None:
        self._buffer.append((step, metrics, tokens, positions))

    def block(self, *, ahead: int) -> None:
        """Waits until all but the newest `ahead` steps are computed."""
        if len(self._buffer) > ahead:
            jax.block_until_ready(self._buffer[-1 - ahead][1])

    def fetch(self) -> dict[int, int]:
        """Takes the waiting steps off the device and stops the clock; returns how many steps in a row were skipped as of each."""
        if not self._buffer:
            return {}
        fetched = jax.device_get([metrics for _, metrics, _, _ in self._buffer])
        self._rate = sum(tokens for _, _, tokens, _ in self._buffer) / (time.perf_counter() - self._since)
        self.totals["seconds"] += time.perf_counter() - self._since
        for (step, _, tokens, positions), metrics in zip(self._buffer, fetched, strict=True):
            self.totals["tokens"] += tokens
            self.totals["positions"] += positions
            self.totals["skipped_steps"] += int(metrics["num_nonfinite"] > 0)
            numbers = {"loss": float(metrics["loss"]), "grad_norm": float(metrics["grad_norm"]), "learning_rate": float(self._rates[step - 1])}
            self._records.append({"step": step} | numbers)
        in_a_row = {step: int(metrics["num_nonfinite"]) for (step, _, _, _), metrics in zip(self._buffer, fetched, strict=True)}
        self._buffer.clear()
        return in_a_row

    def write(self, *, evals: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """Records the fetched steps; `evals` belongs to the newest. The clock runs again from here."""
        if self._records:
            self._records[-1] |= evals or {}
            for record in self._records:
                self._writer.record(record)
            last = self._records[-1]
            self._records.clear()
            text = f"loss {last['loss']:.4f}  rate {last['learning_rate']:.2e}  {self._rate:,.0f} useful tokens/s"
            self._writer.progress(last["step"], self._num_steps, f"{text}  {self.padding_fraction:.1%} padding  {self._num_compiles} compiles")
        self.restart()

    @property
    def padding_fraction(self) -> float:
        return 1 - self.totals["tokens"] / self.totals["positions"] if self.totals["positions"] else 0.0

    def results(self) -> dict[str, Any]:
        seconds, tokens = self.totals["seconds"], self.totals["tokens"]
        return {
            "seconds": round(seconds, 3),
            "useful_tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
            "padding_fraction": round(self.padding_fraction, 4),
            "compiles_after_start": self._num_compiles,
            "skipped_steps": self.totals["skipped_steps"],
        }

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._note)

    def _note(self, event: str, duration_secs: float, **_: str | int) -> None:
        self._num_compiles += event == COMPILE_EVENT
