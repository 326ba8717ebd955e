"""Looks at all that a run needs, without training and without writing: config, model, tokenizer, data, plan, workdir, disk, memory."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from flaxft import config as configs
from flaxft import errors, files, recipe
from flaxft.checkpoint import Checkpointer, verify
from flaxft.config import Config
from flaxft.data.base import Source
from flaxft.data.items import Items
from flaxft.data.packing import Plan
from flaxft.data.tokenize import SubwordTokenizer, load_tokenizer
from flaxft.errors import DamagedError, UserError, printable, reason
from flaxft.models.base import Checkpoint, Loaded, flatten
from flaxft.optim import make_schedule
from flaxft.sharding import Mesh, make_mesh, num_row_shards
from flaxft.tasks.base import Task, fits_head
from flaxft.train import prepare
from flaxft.train.lock import Lock
from flaxft.train.observe import of_inputs
from flaxft.verdict import FEW, foresight

SHOWN = 10  # records of a split whose mistakes are shown one by one
BINS = 8  # of the histogram of lengths
STATE_BYTES, GRADIENT_BYTES = 12, 4  # a parameter's: its value and Adam's two moments, all float32; its gradient


class Split(NamedTuple):
    """A split as it would be trained on or scored."""

    num_records: int
    lengths: np.ndarray  # (num_features,) tokens of each example, special ones included
    num_windows: int  # examples beyond the first of their record, because a text is long


@dataclasses.dataclass
class Examination:
    """What was found. A run would fail where there are problems; it would begin in spite of warnings."""

    problems: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)  # what a run says that it guessed
    facts: dict[str, str] = dataclasses.field(default_factory=dict)  # heading -> what is so
    splits: dict[str, Split] = dataclasses.field(default_factory=dict)

    def looking(self) -> _Looking:
        """A context: what is raised inside becomes a problem, and the examination goes on behind it."""
        return _Looking(self)

    def add(self, problem: str) -> None:
        if problem not in self.problems:  # the train split is opened for its labels, and again for its records
            self.problems.append(problem)


class _Looking:
    def __init__(self, found: Examination):
        self._found = found

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, UserError | OSError):
            self._found.add(str(error) if isinstance(error, UserError) else reason(error))
            return True
        return False


class _Collector(logging.Handler):
    """The warnings that a run would print, and its notes on data, each once."""

    def __init__(self, found: Examination):
        super().__init__(logging.INFO)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        if not is_warning and Path(record.pathname).parent.name not in ("data", "tasks"):
            return  # what the model leaves aside is no guess about the user's files
        lines = self._found.warnings if is_warning else self._found.notes
        if (line := record.getMessage()) not in lines:
            lines.append(line)


def examine(cfg: Config, workdir: Path) -> Examination:
    """Looks at everything that can be looked at, however much of it is wrong. Writes nothing but the cache of tokenised data."""
    found = Examination()
    collector = _Collector(found)
    log = logging.getLogger("flaxft")
    log.addHandler(collector)
    propagates, log.propagate = log.propagate, False
    level = log.level
    log.setLevel(logging.INFO)
    try:
        _examine(cfg, workdir, found)
    finally:
        log.propagate = propagates
        log.setLevel(level)
        log.removeHandler(collector)
    return found


def _examine(cfg: Config, workdir: Path, found: Examination) -> None:
    for problem in cfg.problems():
        found.add(problem)
    try:
        configs.check_types(cfg, "")
    except UserError:
        return  # there is no going on with a text in the place of a number
    cfg = _with_sound_numbers(cfg)

    # ---- what is there: devices, model, tokenizer, task -----------------------------------------------------------------------------------------
    has_place = False
    with found.looking():
        prepare.check_writable(workdir)
        has_place = True
    mesh = make_mesh(Mesh())
    with found.looking():
        mesh = make_mesh(cfg.mesh)
    checkpoint: Checkpoint | None = None
    tokenizer: SubwordTokenizer | None = None
    task: Task | None = None
    with found.looking():
        prepare.check_evals(cfg, cfg.task)
    with found.looking():
        checkpoint = cfg.model.open()
    of_encoder: tuple[recipe.Choice, ...] = ()
    if checkpoint is not None:
        cfg, of_encoder = recipe.of_encoder(cfg, checkpoint)
        with found.looking():
            prepare.check_max_length(cfg, checkpoint)
        cfg = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, max_length=min(cfg.data.max_length, checkpoint.encoder.max_length)))
        with found.looking():
            tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
    if checkpoint is not None and tokenizer is not None:
        num_pieces, num_embeddings = len(tokenizer.pieces), checkpoint.encoder.vocab_size
        found.facts["pieces"] = f"{num_pieces:,} in the tokenizer, {num_embeddings:,} embeddings in the model"
        if num_pieces < num_embeddings / 2:  # a few spare rows are common, to a round number
            found.warnings.append(f"{checkpoint.name}: the tokenizer has {num_pieces:,} pieces and the model {num_embeddings:,} embeddings; is it its own?")
        with found.looking():
            task = prepare.resolve(cfg, tokenizer, checkpoint)
    if task is not None:
        cfg = dataclasses.replace(cfg, task=task)

    # ---- the data, split by split ---------------------------------------------------------------------------------------------------------------
    records: dict[str, Source] = {}
    items: dict[str, Items] = {}
    splits = cfg.task.splits()
    if "train" not in splits:
        found.add("task.train is empty; set --config.task.train=FILE, or use --mode=eval")
    for name in splits:
        with found.looking():
            records[name] = cfg.task.records(name, max_examples=cfg.data.max_examples)
        if name in records and task is not None:
            with found.looking():
                if line := prepare.look_at(task, records[name], split=name):
                    found.facts[name] = line
        if name in records and task is not None and tokenizer is not None:
            made = _items(cfg, task, tokenizer, records[name], found)
            if made is not None:
                items[name] = made
                if name == "train":
                    with found.looking():
                        prepare.check_learnable(task, records[name], made)
                found.splits[name] = _split(records[name], made)
    for name in set(cfg.evals) & {"train", "validation", "test"} - set(splits):
        found.warnings.append(f"evals names {name}, which has no path: it is not scored")
    prepare.warn_of_seen(records, items, poll=lambda: None)
    if task is None and records:
        found.facts["data"] = f"{', '.join(f'{name}: {len(one):,} records' for name, one in records.items())}; not tokenised, because of the errors below"
    if task is not None and task.labels:
        shown = ", ".join(map(printable, task.labels[:12]))
        found.facts["labels"] = f"{len(task.labels)}: {shown}{' ...' if len(task.labels) > 12 else ''}"

    # ---- the weights, all of them read ----------------------------------------------------------------------------------------------------------
    num_params = 0
    if checkpoint is not None:
        with found.looking():
            loaded = _load(cfg, checkpoint, task)
            num_params = sum(leaf.size for leaf in flatten(loaded.params).values())
            found.facts = {"model": _describe_model(checkpoint, loaded, num_params)} | found.facts

    # ---- steps, rows, memory --------------------------------------------------------------------------------------------------------------------
    plan: Plan | None = None
    if checkpoint is not None and task is not None and tokenizer is not None and "train" in items:
        inputs = prepare.Inputs(task, tokenizer, records, items)
        cfg, of_data = recipe.of_data(cfg, checkpoint, num_examples=len(items["train"]))
        found.facts["recipe"] = recipe.line(of_encoder + of_data).removeprefix("recipe: ")
        num_steps = prepare.num_steps_of(cfg, items["train"])
        with found.looking():
            make_schedule(cfg.optim, num_steps)
        with found.looking():
            file = workdir / "plan.json"
            plan = Plan.read(file) if has_place and file.is_file() else prepare.plan_of(cfg, checkpoint, inputs, mesh, num_steps=num_steps)
            found.facts["steps"] = f"{num_steps:,} of {cfg.data.batch_size} examples, {plan.steps_per_epoch:,} an epoch"
            found.facts["rows"] = prepare.rows_of(plan)
            found.facts["padding"] = _padding(cfg, items["train"], plan)
        with found.looking():
            seen = of_inputs(cfg, checkpoint, inputs, steps_per_epoch=plan.steps_per_epoch if plan else 0)
            if seen.label_counts:
                found.facts["labels"] = describe_labels(seen.label_counts, noun=seen.noun)
            found.warnings += [f"{one.line}{f'; try {one.flag}' if one.flag else ''}" for one in foresight(seen)]
        with found.looking():
            if has_place and (workdir / "config.json").is_file():
                prepare.compare_workdir(cfg, checkpoint, inputs, workdir)
    if plan is not None and checkpoint is not None and num_params:
        _look_at_memory(cfg, checkpoint, plan, mesh, num_params, found)

    # ---- the place for it -----------------------------------------------------------------------------------------------------------------------
    if not has_place:
        return
    with found.looking():
        Lock(workdir).check()
    _look_at_checkpoints(workdir, found)
    if num_params:
        _look_at_disk(cfg, workdir, num_params, found)


def _with_sound_numbers(cfg: Config) -> Config:
    """The config with defaults for the numbers that cannot be meant, so that the rest can be looked at."""
    if not cfg.problems():
        return cfg
    cfg = dataclasses.replace(cfg, seed=0, num_epochs=None, num_steps=None)
    for name in ("optim", "data", "checkpoint"):
        section = getattr(cfg, name)
        defaults = {field: getattr(type(section)(), field) for field in configs.wrong_fields(section)}
        setattr(cfg, name, dataclasses.replace(section, **defaults))
    return cfg


# ---- data -------------------------------------------------------------------------------------------------------------------------------------------


def _items(cfg: Config, task: Task, tokenizer: SubwordTokenizer, records: Source, found: Examination) -> Items | None:
    """A split tokenised. Where a record cannot be, every one that cannot is a problem, up to SHOWN of them."""
    try:
        return prepare.make_items(cfg, task, tokenizer, records, poll=lambda: None)
    except UserError as error:
        first = str(error)
    wrong = []
    for number in range(len(records)):
        try:
            task.features(records[number], tokenizer, max_length=cfg.data.max_length)
        except UserError as error:
            wrong.append(f"{records.where(number)}: {error}")
    for problem in wrong[:SHOWN] or [first]:
        found.add(problem)
    if len(wrong) > SHOWN:
        found.add(f"{records.name}: {len(wrong) - SHOWN} more of its {len(records):,} records cannot be read like this")
    return None


def describe_labels(counts: Mapping[str, int], *, noun: str) -> str:
    """"3 entity types: PER 120, LOC 90, ORG 8": all of a few, of many the most and the least frequent; and how many have fewer than ten."""
    order = sorted(counts, key=lambda label: -counts[label])
    names = {label: f"{printable(label)} {counts[label]:,}" for label in order}
    few = sum(count < FEW for count in counts.values())
    shown = ", ".join(names.values()) if len(order) <= 12 else f"{', '.join(list(names.values())[:5])}, ... {', '.join(list(names.values())[-3:])}"
    return f"{len(order)} {noun}: {shown}" + (f"; {few} with fewer than {FEW} examples" if few else "")


def _split(records: Source, items: Items) -> Split:
    alone = items.records[items.groups < 0]  # features that a loss couples are choices or pairs, not windows
    return Split(len(records), items.lengths, len(alone) - len(np.unique(alone)))


def _padding(cfg: Config, items: Items, plan: Plan) -> str:
    to_limit = 1 - items.num_tokens / (len(items.lengths) * cfg.data.max_length)
    longest = prepare.padding_to_longest(cfg, items)
    return f"{plan.padding_fraction:.1%} of the positions as planned; {longest:.1%} if batches were padded to their longest, {to_limit:.1%} to data.max_length"


# ---- the model --------------------------------------------------------------------------------------------------------------------------------------


def _load(cfg: Config, checkpoint: Checkpoint, task: Task | None) -> Loaded:
    """Every weight, read and found finite; without a task the encoder's alone. Raises UserError."""
    if task is not None:
        return cfg.model.load(checkpoint, task.head, reuse_head=fits_head(task, checkpoint), seed=cfg.seed)
    return cfg.model.load(checkpoint, lambda encoder, *, rngs: nnx.Module(), reuse_head=False, seed=cfg.seed)


