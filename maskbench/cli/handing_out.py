"""A sweep whose runs are handed to other machines: what is finished needs no job, and how each of them ends is told as it comes.

A launcher of Hydra, without what hands the runs out: that is an engine's (slurm_launcher.py, ray_launcher.py).
"""

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from maskbench.cli import launch
from maskbench.cli.elsewhere import Lost, tell
from maskbench.common import identity
from maskbench.report import runs as records
from maskbench.report.freshness import MIXED, STALE

Ended = tuple[float | None, launch.Outcome | None]  # the objective, or what went wrong


@dataclass(frozen=True)
class Run:
    """A run that is missing: what the user calls it, its directory, and what `perform` is called with."""

    label: str
    folder: Path
    arguments: tuple


class HandingOut(Launcher):
    """The runs of a sweep as jobs elsewhere.

    Args:
        settings: hydra.launcher.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in settings.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    @abstractmethod
    def ended(self, todo: Mapping[int, Run]) -> Iterator[tuple[int, Ended | Lost]]:
        """Have `perform(*arguments)` called elsewhere for each of these runs; the number of each as it is over, and what came of
        it. A KeyboardInterrupt ends the waiting."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Hand out what is missing, wait for it, and say of each run how it ended."""
        values: dict[int, float | None] = {}
        todo: dict[int, Run] = {}
        labels = labelled(job_overrides)
        for number, words in enumerate(map(list, job_overrides)):
            cfg = self.context.config_loader.load_sweep_config(self.config, words)
            place = identity.run_dir(cfg).absolute()
            if (run := finished(cfg, place)) is not None:
                old = f", {run.freshness}" if run.freshness in (STALE, MIXED) else ""
                values[number] = told(run, f"{labels[number]}: finished earlier{old}")
            else:
                todo[number] = Run(labels[number], place, (words, initial_job_idx + number, Singleton.get_state()))
        for over, (number, value) in enumerate(self.ended(todo) if todo else (), 1):
            values[number] = judged(todo[number], value, f"{over}/{len(todo)}")
        return [answer(words, values[number]) for number, words in enumerate(job_overrides)]

    # ---- inside a job

    def perform(self, words: list[str], number: int, state: dict, job_id: str) -> Ended:
        """Do a run.

        Args:
            words: its overrides. number: its place in the sweep. state: of Hydra. job_id: the engine's name for this job.
        """
        os.environ.pop(launch.WORKER_LOG, None)  # a file on the machine of the sweep
        Singleton.set_state(state)
        setup_globals()
        cfg = self.context.config_loader.load_sweep_config(self.config, words)
        with open_dict(cfg.hydra.job):
            cfg.hydra.job.id, cfg.hydra.job.num = job_id, number
        try:
            done = run_job(
                self.task, cfg, hydra_context=self.context, job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir"
            )
            return done.return_value, None
        except launch.JobFailed as error:
            return None, error.outcome


def judged(run: Run, value: Ended | Lost, counted: str) -> float | None:
    """Say how a job ended; its objective, None where it failed."""
    if isinstance(value, Lost):
        value = None, launch.Outcome(run.label, launch.FAILED, value.reason)
    objective, outcome = value
    if outcome is None:
        told(records.load(run.folder), f"{counted} {run.label}: finished")
        return objective
    launch.account(outcome)
    tell(f"{counted} {run.label}: failed")
    return None


def labelled(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The words of each job that not all of them have; all its words where that leaves none."""
    own = [[word for word in words if not word.startswith("hydra")] for words in jobs]
    shared = set.intersection(*map(set, own))
    return [" ".join([word for word in words if word not in shared] or words) or "defaults" for words in own]


def finished(cfg: DictConfig, place: Path) -> records.Run | None:
    """The run that is there already and needs no job; None if it is to be done."""
    run = records.load(place)
    old = run.freshness in (STALE, MIXED) and cfg.stale != "keep"
    return None if run.status != "finished" or cfg.force or old else run


def told(run: records.Run, heading: str) -> float:
    """Say a finished run's objective, nan where it diverged."""
    name, value = run.result.get("objective_name", "objective"), run.objective
    tell(f"{heading}: {name} {'-' if value is None else f'{value:.4f}'}; run directory: {run.folder}")
    return float("nan") if value is None else value


def answer(words: Sequence[str], value: float | None) -> JobReturn:
    """What Hydra's sweepers read; of a failed run None, which Optuna's counts as a failed trial."""
    made = JobReturn(overrides=list(words), status=JobStatus.COMPLETED)
    made.return_value = value
    return made
