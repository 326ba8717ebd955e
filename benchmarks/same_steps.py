"""One training run twice, step by step: flaxft's batches and first weights go through PyTorch and transformers as well. No dropout, so nothing is random.

    python benchmarks/same_steps.py similarity --model=MODEL --train=train.jsonl --test=test.jsonl --num_steps=64 --learning_rate=1e-4 --seed=1
    python benchmarks/same_steps.py squad --model=MODEL --train=train.json --test=test.json --num_steps=64 --learning_rate=1e-4 --seed=1

The tasks are regression on pairs (STS-B as prepare.py writes it) and answers in windows of a context (SQuAD). What differs in the end is rounding alone: the
recipe is the same. Where the scores of two runs of `tasks.py --torch` differ by more, their batches, their dropout and the first weights of their heads do.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np
import torch
from transformers import AutoTokenizer, get_linear_schedule_with_warmup

import flaxft  # noqa: F401, before jax: malloc
from benchmarks import tasks_pytorch as peer
from benchmarks.ner_pytorch import make_optimizer
from flaxft.command import from_file
from flaxft.data.packing import items_of_step, make_plan
from flaxft.data.pipeline import Data, Pipeline
from flaxft.models.base import flatten
from flaxft.models.hf import Pretrained, hf_names
from flaxft.optim import make_schedule, make_tx
from flaxft.train import prepare
from flaxft.train import state as states
from flaxft.train.step import make_loss_fn, make_train_step

SHOWN = 8  # steps between two lines


def copy_into(model: Any, params: Any, encoder: Any) -> None:
    """Our parameters into a model of transformers, all of them."""
    tensors = model.state_dict()
    with torch.no_grad():
        for path, array in flatten(jax.device_get(params)).items():
            name, transposed = hf_names(path, encoder, with_prefix=True)
            tensors.pop(name).copy_(torch.tensor(np.ascontiguousarray(array.T if transposed else array)))
    assert not tensors, sorted(tensors)


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's own loss; of answers over the example's tokens alone. BertForQuestionAnswering lets the padding of a batch take part in its softmax, which
    without padding is the same; ours never sees any."""
    out = model(**batch)
    if "start_logits" not in out:
        return out.loss
    padding = batch["attention_mask"] == 0
    parts = [(out.start_logits, batch["start_positions"]), (out.end_logits, batch["end_positions"])]
    return torch.stack([torch.nn.functional.cross_entropy(logits.masked_fill(padding, -torch.inf), targets) for logits, targets in parts]).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("task", choices=["similarity", "squad"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--num_steps", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    recipe, cfg = peer.TASKS[args.task], from_file(f"configs/{args.task}.py")
    args.weight_decay, args.optimizer, args.max_length, args.stride = 0.0, "fused", cfg.data.max_length, 128
    cfg.task.train, cfg.task.test = args.train, args.test
    cfg.model = Pretrained(path=args.model, hidden_dropout=0.0, attention_dropout=0.0)
    cfg.optim.learning_rate, cfg.optim.warmup, cfg.optim.weight_decay = args.learning_rate, 0.0, args.weight_decay
    checkpoint = cfg.model.open()
    inputs = prepare.open_inputs(cfg, checkpoint, poll=lambda: None)
    task, items = inputs.task, inputs.items["train"]
    loaded = cfg.model.load(checkpoint, task.head, reuse_head=False, seed=args.seed)
    shape = {"hidden_size": loaded.encoder.hidden_size, "num_devices": 1, "num_shapes": Data().num_shapes, "fingerprint": items.fingerprint}
    plan = make_plan(items.lengths, items.item_starts, batch_size=cfg.data.batch_size, num_steps=args.num_steps, seed=args.seed, **shape)
    pipeline = Pipeline(items, task.spec(), seed=args.seed)
    tx = make_tx(cfg.optim, make_schedule(cfg.optim, args.num_steps))
    state = states.create(loaded.graphdef, jax.tree.map(jax.numpy.asarray, loaded.params), tx)
    train_step = jax.jit(make_train_step(make_loss_fn(task, state.graphdef), tx, seed=args.seed))

    records = {split: recipe.read(getattr(args, split)) for split in ("train", "test")}
    settings = recipe.settings(records["train"])
    model = recipe.model.from_pretrained(args.model, dtype=torch.float32, **settings)
    copy_into(model, loaded.params, loaded.encoder)
    model.eval()  # no dropout
    tokenizer = AutoTokenizer.from_pretrained(args.model, use_fast=True)
    examples = {split: recipe.encode(one, tokenizer, settings, args) for split, one in records.items()}
    lengths = [len(example["input_ids"]) for example in examples["train"]]
    assert lengths == items.lengths.tolist(), "both sides have the same examples, in one order"
    optimizer = make_optimizer(model, args)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, args.num_steps)

    largest = 0.0
    print("step       flaxft    PyTorch", flush=True)
    for step in range(args.num_steps):
        (batch,) = pipeline.batch(plan, step)
        state, metrics = train_step(state, batch)
        chosen = items_of_step(plan, seed=args.seed, step=step)
        loss = loss_of(model, peer.collate([examples["train"][i] for i in chosen], pad_id=tokenizer.pad_token_id, targets=peer.TARGETS))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.optim.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        largest = max(largest, abs(float(metrics["loss"]) - loss.item()) / loss.item())
        if step % SHOWN == 0 or step == args.num_steps - 1:
            print(f"{step + 1:4d} {float(metrics['loss']):12.6f} {loss.item():10.6f}", flush=True)

    def score() -> dict[str, float]:
        logits = peer.predict(model, examples["test"], batch_size=64, pad_id=tokenizer.pad_token_id)
        return recipe.score(records["test"], examples["test"], logits, settings)

    theirs = score()
    copy_into(model, state.params, loaded.encoder)
    print(f"largest relative difference of a step's loss: {largest:.1e}")
    print(f"test {recipe.main_metric}: flaxft {score()[recipe.main_metric]:.4f}, PyTorch {theirs[recipe.main_metric]:.4f}")


if __name__ == "__main__":
    main()
