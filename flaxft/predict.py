"""A finished run, or a fine-tuned Hugging Face model, applied to raw text or scored on a split."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import jax
from flax import nnx

from flaxft import config as configs
from flaxft import files, finished, inputs, worker
from flaxft.config import Config
from flaxft.data.base import Batch, Record, Source
from flaxft.data.items import Cut, Items, build_block, build_items, warn_of_cut
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Data
from flaxft.data.raw import read_raw
from flaxft.data.tokenize import SubwordTokenizer, load_tokenizer, save_tokenizer
from flaxft.errors import UserError, nearest
from flaxft.inputs import Placed, Rows
from flaxft.models import hf
from flaxft.models.base import Checkpoint, Loaded, Model
from flaxft.sharding import Mesh, infer, make_mesh, put
from flaxft.tasks.base import Several, Task, fits_head, top_scores, unlabelled
from flaxft.train.evaluate import Evaluator, Result, eval_shape, holds

TopK = int | Literal["all"] | None
LOOKED_AT = 100  # records of a split whose labels may be numbers
BLOCK = 2048  # records of a stream that are read, tokenised and predicted together
BLOCK_CHARACTERS = 1 << 22  # or fewer, where they are long: a block is what a stream takes of memory


class Predictor:
    """Task, tokenizer and weights. Neither training files nor the pretrained directory are needed."""

    def __init__(
        self,
        task: Task,
        tokenizer: SubwordTokenizer,
        loaded: Loaded,
        *,
        model: Path,
        mesh: jax.sharding.Mesh,
        data: Data,
        calibration: Mapping[str, float],
        step: int | None = None,
    ):
        """`loaded.params` lie on `mesh`; `model` is the folder of config.json and the tokenizer files; `step` is the run's that the weights are of."""
        if data.max_length > tokenizer.max_length:  # beyond them a position has no embedding
            raise UserError(f"data.max_length is {data.max_length}, but the model has {tokenizer.max_length} positions; give at most that")
        self.task, self.tokenizer, self.data, self.calibration = task, tokenizer, data, dict(calibration)
        self.graphdef = loaded.graphdef
        self.params, self.encoder, self.model, self.mesh, self.step = loaded.params, loaded.encoder, model, mesh, step
        self.scores: dict[str, dict[str, float]] = {}  # split -> metric -> value, as the run's results.json has them
        self.workdir: Path | None = None  # of the run
        self._evaluator = Evaluator(task, loaded.graphdef, mesh)

    @overload
    def predict(self, data: list[Any] | tuple[Any, ...], *, keep: str | Sequence[str] | None = ..., top_k: TopK = ...) -> list[dict[str, Any]]: ...
    @overload
    def predict(self, data: Any, *, keep: str | Sequence[str] | None = ..., top_k: TopK = ...) -> Any: ...
    def predict(self, data: Any, *, keep: str | Sequence[str] | None = None, top_k: TopK = None) -> Any:
        """One result per text, in order: for NER `{"text", "words", "tags", "entities": [{"type", "text", "start", "end", "score"}]}`.

        A text is a string, or a record as the training data has it ({"tokens": [...]}), whose label, if it has one, is not read. Any length: where the task
        has windows, a long text is predicted in overlapping ones.

        Args:
          data: a list of texts or records, of which a list of dicts comes back; or a DataFrame, a `datasets.Dataset` or a dict of lists, which comes back with
            the result's columns beside its own. Of a Series a DataFrame comes back.
          keep: the names of those columns of the input which come back, "*" for all: by default none of a list's records, and all of a table. Where a result
            has the name of one, it is called `predicted_NAME`.
          top_k: only so many scores of labels, the largest, or "all"; None for all of up to 200 labels, and of more the 20 largest.

        Raises UserError for any other type, and for a record that cannot be predicted, with its number.
        """
        _check_top_k(top_k)
        given = inputs.read(data)
        rows = self._rows(given.records, name="input")
        if not len(rows):
            return given.answer([])
        items = self._items(rows, use_cache=False)
        results = self._results(rows, items, self._shape(items))
        names = inputs.names_to_keep(given.keep if keep is None else keep, given.records[0].record)
        answers = _answers(results, given.records, rows, keep=names, top_k=top_k)
        inputs.say_renamed(results[0], answers[0])
        return given.answer(answers)

    def predict_file(self, file: str | Path, *, keep: str | Sequence[str] | None = None, top_k: TopK = None) -> Iterator[dict[str, Any]]:
        """The results of all records of a file, or of what else a split's path may name, as they are made; see `stream`."""
        return itertools.chain.from_iterable(self.stream_file(file, keep=keep, top_k=top_k))

    def stream_file(self, file: str | Path, *, keep: str | Sequence[str] | None = None, top_k: TopK = None) -> Iterator[list[dict[str, Any]]]:
        """`predict_file`, a block of results at a time."""
        takes_columns = self._takes({"0": ["a"]})  # a column file's record: tasks of words do
        settings = {name: getattr(self.task, name) for name in ("format", "comment") if hasattr(self.task, name)}
        like = [path for path in self.task.splits().values() if isinstance(path, str)]
        records = itertools.starmap(Placed, read_raw(str(file), takes_columns=takes_columns, labels=self.task.labels, like=like, **settings))
        return self.stream(records, name=str(file), keep=keep, top_k=top_k)

    def stream(
        self, records: Iterable[Placed], *, name: str, keep: str | Sequence[str] | None = None, top_k: TopK = None
    ) -> Iterator[list[dict[str, Any]]]:
        """The results of a block of records at a time, in order, in the memory that one block takes. `name` is what a message calls the records.

        All blocks have one shape, so that nothing compiles after the first: one that holds the longest feature that may come. Raises UserError.
        """
        _check_top_k(top_k)
        shape, cut, num_records = None, Cut(0, 0), 0
        names: Any = None
        for block, is_last in _blocks(records):
            rows = self._rows(block, name=name)
            items = build_block(rows, self.task, self.tokenizer, max_length=self.data.max_length)
            if shape is None or not holds(shape, items):
                shape = self._shape(items, longest=1 if is_last and not num_records else self.data.max_length)
            results = self._results(rows, items, shape)
            if not num_records:
                names = inputs.names_to_keep(keep, block[0].record)
            answers = _answers(results, block, rows, keep=names, top_k=top_k)
            if not num_records:
                inputs.say_renamed(results[0], answers[0])
            yield answers
            cut, num_records = Cut(*(a + b for a, b in zip(cut, items.cut(), strict=True))), num_records + len(rows)
        warn_of_cut(name, cut, num_records=num_records, max_length=self.data.max_length, task=self.task)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the head's outputs, in order; none for a head without."""
        return tuple(self.task.labels)

    @functools.cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """What the run's results.json holds: split -> score -> value; empty for a model that is no run, or a run that is not finished."""
        try:
            content = json.loads((self.model.parent / "results.json").read_text(encoding="utf-8")) if self.step is not None else {}
        except (OSError, ValueError):
            return {}
        return dict(content.get("evals", {}))

    def __repr__(self) -> str:
        what = [type(self.task).__name__, str(self.model.parent if self.step is not None else self.model)]
        what += [f"step {self.step}"] if self.step is not None else []
        labels = ", ".join(self.labels[:5]) + (", ..." if len(self.labels) > 5 else "")
        what += [f"{len(self.labels)} labels: {labels}"] if self.labels else []
        main = self.task.main_metric.removeprefix("-")
        what += [f"{split} {main} {scores[main]:.4f}" for split, scores in self.scores.items() if main in scores]
        return f"Predictor({'; '.join(what)})"

    def evaluate(self, split: str) -> tuple[Result, Source]:
        """The scores on a split that the task has a path for."""
        records = self.task.records(split, max_examples=self.data.max_examples)
        _say_numbers(self.task, records)
        items = self._items(records, use_cache=self.data.cache)
        return self._evaluator.evaluate(self.params, {}, items, records, self._shape(items), calibration=self.calibration), records

    def evaluate_outputs(self, split: str, outputs: Callable[[Batch], Any]) -> tuple[Result, Source]:
        """The scores on a split of what another program makes of each batch, which has one example a row: outputs as the task's own head gives them."""
        records = self.task.records(split, max_examples=self.data.max_examples)
        items = self._items(records, use_cache=self.data.cache)
        shape = self._shape(items)._replace(num_slots=1)
        evaluator = Evaluator(self.task, self.graphdef, self.mesh)
        evaluator.stand_in(shape, outputs)
        return evaluator.evaluate(self.params, {}, items, records, shape, calibration=self.calibration), records

    def only(self, name: str) -> Predictor:
        """Of a run of several tasks, the predictor of one: the encoder with that task's head. Raises UserError."""
        tasks = self.task.tasks if isinstance(self.task, Several) else {}
        if name not in tasks:
            raise UserError(f"there is no task {name!r} in this model{nearest(name, tasks)}; known are {list(tasks)}")
        task, encoder = tasks[name], self.encoder
        graphdef, _ = nnx.split(nnx.eval_shape(lambda: Model(encoder, task.head(encoder, rngs=nnx.Rngs(0)))), nnx.Param)
        head = self.params.get("head", {}).get(name)  # a head may have no parameters
        params = {"encoder": self.params["encoder"]} | ({"head": head} if head else {})
        calibration = {key.removeprefix(f"{name}/"): value for key, value in self.calibration.items() if key.startswith(f"{name}/")}
        loaded = Loaded(graphdef=graphdef, params=params, encoder=encoder, fresh=())
        return Predictor(task, self.tokenizer, loaded, model=self.model, mesh=self.mesh, data=self.data, calibration=calibration, step=self.step)

    def save_pretrained(self, directory: str | Path, *, dtype: str = "float32") -> None:
        """Writes weights, config and tokenizer as a directory that PyTorch `transformers` loads as it is, and flaxft as `model.path`. Raises UserError.

        dtype: of the weights, float32 or bfloat16.
        """
        if isinstance(self.task, Several):
            first = next(iter(self.task.tasks))
            raise UserError(f"transformers has no model of several tasks; save them one by one: predictor.only({first!r}).save_pretrained(...)")
        config = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
        task = self.task
        hf.write(Path(directory), self.params, self.encoder, config, kind=task.kind, labels=task.labels, problem_type=task.problem_type, dtype=dtype)
        save_tokenizer(self.tokenizer, self.model, Path(directory))

    def _takes(self, record: Record) -> bool:
        try:
            return bool(self.task.features(record, self.tokenizer, max_length=self.data.max_length))
        except UserError:
            return False

    def _rows(self, placed: Sequence[Placed], *, name: str) -> Rows:
        """The records as they are predicted: their labels are not read."""
        found = []
        for where, record in placed:
            try:
                found.append(Placed(where, unlabelled(self.task, record)))
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
        return Rows(name, found)

    def _results(self, rows: Rows, items: Items, shape: Shape) -> list[dict[str, Any]]:
        decoded, _ = self._evaluator.decode(self.params, {}, items, rows, shape)
        return [self.task.calibrated(one, self.calibration) for one in decoded]

    def _items(self, records: Source, *, use_cache: bool) -> Items:
        key = f"{configs.to_json(self.task)}{self.tokenizer.fingerprint}"
        start_workers = functools.partial(worker.start, task=self.task, tokenizer=self.tokenizer)
        return build_items(records, self.task, self.tokenizer, max_length=self.data.max_length, key=key, use_cache=use_cache, start_workers=start_workers)

    def _shape(self, items: Items, *, longest: int = 1) -> Shape:
        sizes = {"tokens": self.data.eval_tokens, "hidden_size": self.encoder.hidden_size, "num_slots": self.data.num_slots}
        return eval_shape([items], mesh=self.mesh, longest=longest, **sizes)


