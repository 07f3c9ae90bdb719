"""Jobs of a Slurm cluster: handed in by submitit as one array, watched by squeue, their results told as they come.

submitit's own waiting asks sacct; a cluster without accounting has none, and there it waits for ever for a job that was
cancelled. squeue knows the jobs of any cluster until some minutes after their end. Which job is at a run is noted beside
submitit's logs, so that the same command finds its jobs again.
"""

import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench.cli.elsewhere import Lost, tell
from maskbench.cli.interrupts import terminable
from maskbench.common.errors import UsageError
from maskbench.common.files import glance, make_folder, replace

CLUSTER = "slurm"  # submitit's name of it
LAUNCHER = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"  # the _target_ of hydra.launcher
SHARED = {  # settings that submitit names alike for all kinds of clusters
    *("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout"),
}
TURNS = 10  # after the first: hydra.launcher.max_num_timeout unless the user says otherwise
MOST = 1000  # jobs of an array: below Slurm's own limit where nobody changed that
LOOKS = 3  # at a job that is over, until its result is lost: files take a while between machines
PATIENCE = (1.0, 30.0)  # seconds between two looks: at first, and at most
UNANSWERED = 5  # times that squeue may fail before that is said
GONE = "GONE"
OVER = {  # states that no job leaves, and what each says of one without a result
    "CANCELLED": "cancelled (scancel)",
    "COMPLETED": "it ended without a result",
    "FAILED": "it ended without a result",
    "TIMEOUT": "its time limit came before it had stopped (hydra.launcher.timeout_min, hydra.launcher.signal_delay_s)",
    "OUT_OF_MEMORY": "it needed more memory than hydra.launcher.mem_gb",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "DEADLINE": "its deadline passed",
    "PREEMPTED": "preempted by another job",
    "REVOKED": "another cluster took it",
    GONE: "Slurm does not know it any more",
}


class OutOfTime(Exception):
    """A job that its time limit stopped more often than it may be queued again."""


class Silent(Exception):
    """squeue has no answer."""


@dataclass(frozen=True)
class Handed:
    """A run in the hands of Slurm: what the user calls it, its directory, and submitit's job."""

    label: str
    run: Path
    job: Any
    earlier: bool = False  # an earlier command handed it in


def register() -> None:
    """Have the job of a run queued again where its time was up, as a run goes on where it stopped; for submitit, which cannot
    know that, the setting is 0."""
    from hydra.core.config_store import ConfigStore
    from hydra.plugins.config_source import ConfigLoadError

    store = ConfigStore.instance()
    try:
        known = store.load("hydra/launcher/submitit_slurm.yaml")
    except ConfigLoadError:  # without the plugin
        return
    known.node.max_num_timeout = TURNS
    store.store(group="hydra/launcher", name="submitit_slurm", node=known.node, package=known.package, provider="maskbench")


# ---- handing in


def hand_in(function: Callable, settings: Mapping[str, Any], runs: Sequence[tuple[str, Path, tuple]]) -> list[Handed]:
    """Have `function(*arguments)` called in a job for each of these runs, unless a job of before is at it.

    Args:
        settings: of hydra.launcher; `submitit_folder` is where submitit keeps its files.
        runs: label, run directory and arguments of each.

    Raises:
        UsageError: there is no Slurm here, or it refuses the jobs.
    """
    if missing := [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]:
        raise UsageError(
            f"hydra/launcher=submitit_slurm needs a Slurm cluster, and there is no {missing[0]} on this machine; "
            "hydra/launcher=submitit_local or joblib runs the jobs here."
        )
    try:
        known = queue()
    except Silent as error:
        raise UsageError(f"Slurm does not answer: {error}") from error
    notes = [note(settings, run) for _, run, _ in runs]
    found = [taken(place, known) for place in notes]
    fresh = [number for number, job in enumerate(found) if job is None]
    made = submitted(function, settings, [runs[number][2] for number in fresh])
    for number, job in zip(fresh, made, strict=True):
        place, folder = notes[number], str(settings["submitit_folder"])
        make_folder(place.parent)
        replace(place, lambda path, job=job, folder=folder: path.write_text(json.dumps({"job": job.job_id, "folder": folder})))
        found[number] = job
    return [
        Handed(label, run, job, number not in fresh)
        for number, ((label, run, _), job) in enumerate(zip(runs, found, strict=True))
    ]


def note(settings: Mapping[str, Any], run: Path) -> Path:
    """The file that says which job is at a run."""
    from submitit.core.utils import JobPaths

    folder = JobPaths.get_first_id_independent_folder(settings["submitit_folder"])
    return folder / "runs" / f"{run.parent.name}-{run.name}.json"


def taken(place: Path, known: Mapping[str, str]) -> Any:
    """The job of before that is at a run, if it is still under way; one that has answered is not, whatever squeue says of it
    while its process ends."""
    import submitit

    said = glance(place)
    if known.get(said.get("job", ""), GONE) in OVER:
        return None
    job = submitit.SlurmJob(folder=said["folder"], job_id=said["job"])
    return None if answered(job) else job


