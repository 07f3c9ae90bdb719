"""The command line: sub-commands, or a look at the overrides and then Hydra. Imports no torch before a job runs.

Exit status: 0 done, 2 the user's input, 1 a run failed, 130 interrupted. In a sweep a failing job stops no other, and
the worst of these is the status of the whole.
"""

import errno
import importlib
import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from maskbench import __version__
from maskbench.cli import schema
from maskbench.common import identity
from maskbench.common.errors import UsageError, did_you_mean

COMMANDS = {
    "list": "what can be chosen, one line each",
    "show": "the resolved config, or a run's record",
    "where": "the run directory of a command, and its state",
    "rerun": "a recorded run once more",
    "results": "all runs, one row each",
    "compare": "two methods or settings, paired over their seeds",
    "paired": "all methods on the same draws, paired with a baseline",
    "table": "a paper's table or all of them: run what is missing, ours beside the paper's",
    "figure": "figures of a run, or of its seeds together",
    "report": "one HTML page of all runs: sortable tables, plots, masks, where each number came from",
    "doctor": "this machine and what is installed",
    "data": "which data sets are here; fetch NAME gets one",
}
DONE, FAILED, USER, INTERRUPTED = 0, 1, 2, 130
SEVERITY = (DONE, USER, FAILED, INTERRUPTED)
WORKER_LOG = "MASKBENCH_OUTCOMES"  # a file in which worker processes of a launcher tell the sweep what went wrong
DISK = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "disk quota used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EROFS: "read-only file system",
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
    """Tells a launcher, from inside one of its workers, that a job failed; already told to the user otherwise."""


_outcomes: list[Outcome] = []
_main_process: int | None = None  # id of the process that entered `launch`; a worker's own import leaves it None