def _check_top_k(top_k: Any) -> None:
    if top_k not in (None, "all") and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise UserError(f"top_k is {top_k!r}, expected how many scores of labels to give: at least 1, or 'all'")


def _answers(
    results: Sequence[dict[str, Any]], placed: Sequence[Placed], rows: Rows, *, keep: Collection[str] | None, top_k: TopK
) -> list[dict[str, Any]]:
    """What the caller gets: the scores that were asked for, and beside them the columns that were."""
    found = []
    for result, (_, record), read in zip(results, placed, rows, strict=True):
        result = top_scores(result, top_k)
        found.append(result if keep is not None and not keep else inputs.with_columns(result, record, keep, read_columns=read))
    return found


def _blocks(records: Iterable[Placed]) -> Iterator[tuple[list[Placed], bool]]:
    """Runs of at most `BLOCK` records, and whether it is the last."""
    block: list[Placed] = []
    size = 0
    for one in records:
        if len(block) == BLOCK or size > BLOCK_CHARACTERS:
            yield block, False
            block, size = [], 0
        block.append(one)
        size += _num_characters(one.record)
    if block:
        yield block, True


def _num_characters(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_num_characters, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_num_characters, value))
    return len(value) if isinstance(value, str | bytes) else 1


def load(path: str | Path, *, task: Task | None = None, types: Sequence[type] = (), mesh: Mesh | None = None, dtype: str | None = None) -> Predictor:
    """The best weights of the run in the folder `path`; or, given a `task`, a fine-tuned model directory or hub id.

    `load("dslim/bert-base-NER", task=TokenClassification())`. types: your own task and model classes, where the run used such. dtype: what to compute in,
    where not in what the run did. Raises UserError, DamagedError.
    """
    if task is not None:
        model = hf.Pretrained(path=str(path), dtype=dtype or hf.Pretrained.dtype)
        data = Data()
        data.max_length = min(data.max_length, model.open().encoder.max_length)
        return from_model(Config(task=task, model=model, data=data), mesh=mesh)
    cfg, _ = configs.read(files.path(path) / "config.json", own=types)
    return from_run(path, cfg, mesh=mesh, dtype=dtype)


