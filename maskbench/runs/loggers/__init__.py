"""Where metrics go beside the run directory: W&B, CSV, TensorBoard, MLflow, Trackio or nowhere, each a `FailSafeLogger`.

A logger may fail, the run may not: what goes wrong in one ends in a single warning line, and that logger falls silent.
Imports what maskbench/runs does; W&B, Lightning, TensorBoard, MLflow and Trackio only when a logger of theirs is made.
"""

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from maskbench.common.errors import UsageError
from maskbench.runs.loggers.fail_safe import FailSafeLogger, Loggers, opened, plain, safe
from maskbench.runs.loggers.files import CSV, TensorBoard
from maskbench.runs.loggers.mlflow_run import MLflow
from maskbench.runs.loggers.trackio_run import Trackio
from maskbench.runs.loggers.wandb_run import Wandb, wandb_mode

log = logging.getLogger("maskbench")

__all__ = [
    "FailSafeLogger", "Loggers", "csv_logger", "mlflow_logger", "no_logger", "plain", "tensorboard_logger", "trackio_logger",
    "wandb_logger",
]  # fmt: skip


def wandb_logger(
    *,
    run_dir: str | Path,
    run_id: str,
    project: str,
    mode: Literal["online", "offline", "disabled"] = "offline",
    entity: str | None = None,
    tags: Sequence[str] = (),
    group: str | None = None,
    job_type: str | None = None,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
    notes: str | None = None,
) -> FailSafeLogger:
    """Weights & Biases below `run_dir`/wandb. WANDB_MODE, where set, wins over `mode`: online, offline or disabled.

    Attempts at one run share `run_id`. Online without an API key or a server goes offline with a warning; without the wandb
    package a warning is all that comes of it.
    """
    mode = wandb_mode(mode)
    about = {"kind": "wandb", "mode": mode, "id": safe(run_id)[:128], "project": project}
    if mode == "disabled":
        return FailSafeLogger(None, about)
    if find_spec("wandb") is None:  # it is the default, so a machine without it gets its run all the same
        about["failed"] = "the wandb package is not installed"
        log.warning("logger=wandb records nothing: the wandb package is not installed; choose logger=csv or logger=none")
        return FailSafeLogger(None, about)
    start = {
        "id": about["id"],
        "project": project,
        "entity": entity,
        "tags": [str(tag) for tag in tags],
        "group": group,
        "job_type": job_type,
        "config": plain(config or {}),
        "name": name,
        "notes": notes,
    }
    return opened(lambda: Wandb(Path(run_dir).resolve(), about, start), about)


def csv_logger(*, run_dir: str | Path, config: Mapping[str, Any] | None = None, **_: Any) -> FailSafeLogger:
    """Lightning's CSV logger in `run_dir`/csv/version_N, one version an attempt."""
    about = {"kind": "csv"}
    return opened(lambda: CSV(Path(run_dir), about, plain(config or {})), about)


def tensorboard_logger(*, run_dir: str | Path, config: Mapping[str, Any] | None = None, **_: Any) -> FailSafeLogger:
    """TensorBoard event files in `run_dir`/tensorboard; a resumed run goes on in the same curves."""
    if find_spec("tensorboard") is None:
        raise UsageError(
            "logger=tensorboard needs the tensorboard package; run: pip install 'maskbench[tensorboard]', or choose logger=csv"
        )
    about = {"kind": "tensorboard"}
    return opened(lambda: TensorBoard(Path(run_dir), about, plain(config or {})), about)


def mlflow_logger(
    *,
    run_dir: str | Path,
    run_id: str,
    project: str,
    tracking_uri: str | None = None,
    tags: Sequence[str] = (),
    group: str | None = None,
    job_type: str | None = None,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
    notes: str | None = None,
) -> FailSafeLogger:
    """MLflow: metrics, settings, figures and tables of all runs in one SQLite file, `mlflow.db` in the folder of all runs, or on
    the server that `tracking_uri` names. Attempts at one run share `run_id`, and are one run there.

    Raises:
        UsageError: the package is missing.
    """
    if find_spec("mlflow") is None:
        raise UsageError("logger=mlflow needs the mlflow package; run: pip install 'maskbench[mlflow]', or choose logger=csv")
    about = {"kind": "mlflow", "id": safe(run_id), "project": project}
    start = {
        "project": project,
        "tracking_uri": tracking_uri,
        "tags": [str(tag) for tag in tags],
        "group": group,
        "job_type": job_type,
        "config": plain(config or {}),
        "name": name,
        "notes": notes,
    }
    return opened(lambda: MLflow(Path(run_dir).resolve(), about, start), about)


def trackio_logger(
    *,
    run_dir: str | Path,
    run_id: str,
    project: str,
    tags: Sequence[str] = (),
    group: str | None = None,
    job_type: str | None = None,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
    notes: str | None = None,
) -> FailSafeLogger:
    """Trackio: metrics, settings, figures and tables of all runs in one SQLite file of `trackio` in the folder of all runs.
    TRACKIO_DIR, and its other variables, win. Attempts at one run share `run_id`, and are one run there.

    Raises:
        UsageError: the package is missing.
    """
    if find_spec("trackio") is None:
        raise UsageError("logger=trackio needs the trackio package; run: pip install 'maskbench[trackio]', or choose logger=csv")
    about = {"kind": "trackio", "id": safe(run_id), "project": project}
    start = {
        "project": project,
        "tags": [str(tag) for tag in tags],
        "group": group,
        "job_type": job_type,
        "config": plain(config or {}),
        "name": name,
        "notes": notes,
    }
    return opened(lambda: Trackio(Path(run_dir).resolve(), about, start), about)


def no_logger(**_: Any) -> FailSafeLogger:
    """Nothing beyond the run directory."""
    return FailSafeLogger(None, {"kind": "none"})
