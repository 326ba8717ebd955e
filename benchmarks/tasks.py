"""Every task once, small enough for two CPU cores; three of them beside PyTorch. Prints a markdown table, keeps every run in --out.

    python benchmarks/tasks.py --data=DATA --raw=RAW --seeds 1 2 3 --out=tasks.json
    python benchmarks/tasks.py --data=DATA --raw=RAW --model=MODEL --torch --rows sentiment similarity --seeds 1 2 3 --out=tasks_torch.json

DATA is what prepare.py wrote, RAW what it read (WNUT-17's files and the Chinese vocabulary are taken from there), MODEL a checkpoint in the Hugging Face
layout, by default the packaged encoder. Each run is a process of its own, seed by seed, with --torch in turns: flaxft, torch, flaxft, torch. What --out
already holds is not run again, so a run that was killed goes on where it was, and the same command prints the table again. Delete the file to measure anew.

A row's files are cut down to its sizes first, and all seeds and sides read the same cut files: not the first records, since some files are sorted by label,
but those whose sha1 is lowest. So fewer records are always some of the more. Sizes are for the packaged encoder (3.5 million parameters, at most about 45 s of
training), with --torch for MiniLM (22.7 million, about two minutes, squad about twelve). No rate or size was tuned: the table says that the tasks work, not
how good they can be.

Seconds and useful tokens per second are of train steps alone, without loading, compilation and evaluation; torch's rate is without its first two steps. Only
ratios of neighbouring runs mean much: each row tells how many cores others used at most, and above about 0.2 its times should be measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.prepare import SPLITS, share
from benchmarks.wnut17 import FILES, RATE, ROOT, cpu_seconds_of_others, execute, load_average, machine, spread

ENCODER = ROOT / "flaxft" / "encoder"
CHINESE = "vocab/bert-base-chinese/vocab.txt"  # in RAW
# The packaged encoder's shape, over the Chinese vocabulary: 5.9 million parameters.
CHINESE_CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 768,
    "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "initializer_range": 0.05, "pad_token_id": 0,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of its data a row uses, and the fields of the recipe that go with that."""

    records: int | None  # of train, questions where it has those; None is all of them
    heldout: int | None  # of validation and of test
    num_epochs: int
    learning_rate: float
    batch_size: int = 32
    max_length: int = 128


@dataclasses.dataclass(frozen=True)
class Row:
    config: str  # a file in configs/
    files: dict[str, str]  # the field that holds the splits -> a folder of DATA; "wnut17" is that of RAW
    size: Size
    metrics: tuple[str, ...]  # that the table shows
    overrides: dict[str, str] = dataclasses.field(default_factory=dict)
    splits: dict[str, str] = dataclasses.field(default_factory=lambda: dict(zip(SPLITS, SPLITS, strict=True)))  # our split -> the file's
    is_chinese: bool = False  # an untrained encoder over the Chinese vocabulary, in place of --model
    similar_from: float | None = None  # pairs with a score become pairs with a label: similar from this score on, else different
    beside_torch: Size | None = None  # where tasks_pytorch.py has the row too: NER beside PyTorch is wnut17.py


