"""Trackio as a backend: a SQLite file for all runs of a project in the folder of all runs; one Trackio run for all attempts at a
run."""

import contextlib
import io
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskbench.runs.loggers.fail_safe import columns, plain, safe

OURS = "maskbench."  # before what is no number: Trackio keeps some names for itself


class Trackio:
    """A Trackio run in the file `trackio/PROJECT.db` of the folder of all runs, or where its own variables say."""

    def __init__(self, run_dir: Path, about: dict[str, Any], start: dict[str, Any]) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(run_dir.parent.parent / "trackio"))  # its client reads it as it is imported
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # nothing goes over the network that nobody asked for
        with quiet():
            import trackio
            from trackio.utils import TRACKIO_DIR

            told = {key: start[key] for key in ("job_type", "tags", "notes") if start[key]}
            self._trackio, self._step = trackio, 0
            self._run = trackio.init(
                project=start["project"],
                name=about["id"],
                group=start["group"],
                config=start["config"] | {f"{OURS}{key}": value for key, value in (told | {"name": start["name"]}).items()},
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        self.about = about
        about |= {"files": str(TRACKIO_DIR), "run": self._run.id}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._step = step
        with quiet():
            self._run.log({key: float(value) for key, value in metrics.items() if not math.isnan(value)}, step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """A row of the last step: numbers and words."""
        told = {key: value for key, value in plain(values).items() if isinstance(value, int | float | str)}
        with quiet():
            self._run.log(told, step=self._step)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        head = columns(rows)
        made = self._trackio.Table(columns=head, data=[[plain(row.get(column)) for column in head] for row in rows])
        with quiet():
            self._run.log({safe(name): made}, step=self._step)

    def image(self, name: str, path: Path) -> None:
        with quiet():
            self._run.log({name: self._trackio.Image(str(path))}, step=self._step)

    def artifact(self, path: Path, kind: str) -> None:
        with quiet():
            self._run.log({f"{OURS}{safe(kind)}": str(path.resolve(strict=True))}, step=self._step)

    def finish(self, exit_code: int) -> None:
        with quiet():
            self._run.log({f"{OURS}exit_code": exit_code}, step=self._step)
            self._trackio.finish()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, Trackio prints nothing.

    Raises:
        RuntimeError: it warned, which is how it tells of numbers that it did not keep.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    if told := [str(one.message) for one in said if "trackio" in str(one.message).lower()]:
        raise RuntimeError(told[0])