def from_run(workdir: str | Path, cfg: Config, *, mesh: Mesh | None = None, dtype: str | None = None) -> Predictor:
    """The best weights of a run, under its saved config or a changed one; computed in `dtype`, where one is given. Raises UserError, DamagedError."""
    workdir = files.path(workdir)
    if dtype is not None and hasattr(cfg.model, "dtype"):
        cfg = dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, dtype=dtype))  # type: ignore[type-var]  # every plug-in is a dataclass
    saved, facts = configs.read(workdir / "config.json", own=(type(cfg.task), type(cfg.model)))
    _check_labels(saved.task, cfg.task, workdir)
    checkpointer, best = finished.find_best(workdir)
    model = finished.model_folder(workdir)
    model_config = hf.read_config(model)
    loaded = cfg.model.skeleton(model_config, cfg.task.head, where=model / "config.json")
    device_mesh = make_mesh(mesh or Mesh())  # not the run's: it may have been trained on other devices
    shardings = infer(loaded.params, loaded.encoder.sharding, device_mesh)
    like = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), loaded.params, shardings)
    params = finished.restore(checkpointer, best, like)
    tokenizer = load_tokenizer(model, vocab_size=facts["vocab_size"], max_length=facts["max_length"])
    found = loaded._replace(params=params)
    predictor = Predictor(cfg.task, tokenizer, found, model=model, mesh=device_mesh, data=cfg.data, calibration=best.calibration, step=best.step)
    predictor.workdir, predictor.scores = workdir, _scores(workdir / "results.json")
    return predictor


