"""Where metrics go beside the run directory: W&B, CSV, TensorBoard or nowhere, each as a `Sink`.

A logger may fail, the run may not: what goes wrong in one ends in a single warning line, and that sink falls silent.
W&B, Lightning and TensorBoard are imported only when a sink of theirs is made.
"""

import csv
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from maskbench import provenance
from maskbench.errors import UsageError, did_you_mean

log = logging.getLogger("maskbench")

FLUSH_SECONDS = 1.0  # what a kill -9 may cost
INIT_SECONDS = 20.0  # how long an online run may take to reach its server
FINISH_SECONDS = 60.0  # how long an online run may go on sending after the end; the rest stays on disk
SETTLE_SECONDS = 5.0  # how long W&B's own process may take to close its file


class Backend(Protocol):
    """What a logger must offer; every verb may raise."""

    about: dict[str, Any]

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def summary(self, values: Mapping[str, Any]) -> None: ...
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def image(self, name: str, path: Path) -> None: ...
    def artifact(self, path: Path, kind: str) -> None: ...
    def finish(self, exit_code: int) -> None: ...


class Sink:
    """A logger that cannot hurt the run. Call `finish` in a `finally`; after it, and after a failure, calls do nothing.

    Attributes:
        about: plain values for the record: `kind`, and what finds the logger's data again; `failed` after a failure.
    """

    def __init__(self, backend: Backend | None, about: dict[str, Any]) -> None:
        self._backend = backend
        self.about = about

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One row of the history. `step` never falls within an attempt at a run; a resumed run may go back."""
        self._call("log", metrics, step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values of the run; a later call adds to an earlier one."""
        self._call("summary", values)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as dicts; columns are the union of their keys in order of appearance."""
        self._call("table", name, rows)

    def image(self, name: str, path: str | Path) -> None:
        """An image file, such as a figure in the run directory."""
        self._call("image", name, Path(path))

    def artifact(self, path: str | Path, kind: str) -> None:
        """A file or folder that belongs to the result, such as `masks`; it is referred to, not copied."""
        self._call("artifact", Path(path), kind)

    def finish(self, exit_code: int = 0) -> None:
        """Write out what is left and close; a second call does nothing."""
        self._call("finish", exit_code)
        self._backend = None

    def _call(self, verb: str, *values: Any) -> None:
        if self._backend is None:
            return
        try:
            getattr(self._backend, verb)(*values)
        except Exception as error:
            backend, self._backend = self._backend, None
            self.about["failed"] = _one_line(error)
            log.warning("logger=%s stopped recording (%s); the run goes on without it", self.about["kind"], _one_line(error))
            if verb != "finish":
                with suppress(Exception):
                    backend.finish(1)


# ---- the choices of conf/logger


def wandb_logger(
    *,
    run_dir: str | Path,
    run_id: str,
    project: str,
    mode: str = "offline",
    entity: str | None = None,
    tags: Sequence[str] = (),
    group: str | None = None,
    job_type: str | None = None,
    config: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Sink:
    """Weights & Biases below `run_dir`/wandb. WANDB_MODE, where set, wins over `mode`: online, offline or disabled.

    Attempts at one run share `run_id`. Online without an API key or a server goes offline with a warning.
    """
    mode = _wandb_mode(mode)
    about = {"kind": "wandb", "mode": mode, "id": _safe(run_id)[:128], "project": project}
    if mode == "disabled":
        return Sink(None, about)
    start = {
        "id": about["id"],
        "project": project,
        "entity": entity,
        "tags": [str(tag) for tag in tags],
        "group": group,
        "job_type": job_type,
        "config": plain(config or {}),
        "name": name,
    }
    return _open(lambda: Wandb(Path(run_dir).resolve(), about, start), about)


def csv_logger(*, run_dir: str | Path, config: Mapping[str, Any] | None = None, **_: Any) -> Sink:
    """Lightning's CSV logger in `run_dir`/csv/version_N, one version an attempt."""
    about = {"kind": "csv"}
    return _open(lambda: CSV(Path(run_dir), about, plain(config or {})), about)


def tensorboard_logger(*, run_dir: str | Path, config: Mapping[str, Any] | None = None, **_: Any) -> Sink:
    """TensorBoard event files in `run_dir`/tensorboard; a resumed run goes on in the same curves."""
    if find_spec("tensorboard") is None:
        raise UsageError(
            "logger=tensorboard needs the tensorboard package; run: pip install 'maskbench[tensorboard]', or choose logger=csv"
        )
    about = {"kind": "tensorboard"}
    return _open(lambda: TensorBoard(Path(run_dir), about, plain(config or {})), about)


