"""The runs of tables as jobs of Slurm: those of all rows and seeds in one array, each the program on one line of words."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from maskbench.cli import launch, slurm
from maskbench.cli.elsewhere import Lost, tell
from maskbench.cli.interrupts import terminable
from maskbench.cli.jobs import Job, settle, threads
from maskbench.cli.start import start
from maskbench.common.errors import UsageError


def run(jobs: Sequence[Job], settings: Mapping[str, Any], *, wait: bool) -> list[Job]:
    """Hand in what is missing, in turn; wait for it and return those that failed, each with the reason in `note`.

    Args:
        settings: hydra.launcher.
        wait: otherwise none is waited for.

    Raises:
        UsageError: there is no Slurm here, or it refuses the jobs.
    """
    settle(jobs)
    todo = [job for job in jobs if job.status != "earlier"]
    runs = [(job.label, job.folders[0].absolute(), (list(job.words),)) for job in todo]
    handed = dict(enumerate(slurm.hand_in(Line(), settings, runs)))
    slurm.announce([*handed.values()])
    if not wait:
        return []
    over = 0
    try:
        with terminable():
            for over, (number, value) in enumerate(slurm.results(handed), 1):
                job = todo[number]
                job.note = value.reason if isinstance(value, Lost) else value
                job.fresh, job.status = False, "failed" if job.note else "finished"
                tell(f"{over}/{len(todo)} {job.label}: {'failed: ' if job.note else 'finished'}{job.note}")
    except KeyboardInterrupt:
        slurm.leave([one for number, one in handed.items() if todo[number].status == "waiting"])
        raise
    return [job for job in todo if job.status == "failed"]


class Line:
    """What a job does: the runs of a line of words. It says why they failed, and nothing where they are done."""

    def __call__(self, words: list[str]) -> str:
        os.environ.update(threads())
        try:
            status = slurm.stoppable(lambda: start(words))
        except UsageError as error:
            return str(error)
        return "" if status == launch.DONE else launch.reasons() or f"exit status {status}"

    def checkpoint(self, words: list[str]) -> Any:
        """What submitit keeps for the next turn of a job that it has queued again: the same, as a run knows how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, words)
