"""One train step without packing: flaxft beside PyTorch, eager and compiled, float32 and bfloat16; and how near a packed step comes to the matmul rate.

    python benchmarks/step_speed.py --rounds=5 --out=step.json

All sides take a GPU where there is one: gpu_speed.py runs what is of interest there.

A step is forward, backward, clipping at 1.0 and AdamW with a linear schedule, dropout 0.1 on. Its batch is rows of 128 (--length) random tokens, all of them
full and one example each, so that neither side computes on padding and PyTorch needs no attention mask; every token has one of 9 labels. Weights are random,
the vocabulary has 30,522 pieces, the sizes are in `SHAPES`. Our step is the one that a run takes: batch onto the device, `TrainStep`, until the new state is
there. PyTorch's ends when its loss was read. Each turn is a process of its own; its first 3 steps are not counted, and its rate is the median over the others.

The sides `packed` and `packed_bf16` are our step on batches of --batch_size examples with the lengths of CoNLL-2003, or of another data set in --lengths
(train_speed.py draws them), in rows as a run packs them; `torch_longest_bf16` takes such examples padded to the longest of a batch, with an attention mask.
`flax457_bf16` is the Flax BERT of transformers 4.57, in the environment that ner_flax457.py names.

The share is FLOP/s of our step over FLOP/s of a 4096-cubed product in jax, of operands as the side's, the best of 6 in the same process, half of them before
the steps and half after. FLOPs of a step, forward and backward, are those that useful tokens need:

    6 P n + 12 L D (n1^2 + n2^2 + ...)

P: parameters that are no embedding table; n: tokens of all examples. Each parameter is multiplied with each token and added, 2 FLOPs, in the forward pass, and
the backward pass has two such products, for the gradients of the input and of the weights: 6. (Biases and norms count too, 0.1 % of P.) L: layers, D: hidden
size; n1, n2, ...: tokens of each example. All heads' scores are 2 D FLOPs for each pair of tokens of an example, and so are their weighted sums: 4, and 12 with
the backward pass. Padding, pairs of tokens of different examples that stand in one row, softmax, dropout, norms, gelu and AdamW count as nothing.

Only ratios within one round mean much, and only where others took little: each turn tells how many cores others used. Targets: float32 at least 1.0 times
PyTorch, eager and compiled with the same malloc settings, at each shape, and 1.1 times in the (geometric) mean over shapes; bfloat16 1.1 times; a share of
70 %.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train_speed import LENGTHS, NUM_SENTENCES, drawn_lengths
from benchmarks.wnut17 import cpu_seconds_of_others, execute, load_average, machine, median_range


class Shape(NamedTuple):
    num_layers: int
    hidden_size: int
    num_heads: int
    mlp_size: int
    rows: int

    @property
    def config(self) -> dict[str, int]:
        """Of a config.json; dropout stays at BERT's 0.1."""
        sizes = {"hidden_size": self.hidden_size, "num_attention_heads": self.num_heads, "intermediate_size": self.mlp_size}
        return {"vocab_size": VOCABULARY, "num_hidden_layers": self.num_layers, **sizes}


SHAPES = {"mini": Shape(4, 256, 4, 1024, 32), "minilm": Shape(6, 384, 12, 1536, 16), "base": Shape(12, 768, 12, 3072, 8)}
SIDES = {
    "flaxft": "float32",
    "flaxft_bf16": "bfloat16 products",
    "torch": "float32, eager",
    "torch_heap": "float32, eager, with flaxft's malloc settings",
    "torch_compile_heap": "float32, torch.compile, with flaxft's malloc settings",
    "torch_bf16_heap": "bfloat16 autocast, eager, with flaxft's malloc settings",
    "torch_compile_bf16_heap": "bfloat16 autocast, torch.compile, with flaxft's malloc settings",
    "torch_bf16": "bfloat16 autocast, eager",
    "torch_compile_bf16": "bfloat16 autocast, torch.compile",
    "flax457_bf16": "Flax BERT of transformers 4.57, bfloat16",
    "packed": "flaxft, float32, examples of mixed lengths",
    "packed_bf16": "flaxft, bfloat16 products, examples of mixed lengths",
    "torch_longest_bf16": "bfloat16 autocast, eager, examples of mixed lengths padded to the longest",
}
MIXED = ("packed", "packed_bf16", "torch_longest_bf16")
MIXED_SHAPE = "base"
DEFAULT = ["flaxft", "flaxft_bf16", "torch", "torch_heap", "torch_compile_heap", "torch_bf16_heap", "packed"]
TARGETS = [  # ours, theirs, at each shape, in the mean
    ("flaxft", "torch", None, None),
    ("flaxft", "torch_heap", 1.0, 1.1),
    ("flaxft", "torch_compile_heap", 1.0, 1.1),
    ("flaxft_bf16", "torch_bf16_heap", 1.1, 1.1),
    ("flaxft_bf16", "torch_compile_bf16_heap", None, None),
    ("flaxft_bf16", "torch_bf16", None, None),
    ("flaxft_bf16", "torch_compile_bf16", None, None),
    ("flaxft_bf16", "flax457_bf16", None, None),
    ("packed_bf16", "torch_longest_bf16", None, None),
]
SHARE_TARGET = 0.7
VOCABULARY, NUM_LABELS, LENGTH, BATCH_SIZE, IGNORED = 30522, 9, 128, 32, -100
SKIP = 3  # steps of a turn: memory, threads and optimizer state come to be there
SCHEDULE_STEPS, LEARNING_RATE, WEIGHT_DECAY = 1000, 5e-5, 0.01
PRODUCT_SIZE, NUM_PRODUCTS = 4096, 3  # before the steps, and as many after


