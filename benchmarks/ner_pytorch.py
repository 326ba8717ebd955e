"""NER with PyTorch and transformers, as a careful user writes it today: the peer of `configs/ner.py`, with the same hyperparameters.

    python benchmarks/ner_pytorch.py --model=MODEL --train=train.conll --validation=dev.conll --test=test.conll --seed=1 --out=results.json

`useful_tokens_per_second` is non-padding tokens ([CLS] and [SEP] included) over the wall time of train steps: batch building, forward, backward,
clipping and update, without loading and evaluation. The first two steps are left out of it: there torch builds threads, kernels and optimizer state.
`evals` holds the scores of the best epoch's weights (by entity F1 on validation), `evals_last` those of the last weights.
"""

from __future__ import annotations

import ctypes
import sys

if "--heap" in sys.argv:  # must come before torch: keep freed memory in one heap instead of giving it back (the constants are glibc's malloc.h)
    libc = ctypes.CDLL("libc.so.6")
    for name, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 256 << 20)):  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        if not libc.mallopt(name, value):
            sys.exit(f"--heap: mallopt({name}, {value}) was refused")

import argparse
import gzip
import json
import math
import mmap
import pathlib
import time
from typing import NamedTuple

import torch
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from transformers import AutoModelForTokenClassification, AutoTokenizer, get_linear_schedule_with_warmup, set_seed

WARMUP_STEPS = 2  # not timed
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IGNORED = -100


class Sentence(NamedTuple):
    words: list[str]
    labels: list[str]


class Example(NamedTuple):
    input_ids: list[int]
    words: list[int | None]  # at the first subword of a word: which word; None elsewhere


# ------------------------------------------------------------------------------------------------------------------------------ data


def read(path: str) -> list[Sentence]:
    """The sentences of a column file (plain or .gz): word first, label last; a line that holds only whitespace ends a sentence."""
    sentences, words, labels = [], [], []
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in [*lines, ""]:
            if not line.strip() or line.startswith("-DOCSTART-"):
                if words:
                    sentences.append(Sentence(words, labels))
                words, labels = [], []
            else:
                columns = line.strip("\r\n").split("\t") if "\t" in line else line.split()
                words.append(columns[0])
                labels.append(columns[-1].strip())
    return sentences


def tokenize(sentences: list[Sentence], tokenizer, *, max_length: int) -> list[Example]:
    encoded = tokenizer([s.words for s in sentences], is_split_into_words=True, truncation=True, max_length=max_length)
    examples = []
    for i, input_ids in enumerate(encoded["input_ids"]):
        word_ids = encoded.word_ids(i)
        examples.append(Example(input_ids, [w if w != before else None for before, w in zip([None, *word_ids], word_ids, strict=False)]))
    return examples


def collate(examples: list[Example], labels: list[list[int]] | None, *, pad: str, pad_id: int) -> dict[str, torch.Tensor]:
    """`labels` are per word; None leaves them out. `pad` is "longest" or a length."""
    width = max(len(e.input_ids) for e in examples) if pad == "longest" else int(pad)
    input_ids = torch.full((len(examples), width), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    targets = torch.full_like(input_ids, IGNORED)
    for row, example in enumerate(examples):
        n = len(example.input_ids)
        input_ids[row, :n] = torch.tensor(example.input_ids)
        attention_mask[row, :n] = 1
        if labels is not None:
            targets[row, :n] = torch.tensor([IGNORED if w is None else labels[row][w] for w in example.words])
    batch = {"input_ids": input_ids, "attention_mask": attention_mask}
    return batch if labels is None else batch | {"labels": targets}


# ------------------------------------------------------------------------------------------------------------------------ evaluation


@torch.inference_mode()
def evaluate(model, sentences: list[Sentence], examples: list[Example], *, args, pad_id: int) -> dict[str, float]:
    """Entity F1 (micro, seqeval's default mode and strict). Words without a token (truncated, or tokenised to nothing) get O and are counted."""
    model.eval()
    predictions = [["O"] * len(s.words) for s in sentences]
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))  # like lengths together: less padding
    for start in range(0, len(order), args.batch_size):
        chosen = order[start : start + args.batch_size]
        batch = collate([examples[i] for i in chosen], None, pad="longest", pad_id=pad_id)
        with autocast(args):
            logits = model(**{name: array.to(DEVICE) for name, array in batch.items()}).logits
        for i, row in zip(chosen, logits.argmax(-1).tolist(), strict=True):
            for word, label in zip(examples[i].words, row, strict=False):  # the row is longer: padding
                if word is not None:
                    predictions[i][word] = model.config.id2label[label]
    model.train()
    gold = [s.labels for s in sentences]
    without_token = sum(len(s.words) - sum(w is not None for w in e.words) for s, e in zip(sentences, examples, strict=True))
    return {
        "entity_f1": float(f1_score(gold, predictions, zero_division=0)),
        "entity_precision": float(precision_score(gold, predictions, zero_division=0)),
        "entity_recall": float(recall_score(gold, predictions, zero_division=0)),
        "entity_f1_strict": float(f1_score(gold, predictions, mode="strict", scheme=IOB2, zero_division=0)),
        "num_words_without_token": without_token,
    }


def autocast(args) -> torch.autocast:
    return torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=args.dtype == "bf16-autocast")


# -------------------------------------------------------------------------------------------------------------------------- training


def make_optimizer(model, args) -> torch.optim.AdamW:
    """AdamW without decay on biases and LayerNorm weights. The fused update is the default of transformers' own Trainer."""
    decayed, kept = [], []
    for name, p in model.named_parameters():
        (kept if name.endswith("bias") or "LayerNorm" in name else decayed).append(p)
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=args.optimizer == "fused")