def main(argv: list[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin at barriers starve one another
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # `_target_: mymodule.Net` beside the user, for the console script too
    try:
        return _dispatch(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        _complain(str(error))
        return USER
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on where it stopped.")
        return INTERRUPTED
    except BrokenPipeError:  # `maskbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        status, reason = _judge_outside(error)
        _complain(reason)
        return status


def _dispatch(argv: list[str]) -> int:
    if not argv:
        print(_usage())
    elif argv[0] in COMMANDS:
        return importlib.import_module(f"maskbench.cli.commands.{argv[0]}").main(argv[1:])
    elif "=" not in argv[0] and not argv[0].startswith(("-", "~")):
        from maskbench.cli import command_line

        command_line.stop_at_words_apart(argv)
        known = ", ".join(COMMANDS)
        raise UsageError(f"unknown command '{argv[0]}'.{did_you_mean(argv[0], COMMANDS)} Commands: {known}.")
    elif argv == ["--version"]:
        print(f"maskbench {__version__}")
    elif any(word in ("--help", "-h") for word in argv):
        print(_help())
    elif any(word in ("--shell-completion", "-sc") for word in argv):
        return launch(argv, sweep=False)
    else:
        from maskbench.cli import preflight

        command = preflight.check(argv)
        return launch(command.argv, sweep=command.multirun)
    return DONE


def _usage() -> str:
    return (
        f"maskbench {__version__}: experiments on masks in neural networks\n\n"
        "  python -m maskbench method=supsup data=splitmnist            one run\n"
        "  python -m maskbench -m method=supsup,packnet seed=0,1,2      all six; finished runs are skipped\n\n"
        "  python -m maskbench --help                                   all choices and commands"
    )


def _help() -> str:
    """The text of conf/hydra/help/maskbench.yaml; composing a config only to print it would take longer."""
    import yaml

    from maskbench.cli import command_line

    folder = identity.conf_dir()
    text = yaml.safe_load((folder / "hydra" / "help" / "maskbench.yaml").read_text())
    rows = [(group, command_line.choices([folder], group)) for group in command_line.groups([folder])]
    listing = "".join(f"  {group:<12}{', '.join(names)}\n" for group, names in rows)
    parts = {"${hydra.help.header}": text["header"], "${hydra.help.footer}": text["footer"]}
    page = text["template"].replace("$APP_CONFIG_GROUPS", listing.strip() + "\n")
    for name, part in parts.items():
        page = page.replace(name, part)
    return page.rstrip()


# ---- Hydra


def launch(argv: list[str], sweep: bool) -> int:
    """Hand a judged command line to Hydra and return the exit status of what it ran."""
    global _main_process
    import hydra

    _outcomes.clear()
    _main_process = os.getpid()
    logging.raiseExceptions = False  # a log that cannot be written is not worth a traceback on the terminal
    app = hydra.main(version_base="1.3", config_path=str(identity.conf_dir()), config_name="config")(job)
    with _hydra_sees(argv), _worker_outcomes() as told:
        try:
            app()
        except SystemExit as end:
            if end.code not in (None, 0):
                _outcomes.append(Outcome("", USER, str(end.code)))
        except JobFailed as error:
            if not told():
                _outcomes.append(Outcome("", FAILED, str(error)))
        except BrokenPipeError:
            raise
        except BrokenExecutor:  # the launcher has given up its other workers too
            reason = "a worker was killed, perhaps as memory ran out; the same command runs only what is missing."
            known = {outcome.job for outcome in told()}
            lost = [job for job in _unfinished(argv) if job not in known]
            _outcomes.extend(Outcome(job, FAILED, f"not finished: {reason}") for job in lost or [""])
        except Exception as error:  # of Hydra itself: composing, making the run directory, a launcher
            _outcomes.append(Outcome("", *_judge_outside(error)))
            _complain(_outcomes[-1].reason)
        _outcomes.extend(told())
    if sweep and _outcomes:
        _complain(f"{len(_outcomes)} {'job' if len(_outcomes) == 1 else 'jobs'} of the sweep failed:")
        for outcome in _outcomes:
            print(f"  {outcome.job or 'sweep'}: {outcome.reason}", file=sys.stderr)
    return max((outcome.status for outcome in _outcomes), key=SEVERITY.index, default=DONE)


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

    overrides = list(HydraConfig.get().overrides.task)
    try:
        from maskbench.cli import preflight
        from maskbench.runs.finished import earlier

        preflight.check_config(cfg, given=[text.lstrip("+").partition("=")[0] for text in overrides])
        if (known := earlier(cfg)) is not None:
            return known
        objective = importlib.import_module("maskbench.runs.assemble").run(cfg)
        return None if objective is None else float(objective)
    except (Exception, SystemExit) as error:
        outcome = Outcome(" ".join(overrides) or "defaults", *_judge(error))
    if os.getpid() != _main_process:
        _tell(outcome)
        raise JobFailed(outcome.reason)
    _outcomes.append(outcome)
    _complain(outcome.reason)
    return None  # what Optuna's sweeper counts as a failed trial; of nan it makes an error of the whole study


def _judge(error: BaseException) -> tuple[int, str]:
    """Exit status and sentence for what a job raised; the traceback of what nobody foresaw goes to the run's log."""
    cause = _root(error)
    if isinstance(cause, UsageError):
        return USER, str(cause)
    if isinstance(cause, OSError) and cause.errno in DISK:
        return USER, _disk(cause)
    if str(error).startswith("Error locating target"):
        return USER, " ".join(str(error).split())
    place = _log_traceback(error)
    return FAILED, f"{type(cause).__name__}: {_first_line(cause)} (traceback in {place})"


def _judge_outside(error: Exception) -> tuple[int, str]:
    """Exit status and sentence for what was raised outside a job, where there is no log."""
    from hydra.errors import HydraException

    from maskbench.cli.command_line import one_line

    if os.environ.get("MASKBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, UsageError):
        return USER, str(error)
    if isinstance(error, OSError):
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


def _complain(text: str) -> None:
    for line in text.splitlines():
        print(f"maskbench: {line}", file=sys.stderr)


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


# ---- what workers tell


@contextmanager
def _worker_outcomes() -> Iterator:
    """A function that reads, once, what worker processes on this machine told."""
    with tempfile.TemporaryDirectory(prefix="maskbench-") as folder:
        path = Path(folder) / "outcomes"
        os.environ[WORKER_LOG] = str(path)

        def told() -> list[Outcome]:
            lines = path.read_text().splitlines() if path.exists() else []
            return [Outcome(**json.loads(line)) for line in lines]

        try:
            yield told
        finally:
            os.environ.pop(WORKER_LOG, None)


def _tell(outcome: Outcome) -> None:
    if place := os.environ.get(WORKER_LOG):
        with open(place, "a") as file:  # one short write in append mode: lines of several workers do not mix
            file.write(json.dumps(asdict(outcome)) + "\n")
