"""NER with the Flax BERT of transformers 4.57, as its users trained it: every batch padded to 128, threefry dropout, jitted step. Speed alone, no scores.

    PYTHON benchmarks/ner_flax457.py --model=MODEL --train=FILE --num_steps=40 --out=results.json

PYTHON is that of an environment with `pip install "transformers==4.57.6" "jax==0.10.2" "flax==0.12.8" optax`; newer transformers have no Flax models.
`--heap` gives it flaxft's malloc settings, which it does not come with. Weights are MODEL's where 4.57 can read them without PyTorch, which it says.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import sys
import time
from pathlib import Path

if "--heap" in sys.argv:  # before jax; without it nothing of flaxft is imported
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    importlib.import_module("flaxft.runtime")

import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers

IGNORED = -100
LENGTH = 128


def read(path: str) -> tuple[list[list[str]], list[list[str]]]:
    """Words and labels of a column file, plain or .gz."""
    words: list[list[str]] = [[]]
    labels: list[list[str]] = [[]]
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if line.strip():
                columns = line.strip("\r\n").split("\t") if "\t" in line else line.split()
                words[-1].append(columns[0])
                labels[-1].append(columns[-1].strip())
            elif words[-1]:
                words.append([])
                labels.append([])
    return [w for w in words if w], [found for found in labels if found]


def arrays(words: list[list[str]], labels: list[list[str]], tokenizer, names: list[str]) -> dict[str, np.ndarray]:
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=LENGTH, padding="max_length", return_tensors="np")
    targets = np.full(encoded["input_ids"].shape, IGNORED)
    for row, one in enumerate(labels):
        before = None
        for at, word in enumerate(encoded.word_ids(row)):
            if word is not None and word != before:
                targets[row, at] = names.index(one[word])
            before = word
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": targets}


def make_step(model, *, learning_rate: float, warmup: int, num_steps: int, weight_decay: float = 0.01):
    """(optimizer, jitted `step(params, opt_state, batch, key) -> params, opt_state, loss`): what the old scripts trained with."""
    parts = [optax.linear_schedule(0.0, learning_rate, warmup), optax.linear_schedule(learning_rate, 0.0, num_steps - warmup)]
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.join_schedules(parts, [warmup]), weight_decay=weight_decay))

    def train_step(params, opt_state, batch, key):
        def loss_fn(params):
            logits = model(batch["input_ids"], batch["attention_mask"], params=params, dropout_rng=key, train=True).logits.astype(jnp.float32)
            counted = batch["labels"] != IGNORED
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counted, batch["labels"], 0))
            return (losses * counted).sum() / counted.sum()

        loss, gradients = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    return tx, jax.jit(train_step, donate_argnums=(0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--num_steps", type=int, default=40)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heap", action="store_true")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    words, labels = read(args.train)
    names = sorted({label for one in labels for label in one})
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model, use_fast=True)
    config = transformers.AutoConfig.from_pretrained(args.model, num_labels=len(names))
    try:
        model = transformers.FlaxBertForTokenClassification.from_pretrained(args.model, config=config, seed=args.seed)
    except (OSError, ImportError, ValueError) as error:
        print(f"new weights: {str(error)[:100]}")
        model = transformers.FlaxBertForTokenClassification(config, seed=args.seed)
    data = arrays(words, labels, tokenizer, names)
    tx, step_fn = make_step(model, learning_rate=args.learning_rate, warmup=args.num_steps // 10, num_steps=args.num_steps)
    params, opt_state = jax.tree.map(lambda a: jnp.array(a, copy=True), model.params), tx.init(model.params)
    order = np.random.default_rng(args.seed).permutation(len(words))
    seconds, useful = [], []
    for step in range(args.num_steps):
        chosen = np.take(order, np.arange(step * args.batch_size, (step + 1) * args.batch_size), mode="wrap")
        started = time.perf_counter()
        batch = {name: array[chosen] for name, array in data.items()}
        params, opt_state, loss = step_fn(params, opt_state, batch, jax.random.fold_in(jax.random.key(args.seed), step))
        loss = float(loss)
        seconds.append(time.perf_counter() - started)
        useful.append(int(batch["attention_mask"].sum()))
        if (step + 1) % 10 == 0:
            print(f"step {step + 1} loss {loss:.4f} useful tokens/s {sum(useful[-10:]) / sum(seconds[-10:]):.0f}", flush=True)
    versions = {"transformers": transformers.__version__, "jax": jax.__version__}
    results = {"step_seconds": seconds, "step_tokens": useful, "steps": args.num_steps, "versions": versions}
    results["padding_fraction"] = 1 - sum(useful) / (args.num_steps * args.batch_size * LENGTH)
    Path(args.out).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
