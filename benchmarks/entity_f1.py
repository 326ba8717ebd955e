"""Entity F1: flaxft.metrics.entities against seqeval, on made sentences of CoNLL-2003's shape, both in this process, taking turns.

    python benchmarks/entity_f1.py --sentences 100000

seqeval gets its nested lists of strings ready-made; the time to build them from label ids, which a training loop would have to spend, is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from flaxft.metrics.entities import entity_scores

LABELS = ["O", *(f"{letter}-{kind}" for kind in ("LOC", "MISC", "ORG", "PER") for letter in "BI")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mode", choices=["default", "strict"], default="default")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    lengths = 1 + rng.poisson(13, args.sentences)  # CoNLL-2003 train: 14.5 tokens and 1.7 entities a sentence
    gold = make_ids(rng, int(lengths.sum()))
    predicted = np.where(rng.random(len(gold)) < 0.03, rng.integers(0, len(LABELS), len(gold)), gold).astype(np.int32)
    gold_names, predicted_names = (to_names(ids, lengths) for ids in (gold, predicted))
    options = {"mode": "strict", "scheme": IOB2} if args.mode == "strict" else {}

    seconds: dict[str, list[float]] = {"flaxft": [], "seqeval": []}
    for _ in range(args.runs):
        start = time.perf_counter()
        ours = entity_scores(gold, predicted, lengths, LABELS, mode=args.mode)
        seconds["flaxft"].append(time.perf_counter() - start)
        start = time.perf_counter()
        theirs = classification_report(gold_names, predicted_names, output_dict=True, zero_division=0, **options)
        seconds["seqeval"].append(time.perf_counter() - start)
        assert all(abs(ours[row][key] - theirs[row][key]) < 1e-12 for row in theirs for key in theirs[row])

    fast, slow = (statistics.median(seconds[name]) for name in ("flaxft", "seqeval"))
    ratios = [b / a for a, b in zip(seconds["flaxft"], seconds["seqeval"], strict=True)]
    micro = ours["micro avg"]
    print(f"{args.sentences} sentences, {len(gold)} tokens, {micro['support']} entities, mode {args.mode}, micro F1 {micro['f1-score']:.4f}")
    print(f"median of {args.runs}: flaxft {fast:.4f} s, seqeval {slow:.3f} s")
    print(f"ratio: median {statistics.median(ratios):.0f}x, from {min(ratios):.0f}x to {max(ratios):.0f}x")


def make_ids(rng: np.random.Generator, num_tokens: int) -> np.ndarray:
    """int32 (num_tokens,): an entity starts at 12 % of the tokens and goes on with chance 0.3. Sentence ends cut some: malformed tags."""
    is_start, goes_on = rng.random(num_tokens) < 0.12, rng.random(num_tokens) < 0.3
    kinds = rng.integers(0, 4, num_tokens)
    ids = np.zeros(num_tokens, np.int32)
    for i in range(num_tokens):
        if is_start[i]:
            ids[i] = 1 + 2 * kinds[i]
        elif i > 0 and ids[i - 1] > 0 and goes_on[i]:
            ids[i] = (ids[i - 1] + 1) // 2 * 2
    return ids


def to_names(ids: np.ndarray, lengths: np.ndarray) -> list[list[str]]:
    names = iter(np.array(LABELS)[ids].tolist())
    return [[next(names) for _ in range(length)] for length in lengths]


if __name__ == "__main__":
    main()
