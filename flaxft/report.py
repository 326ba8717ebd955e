"""report/index.html of a run: what it did, in curves, tables and texts. One file that links to nothing outside, its pictures beside it as PNGs.

It is made of the files of the workdir alone, and of report/content.json, in which a run leaves what the others do not hold. It knows no task: a task's own
part comes as plain blocks (`flaxft.tasks.base.Shows`).
"""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxft import config as configs
from flaxft import files
from flaxft.errors import UserError
from flaxft.figures import Figure, bars, confusion_figure, curves, histogram, reliability, save, scatter
from flaxft.tasks.base import Matrix, Passage, Passages, Reliability, Scatter, Section, Table

PACKAGES = ("flaxft", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "transformers")
LONGEST = 1200  # characters of a passage that are shown
NUM_METRICS = 12  # that have a picture of their own; the main one is the first
NUM_LABELS = 8  # whose curves fit in one picture
MARKS = ("/low", "/high")  # what ends the names of an interval
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
OF_A_LABEL = ("precision", "recall", "f1", "support")


class Shown(NamedTuple):
    """A picture in the page: data of its PNGs on light and on dark, and what it shows, in words."""

    title: str
    light: str
    dark: str
    alt: str
    width: int
    height: int
    note: str


def save_content(
    workdir: Path,
    *,
    sections: Mapping[str, Sequence[Section]],
    sources: Mapping[str, str],
    lengths: Mapping[str, np.ndarray],
    padding_to_longest: float,
    devices: Sequence[Any],
    model: str,
    contented: str,
) -> None:
    """Writes report/content.json: what the page needs and the run's other files do not hold.

    sections: of each split that was scored; sources: what its records were read from; lengths: (num_features,) tokens of each split's features; model: its
    name, as given; contented: what the verdict says where it finds nothing.
    """
    content = {
        "command": shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]) if sys.orig_argv else "",
        "machine": machine(devices),
        "versions": versions(),
        "sources": dict(sources),
        "model": model,
        "contented": contented,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "lengths": {name: np.bincount(found).tolist() for name, found in lengths.items()},
        "padding_to_longest": padding_to_longest,
        "sections": {name: configs.to_json(list(found)) for name, found in sections.items()},
    }
    (workdir / "report").mkdir(exist_ok=True)
    files.write_json(workdir / "report" / "content.json", content)


def write(workdir: Path) -> Path:
    """Makes report/index.html and its pictures anew from the files of a finished run; returns its path. Raises UserError."""
    content, config, results, plan = (_read(workdir / name) for name in ("report/content.json", "config.json", "results.json", "plan.json"))
    steps = read_steps(workdir / "metrics.jsonl")
    main_metric = str(config["config"]["task"].get("main_metric", "")).removeprefix("-")
    folder = workdir / "report"
    for old in folder.glob("*.png"):
        old.unlink()
    sections = {name: configs.from_json(found, str(folder / "content.json")) for name, found in content["sections"].items()}
    labels = {name: label_rows(scores) for name, scores in results["evals"].items()}
    page = _environment().get_template("report.html").render(
        name=workdir.absolute().name,
        main_metric=main_metric,
        head=head_rows(content, config["config"], results),
        verdict=results.get("verdict"),
        baselines={name: baseline_rows(found, main_metric) for name, found in results.get("baselines", {}).items()},
        scores={name: score_rows(scores, main_metric) for name, scores in results["evals"].items()},
        labels={name: rows for name, rows in labels.items() if rows},
        details={name: rows for name, scores in results["evals"].items() if (rows := detail_rows(scores))},
        curves=[_shown(folder, figure) for figure in _curves(steps, main_metric)],
        lengths=[_shown(folder, figure) for figure in _length_figures(content, config["config"], plan, results)],
        length_rows=[_length_row(name, np.asarray(found)) for name, found in content["lengths"].items()],
        plan=plan,
        splits={name: _blocks(folder, name, found) for name, found in sections.items()},
        content=content,
        results=results,
        config=[(name, one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) for name, one in configs.flat(config["config"]).items()],
    )
    files.write_text(folder / "index.html", page)
    return folder / "index.html"


