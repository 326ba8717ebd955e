"""A stranger's own data, with nothing set but where it lies: scores of the configs' defaults beside a sceptic's baseline.

    python benchmarks/own_data.py --raw=RAW --encoders packaged=flaxft/encoder minilm=MODEL --seeds 1 2 3 --out=own_data.json
    python benchmarks/own_data.py --raw=RAW --table --out=own_data.json

Each row is one data set, written as CSV, TSV, JSON lines or column files with column names that nobody was told of, cut to as many records as a row says
(those whose sha1 is lowest: fewer are always some of the more). A run is `python -m flaxft.main --config=... --config.task.train=FILE` with the test file and,
where the data set has a validation split of its own, that; no rate, no number of epochs, no columns. The baseline is what flaxft itself fits beside each run
on the same split. What --out already holds is not run again, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import prepare

ROOT = Path(__file__).parent.parent
Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Row:
    """A data set as somebody has it."""

    config: str
    load: Callable[[Path], dict[str, Rows]]  # folder of raw data -> split -> records under the columns of the file
    suffix: str  # of the files that are written
    records: int | None  # of train; None is all
    heldout: int | None  # of validation and test
    metric: str


def renamed(load: Callable[[Path], Any], **names: str) -> Callable[[Path], dict[str, Rows]]:
    """The splits that prepare.py reads, with a user's names for the columns."""

    def read(raw: Path) -> dict[str, Rows]:
        return {split: [{new: record[old] for old, new in names.items()} for record in records] for split, records in load(raw).items()}

    return read


def without_validation(load: Callable[[Path], dict[str, Rows]]) -> Callable[[Path], dict[str, Rows]]:
    """Train and test alone, the validation records among train's."""

    def read(raw: Path) -> dict[str, Rows]:
        splits = load(raw)
        return {"train": splits["train"] + splits["validation"], "test": splits["test"]}

    return read


def tweets(raw: Path) -> dict[str, Rows]:
    """twitter_fin_topic: its train and valid files, the latter as test."""

    def read(name: str) -> Rows:
        lines = prepare.read(raw, f"twitter_fin_topic/{name}_data.csv").splitlines(keepends=True)
        return [{"tweet": row["text"], "topic": row["label"]} for row in csv.DictReader(lines)]

    return {"train": read("train"), "test": read("valid")}


def kitchen(raw: Path) -> dict[str, Rows]:
    """One domain of amazon_domains: rows 1 to 1,000 train, the rest is test."""
    rows = [json.loads(line) for line in prepare.read(raw, "amazon_domains/kitchen.jsonl").splitlines() if line]
    records = [{"review": row["text"], "sentiment": row["label"]} for row in rows]
    return {"train": records[:1000], "test": records[1000:]}


def wnut17(raw: Path) -> dict[str, Rows]:
    """WNUT-17 as published, three column files."""
    names = {"train": "wnut17train.conll", "validation": "emerging.dev.conll", "test": "emerging.test.annotated"}
    return {split: prepare.tagged(raw, f"wnut17/{name}") for split, name in names.items()}


ROWS = {
    "banking77": Row("intent.py", without_validation(renamed(prepare.banking77, text="body", label="queue")), ".csv", 5000, None, "accuracy"),
    "clinc150": Row("intent.py", renamed(prepare.clinc150, text="utterance", label="class"), ".csv", 5000, None, "accuracy"),
    "sentence_polarity": Row("sentiment.py", without_validation(renamed(prepare.sentiment, text="content", label="target")), ".csv", 5000, None, "accuracy"),
    "go_emotions": Row("emotions.py", renamed(prepare.emotions, text="comment", labels="tags"), ".jsonl", 5000, 2000, "macro_f1"),
    "stsb": Row("similarity.py", renamed(prepare.stsb, sentence1="sentence1", sentence2="sentence2", score="score"), ".tsv", None, None, "spearman"),
    "semeval2010_task8": Row(
        "relation.py", without_validation(renamed(prepare.relation, sentence="sentence", relation="relation")), ".jsonl", 3000, None, "macro_f1"
    ),
    "wnut17": Row("ner.py", wnut17, ".conll", None, None, "entity_f1"),
    "twitter_fin_topic": Row("sentiment.py", tweets, ".csv", 5000, 2000, "accuracy"),
    "amazon_kitchen": Row("sentiment.py", kitchen, ".jsonl", None, None, "accuracy"),
}  # fmt: skip


