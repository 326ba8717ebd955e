"""One config under several seeds: a run each, one after the other, and what their scores have in common."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from flaxft import files
from flaxft.compare import mean_and_spread, spread_of_seeds
from flaxft.config import Config
from flaxft.errors import UserError
from flaxft.log import Writer
from flaxft.train.loop import run


def run_seeds(cfg: Config, workdir: Path, *, num: int) -> dict[str, Any]:
    """Runs the seeds 1 to `num` in workdir/seed-1, seed-2, ... and writes workdir/seeds.json, which it returns.

    Run again, each goes on from where it was; one that is finished is scored again, and not trained. Raises what `run` raises.
    """
    if (workdir / "config.json").exists():
        raise UserError(f"{workdir} holds a single run; give --seeds another --workdir")
    writer = Writer(None)
    results = {}
    for seed in range(1, num + 1):
        writer.line(f"seed {seed} of {num}: {workdir / f'seed-{seed}'}")
        one = copy.deepcopy(cfg)
        one.seed = seed
        results[seed] = run(one, workdir / f"seed-{seed}")
    found = spread_of_seeds(results)
    files.write_json(workdir / "seeds.json", found)
    writer.line(f"\n{num} seeds, mean and sample standard deviation\n")
    rows = []
    for split, scores in found["evals"].items():
        for metric, one in scores.items():
            if "/" not in metric and not metric.startswith("num_"):
                rows.append((f"{split} {metric}", mean_and_spread(one["values"]), "  ".join(f"{value:.4f}" for value in one["values"])))
    width = max((len(name) for name, *_ in rows), default=0)
    for name, spread, values in rows:
        writer.line(f"{name:<{width}}  {spread:<16}  {values}")
    writer.line(f"\nresults in {workdir / 'seeds.json'}")
    return found
