"""A judged command line handed to Hydra, and what came of its jobs: one line for each that failed, one exit status for all.

Exit status: 0 done, 2 the user's input, 1 a run failed, 130 interrupted. In a sweep a failing job stops no other, and
the worst of these is the status of the whole. Imports no torch before a job runs.
"""

import errno
import importlib
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from maskbench.cli import schema
from maskbench.cli.statuses import DONE, FAILED, INTERRUPTED, USER, complain
from maskbench.common import identity
from maskbench.common.errors import Alone, Unmet, UsageError

SEVERITY = (DONE, USER, FAILED, INTERRUPTED)
PATIENCE = 1.0  # seconds between two looks at runs that other processes are at work on
WORKER_LOG = "MASKBENCH_OUTCOMES"  # a file in which worker processes of a launcher leave for the sweep what went wrong
DISK = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "disk quota used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EROFS: "read-only file system",
    errno.EFBIG: "the file would be larger than this process may write (ulimit -f)",
    errno.ENOLCK: "the file system has no locks left",
    errno.ENAMETOOLONG: "file name too long",
}

identity.register()  # on import, so that workers which only import `job` know them too
schema.register()


@dataclass(frozen=True)
class Outcome:
    """A job that did not end well: its overrides, the exit status it stands for and the reason in one sentence."""

    job: str
    status: int
    reason: str


class JobFailed(Exception):
    """Says to a launcher, from inside one of its workers, that a job failed; the user reads of it in another way."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome.reason


class Clock(Protocol):
    """What says how far a sweep is (sweep_clock.py)."""

    def begins(self, folder: Path) -> str: ...

    def ended(self, folder: Path) -> None: ...


_outcomes: list[Outcome] = []
_over: set[str] = set()  # run directories that this sweep has dealt with
_together: set[str] = set()  # those that were done side by side before it
_elsewhere: set[str] = set()  # and those it met in the hands of another process, and left for later
_clock: Clock | None = None  # of the sweep
_main_process: int | None = None  # id of the process that entered `launch`; a worker's own import leaves it None


def launch(argv: list[str], sweep: bool, before: Mapping[str, Outcome | None] | None = None, clock: Clock | None = None) -> int:
    """Hand a judged command line to Hydra and return the exit status of what it ran.

    Args:
        before: runs of the sweep that were done side by side already (side_by_side.py), by their directory: what kept one from
            its end, None for one that is finished. They are told, those that failed too.
        clock: of a sweep whose runs come one after another.
    """
    global _main_process, _clock
    import hydra

    for memory in (_outcomes, _over, _together, _elsewhere):
        memory.clear()
    for folder, outcome in (before or {}).items():
        (_over if outcome else _together).add(folder)
        _outcomes.extend([outcome] if outcome else [])
    _main_process, _clock = os.getpid(), clock
    logging.raiseExceptions = False  # a log that cannot be written is not worth a traceback on the terminal
    app = hydra.main(version_base="1.3", config_path=str(identity.conf_dir()), config_name="config")(job)
    with _hydra_sees(argv), _worker_outcomes() as workers:
        try:
            app()
            while _elsewhere:
                _until_one_is_free()
                app()  # once more over the whole grid: what is over is passed by
        except SystemExit as end:
            if end.code not in (None, 0):
                _outcomes.append(Outcome("", USER, str(end.code)))
        except JobFailed as error:
            if not workers():
                _outcomes.append(error.outcome)
        except BrokenPipeError:
            raise
        except BrokenExecutor:  # the launcher has given up its other workers too
            reason = "a worker was killed, perhaps as memory ran out; the same command runs only what is missing."
            known = {outcome.job for outcome in workers()}
            lost = [job for job in _unfinished(argv) if job not in known]
            _outcomes.extend(Outcome(job, FAILED, f"not finished: {reason}") for job in lost or [""])
        except Exception as error:  # of Hydra itself: composing, making the run directory, a launcher
            _outcomes.append(Outcome("", *judge_outside(error)))
            complain(_outcomes[-1].reason)
        _outcomes.extend(workers())
    if sweep and _outcomes:
        complain(f"{len(_outcomes)} {'job' if len(_outcomes) == 1 else 'jobs'} of the sweep failed:")
        for outcome in _outcomes:
            print(f"  {outcome.job or 'sweep'}: {outcome.reason}", file=sys.stderr)
    return max((outcome.status for outcome in _outcomes), key=SEVERITY.index, default=DONE)


def account(outcome: Outcome) -> None:
    """Count a job that a launcher has seen to fail among those of the sweep."""
    _outcomes.append(outcome)


def reasons() -> str:
    """Why the last launch's jobs failed; empty where none did."""
    return "; ".join(outcome.reason for outcome in _outcomes)


def _until_one_is_free() -> None:
    """Wait until another process has let go of one of the runs that this sweep left to it."""
    from maskbench.report.runs import state

    folders = [*map(Path, _elsewhere)]
    _elsewhere.clear()
    complain(f"{len(folders)} of the sweep's runs in other hands: waiting for them")
    while all(state(folder) == "running" for folder in folders):
        time.sleep(PATIENCE)