def _scores(file: Path) -> dict[str, dict[str, float]]:
    """Of a run that came to its end; otherwise none."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["evals"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def from_model(cfg: Config, *, mesh: Mesh | None = None) -> Predictor:
    """A model that is already fine-tuned, straight from its directory or hub id. Raises UserError where it has no head for the task."""
    checkpoint = cfg.model.open()
    encoder = checkpoint.encoder
    if checkpoint.kind != cfg.task.kind and getattr(cfg.task, "pooling", "") is None and checkpoint.modules and checkpoint.modules.classifier:
        cfg = dataclasses.replace(cfg, task=dataclasses.replace(cfg.task, pooling=checkpoint.modules.pooling))  # type: ignore[type-var]
    if checkpoint.kind != cfg.task.kind:
        raise UserError(
            f"{checkpoint.name} has no {cfg.task.kind} head (its architectures: {checkpoint.config.get('architectures')}); "
            "train it first, or give the --workdir of a run"
        )
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=encoder.vocab_size, max_length=encoder.max_length)
    task = copy.copy(cfg.task)
    task.train = ""  # labels are the model's, not the train split's
    task = task.resolve(tokenizer, checkpoint)
    if not checkpoint.has_label_names or _are_names_of(task.labels, numbers=checkpoint.labels or ()):
        checkpoint = _with_names(checkpoint, task.labels)
    if not fits_head(task, checkpoint):
        found = f"{list(checkpoint.labels or ())} (problem_type {checkpoint.config.get('problem_type')!r})"
        raise UserError(f"task.labels are {list(task.labels)}, but the head of {checkpoint.name} has {found}; leave task.labels empty, or take another task")
    loaded = cfg.model.load(checkpoint, task.head, reuse_head=True, seed=cfg.seed)
    device_mesh = make_mesh(mesh or Mesh())
    params = put(loaded.params, infer(loaded.params, encoder.sharding, device_mesh))
    return Predictor(task, tokenizer, loaded._replace(params=params), model=checkpoint.directory, mesh=device_mesh, data=cfg.data, calibration={})


def _are_names_of(labels: Sequence[str], *, numbers: Sequence[str]) -> bool:
    """Whether a head's labels are 0, 1, ... in order, which name nothing, and the task's are words."""
    return list(numbers) == list(map(str, range(len(numbers)))) and bool(labels) and not all(label.isdecimal() for label in labels)


def _with_names(checkpoint: Checkpoint, labels: Sequence[str]) -> Checkpoint:
    """A fine-tuned model whose outputs are LABEL_0, LABEL_1, ... with the names that the task gives them, in order. Raises UserError for another number."""
    unnamed = checkpoint.labels or ()
    if not labels or len(unnamed) < 2:
        return checkpoint
    if len(labels) != len(unnamed):
        held = f"the head of {checkpoint.name} has {len(unnamed)} outputs, which have no names ({unnamed[0]} to {unnamed[-1]})"
        raise UserError(f"task.labels names {len(labels)} labels, but {held}; name all of them, in the order of its training")
    log = logging.getLogger("flaxft")
    if tuple(labels) == unnamed:
        ask = "--config.task.labels=NAME,NAME,... gives them, in the order of its training"
        log.warning("%s has no names for its %d labels (%s, ...); %s", checkpoint.name, len(labels), labels[0], ask)
    else:
        shown = ", ".join(f"{old} is {new}" for old, new in zip(unnamed[:4], labels, strict=False))
        log.info("%s has no names for its labels, and task.labels names them in order: %s%s", checkpoint.name, shown, ", ..." if len(labels) > 4 else "")
    return dataclasses.replace(checkpoint, labels=tuple(labels))


def _check_labels(saved: Task, asked: Task, workdir: Path) -> None:
    """The head's outputs have an order, which no setting changes; numbers may be given names. Raises UserError."""
    old, new = tuple(saved.labels), tuple(asked.labels)
    if old == new:
        return
    if len(old) != len(new) or not all(label.isdecimal() for label in old):
        found = f"task.labels are {list(new[:8])}, but the head of {workdir} gives {list(old[:8])}{', ...' if len(old) > 8 else ''}, in this order"
        raise UserError(f"{found}; leave task.labels out, or go on from the run with other labels (--from={workdir})")
    shown = ", ".join(f"{number} is {name}" for number, name in zip(old[:4], new, strict=False))
    logging.getLogger("flaxft").info("%s: task.labels name the labels of the run in order: %s", workdir, shown)


def _say_numbers(task: Task, records: Source) -> None:
    """A file that has numbers where the run has names is matched by the order of the labels, which may be but that of the alphabet."""
    labels = tuple(task.labels)
    if not labels or all(label.isdecimal() for label in labels):
        return
    for record in itertools.islice(records, LOOKED_AT):
        left = unlabelled(task, record)
        values = [value for name, value in record.items() if name not in left and name not in labels]  # a 0-1 column is named as its label
        flat = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
        if flat and all(_is_number(one) and str(one) not in labels for one in flat):
            shown = ", ".join(f"{i} is {label}" for i, label in enumerate(labels[:4]))
            log = logging.getLogger("flaxft")
            log.warning(
                "%s: its labels are numbers, read as places in task.labels: %s%s; write names into the file if it counts otherwise",
                records.name, shown, ", ..." if len(labels) > 4 else "",
            )  # fmt: skip
            return


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or (isinstance(value, str) and value.strip().isdecimal())
