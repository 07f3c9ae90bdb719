"""Weights & Biases as a backend: offline without an account, online where there is one, and no trace left behind."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from maskbench.common import provenance
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.report import wandb_file
from maskbench.runs.loggers.fail_safe import columns, one_line, plain, safe

log = logging.getLogger("maskbench")

FLUSH_SECONDS = 1.0  # what a kill -9 may cost
INIT_SECONDS = 20.0  # how long an online run may take to reach its server
FINISH_SECONDS = 60.0  # how long an online run may go on sending after the end; the rest stays on disk
START_SECONDS = 45.0  # how long W&B may take to start, its own process, its key and its server together
SETTLE_SECONDS = 5.0  # how long W&B's own process may take to close its file


class Wandb:
    """A W&B run of its own, whatever other W&B runs this process has."""

    def __init__(self, run_dir: Path, about: dict[str, Any], start: dict[str, Any]) -> None:
        self.about = about
        self._last: dict[str, int] = {}  # the step of the last row: files logged without one belong to it
        self._rows = wandb_file.next_row(run_dir, about["id"])  # W&B's own step: a resumed run goes on behind its earlier files
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
        self._put(metrics)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._run.summary.update(plain(values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        import wandb

        head = columns(rows)
        data = [[plain(row.get(column)) for column in head] for row in rows]
        self._put({name: wandb.Table(columns=head, data=data, allow_mixed_types=True)})

    def image(self, name: str, path: Path) -> None:
        import wandb

        self._put({name: wandb.Image(str(path))})

    def artifact(self, path: Path, kind: str) -> None:
        import wandb

        path = path.resolve(strict=True)
        artifact = wandb.Artifact(safe(f"{self.about['id']}-{path.stem}"), type=kind)
        add = artifact.add_dir if path.is_dir() else artifact.add_file
        add(str(path), policy="immutable")  # the other policy copies the file
        self._run.log_artifact(artifact)

    def _put(self, values: Mapping[str, Any]) -> None:
        self._run.log({**values, **self._last}, step=self._rows, commit=True)  # else it waits for the next row
        self._rows += 1

    def finish(self, exit_code: int) -> None:
        with self._stack:
            try:
                bounded(lambda: self._run.finish(exit_code=exit_code), FINISH_SECONDS + START_SECONDS)
                _settle(Path(self._run.settings.sync_file))
            except Exception:
                _restart_service()
                raise


def wandb_mode(mode: str) -> str:
    """The mode to use: the user's WANDB_MODE, else `mode`, under its present name."""
    wanted = os.environ.get("WANDB_MODE") or mode
    where = "WANDB_MODE" if os.environ.get("WANDB_MODE") else "logger.mode"
    choices = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    if wanted not in choices:
        raise UsageError(
            f"{where}={wanted} is not a mode of W&B; use online, offline or disabled.{did_you_mean(wanted, choices)}"
        )
    return choices[wanted]


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
            return bounded(lambda: _online(**arguments), START_SECONDS, late=lambda run: run.finish(exit_code=1)), "online"
        except Exception as error:
            log.warning(
                "W&B is not reachable (%s); recording offline, `wandb sync %s/wandb/offline-run-*` sends it later",
                one_line(error), arguments["dir"],
            )  # fmt: skip
            _restart_service()  # it still holds the run's id
    try:
        return bounded(lambda: _init("offline", **arguments), START_SECONDS), "offline"
    except Exception:  # the service may have died under an earlier run of this process
        _restart_service()
        return bounded(lambda: _init("offline", **arguments), START_SECONDS), "offline"


def bounded(act: Callable[[], Any], seconds: float, late: Callable[[Any], Any] = lambda value: None) -> Any:
    """What `act` returns or raises, if it does so in time: W&B waits for its own process without a limit. Whatever it brings
    later goes to `late`.

    Raises:
        TimeoutError: it is still at work.
    """
    result: dict[str, Any] = {}
    lock, given_up = threading.Lock(), threading.Event()

    def work() -> None:
        try:
            value = act()
        except BaseException as error:
            result["error"] = error
            return
        with lock:
            if not given_up.is_set():
                result["value"] = value
                return
        with suppress(Exception):
            late(value)

    thread = threading.Thread(target=work, daemon=True, name="wandb")
    thread.start()
    thread.join(seconds)
    with lock:
        if "error" in result:
            raise result["error"]
        if "value" in result:
            return result["value"]
        given_up.set()
    raise TimeoutError(f"no answer within {seconds:.0f} s")


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
    deadline = time.monotonic() + SETTLE_SECONDS
    while not wandb_file.finished(path) and time.monotonic() < deadline:
        time.sleep(0.005)


def _restart_service() -> None:
    """End W&B's helper process; the next run starts a fresh one."""
    import wandb

    with suppress(Exception):
        bounded(wandb.teardown, SETTLE_SECONDS)