def submitted(function: Callable, settings: Mapping[str, Any], calls: Sequence[tuple]) -> list[Any]:
    """submitit's jobs for these calls, in arrays."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if not calls:
        return []
    given = {name: value for name, value in settings.items() if value is not None}
    folder, often = given.pop("submitit_folder"), given.pop("max_num_timeout", 0)
    executor = submitit.AutoExecutor(folder=folder, cluster=CLUSTER, slurm_max_num_timeout=often)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # sbatch's words, which the error has too
            executor.update_parameters(
                **{name if name in SHARED else f"{CLUSTER}_{name}": value for name, value in given.items()}
            )
            chunks = [calls[first : first + MOST] for first in range(0, len(calls), MOST)]
            arrays = [executor.map_array(function, *zip(*chunk, strict=True)) for chunk in chunks]
    except (FailedJobError, FailedSubmissionError) as error:
        said = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"Slurm refuses the jobs: {said[0] if said else error}; mend hydra.launcher.KEY=VALUE.") from error
    return [job for jobs in arrays for job in jobs]


def span(jobs: Sequence[str]) -> str:
    """The numbers of jobs in few words: `12_0 to 12_5`, `12_0, 12_4`, `7`."""
    arrays: dict[str, list[str]] = {}
    for job in jobs:
        arrays.setdefault(job.partition("_")[0], []).append(job)
    told = []
    for members in arrays.values():
        places = [int(job.partition("_")[2] or 0) for job in members]
        whole = len(members) > 2 and places == list(range(places[0], places[0] + len(places)))
        told += [f"{members[0]} to {members[-1]}"] if whole else members
    return ", ".join(told)


def announce(handed: Sequence[Handed]) -> None:
    """Say which jobs are at the runs."""
    for earlier, what in ((False, "handed to Slurm as"), (True, "in Slurm's hands already as")):
        if jobs := [one.job for one in handed if one.earlier == earlier]:
            logs = f"logs in {jobs[0].paths.folder.parent}"
            tell(f"{len(jobs)} run{'s' * (len(jobs) > 1)} {what} {span([job.job_id for job in jobs])}; {logs}")


def leave(handed: Sequence[Handed]) -> None:
    """Say what becomes of jobs that are no longer waited for."""
    jobs = span([one.job.job_id for one in handed])
    tell(f"Slurm goes on with {jobs}: the same command waits for them again, scancel ends them")


# ---- waiting


def queue() -> dict[str, str]:
    """The state of each of the user's jobs, by its number; those that ended some minutes ago are not in it.

    Raises:
        Silent: squeue fails.
    """
    words = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T"]
    asked = subprocess.run(words, capture_output=True, text=True)
    if asked.returncode:
        raise Silent((asked.stderr.strip().splitlines() or ["squeue fails"])[-1])
    return dict(line.strip().split("|", 1) for line in asked.stdout.splitlines() if "|" in line)


def results(handed: Mapping[int, Handed]) -> Iterator[tuple[int, Any]]:
    """The number of each job once it is over, and what it returned, or Lost."""
    left, looks = dict(handed), dict.fromkeys(handed, 0)
    begun, unanswered = time.monotonic(), 0
    while left:
        try:
            states, unanswered = queue(), 0
        except Silent as error:
            states, unanswered = None, unanswered + 1
            if unanswered == UNANSWERED:
                tell(f"Slurm does not answer: {error}; still waiting")
        for number, job in [(number, one.job) for number, one in left.items()]:
            state = "" if states is None else states.get(job.job_id, GONE)
            looks[number] += state in OVER
            if answered(job):
                del left[number]
                yield number, returned(job)
            elif looks[number] >= LOOKS:
                del left[number]
                yield number, Lost(f"not finished: {OVER[state or GONE]}; {where(job)}")
        if left:
            time.sleep(min(PATIENCE[1], PATIENCE[0] + (time.monotonic() - begun) / 20))


def answered(job: Any) -> bool:
    """Whether what a job returned, or raised, is there."""
    return all(job.task(task).paths.result_pickle.exists() for task in range(job.num_tasks))


def returned(job: Any) -> Any:
    """What a job returned, or Lost with the last line of what it raised."""
    if (error := job.exception()) is None:
        return job.results()[0]
    parts = re.split(r"\n-{10,}\n", str(error))  # submitit's sentence, the traceback, where the logs are
    trace = parts[-2] if len(parts) > 2 else str(error)
    last = (trace.strip().splitlines() or [type(error).__name__])[-1]
    return Lost(f"{last.removeprefix(f'{__name__}.{OutOfTime.__name__}: ')}; {where(job)}")


def where(job: Any) -> str:
    return f"job {job.job_id}, log {job.paths.stderr}; the same command goes on where it stopped."


# ---- inside a job


def stoppable(work: Callable[[], Any]) -> Any:
    """Do the work of a job; where Slurm warns of its time limit or preempts it, what is under way saves as after Ctrl-C, and
    then the job is queued again.

    submitit's own handler would queue it at once and leave in the middle of a step.

    Raises:
        OutOfTime: it was stopped so more often than hydra.launcher.max_num_timeout.
    """
    import submitit
    from submitit.core.utils import UncompletedJobError

    warned: list[tuple] = []

    def stop(*told: Any) -> None:
        if not warned:
            warned.append(told)
            signal.raise_signal(signal.SIGTERM)

    number = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
    queue_again = signal.signal(number, stop)
    try:
        with terminable():
            return work()
    except KeyboardInterrupt:
        if not warned:
            raise
        try:
            queue_again(*warned[0])  # leaves by SystemExit
        except UncompletedJobError as error:
            raise OutOfTime(
                "not finished within its time limit (hydra.launcher.timeout_min), nor in as many further turns as "
                "hydra.launcher.max_num_timeout"
            ) from error
        raise
    finally:
        signal.signal(number, queue_again)
