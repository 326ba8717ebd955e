"""Useful tokens per second of inference over texts of mixed lengths: flaxft's packed forward beside PyTorch and ONNX Runtime, in turns.

    python benchmarks/predict_speed.py --lengths=wnut17 --raw=RAW --data=DATA --model=MODEL --rounds=5 --out=predict.json
    ... --lengths=conll2003

RAW, DATA, MODEL and --lengths are those of train_speed.py. MODEL gets a random token classification head; all sides have the same float32 weights, and nothing
is timed unless their logits of the first packed batch agree within 1e-4.

What is timed is one pass over the first --num_texts texts, after one that is not: from token ids on the host to the label and the score (softmax) of each token
on the host, without tokenising and decoding, alike on all sides. flaxft packs and runs what `Predictor` does, its loss terms included. PyTorch (transformers,
inference_mode) and ONNX Runtime (the graph of --target=onnx) take batches of 32 texts, sorted by length and padded to their longest; sorting and padding are
timed, as our packing is. Useful tokens are those of the texts with [CLS] and [SEP]. Each run is a process of its own, with each library's default threads.

Only ratios within one round mean much, and only where others took little: each run tells how many cores others used. Targets: 1.5 times PyTorch, 1.0 times
ONNX Runtime.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train_speed import write_conll_lengths
from benchmarks.wnut17 import FILES, cpu_seconds_of_others, execute, load_average, machine, median_range

SIDES = {
    "flaxft": "packed rows",
    "torch": "sorted, padded to the longest",
    "torch_heap": "sorted, padded to the longest, with flaxft's malloc settings",
    "onnx": "ONNX Runtime; sorted, padded to the longest",
}
TARGETS = {"torch": 1.5, "torch_heap": 1.5, "onnx": 1.0}
BATCH_SIZE = 32
BOUND = 1e-4  # of a difference of two logits
MODEL, GRAPH, IDS = "model", "graph", "ids.npz"  # in the folder that all runs share

Ids = list[np.ndarray]  # of each example, int32 (n,)
Logits = Callable[[np.ndarray, np.ndarray], np.ndarray]  # input_ids and attention_mask (B, T) -> (B, T, L)

# ------------------------------------------------------------------------------------------------------------------------------ the sides


def our_items(folder: Path, train: Path, num_texts: int) -> tuple[Any, Any, Any]:
    """Predictor, items and the shape of its batches."""
    from flaxft.predict import load
    from flaxft.tasks.token_classification import TokenClassification

    records = TokenClassification(train=str(train)).records("train", max_examples=num_texts)
    predictor = load(str(folder / MODEL), task=TokenClassification())
    return predictor, *predictor._items(records, use_cache=False)


def our_pass(folder: Path, train: Path, num_texts: int) -> Callable[[], int]:
    """A pass over all texts; returns how many positions were computed."""
    from flaxft.data.pipeline import Pipeline

    predictor, items, shape = our_items(folder, train, num_texts)
    pipeline, evaluator = Pipeline(items, predictor.task.spec(), seed=0), predictor._evaluator
    evaluator.compile(predictor.params, {}, pipeline, shape)

    def one_pass() -> int:
        return sum(batch["input_ids"].size for batch, _ in evaluator._forward(predictor.params, {}, pipeline, shape))

    return one_pass


def sorted_batches(ids: Ids) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Numbers of the examples, input_ids and attention_mask, int64 (B, T) as both peers want them."""
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for start in range(0, len(order), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        input_ids = np.zeros((len(chosen), len(ids[chosen[-1]])), np.int64)
        mask = np.zeros_like(input_ids)
        for row, number in enumerate(chosen):
            input_ids[row, : len(ids[number])], mask[row, : len(ids[number])] = ids[number], 1
        yield chosen, input_ids, mask


def torch_model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(folder / MODEL, dtype=torch.float32, local_files_only=True).eval()


def torch_pass(folder: Path) -> Callable[[], int]:
    import torch

    model, ids = torch_model(folder), read_ids(folder)

    @torch.inference_mode()
    def one_pass() -> int:
        positions = 0
        for _, input_ids, mask in sorted_batches(ids):
            logits = model(input_ids=torch.from_numpy(input_ids), attention_mask=torch.from_numpy(mask)).logits
            scores, labels = logits.softmax(-1).max(-1)
            scores.numpy(), labels.numpy()
            positions += input_ids.size
        return positions

    return one_pass


def onnx_logits(folder: Path) -> Logits:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / GRAPH / "model.onnx"), providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}  # a graph has no input that it does not use

    def logits(input_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        feed = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        return session.run(None, {name: array for name, array in feed.items() if name in wanted})[0]

    return logits


def onnx_pass(folder: Path) -> Callable[[], int]:
    logits, ids = onnx_logits(folder), read_ids(folder)

    def one_pass() -> int:
        positions = 0
        for _, input_ids, mask in sorted_batches(ids):
            found = logits(input_ids, mask)
            found.argmax(-1)
            1 / np.exp(found - found.max(-1, keepdims=True)).sum(-1)  # the softmax of the largest
            positions += input_ids.size
        return positions

    return one_pass


# ------------------------------------------------------------------------------------------------------------------- what they have alike


def read_ids(folder: Path) -> Ids:
    with np.load(folder / IDS) as file:
        return np.split(file["ids"], np.cumsum(file["lengths"])[:-1])


def prepare(folder: Path, train: Path, model: Path, num_texts: int) -> dict[str, Any]:
    """Fills the folder: a model with a random head, its graph, the token ids. Returns by how much the sides' logits differ."""
    importlib.import_module("flaxft")  # before jax
    from flaxft.data.tokenize import load_tokenizer, save_tokenizer
    from flaxft.export.onnx import make_graph
    from flaxft.models import hf
    from flaxft.tasks.token_classification import TokenClassification

    source = hf.Pretrained(path=str(model))
    checkpoint = source.open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
    task = TokenClassification(train=str(train)).resolve(tokenizer, checkpoint)
    loaded = source.load(checkpoint, task.head, reuse_head=False, seed=0)
    hf.write(folder / MODEL, loaded.params, loaded.encoder, checkpoint.config, kind=task.kind, labels=task.labels)
    save_tokenizer(tokenizer, checkpoint.directory, folder / MODEL)
    predictor, items, shape = our_items(folder, train, num_texts)
    (folder / GRAPH).mkdir()
    make_graph(predictor, folder / GRAPH)
    ids = [np.asarray(items.feature(number).tokens["input_ids"]) for number in range(len(items.lengths))]
    np.savez(folder / IDS, ids=np.concatenate(ids), lengths=items.lengths)
    return {"num_examples": len(ids), "tokens": int(items.lengths.sum()), "differences": differences(folder, predictor, items, shape, ids)}


def differences(folder: Path, predictor: Any, items: Any, shape: Any, ids: Ids) -> dict[str, float]:
    """The largest difference of two logits over the examples of the first packed batch."""
    import jax
    import torch
    from flax import nnx

    from flaxft.data.pipeline import Pipeline

    pipeline = Pipeline(items, predictor.task.spec(), seed=0)
    batch = next(pipeline.once(shape))
    outputs = np.asarray(jax.jit(lambda params, batch: nnx.merge(predictor.graphdef, params)(batch, deterministic=True))(predictor.params, batch))
    places = list(zip(*np.nonzero(batch["example_weight"]), strict=True))
    numbers = [int(batch["example_id"][place]) for place in places]
    starts = [int(batch["example_start"][place]) for place in places]
    ours = [outputs[r, start : start + len(ids[number])] for (r, _), start, number in zip(places, starts, numbers, strict=True)]
    model = torch_model(folder)

    @torch.inference_mode()
    def torch_logits(input_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return model(input_ids=torch.from_numpy(input_ids), attention_mask=torch.from_numpy(mask)).logits.numpy()

    return {"torch": largest(torch_logits, ids, numbers, ours), "onnx": largest(onnx_logits(folder), ids, numbers, ours)}


def largest(logits: Logits, ids: Ids, numbers: Sequence[int], ours: Sequence[np.ndarray]) -> float:
    found = []
    for rows, input_ids, mask in sorted_batches([ids[number] for number in numbers]):
        found += [np.abs(one[: len(ours[row])] - ours[row]).max() for row, one in zip(rows, logits(input_ids, mask), strict=True)]
    return float(np.max(found))  # nan where one is: unlike Python's max


def run_side(side: str, folder: Path, train: Path, num_texts: int) -> dict[str, Any]:
    """Seconds and positions of the second pass."""
    if side.endswith("_heap") and (done := importlib.import_module("flaxft.runtime").MALLOC) != "malloc keeps the heap":  # before torch
        sys.exit(f"{side}: {done}")
    if side == "flaxft":
        importlib.import_module("flaxft")  # before jax
        one_pass = our_pass(folder, train, num_texts)
    else:
        one_pass = onnx_pass(folder) if side == "onnx" else torch_pass(folder)
    one_pass()
    began = time.perf_counter()
    positions = one_pass()
    return {"seconds": time.perf_counter() - began, "positions": positions}


# ----------------------------------------------------------------------------------------------------------------------------------- main


def table(runs: list[dict[str, Any]], tokens: int) -> str:
    lines = ["| side | what | useful tokens/s, median (min to max) | padding | others' cores | flaxft's rate over it, median (min to max) | target |"]
    lines.append("|---" * 7 + "|")
    for side in [side for side in SIDES if any(run["side"] == side for run in runs)]:
        own = [run for run in runs if run["side"] == side]
        ratios = [a["rate"] / b["rate"] for b in own for a in runs if a["side"] == "flaxft" != side and a["round"] == b["round"]]
        padding, others = 1 - tokens / own[0]["positions"], max(run["others"] for run in own)
        rates = median_range([run["rate"] for run in own], ".0f")
        cells = [side, SIDES[side], rates, f"{padding:.1%}", f"{others:.2f}", median_range(ratios, ".2f") if ratios else "-", TARGETS.get(side, "-")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--lengths", choices=["wnut17", "conll2003"], required=True)
    parser.add_argument("--raw", type=Path, required=True, help="with wnut17/")
    parser.add_argument("--data", type=Path, required=True, help="with wikiann_en/")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--num_texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="JSON file, written anew after every run")
    parser.add_argument("--turn", nargs=3, help=argparse.SUPPRESS)  # "prepare" or a side, the shared folder, the texts' file: this process does that
    args = parser.parse_args(argv)
    args.raw, args.data, args.model = args.raw.resolve(), args.data.resolve(), args.model.resolve()  # all sides run in the repository root
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.turn:
        side, folder, train = args.turn[0], Path(args.turn[1]), Path(args.turn[2])
        found = prepare(folder, train, args.model, args.num_texts) if side == "prepare" else run_side(side, folder, train, args.num_texts)
        args.out.write_text(json.dumps(found))
        return
    here = machine()
    print(", ".join(f"{name} {value}" for name, value in here.items()), flush=True)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="predict-speed-") as name:
        folder = Path(name)
        train = args.raw / "wnut17" / FILES["train"]
        if args.lengths == "conll2003":
            train = folder / "train.conll"
            write_conll_lengths(args.data / "wikiann_en" / "train.jsonl", args.model, train)

        def turn(what: str) -> dict[str, Any]:
            flags = [f"--{name}={getattr(args, name)}" for name in ("lengths", "raw", "data", "model", "num_texts")]
            with tempfile.TemporaryDirectory(prefix="predict-speed-") as workdir:
                command = [sys.executable, "benchmarks/predict_speed.py", "--turn", what, str(folder), str(train), *flags]
                return execute([*command, f"--out={workdir}/results.json"], workdir=workdir)

        given = turn("prepare")
        shown = ", ".join(f"{side} {difference:.1e}" for side, difference in given["differences"].items())
        print(f"{given['num_examples']:,} examples, {given['tokens']:,} tokens; largest difference of a logit: {shown}", flush=True)
        if not all(difference <= BOUND for difference in given["differences"].values()):  # nan is no agreement
            sys.exit(f"logits differ by more than {BOUND}: the sides do not compute the same, nothing was timed")
        for number in range(1, args.rounds + 1):
            for side in args.sides if number % 2 else reversed(args.sides):
                load = load_average()
                started, others = time.perf_counter(), cpu_seconds_of_others()
                run = {"side": side, "round": number} | turn(side)
                others = round((cpu_seconds_of_others() - others) / (time.perf_counter() - started), 2)
                run |= {"rate": given["tokens"] / run["seconds"], "load_before": load, "others": others}
                print(f"round {number}/{args.rounds} {side}: {run['rate']:.0f} useful tokens/s, load {load:.2f}, cores used by others {others:.2f}", flush=True)
                runs.append(run)
                temporary = args.out.with_name(f"{args.out.name}.tmp")
                temporary.write_text(json.dumps({"machine": here, "args": vars(args), "prepared": given, "runs": runs}, indent=1, default=str))
                os.replace(temporary, args.out)
    print(f"\n{table(sorted(runs, key=lambda run: run['round']), given['tokens'])}")


if __name__ == "__main__":
    main()
