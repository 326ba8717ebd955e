"""WNUT-17 entities: flaxft beside PyTorch, run in turns on one machine, each run its own process. Prints a markdown table, writes every run to --out.

    python benchmarks/wnut17.py --data=DATA --model=MODEL --seeds 1 2 3 --out=quality.json

DATA holds the three files of the task as its authors publish them, MODEL a checkpoint in the Hugging Face layout. Both sides train to the end; dev and
test entity F1 are those of the best epoch's weights. Speed is measured by train_speed.py; the rates here are of train steps alone, without torch's first
two, and only ratios within one round mean much. Where others take a core, torch can slow down far more than its share, which flatters flaxft. So each run
also tells how many cores others used while it ran; rounds above about 0.2 should be run again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {"train": "wnut17train.conll.gz", "validation": "emerging.dev.conll.gz", "test": "emerging.test.annotated.gz"}
RATE = "useful_tokens_per_second"


def commands(args, *, seed: int, workdir: str) -> dict[str, list[str]]:
    """The command of each side, in the order of the turns. All of them leave WORKDIR/results.json."""
    paths = {split: str(args.data / name) for split, name in FILES.items()}
    flaxft = [sys.executable, "-m", "flaxft.main", "--config=configs/ner.py", f"--workdir={workdir}", f"--config.model.path={args.model}"]
    flaxft += [f"--config.task.{split}={path}" for split, path in paths.items()]
    flaxft += [f"--config.optim.learning_rate={args.learning_rate}", f"--config.num_epochs={args.num_epochs}", f"--config.seed={seed}"]
    flaxft += [f"--config.data.batch_size={args.batch_size}", f"--config.data.max_length={args.max_length}"]
    torch = [sys.executable, "benchmarks/ner_pytorch.py", f"--model={args.model}", f"--out={workdir}/results.json", f"--seed={seed}"]
    torch += [f"--{k}={getattr(args, k)}" for k in ("learning_rate", "num_epochs", "batch_size", "max_length")]
    torch += [f"--{split}={path}" for split, path in paths.items()]
    return {"flaxft": [*flaxft, *shlex.split(args.flaxft_args)], "torch": [*torch, *shlex.split(args.torch_args)]}


def execute(command: list[str], *, workdir: str) -> dict:
    """Runs one side and returns its results.json. A run that fails ends the benchmark with the last lines it printed."""
    log = Path(workdir, "log.txt")
    with log.open("w") as f:
        code = subprocess.run(command, cwd=ROOT, stdout=f, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        sys.exit(f"{shlex.join(command)}\nexit code {code}:\n{tail}")
    return json.loads(Path(workdir, "results.json").read_text())


def load_average() -> float:
    """Of one minute; the side that ran before is still in it."""
    return round(os.getloadavg()[0], 2)


def cpu_seconds_of_others() -> float:
    """CPU seconds that everybody but this process and its finished children has used since boot; nan where there is no /proc/stat."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return math.nan
    user, nice, system, _, _, irq, softirq, steal, *_ = (int(v) / os.sysconf("SC_CLK_TCK") for v in stat.read_text().split("\n")[0].split()[1:])
    own = os.times()
    return user + nice + system + irq + softirq + steal - own.user - own.system - own.children_user - own.children_system


def machine() -> dict[str, str | int]:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    versions = {p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "flax", "torch", "transformers")}
    return {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count() or 0, "python": platform.python_version()} | versions


# ---------------------------------------------------------------------------------------------------------------------------- tables


def spread(values: list[float], form: str) -> str:
    """Mean, sample standard deviation and the values themselves."""
    deviation = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation} ({', '.join(f'{v:{form}}' for v in values)})"


def median_range(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(runs: list[dict], over: str) -> list[float]:
    """flaxft's rate over `over`'s, one number for each round."""
    rates = {(r["round"], r["side"]): r["results"][RATE] for r in runs}
    return [rate / rates[n, over] for (n, side), rate in rates.items() if side == "flaxft"]


def quality_table(runs: list[dict], sides: list[str]) -> str:
    lines = ["| side | dev F1, mean ± sd | test F1, mean ± sd | steps | train s | useful tokens/s | padding | compiles after start | others' cores |"]
    lines.append("|---" * 9 + "|")
    for side in sides:
        results = [r["results"] for r in runs if r["side"] == side]
        dev, test = (spread([100 * r["evals"][split]["entity_f1"] for r in results], ".2f") for split in ("validation", "test"))
        seconds, rate, padding = (statistics.median(r[k] for r in results) for k in ("seconds", RATE, "padding_fraction"))
        steps = ", ".join(str(s) for s in sorted({r["steps"] for r in results}))
        compiles = max((r["compiles_after_start"] for r in results if "compiles_after_start" in r), default="-")
        others = max(r["others"] for r in runs if r["side"] == side)
        lines.append(f"| {side} | {dev} | {test} | {steps} | {seconds:.0f} | {rate:.0f} | {padding:.3f} | {compiles} | {others:.2f} |")
    return "\n".join(lines)


def ratio_table(runs: list[dict], sides: list[str]) -> str:
    """Useful tokens per second of flaxft over each other side, pair by pair."""
    lines = ["| useful tokens/s | median (min to max) | each round |", "|---|---|---|"]
    for side in sides[1:]:
        values = ratios(runs, side)
        lines.append(f"| flaxft / {side} | {median_range(values, '.2f')} | {', '.join(f'{v:.2f}' for v in values)} |")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------------------------ main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help=f"directory of {', '.join(FILES.values())}")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one round each")
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--num_epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--flaxft_args", default="", help="more flags for flaxft, in one string")
    parser.add_argument("--torch_args", default="", help="more flags for ner_pytorch.py, in one string")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, written anew after every run")
    args = parser.parse_args(argv)
    args.data, args.model = args.data.resolve(), args.model.resolve()  # both sides run in the repository root
    missing = [str(p) for p in (args.model, *(args.data / name for name in FILES.values())) if not p.exists()]
    if missing:
        parser.error(f"not found: {', '.join(missing)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    here = machine()
    print(", ".join(f"{k} {v}" for k, v in here.items()), flush=True)
    rounds = args.seeds
    runs, sides = [], []
    for n, seed in enumerate(rounds, start=1):
        sides = list(commands(args, seed=seed, workdir=""))
        for side in sides:
            with tempfile.TemporaryDirectory(prefix="wnut17-") as workdir:
                load = load_average()
                print(f"round {n}/{len(rounds)} seed {seed} {side}: load average {load:.2f}", end="", flush=True)
                started, others = time.perf_counter(), cpu_seconds_of_others()
                results = execute(commands(args, seed=seed, workdir=workdir)[side], workdir=workdir)
                others = round((cpu_seconds_of_others() - others) / (time.perf_counter() - started), 2)
            print(f", {results[RATE]:.0f} useful tokens/s, cores used by others {others:.2f}", flush=True)
            runs.append({"side": side, "round": n, "seed": seed, "load_before": load, "others": others, "results": results})
            args.out.write_text(json.dumps({"machine": here, "args": vars(args), "runs": runs}, indent=1, default=str))
    summary = {f"flaxft / {side}": ratios(runs, side) for side in sides[1:]}
    args.out.write_text(json.dumps({"machine": here, "args": vars(args), "ratios": summary, "runs": runs}, indent=1, default=str))
    print(f"\n{quality_table(runs, sides)}\n\n{ratio_table(runs, sides)}")


if __name__ == "__main__":
    main()
