"""Useful tokens per second of training NER: flaxft beside PyTorch, and beside the Flax BERT of transformers 4.57. Each run its own process, in turns.

    python benchmarks/train_speed.py --lengths=wnut17 --raw=RAW --data=DATA --model=MODEL --batch_size=32 --rounds=5 --out=speed.json
    ... --lengths=conll2003 --sides flaxft torch torch_128 flaxft_bf16 torch_bf16 flax457 --legacy_python=PYTHON

RAW and DATA are what prepare.py reads and writes, MODEL a checkpoint in the Hugging Face layout. `--lengths=wnut17` is that data set; `--lengths=conll2003` is
words of WikiANN, cut to sentences whose lengths are those of CoNLL-2003 (a lognormal with median 15 and 95th percentile 45, from 4 to 128 tokens), because that
data set is not free. Every side has the same model, batches of as many examples, AdamW, clipping and dropout; what differs is in `SIDES`.

A run compiles only shapes that save it enough, so flaxft computes less padding the longer a run is; what a peer computes a step does not depend on it. With
--own_steps, flaxft's runs have as many steps as users' runs do (321 are three epochs of WNUT-17), and a peer's --num_steps.

The first --skip steps of a run are not counted on any side: kernels, threads, optimizer state and memory come to be there. Only ratios within one round mean
much, and only where others took little: each run tells how many cores others used.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.wnut17 import FILES, cpu_seconds_of_others, execute, load_average, machine, median_range

SIDES = {
    "flaxft": "float32, packed",
    "flaxft_bf16": "bfloat16 products, packed",
    "torch": "float32, padded to the longest",
    "torch_heap": "float32, padded to the longest, with flaxft's malloc settings",
    "torch_128": "float32, padded to 128",
    "torch_bf16": "bfloat16 autocast, padded to the longest",
    "flax457": "float32, padded to 128",
    "flax457_heap": "float32, padded to 128, with flaxft's malloc settings",
}
NUM_SENTENCES = 14_041  # of CoNLL-2003's train split
SHORTEST, LONGEST = 4, 128
# Median and 95th percentile of lengths in tokens with special tokens; WNUT-17's train split has 31 and 51 in bert-base-uncased's vocabulary.
LENGTHS = {"conll2003": (15, 45), "wnut17": (31, 51)}
Z_95 = 1.6449  # of the normal distribution


def drawn_lengths(of: str, num: int, *, seed: int = 0) -> np.ndarray:
    """int (num,): token lengths with special tokens, drawn from a lognormal with the data set's median and 95th percentile."""
    median, percentile_95 = LENGTHS[of]
    normal = np.random.default_rng(seed).standard_normal(num)
    return np.clip(np.round(median * np.exp(normal * math.log(percentile_95 / median) / Z_95)), SHORTEST, LONGEST).astype(int)


