"""Three tasks with PyTorch and transformers, as a careful user writes them today: the peers of the rows of `tasks.py`, with the same hyperparameters.

    python benchmarks/tasks_pytorch.py sentiment --model=MODEL --train=train.jsonl --validation=validation.jsonl --test=test.jsonl --seed=1 --out=results.json

`sentiment` classifies texts, `similarity` gives pairs a number, `squad` finds answers in windows of their context. NER is in `ner_pytorch.py`, which also says
what `useful_tokens_per_second`, `evals` and `evals_last` are. Batches are padded to their longest example; an example of `squad` is a window.
"""

from __future__ import annotations

import os

os.environ["FLAXFT_KEEP_MALLOC"] = "1"  # importing a metric of flaxft must not change how torch allocates; ner_pytorch.py's --heap would

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
    set_seed,
)

from benchmarks.ner_pytorch import WARMUP_STEPS, make_optimizer
from flaxft.metrics.questions import question_scores

Record = dict[str, Any]
Example = dict[str, Any]  # input_ids and token_type_ids, targets under the names of the model's arguments, "record": the number of its record
TARGETS = ("labels", "start_positions", "end_positions")
N_BEST, MAX_ANSWER_LENGTH = 20, 30  # run_qa.py's defaults


class Recipe(NamedTuple):
    """What differs between tasks."""

    model: Any  # a class of transformers
    settings: Callable[[list[Record]], dict[str, Any]]  # of the model, from the train records
    read: Callable[[str], list[Record]]
    encode: Callable[..., list[Example]]  # (records, tokenizer, settings, args)
    score: Callable[..., dict[str, float]]  # (records, examples, one array of logits an example, settings)
    main_metric: str


# ---------------------------------------------------------------------------------------------------------------------- texts, pairs


