"""What a GPU gives: BERT base in bfloat16 beside PyTorch (SDPA, eager and torch.compile) and the Flax BERT of transformers 4.57, with the aims for it.

    python benchmarks/gpu_speed.py --out=gpu.json [--legacy_python=PYTHON] [--rounds=5]

No data and no network is needed: tokens are random, lengths are drawn (step_speed.py, whose turns these are). Three parts, each written beside --out:

* `gpu.128.json` and `gpu.512.json`: --tokens tokens a batch, in full rows of 128 and of 512, on all sides;
* `gpu.mixed.json`: --batch_size examples with WNUT-17's lengths, packed, and in PyTorch padded to the longest.

The aims are a share of 60 % of the bfloat16 matmul rate of the same process at 512 (and, further, 55 % of the chip's published peak), 1.2 times the better side
of PyTorch in full rows, twice PyTorch on the mixed lengths. It runs on a CPU too, where it says nothing of a GPU: `--shape=mini --tokens=1024 --batch_size=8`.
So far it has run there alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import step_speed

LENGTHS = (128, 512)
OURS, TORCH, FLAX457 = "flaxft_bf16", ("torch_bf16", "torch_compile_bf16"), "flax457_bf16"
SHARE, SHARE_OF_PEAK, FULL_ROWS, MIXED = 0.6, 0.55, 1.2, 2.0


def part(file: Path, *flags: str) -> dict[str, Any]:
    step_speed.main([*flags, f"--out={file}"])
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def median_ratio(runs: list[dict[str, Any]], ours: str, theirs: str) -> float | None:
    found = step_speed.ratios(runs, ours, theirs, runs[0]["shape"]) if runs else []
    return statistics.median(found) if found else None


def peak_of(device_kind: str) -> float | None:
    """Published FLOP/s; None for what is not in the table, such as a CPU."""
    importlib.import_module("flaxft")
    from types import SimpleNamespace

    from flaxft.train.peak import peak_flops

    return peak_flops([SimpleNamespace(platform="gpu", device_kind=device_kind)])


def aims(parts: dict[str, list[dict[str, Any]]]) -> str:
    """The runs of "128", "512" and "mixed" -> a markdown table."""
    lines = ["| | measured | aim |", "|---|---|---|"]
    own = [run["results"] for run in parts["512"] if run["side"] == OURS]
    flops = statistics.median(step_speed.share(one) * one["product_rate"] for one in own)
    lines.append(f"| share of the bfloat16 matmul rate, rows of 512 | {statistics.median(map(step_speed.share, own)):.1%} | {SHARE:.0%} |")
    peak = peak_of(own[0]["device"])
    shown = f"{flops / peak:.1%}" if peak else f"- (not known of {own[0]['device']})"
    lines.append(f"| share of the chip's published peak, rows of 512 | {shown} | {SHARE_OF_PEAK:.0%} |")
    for length in map(str, LENGTHS):
        found = {side: ratio for side in TORCH if (ratio := median_ratio(parts[length], OURS, side))}
        side = min(found, key=lambda side: found[side])  # their better one
        lines.append(f"| full rows of {length}, over {side} | {found[side]:.2f} | {FULL_ROWS} |")
        older = median_ratio(parts[length], OURS, FLAX457)
        lines.append(f"| full rows of {length}, over {FLAX457} | {'-' if older is None else format(older, '.2f')} | - |")
    lines.append(f"| WNUT-17's lengths, over torch_longest_bf16 | {median_ratio(parts['mixed'], 'packed_bf16', 'torch_longest_bf16'):.2f} | {MIXED} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--shape", choices=list(step_speed.SHAPES), default="base", help="in full rows; the mixed lengths are base's")
    parser.add_argument("--tokens", type=int, default=32_768, help="of a batch of full rows")
    parser.add_argument("--batch_size", type=int, default=1024, help="examples of mixed lengths")
    parser.add_argument("--num_steps", type=int, default=20, help="that a turn counts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--legacy_python", type=Path, help="of the environment that ner_flax457.py names; without it that side is left out")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    shared = [f"--rounds={args.rounds}", f"--num_steps={args.num_steps}"]
    older = [f"--legacy_python={args.legacy_python}"] if args.legacy_python else []
    sides = [OURS, *TORCH, *([FLAX457] if older else [])]
    parts = {}
    for length in LENGTHS:
        flags = [*shared, *older, f"--shapes={args.shape}", f"--length={length}", f"--rows={max(1, args.tokens // length)}", "--sides", *sides]
        parts[str(length)] = part(args.out.with_suffix(f".{length}.json"), *flags)
    mixed = [f"--shapes={step_speed.MIXED_SHAPE}", "--lengths=wnut17", f"--batch_size={args.batch_size}", "--sides", "packed_bf16", "torch_longest_bf16"]
    parts["mixed"] = part(args.out.with_suffix(".mixed.json"), *shared, *mixed)
    table = aims({name: one["runs"] for name, one in parts.items()})
    args.out.write_text(json.dumps({"machine": parts["mixed"]["machine"], "args": vars(args), "aims": table.split("\n")}, indent=1, default=str))
    print(f"\n{table}")


if __name__ == "__main__":
    main()