ROWS = {
    "ner": Row("ner.py", {"task": "wnut17"}, Size(2900, None, 3, 5e-4), ("entity_f1",)),
    "ner_wikiann": Row("ner.py", {"task": "wikiann_en"}, Size(6000, 2000, 3, 5e-4), ("entity_f1",)),
    "ner_chinese": Row("ner_chinese.py", {"task": "ner_chinese"}, Size(None, None, 4, 1e-3, max_length=192), ("entity_f1",), is_chinese=True),
    "sentiment": Row(
        "sentiment.py", {"task": "sentiment"}, Size(3500, None, 3, 5e-4), ("accuracy", "macro_f1"), beside_torch=Size(2000, None, 3, 5e-5)
    ),
    "reviews": Row("sentiment.py", {"task": "reviews"}, Size(350, None, 2, 5e-4, batch_size=16, max_length=512), ("accuracy", "macro_f1")),
    "intent": Row("intent.py", {"task": "banking77"}, Size(None, None, 2, 1e-3, max_length=64), ("accuracy", "macro_f1")),
    "intent_oos": Row("intent.py", {"task": "clinc150"}, Size(14000, None, 2, 1e-3, max_length=64), ("accuracy", "macro_f1", "oos/recall")),
    "pair": Row("pair.py", {"task": "stsb"}, Size(4800, None, 2, 5e-4), ("accuracy", "macro_f1", "mcc"), similar_from=3.0),
    "emotions": Row("emotions.py", {"task": "emotions"}, Size(7500, 2000, 2, 1e-3, max_length=64), ("macro_f1", "micro_f1")),
    "similarity": Row("similarity.py", {"task": "stsb"}, Size(4800, None, 2, 5e-4), ("spearman", "pearson"), beside_torch=Size(2000, None, 3, 1e-4)),
    "squad": Row(
        "squad.py", {"task": "squad"}, Size(1400, 500, 1, 5e-4, batch_size=12, max_length=384), ("f1", "exact_match"),
        beside_torch=Size(3000, 600, 2, 1e-4, batch_size=12, max_length=384),
    ),
    "squad_v2": Row("squad.py", {"task": "squad_v2"}, Size(1280, 500, 1, 5e-4, batch_size=12, max_length=384), ("f1", "exact_match", "no_answer_accuracy")),
    "cmrc2018": Row(
        "squad.py", {"task": "cmrc2018"}, Size(600, 200, 1, 1e-3, batch_size=12, max_length=512), ("f1", "exact_match"), {"task.script": "cmrc"},
        is_chinese=True,
    ),
    "choice": Row("choice.py", {"task": "choice"}, Size(None, None, 3, 5e-4, batch_size=16, max_length=64), ("accuracy",)),
    # All of train: one relation has a single sentence there, and one in test.
    "relation": Row("relation.py", {"task": "relation"}, Size(None, None, 1, 1e-3), ("macro_f1", "accuracy")),
    # The packaged encoder has read books and speeches, and nothing of Wikipedia.
    "mlm": Row(
        "mlm.py", {"task": "wikitext2"}, Size(None, 500, 1, 2e-4), ("perplexity", "masked_accuracy"), splits={"train": "validation", "test": "test"}
    ),
    "embed_pairs": Row("embed.py", {"task": "stsb"}, Size(4700, None, 2, 3e-4, max_length=64), ("spearman", "pearson")),
    "embed_search": Row(
        "embed.py:retrieval", {"task": "banking77"}, Size(None, None, 2, 3e-4, batch_size=128, max_length=64), ("mrr", "recall@1", "accuracy@1")
    ),
    "mixture": Row(
        "mixture.py", {"task.tasks.ner": "wnut17", "task.tasks.intent": "banking77", "task.tasks.sentiment": "sentiment"}, Size(1300, 1000, 3, 1e-3),
        ("ner_entity_f1", "intent_accuracy", "sentiment_accuracy"),
    ),
}  # fmt: skip


def get_config(name: str) -> Any:
    """`--config=benchmarks/tasks.py:configs/ner.py` is that config with an encoder that nobody has trained."""
    from flaxft.command import from_file
    from flaxft.models.hf import Untrained

    cfg = from_file(name)
    cfg.model = Untrained(path="")
    return cfg


# ------------------------------------------------------------------------------------------------------------------------------ data


def find(folder: str, split: str, args: argparse.Namespace) -> Path:
    """The file of a split, which need not be there."""
    if folder == "wnut17":
        return args.raw / folder / FILES[split]
    squad = args.data / folder / f"{split}.json"
    return squad if squad.is_file() else squad.with_suffix(".jsonl")