def resident_bytes() -> int:
    """The process's resident set, where there is a /proc."""
    statm = pathlib.Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE if statm.exists() else 0


def run(args) -> dict:
    set_seed(args.seed)
    names = sorted({label for s in read(args.train) for label in s.labels})
    tokenizer = AutoTokenizer.from_pretrained(args.model, use_fast=True)
    sentences = {s: read(p)[: args.max_examples] for s, p in (("train", args.train), ("validation", args.validation), ("test", args.test)) if p}
    examples = {split: tokenize(s, tokenizer, max_length=args.max_length) for split, s in sentences.items()}
    label_ids = [[names.index(label) for label in s.labels] for s in sentences["train"]]
    # dtype: transformers 5 would else compute in whatever dtype the file has
    model = AutoModelForTokenClassification.from_pretrained(
        args.model, num_labels=len(names), id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}, dtype=torch.float32
    )
    model.to(DEVICE).train()  # dropout as the checkpoint's config says
    optimizer = make_optimizer(model, args)
    steps_per_epoch = math.ceil(len(examples["train"]) / args.batch_size)
    num_steps = args.num_epochs * steps_per_epoch
    schedule_steps = args.schedule_steps or num_steps
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(args.warmup * schedule_steps), schedule_steps)
    num_steps = min(num_steps, args.num_steps or num_steps)
    print(f"{len(examples['train'])} sentences, {num_steps} steps of {args.batch_size}, attention {model.config._attn_implementation}", flush=True)

    def score(split: str) -> dict[str, float]:
        scores = evaluate(model, sentences[split], examples[split], args=args, pad_id=tokenizer.pad_token_id)
        print(f"step {len(losses)} {split}: " + " ".join(f"{k} {v:.4g}" for k, v in scores.items()), flush=True)
        return scores

    shuffle = torch.Generator().manual_seed(args.seed)
    losses, seconds, useful, slots, epochs = [], [], [], [], []
    best, best_weights = None, None
    for epoch in range(math.ceil(num_steps / steps_per_epoch)):
        order = torch.randperm(len(examples["train"]), generator=shuffle).tolist()
        for start in range(0, len(order), args.batch_size):
            started = time.perf_counter()
            chosen = order[start : start + args.batch_size]
            batch = collate([examples["train"][i] for i in chosen], [label_ids[i] for i in chosen], pad=args.pad, pad_id=tokenizer.pad_token_id)
            with autocast(args):
                loss = model(**{name: array.to(DEVICE) for name, array in batch.items()}).loss  # mean over the labelled tokens of the batch
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            seconds.append(time.perf_counter() - started)
            useful.append(int(batch["attention_mask"].sum()))
            slots.append(batch["input_ids"].numel())
            if len(losses) % 20 == 0:
                print(f"step {len(losses)} loss {losses[-1]:.4f} useful tokens/s {sum(useful[-20:]) / sum(seconds[-20:]):.0f}", flush=True)
            if len(losses) == num_steps:
                break
        if args.validation:
            epochs.append({"epoch": epoch + 1, "step": len(losses)} | score("validation"))
            if best is None or epochs[-1]["entity_f1"] > best["entity_f1"]:
                best, best_weights = epochs[-1], {k: v.clone() for k, v in model.state_dict().items()}

    # the last weights first, then those of the best epoch: the latter are what flaxft reports
    last = {"validation": epochs[-1]} if args.validation else {}
    if args.test:
        last["test"] = score("test")
    evals = dict(last)
    if best and best is not epochs[-1]:
        model.load_state_dict(best_weights)
        evals = {"validation": best} | ({"test": score("test")} if args.test else {})

    timed = slice(WARMUP_STEPS if len(seconds) > WARMUP_STEPS else 0, None)
    return {
        "evals": evals,
        "evals_last": last,
        "epochs": epochs,
        "steps": len(losses),
        "seconds": sum(seconds),
        "useful_tokens_per_second": sum(useful[timed]) / sum(seconds[timed]),
        "num_steps_not_timed": timed.start,
        "padding_fraction": 1 - sum(useful) / sum(slots),
        "losses": losses,
        "step_seconds": seconds,
        "step_tokens": useful,
        "memory_bytes": resident_bytes(),
        "labels": names,
        "args": vars(args),
        "versions": {"torch": torch.__version__, "threads": torch.get_num_threads(), "attention": model.config._attn_implementation},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="directory of a checkpoint in the Hugging Face layout")
    parser.add_argument("--train", required=True, help="column file, .gz or plain")
    parser.add_argument("--validation", help="without it the last weights are the best")
    parser.add_argument("--test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--num_epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--warmup", type=float, default=0.1, help="fraction of the schedule's steps")
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--clip_norm", type=float, default=1.0)
    parser.add_argument("--num_steps", type=int, help="stop early; the schedule still covers all epochs")
    parser.add_argument("--schedule_steps", type=int, help="steps that the schedule covers, in place of all epochs")
    parser.add_argument("--max_examples", type=int, help="use only the first of each split")
    parser.add_argument("--pad", default="longest", choices=["longest", "128"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bf16-autocast"])
    parser.add_argument("--optimizer", default="fused", choices=["fused", "loop"], help="torch's fused AdamW, or its per-tensor loop")
    parser.add_argument("--heap", action="store_true", help="the malloc settings that flaxft uses (Linux with glibc)")
    parser.add_argument("--out", help="where results.json goes")
    args = parser.parse_args()
    if args.pad != "longest" and args.max_length > int(args.pad):
        parser.error(f"--max_length={args.max_length} does not fit --pad={args.pad}; lower the first")
    results = run(args)
    print(json.dumps({k: results[k] for k in ("evals", "evals_last", "steps", "seconds", "useful_tokens_per_second", "padding_fraction")}, indent=1))
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
