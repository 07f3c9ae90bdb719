"""A launcher of Hydra that hands the runs of a sweep to Slurm (slurm.py): what is finished needs no job, every failure is told.

Its settings are hydra.launcher of the plugin hydra-submitit-launcher, in the place of whose launcher it stands; that asks sacct,
hands in finished runs, and leaves a run in the middle of a step when its time is up.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from maskbench.cli import launch, slurm
from maskbench.common import identity
from maskbench.report import runs as records
from maskbench.report.freshness import MIXED, STALE

Ended = tuple[float | None, launch.Outcome | None]  # the objective, or what went wrong


class SlurmLauncher(Launcher):
    """The runs of a sweep as the jobs of one array.

    Args:
        settings: hydra.launcher, whose names are submitit's.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in settings.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Hand in what is missing, wait for it, and say of each run how it ended."""
        values: dict[int, float | None] = {}
        todo: dict[int, tuple[str, Path, tuple]] = {}
        labels = labelled(job_overrides)
        for number, words in enumerate(map(list, job_overrides)):
            cfg = self.context.config_loader.load_sweep_config(self.config, words)
            place = identity.run_dir(cfg).absolute()
            if (run := finished(cfg, place)) is not None:
                old = f", {run.freshness}" if run.freshness in (STALE, MIXED) else ""
                values[number] = told(run, f"{labels[number]}: finished earlier{old}")
            else:
                todo[number] = labels[number], place, (words, initial_job_idx + number, Singleton.get_state())
        handed = dict(zip(todo, slurm.hand_in(self, self.settings, [*todo.values()]), strict=True))
        slurm.announce([*handed.values()])
        try:
            for over, (number, value) in enumerate(slurm.results(handed), 1):
                values[number] = self.judged(handed[number], value, f"{over}/{len(handed)}")
        except KeyboardInterrupt:
            slurm.leave([one for number, one in handed.items() if number not in values])
            raise
        return [answer(words, values[number]) for number, words in enumerate(job_overrides)]

    def judged(self, one: slurm.Handed, value: Ended | slurm.Lost, counted: str) -> float | None:
        """Say how a job ended; its objective, None where it failed."""
        if isinstance(value, slurm.Lost):
            value = None, launch.Outcome(one.label, launch.FAILED, value.reason)
        objective, outcome = value
        if outcome is None:
            told(records.load(one.run), f"{counted} {one.label}: finished")
            return objective
        launch.account(outcome)
        slurm.tell(f"{counted} {one.label}: failed")
        return None

    # ---- inside a job

    def __call__(self, words: list[str], number: int, state: dict) -> Ended:
        os.environ.pop(launch.WORKER_LOG, None)  # a file on the machine of the sweep
        Singleton.set_state(state)
        setup_globals()
        cfg = self.context.config_loader.load_sweep_config(self.config, words)
        with open_dict(cfg.hydra.job):
            cfg.hydra.job.id, cfg.hydra.job.num = os.environ.get("SLURM_JOB_ID", ""), number
        places = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
        done = slurm.stoppable(lambda: run_job(self.task, cfg, hydra_context=self.context, **places))
        try:
            return done.return_value, None
        except launch.JobFailed as error:
            return None, error.outcome

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit keeps for the next turn of a job that it has queued again: the same, as a run knows how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


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
    slurm.tell(f"{heading}: {name} {'-' if value is None else f'{value:.4f}'}; run directory: {run.folder}")
    return float("nan") if value is None else value


def answer(words: Sequence[str], value: float | None) -> JobReturn:
    """What Hydra's sweepers read; of a failed run None, which Optuna's counts as a failed trial."""
    made = JobReturn(overrides=list(words), status=JobStatus.COMPLETED)
    made.return_value = value
    return made


def install() -> None:
    """Let Hydra take this launcher where its config names the plugin's, if that is there."""
    known = Plugins.instance().class_name_to_class
    if slurm.LAUNCHER in known:
        known[slurm.LAUNCHER] = SlurmLauncher