def cut(source: Path, folder: Path, *, limit: int | None) -> Path:
    """The source itself, or a file in `folder` with the `limit` records of lowest sha1, in their order."""
    if limit is None:
        return source
    text = gzip.decompress(source.read_bytes()).decode() if source.suffix == ".gz" else source.read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".json":
        content = json.loads(text)
        asked = [(paragraph, question) for article in content["data"] for paragraph in article["paragraphs"] for question in paragraph["qas"]]
        kept = lowest([f"{question['id']} {question['question']}" for _, question in asked], limit)
        paragraphs = [asked[i][0] | {"qas": [asked[i][1]]} for i in kept]
        content["data"] = [{"title": source.stem, "paragraphs": paragraphs}]
        target = folder / source.name
        target.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    elif source.suffix == ".jsonl":
        lines = [line for line in text.split("\n") if line]
        target = folder / source.name
        target.write_text("".join(f"{lines[i]}\n" for i in lowest(lines, limit)), encoding="utf-8")
    else:
        blocks: list[str] = [""]
        for line in text.split("\n"):
            if line.strip():
                blocks[-1] += f"{line}\n"
            elif blocks[-1]:
                blocks.append("")
        sentences = [block for block in blocks if block]
        target = folder / f"{source.name.removesuffix('.gz').removesuffix('.conll')}.conll"
        target.write_text("".join(f"{sentences[i]}\n" for i in lowest(sentences, limit)), encoding="utf-8")
    return target


def labelled(source: Path, target: Path, *, similar_from: float) -> Path:
    """A file of pairs whose label stands in place of their score. What is similar is our choice: no published set of pairs with labels was at hand."""
    records = [json.loads(line) for line in source.read_text(encoding="utf-8").split("\n") if line]
    made = [{"sentence1": r["sentence1"], "sentence2": r["sentence2"], "label": "similar" if r["score"] >= similar_from else "different"} for r in records]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in made), encoding="utf-8")
    return target


def lowest(keys: list[str], limit: int) -> list[int]:
    """Numbers of the `limit` keys whose sha1 is lowest, rising."""
    return sorted(sorted(range(len(keys)), key=lambda i: share(keys[i]))[:limit])