def _unfinished(argv: list[str]) -> Iterator[str]:
    """The jobs of a sweep that have no result, by their overrides."""
    from maskbench.cli import command_line
    from maskbench.report.runs import state

    command = command_line.parse(argv)
    for words in command_line.jobs(command):
        if state(identity.run_dir(command.compose(words))) != "finished":
            yield " ".join(word for word in words if not word.startswith("hydra"))


def job(cfg: DictConfig) -> float | None:
    """One job: the objective for sweepers, None when it failed. In the main process only an interruption raises.

    Raises:
        JobFailed: (in a launcher's worker) so that the launcher sees it.
    """
    from hydra.core.hydra_config import HydraConfig

    overrides, folder = list(HydraConfig.get().overrides.task), HydraConfig.get().runtime.output_dir
    if folder in _over:
        return None
    _over.add(folder)
    try:
        from maskbench.cli import preflight
        from maskbench.runs.finished import earlier, main_process
        from maskbench.runs.record import Busy

        preflight.check_config(cfg, given=[text.lstrip("+").partition("=")[0] for text in overrides])
        if (known := earlier(cfg, together=folder in _together)) is not None:
            return known
        if _clock is not None and (told := _clock.begins(Path(folder))):
            print(told, file=sys.stderr, flush=True)
        try:
            objective = importlib.import_module("maskbench.runs.assemble").run(cfg)
        except Busy:
            _over.remove(folder)
            _elsewhere.add(folder)
            return None
        if _clock is not None:
            _clock.ended(Path(folder))
        return None if objective is None else float(objective)
    except (Exception, SystemExit) as error:
        outcome = Outcome(" ".join(overrides) or "defaults", *_judge(error))
        told = not isinstance(error, Alone) or main_process()  # the others end with the one that speaks
    if os.getpid() != _main_process:
        _report(outcome)
        raise JobFailed(outcome)
    _outcomes.append(outcome)
    if told:
        complain(outcome.reason)
    return None  # what Optuna's sweeper counts as a failed trial; of nan it makes an error of the whole study


def _judge(error: BaseException) -> tuple[int, str]:
    """Exit status and sentence for what a job raised; the traceback of what nobody foresaw goes to the run's log."""
    cause = _root(error)
    if isinstance(cause, UsageError):
        return USER, str(cause)
    if isinstance(cause, Unmet):
        return FAILED, str(cause)
    if isinstance(cause, OSError) and cause.errno in DISK:
        return USER, _disk(cause)
    if str(error).startswith("Error locating target"):
        return USER, " ".join(str(error).split())
    place = _log_traceback(error)
    return FAILED, f"{type(cause).__name__}: {_first_line(cause)} (traceback in {place})"


def judge_outside(error: Exception) -> tuple[int, str]:
    """Exit status and sentence for what was raised outside a job, where there is no log."""
    from hydra.errors import HydraException

    from maskbench.cli.command_line import one_line

    if os.environ.get("MASKBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, UsageError):
        return USER, str(error)
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # as its missing configs are, too
        return USER, _disk(error)
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        return USER, one_line(error)
    return FAILED, f"{type(error).__name__}: {_first_line(error)} (MASKBENCH_DEBUG=1 shows the traceback)"


def _root(error: BaseException) -> BaseException:
    """What a builder raised, out of the wrapping Hydra's instantiate puts around it."""
    from hydra.errors import InstantiationException

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _disk(error: OSError) -> str:
    reason = DISK.get(error.errno) or (error.strerror or str(error)).lower()
    where = f" ({error.filename})" if error.filename else ""
    return f"cannot write or read{where}: {reason}; make room, or choose other folders (paths.output=, paths.data=)."


def _log_traceback(error: BaseException) -> Path:
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    if os.environ.get("MASKBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    try:
        logging.getLogger("maskbench").error("the run failed", exc_info=error)
    except OSError:
        pass  # the disk that stopped the run stops its log too
    return Path(hydra.runtime.output_dir) / f"{hydra.job.name}.log"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


@contextmanager
def _hydra_sees(argv: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv (as do the processes Lightning starts), and with this variable hands its errors to us."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [before[0], *argv]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full


# ---- what workers report


@contextmanager
def _worker_outcomes() -> Iterator:
    """A function that reads, once, what worker processes on this machine wrote of their failed jobs."""
    with tempfile.TemporaryDirectory(prefix="maskbench-") as folder:
        path = Path(folder) / "outcomes"
        os.environ[WORKER_LOG] = str(path)

        def read() -> list[Outcome]:
            lines = path.read_text().splitlines() if path.exists() else []
            return [Outcome(**json.loads(line)) for line in lines]

        try:
            yield read
        finally:
            os.environ.pop(WORKER_LOG, None)


def _report(outcome: Outcome) -> None:
    if place := os.environ.get(WORKER_LOG):
        with open(place, "a") as file:  # one short write in append mode: lines of several workers do not mix
            file.write(json.dumps(asdict(outcome)) + "\n")
