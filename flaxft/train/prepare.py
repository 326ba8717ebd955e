"""What a run needs before its first step: sound inputs, a workdir that is its own, and the plan."""

from __future__ import annotations

import errno
import functools
import itertools
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxft import config as configs
from flaxft import files, processes, worker
from flaxft.config import Config
from flaxft.data import splits
from flaxft.data.base import IGNORE, Chain, Source
from flaxft.data.items import Items, build_items, num_seen_records
from flaxft.data.packing import Part, Plan, make_parts, make_plan
from flaxft.data.tokenize import SubwordTokenizer, load_tokenizer, save_tokenizer
from flaxft.errors import DiskError, UserError, nearest, printable
from flaxft.models.base import Checkpoint, flatten
from flaxft.sharding import num_row_shards
from flaxft.tasks.base import Looks, Task, fits_kind
from flaxft.train.state import TrainState


class Inputs(NamedTuple):
    """Everything that was found sound before anything was written."""

    task: Task  # resolved
    tokenizer: SubwordTokenizer
    records: dict[str, Source]
    items: dict[str, Items]
    num_seen: Mapping[str, int] = {}  # of each other split, the records that are in the train split too


def open_inputs(cfg: Config, checkpoint: Checkpoint, *, poll: Callable[[], None]) -> Inputs:
    """Tokenizer, labels, and every split that has a path. Raises UserError."""
    encoder = checkpoint.encoder
    check_max_length(cfg, checkpoint)
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=encoder.vocab_size, max_length=encoder.max_length)
    task = resolve(cfg, tokenizer, checkpoint)
    check_evals(cfg, task)
    records, items = {}, {}
    for name in task.splits():
        poll()
        records[name] = task.records(name, max_examples=cfg.data.max_examples)
        if line := look_at(task, records[name], split=name):
            logging.getLogger("flaxft").info("%s", line)
        items[name] = make_items(cfg, task, tokenizer, records[name], poll=poll)
        if name == "train":
            check_learnable(task, records[name], items[name])
    num_seen = warn_of_seen(records, items, poll=poll)
    return Inputs(task, tokenizer, records, items, num_seen)


def resolve(cfg: Config, tokenizer: SubwordTokenizer, checkpoint: Checkpoint) -> Task:
    """The task as it is trained: its splits said, a share of the train split where no validation split is given, and all else filled in. Raises UserError."""
    task: Task = splits.with_default(cfg.task, max_examples=cfg.data.max_examples) if "validation" in cfg.evals else cfg.task
    return task.resolve(tokenizer, checkpoint, max_examples=cfg.data.max_examples)


def check_max_length(cfg: Config, checkpoint: Checkpoint) -> None:
    if cfg.data.max_length > checkpoint.encoder.max_length:
        raise UserError(f"data.max_length is {cfg.data.max_length}, but {checkpoint.name} has {checkpoint.encoder.max_length} positions; give at most that")


def check_evals(cfg: Config, task: Task) -> None:
    known = [*task.splits(), "train", "validation", "test"]
    for name in cfg.evals:
        if name not in known:
            raise UserError(f"evals names the split {name!r}, which the task does not have{nearest(name, known)}")


def make_items(cfg: Config, task: Task, tokenizer: SubwordTokenizer, records: Source, *, poll: Callable[[], None]) -> Items:
    """A split tokenised, or found done. Raises UserError."""
    key = f"{configs.to_json(task)}{tokenizer.fingerprint}"
    start_workers = functools.partial(worker.start, task=task, tokenizer=tokenizer)
    return build_items(
        records, task, tokenizer, max_length=cfg.data.max_length, key=key, use_cache=cfg.data.cache, poll=poll, start_workers=start_workers
    )


def look_at(task: Task, records: Source, *, split: str) -> str:
    """How a split was read, in one line; "" where the task does not say. Warns of what is implausible. Raises UserError for what cannot be meant."""
    if not isinstance(task, Looks):
        return ""
    look = task.look(records, split=split)
    for warning in look.warnings:
        logging.getLogger("flaxft").warning("%s", warning)
    return look.line


def check_learnable(task: Task, records: Source, items: Items) -> None:
    """Warns of records of the train split that have nothing to learn: no label but ignored ones. Raises UserError where all are such."""
    names = [name for name, field in task.spec().items() if field.pad == IGNORE]
    if not names:
        return
    num_idle = len(records) - len(np.unique(items.records[items.has_values(names, none=IGNORE)]))
    if num_idle == len(records):
        hint = "see the warnings above, and whether labels, tags or answers stand where they should"
        raise UserError(f"{records.name}: nothing can be learnt from any of its {num_idle:,} records, whose labels are all ignored; {hint}")
    if num_idle:
        what = "nothing can be learnt from %d of %d records, whose labels are all ignored"
        logging.getLogger("flaxft").warning(f"%s: {what}", records.name, num_idle, len(records))