def chinese_encoder(folder: Path, raw: Path) -> Path:
    """A directory of config.json and tokenizer, without weights."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(raw / CHINESE, folder / "vocab.txt")
    vocab_size = len((folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n"))
    (folder / "config.json").write_text(json.dumps(CHINESE_CONFIG | {"vocab_size": vocab_size}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}))
    return folder


# ------------------------------------------------------------------------------------------------------------------------------ runs


def size_of(row: Row, args: argparse.Namespace) -> Size:
    size = row.beside_torch if args.torch and row.beside_torch else row.size
    limits = [min(args.cap, limit or args.cap) if args.cap else limit for limit in (size.records, size.heldout)]
    changes: dict[str, Any] = {"records": limits[0], "heldout": limits[1]}
    changes |= {name: value for name in ("num_epochs", "learning_rate") if (value := getattr(args, name)) is not None}
    return dataclasses.replace(size, **changes)


def overrides(row: Row, size: Size, paths: dict[str, Path]) -> list[str]:
    """Flags of flaxft.main. `paths`: field -> file."""
    fields: dict[str, Any] = {"num_epochs": size.num_epochs, "optim.learning_rate": size.learning_rate}
    fields |= {"data.batch_size": size.batch_size, "data.max_length": size.max_length}
    return [f"--config.{name}={value}" for name, value in (fields | row.overrides | paths).items()]


def commands(name: str, args: argparse.Namespace, *, seed: int, workdir: Path, data: Path) -> dict[str, list[str]]:
    """The command of each side, in the order of the turns. Each leaves WORKDIR/results.json. `data` is where cut files go."""
    row = ROWS[name]
    size = size_of(row, args)
    limits = {split: size.records if split == "train" else size.heldout for split in row.splits}
    paths = {
        f"{field}.{split}": cut(find(folder, source, args), data / folder / split, limit=limits[split])
        for field, folder in row.files.items()
        for split, source in row.splits.items()
    }
    if row.similar_from is not None:
        paths = {field: labelled(path, data / "labelled" / f"{field}.jsonl", similar_from=row.similar_from) for field, path in paths.items()}
    model = chinese_encoder(data / "chinese", args.raw) if row.is_chinese else args.model
    config = f"benchmarks/tasks.py:configs/{row.config}" if args.untrained or row.is_chinese else f"configs/{row.config}"
    flags = overrides(row, size, paths)
    flaxft = [sys.executable, "-m", "flaxft.main", f"--config={config}", f"--workdir={workdir}", f"--config.model.path={model}", f"--config.seed={seed}"]
    result = {"flaxft": [*flaxft, *flags]}
    if args.torch:
        from flaxft.command import apply_overrides, from_file  # not above: most runs need no jax here

        cfg = from_file(str(ROOT / "configs" / row.config))
        apply_overrides(cfg, flags)
        torch = [sys.executable, "benchmarks/tasks_pytorch.py", name, f"--model={model}", f"--out={workdir}/results.json", f"--seed={seed}"]
        torch += [f"--{split}={paths[f'task.{split}']}" for split in row.splits]
        torch += [f"--{key}={getattr(size, key)}" for key in ("num_epochs", "batch_size", "max_length", "learning_rate")]
        result["torch"] = [*torch, *(f"--{key}={getattr(cfg.optim, key)}" for key in ("warmup", "weight_decay", "clip_norm"))]
    return result


def identity(name: str, args: argparse.Namespace, *, seed: int, side: str) -> dict[str, Any]:
    """What two runs have to agree in to be the same."""
    row = ROWS[name]
    model = "bert-base-chinese vocabulary" if row.is_chinese else str(args.model)
    return {"row": name, "side": side, "seed": seed, "model": model, "untrained": args.untrained or row.is_chinese, **dataclasses.asdict(size_of(row, args))}


def same(run: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(run.get(key) == value for key, value in wanted.items())


def read(out: Path, here: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that a results file holds, none where there is no file."""
    if not out.is_file():
        return []
    content = json.loads(out.read_text())
    if content["machine"] != here:
        sys.exit(f"{out} was measured elsewhere, or with other versions: {content['machine']}, here is {here}; give another --out")
    return list(content["runs"])


