"""MLflow, on a tracking server or in a database file (sqlite:///mlflow.db). User and password come from the environment (MLFLOW_TRACKING_USERNAME, ...)."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MOST_METRICS, MOST_PARAMS, LONGEST_PARAM = 1000, 100, 500  # of one call, as servers have it
NO_NAME = re.compile(r"[^\w.\-/ ]")  # what a metric's name may not hold: "recall@10"


class Mlflow:
    """`place` is the tracking URI; the experiment is MLFLOW_EXPERIMENT_NAME of the environment, or "flaxft". A resumed run has the id it had."""

    forgets = False

    def __init__(self, workdir: Path, *, place: str, run_id: str, first_step: int, config: Mapping[str, Any]):
        for name in ("alembic", "mlflow"):  # they tell each table of a new database
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._client = MlflowClient(tracking_uri=place)
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
            self.run_id = run_id
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "flaxft"
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self.run_id = self._client.create_run(number, run_name=workdir.absolute().name).info.run_id
        params = [Param(NO_NAME.sub("_", key), str(value)[:LONGEST_PARAM]) for key, value in _flat(config)]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self.run_id, params=params[start : start + MOST_PARAMS])

    def write(self, records: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        now = int(1000 * time.time())
        metrics = [self._metric(NO_NAME.sub("_", name), value, now, step) for step, numbers in records for name, value in numbers.items()]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + MOST_METRICS])

    def close(self) -> None:
        self._client.set_terminated(self.run_id)


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [row for key, one in value.items() for row in _flat(one, f"{prefix}.{key}" if prefix else key)]
