"""What a plan wastes: rows, row length and token efficiency on 1, 8 and 32 devices, beside what padding wastes. Lengths alone, nothing is timed or trained.

    python benchmarks/plan_waste.py --raw=RAW --model=MODEL

RAW is what prepare.py reads, with wnut17/; MODEL a checkpoint in the Hugging Face layout, whose tokenizer gives WNUT-17 its lengths and whose hidden size
the plan's cost goes by. CoNLL-2003's lengths are those that train_speed.py draws. The plan is the one that a run of 3 epochs would write to plan.json, and
all steps of those epochs are looked at, the short ones at the end of an epoch too.

* shapes: rows x tokens of a row, in the order in which a step tries them; filled up with empty rows to a multiple of the devices.
* rows: of a step that hold an example, mean (largest) over the steps.
* efficiency = useful tokens / positions computed, both summed over the steps.
* fills from: where no step has a row for every device, the batch size that the log of a run names (the batch size x devices / the most rows), and the
  efficiency of a plan with it.
* PyTorch pads the very same batches to their longest example, or to 128 tokens, on any number of devices.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train_speed import NUM_SENTENCES, drawn_lengths
from benchmarks.wnut17 import FILES, ROOT

if TYPE_CHECKING:
    from flaxft.data.packing import Plan

BATCH_SIZES, DEVICES = (32, 256), (1, 8, 32)
NUM_EPOCHS, MAX_LENGTH = 3, 128
SEED = 0


class Waste(NamedTuple):
    """Of all steps of a plan."""

    plan: Plan
    rows: float  # that a step needs, mean
    most_rows: int
    efficiency: float
    longest: float  # the efficiency of the same batches padded to their longest example


def wnut17_lengths(file: Path, model: Path) -> np.ndarray:
    """int (num,): tokens of each sentence, as a run on this file has them."""
    from flaxft.command import from_file
    from flaxft.data.items import build_items
    from flaxft.data.tokenize import load_tokenizer
    from flaxft.models.hf import Pretrained

    task = from_file(str(ROOT / "configs" / "ner.py")).task
    task.train, task.validation, task.test = str(file), "", ""
    checkpoint = Pretrained(path=str(model)).open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
    task = task.resolve(tokenizer, checkpoint)
    return build_items(task.records("train"), task, tokenizer, max_length=MAX_LENGTH, key="plan_waste", use_cache=False).lengths


def waste(lengths: np.ndarray, *, batch_size: int, num_devices: int, hidden_size: int) -> Waste:
    """One example an item."""
    from flaxft.data.packing import items_of_step, make_plan, round_up, rows_of_step
    from flaxft.data.pipeline import Data

    starts = np.arange(len(lengths) + 1)
    num_steps = NUM_EPOCHS * math.ceil(len(lengths) / batch_size)
    shape = {"num_devices": num_devices, "hidden_size": hidden_size, "num_shapes": Data().num_shapes}
    plan = make_plan(lengths, starts, fingerprint="", batch_size=batch_size, num_steps=num_steps, seed=SEED, **shape)
    needed, positions, padded, tokens = [], 0, 0, 0
    for step in range(num_steps):
        micro_batches = rows_of_step(plan, lengths, starts, seed=SEED, step=step)
        needed.append(sum(len(one.features) for one in micro_batches))
        positions += sum(round_up(one.shape.num_rows, num_devices) * one.shape.row_length for one in micro_batches)
        of_step = lengths[items_of_step(plan, seed=SEED, step=step)]
        tokens += int(of_step.sum())
        padded += int(of_step.max()) * len(of_step)
    return Waste(plan, float(np.mean(needed)), max(needed), tokens / positions, tokens / padded)


def table(lengths_of: dict[str, np.ndarray], *, hidden_size: int) -> str:
    heads = ["lengths", "batch size", "devices", "shapes", "rows", "efficiency", "examples a device", "fills from", "to the longest", "to 128"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, lengths in lengths_of.items():
        for batch_size in BATCH_SIZES:
            for num_devices in DEVICES:
                found = waste(lengths, batch_size=batch_size, num_devices=num_devices, hidden_size=hidden_size)
                fills = "-"
                if found.most_rows < num_devices:
                    larger = math.ceil(batch_size * num_devices / found.most_rows)
                    there = waste(lengths, batch_size=larger, num_devices=num_devices, hidden_size=hidden_size)
                    fills = f"{larger} ({there.efficiency:.1%})"
                shapes = ", ".join(f"{one.num_rows} x {one.row_length}" for one in found.plan.shapes)
                cells = [name, batch_size, num_devices, shapes, f"{found.rows:.1f} ({found.most_rows})", f"{found.efficiency:.1%}"]
                cells += [f"{batch_size / num_devices:g}", fills, f"{found.longest:.1%}", f"{lengths.mean() / MAX_LENGTH:.1%}"]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--raw", type=Path, required=True, help="with wnut17/")
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args(argv)
    importlib.import_module("flaxft")  # before jax
    from flaxft.models.hf import Pretrained

    lengths_of = {"WNUT-17": wnut17_lengths(args.raw / "wnut17" / FILES["train"], args.model), "CoNLL-2003": drawn_lengths("conll2003", NUM_SENTENCES)}
    for name, lengths in lengths_of.items():
        spread = f"mean {lengths.mean():.1f}, 95th percentile {np.percentile(lengths, 95):.0f}, longest {lengths.max()}"
        print(f"{name}: {len(lengths):,} sentences, tokens {spread}")
    print(f"\n{table(lengths_of, hidden_size=Pretrained(path=str(args.model)).open().encoder.hidden_size)}")


if __name__ == "__main__":
    main()