def _describe_model(checkpoint: Checkpoint, loaded: Loaded, num_params: int) -> str:
    flat = flatten(loaded.params)
    num_new = sum(flat[path].size for path in loaded.fresh)
    encoder = checkpoint.encoder
    sizes = f"hidden size {encoder.hidden_size}, {encoder.max_length} positions"
    return f"{checkpoint.name}, {num_params:,} parameters, all finite, {num_new:,} of them new; {sizes}"


# ---- memory and disk --------------------------------------------------------------------------------------------------------------------------------


def activation_bytes(config: Mapping[str, Any], *, row_length: int, dtype: str, remat: bool) -> int | None:
    """What a backward pass keeps of one position, about; None where config.json does not say the sizes.

    Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1): 34 D + 5 N T bytes a layer in 16 bit with F = 4 D, that is 18 D + 4 F + 5 N T; in 32 bit all but
    the dropout masks is double. Recomputed layers keep their input. XLA:CPU, asked what a compiled step takes, says 5 to 23 % more than this and the gradients
    (two encoders, float32 and bfloat16, which it computes in 32 bit); not compared on other devices.
    """
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
    if not all(isinstance(config.get(name), int) for name in names):
        return None
    num_layers, hidden, inner, heads = (int(config[name]) for name in names)
    layer = 18 * hidden + 4 * inner + 5 * heads * row_length if dtype == "bfloat16" else 34 * hidden + 8 * inner + 9 * heads * row_length
    if remat:
        return layer + num_layers * hidden * (2 if dtype == "bfloat16" else 4)
    return num_layers * layer