def no_logger(**_: Any) -> Sink:
    """Nothing beyond the run directory."""
    return Sink(None, {"kind": "none"})


def _open(make: Callable[[], Backend], about: dict[str, Any]) -> Sink:
    try:
        return Sink(make(), about)
    except Exception as error:
        about["failed"] = _one_line(error)
        log.warning("logger=%s could not start (%s); the run goes on without it", about["kind"], _one_line(error))
        return Sink(None, about)


# ---- Weights & Biases


class Wandb:
    """A W&B run of its own, whatever other W&B runs this process has."""

    def __init__(self, run_dir: Path, about: dict[str, Any], start: dict[str, Any]) -> None:
        self.about = about
        self._last: dict[str, int] = {}  # the step of the last row: files logged without one belong to it
        (run_dir / "wandb").mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(_environment(_surroundings(run_dir, about["mode"])))
            self._run, about["mode"] = _start(about["mode"], dir=str(run_dir), resume="allow", **start)
            about["files"] = Path(self._run.settings.sync_dir).relative_to(run_dir).as_posix()
            about["url"] = self._run.url
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")
            self._stack = stack.pop_all()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        # W&B's own step never goes back, so a resumed run would lose rows by it: ours is a metric
        self._last = {"step": step}
        self._run.log({**metrics, "step": step})

    def summary(self, values: Mapping[str, Any]) -> None:
        self._run.summary.update(plain(values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        import wandb

        columns = _columns(rows)
        data = [[plain(row.get(column)) for column in columns] for row in rows]
        self._run.log({name: wandb.Table(columns=columns, data=data, allow_mixed_types=True), **self._last})

    def image(self, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path)), **self._last})

    def artifact(self, path: Path, kind: str) -> None:
        import wandb

        path = path.resolve(strict=True)
        artifact = wandb.Artifact(_safe(f"{self.about['id']}-{path.stem}"), type=kind)
        add = artifact.add_dir if path.is_dir() else artifact.add_file
        add(str(path), policy="immutable")  # the other policy copies the file
        self._run.log_artifact(artifact)

    def finish(self, exit_code: int) -> None:
        with self._stack:
            try:
                self._run.finish(exit_code=exit_code)
                _settle(Path(self._run.settings.sync_file))
            except Exception:
                _restart_service()
                raise


def _wandb_mode(mode: str) -> str:
    """The mode to use: the user's WANDB_MODE, else `mode`, under its present name."""
    said = os.environ.get("WANDB_MODE") or mode
    where = "WANDB_MODE" if os.environ.get("WANDB_MODE") else "logger.mode"
    choices = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    if said not in choices:
        raise UsageError(f"{where}={said} is not a mode of W&B; use online, offline or disabled.{did_you_mean(said, choices)}")
    return choices[said]


def _surroundings(run_dir: Path, mode: str) -> dict[str, str]:
    """Environment that keeps W&B's scratch files in the run directory, W&B quiet, and offline runs off the network.

    Its config folder stays the user's own: nothing is written there, and a private server is named in it.
    """
    scratch = run_dir / "wandb"
    quiet = {"WANDB_DATA_DIR": str(scratch / "data"), "WANDB_CACHE_DIR": str(scratch / "cache"), "WANDB_SILENT": "true"}
    return quiet | ({"WANDB_ERROR_REPORTING": "false"} if mode == "offline" else {})


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Inside, environment variables the user has not set have these values."""
    added = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def _start(mode: str, **arguments: Any) -> tuple[Any, str]:
    """(run, mode it got). Online asks nothing and gives up soon."""
    if mode == "online":
        try:
            return _online(**arguments), "online"
        except Exception as error:
            log.warning(
                "W&B is not reachable (%s); recording offline, `wandb sync %s/wandb/offline-run-*` sends it later",
                _one_line(error), arguments["dir"],
            )  # fmt: skip
            _restart_service()  # it still holds the run's id
    try:
        return _init("offline", **arguments), "offline"
    except Exception:  # the service may have died under an earlier run of this process
        _restart_service()
        return _init("offline", **arguments), "offline"


def _online(**arguments: Any) -> Any:
    import wandb

    if wandb.run is None and not wandb.login(prompt=False, verify=True):
        raise ConnectionError("no API key; run `wandb login` once")
    return _init("online", **arguments)


def _init(mode: str, **arguments: Any) -> Any:
    import wandb

    root = provenance.checkout()  # the commit of our code, not of the folder the user stands in
    settings = wandb.Settings(
        silent=True,
        console="off",
        reinit="create_new",
        x_disable_stats=True,
        x_transaction_log_flush_interval=FLUSH_SECONDS,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        **({"git_root": str(root)} if root else {"disable_git": True}),
    )
    return wandb.init(mode=mode, settings=settings, **arguments)


def _settle(path: Path) -> None:
    """Wait until the file is whole: W&B's own process answers before it has written the end."""
    from maskbench.report import wandb_file

    deadline = time.monotonic() + SETTLE_SECONDS
    while not wandb_file.finished(path) and time.monotonic() < deadline:
        time.sleep(0.005)


