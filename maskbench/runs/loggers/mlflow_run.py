"""MLflow as a backend: a SQLite file beside the runs, or a server; one MLflow run for all attempts at a run."""

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from maskbench.common.identity import leaves
from maskbench.runs.loggers.fail_safe import columns, plain, safe

FLUSH_SECONDS = 1.0  # what a kill -9 may cost
BATCH = 900  # numbers that MLflow takes at once, 1,000 at most
PARAMS = 100  # settings that it takes at once
LONGEST = 5000  # letters of a setting or a tag, below what its tables hold
ENDS = {0: "FINISHED", 130: "KILLED"}  # exit status -> what MLflow calls it; any other: FAILED
OURS = "maskbench.run"  # the tag that finds a run again


class MLflow:
    """An MLflow run in the file `mlflow.db` of the folder of all runs, or on the server that `tracking_uri` names."""

    def __init__(self, run_dir: Path, about: dict[str, Any], start: dict[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing goes over the network that nobody asked for
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it would tell of every table it makes
        from mlflow.tracking import MlflowClient

        self.about = about
        self._waiting: list[Any] = []
        self._flushed, self._step = time.monotonic(), 0
        outputs = run_dir.parent.parent
        uri = start["tracking_uri"] or f"sqlite:///{outputs / 'mlflow.db'}"
        with FileLock(outputs / ".mlflow.lock"):  # two runs that start together would make its tables twice
            self._client = MlflowClient(tracking_uri=uri)
            experiment = self._client.get_experiment_by_name(start["project"])
            if experiment is None:
                place = None if start["tracking_uri"] else (outputs / "mlflow").as_uri()
                number = self._client.create_experiment(start["project"], artifact_location=place)
            else:
                number = experiment.experiment_id
        self._run = self._taken_up(number, about["id"]) or self._begun(number, about["id"], start)
        about |= {"uri": uri, "run": self._run}

    def _taken_up(self, experiment: str, name: str) -> str | None:
        """The run of an earlier attempt, which goes on."""
        found = self._client.search_runs([experiment], filter_string=f"tags.`{OURS}` = '{name}'", max_results=1)
        if not found:
            return None
        self._client.update_run(found[0].info.run_id, status="RUNNING")
        return found[0].info.run_id

    def _begun(self, experiment: str, name: str, start: dict[str, Any]) -> str:
        from mlflow.entities import Param

        tags = {OURS: name, "group": start["group"], "job_type": start["job_type"], "tags": ", ".join(start["tags"])}
        tags |= {"mlflow.note.content": start["notes"]}
        tags = {key: str(value)[:LONGEST] for key, value in tags.items() if value}
        made = self._client.create_run(experiment, run_name=start["name"], tags=tags)
        params = [Param(named(key), str(value)[:LONGEST]) for key, value in leaves(start["config"])]
        for at in range(0, len(params), PARAMS):
            self._client.log_batch(made.info.run_id, params=params[at : at + PARAMS])
        return made.info.run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._step = step
        self._waiting += self._numbers(metrics, step)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS or len(self._waiting) >= BATCH:
            self._flush()

    def summary(self, values: Mapping[str, Any]) -> None:
        """Numbers as metrics of the last step; words as tags."""
        values = plain(values)
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        self._waiting += self._numbers(numbers, self._step)
        self._flush()
        for key, value in values.items():
            if isinstance(value, str):
                self._client.set_tag(self._run, named(key), value[:LONGEST])

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        head = columns(rows)
        data = {column: [plain(row.get(column)) for row in rows] for column in head}
        self._client.log_table(self._run, data=data, artifact_file=f"{safe(name)}.json")

    def image(self, name: str, path: Path) -> None:
        self._client.log_artifact(self._run, str(path), "figures")

    def artifact(self, path: Path, kind: str) -> None:
        self._client.set_tag(self._run, f"artifact.{safe(kind)}", str(path.resolve(strict=True)))

    def finish(self, exit_code: int) -> None:
        self._flush()
        self._client.set_terminated(self._run, ENDS.get(exit_code, "FAILED"))

    def _numbers(self, metrics: Mapping[str, float], step: int) -> Iterator[Any]:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        for key, value in metrics.items():
            if not math.isnan(value):  # a row of it would be read back as 0
                yield Metric(named(key), float(value), now, step)

    def _flush(self) -> None:
        while self._waiting:
            self._client.log_batch(self._run, metrics=self._waiting[:BATCH])
            del self._waiting[:BATCH]
        self._flushed = time.monotonic()


def named(key: str) -> str:
    """A name as MLflow takes it: letters, digits and `_-. /`."""
    return re.sub(r"[^\w\-. /]", "-", key)
