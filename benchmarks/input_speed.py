"""The input pipeline alone: how fast tokenised data becomes batches, and what memory and tokenising cost as the records grow.

    python benchmarks/input_speed.py --data=DATA --model=MODEL --num_records 10000 100000 1000000 --out=input.json

DATA is what prepare.py wrote (WikiANN's words, again and again with a number in each sentence, so that no two are the same). Each size is a process of its own;
it tokenises the file into an empty cache, opens it once more from the cache, and makes batches of 32 examples as training does, on one thread.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
NUM_BATCHES = 300


def resident_megabytes() -> float:
    """Pages of the process that no file backs: what it holds itself, without the mapped cache."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * mmap.PAGESIZE / 1e6


def write_records(source: Path, target: Path, num_records: int) -> None:
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").split("\n") if line]
    with target.open("w", encoding="utf-8") as out:
        for number in range(num_records):
            record = records[number % len(records)]
            out.write(json.dumps({"tokens": [str(number), *record["tokens"]], "ner_tags": ["O", *record["ner_tags"]]}, ensure_ascii=False) + "\n")


def measure(file: Path, model: str, cache: Path) -> dict[str, Any]:
    """Of one file, in this process."""
    importlib.import_module("flaxft.runtime")
    from flaxft import worker
    from flaxft.command import from_file
    from flaxft.data.items import build_items
    from flaxft.data.packing import make_plan
    from flaxft.data.pipeline import Data, Pipeline, workload
    from flaxft.data.tokenize import load_tokenizer
    from flaxft.models.hf import Pretrained

    task = from_file(str(ROOT / "configs" / "ner.py")).task
    task.train, task.validation, task.test, task.text_columns = str(file), "", "", ("tokens",)
    checkpoint = Pretrained(path=model).open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
    task = task.resolve(tokenizer, checkpoint)
    records = task.records("train")
    begin = resident_megabytes()
    seconds = []
    for _ in range(2):  # the second finds it done
        began, cpu = time.perf_counter(), sum(os.times()[:4])
        start_workers = functools.partial(worker.start, task=task, tokenizer=tokenizer)
        items = build_items(records, task, tokenizer, max_length=128, key="input_speed", cache=cache, start_workers=start_workers)
        seconds.append((time.perf_counter() - began, sum(os.times()[:4]) - cpu))
    shape = {"num_steps": NUM_BATCHES, "seed": 0, "num_devices": 1, "hidden_size": checkpoint.encoder.hidden_size, "num_shapes": Data().num_shapes}
    plan = make_plan(items.lengths, items.item_starts, fingerprint=items.fingerprint, batch_size=32, **shape)
    pipeline = Pipeline(items, task.spec(), seed=0)
    pipeline.batch(plan, 0)
    began, tokens = time.perf_counter(), 0
    for step in range(NUM_BATCHES):
        tokens += workload(pipeline.batch(plan, step)).tokens
    per_batch = (time.perf_counter() - began) / NUM_BATCHES
    return {
        "tokens": items.num_tokens,
        "tokenise_seconds": seconds[0][0],
        "cores_while_tokenising": seconds[0][1] / seconds[0][0],
        "open_seconds": seconds[1][0],
        "batch_milliseconds": per_batch * 1e3,
        "tokens_per_second": tokens / NUM_BATCHES / per_batch,
        "own_megabytes": resident_megabytes(),
        "own_megabytes_before": begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--num_records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.file:
        args.out.write_text(json.dumps(measure(args.file, args.model, args.file.parent / "cache")))
        return
    found = {}
    print("| records | tokens | tokenise s (cores) | open from cache s | batch ms | tokens/s of batches | own memory MB |\n|---|---|---|---|---|---|---|")
    for num_records in args.num_records:
        with tempfile.TemporaryDirectory(prefix="input-speed-") as folder:
            file, out = Path(folder, "train.jsonl"), Path(folder, "out.json")
            write_records(args.data / "wikiann_en" / "train.jsonl", file, num_records)
            command = [sys.executable, __file__, f"--data={args.data}", f"--model={args.model}", f"--file={file}", f"--out={out}"]
            subprocess.run(command, check=True)
            one = found[num_records] = json.loads(out.read_text())
        tokenise = f"{one['tokenise_seconds']:.1f} ({one['cores_while_tokenising']:.1f})"
        speed = f"{one['batch_milliseconds']:.2f} | {one['tokens_per_second']:,.0f}"
        print(f"| {num_records:,} | {one['tokens']:,} | {tokenise} | {one['open_seconds']:.2f} | {speed} | {one['own_megabytes']:.0f} |", flush=True)
    args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