def _restart_service() -> None:
    """End W&B's helper process; the next run starts a fresh one."""
    import wandb

    with suppress(Exception):
        wandb.teardown()


# ---- CSV


class CSV:
    """Lightning's CSVLogger; the summary and tables are files beside its metrics.csv."""

    def __init__(self, run_dir: Path, about: dict[str, Any], config: dict[str, Any]) -> None:
        from pytorch_lightning.loggers import CSVLogger

        self.about = about
        (run_dir / "csv").mkdir(parents=True, exist_ok=True)  # a missing one costs a warning
        self._logger = CSVLogger(run_dir, name="csv", flush_logs_every_n_steps=1)
        self._folder = Path(self._logger.log_dir)
        about["files"] = self._folder.relative_to(run_dir).as_posix()
        self._summary: dict[str, Any] = {}
        self._logger.log_hyperparams(config)
        self._logger.save()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._logger.log_metrics(dict(metrics), step)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._summary.update(plain(values))
        (self._folder / "summary.json").write_text(json.dumps(self._summary, indent=2) + "\n")

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        with open(self._folder / f"{_safe(name)}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, _columns(rows))
            writer.writeheader()
            writer.writerows(rows)

    def image(self, name: str, path: Path) -> None:
        """The file is in the run directory already."""

    def artifact(self, path: Path, kind: str) -> None:
        """The file is in the run directory already."""

    def finish(self, exit_code: int) -> None:
        self._logger.finalize("success" if exit_code == 0 else "failed")


# ---- TensorBoard


class TensorBoard:
    """Lightning's TensorBoardLogger, opened at the first row: TensorBoard then drops the steps a resumed run redoes."""

    def __init__(self, run_dir: Path, about: dict[str, Any], config: dict[str, Any]) -> None:
        self.about = about
        about["files"] = "tensorboard"
        self._run_dir = run_dir
        self._config = config
        self._logger: Any = None
        self._step = 0
        self._summary: dict[str, Any] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._step = step
        self._lightning(purge_step=step).log_metrics(dict(metrics), step)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._summary.update(plain(values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = _columns(rows)
        lines = [columns, ["---"] * len(columns), *([row.get(column, "") for column in columns] for row in rows)]
        text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        self._lightning().experiment.add_text(name, text, self._step)

    def image(self, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))  # [height, width, 3]
        self._lightning().experiment.add_image(name, pixels, self._step, dataformats="HWC")

    def artifact(self, path: Path, kind: str) -> None:
        """The file is in the run directory already."""

    def finish(self, exit_code: int) -> None:
        numbers = {name: value for name, value in self._summary.items() if isinstance(value, int | float)}
        logger = self._lightning()
        logger.log_hyperparams(self._config, numbers)
        logger.finalize("success" if exit_code == 0 else "failed")

    def _lightning(self, **writer: Any) -> Any:
        if self._logger is None:
            from pytorch_lightning.loggers import TensorBoardLogger

            options = {"default_hp_metric": False, "flush_secs": FLUSH_SECONDS, **writer}
            self._logger = TensorBoardLogger(self._run_dir, name="tensorboard", version="", **options)
        return self._logger


# ---- shared


def plain(value: Any) -> Any:
    """Any config tree or value as dicts, lists and JSON scalars; what is none of these becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        return value.item()
    return str(value)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _safe(name: str) -> str:
    """`name` with what is not a letter, digit or one of `_.-` as a dash."""
    return re.sub(r"[^\w.-]", "-", name)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
