"""What evaluation costs beside its forward passes: decoding, the metric with its bootstrap interval. In turns, in one process.

    python benchmarks/eval_speed.py --data=DATA --num_sentences=100000 --rounds=3

DATA is what prepare.py wrote; sentences are WikiANN's, again and again. --model is by default the packaged encoder, the fastest there is, so the share is the
largest: of a larger encoder's passes it is less.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.input_speed import write_records

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default=str(ROOT / "flaxft" / "encoder"))
    parser.add_argument("--num_sentences", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    importlib.import_module("flaxft")  # before jax
    import jax

    from flaxft.command import from_file
    from flaxft.data.pipeline import Pipeline
    from flaxft.sharding import make_mesh
    from flaxft.train.evaluate import Evaluator, eval_shape
    from flaxft.train.prepare import open_inputs

    with tempfile.TemporaryDirectory(prefix="eval-speed-") as folder:
        file = Path(folder, "train.jsonl")
        write_records(args.data / "wikiann_en" / "train.jsonl", file, args.num_sentences)
        cfg = from_file(str(ROOT / "configs" / "ner.py"))
        cfg.task.train, cfg.task.validation, cfg.task.test, cfg.task.text_columns = str(file), "", "", ("tokens",)
        cfg.model.path, cfg.data.cache = args.model, False
        checkpoint = cfg.model.open()
        inputs = open_inputs(cfg, checkpoint, poll=lambda: None)
    items, records = inputs.items["train"], inputs.records["train"]
    loaded = cfg.model.load(checkpoint, inputs.task.head, reuse_head=False, seed=0)
    mesh = make_mesh(cfg.mesh)
    shape = eval_shape([items], tokens=cfg.data.eval_tokens, mesh=mesh, hidden_size=checkpoint.encoder.hidden_size, num_slots=None)
    evaluator = Evaluator(inputs.task, loaded.graphdef, mesh)
    params, pipeline = jax.tree.map(jax.numpy.asarray, loaded.params), Pipeline(items, inputs.task.spec(), seed=0)
    evaluator.compile(params, {}, pipeline, shape)
    ratios = []
    for number in range(1, args.rounds + 1):
        began = time.perf_counter()
        for _ in evaluator._forward(params, {}, pipeline, shape):
            pass
        forward = time.perf_counter() - began
        began = time.perf_counter()
        evaluator.evaluate(params, {}, items, records, shape)
        whole = time.perf_counter() - began
        ratios.append(whole / forward)
        print(f"round {number}: forward passes {forward:.1f} s, evaluation {whole:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"{len(records):,} sentences, {items.num_tokens:,} tokens: median ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
