"""What a step of BERT base and large takes on TPUs, as their compiler says without one. Prints a markdown table, keeps every line in --out.

    python benchmarks/tpu_plan.py --vocab=VOCAB --out=tpu_plan.json          # in an environment with pip install flaxft[tpu]

Each line is `--mode=compile` of the sequence classification config in bfloat16, with rows full of text (one text of --row_length tokens each) and --rows of
them a chip, over a mesh that is all data, all fsdp, or tensor over 4 and data over the rest. VOCAB is bert-base-cased's vocab.txt; no weights are needed. It is
the real step that is compiled; that it runs so fast was not tried: compiling proves shapes, memory and traffic, the roofline is arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {"base": (768, 12, 12, 3072), "large": (1024, 24, 16, 4096)}  # hidden size, layers, heads, MLP: Devlin et al. 2018
TOPOLOGIES = {"v5e:2x4": 8, "v5e:16x16": 256, "v5p:2x2x1": 4, "v6e:2x4": 8}  # chips
MESHES = {"data": {}, "fsdp": {"data": 1, "fsdp": -1}, "tensor": {"data": -1, "tensor": 4}}
COLUMNS = (
    "model | topology | mesh | rows x tokens | GB a chip | of its memory | TFLOP | GB read and written | GB sent | compute, memory, interconnect, ms"
    " | roofline ms | seconds to compile"
)


def write_model(folder: Path, vocab: Path, shape: tuple[int, int, int, int]) -> None:
    hidden, layers, heads, inner = shape
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": inner, "vocab_size": len(vocab.read_text(encoding="utf-8").rstrip("\n").split("\n")), "max_position_embeddings": 512,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": 512}))
    shutil.copyfile(vocab, folder / "vocab.txt")


def write_texts(file: Path, num: int, row_length: int) -> None:
    """Texts of exactly `row_length` tokens, of words that are one piece in every English vocabulary."""
    words = "the of and to in was he is as for on with that it his by at from her".split()
    lines = []
    for i in range(num):
        text = " ".join(words[(i + j * (1 + i % 7)) % len(words)] for j in range(row_length - 2))  # [CLS] and [SEP]
        lines.append(json.dumps({"text": text, "label": "ab"[i % 2]}))
    file.write_text("\n".join(lines) + "\n")


def get_config(argument: str = "") -> Any:
    """`--config=benchmarks/tpu_plan.py` is configs/sentiment.py without weights and without evaluation."""
    from flaxft.command import from_file
    from flaxft.models.hf import Untrained

    cfg = from_file("configs/sentiment.py")
    cfg.model, cfg.evals = Untrained(path="", dtype="bfloat16"), {}
    cfg.task.validation = cfg.task.test = ""
    return cfg


def compiled(name: str, topology: str, mesh: dict[str, int], *, model: Path, texts: Path, num_rows: int, row_length: int) -> dict[str, Any]:
    """One line, in a process of its own: a compiler that is killed for memory takes only itself along."""
    script = (
        "import dataclasses, json, sys\n"
        "from flaxft.command import apply_overrides, from_file\n"
        "from flaxft.train.compile import compile_step\n"
        "cfg = from_file('benchmarks/tpu_plan.py')\n"
        "apply_overrides(cfg, sys.argv[2:])\n"
        "step = compile_step(cfg, sys.argv[1])\n"
        "print(json.dumps(dataclasses.asdict(step) | {'bounds': step.bounds, 'chip_memory': step.chip.memory}))\n"
    )
    fields = {"model.path": model, "task.train": texts, "num_steps": 10, "data.batch_size": num_rows, "data.max_length": row_length, "data.num_shapes": 1}
    fields |= {f"mesh.{axis}": size for axis, size in mesh.items()}
    began = time.perf_counter()
    command = [sys.executable, "-c", script, topology, *(f"--config.{field}={value}" for field, value in fields.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    seconds = time.perf_counter() - began
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"error": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return {"model": name, "topology": topology, "axis": next(iter(key for key, value in MESHES.items() if value == mesh)), "seconds": seconds} | found


def line(one: dict[str, Any]) -> str:
    if "error" in one:
        return f"| {one['model']} | {one['topology']} | {one['axis']} | {one['error']} |"
    needs, sent = one["held"] + one["scratch"], sum(size for _, size in one["collectives"].values())
    bounds = {name: seconds * 1e3 for name, seconds in one["bounds"].items()}
    cells = [one["model"], one["topology"], ", ".join(f"{axis} {size}" for axis, size in one["mesh"].items() if size > 1)]
    cells += [f"{one['num_rows']} x {one['row_length']}", f"{needs / 1e9:.2f}", f"{needs / one['chip_memory']:.0%}", f"{one['flops'] / 1e12:.2f}"]
    cells += [f"{one['bytes_accessed'] / 1e9:.1f}", f"{sent / 1e9:.2f}", ", ".join(f"{value:.1f}" for value in bounds.values())]
    return f"| {' | '.join([*cells, f'{max(bounds.values()):.1f}', format(one['seconds'], '.0f')])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--topologies", nargs="+", choices=list(TOPOLOGIES), default=["v5e:2x4", "v5e:16x16"])
    parser.add_argument("--axes", nargs="+", choices=list(MESHES), default=list(MESHES))
    parser.add_argument("--rows", type=int, default=16, help="of a chip")
    parser.add_argument("--row_length", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    runs: list[dict[str, Any]] = []
    print(f"| {COLUMNS} |\n{'|---' * (COLUMNS.count('|') + 1)}|", flush=True)
    with tempfile.TemporaryDirectory(prefix="tpu-plan-") as folder:
        for name in args.models:
            write_model(Path(folder, name), args.vocab.resolve(), SHAPES[name])
        for topology in args.topologies:
            num_rows = args.rows * TOPOLOGIES[topology]
            texts = Path(folder, f"{num_rows}.jsonl")
            write_texts(texts, num_rows, args.row_length)
            for name in args.models:
                for axis in args.axes:
                    sizes = {"num_rows": num_rows, "row_length": args.row_length}
                    runs.append(compiled(name, topology, MESHES[axis], model=Path(folder, name), texts=texts, **sizes))
                    print(line(runs[-1]), flush=True)
                    temporary = args.out.with_name(f"{args.out.name}.tmp")
                    temporary.write_text(json.dumps(runs, indent=1))
                    os.replace(temporary, args.out)


if __name__ == "__main__":
    main()
