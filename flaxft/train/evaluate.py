"""Forward passes over all items of a source, in order, each exactly once; decoded record by record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from flaxft.data.base import Batch, Record, Source
from flaxft.data.items import Items
from flaxft.data.packing import MULTIPLE, Shape, fill_rows, position_cost, round_up
from flaxft.data.pipeline import Pipeline
from flaxft.errors import UserError, reason
from flaxft.models.base import Params
from flaxft.sharding import compiler_options, num_row_shards, put, replicated, rows
from flaxft.tasks.base import MANY_SCORES, Task

TOKENS = 4096  # of a batch, per device
# What a CPU's caches hold computes faster. Thousand positions/s of MiniLM's forward pass on two cores, least of 15 in each of two runs: 7.9 and 8.3 with 24
# rows of 80, 7.9 and 7.6 with 48; 6.4 with 32 rows of 128, in one run.
TOKENS_OF = {"cpu": 2048}
SAMPLE = 1024  # examples that the row length is chosen by


Metric = Callable[[Sequence[Record], Sequence[dict[str, Any]]], float]  # a user's own: of a split's records, and of what is predicted of each


class Result(NamedTuple):
    metrics: dict[str, float]
    decoded: list[dict[str, Any]]  # one per record, in order
    calibration: dict[str, float]


class Evaluator:
    """The forward pass of a task's model, compiled once per shape."""

    def __init__(self, task: Task, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh, *, metrics: Mapping[str, Metric] | None = None):
        """metrics: a user's own by name, which are computed beside the task's."""

        def forward(params: Params, frozen: Params, batch: Batch) -> tuple[Any, Any]:
            return judge(nnx.merge(graphdef, params | frozen)(batch, deterministic=True), batch)

        def judge(outputs: Any, batch: Batch) -> tuple[Any, Any]:
            return task.predict(outputs, batch), task.loss(outputs, batch)

        self._task, self._mesh, self._metrics = task, mesh, dict(metrics or {})
        # every process gets all predictions: scores are no sums over shards
        self._jit = jax.jit(forward, out_shardings=replicated(mesh))
        self._judge = jax.jit(judge)
        self._compiled: dict[Shape, Any] = {}

    def compile(self, params: Params, frozen: Params, pipeline: Pipeline, shape: Shape) -> None:
        if shape not in self._compiled:
            batch = put(pipeline.empty(shape), rows(self._mesh))
            with jax.set_mesh(self._mesh):
                self._compiled[shape] = self._jit.lower(params, frozen, batch).compile(compiler_options(self._mesh))

    def stand_in(self, shape: Shape, outputs: Callable[[Batch], Any]) -> None:
        """For batches of this shape the head's outputs come from elsewhere: another program's, or of other weights. `outputs` gets batches on the device."""
        self._compiled[shape] = lambda params, frozen, batch: self._judge(outputs(batch), batch)

    def decode(
        self, params: Params, frozen: Params, items: Items, records: Source, shape: Shape, *, poll: Callable[[], None] = lambda: None
    ) -> tuple[list[dict[str, Any]], dict[str, tuple[float, float]]]:
        """What a user reads, one per record, and the loss terms' totals `{name: (sum, weight)}`. `poll` may raise to abandon it."""
        pipeline = Pipeline(items, self._task.spec(), seed=0, num_devices=num_row_shards(self._mesh))
        self.compile(params, frozen, pipeline, shape)
        found: dict[int, Mapping[str, np.ndarray]] = {}  # by feature, until its record is decoded
        features_of = np.searchsorted(items.records, np.arange(len(records) + 1)).tolist()  # of record i, from its i-th number to the next
        missing = np.bincount(items.records, minlength=len(records)).tolist()  # of each record's features
        decoded: list[dict[str, Any]] = [{}] * len(records)

        def decode(record: int) -> None:
            features = range(features_of[record], features_of[record + 1])
            predictions_of = [found.pop(number) for number in features]
            decoded[record] = self._task.decode(records[record], [items.feature(number) for number in features], predictions_of)

        totals: dict[str, tuple[float, float]] = {}
        for batch, (predictions, terms) in self._forward(params, frozen, pipeline, shape):
            poll()
            for name, (total, weight) in terms.items():
                before = totals.get(name, (0.0, 0.0))
                totals[name] = (before[0] + float(total), before[1] + float(weight))
            # Here and not after all passes: the device computes meanwhile, and no more predictions are held than records wait for.
            for number, prediction in _take_apart(predictions, batch, items.lengths):
                record = int(items.records[number])
                assert number not in found, "every feature is predicted exactly once"
                assert missing[record] > 0, "every feature is predicted exactly once"
                found[number] = prediction
                missing[record] -= 1
                if not missing[record]:
                    decode(record)
        assert not any(missing), "every feature is predicted"
        for record in np.flatnonzero(np.diff(features_of) == 0).tolist():  # a record of no feature
            decode(record)
        return decoded, totals

    def evaluate(
        self,
        params: Params,
        frozen: Params,
        items: Items,
        records: Source,
        shape: Shape,
        *,
        calibration: Mapping[str, float] | None = None,
        poll: Callable[[], None] = lambda: None,
    ) -> Result:
        """The task's scores and the mean loss, over every item exactly once; without a `calibration` one is fitted on this very split."""
        decoded, totals = self.decode(params, frozen, items, records, shape, poll=poll)
        loss = sum(total / weight if weight else 0.0 for total, weight in totals.values())
        fitted = dict(self._task.calibrate(decoded, records) if calibration is None else calibration)
        decoded = [self._task.calibrated(one, fitted) for one in decoded]
        scores = {"loss": loss} | self._task.score(decoded, records, fitted)
        return Result(scores | own_scores(self._metrics, records, decoded, taken=scores), decoded, fitted)

    def _forward(self, params: Params, frozen: Params, pipeline: Pipeline, shape: Shape) -> Iterator[tuple[Batch, Any]]:
        """Host batches with their fetched results, one behind: the device computes the next while the host takes apart the last."""
        waiting: tuple[Batch, Any] | None = None
        for batch in pipeline.once(shape):
            result = self._compiled[shape](params, frozen, put(batch, rows(self._mesh)))
            if waiting:
                yield waiting[0], jax.device_get(waiting[1])
            waiting = batch, result
        if waiting:
            yield waiting[0], jax.device_get(waiting[1])