def write_conll_lengths(source: Path, model: Path, target: Path) -> None:
    """A column file of WikiANN's words in their order, cut so that each sentence has its length in tokens of the model."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").split("\n") if line]
    words = [pair for record in records for pair in zip(record["tokens"], record["ner_tags"], strict=True) if pair[0].strip()]
    sizes = [len(encoding.ids) for encoding in tokenizer.encode_batch([word for word, _ in words], add_special_tokens=False)]
    at, lines = 0, []
    for length in drawn_lengths("conll2003", NUM_SENTENCES):
        left = length - 2  # [CLS] and [SEP]
        while left > 0:
            word, tag = words[at % len(words)]
            lines.append(f"{word}\t{tag}")
            left -= max(1, sizes[at % len(words)])
            at += 1
        lines.append("")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def command(side: str, args: argparse.Namespace, *, train: Path, seed: int, workdir: str) -> list[str]:
    """Leaves WORKDIR/results.json."""
    shared = [f"--learning_rate={args.learning_rate}", f"--batch_size={args.batch_size}", f"--num_steps={args.num_steps}", f"--seed={seed}"]
    if side.startswith("flaxft"):
        flags = {"workdir": workdir, "config": "configs/ner.py", "config.model.path": args.model, "config.task.train": train, "config.task.validation": ""}
        flags |= {"config.task.test": "", "config.optim.learning_rate": args.learning_rate, "config.num_steps": args.own_steps, "config.seed": seed}
        flags |= {"config.data.batch_size": args.batch_size, "config.data.max_length": 128, "config.log.every": 5}
        flags |= {"config.model.dtype": "bfloat16"} if side.endswith("bf16") else {}
        return [sys.executable, "-m", "flaxft.main", *(f"--{name}={value}" for name, value in flags.items())]
    here = [f"--model={args.model}", f"--train={train}", f"--out={workdir}/results.json", *shared]
    heap = ["--heap"] if side.endswith("_heap") else []
    if side.startswith("flax457"):
        return [str(args.legacy_python), "benchmarks/ner_flax457.py", *here, *heap]
    more = {"torch_128": ["--pad=128"], "torch_bf16": ["--dtype=bf16-autocast"]}.get(side, [])
    return [sys.executable, "benchmarks/ner_pytorch.py", "--max_length=128", "--num_epochs=100", *here, *heap, *more]


def rate(results: dict, *, skip: int) -> float:
    """Useful tokens per second of the steps after the first `skip`."""
    if "windows" in results:  # flaxft: a window is the steps up to its "step"
        spans = [(one["tokens"], one["seconds"]) for one in results["windows"] if one["step"] > skip]
    else:
        spans = list(zip(results["step_tokens"], results["step_seconds"], strict=True))[skip:]
    return sum(tokens for tokens, _ in spans) / sum(seconds for _, seconds in spans)


def table(runs: list[dict]) -> str:
    sides = list(dict.fromkeys(run["side"] for run in runs))
    lines = ["| side | what | useful tokens/s, median (min to max) | padding | others' cores | flaxft's rate over it, median (min to max) |", "|---" * 6 + "|"]
    for side in sides:
        own = [run for run in runs if run["side"] == side]
        ratios = [a["rate"] / b["rate"] for b in own for a in runs if a["side"] == "flaxft" and a["round"] == b["round"]]
        padding, others = statistics.median(run["padding"] for run in own), max(run["others"] for run in own)
        rates = median_range([run["rate"] for run in own], ".0f")
        lines.append(f"| {side} | {SIDES[side]} | {rates} | {padding:.1%} | {others:.2f} | {median_range(ratios, '.2f') if ratios else '-'} |")
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--lengths", choices=list(LENGTHS), required=True)
    parser.add_argument("--raw", type=Path, required=True, help="with wnut17/")
    parser.add_argument("--data", type=Path, required=True, help="with wikiann_en/")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=["flaxft", "torch", "torch_heap"])
    parser.add_argument("--legacy_python", type=Path, help="of the environment that ner_flax457.py names")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_steps", type=int, default=40)
    parser.add_argument("--own_steps", type=int, help="of flaxft's runs; --num_steps where it is not given")
    parser.add_argument("--skip", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    args.raw, args.data, args.model = args.raw.resolve(), args.data.resolve(), args.model.resolve()  # all sides run in the repository root
    if any(side.startswith("flax457") for side in args.sides) and not args.legacy_python:
        parser.error("flax457 needs --legacy_python")
    args.own_steps = args.num_steps if args.own_steps is None else args.own_steps
    if not args.skip < min(args.num_steps, args.own_steps):
        parser.error("--skip has to be below --num_steps and --own_steps")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    here = machine()
    print(", ".join(f"{name} {value}" for name, value in here.items()), flush=True)
    runs: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="train-speed-") as folder:
        train = args.raw / "wnut17" / FILES["train"]
        if args.lengths == "conll2003":
            train = Path(folder, "train.conll")
            write_conll_lengths(args.data / "wikiann_en" / "train.jsonl", args.model, train)
        for number in range(1, args.rounds + 1):
            for side in args.sides if number % 2 else reversed(args.sides):
                with tempfile.TemporaryDirectory(prefix="train-speed-") as workdir:
                    load = load_average()
                    started, others = time.perf_counter(), cpu_seconds_of_others()
                    results = execute(command(side, args, train=train, seed=number, workdir=workdir), workdir=workdir)
                    others = round((cpu_seconds_of_others() - others) / (time.perf_counter() - started), 2)
                found = rate(results, skip=args.skip)
                print(f"round {number}/{args.rounds} {side}: {found:.0f} useful tokens/s, load {load:.2f}, cores used by others {others:.2f}", flush=True)
                runs.append({"side": side, "round": number, "rate": found, "padding": results["padding_fraction"], "load_before": load, "others": others})
                runs[-1]["memory_bytes"] = results.get("memory_bytes")
                temporary = args.out.with_name(f"{args.out.name}.tmp")
                temporary.write_text(json.dumps({"machine": here, "args": vars(args), "runs": runs}, indent=1, default=str))
                os.replace(temporary, args.out)
    print(f"\n{table(sorted(runs, key=lambda run: (run['round'], args.sides.index(run['side']))))}")
    memory = {side: [run["memory_bytes"] / 1e6 for run in runs if run["side"] == side and run["memory_bytes"]] for side in args.sides}
    shown = [f"{side} {median_range(found, '.0f')}" for side, found in memory.items() if found]
    print(f"\nresident after the last step, MB: {', '.join(shown)}")


if __name__ == "__main__":
    main()
