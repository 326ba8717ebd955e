"""Several tasks over one encoder in one run: each with its own head, loss term and metrics, and a share of every step."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxft.baseline import Baseline
from flaxft.data.base import Batch, Chain, Features, Field, Look, Record, Source, Tokenizer
from flaxft.errors import UserError, nearest
from flaxft.models.base import Checkpoint, Encoder, EncoderOutput
from flaxft.tasks.base import (
    CountsLabels,
    HasBaselines,
    LabelCounts,
    Looks,
    Predictions,
    Section,
    Shows,
    Task,
    Terms,
    WritesFiles,
    unlabelled,
)

TASK_ID = "task_id"  # the key of a batch that says to which task a slot belongs; the tasks' own keys are "NAME.key"
TAKEN = ("text", "train", "validation", "test")  # names that mean something else in a result or a config


@dataclasses.dataclass
class Mixture:
    """Records of all tasks, `{"task": name, "record": ...}`. The splits are those of the tasks; one may lack any but `train`.

    A step of `data.batch_size` examples holds each task's share of them, in closed form (`flaxft.data.packing.num_drawn`). The objective is the sum of the
    tasks' mean losses, times `loss_weights`: so a task's share says how much of it is read, and its loss weight how much it pulls.
    """

    kind: ClassVar[str] = "mixture"
    problem_type: ClassVar[str | None] = None
    labels: ClassVar[tuple[str, ...]] = ()  # each task has its own

    tasks: dict[str, Task] = dataclasses.field(default_factory=dict)
    """The tasks by name, such as ner and intent. Their fields are set with --config.task.tasks.NAME.FIELD."""
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """Share of each task in a step, on any scale; empty goes by the number of examples."""
    temperature: float = 1.0
    """How even the shares are where weights is empty: examples ** (1 / temperature). 1 is in proportion to the data, more is more even."""
    loss_weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor of each task's loss; a task that is not named has 1."""
    main_metric: str = "mean"
    """The metric that picks the best checkpoint: mean (of the tasks' main metrics, of those that rise), TASK_METRIC of one task's main metric, or
    -loss."""

    @property
    def decomposes(self) -> bool:
        return all(task.decomposes for task in self.tasks.values())

    def splits(self) -> dict[str, str]:
        """Split -> the paths of the tasks that have it."""
        paths: dict[str, list[str]] = {}
        for task in self.tasks.values():
            for split, path in task.splits().items():
                paths.setdefault(split, []).append(path)
        return {split: " + ".join(found) for split, found in paths.items()}

    def records(self, split: str, *, max_examples: int | None = None) -> Source:
        """The records of all tasks that have the split, task by task. `max_examples` is of each. Raises UserError."""
        sources = {}
        for name, task in self.tasks.items():
            if split in task.splits():
                with _errors_of(name, task):
                    sources[name] = task.records(split, max_examples=max_examples)
        return Chain(sources, weights=self.weights, temperature=self.temperature)

    def resolve(self, tokenizer: Tokenizer, checkpoint: Checkpoint, *, max_examples: int | None = None) -> Mixture:
        """Resolves every task. Raises UserError."""
        self._check()
        tasks = {}
        for name, task in self.tasks.items():
            with _errors_of(name, task):
                tasks[name] = task.resolve(tokenizer, checkpoint, max_examples=max_examples)
        mixture = dataclasses.replace(self, tasks=tasks)
        mixture._check_main_metric()
        return mixture

    def look(self, source: Source, *, split: str) -> Look:
        """The looks of all tasks that have one and the split. Raises UserError."""
        assert isinstance(source, Chain), "that of `records`"
        lines, warnings = [], []
        for name, task in self.tasks.items():
            if name in source.sources and isinstance(task, Looks):
                with _errors_of(name, task):
                    look = task.look(source.sources[name], split=split)
                lines.append(f"{name}: {look.line}")
                warnings += [f"{name}: {warning}" for warning in look.warnings]
        return Look("; ".join(lines), tuple(warnings))

    def spec(self) -> dict[str, Field]:
        own = {f"{name}.{key}": field for name, task in self.tasks.items() for key, field in task.spec().items()}
        return {TASK_ID: Field("S", (), "int32", -1)} | own

    def features(self, record: Record, tokenizer: Tokenizer, *, max_length: int) -> list[Features]:
        """Those of the record's task; of a record that names none, which comes when predicting, those of every task that can take it. Raises UserError."""
        if "task" in record:
            name = self._name(record)
            with _errors_of(name, self.tasks[name]):
                return self._features(name, _own_record(record), tokenizer, max_length)
        found, refused = [], []
        for name in self.tasks:
            try:
                found += self._features(name, unlabelled(self.tasks[name], record), tokenizer, max_length)
            except UserError as error:
                refused.append(f"{name}: {error}")
        if not found:
            raise UserError(f"no task can take this record ({'; '.join(refused)}); name its task as \"task\"")
        return found

    def augment(self, features: Features, rng: np.random.Generator) -> Features:
        name = self._name_of(features)
        return self._marked(name, self.tasks[name].augment(self._own(name, features), rng))

    def head(self, encoder: Encoder, *, rngs: nnx.Rngs) -> nnx.Module:
        heads = {name: task.head(encoder, rngs=rngs) for name, task in self.tasks.items()}
        return Heads(heads, keys={name: tuple(task.spec()) for name, task in self.tasks.items()})

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> Terms:
        """"NAME/TERM": a loss weight is a factor of the sum, and not of the weight that it is divided by."""
        terms: Terms = {}
        for name, task, own in self._views(batch):
            factor = self.loss_weights.get(name, 1.0)
            terms |= {f"{name}/{term}": (factor * total, weight) for term, (total, weight) in task.loss(outputs[name], own).items()}
        return terms

    def predict(self, outputs: Mapping[str, Any], batch: Batch) -> Predictions:
        """Every task's, of every slot: `decode` takes those that a slot's own task made."""
        found: Predictions = {"T": {}, "S": {}}
        for name, task, own in self._views(batch):
            for axis, arrays in task.predict(outputs[name], own).items():
                found[axis] |= {f"{name}.{key}": array for key, array in arrays.items()}
        return found

    def decode(self, record: Record, features: Sequence[Features], predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """`{NAME: what that task makes of it}`, for a record without a task `{"text", NAME: ..., NAME: ...}`."""
        result: dict[str, Any] = {"text": record["text"]} if "task" not in record and "text" in record else {}
        names = [self._name_of(feature) for feature in features]
        for name in dict.fromkeys(names):
            mine = [i for i, one in enumerate(names) if one == name]
            made = [{key.removeprefix(f"{name}."): array for key, array in predictions[i].items() if key.startswith(f"{name}.")} for i in mine]
            own_record = _own_record(record) if "task" in record else unlabelled(self.tasks[name], record)
            result[name] = self.tasks[name].decode(own_record, [self._own(name, features[i]) for i in mine], made)
        return result

    def calibrate(self, decoded: Sequence[dict[str, Any]], records: Source) -> dict[str, float]:
        """"NAME/NUMBER" for each number that a task fits."""
        found: dict[str, float] = {}
        for name, task, own, source in self._each(decoded, records):
            found |= {f"{name}/{key}": value for key, value in task.calibrate(own, source).items()}
        return found

    def calibrated(self, decoded: dict[str, Any], calibration: Mapping[str, float]) -> dict[str, Any]:
        return decoded | {name: task.calibrated(decoded[name], _own_numbers(name, calibration)) for name, task in self.tasks.items() if name in decoded}

    def score(self, decoded: Sequence[dict[str, Any]], records: Source, calibration: Mapping[str, float]) -> dict[str, float]:
        """"NAME/METRIC" of each task that has records; NAME_METRIC again for its main metric, and `mean`, that of the main metrics that rise."""
        result: dict[str, float] = {}
        shown: dict[str, float] = {}
        rising: list[float] = []
        for name, task, own, source in self._each(decoded, records):
            scores = task.score(own, source, _own_numbers(name, calibration))
            result |= {f"{name}/{metric}": value for metric, value in scores.items()}
            main = task.main_metric.removeprefix("-")
            if main in scores:  # all but the loss, which is no task's to know
                shown[_shown(name, main)] = scores[main]
            if main == task.main_metric:
                rising.append(scores[main])
        return ({"mean": float(np.mean(rising))} if rising else {}) | shown | result

    def report(self, decoded: Sequence[dict[str, Any]], records: Source) -> str:
        return "\n\n".join(f"{name}: {source.name}\n\n{task.report(own, source).rstrip()}" for name, task, own, source in self._each(decoded, records)) + "\n"

    def sections(self, decoded: Sequence[dict[str, Any]], records: Source) -> list[Section]:
        """Those of each task, under its name."""
        found: list[Section] = []
        for name, task, own, source in self._each(decoded, records):
            if isinstance(task, Shows):
                found += [dataclasses.replace(one, title=f"{name}: {one.title}") for one in task.sections(own, source)]
        return found

    def files(self, decoded: Sequence[dict[str, Any]]) -> dict[str, str]:
        """Those of each task that has such, as "NAME.FILE"."""
        found: dict[str, str] = {}
        for name, task in self.tasks.items():
            own = [one[name] for one in decoded if name in one]
            if own and isinstance(task, WritesFiles):
                found |= {f"{name}.{file}": content for file, content in task.files(own).items()}
        return found

    def baselines(self, records: Sequence[Record]) -> list[Baseline]:
        """The simplest way of each task together, and the best of each; none where a task has none."""
        own: dict[str, list[Baseline]] = {}
        for name, task in self.tasks.items():
            of_task = [_own_record(record) for record in records if record["task"] == name]
            own[name] = task.baselines(of_task) if isinstance(task, HasBaselines) and of_task else []
        if not all(own.values()):
            return []
        most = max(map(len, own.values()))
        return [_together({name: ones[0 if i == 0 else -1] for name, ones in own.items()}) for i in sorted({0, most - 1})]

    def label_counts(self, records: Source) -> LabelCounts:
        """Of every task that counts, as "NAME/LABEL"; the loss of guessing is the sum of the tasks', where all know theirs."""
        assert isinstance(records, Chain), "those of `records`"
        found = {name: task.label_counts(records.sources[name]) for name, task in self.tasks.items() if isinstance(task, CountsLabels)}
        losses = [self.loss_weights.get(name, 1.0) * one.guess_loss for name, one in found.items() if one.guess_loss is not None]
        counts = {f"{name}/{label}": count for name, one in found.items() for label, count in one.counts.items()}
        return LabelCounts(counts, "labels", sum(losses) if len(losses) == len(self.tasks) else None)

    # ---- settings -------------------------------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self.tasks:
            raise UserError('task.tasks is empty; name the tasks in a config file: Mixture(tasks={"ner": TokenClassification(...), ...})')
        for name, task in self.tasks.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in TAKEN or hasattr(nnx.Module, name):
                allowed = f"a letter and then letters, digits and _, but not {', '.join(TAKEN)} and the like"
                raise UserError(f"task.tasks has a task of the name {name!r}; allowed are {allowed}")
            if task.kind == self.kind:
                raise UserError(f"task.tasks.{name} is a mixture itself; name its tasks in the outer one")
            if "train" not in task.splits():
                raise UserError(f"task.tasks.{name}.train is empty; every task of a mixture is trained: set --config.task.tasks.{name}.train=FILE")
        for field in ("weights", "loss_weights"):
            for name, weight in getattr(self, field).items():
                if name not in self.tasks:
                    raise UserError(f"task.{field} names {name!r}, which is no task{nearest(name, self.tasks)}; known are {list(self.tasks)}")
                if not 0.0 < weight < float("inf"):
                    raise UserError(f"task.{field}.{name} is {weight}, expected a positive number")
        missing = [name for name in self.tasks if name not in self.weights]
        if self.weights and missing:
            raise UserError(f"task.weights has none for {', '.join(missing)}; give one for each task, or none at all")
        if not 1.0 <= self.temperature < float("inf"):
            raise UserError(f"task.temperature is {self.temperature}, expected at least 1: 1 mixes in proportion to the examples, more is more even")
        if self.weights and self.temperature != 1.0:
            raise UserError("task.weights and task.temperature are both set, and both say how much of each task a step holds; leave out one of them")

    def _check_main_metric(self) -> None:
        allowed = {"-loss": set(self.splits())}  # main metric -> the splits that have it
        for name, task in self.tasks.items():
            main = task.main_metric.removeprefix("-")
            if main == task.main_metric:
                allowed["mean"] = allowed.get("mean", set()) | set(task.splits())
            if task.main_metric != "-loss":
                allowed[("-" if main != task.main_metric else "") + _shown(name, main)] = set(task.splits())
        if self.main_metric not in allowed:
            raise UserError(f"task.main_metric is {self.main_metric!r}{nearest(self.main_metric, allowed)}; allowed are {sorted(allowed)}")
        lacking = sorted(set(self.splits()) - allowed[self.main_metric])
        if lacking:
            raise UserError(f"task.main_metric is {self.main_metric!r}, which the split {lacking[0]} lacks; set the path of that split, or another main_metric")

    # ---- a task's own part ----------------------------------------------------------------------------------------------------------------------

    def unlabelled(self, record: Record) -> Record:
        """Of a record that names its task. Any other is only predicted, and `features` and `decode` see to it: a label of one task may be another's text."""
        if "task" not in record:
            return record
        name = self._name(record)
        return {"task": name, "record": unlabelled(self.tasks[name], _own_record(record))}

    def _name(self, record: Record) -> str:
        name = record["task"]
        if not isinstance(name, str) or name not in self.tasks:
            raise UserError(f'"task" is {str(name)[:40]!r}{nearest(str(name), self.tasks)}; known are {list(self.tasks)}; without "task" all are asked')
        return name

    def _name_of(self, features: Features) -> str:
        return list(self.tasks)[int(features.example[TASK_ID])]

    def _features(self, name: str, record: Record, tokenizer: Tokenizer, max_length: int) -> list[Features]:
        return [self._marked(name, feature) for feature in self.tasks[name].features(record, tokenizer, max_length=max_length)]

    def _marked(self, name: str, features: Features) -> Features:
        """A task's features as the mixture has them: its own keys with its name before them, groups that are no other task's."""
        own, number = self.tasks[name].spec(), list(self.tasks).index(name)
        tokens, example = ({f"{name}.{key}" if key in own else key: array for key, array in arrays.items()} for arrays in (features.tokens, features.example))
        return features._replace(
            tokens=tokens,
            example=example | {TASK_ID: np.asarray(number, np.int32)},
            group=features.group if features.group < 0 else features.group * len(self.tasks) + number,
            host={f"{name}.{key}": array for key, array in features.host.items()},
        )

    def _own(self, name: str, features: Features) -> Features:
        """The inverse of `_marked`."""
        parts = (features.tokens, features.example, features.host)
        tokens, example, host = ({key.removeprefix(f"{name}."): array for key, array in arrays.items() if key != TASK_ID} for arrays in parts)
        group = features.group if features.group < 0 else features.group // len(self.tasks)
        return features._replace(tokens=tokens, example=example, group=group, host=host)

    def _views(self, batch: Batch) -> Iterator[tuple[str, Task, Batch]]:
        for number, (name, task) in enumerate(self.tasks.items()):
            yield name, task, view(batch, name, number=number, keys=tuple(task.spec()))

    def _each(self, decoded: Sequence[dict[str, Any]], records: Source) -> Iterator[tuple[str, Task, list[dict[str, Any]], Source]]:
        """Each task that has records, its results and its records."""
        assert isinstance(records, Chain), "those of `records`"
        for name, start in records.starts.items():
            source = records.sources[name]
            yield name, self.tasks[name], [one[name] for one in decoded[start : start + len(source)]], source


class Heads(nnx.Module):
    """The tasks' heads under the tasks' names; the outputs of each on the whole batch, {name: outputs}."""

    def __init__(self, heads: Mapping[str, nnx.Module], *, keys: Mapping[str, Sequence[str]]):
        for name, head in heads.items():
            setattr(self, name, head)
        self._keys = tuple((name, tuple(keys[name])) for name in heads)

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> dict[str, Any]:
        own = {name: view(batch, name, number=number, keys=keys) for number, (name, keys) in enumerate(self._keys)}
        return {name: getattr(self, name)(output, own[name], deterministic=deterministic, rngs=rngs) for name in own}


def view(batch: Batch, name: str, *, number: int, keys: Sequence[str]) -> Batch:
    """The batch as task `name`, number `number`, would have it alone: its keys without its name, and no weight on the slots of other tasks."""
    mine = batch[TASK_ID] == number
    shared = {key: array for key, array in batch.items() if key != TASK_ID and "." not in key}
    shared["example_weight"] = batch["example_weight"] * mine
    shared["example_group"] = jnp.where(mine, batch["example_group"], -1)
    return shared | {key: batch[f"{name}.{key}"] for key in keys}


def _together(own: Mapping[str, Baseline]) -> Baseline:
    """One way for each task, as one."""

    def predict(records: Sequence[Record]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{}] * len(records)
        for name, one in own.items():
            places = [i for i, record in enumerate(records) if record["task"] == name]
            for i, result in zip(places, one.predict([_own_record(records[i]) for i in places]), strict=True):
                found[i] = {name: result}
        return found

    names = {name: one.name for name, one in own.items()}
    same = len(set(names.values())) == 1
    name = next(iter(names.values())) if same else ", ".join(f"{name}: {one}" for name, one in names.items())
    return Baseline(name, predict, sum(one.num_records for one in own.values()))


def _own_record(record: Record) -> Record:
    """What a task gets of a record that names it: "record", or else all but "task"."""
    own = record.get("record")
    return own if isinstance(own, Mapping) else {key: value for key, value in record.items() if key != "task"}


def _own_numbers(name: str, calibration: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(f"{name}/"): value for key, value in calibration.items() if key.startswith(f"{name}/")}


def _shown(name: str, metric: str) -> str:
    """A name without "/", which the console would leave out."""
    return f"{name}_{metric}".replace("/", "_")


@contextlib.contextmanager
def _errors_of(name: str, task: Task) -> Iterator[None]:
    """A task speaks of its fields as task.FIELD; here they are task.tasks.NAME.FIELD."""
    try:
        yield
    except UserError as error:
        fields = "|".join(re.escape(field.name) for field in dataclasses.fields(task))  # type: ignore[arg-type]  # every task is a dataclass
        raise UserError(re.sub(rf"(?<![/\w])task\.({fields})\b", rf"task.tasks.{name}.\1", str(error))) from None