def own_scores(metrics: Mapping[str, Metric], records: Source, decoded: Sequence[dict[str, Any]], *, taken: Collection[str]) -> dict[str, float]:
    """What a user's own metrics give. Raises UserError for one that fails, gives no number, or has the name of one of the task's (`taken`)."""
    found: dict[str, float] = {}
    listed = list(records) if metrics else []
    for name, metric in metrics.items():
        if name in taken:
            raise UserError(f"metrics[{name!r}] has the name of a metric of the task; give it another one")
        try:
            found[name] = float(metric(listed, decoded))
        except Exception as error:
            raise UserError(f"metrics[{name!r}] failed on {records.name}: {type(error).__name__}: {reason(error)}; mend the function") from error
    return found


def eval_shape(
    all_items: list[Items], *, tokens: int | None, mesh: jax.sharding.Mesh, hidden_size: int, num_slots: int | None, longest: int = 1
) -> Shape:
    """One shape for all splits: rows that hold the longest feature of any and cost the least, about `tokens` tokens per device or as many as there are, and a
    row for each feature of the largest item. `longest` is that of features that are still to come.

    T is one of eight between two powers of two, and few texts get a power of two of rows: calls with other texts meet compiled shapes again.
    """
    num_devices = num_row_shards(mesh)
    tokens = tokens or TOKENS_OF.get(mesh.devices.flat[0].platform, TOKENS)
    lengths = np.concatenate([items.lengths for items in all_items]) if all_items else np.ones(1, int)
    largest = max([int(np.diff(items.item_starts).max()) for items in all_items], default=1)
    sample = np.sort(lengths[:: -(-len(lengths) // SAMPLE)])[::-1]
    longest = max(longest, int(lengths.max(initial=1)))
    spread = max(MULTIPLE, (1 << (longest - 1).bit_length()) // 8)
    longest = round_up(longest, spread)
    needed = {}
    for length in range(longest, 2 * longest + 1, spread):
        fill = fill_rows([sample], row_length=length, num_slots=num_slots or length)
        needed[length] = int(fill.rows[0])
    length = min(needed, key=lambda length: needed[length] * length * position_cost(length, hidden_size=hidden_size))
    all_rows = 1 << (-(-needed[length] * len(lengths) // len(sample)) - 1).bit_length()
    num_rows = max(min(max(1, tokens // length) * num_devices, round_up(all_rows, num_devices)), round_up(largest, num_devices))
    return Shape(num_rows, length, num_slots or max(1, length // 4))


def without_most_labels(metrics: Mapping[str, float], *, main_metric: str) -> dict[str, float]:
    """What a step's line has of an evaluation: without the scores of single labels, where there are more than `MANY_SCORES` of them."""
    labels = {name.removesuffix("/f1") for name in metrics if name.endswith("/f1") and not name.endswith(" avg/f1")}
    if len(labels) <= MANY_SCORES:
        return dict(metrics)
    return {name: value for name, value in metrics.items() if name.rpartition("/")[0] not in labels or name == main_metric.removeprefix("-")}


def holds(shape: Shape, items: Items) -> bool:
    """Whether every feature fits a row, and the largest item the batch."""
    return int(items.lengths.max(initial=0)) <= shape.row_length and int(np.diff(items.item_starts).max(initial=0)) <= shape.num_rows


def improves(metrics: Mapping[str, float], main_metric: str, best: float | None) -> tuple[bool, float]:
    """`(is it better than best, its value)`, "-loss" being better where it is smaller."""
    name = main_metric.removeprefix("-")
    value = metrics[name] if name == main_metric else -metrics[name]
    return best is None or value > best, value


def _take_apart(predictions: Any, batch: Batch, lengths: np.ndarray) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The number of each feature in a batch, and what was predicted for it."""
    along_t, along_s = (predictions.get(axis, {}) for axis in "TS")
    r, s = np.nonzero(batch["example_weight"])
    numbers, starts = batch["example_id"][r, s], batch["example_start"][r, s]
    for row, slot, number, start, end in zip(*(array.tolist() for array in (r, s, numbers, starts, starts + lengths[numbers])), strict=True):
        yield number, {name: array[row, start:end] for name, array in along_t.items()} | {name: array[row, slot] for name, array in along_s.items()}
