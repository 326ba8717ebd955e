"""Exports of Label Studio (JSON): tasks whose annotations are spans of a text, or choices for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flaxft.data.content import Content, Placed
from flaxft.data.json_lines import read_json
from flaxft.errors import UserError

LABELS = ("labels", "hypertextlabels")  # of a result: what its spans are
TASK = re.compile(r'"(annotations|completions)"\s*:\s*\[')
log = logging.getLogger("flaxft")


def looks_like_label_studio(file: Content) -> bool:
    return file.head.lstrip()[:1] in ("[", "{") and '"data"' in file.head and '"result"' in file.head and TASK.search(file.head) is not None


def read_label_studio(file: Content) -> Placed:
    """A task a record: its data with `entities`, `[{"start", "end", "label", "text"}]`, where spans were annotated, and with `label` where choices were.

    Of several annotations the first that was not cancelled counts; a task without any is left out. Raises UserError.
    """
    tasks = [(place, task, _results(task)) for place, task in read_json(file)]
    done = [(place, task, results) for place, task, results in tasks if results is not None]
    if not done:
        raise UserError(f"{file.path}: none of its {len(tasks)} tasks was annotated; export finished ones")
    if len(done) < len(tasks):
        log.info("%s: %d of %d tasks have no annotation and are left out", file.path, len(tasks) - len(done), len(tasks))
    several = sum(len(_annotations(task)) > 1 for _, task, _ in done)
    if several:
        log.warning("%s: %d tasks were annotated more than once, of which the first annotation counts", file.path, several)
    kinds = {kind for _, _, results in done for result in results for kind in _values(result)}
    has_spans, has_choices = bool(kinds & set(LABELS)), "choices" in kinds
    if not has_spans and not has_choices:
        raise UserError(f"{file.path}: its annotations are {', '.join(sorted(kinds)) or 'empty'}, expected labels of spans of text, or choices")
    for place, task, results in done:
        record: dict[str, Any] = {name: value for name, value in task["data"].items() if isinstance(value, str | int | float)}
        if has_spans:
            record["entities"] = [span for result in results if (span := _span(_values(result)))]
        chosen = [choice for result in results for choice in _values(result).get("choices", [])]
        if has_choices and not chosen and not has_spans:
            continue
        yield place, record | ({"label": chosen[0] if len(chosen) == 1 else chosen} if chosen else {})


def _annotations(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = task.get("annotations", task.get("completions"))
    return [one for one in found if isinstance(one, dict) and not one.get("was_cancelled")] if isinstance(found, list) else []


def _results(task: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """What was annotated; None where nothing was."""
    annotations = _annotations(task)
    if not annotations or not isinstance(task.get("data"), dict):
        return None
    found = annotations[0].get("result")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else None


def _values(result: Mapping[str, Any]) -> Mapping[str, Any]:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def _span(value: Mapping[str, Any]) -> dict[str, Any] | None:
    labels = next((value[kind] for kind in LABELS if value.get(kind)), None)
    if not labels:
        return None
    of_html = value.get("globalOffsets")  # its start and end count in an element
    places: Mapping[str, Any] = of_html if isinstance(of_html, dict) else value
    return {"start": places.get("start"), "end": places.get("end"), "label": labels[0], "text": value.get("text", "")}