def write(out: Path, here: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    temporary = out.with_name(f"{out.name}.tmp")
    temporary.write_text(json.dumps({"machine": here, "runs": runs}, indent=1))
    os.replace(temporary, out)


# ----------------------------------------------------------------------------------------------------------------------------- table


def table(runs: list[dict[str, Any]]) -> str:
    """One line for each row, model, size and side, in the order of the runs; scores as mean ± sample deviation and the seeds' values, times as medians."""
    lines = ["| row | model | side | train records | epochs | dev | test | train s | useful tokens/s | padding | others' cores |", "|---" * 11 + "|"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        key = {name: value for name, value in run.items() if name not in ("seed", "results", "load_before", "others")}
        groups.setdefault(json.dumps(key), []).append(run)
    for group in groups.values():
        first = group[0]
        scores = [cell([run["results"]["evals"].get(split, {}) for run in group], ROWS[first["row"]].metrics) for split in ("validation", "test")]
        seconds, rate, padding = (statistics.median(run["results"][key] for run in group) for key in ("seconds", RATE, "padding_fraction"))
        model = f"{Path(first['model']).name}{', untrained' if first['untrained'] else ''}"
        cells = [first["row"], model, first["side"], first["records"] or "all", first["num_epochs"], *scores]
        cells += [f"{seconds:.0f}", f"{rate:.0f}", f"{padding:.3f}", f"{max(run['others'] for run in group):.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def cell(evals: list[dict[str, float]], metrics: tuple[str, ...]) -> str:
    """Metrics that a side does not have are left out."""
    found = {name: [one[name] for one in evals] for name in metrics if all(name in one for one in evals)}
    return "<br>".join(f"{name} {spread(values, '.4g') if len(values) > 1 else f'{values[0]:.4g}'}" for name, values in found.items()) or "-"


# ------------------------------------------------------------------------------------------------------------------------------ main


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--raw", type=Path, required=True, help="what prepare.py read")
    parser.add_argument("--model", type=Path, default=ENCODER)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), help="default: all, with --torch all that it has")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--torch", action="store_true", help="with tasks_pytorch.py in turns, and in the sizes for that")
    parser.add_argument("--untrained", action="store_true", help="new weights: what pretraining was worth")
    parser.add_argument("--cap", type=int, help="no split has more records than this")
    parser.add_argument("--num_epochs", type=int)
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--out", type=Path, required=True, help="JSON file, written anew after every run")
    args = parser.parse_args(argv)
    args.data, args.raw, args.model = args.data.resolve(), args.raw.resolve(), args.model.resolve()  # both sides run in the repository root
    if args.torch and args.untrained:
        parser.error("--untrained has no PyTorch side; leave out one of the two")
    beside = [name for name, row in ROWS.items() if row.beside_torch]
    args.rows = args.rows or (beside if args.torch else list(ROWS))
    if args.torch and not set(args.rows) <= set(beside):
        parser.error(f"--torch has no {sorted(set(args.rows) - set(beside))}, only {beside}")
    rows = [ROWS[name] for name in args.rows]
    needed = [find(folder, source, args) for row in rows for folder in row.files.values() for source in row.splits.values()]
    needed += [args.raw / CHINESE for row in rows if row.is_chinese] + [args.model / "config.json" for row in rows if not row.is_chinese]
    missing = [str(path) for path in dict.fromkeys(needed) if not path.exists()]
    if missing:
        parser.error(f"not found: {', '.join(missing)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a process that is running is ended too
    here = machine()
    print(", ".join(f"{key} {value}" for key, value in here.items()), flush=True)
    runs = read(args.out, here)
    sides = ("flaxft", "torch") if args.torch else ("flaxft",)
    wanted = [identity(name, args, seed=seed, side=side) for seed in args.seeds for name in args.rows for side in sides]
    waiting = [one for one in wanted if not any(same(run, one) for run in runs)]
    print(f"{len(wanted)} runs, {len(wanted) - len(waiting)} of them done before", flush=True)
    failed = []
    with tempfile.TemporaryDirectory(prefix="tasks-") as data:
        for number, one in enumerate(waiting, start=1):
            with tempfile.TemporaryDirectory(prefix="tasks-") as workdir:
                command = commands(one["row"], args, seed=one["seed"], workdir=Path(workdir), data=Path(data))[one["side"]]
                load = load_average()
                print(f"{number}/{len(waiting)} {one['row']} seed {one['seed']} {one['side']}: load average {load:.2f}", end="", flush=True)
                started, others = time.perf_counter(), cpu_seconds_of_others()
                try:
                    results = execute(command, workdir=workdir)
                except SystemExit as stop:  # how execute says that a run failed; the others need not wait for it
                    print(f"\n{stop}", flush=True)
                    failed.append(f"{one['row']} seed {one['seed']} {one['side']}")
                    continue
                others = round((cpu_seconds_of_others() - others) / (time.perf_counter() - started), 2)
            print(f", {results['seconds']:.0f} s, {results[RATE]:.0f} useful tokens/s, cores used by others {others:.2f}", flush=True)
            runs.append(one | {"load_before": load, "others": others, "results": results})
            write(args.out, here, runs)
    print(f"\n{table([run for run in runs if any(same(run, one) for one in wanted)])}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
