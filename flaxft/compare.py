"""Several runs in one table and one picture. Runs whose configs differ only in the seed are one row: mean and spread."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxft import config as configs
from flaxft import files
from flaxft.errors import UserError
from flaxft.figures import save, whiskers
from flaxft.log import Writer

IGNORED = ("seed", "log", "checkpoint")  # what does not make another experiment
FIRST = ("validation", "test")  # of the splits


class Run(NamedTuple):
    folder: Path
    settings: dict[str, Any]  # dotted name -> value, without the seed
    seed: int
    metric: str
    scores: dict[str, float]  # split -> main metric
    seconds: float
    tokens_per_second: float


class Row(NamedTuple):
    """Runs that differ in the seed alone."""

    name: str
    differences: dict[str, Any]  # dotted name -> value, of the fields in which the rows differ
    num_runs: int
    scores: dict[str, list[float]]
    seconds: list[float]
    tokens_per_second: list[float]


class Comparison(NamedTuple):
    metric: str
    rows: list[Row]
    splits: list[str]

    @property
    def header(self) -> list[str]:
        fields = list(self.rows[0].differences)
        return ["run", "seeds", *fields, *(f"{split} {self.metric}" for split in self.splits), "seconds", "useful tokens/s"]

    @property
    def cells(self) -> list[list[str]]:
        return [
            [
                row.name,
                str(row.num_runs),
                *map(_value, row.differences.values()),
                *(mean_and_spread(row.scores.get(split, [])) for split in self.splits),
                mean_and_spread(row.seconds, digits=1),
                mean_and_spread(row.tokens_per_second, digits=0),
            ]
            for row in self.rows
        ]


def compare(folders: Sequence[Path]) -> Comparison:
    """Raises UserError for a folder without a finished run, and for runs whose main metrics differ."""
    if len(folders) < 2:
        raise UserError(f"{len(folders)} run given, expected at least two folders: --mode=compare runs/a runs/b")
    runs = [read(folder) for folder in folders]
    metrics = sorted({run.metric for run in runs})
    if len(metrics) > 1:
        raise UserError(f"the runs have several main metrics ({', '.join(metrics)}); compare runs of one")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    for group in groups.values():
        twice = [run.seed for run in group if [one.seed for one in group].count(run.seed) > 1]
        if twice:
            raise UserError(f"two runs of one config have seed {twice[0]} ({', '.join(str(run.folder) for run in group)}); give each run once")
    settings = [group[0].settings for group in groups.values()]
    names = sorted({name for one in settings for name in one})
    differ = [name for name in names if len({json.dumps(one.get(name), sort_keys=True) for one in settings}) > 1]
    rows = []
    for group in groups.values():
        scores: dict[str, list[float]] = {}
        for run in group:
            for split, score in run.scores.items():
                scores.setdefault(split, []).append(score)
        differences = {name: group[0].settings.get(name) for name in differ}
        seconds, tokens = [run.seconds for run in group], [run.tokens_per_second for run in group]
        rows.append(Row(_name([run.folder for run in group]), differences, len(group), scores, seconds, tokens))
    rows = _told_apart(rows, [group[0].folder for group in groups.values()])
    found = {split for run in runs for split in run.scores}
    return Comparison(metrics[0], rows, [*(split for split in FIRST if split in found), *sorted(found - set(FIRST))])


def read(folder: Path) -> Run:
    """Config and results of one run. Raises UserError."""
    try:
        config, results = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "results.json"))
        settings = {name: value for name, value in configs.flat(config["config"]).items() if not name.startswith(IGNORED)}
        metric = str(config["config"]["task"]["main_metric"]).removeprefix("-")
        scores = {split: float(found[metric]) for split, found in results["evals"].items() if metric in found}
        seconds, tokens = float(results["seconds"]), float(results["useful_tokens_per_second"])
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no finished run (no {Path(error.filename).name}); let it train to its end, or leave it out") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: its results cannot be read ({type(error).__name__}: {error}); run it again to write them anew") from None
    return Run(folder, settings, int(config["config"]["seed"]), metric, scores, seconds, tokens)


def markdown(comparison: Comparison) -> str:
    """The table as Markdown."""
    rows = [comparison.header, ["---"] * len(comparison.header), *comparison.cells]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def show(comparison: Comparison) -> None:
    """The table, as a terminal or a pipe takes it."""
    if sys.stdout.isatty():
        Writer(None).table("", comparison.header, comparison.cells)
    else:
        print(plain(comparison), end="")


def plain(comparison: Comparison) -> str:
    """Columns in line."""
    rows = [comparison.header, *comparison.cells]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "".join(f"{line}\n" for line in lines)


def picture(comparison: Comparison, file: Path) -> None:
    """Means with their spread, a row for each config and a colour for each split."""
    groups = {row.name: {split: row.scores[split] for split in comparison.splits if split in row.scores} for row in comparison.rows}
    save(whiskers("compare", comparison.metric, groups), file)


def mean_and_spread(values: Sequence[float], *, digits: int = 4) -> str:
    """"0.8123 ± 0.0101": mean and sample standard deviation; one value is that value."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):,.{digits}f}"


def spread_of_seeds(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """What seeds.json holds: of every score of every split, seed by seed, its mean and its sample standard deviation (0 of one seed)."""
    evals: dict[str, dict[str, Any]] = {}
    first = next(iter(results.values()))
    for split, scores in first["evals"].items():
        for metric in scores:
            values = [one["evals"][split][metric] for one in results.values() if metric in one["evals"].get(split, {})]
            if len(values) == len(results):
                sd = statistics.stdev(values) if len(values) > 1 else 0.0
                evals.setdefault(split, {})[metric] = {"mean": statistics.mean(values), "sd": sd, "values": values}
    return {"seeds": list(results), "evals": evals}


def _name(folders: Sequence[Path]) -> str:
    """The folder of one run; of several, what their names have in common, or else their parent's name."""
    if len(folders) == 1:
        return str(folders[0])
    parents = {folder.parent for folder in folders}
    common = folders[0].name
    for folder in folders[1:]:
        while not folder.name.startswith(common):
            common = common[:-1]
    stem = common.rstrip("-_.0123456789")
    if len(parents) == 1 and str(folders[0].parent) != "." and stem in ("", "seed"):
        return str(folders[0].parent)
    return str(folders[0].with_name(stem)) if stem else str(folders[0])


def _told_apart(rows: Sequence[Row], folders: Sequence[Path]) -> list[Row]:
    """The rows with names that differ, and without the folder that all are in."""
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(names) > 1:
        common = os.path.commonpath([os.path.abspath(name) for name in names])
        names = [os.path.relpath(os.path.abspath(name), common) for name in names]
    return [row._replace(name=name) for row, name in zip(rows, names, strict=True)]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_markdown(file: Path, comparison: Comparison) -> None:
    files.write_text(file, markdown(comparison))