def _look_at_memory(cfg: Config, checkpoint: Checkpoint, plan: Plan, mesh: jax.sharding.Mesh, num_params: int, found: Examination) -> None:
    split_over = mesh.shape["fsdp"] * mesh.shape["tensor"]
    state = num_params * (STATE_BYTES + GRADIENT_BYTES) // split_over
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    dtype = "float32" if on_cpu else getattr(cfg.model, "dtype", "float32")
    remat = bool(getattr(cfg.model, "remat", False))
    position = activation_bytes(checkpoint.config, row_length=plan.shapes[-1].row_length, dtype=dtype, remat=remat)
    num_rows = -(-plan.shapes[-1].num_rows // num_row_shards(mesh))
    activations = 0 if position is None else position * num_rows * plan.shapes[-1].row_length
    devices = mesh.devices.ravel()
    if on_cpu:  # its devices share the host's memory
        state, activations = state * len(devices), activations * len(devices)
    free, where = _free_memory(devices[0])
    parts = f"{_size(state)} of parameters, gradients and moments, about {_size(activations)} of activations"
    found.facts["memory"] = f"{parts}{' a device' if len(devices) > 1 else ''}; {where} has {_size(free) if free else 'an unknown amount'}"
    if free and state > free:
        mend = "take a smaller model, or mesh.fsdp on more devices"
        found.add(f"memory: parameters, gradients and moments take {_size(state)}, but {where} has {_size(free)}; {mend}")
    elif free and state + activations > free:
        mend = "lower data.max_rows (gradients are accumulated, the result is the same)" + ("" if remat else ", or set model.remat=true")
        found.warnings.append(f"memory: a step takes about {_size(state + activations)}, and {where} has {_size(free)}; {mend}")


def _free_memory(device: Any) -> tuple[int | None, str]:
    """Bytes that are free, and where."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return (stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None), f"each {device.device_kind}"
    free = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free.append(1024 * int(next(line for line in text.splitlines() if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):  # a container's own limit; "max" is none
        group = Path("/sys/fs/cgroup")
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(free, default=None), "this machine"


def _look_at_disk(cfg: Config, workdir: Path, num_params: int, found: Examination) -> None:
    if not files.is_local(workdir):
        return  # a bucket is as large as its bill
    existing = next(parent for parent in (workdir, *workdir.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    one = num_params * STATE_BYTES
    keep = cfg.checkpoint.keep
    there = sum(file.stat().st_size for file in files.tree(workdir / "checkpoints")) if (workdir / "checkpoints").is_dir() else 0
    needed = max(0, one * (keep + 2) - there)  # the newest `keep`, the best, and the one that is being written
    found.facts["disk"] = f"{_size(one)} a checkpoint, up to {keep + 2} at once: {_size(needed)}; {_size(free)} are free"
    if free < needed:
        which = f"checkpoint.keep={keep}, the best, and the one being written"
        found.add(f"{existing}: checkpoints take up to {_size(needed)} ({which}), {_size(free)} are free; free some, or give another --workdir")


def _look_at_checkpoints(workdir: Path, found: Examination) -> None:
    """Whether a run is there and how far it came: its newest checkpoint is read and compared with its manifest."""
    is_run = (workdir / "config.json").is_file()
    found.facts["workdir"] = f"{workdir}, {'holds a run without a checkpoint' if is_run else 'new'}"
    checkpointer = Checkpointer(workdir / "checkpoints", keep=1, is_first_process=False)
    steps = checkpointer.steps()
    checkpointer.close()
    sound = None
    for step in reversed(steps):
        try:
            verify(workdir / "checkpoints" / str(step))
        except DamagedError as error:
            found.warnings.append(f"{error}; a run falls back to the step before")
            continue
        except UserError as error:  # of a newer flaxft
            found.add(str(error))
            return
        sound = step
        break
    if sound is not None:
        found.facts["workdir"] = f"{workdir}, holds a run that goes on from step {sound:,}, whose checkpoint is whole"
    elif steps:
        found.add(f"{workdir / 'checkpoints'}: all {len(steps)} checkpoints are damaged; restore one from a copy, or start a new workdir")


def _size(num_bytes: int) -> str:
    number = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.2g} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


# ---- the report -------------------------------------------------------------------------------------------------------------------------------------


def show(found: Examination) -> int:
    """Prints what was found, the problems on stderr, and returns the exit code."""
    from rich.console import Console
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    width = None if is_terminal else int(os.environ.get("COLUMNS", 100))
    console = Console(width=width, highlight=False)
    for name, fact in found.facts.items():
        room = max(8, len(name))
        first, *more = textwrap.wrap(printable(fact), max(20, console.width - room - 1), break_on_hyphens=False) or [""]
        console.print(Text.assemble((f"{name:<{room}} ", "bold"), "\n".join([first, *(" " * (room + 1) + line for line in more)])), soft_wrap=True)
    if found.facts:
        console.print()
    if found.splits:
        console.print(_splits_table(found))
        console.print()
    for name, split in found.splits.items():
        if name == next(iter(found.splits)):
            console.print(f"tokens of an example, {name}", style="bold")
            for line in histogram(split.lengths, width=min(console.width, 100), bar="█" if is_terminal else "#"):
                console.print(Text(line))
            console.print()
    for note in found.notes:
        console.print(Text(f"note: {printable(note)}"), soft_wrap=not is_terminal)
    for warning in found.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), printable(warning)), soft_wrap=True)
    sys.stdout.flush()
    stderr = Console(stderr=True, highlight=False)
    for problem in found.problems:
        stderr.print(Text.assemble(("error: ", "bold red"), printable(problem)), soft_wrap=True)
    num = len(found.problems)
    if num:
        console.print(f"{num} problem{'s' * (num > 1)}: training would fail", style="bold red")
        return errors.USER_ERROR
    noted = f", {len(found.warnings)} warning{'s' * (len(found.warnings) > 1)}" if found.warnings else ""
    console.print(f"no problem found{noted}; the same command with train in place of doctor trains", style="bold green")
    return errors.OK


def _splits_table(found: Examination) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)  # 59 columns wide
    table.add_column("split", style="bold", no_wrap=True)
    for name in ("records", "examples", "windows", "tokens", "median", "95 %", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, split in found.splits.items():
        lengths = split.lengths
        middle, high = np.percentile(lengths, (50, 95)) if len(lengths) else (0, 0)
        figures = (split.num_records, len(lengths), split.num_windows, int(lengths.sum()), int(middle), int(high), int(lengths.max(initial=0)))
        table.add_row(name, *(f"{figure:,}" for figure in figures))
    return table


def histogram(lengths: np.ndarray, *, width: int, bar: str) -> list[str]:
    """A line for each range of lengths, its bar as long as its share of the largest."""
    longest = int(lengths.max(initial=1))
    step = -(-longest // BINS)
    counts = np.bincount((lengths - 1) // step, minlength=-(-longest // step)) if len(lengths) else np.zeros(1, int)
    labels = [f"{number * step + 1}-{(number + 1) * step}" for number in range(len(counts))]
    digits = len(f"{counts.max():,}")
    room = max(8, width - max(map(len, labels)) - digits - 4)
    return [
        f"{label:>{max(map(len, labels))}}  {count:>{digits},}  {bar * (round(room * count / counts.max()) if counts.max() else 0)}".rstrip()
        for label, count in zip(labels, counts.tolist(), strict=True)
    ]