def read_lines(path: str) -> list[Record]:
    with open(path, encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def label_settings(records: list[Record]) -> dict[str, Any]:
    names = sorted({r["label"] for r in records})
    numbers = {name: i for i, name in enumerate(names)}
    return {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": numbers, "problem_type": "single_label_classification"}


def encode_texts(records: list[Record], tokenizer: Any, settings: dict[str, Any], args: argparse.Namespace) -> list[Example]:
    columns = ("sentence1", "sentence2") if "sentence1" in records[0] else ("text",)
    encoded = tokenizer(*([r[c] for r in records] for c in columns), truncation=True, max_length=args.max_length, return_token_type_ids=True)
    gold = [settings["label2id"][r["label"]] if "label" in r else r["score"] for r in records]
    rows = zip(encoded["input_ids"], encoded["token_type_ids"], gold, strict=True)
    return [{"input_ids": ids, "token_type_ids": types, "labels": label, "record": i} for i, (ids, types, label) in enumerate(rows)]


def label_scores(records: list[Record], examples: list[Example], logits: list[np.ndarray], settings: dict[str, Any]) -> dict[str, float]:
    gold, found = [e["labels"] for e in examples], [int(one.argmax()) for one in logits]
    return {"accuracy": float(accuracy_score(gold, found)), "macro_f1": float(f1_score(gold, found, average="macro", zero_division=0))}


def number_scores(records: list[Record], examples: list[Example], logits: list[np.ndarray], settings: dict[str, Any]) -> dict[str, float]:
    gold, found = np.array([e["labels"] for e in examples]), np.array([float(one[0]) for one in logits])
    correlations = {"spearman": float(spearmanr(gold, found).statistic), "pearson": float(pearsonr(gold, found).statistic)}
    return correlations | {"mse": float(np.mean((gold - found) ** 2)), "mae": float(np.mean(np.abs(gold - found)))}


# ------------------------------------------------------------------------------------------------------------------------- questions


def read_squad(path: str) -> list[Record]:
    with open(path, encoding="utf-8") as f:
        articles = json.load(f)["data"]
    return [
        {"question": q["question"], "context": p["context"], "answers": [(a["text"], a["answer_start"]) for a in q["answers"]]}
        for article in articles
        for p in article["paragraphs"]
        for q in p["qas"]
    ]


def encode_questions(records: list[Record], tokenizer: Any, settings: dict[str, Any], args: argparse.Namespace) -> list[Example]:
    """One example a window; `places` are the characters of its context tokens, None elsewhere. Targets are [CLS] where the first answer is not all inside."""
    encoded = tokenizer(
        [r["question"] for r in records], [r["context"] for r in records], truncation="only_second", max_length=args.max_length, stride=args.stride,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
    )  # fmt: skip
    examples = []
    for i, number in enumerate(encoded["overflow_to_sample_mapping"]):
        places = [place if side == 1 else None for place, side in zip(encoded["offset_mapping"][i], encoded.sequence_ids(i), strict=True)]
        text, start = records[number]["answers"][0]
        inside = [t for t, place in enumerate(places) if place and place[0] < start + len(text) and place[1] > start]
        whole = inside and places[inside[0]][0] <= start and places[inside[-1]][1] >= start + len(text)
        first, last = (inside[0], inside[-1]) if whole else (0, 0)
        tokens = {key: encoded[key][i] for key in ("input_ids", "token_type_ids")}
        examples.append(tokens | {"start_positions": first, "end_positions": last, "record": number, "places": places})
    return examples


def answer_scores(records: list[Record], examples: list[Example], logits: list[np.ndarray], settings: dict[str, Any]) -> dict[str, float]:
    """Exact match and F1 of the span with the largest sum of both logits over the windows of a question: the 20 best starts with the 20 best ends."""
    best = [(-math.inf, "")] * len(records)
    for example, (starts, ends) in zip(examples, logits, strict=True):
        record, places = example["record"], example["places"]
        for first in np.argsort(-starts)[:N_BEST]:
            for last in np.argsort(-ends)[:N_BEST]:
                if places[first] and places[last] and first <= last < first + MAX_ANSWER_LENGTH and starts[first] + ends[last] > best[record][0]:
                    best[record] = starts[first] + ends[last], records[record]["context"][places[first][0] : places[last][1]]
    return question_scores([text for _, text in best], [[text for text, _ in r["answers"]] for r in records])


TASKS = {
    "sentiment": Recipe(AutoModelForSequenceClassification, label_settings, read_lines, encode_texts, label_scores, "accuracy"),
    "similarity": Recipe(
        AutoModelForSequenceClassification, lambda _: {"num_labels": 1, "problem_type": "regression"}, read_lines, encode_texts, number_scores, "spearman"
    ),
    "squad": Recipe(AutoModelForQuestionAnswering, lambda _: {}, read_squad, encode_questions, answer_scores, "f1"),
}


# ----------------------------------------------------------------------------------------------------------------- the loop of all three


def collate(examples: list[Example], *, pad_id: int, targets: tuple[str, ...]) -> dict[str, torch.Tensor]:
    width = max(len(e["input_ids"]) for e in examples)
    input_ids = torch.full((len(examples), width), pad_id)
    batch = {"input_ids": input_ids, "token_type_ids": torch.zeros_like(input_ids), "attention_mask": torch.zeros_like(input_ids)}
    for row, example in enumerate(examples):
        n = len(example["input_ids"])
        batch["input_ids"][row, :n] = torch.tensor(example["input_ids"])
        batch["token_type_ids"][row, :n] = torch.tensor(example["token_type_ids"])
        batch["attention_mask"][row, :n] = 1
    return batch | {key: torch.tensor([e[key] for e in examples]) for key in targets if key in examples[0]}


@torch.inference_mode()
def predict(model: Any, examples: list[Example], *, batch_size: int, pad_id: int) -> list[np.ndarray]:
    """Logits of each example: (num_labels,), of a window (2, n)."""
    model.eval()
    found: list[np.ndarray] = [np.empty(0)] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))  # like lengths together: less padding
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        out = model(**collate([examples[i] for i in chosen], pad_id=pad_id, targets=()))
        logits = out.logits if "logits" in out else torch.stack([out.start_logits, out.end_logits], 1)
        for i, row in zip(chosen, logits.numpy(), strict=True):
            found[i] = row if row.ndim == 1 else row[:, : len(examples[i]["input_ids"])]
    model.train()
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    set_seed(args.seed)
    torch.set_num_threads(args.threads)
    task = TASKS[args.task]
    tokenizer = AutoTokenizer.from_pretrained(args.model, use_fast=True)
    records = {split: task.read(getattr(args, split)) for split in ("train", "validation", "test")}
    settings = task.settings(records["train"])
    examples = {split: task.encode(one, tokenizer, settings, args) for split, one in records.items()}
    # dtype: transformers 5 would else compute in whatever dtype the file has
    model = task.model.from_pretrained(args.model, dtype=torch.float32, **settings)
    model.train()  # dropout as the checkpoint's config says
    optimizer = make_optimizer(model, args)
    train = examples["train"]
    num_steps = args.num_epochs * math.ceil(len(train) / args.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(args.warmup * num_steps), num_steps)
    print(f"{len(records['train'])} records, {len(train)} examples, {num_steps} steps of {args.batch_size}", flush=True)

    def score(split: str) -> dict[str, float]:
        logits = predict(model, examples[split], batch_size=args.batch_size, pad_id=tokenizer.pad_token_id)
        scores = task.score(records[split], examples[split], logits, settings)
        print(f"step {len(losses)} {split}: " + " ".join(f"{k} {v:.4g}" for k, v in scores.items()), flush=True)
        return scores

    shuffle = torch.Generator().manual_seed(args.seed)
    losses: list[float] = []
    seconds: list[float] = []
    useful: list[int] = []
    slots: list[int] = []
    epochs: list[dict[str, float]] = []
    best, best_weights = -1, {}
    for epoch in range(args.num_epochs):
        order = torch.randperm(len(train), generator=shuffle).tolist()
        for start in range(0, len(order), args.batch_size):
            started = time.perf_counter()
            batch = collate([train[i] for i in order[start : start + args.batch_size]], pad_id=tokenizer.pad_token_id, targets=TARGETS)
            loss = model(**batch).loss  # mean over the examples of the batch
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
        epochs.append({"epoch": epoch + 1, "step": len(losses)} | score("validation"))
        if best < 0 or epochs[-1][task.main_metric] > epochs[best][task.main_metric]:
            best, best_weights = epoch, {k: v.clone() for k, v in model.state_dict().items()}

    # the last weights first, then those of the best epoch: the latter are what flaxft reports
    last = {"validation": epochs[-1], "test": score("test")}
    evals = last
    if best != args.num_epochs - 1:
        model.load_state_dict(best_weights)
        evals = {"validation": epochs[best], "test": score("test")}
    timed = slice(WARMUP_STEPS if len(seconds) > WARMUP_STEPS else 0, None)
    return {
        "evals": evals,
        "evals_last": last,
        "epochs": epochs,
        "steps": len(losses),
        "seconds": sum(seconds),
        "useful_tokens_per_second": sum(useful[timed]) / sum(seconds[timed]),
        "useful_tokens": sum(useful),
        "num_steps_not_timed": timed.start,
        "padding_fraction": 1 - sum(useful) / sum(slots),
        "losses": losses,
        "step_seconds": seconds,
        "args": vars(args),
        "versions": {"torch": torch.__version__, "threads": torch.get_num_threads(), "attention": model.config._attn_implementation},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--model", required=True, help="directory of a checkpoint in the Hugging Face layout")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", required=True, help="JSON lines as prepare.py writes them, of squad the SQuAD layout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--num_epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--stride", type=int, default=128, help="tokens that two windows share")
    parser.add_argument("--warmup", type=float, default=0.1, help="fraction of all steps")
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--clip_norm", type=float, default=1.0)
    parser.add_argument("--optimizer", default="fused", choices=["fused", "loop"], help="torch's fused AdamW, or its per-tensor loop")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="as many as flaxft takes")
    parser.add_argument("--out", help="where results.json goes")
    args = parser.parse_args()
    results = run(args)
    print(json.dumps({k: results[k] for k in ("evals", "evals_last", "steps", "seconds", "useful_tokens_per_second", "padding_fraction")}, indent=1))
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
