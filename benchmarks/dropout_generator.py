"""Training with dropout's own generator beside jax's default one (threefry): losses and dev F1 over seeds. It converges alike, or this shows it.

    python benchmarks/dropout_generator.py --data=DATA --seeds 1 2 3 4 5 --out=dropout.json

DATA holds the three files of WNUT-17 as published. The model is the package's small encoder (or --model), the recipe that of configs/ner.py: dropout 0.1 in
every layer. Both runs of a seed have the same items, rows and first weights, and differ in the masks alone. Speed is not measured here: see
`flaxft/ops/dropout.py`. t is the mean difference of the pairs over its standard error: beyond about 2.8 (5 seeds) chance would be a poor explanation.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.wnut17 import FILES, ROOT, machine

LAST = 50  # steps whose mean loss is the loss at the end


def train(args: argparse.Namespace, *, seed: int, workdir: Path) -> dict[str, Any]:
    """One run; the mean loss of its first and last steps, and its scores."""
    import flaxft
    from flaxft.command import from_file

    cfg = from_file(str(ROOT / "configs" / "ner.py"))
    cfg.task.train, cfg.task.validation, cfg.task.test = (str(args.data / FILES[split]) for split in ("train", "validation", "test"))
    cfg.seed, cfg.log.report, cfg.num_epochs = seed, False, args.num_epochs
    if args.model:
        cfg.model.path, cfg.optim.learning_rate = str(args.model), args.learning_rate
    results = flaxft.run(cfg, str(workdir))
    losses = [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    scores = {split: 100 * results["evals"][split]["entity_f1"] for split in ("validation", "test")}
    return {"first": statistics.mean(losses[:LAST]), "last": statistics.mean(losses[-LAST:])} | scores


def default_bits(key: Any, shape: tuple[int, ...]) -> Any:
    """What `flaxft.ops.dropout.random_bits` would be with jax's own generator."""
    import jax

    return jax.random.bits(key, shape, "uint32")


def compare(run: Callable[[int], dict[str, float]], seeds: Sequence[int]) -> dict[str, list[dict[str, float]]]:
    """{"own": one result a seed, "default": ...}; the two runs of a seed in turns."""
    from flaxft.ops import dropout

    found: dict[str, list[dict[str, float]]] = {"own": [], "default": []}
    for number, seed in enumerate(seeds):
        for name in list(found) if number % 2 == 0 else reversed(list(found)):
            bits = dropout.random_bits if name == "own" else default_bits
            with mock.patch.object(dropout, "random_bits", bits):
                found[name].append(run(seed))
            print(f"seed {seed}, {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found[name][-1].items()), flush=True)
    return found


def table(found: dict[str, list[dict[str, float]]]) -> str:
    names = {"first": f"mean loss, first {LAST} steps", "last": f"mean loss, last {LAST} steps", "validation": "dev F1", "test": "test F1"}
    lines = ["| | own generator, mean ± sd | threefry, mean ± sd | mean difference | t |", "|---" * 5 + "|"]
    for key, name in names.items():
        own, default = ([one[key] for one in found[side]] for side in ("own", "default"))
        differences = [a - b for a, b in zip(own, default, strict=True)]
        mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
        digits = 4 if "loss" in name else 1
        shown = [f"{statistics.mean(side):.{digits}f} ± {statistics.stdev(side):.{digits}f}" for side in (own, default)]
        lines.append(f"| {name} | {shown[0]} | {shown[1]} | {mean:+.{digits}f} | {mean / error if error else 0.0:+.1f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="with WNUT-17's files")
    parser.add_argument("--model", type=Path, help="a checkpoint in the Hugging Face layout, instead of the package's encoder")
    parser.add_argument("--learning_rate", type=float, default=5e-5, help="with --model")
    parser.add_argument("--num_epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if len(args.seeds) < 2:
        parser.error("--seeds needs two or more, or there is no spread")
    importlib.import_module("flaxft")  # before jax
    with tempfile.TemporaryDirectory(prefix="dropout-") as folder:
        numbers = iter(range(1 << 20))
        found = compare(lambda seed: train(args, seed=seed, workdir=Path(folder, str(next(numbers)))), args.seeds)
    args.out.write_text(json.dumps({"machine": machine(), "args": vars(args), "found": found}, indent=1, default=str))
    print(f"\n{table(found)}")


if __name__ == "__main__":
    main()