def lowest(rows: Rows, limit: int | None) -> Rows:
    """So many records, those whose sha1 is lowest, in the file's order."""
    if limit is None or limit >= len(rows):
        return rows
    keys = [hashlib.sha1(f"{i}{json.dumps(row, sort_keys=True)}".encode()).digest() for i, row in enumerate(rows)]
    kept = sorted(sorted(range(len(rows)), key=keys.__getitem__)[:limit])
    return [rows[i] for i in kept]


def write(rows: Rows, file: Path) -> None:
    """As a user's file of that suffix."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        if file.suffix == ".conll":
            stream.writelines("".join(f"{word}\t{tag}\n" for word, tag in zip(row["tokens"], row["ner_tags"], strict=True)) + "\n" for row in rows)
        elif file.suffix == ".jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(stream, rows[0], delimiter="\t" if file.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


def files(name: str, raw: Path, folder: Path) -> dict[str, Path]:
    """Split -> file, written where it is not there."""
    row = ROWS[name]
    found = {}
    for split, rows in row.load(raw).items():
        file = folder / name / f"{split}{row.suffix}"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write(lowest(rows, row.records if split == "train" else row.heldout), file)
        found[split] = file
    return found


def run(name: str, encoder: str, seed: int, paths: dict[str, Path], flags: list[str]) -> dict[str, Any]:
    """One run in a process and a workdir of its own; raises where it fails."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "flaxft.main", f"--config={ROOT / 'configs' / ROWS[name].config}", f"--workdir={workdir}", f"--config.seed={seed}"]
        command += [f"--config.model.path={encoder}"] + [f"--config.task.{split}={path}" for split, path in paths.items()] + flags
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        results = json.loads((Path(workdir) / "results.json").read_text())
        kept = {key: results.get(key) for key in ("steps", "baselines", "verdict", "recipe", "best", "useful_tokens_per_second")}
        scores = {split: {key: value for key, value in one.items() if "/" not in key} for split, one in results["evals"].items()}
        return {"row": name, "seed": seed, "seconds": round(time.perf_counter() - began), "scores": scores} | kept


def cell(values: list[float]) -> str:
    """Mean, spread over seeds, and each."""
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row a data set, a column an encoder, the baselines beside."""
    encoders = list(dict.fromkeys(one["encoder"] for one in runs))
    lines = [f"| data, records of train | metric | majority | TF-IDF | {' | '.join(encoders)} |", "|---|---|---|---|" + "---|" * len(encoders)]
    for name, row in ROWS.items():
        of_row = [one for one in runs if one["row"] == name]
        if not of_row:
            continue
        baselines = {kind: scores[row.metric] for kind, scores in ((of_row[0]["baselines"] or {}).get("test") or {}).items() if row.metric in scores}
        columns = [cell([one["scores"]["test"][row.metric] for one in of_row if one["encoder"] == encoder]) for encoder in encoders]
        others = [f"{value:.3f}" for key, value in baselines.items() if key != "majority"] or [""]
        lines.append(f"| {name}, {row.records or 'all'} | {row.metric} | {baselines.get('majority', 0):.3f} | {others[0]} | {' | '.join(columns)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--encoders", nargs="+", default=[f"packaged={ROOT / 'flaxft' / 'encoder'}"], help="NAME=DIRECTORY")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--data", type=Path, default=Path("runs/own_data"), help="where the files are written")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and run nothing")
    parser.add_argument("--flags", nargs="*", default=[], help="further flags of flaxft, to try something: no defaults any more")
    args = parser.parse_args(argv)
    runs: list[dict[str, Any]] = json.loads(args.out.read_text()) if args.out.exists() else []
    for seed in args.seeds if not args.table else []:
        for name in args.rows:
            for encoder in args.encoders:
                label, _, path = encoder.partition("=")
                identity = {"row": name, "seed": seed, "encoder": label, "flags": args.flags}
                if any(all(one[key] == value for key, value in identity.items()) for one in runs):
                    continue
                done = identity | run(name, path, seed, files(name, args.raw, args.data.absolute()), args.flags)
                runs.append(done)
                args.out.write_text(json.dumps(runs, indent=1))
                print(name, label, seed, args.flags, done["scores"]["test"].get(ROWS[name].metric), f"{done['seconds']} s", flush=True)
    print(table(runs))


if __name__ == "__main__":
    main()
