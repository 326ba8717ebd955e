"""What checkpoints cost: the same run with one save per 50 steps and with none, in turns. Prints a table, keeps every run in --out.

    python -m benchmarks.save_cost --data=WNUT17 --model=MODEL --rounds=3 --out=save.json

Blocked is the time that the loop spends in `save` and in waiting for the save before it; throughput is wall time of the steps between the first tenth and the
end, saves and all. Then the last checkpoint is verified alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.wnut17 import FILES, ROOT, machine, spread


def child(args: argparse.Namespace) -> dict[str, Any]:
    """One run in this process."""
    from flaxft.checkpoint import Checkpointer, verify
    from flaxft.command import apply_overrides, from_file
    from flaxft.train.loop import run
    from flaxft.train.meter import Meter

    blocked, ends = [0.0], []

    def timed(name: str) -> None:
        inner = getattr(Checkpointer, name)

        def outer(self: Any, *arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(self, *arguments, **options)
            finally:
                blocked[0] += time.perf_counter() - began

        setattr(Checkpointer, name, outer)

    timed("save")  # which waits for the one before
    add = Meter.add
    Meter.add = lambda self, step, *rest: (ends.append((time.perf_counter(), blocked[0])), add(self, step, *rest))[1]  # type: ignore[assignment, method-assign]
    cfg = from_file("configs/ner.py")
    data = {f"task.{split}": args.data / FILES[split] for split in ("train",)}
    flags = {"model.path": args.model, "task.validation": "", "task.test": "", "num_steps": args.num_steps, "checkpoint.every": args.every} | data
    apply_overrides(cfg, [f"--config.{name}={value}" for name, value in flags.items()])
    cfg.evals = {}
    with tempfile.TemporaryDirectory(prefix="save-cost-") as workdir:
        run(cfg, workdir)
        target = Path(workdir) / "checkpoints" / str(args.num_steps)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        began = time.perf_counter()
        verify(target)
        verifying = time.perf_counter() - began
    (begin, blocked_before), (end, blocked_after) = ends[args.num_steps // 10], ends[-1]
    return {"seconds": end - begin, "blocked": blocked_after - blocked_before, "bytes": size, "verify_seconds_per_gb": verifying / size * 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--num_steps", type=int, default=170)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, help="of the child")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.every:
        args.out.write_text(json.dumps(child(args)))
        return
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for every in (50, 100_000) if number % 2 else (100_000, 50):
                out = Path(folder) / "child.json"
                command = [sys.executable, "-m", "benchmarks.save_cost", f"--data={args.data}", f"--model={args.model}", f"--num_steps={args.num_steps}"]
                subprocess.run([*command, f"--every={every}", f"--out={out}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
                runs.append({"round": number, "every": every} | json.loads(out.read_text()))
                print(runs[-1], flush=True)
                args.out.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1))
    with_saves = [run for run in runs if run["every"] == 50]
    slower = [a["seconds"] / b["seconds"] - 1 for a, b in zip(with_saves, [run for run in runs if run["every"] != 50], strict=True)]
    print(f"blocked: {statistics.median(run['blocked'] / run['seconds'] for run in with_saves):.1%} of the time")
    print(f"slower by {spread([100 * one for one in slower], '.1f')} %")
    print(f"verifying: {statistics.median(run['verify_seconds_per_gb'] for run in runs):.2f} s a GB of {with_saves[0]['bytes'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