def warn_of_seen(records: Mapping[str, Source], items: Mapping[str, Items], *, poll: Callable[[], None]) -> dict[str, int]:
    """Says how many records of the other splits are in the train split too, and returns it."""
    others = [name for name in items if name != "train"]
    if "train" not in items or not others:
        return {}
    seen = items["train"].input_hashes()
    counts = {}
    for name in others:
        poll()
        counts[name] = num_seen = num_seen_records(items[name], seen)
        if num_seen:
            logging.getLogger("flaxft").warning(
                "%s: %d of %d records are in the train split too, token by token; their scores say nothing of new text", name, num_seen, len(records[name])
            )
    return counts


def say_origin(checkpoint: Checkpoint, task: Task, *, reuse_head: bool) -> None:
    """What a run takes of the run that it begins from; `Pretrained.load` names the labels that differ."""
    if checkpoint.arrays is None:
        return
    if fits_kind(task, checkpoint):
        what = "encoder and head" if reuse_head else "encoder and, where labels are the same, its head"
    else:
        what = f"the encoder alone: its head is of the kind {checkpoint.kind!r}, and this task needs {task.kind!r}"
    logging.getLogger("flaxft").info("from the best weights of %s: %s", checkpoint.name, what)


def num_steps_of(cfg: Config, items: Items) -> int:
    """Steps of the whole run over the train split."""
    if cfg.num_steps is not None:
        return cfg.num_steps
    assert cfg.num_epochs is not None, "flaxft/recipe.py fills in what is open"
    return math.ceil(cfg.num_epochs * math.ceil(len(items) / cfg.data.batch_size))


def check_writable(workdir: Path) -> None:
    """Before anything else is done, and without making it. Raises UserError. Of a bucket the first write tells."""
    if not files.is_local(workdir):
        return
    try:
        existing = next(parent for parent in (workdir, *workdir.absolute().parents) if parent.exists())
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {error.strerror}; give another --workdir") from None
    if existing == workdir and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file, expected a directory or a new name")
    if not existing.is_dir():
        raise UserError(f"--workdir={workdir}: {existing} is a file; give another --workdir")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--workdir={workdir}: {existing} cannot be written; give another --workdir, or the right to write there")


