"""`flaxft.finetune(df, text="body", label="queue")`: one call from data to a predictor."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxft import encoder, plugins
from flaxft.config import Config
from flaxft.data import splits
from flaxft.data.memory import Given, InMemory
from flaxft.errors import UserError, nearest
from flaxft.guess import guess_task
from flaxft.models.hf import Pretrained
from flaxft.predict import Predictor, load
from flaxft.tasks.base import Task
from flaxft.train.callbacks import Callback
from flaxft.train.evaluate import Metric
from flaxft.train.loop import run


def finetune(
    train: Given,
    *,
    text: str | Sequence[str] = (),
    label: str | Sequence[str] = "",
    task: str | Task | None = None,
    model: str | Path = "",
    validation: Given | float | None = None,
    test: Given | float = "",
    workdir: str | Path | None = None,
    num_epochs: float | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    metrics: Mapping[str, Metric] | None = None,
    **fields: Any,
) -> Predictor:
    """Trains on data in memory or a file and returns the predictor, with `.scores` ({"validation": {"accuracy": ...}}) and `.workdir`.

        model = flaxft.finetune(df, text="body", label="queue", model="sentence-transformers/all-MiniLM-L6-v2")
        model.scores["validation"]["accuracy"], model.predict(["where is my card?"])

    It runs in scripts, notebooks and threads. Files of the run (weights, scores, a report) lie in the workdir.

    Args:
      train: a list of dicts, a dict of lists, a pandas DataFrame, a `datasets.Dataset`, or the path of a file.
      text: the column of the texts or of the words, or the two columns of a pair; by default the one that a person would take.
      label: the column of the labels, numbers, lists of labels or tags; or several columns of 0 and 1, one a label. By default as with `text`.
      task: what is learnt, where the columns shall not say it: the name of a module of flaxft.tasks, such as "sequence_classification", "regression",
        "multilabel_classification" or "token_classification", or a task of your own making.
      model: a directory or hub id of an encoder; by default the small one that comes with flaxft.
      validation: as `train`, or a share of it such as 0.1; None is a tenth of 100 records or more, "" none. It picks the best weights.
      test: as `validation`; none by default.
      workdir: the run's folder; by default a new one among the temporary files. With the folder of an earlier call the run goes on, or is there already.
      num_epochs, learning_rate, batch_size, max_length: by default what suits the encoder and the data.
      seed: of everything random; the same seed gives the same run.
      callbacks: see `flaxft.Callback`. metrics: functions of your own by name, of records and predictions.
      fields: any other field of the config by its name, if only one section has it, or in full: `dropout=0.2`, `**{"optim.weight_decay": 0.1}`.

    Raises UserError for data, columns and settings that cannot be meant.
    """
    named = _named_task(task, train, text=text, label=label)
    named.train = splits.source_of(train, name="train")
    if validation is not None:
        named.validation = splits.source_of(validation, name="validation")
    named.test = splits.source_of(test, name="test")
    cfg = Config(task=named, model=Pretrained(path=str(model) or str(encoder.DIRECTORY)), seed=seed)
    given = {"num_epochs": num_epochs, "optim.learning_rate": learning_rate, "data.batch_size": batch_size, "data.max_length": max_length}
    for name, value in {key: value for key, value in given.items() if value is not None}.items() | fields.items():
        _set(cfg, name.replace("__", "."), value)
    folder = Path(workdir) if workdir is not None else Path(tempfile.mkdtemp(prefix="flaxft-run-"))
    run(cfg, folder, callbacks=callbacks, metrics=metrics)
    return load(folder, types=(type(named), type(cfg.model)))


def _named_task(task: str | Task | None, train: Given, *, text: str | Sequence[str], label: str | Sequence[str]) -> Any:
    """The task that is named, or that the columns say; with the columns that are named. Raises UserError."""
    texts = (text,) if isinstance(text, str) else tuple(text)
    texts = tuple(one for one in texts if one)
    labels = (label,) if isinstance(label, str) else tuple(label)
    columns: dict[str, Any] = {"text_columns": texts} if texts else {}
    if len(labels) > 1:
        columns["label_columns"] = labels
    elif labels and labels[0]:
        columns["label_column"] = labels[0]
    if task is None and len(labels) > 1:
        [cls] = [one for one in plugins.tasks() if "label_columns" in one.__dataclass_fields__]  # type: ignore[attr-defined]
        return cls(**columns)
    if task is None:
        source = splits.source_of(train, name="train")
        records = source if isinstance(source, InMemory) else splits.open_path(source)
        guess = guess_task(records, name=str(source), text_columns=texts, label_column=columns.get("label_column", ""))  # type: ignore[arg-type]
        logging.getLogger("flaxft").info("%s: %s", type(guess.task).__name__, guess.line)
        return dataclasses.replace(guess.task)  # type: ignore[type-var]  # every task is a dataclass
    if not isinstance(task, str):
        return dataclasses.replace(task, **columns)  # type: ignore[type-var]
    known = {cls.__module__.rpartition(".")[2]: cls for cls in plugins.tasks()}
    name = task.replace("-", "_")
    if name not in known:
        raise UserError(f"task={task!r} is unknown{nearest(name, known)}; known are {', '.join(known)}; or leave it out, and the columns say it")
    fitting = known[name].__dataclass_fields__  # type: ignore[attr-defined]
    if unfit := [one for one in columns if one not in fitting]:
        raise UserError(f"task={task!r} has no {unfit[0]}; leave text and label out and name its columns by their fields: {', '.join(fitting)}")
    return known[name](**columns)


def _set(cfg: Config, name: str, value: Any) -> None:
    """A field by its name, dotted or alone. Raises UserError for one that there is not, or that several sections have."""
    sections = {field.name: one for field in dataclasses.fields(cfg) if dataclasses.is_dataclass(one := getattr(cfg, field.name))}
    places: dict[str, list[tuple[Any, str, str]]] = {}  # name -> owner, field and full name of each field that is called so
    for field in dataclasses.fields(cfg):
        if field.name not in sections:
            places[field.name] = [(cfg, field.name, field.name)]
    for section, owner in sections.items():
        for field in dataclasses.fields(owner):
            place = (owner, field.name, f"{section}.{field.name}")
            places.setdefault(field.name, []).append(place)
            places[place[2]] = [place]
    found = places.get(name.removeprefix("config."), [])
    if len(found) > 1:
        raise UserError(f"{name} is a field of several sections; give one of {', '.join(full for *_, full in found)} as **{{'{found[0][2]}': ...}}")
    if not found:
        raise UserError(f"finetune has no argument and the config no field {name!r}{nearest(name, places)}")
    owner, field_name, _ = found[0]
    setattr(owner, field_name, value)
