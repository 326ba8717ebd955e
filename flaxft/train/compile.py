"""The real training step of a config, compiled for a TPU that is not here: what a device would hold, compute and send, and how fast that could be at best."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
from collections import Counter
from typing import Any, NamedTuple

import jax

from flaxft import recipe
from flaxft.config import Config
from flaxft.data.pipeline import Pipeline
from flaxft.errors import UserError, printable
from flaxft.models.base import flatten
from flaxft.optim import make_schedule, make_tx
from flaxft.sharding import infer, make_mesh, num_row_shards, rows
from flaxft.train import prepare
from flaxft.train import state as states
from flaxft.train.peak import peak_flops
from flaxft.train.step import TrainStep, make_loss_fn


class Chip(NamedTuple):
    memory: float  # bytes of HBM
    bandwidth: float  # bytes a second between HBM and chip
    interconnect: float  # bytes a second that leave a chip for others, all links together: half of what is published for both directions


# Of one chip, docs.cloud.google.com/tpu/docs/v5e, v5p and v6e, read in November 2026. What they compute stands in peak.py.
CHIPS = {
    "TPU v5 lite": Chip(16e9, 819e9, 200e9),
    "TPU v5": Chip(95e9, 2765e9, 600e9),
    "TPU v6 lite": Chip(32e9, 1638e9, 400e9),
}
NAMES = ("v5e:2x4", "v5e:16x16", "v5p:2x2x1", "v6e:2x4")  # such as a user may give
# Without them libtpu asks for a machine's metadata that is not one of Google's, and says at length on stderr that it found none.
QUIET = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-8"}
QUIET |= {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # it guards chips, and here are none: two may compile at a time
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}  # HLO's names
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
COLLECTIVE = re.compile(rf" = (?P<result>\(.*?\)|\S+) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\((?P<rest>.*)")
ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
# The devices that take part, in the forms {{0,1},{2,3}}, [2,2]<=[4] and mesh['a'=2,'b'=2] {'a'}; of the last also parts of an axis, 'a':(1)2.
GROUPS = re.compile(r"replica_groups=(?:\{\{(?P<first>[\d,]*)\}|\[\d+,(?P<size>\d+)\]<=|mesh\[(?P<mesh>[^\]]*)\] \{(?P<axes>[^}]*)\})")


@dataclasses.dataclass(frozen=True)
class Step:
    """A run's step on one of its devices. Bytes and operations are those of one device and one step, or of one micro-batch where a step is several."""

    device_kind: str
    num_devices: int
    mesh: dict[str, int]
    num_params: int
    num_rows: int  # of all devices
    row_length: int
    useful_tokens: float  # of all devices, in the mean
    is_part: bool  # one of a step's micro-batches
    held: float  # bytes of parameters, gradients, optimizer state and batch
    scratch: float  # bytes
    flops: float
    bytes_accessed: float  # between memory and chip
    collectives: dict[str, tuple[int, float]]  # kind -> (how many, bytes that a device sends)
    num_loops: int  # whose operations, traffic and sends are counted once, however often they go round
    peak: float | None  # FLOP/s of one device
    chip: Chip | None

    @property
    def sent(self) -> float:
        return sum(size for _, size in self.collectives.values())

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds of a step by what may bound it, each at the device's published peak (the roofline of Williams et al. 2009); empty where that is not known.

        Compute and interconnect are least times. Memory is XLA's count of what all instructions read and write, part of which never leaves the chip.
        """
        if self.chip is None or self.peak is None:
            return {}
        return {
            "compute": self.flops / self.peak,
            "memory": self.bytes_accessed / self.chip.bandwidth,
            "interconnect": self.sent / self.chip.interconnect,
        }

    @property
    def seconds(self) -> float | None:
        return max(self.bounds.values(), default=None)


def compile_step(cfg: Config, topology: str | None) -> Step:
    """The largest shape of the run's plan, compiled as the run would compile it; nothing is written, and no weights are read.

    topology: a TPU's name and layout, such as "v5e:2x4"; None compiles for the devices that are here. Raises UserError, also where the step needs more memory
    than a device has.
    """
    cfg.check()
    devices = _devices(topology)
    mesh = make_mesh(cfg.mesh, devices)
    checkpoint = cfg.model.open()
    cfg, _ = recipe.of_encoder(cfg, checkpoint)
    inputs = prepare.open_inputs(cfg, checkpoint, poll=lambda: None)
    if "train" not in inputs.items:
        raise UserError("task.train is empty; set --config.task.train=FILE")
    items, task = inputs.items["train"], inputs.task
    cfg, _ = recipe.of_data(cfg, checkpoint, num_examples=len(items))
    num_steps = max(1, prepare.num_steps_of(cfg, items))
    plan = prepare.plan_of(cfg, checkpoint, inputs, mesh, num_steps=num_steps)
    pipeline = Pipeline(items, task.spec(), seed=cfg.seed, num_devices=num_row_shards(mesh), augment=task.augment)

    skeleton = cfg.model.skeleton(checkpoint.config, task.head, where=checkpoint.directory / "config.json")
    tx = make_tx(cfg.optim, make_schedule(cfg.optim, num_steps))
    state = jax.eval_shape(functools.partial(states.create, skeleton.graphdef, tx=tx), skeleton.params)
    shardings = infer(state, skeleton.encoder.sharding, mesh)
    placed = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), state, shardings)
    empty = pipeline.empty(plan.shapes[-1])
    batch = {name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=rows(mesh)) for name, array in empty.items()}
    step = TrainStep(make_loss_fn(task, skeleton.graphdef), tx, seed=cfg.seed, shardings=shardings)
    try:
        programs = [step.compile(placed, batch), step.compile_update(placed)] if plan.fits else [step.compile_accumulation(placed, batch)]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        shape = plan.shapes[-1]
        raise UserError(
            f"{shape.num_rows} rows of {shape.row_length} tokens do not fit {len(devices)} {devices[0].device_kind} devices ({_first_line(error)}); "
            "lower data.max_rows or data.batch_size, set model.remat, or split the parameters with mesh.fsdp"
        ) from None
    num_rows, row_length = batch["input_ids"].shape
    memory, costs = programs[0].memory_analysis(), [program.cost_analysis() for program in programs]
    # What the gradients' program reads and leaves, and the moments, which it does not read and which are held all the same.
    moments = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(placed.opt_state))
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes + moments
    text = "\n".join(program.as_text() for program in programs)
    chip = CHIPS.get(devices[0].device_kind)
    peak = peak_flops(devices) if chip else None  # of no use alone, and a CPU's is measured
    return Step(
        device_kind=devices[0].device_kind,
        num_devices=len(devices),
        mesh={name: int(size) for name, size in mesh.shape.items()},
        num_params=sum(math.prod(leaf.shape) for leaf in flatten(skeleton.params).values()),
        num_rows=num_rows,
        row_length=row_length,
        useful_tokens=items.num_tokens / len(items) * plan.batch_size if plan.fits else num_rows * row_length * (1 - plan.padding_fraction),
        is_part=not plan.fits,
        held=held,
        scratch=max(program.memory_analysis().temp_size_in_bytes for program in programs),
        flops=sum(cost["flops"] for cost in costs),
        bytes_accessed=sum(cost["bytes accessed"] for cost in costs),
        collectives=collectives(text, num_devices=len(devices)),
        num_loops=text.count(" while("),
        peak=peak and peak / len(devices),
        chip=chip,
    )


def collectives(text: str, *, num_devices: int) -> dict[str, tuple[int, float]]:
    """Of a compiled program's text (HLO): kind -> (how many, bytes that one device sends), each over a ring of its group.

    On a ring of n an all-gather, a reduce-scatter or an all-to-all of b bytes sends b (n - 1) / n, and an all-reduce twice that (Patarasuk and Yuan 2009).
    Of a line in a loop one run is counted.
    """
    counts: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for line in text.splitlines():
        found = COLLECTIVE.search(line)
        if not found:
            continue
        kind = found["kind"]
        arrays = [SIZES.get(dtype, 4) * math.prod(int(dim) for dim in dims.split(",") if dim) for dtype, dims in ARRAY.findall(found["result"])]
        # What begins an all-gather or a permute returns its operands too, before its results, and a permute two counters behind them.
        if found["start"] and kind == "all-gather":
            arrays = arrays[len(arrays) // 2 :]
        elif found["start"] and kind == "collective-permute":
            arrays = arrays[1:2]
        num = _group_size(found["rest"], num_devices=num_devices)
        share = {"all-reduce": 2 * (num - 1) / num, "reduce-scatter": num - 1, "collective-permute": 1}.get(kind, (num - 1) / num)
        counts[kind] += 1
        sent[kind] += int(sum(arrays) * share)
    return {kind: (counts[kind], float(sent[kind])) for kind in sorted(counts)}


def _group_size(text: str, *, num_devices: int) -> int:
    """How many devices one collective is among; all where its groups are not said."""
    group = GROUPS.search(text)
    if group is None:
        return num_devices
    if group["size"]:
        return int(group["size"])
    if group["first"]:
        return len(group["first"].split(","))
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", group["mesh"])}
    return math.prod(int(part) if part else sizes[name] for name, part in re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", group["axes"]))


def lines(step: Step) -> list[str]:
    """What a user reads."""
    sizes = ", ".join(f"{name} {size}" for name, size in step.mesh.items() if size > 1) or "one device"
    needs = step.held + step.scratch
    found = [
        f"{step.num_devices} x {step.device_kind} ({sizes}), {step.num_params:,} parameters",
        f"{'one of several micro-batches' if step.is_part else 'largest step'}: {step.num_rows} rows of {step.row_length} tokens, "
        f"{step.useful_tokens:,.0f} tokens of text{' in the mean' if not step.is_part else ''}",
        f"memory: {needs / 1e9:.2f} GB a device ({step.held / 1e9:.2f} of parameters, gradients, optimizer and batch, {step.scratch / 1e9:.2f} of scratch)"
        + ("" if step.chip is None else f", {needs / step.chip.memory:.0%} of its {step.chip.memory / 1e9:.0f} GB"),
        f"computes {step.flops / 1e12:.3f} TFLOP, reads and writes {step.bytes_accessed / 1e9:.2f} GB, sends {step.sent / 1e9:.3f} GB a device",
    ]
    found += [f"  {count} {kind}: {size / 1e6:.1f} MB" for kind, (count, size) in step.collectives.items()]
    if step.chip and step.num_loops:
        found.append(f"note: {step.num_loops} loops that the compiler made are counted as if they went round once")
    if step.bounds and step.seconds:
        bounds = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in step.bounds.items())
        found.append(f"at published peaks: {bounds}")
        found.append(f"roofline: {step.seconds * 1e3:.2f} ms, {step.useful_tokens / step.seconds:,.0f} useful tokens/s")
    return found


def _devices(topology: str | None) -> list[Any]:
    if topology is None:
        return jax.devices()
    jax.config.update("jax_platforms", "cpu")  # or jax asks libtpu for chips that are not here
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import libtpu  # noqa: F401 (what jax loads to compile)
        from jax.experimental import topologies
    except ImportError:
        raise UserError(f"--topology={topology} needs the TPU compiler; pip install flaxft[tpu]") from None
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise UserError(f"--topology={topology} is no TPU that its compiler knows ({_first_line(error)}); give one such as {', '.join(NAMES)}") from None


def _first_line(error: Exception) -> str:
    return printable(str(error).partition("\n")[0])