def num_flops(num_dense: int, lengths: np.ndarray, shape: Shape) -> int:
    """Of one step on examples of these lengths; see above."""
    return 6 * num_dense * int(lengths.sum()) + 12 * shape.num_layers * shape.hidden_size * int((lengths.astype(np.int64) ** 2).sum())


# ------------------------------------------------------------------------------------------------------------------------------- one turn


def example(number: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens and labels, int32 (length,) each; the same on all sides."""
    rng = np.random.default_rng(number)
    return rng.integers(VOCABULARY, size=length, dtype=np.int32), rng.integers(NUM_LABELS, size=length, dtype=np.int32)


class RandomItems:
    """Stands in for `flaxft.data.items.Items`: one random example an item."""

    def __init__(self, lengths: np.ndarray):
        self.lengths, self.item_starts = lengths, np.arange(len(lengths) + 1)
        self.item_of = self.item_starts[:-1]

    def feature(self, index: int) -> Any:
        from flaxft.data.base import Features

        ids, labels = example(index, int(self.lengths[index]))
        return Features({"input_ids": ids, "labels": labels}, {})


def timed(step: Callable[[int], None], num_steps: int) -> list[float]:
    """Seconds of each step after the first SKIP."""
    seconds = []
    for number in range(SKIP + num_steps):
        began = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - began)
    return seconds[SKIP:]


def product_rate(dtype: str) -> float:
    """FLOP/s of the fastest of a few products in jax, with float32 sums. An accelerator does many one after the other: one alone takes less than its call."""
    import jax
    import jax.numpy as jnp

    each = 1 if jax.default_backend() == "cpu" else 64
    a, b = (jax.random.normal(jax.random.key(seed), (PRODUCT_SIZE, PRODUCT_SIZE), dtype) for seed in range(2))
    b *= jnp.asarray(PRODUCT_SIZE**-0.5, b.dtype)  # products stay as large as their operands

    @jax.jit
    def multiply(a: Any, b: Any) -> Any:
        return jax.lax.fori_loop(0, each, lambda _, x: jnp.matmul(x, b, preferred_element_type=jnp.float32).astype(x.dtype), a)

    jax.block_until_ready(multiply(a, b))
    return max(each * 2 * PRODUCT_SIZE**3 / one for one in timed(lambda _: jax.block_until_ready(multiply(a, b)), NUM_PRODUCTS))


def our_turn(args: argparse.Namespace, side: str, shape: Shape) -> dict[str, Any]:
    """What a run does between its batches and its losses, with the project's own parts."""
    importlib.import_module("flaxft")  # before jax
    import functools

    import jax
    from flax import nnx

    from flaxft.data.packing import items_of_step, make_plan
    from flaxft.data.pipeline import Data, Pipeline, workload
    from flaxft.models.base import Model, flatten
    from flaxft.models.bert import Bert
    from flaxft.optim import Optim, make_schedule, make_tx
    from flaxft.sharding import Mesh, infer, make_mesh, put, rows
    from flaxft.tasks.token_classification import TokenClassification
    from flaxft.train import state as states
    from flaxft.train.step import TrainStep, make_loss_fn

    is_packed, dtype, num_steps = side in MIXED, "bfloat16" if side.endswith("bf16") else "float32", args.num_steps
    items = RandomItems(drawn_lengths(args.lengths, NUM_SENTENCES) if is_packed else np.full(shape.rows, args.length))
    sizes = {"batch_size": args.batch_size if is_packed else shape.rows, "num_slots": None if is_packed else 1, "num_shapes": Data().num_shapes}
    task = TokenClassification(labels=tuple(map(str, range(NUM_LABELS))), scheme="plain")
    mesh = make_mesh(Mesh())
    plan = make_plan(
        items.lengths, items.item_starts, fingerprint="", num_steps=SKIP + num_steps, seed=0, num_devices=1, hidden_size=shape.hidden_size, **sizes
    )  # fmt: skip
    pipeline = Pipeline(items, task.spec(), seed=0)  # type: ignore[arg-type]  # it needs no more of Items than this
    batches = [pipeline.batch(plan, step) for step in range(SKIP + num_steps)]
    lengths = [items.lengths[items_of_step(plan, seed=0, step=step)] for step in range(SKIP + num_steps)]

    encoder = Bert.from_config(shape.config | {"dtype": dtype}, rngs=nnx.Rngs(0))
    graphdef, variables = nnx.split(Model(encoder, task.head(encoder, rngs=nnx.Rngs(1))), nnx.Param)
    params = nnx.to_pure_dict(variables)
    optim = Optim(learning_rate=LEARNING_RATE, warmup=0.1, weight_decay=WEIGHT_DECAY)
    tx = make_tx(optim, make_schedule(optim, SCHEDULE_STEPS))
    create = functools.partial(states.create, graphdef, tx=tx)
    shardings = infer(jax.eval_shape(create, params), encoder.sharding, mesh)
    state = jax.jit(create, out_shardings=shardings)(params)
    del params, variables, encoder
    step_fn = TrainStep(make_loss_fn(task, graphdef), tx, seed=0, shardings=shardings)
    step_fn.compile_update(state)
    for one in plan.shapes:
        step_fn.compile(state, put(pipeline.empty(one), rows(mesh)))
    losses = []

    def step(number: int) -> None:
        nonlocal state
        state, metrics = step_fn(state, [put(batch, rows(mesh)) for batch in batches[number]])
        jax.block_until_ready((state, metrics))
        losses.append(metrics["loss"])

    before = product_rate(dtype)
    seconds = timed(step, num_steps)
    num_dense = sum(leaf.size for path, leaf in flatten(state.params).items() if not path.endswith("/embedding"))
    work = [workload(micro_batches) for micro_batches in batches[SKIP:]]
    found = {"seconds": seconds, "tokens": [one.tokens for one in work], "positions": [one.positions for one in work], "losses": list(map(float, losses))}
    flops = [num_flops(num_dense, one, shape) for one in lengths[SKIP:]]
    return found | {"device": jax.devices()[0].device_kind, "flops": flops, "product_rate": max(before, product_rate(dtype))}


def their_batches(args: argparse.Namespace, side: str, shape: Shape) -> list[dict[str, np.ndarray]]:
    """One a step, int64 (rows, longest); an attention mask only where there is padding."""
    if side not in MIXED:
        ids, labels = (np.stack(arrays).astype(np.int64) for arrays in zip(*(example(number, args.length) for number in range(shape.rows)), strict=True))
        return [{"input_ids": ids, "labels": labels}] * (SKIP + args.num_steps)
    lengths = drawn_lengths(args.lengths, (SKIP + args.num_steps) * args.batch_size)
    batches = []
    for first in range(0, len(lengths), args.batch_size):
        own = lengths[first : first + args.batch_size]
        batch = {"input_ids": np.zeros((len(own), own.max()), np.int64)}
        batch |= {"attention_mask": np.zeros_like(batch["input_ids"]), "labels": np.full_like(batch["input_ids"], IGNORED)}
        for row, length in enumerate(own.tolist()):
            batch["input_ids"][row, :length], batch["labels"][row, :length] = example(first + row, length)
            batch["attention_mask"][row, :length] = 1
        batches.append(batch)
    return batches


def useful(batch: dict[str, Any]) -> int:
    return int(batch["attention_mask"].sum()) if "attention_mask" in batch else int(np.prod(batch["input_ids"].shape))


def flax457_turn(args: argparse.Namespace, side: str, shape: Shape) -> dict[str, Any]:
    """In the environment of ner_flax457.py: its model in bfloat16, its step. The batch lies on the device from the start."""
    import jax
    import jax.numpy as jnp
    import transformers

    from benchmarks.ner_flax457 import make_step

    config = transformers.BertConfig(**shape.config, num_labels=NUM_LABELS)
    model = transformers.FlaxBertForTokenClassification(config, seed=0, input_shape=(1, 8), dtype=jnp.bfloat16)
    rates = {"learning_rate": LEARNING_RATE, "warmup": SCHEDULE_STEPS // 10, "num_steps": SCHEDULE_STEPS}
    tx, step_fn = make_step(model, **rates, weight_decay=WEIGHT_DECAY)
    params = jax.tree.map(lambda array: jnp.array(array, copy=True), model.params)
    opt_state, losses = tx.init(params), []
    host = their_batches(args, side, shape)
    batch = {name: jax.device_put(array.astype(np.int32)) for name, array in host[0].items()}
    batch["attention_mask"] = jnp.ones_like(batch["input_ids"])  # full rows

    def step(number: int) -> None:
        nonlocal params, opt_state
        params, opt_state, loss = step_fn(params, opt_state, batch, jax.random.fold_in(jax.random.key(0), number))
        losses.append(float(loss))

    seconds = timed(step, args.num_steps)
    versions = {"transformers": transformers.__version__, "jax": jax.__version__}
    return {"seconds": seconds, "tokens": [useful(host[0])] * args.num_steps, "losses": losses, "device": jax.devices()[0].device_kind} | versions


def torch_turn(args: argparse.Namespace, side: str, shape: Shape) -> dict[str, Any]:
    """`failed` says why torch.compile does not run here, where it does not."""
    if side.endswith("_heap") and (done := importlib.import_module("flaxft.runtime").MALLOC) != "malloc keeps the heap":  # before torch
        sys.exit(f"{side}: {done}")
    import torch
    from transformers import BertConfig, BertForTokenClassification, get_linear_schedule_with_warmup

    from benchmarks.ner_pytorch import make_optimizer

    torch.manual_seed(0)
    device, num_steps = "cuda" if torch.cuda.is_available() else "cpu", args.num_steps
    host = their_batches(args, side, shape)
    batches = [{name: torch.from_numpy(array).to(device) for name, array in batch.items()} for batch in host]
    model = BertForTokenClassification(BertConfig(**shape.config, num_labels=NUM_LABELS)).to(device).train()
    optimizer = make_optimizer(model, argparse.Namespace(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, optimizer="fused"))
    schedule = get_linear_schedule_with_warmup(optimizer, SCHEDULE_STEPS // 10, SCHEDULE_STEPS)
    compiled = torch.compile(model) if "compile" in side else model
    losses = []

    def step(number: int) -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled="bf16" in side):
            loss = compiled(**batches[number]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    about = {"device": device, "torch_threads": torch.get_num_threads(), "attention": model.config._attn_implementation}
    try:
        seconds = timed(step, num_steps)
    except Exception as error:
        if "compile" not in side:
            raise
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"} | about
    return {"seconds": seconds, "tokens": [useful(batch) for batch in host[SKIP:]], "losses": losses} | about


TURNS = {"flaxft": our_turn, "packed": our_turn, "torch": torch_turn, "flax457": flax457_turn}  # by a side's first word

# --------------------------------------------------------------------------------------------------------------------------------- tables


def rate(results: dict[str, Any]) -> float:
    """Useful tokens per second, the median over the steps."""
    return statistics.median(tokens / seconds for tokens, seconds in zip(results["tokens"], results["seconds"], strict=True))


def share(results: dict[str, Any]) -> float:
    """Of the matmul rate, the median over the steps."""
    return statistics.median(flops / seconds for flops, seconds in zip(results["flops"], results["seconds"], strict=True)) / results["product_rate"]


def ratios(runs: list[dict[str, Any]], ours: str, theirs: str, shape: str) -> list[float]:
    """One for each round that has both."""
    rates = {(run["round"], run["side"]): run["rate"] for run in runs if run["shape"] == shape}
    return [rates[number, ours] / rates[number, theirs] for number, side in rates if side == theirs and (number, ours) in rates]


def tables(runs: list[dict[str, Any]], failed: dict[str, str]) -> str:
    shapes = [name for name in SHAPES if any(run["shape"] == name for run in runs)]
    lines = [f"| useful tokens/s, median (min to max) | what | {' | '.join(shapes)} | others' cores |", "|---" * (len(shapes) + 3) + "|"]
    for side in [side for side in SIDES if any(run["side"] == side for run in runs)]:
        found = [[run["rate"] for run in runs if run["side"] == side and run["shape"] == name] for name in shapes]
        others = max(run["others"] for run in runs if run["side"] == side)
        lines.append(f"| {side} | {SIDES[side]} | {' | '.join(median_range(one, '.0f') if one else '-' for one in found)} | {others:.2f} |")
    lines += ["", f"| ratio, median (min to max) | {' | '.join(shapes)} | target | mean over shapes | target |", "|---" * (len(shapes) + 4) + "|"]
    for ours, theirs, each, mean in TARGETS:
        found = [ratios(runs, ours, theirs, name) for name in shapes]
        if any(found):
            cells = [median_range(one, ".2f") if one else "-" for one in found]
            middle = statistics.geometric_mean(statistics.median(one) for one in found if one)
            cells += [f"{each:.1f}" if each else "-", f"{middle:.2f}", f"{mean:.1f}" if mean else "-"]
            lines.append(f"| {ours} / {theirs} | {' | '.join(cells)} |")
    shared = dict.fromkeys((run["side"], run["shape"]) for run in runs if "share" in run)
    if shared:
        lines += ["", "| of | share of the matmul rate | target | matmul, GFLOP/s | useful tokens of the positions |", "|---" * 5 + "|"]
    for side, name in shared:
        own = [run for run in runs if (run["side"], run["shape"]) == (side, name)]
        products = median_range([run["results"]["product_rate"] / 1e9 for run in own], ".0f")
        positions = statistics.median(sum(run["results"]["tokens"]) / sum(run["results"]["positions"]) for run in own)
        target = f"{SHARE_TARGET:.0%}" if side == "packed" else "-"
        lines.append(f"| {side}, {name} | {median_range([run['share'] for run in own], '.1%')} | {target} | {products} | {positions:.1%} |")
    return "\n".join([*lines, *(f"\n{side} did not run: {why}" for side, why in failed.items())])


# ----------------------------------------------------------------------------------------------------------------------------------- main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=DEFAULT)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a row")
    parser.add_argument("--rows", type=int, help="of a batch, instead of the shape's own")
    parser.add_argument("--lengths", choices=list(LENGTHS), default="conll2003", help="of the examples of mixed lengths")
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE, help="examples of mixed lengths in a batch")
    parser.add_argument("--legacy_python", type=Path, help="of the environment that ner_flax457.py names")
    parser.add_argument("--num_steps", type=int, default=10, help="that a turn counts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="JSON file, written anew after every turn")
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)  # side and shape: this process is one turn
    args = parser.parse_args(argv)
    if "flax457_bf16" in args.sides and not args.legacy_python and not args.turn:
        parser.error("flax457_bf16 needs --legacy_python")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.turn:
        side, name = args.turn
        shape = SHAPES[name] if args.rows is None else SHAPES[name]._replace(rows=args.rows)
        args.out.write_text(json.dumps(TURNS[side.split("_")[0]](args, side, shape)))
        return
    here = machine()
    print(", ".join(f"{name} {value}" for name, value in here.items()), flush=True)
    runs: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for name in args.shapes:
        sides = [side for side in args.sides if side not in MIXED or name == MIXED_SHAPE]
        for number in range(1, args.rounds + 1):
            for side in sides if number % 2 else reversed(sides):
                if side in failed:
                    continue
                with tempfile.TemporaryDirectory(prefix="step-speed-") as workdir:
                    load = load_average()
                    started, others = time.perf_counter(), cpu_seconds_of_others()
                    python = str(args.legacy_python) if side.startswith("flax457") else sys.executable
                    command = [python, "benchmarks/step_speed.py", "--turn", side, name, f"--num_steps={args.num_steps}", f"--length={args.length}"]
                    command += [f"--lengths={args.lengths}", f"--batch_size={args.batch_size}"]
                    command += [f"--rows={args.rows}"] if args.rows else []
                    results = execute([*command, f"--out={workdir}/results.json"], workdir=workdir)
                    others = round((cpu_seconds_of_others() - others) / (time.perf_counter() - started), 2)
                if "failed" in results:
                    failed[side] = results["failed"]
                    print(f"{side} does not run: {failed[side]}", flush=True)
                    continue
                run = {"shape": name, "side": side, "round": number, "rate": rate(results), "load_before": load, "others": others, "results": results}
                run |= {"share": share(results)} if "flops" in results else {}
                shown = f"{run['rate']:.0f} useful tokens/s" + (f", share {run['share']:.1%}" if "share" in run else "")
                print(f"{name} round {number}/{args.rounds} {side}: {shown}, load {load:.2f}, cores used by others {others:.2f}", flush=True)
                runs.append(run)
                temporary = args.out.with_name(f"{args.out.name}.tmp")
                temporary.write_text(json.dumps({"machine": here, "args": vars(args), "failed": failed, "runs": runs}, indent=1, default=str))
                os.replace(temporary, args.out)
    print(f"\n{tables(runs, failed)}")


if __name__ == "__main__":
    main()