def machine(devices: Sequence[Any]) -> dict[str, str]:
    """What a run computed on, in words."""
    cpuinfo, meminfo = (Path(f"/proc/{name}") for name in ("cpuinfo", "meminfo"))  # Linux
    names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    total = next((int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemTotal")), 0) if meminfo.exists() else 0
    found = {
        "devices": f"{len(devices)} {devices[0].device_kind} device{'s' * (len(devices) > 1)}",
        "processor": f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    return found | ({"memory": f"{total / 2**20:.1f} GiB"} if total else {}) | {"system": platform.platform()}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found


# ---- scores ---------------------------------------------------------------------------------------------------------------------------------------


def head_rows(content: Mapping[str, Any], config: Mapping[str, Any], results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run is, in a line each: model, data, rows, date, duration, seed, version. What an older run did not save is left out."""
    rows = [
        ("model", content.get("model", "")),
        *content["sources"].items(),
        ("finished", content.get("date", "")),
        ("training", f"{results['steps']:,} steps in {shown_seconds(results['seconds'])}" if results["steps"] else "none"),
        ("seed", str(config["seed"])),
        ("flaxft", content["versions"].get("flaxft", "")),
    ]
    return [(name, text) for name, text in rows if text]


def shown_seconds(seconds: float) -> str:
    """"42 s", "12 min 30 s", "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def baseline_rows(found: Mapping[str, Mapping[str, float]], main_metric: str) -> list[tuple[str, str]]:
    """Name and main metric of each baseline of a split, the best last."""
    return [(name, shown_number(metrics[main_metric])) for name, metrics in found.items() if main_metric in metrics]


def score_rows(scores: Mapping[str, float], main_metric: str) -> list[tuple[str, str, str]]:
    """Name, value and 95 % interval of each score that is no detail, the main metric first."""
    names = [name for name in scores if "/" not in name]
    names.sort(key=lambda name: (name != main_metric, name.startswith("num_")))
    if main_metric in scores and "/" in main_metric:
        names.insert(0, main_metric)
    return [(name, shown_number(scores[name]), _interval(scores, name)) for name in names]


def label_rows(scores: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Label, precision, recall, F1 and number of each label or entity type that the scores have, as "PER/f1" and so on."""
    labels = [name.removesuffix("/f1") for name in scores if name.endswith("/f1")]
    return [(label, *(shown_number(scores[key]) if (key := f"{label}/{name}") in scores else "" for name in OF_A_LABEL)) for label in labels]


def detail_rows(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The other details, such as the calibration error."""
    labels = {name.removesuffix("/f1") for name in scores if name.endswith("/f1")}
    others = [name for name in scores if "/" in name and not name.endswith(MARKS) and name.rpartition("/")[0] not in labels]
    return [(name, shown_number(scores[name])) for name in others]


def shown_number(value: Any) -> str:
    """A count as it is, a fraction to four places."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4f}" if abs(value) >= 5e-5 else f"{value:.2e}"
    return f"{value:,.0f}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)


def _interval(scores: Mapping[str, float], name: str) -> str:
    low, high = (scores.get(f"{name}{mark}") for mark in MARKS)
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


# ---- pictures -------------------------------------------------------------------------------------------------------------------------------------


def _curves(steps: Sequence[Mapping[str, Any]], main_metric: str) -> list[Figure]:
    """Loss, learning rate, gradient norm, and every metric of the evaluations."""
    if not steps:
        return []
    at = [step["step"] for step in steps]
    evals: dict[str, dict[str, list[tuple[int, float]]]] = {}  # metric -> split -> points
    for step in steps:
        for split, scores in step.items():
            for metric, value in scores.items() if isinstance(scores, dict) else ():
                if isinstance(value, int | float) and not metric.endswith(MARKS):
                    evals.setdefault(metric, {}).setdefault(split, []).append((step["step"], value))
    train = {"train": list(zip(at, (step["loss"] for step in steps), strict=True))}
    figures = [
        curves("loss", "Loss", train | evals.pop("loss", {}), smoothed="train"),
        curves("learning_rate", "Learning rate", {"": list(zip(at, (step["learning_rate"] for step in steps), strict=True))}),
        curves("grad_norm", "Norm of the gradients", {"": list(zip(at, (step["grad_norm"] for step in steps), strict=True))}, smoothed=""),
    ]
    names = [name for name in evals if "/" not in name and not name.startswith("num_")]
    names = sorted(names, key=lambda name: name != main_metric)[:NUM_METRICS]
    figures += [curves(f"metric-{i}", name, evals[name]) for i, name in enumerate(names)]
    of_labels = {name.removesuffix("/f1"): points for name, points in evals.items() if name.endswith("/f1")}
    first = next(iter(next(iter(of_labels.values()))), None) if of_labels else None
    if first is not None:
        support = {label: evals.get(f"{label}/support", {}).get(first, [(0, 0)])[-1][1] for label in of_labels}
        largest = sorted(of_labels, key=lambda label: -support[label])[:NUM_LABELS]
        note = f"{first}" + (f"; the {len(largest)} most frequent of {len(of_labels)}" if len(largest) < len(of_labels) else "")
        figures.append(curves("labels", "F1 of each label", {label: of_labels[label].get(first, []) for label in largest}, note=note))
    return figures


def _length_figures(content: Mapping[str, Any], config: Mapping[str, Any], plan: Mapping[str, Any], results: Mapping[str, Any]) -> list[Figure]:
    lengths = {name: np.asarray(found) for name, found in content["lengths"].items()}
    train, longest = lengths["train"], config["data"]["max_length"]
    tokens = float(train @ np.arange(len(train)))
    shares = {
        "packed, as run": results["padding_fraction"] if results["steps"] else plan["padding_fraction"],
        "each batch padded to its longest": content["padding_to_longest"],
        f"padded to {longest} tokens": 1 - tokens / (train.sum() * longest),
    }
    rows = max(row_length for _, row_length, _ in plan["shapes"])
    return [
        histogram("lengths", "Tokens of an example", lengths, marks={"longest row": rows, "max_length": longest}),
        bars("padding", "Positions that are padding", shares, note="Packed: measured. To the longest: of random batches of the train split, up to 200."),
    ]


def _length_row(name: str, counts: np.ndarray) -> tuple[str, ...]:
    """Examples, tokens, and the lengths of half, of 95 %, and of the longest."""
    below = np.cumsum(counts)
    quantiles = [int(np.searchsorted(below, share * below[-1])) for share in (0.5, 0.95)] if len(counts) else [0, 0]
    total = int(counts @ np.arange(len(counts)))
    return (name, f"{int(counts.sum()):,}", f"{total:,}", *map(str, quantiles), str(max(0, len(counts) - 1)))


def _shown(folder: Path, figure: Figure) -> Shown:
    """Draws a figure twice, leaves the PNGs in the folder, and hands out what the page shows of it."""
    found = {}
    for appearance in ("light", "dark"):
        file = folder / f"{figure.name}{'' if appearance == 'light' else '-dark'}.png"
        save(figure, file, appearance=appearance)
        found[appearance] = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    width, height = (round(100 * size) for size in figure.size)
    return Shown(figure.title, found["light"], found["dark"], figure.alt, width, height, figure.note)


# ---- blocks of a task -----------------------------------------------------------------------------------------------------------------------------


def _blocks(folder: Path, split: str, sections: Sequence[Section]) -> list[dict[str, Any]]:
    """The blocks of a split; of the lists of texts the first is open."""
    first = next((i for i, one in enumerate(sections) if isinstance(one, Passages)), None)
    return [_block(folder, f"{split}-{i}", one) | {"is_first": i == first} for i, one in enumerate(sections)]


def _block(folder: Path, name: str, block: Section) -> dict[str, Any]:
    """What the template needs of a block: `kind` is one of picture, table, passages."""
    title: dict[str, Any] = {"title": block.title, "note": block.note}
    match block:
        case Table():
            rows = [[shown_number(cell) for cell in row] for row in block.rows]
            numeric = [all(isinstance(row[i], int | float) for row in block.rows) for i in range(len(block.header))]
            return title | {"kind": "table", "header": block.header, "rows": rows, "numeric": numeric, "total": max(block.total, len(rows))}
        case Passages():
            return title | {"kind": "passages", "passages": [_passage(one) for one in block.passages], "total": block.total}
        case Matrix():
            counts = np.asarray(block.counts, int).reshape(len(block.labels), len(block.labels))
            picture = _shown(folder, confusion_figure(name, block.title, block.labels, counts))
            return title | {"kind": "matrix", "picture": picture, "rows": _confused(block, counts)}
        case Reliability():
            there = any(block.curves.values())
            return title | {"kind": "picture", "picture": _shown(folder, reliability(name, block.title, block.curves)) if there else None}
        case Scatter():
            return title | {"kind": "picture", "picture": _shown(folder, scatter(name, block.title, block.gold, block.predicted))}


def _confused(block: Matrix, counts: np.ndarray, *, most: int = 10) -> list[tuple[str, str, int]]:
    """Label, what it was taken for and how often, the most frequent first."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = [divmod(int(one), len(block.labels)) for one in order]
    return [(block.labels[i], block.labels[j], int(wrong[i, j])) for i, j in places if wrong[i, j]]


def _passage(one: Passage) -> dict[str, Any]:
    """The text in pieces, each with the roles of the spans that it lies in, and the labels of those that end with it."""
    first_wrong = min((span.start for span in one.spans if span.role != "right"), default=0)
    start = max(0, min(first_wrong - LONGEST // 3, len(one.text) - LONGEST))
    end = min(len(one.text), start + LONGEST)
    spans = [span for span in one.spans if span.start < end and span.end > start and span.start < span.end]
    bounds = sorted({start, end, *(min(max(place, start), end) for span in spans for place in (span.start, span.end))})
    pieces = []
    for left, right in itertools.pairwise(bounds):
        inside = [span for span in spans if span.start < right and span.end > left]
        ending = [(span.label, span.role) for span in inside if span.end == right or (right == end and span.end > end)]
        pieces.append({"text": one.text[left:right], "roles": sorted({span.role for span in inside}), "labels": ending})
    return {"caption": one.caption, "pieces": pieces, "before": start > 0, "behind": end < len(one.text)}


# ---- files ----------------------------------------------------------------------------------------------------------------------------------------


def _environment() -> Any:
    import jinja2

    # Everything is escaped; what a page may not hold (control characters, halves of a surrogate pair) is replaced.
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _clean(value) if isinstance(value, str) else value,
    )


def _clean(text: str) -> str:
    if text.isprintable():
        return text
    return type(text)(FORBIDDEN.sub("\ufffd", text))  # a piece of markup stays one


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{file} is not there; a report is of a finished run: run the training to its end, with log.report on") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}); run the training again to write it anew") from None


def read_steps(file: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one a step; none where there is no file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