def make_workdir(workdir: Path) -> None:
    """Raises UserError, DiskError."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(workdir, error) from None


def compare_workdir(cfg: Config, checkpoint: Checkpoint, inputs: Inputs, workdir: Path) -> dict[str, Any]:
    """The facts for config.json, after they and the config were compared with what a run left there. Raises UserError naming the fields that differ."""
    data = {name: items.fingerprint for name, items in inputs.items.items()}
    facts: dict[str, Any] = {"data": data, "model": checkpoint.fingerprint, "tokenizer": inputs.tokenizer.fingerprint}
    facts |= {"vocab_size": checkpoint.encoder.vocab_size, "max_length": checkpoint.encoder.max_length}
    file = workdir / "config.json"
    if file.exists():
        saved, before = configs.read(file, own=(type(cfg.task), type(cfg.model)))
        different = configs.differences(saved, cfg)
        different += [f"{split} data: its content is not what the run began with" for split in data if before["data"].get(split, data[split]) != data[split]]
        different += [f"{what}: its content is not what the run began with" for what in ("model", "tokenizer") if before[what] != facts[what]]
        if different:
            held = f"{workdir} holds a run with another config ({'; '.join(different)})"
            # Longer is another schedule from the first step on: the weights of the shorter run are not on its way.
            on = f"to go on from its best weights give --from={workdir} and another --workdir"
            raise UserError(f"{held}; give another --workdir, or the same config; {on}")
        facts["data"] = before["data"] | data
    return facts


def claim_workdir(cfg: Config, checkpoint: Checkpoint, inputs: Inputs, workdir: Path) -> dict[str, Any]:
    """Writes config.json and model/, or compares with what a run left there; returns what each checkpoint has to say of the run it belongs to.

    Raises UserError naming the fields that differ.
    """
    facts = compare_workdir(cfg, checkpoint, inputs, workdir)
    file = workdir / "config.json"
    processes.barrier()  # all have compared with what was there
    if processes.is_first():
        try:
            save_tokenizer(inputs.tokenizer, checkpoint.directory, workdir / "model")
            files.write_json(workdir / "model" / "config.json", dict(checkpoint.config))
            configs.save(file, cfg, facts)
        except OSError as error:
            raise _cannot_write(workdir, error) from None
    identity = {"config": configs.fingerprint(cfg), "labels": list(inputs.task.labels), "tokenizer": facts["tokenizer"], "model": facts["model"]}
    return identity | {"train data": facts["data"]["train"]}


def _cannot_write(workdir: Path, error: OSError) -> UserError:
    kind = DiskError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
    return kind(f"{workdir} cannot be written ({error}); give another --workdir, or free space")


def read_or_make_plan(cfg: Config, checkpoint: Checkpoint, inputs: Inputs, mesh: jax.sharding.Mesh, workdir: Path, *, num_steps: int) -> Plan:
    """plan.json is written once and read ever after: devices and code may change, batches may not."""
    file = workdir / "plan.json"
    if file.exists():
        return Plan.read(file)
    plan = plan_of(cfg, checkpoint, inputs, mesh, num_steps=num_steps)
    if processes.is_first():
        plan.save(file)
    return plan


def plan_of(cfg: Config, checkpoint: Checkpoint, inputs: Inputs, mesh: jax.sharding.Mesh, *, num_steps: int) -> Plan:
    """A new plan. Raises UserError."""
    items = inputs.items["train"]
    return make_plan(
        items.lengths,
        items.item_starts,
        fingerprint=items.fingerprint,
        batch_size=cfg.data.batch_size,
        num_steps=num_steps,
        seed=cfg.seed,
        num_devices=num_row_shards(mesh),
        hidden_size=checkpoint.encoder.hidden_size,
        num_shapes=cfg.data.num_shapes,
        num_slots=cfg.data.num_slots,
        max_rows=cfg.data.max_rows,
        accumulates=inputs.task.decomposes,
        parts=_parts(inputs.records["train"], items),
    )


def _parts(source: Source, items: Items) -> tuple[Part, ...]:
    """Of a chain of sources, each is a part of the plan."""
    if not isinstance(source, Chain):
        return ()
    records = items.records[items.item_starts[:-1]]  # the record of each item
    bounds = np.searchsorted(records, [*source.starts.values(), len(source)]).tolist()
    sizes = {name: stop - start for name, (start, stop) in zip(source.sources, itertools.pairwise(bounds), strict=True)}
    return make_parts(sizes, weights=source.weights, temperature=source.temperature)


def describe(cfg: Config, inputs: Inputs, plan: Plan, state: TrainState, mesh: jax.sharding.Mesh, fresh: tuple[str, ...]) -> list[str]:
    """Lines for the start of a run."""
    devices = mesh.devices.ravel()
    sizes = {name: int(size) for name, size in mesh.shape.items() if size > 1}
    num_params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    items = inputs.items["train"]
    shards = num_row_shards(mesh)
    lines = [
        f"{len(devices)} {devices[0].device_kind} device{'s' * (len(devices) > 1)}{f', mesh {sizes}' if sizes else ''}, jax {jax.__version__}",
        f"model: {cfg.model.path}, {num_params:,} parameters, {sum(flatten(state.params)[path].size for path in fresh):,} of them new",
        *(f"{name}: {len(inputs.records[name]):,} records, {len(one):,} examples, {one.num_tokens:,} tokens" for name, one in inputs.items.items()),
        f"plan: {rows_of(plan)}",
        f"padding: {plan.padding_fraction:.1%} expected; {padding_to_longest(cfg, items):.1%} with batches padded to their longest",
    ]
    total = sum(part.weight for part in plan.parts)
    for part in plan.parts:
        share = part.weight / total * plan.batch_size
        pace = f"{share:.3g} of {plan.batch_size} a step, once round in {part.num_items / share:,.0f} steps"
        lines.insert(-2, f"{part.name}: {part.num_items:,} examples, {pace}")
    if inputs.task.labels:
        shown = ", ".join(map(printable, inputs.task.labels[:12]))
        lines.insert(2, f"{len(inputs.task.labels)} labels: {shown}{' ...' if len(inputs.task.labels) > 12 else ''}")
    most = max(shape.num_rows for shape in plan.shapes)
    if most < shards:
        fills = -(-cfg.data.batch_size * shards // most)
        lines.append(f"note: {most} rows leave {shards - most} of {shards} devices empty; data.batch_size={fills} fills them")
    return lines


def rows_of(plan: Plan) -> str:
    """The shapes of a plan, as the log and doctor say them."""
    shapes = ", ".join(f"{shape.num_rows} x {shape.row_length}" for shape in plan.shapes)
    return f"{shapes} rows x tokens a step, with up to {max(shape.num_slots for shape in plan.shapes)} examples a row"


def padding_to_longest(cfg: Config, items: Items) -> float:
    """The share of padding of random batches padded to their longest: what packing saves, estimated on up to 200 batches."""
    lengths = np.random.default_rng(0).permutation(items.lengths)[: 200 * cfg.data.batch_size]
    batches = [lengths[i : i + cfg.data.batch_size] for i in range(0, len(lengths), cfg.data.batch_size)]
    return 1 - float(lengths.sum()) / sum(int(batch.max()) * len(batch) for batch in batches)


def not_finite(inputs: Inputs, record_ids: Mapping[int, list[int]], workdir: Path) -> str:
    """Writes the examples of the steps that were skipped in a row to nonfinite.json; returns the message."""
    places = {str(step): [inputs.records["train"].where(record) for record in ids] for step, ids in record_ids.items()}
    files.write_json(workdir / "nonfinite.json", places)
    steps = sorted(record_ids)
    return (
        f"loss or gradients were not finite in steps {steps[0]} to {steps[-1]}; their examples are in {workdir / 'nonfinite.json'}; "
        "lower optim.learning_rate, or look at those examples"
    )
