"""The end of a run: every split scored with the best weights, a baseline beside it, a verdict, the files, and what to do next."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxft import files, processes, report
from flaxft.config import Config
from flaxft.errors import Interrupted, printable, reason
from flaxft.log import Writer
from flaxft.models.base import Checkpoint
from flaxft.recipe import Choice
from flaxft.tasks.base import Shows, Task, WritesFiles, top_scores
from flaxft.train import baselines, prepare
from flaxft.train.evaluate import Result
from flaxft.train.observe import of_inputs, of_run
from flaxft.train.prepare import Inputs
from flaxft.verdict import Finding, Observations, contented, verdict

MANY_LABELS = 20  # from which on the terminal shows the worst alone
NUM_WORST = 5


class Trained(NamedTuple):
    """A run whose training is over."""

    cfg: Config  # with the resolved task
    checkpoint: Checkpoint
    inputs: Inputs
    steps_per_epoch: int
    step: int
    best: Mapping[str, Any] | None  # step, split, metric and value of the weights that are kept; None where no evaluation chose
    workdir: Path
    devices: Sequence[Any]
    choices: tuple[Choice, ...]  # what the config left open


def finish(
    run: Trained, scored: Sequence[str], evaluate: Callable[[str], Result], speed: Callable[[], dict[str, Any]], writer: Writer, poll: Callable[[], None]
) -> dict[str, Any]:
    """Scores the splits with `evaluate`, writes predictions, results.json and the report, and returns what results.json holds."""
    task, records = run.inputs.task, run.inputs.records
    step = run.best["step"] if run.best else run.step
    finals: dict[str, dict[str, float]] = {}
    sections = {}
    for name in scored:
        result = evaluate(name)
        finals[name] = result.metrics
        sections[name] = task.sections(result.decoded, records[name]) if run.cfg.log.report and isinstance(task, Shows) else []
        if processes.is_first():
            _write_predictions(run.workdir / "predictions", name, task, result.decoded)
        writer.line(f"\n{name}: {records[name].name}, {len(records[name]):,} records, weights of step {step}\n")
        worst = worst_labels(result.metrics, where="report/index.html" if run.cfg.log.report else "results.json")
        writer.line(worst or task.report(result.decoded, records[name]))
    results: dict[str, Any] = {"evals": finals, "steps": run.step, **speed(), "best": run.best, "recipe": {one.field: one._asdict() for one in run.choices}}
    if not processes.is_first():
        return results
    writer.sync()  # the verdict reads metrics.jsonl
    files.write_json(run.workdir / "results.json", results)  # whoever stops the baselines has the scores
    found = _baselines(run, scored, writer, poll) if run.cfg.log.baseline and run.step else baselines.Found({}, "")
    seen = of_run(
        of_inputs(run.cfg, run.checkpoint, run.inputs, steps_per_epoch=run.steps_per_epoch),
        report.read_steps(run.workdir / "metrics.jsonl") if run.step else [],
        decides=next((name for name in run.cfg.evals if name in records), None),
        scores=finals,
        baselines=found.scores,
    )
    findings = verdict(seen)
    results |= {"baselines": found.scores, "verdict": [one._asdict() for one in findings]}
    files.write_json(run.workdir / "results.json", results)
    lines = [*score_lines(finals, found, main_metric=task.main_metric.removeprefix("-")), "", *verdict_lines(seen, findings), ""]
    if run.cfg.log.report:
        _save_content(run, sections, contented=contented(seen))
        lines.append(f"report in {report.write(run.workdir)}")
    writer.line("\n" + "\n".join([*lines, f"results in {run.workdir / 'results.json'}", "", *next_lines(run.workdir)]))
    return results


def _baselines(run: Trained, scored: Sequence[str], writer: Writer, poll: Callable[[], None]) -> baselines.Found:
    records = run.inputs.records
    splits = {name: records[name] for name in scored if name != "train"}
    try:
        return baselines.score(run.inputs.task, records["train"], splits, fit_on=next(iter(run.cfg.evals), None), seed=run.cfg.seed, poll=poll)
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 (an extra, by a package of others, of a run that is over)
        writer.line(f"warning: no baselines: {type(error).__name__}: {reason(error)}")
        return baselines.Found({}, "")


# ---- lines for people -----------------------------------------------------------------------------------------------------------------------------


def score_lines(scores: Mapping[str, Mapping[str, float]], found: baselines.Found, *, main_metric: str) -> list[str]:
    """"test accuracy 0.9120   baseline 0.8900 (TF-IDF + logistic regression)   majority 0.0310" for each split."""
    lines = []
    names = {split: f"{split} {main_metric}" for split, metrics in scores.items() if main_metric in metrics}
    for split, name in names.items():
        parts = [f"{name:<{max(map(len, names.values()))}} {scores[split][main_metric]:.4f}"]
        own = {one: metrics[main_metric] for one, metrics in found.scores.get(split, {}).items() if main_metric in metrics}
        *simple, best = own or [""]
        parts += [f"baseline {own[best]:.4f} ({best})"] if own else []
        parts += [f"{one} {own[one]:.4f}" for one in simple]
        lines.append("   ".join(parts))
    if found.note:
        lines.append(f"(baselines {found.note})")
    return lines


def verdict_lines(seen: Observations, findings: Sequence[Finding]) -> list[str]:
    """"Verdict: ..." and below it each finding with its flag."""
    if not findings:
        return [f"Verdict: {contented(seen)}"]
    lines = [f"Verdict: {len(findings)} thing{'s' * (len(findings) > 1)} to look at"]
    for one in findings:
        lines.append(f"  - {one.line}")
        lines += [f"    try {one.flag}"] if one.flag else []
    if any(one.flag for one in findings):
        lines.append("  (a run with another config needs another --workdir)")
    return lines


def worst_labels(scores: Mapping[str, float], *, where: str) -> str:
    """The scores in a line, and the labels with the lowest F1; empty where there are few enough labels to show all of them."""
    labels = {name.removesuffix("/f1"): value for name, value in scores.items() if name.endswith("/f1") and not name.endswith(" avg/f1")}
    if len(labels) <= MANY_LABELS:
        return ""
    there = {label: f1 for label, f1 in labels.items() if scores.get(f"{label}/support", 1)}
    worst = sorted(there, key=lambda label: there[label])[:NUM_WORST]
    shown = [printable(label) for label in worst]
    width = max(map(len, shown))
    lines = ["  ".join(f"{name} {value:.4f}" for name, value in scores.items() if "/" not in name and not name.startswith("num_")), ""]
    lines.append(f"{'':<{width}}  precision    recall  f1-score   support")
    for label, name in zip(worst, shown, strict=True):
        figures = (scores.get(f"{label}/precision", math.nan), scores.get(f"{label}/recall", math.nan), there[label])
        lines.append(f"{name:<{width}} {''.join(f'{one:>10.4f}' for one in figures)}{scores.get(f'{label}/support', 0):>10}")
    return "\n".join([*lines, "", f"the {len(worst)} worst of {len(labels)} labels; all in {where}"]) + "\n"


def next_lines(workdir: Path) -> list[str]:
    """What to do with a finished run, to be pasted."""
    run = shlex.quote(str(workdir))
    return ["Next:", f"  flaxft predict {run} FILE", f"  flaxft export {run}", f"  flaxft report {run}"]


# ---- files ----------------------------------------------------------------------------------------------------------------------------------------


def _save_content(run: Trained, sections: Mapping[str, Sequence[Any]], *, contented: str) -> None:
    records, items = run.inputs.records, run.inputs.items
    report.save_content(
        run.workdir,
        sections=sections,
        sources={name: f"{one.name}, {len(one):,} records" for name, one in records.items()},
        lengths={name: one.lengths for name, one in items.items()},
        padding_to_longest=prepare.padding_to_longest(run.cfg, items["train"]),
        devices=run.devices,
        contented=contented,
        model=run.checkpoint.name,
    )


def _write_predictions(folder: Path, split: str, task: Task, decoded: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    files.write_text(folder / f"{split}.jsonl", "".join(json.dumps(top_scores(one, None), ensure_ascii=False) + "\n" for one in decoded))
    for name, content in task.files(decoded).items() if isinstance(task, WritesFiles) else ():
        (folder / split).mkdir(exist_ok=True)
        files.write_text(folder / split / name, content)
