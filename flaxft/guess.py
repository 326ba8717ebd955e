"""The task that some records are for, told from their columns, and a config for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flaxft import encoder, plugins
from flaxft.config import Config
from flaxft.data.base import Record, Source
from flaxft.data.kinds import Columns
from flaxft.data.source import open_source
from flaxft.errors import UserError
from flaxft.models.hf import Pretrained
from flaxft.tasks.base import Claim, Task

CERTAIN = 0.7  # the strength from which on a claim goes before the doubts of other classes
ASKED = ("format", "comment", "text_columns", "label_column")  # fields of a task that say how its records are read


class Guess(NamedTuple):
    """A task without splits, and in words how the records are read: "one label a text: text in 'body', one label in 'queue'"."""

    task: Task
    line: str


def guess_task(source: Source | Sequence[Record], *, name: str = "", text_columns: Sequence[str] = (), label_column: str = "") -> Guess:
    """The task class with the strongest claim on the records; the columns are taken as they are named, or else guessed too.

    Raises UserError that says what the columns hold where no class or more than one claims them, and where two columns could be meant.
    """
    columns = Columns(source, asked_texts=text_columns, asked_label=label_column)
    missing = [one for one in (*columns.asked_texts, *filter(None, [columns.asked_label])) if one not in columns.kinds]
    name = name or getattr(source, "name", "") or "the records"
    if missing:
        raise UserError(f"{name}: no column {missing[0]!r}; found are {', '.join(columns.kinds)}")
    claims: list[tuple[Claim, type]] = []
    unclear: list[UserError] = []
    for cls in plugins.tasks():
        try:
            claim = cls.claim(columns) if hasattr(cls, "claim") else None
        except UserError as error:  # of a class that takes any texts; another one may know the layout
            unclear.append(error)
            continue
        if claim:
            claims.append((claim, cls))
    if unclear and max((claim.strength for claim, _ in claims), default=0.0) < CERTAIN:
        raise UserError(f"{name}: {unclear[0]}")
    if not claims:
        if texts := _texts(columns):
            others = [column for column in columns.kinds if column not in texts]
            beside = f"none of {', '.join(map(repr, others))} can be its label" if others else "there is no column of labels"
            raise UserError(
                f"{name}: {columns.in_words(texts)}, but {beside}; name one with --config.task.label_column=COLUMN; --config=mlm learns from texts alone"
            )
        held = ", ".join(f"{column!r} ({kind.name})" for column, kind in columns.kinds.items())
        raise UserError(
            f"{name}: no task can be told from the columns {held}; name one by its config and say which columns it reads, such as --config=intent "
            "--config.task.text_columns=COLUMN --config.task.label_column=COLUMN"
        )
    strongest, cls = max(claims, key=lambda one: one[0].strength)
    return Guess(cls(**strongest.fields), strongest.reason)


def _texts(columns: Columns) -> tuple[str, ...]:
    try:
        return columns.texts()
    except UserError:
        return ()


def guess_config(path: str, *, asked: Mapping[str, str] | None = None, model: str = "") -> tuple[Config, str]:
    """A config that trains on the file with the guessed task and everything else as it is by default, and how the file is read in words.

    asked: fields of the task that the user named, of those in `ASKED`; they are set by the caller too. Raises UserError.
    """
    asked = {name: value for name, value in (asked or {}).items() if value}
    try:
        source = open_source(path, split="train", format=asked.get("format"), comment=asked.get("comment", ""))
    except UserError as error:
        hint = "; if it is plain text without labels, --config=mlm learns from it" if path.endswith((".txt", ".txt.gz", ".md")) else ""
        raise UserError(f"{error}{hint}") from None
    texts = [part.strip().strip("'\"") for part in asked.get("text_columns", "").strip("()[]").split(",") if part.strip()]
    guess = guess_task(source, name=path, text_columns=texts, label_column=asked.get("label_column", ""))
    guess.task.train = path
    return Config(task=guess.task, model=Pretrained(path=model or str(encoder.DIRECTORY))), guess.line


def name_of(path: str) -> str:
    """A short name for a data file: tickets of data/tickets.csv.gz, wnut_17 of hub:leondz/wnut_17@main."""
    last = Path(re.split(r"[@#]", path.removeprefix("hub:"))[0] if path.startswith("hub:") else path.rstrip("/")).name
    stem = re.split(r"(?<=.)\.", last)[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "data"
