"""A task's baselines, fitted on the train split and scored on the others as the model is: by the task's own metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flaxft.data.base import Chain, Record, Records, Source
from flaxft.tasks.base import HasBaselines, Task

NUM_RECORDS = 20_000  # of a split that are read
NUM_LETTERS = 4_000_000  # of these records' texts: ten seconds of one CPU


class Found(NamedTuple):
    """The baselines of a run."""

    scores: dict[str, dict[str, dict[str, float]]]  # split -> name -> metric -> value, without details
    note: str  # how they were fitted, in a line; empty where on all records


def score(task: Task, train: Source, splits: Mapping[str, Source], *, fit_on: str | None, seed: int, poll: Callable[[], None]) -> Found:
    """Fits on records of `train` and scores every split; thresholds and the like are fitted on the split `fit_on`, or on the first.

    What is larger than `NUM_RECORDS` records or `NUM_LETTERS` letters is drawn from: the same records for the same seed.
    """
    if not isinstance(task, HasBaselines) or not splits:
        return Found({}, "")
    sample = drawn(train, seed=seed)
    poll()
    baselines = task.baselines(list(sample))
    scored = {name: drawn(source, seed=seed) for name, source in splits.items()}
    order = sorted(scored, key=lambda name: name != fit_on)  # the calibration comes first
    scores: dict[str, dict[str, dict[str, float]]] = {name: {} for name in splits}
    for one in baselines:
        calibration: dict[str, float] | None = None
        for name in order:
            poll()
            source = scored[name]
            decoded = one.predict(list(source))
            calibration = task.calibrate(decoded, source) if calibration is None else calibration
            found = task.score([task.calibrated(result, calibration) for result in decoded], source, calibration)
            scores[name][one.name] = {metric: value for metric, value in found.items() if "/" not in metric or metric == task.main_metric}
    num = baselines[-1].num_records if baselines else 0
    parts = [f"fitted on {num:,} of {len(train):,} records"] if num < len(train) else []
    parts += [f"scored on {len(scored[name]):,} of {len(splits[name]):,} of {name}" for name in splits if len(scored[name]) < len(splits[name])]
    return Found(scores if baselines else {}, ", ".join(parts))


def drawn(source: Source, *, seed: int) -> Source:
    """The source, or so many records of it, drawn evenly and in order, that they are within the limits."""
    order = np.random.default_rng([seed, len(source)]).permutation(len(source))[:NUM_RECORDS]
    some = source if len(order) == len(source) else _part(source, np.sort(order))
    letters = sum(map(num_letters, some))
    if letters <= NUM_LETTERS:
        return some
    return _part(source, np.sort(order[: max(1, int(len(order) * NUM_LETTERS / letters))]))


def num_letters(value: Any) -> int:
    """Letters of all texts in a record."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(num_letters, value.values()))
    return sum(map(num_letters, value)) if isinstance(value, list | tuple) else 0


def _part(source: Source, places: np.ndarray) -> Source:
    """Some of the records of a source, as a source; of a chain, of each of its sources."""
    if isinstance(source, Chain):
        bounds = np.searchsorted(places, [*source.starts.values(), len(source)]).tolist()
        parts = {}
        for (name, one), start, stop in zip(source.sources.items(), bounds[:-1], bounds[1:], strict=True):
            own = places[start:stop] - source.starts[name]
            parts[name] = _part(one, own if len(own) else np.zeros(1, int))
        return Chain(parts)
    records: Sequence[Record] = [source[int(i)] for i in places]
    fingerprint = hashlib.sha256(f"{source.fingerprint}{places.tolist()}".encode()).hexdigest()
    return Records(source.name, fingerprint, records, (places + 1).tolist(), where_format=": record {}")
