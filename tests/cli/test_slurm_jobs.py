"""What is told of Slurm's jobs, with stand-ins for them; a real Slurm is in test_slurm.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from maskbench.cli import handing_out, slurm


class Job(SimpleNamespace):
    """What of submitit's job is used."""

    num_tasks = 1

    def task(self, _: int) -> "Job":
        return self

    def exception(self) -> Exception | None:
        return self.error

    def results(self) -> list:
        return [self.value]


def job(folder: Path, number: str, *, done: bool, value: object = None, error: Exception | None = None) -> Job:
    paths = SimpleNamespace(result_pickle=folder / f"{number}.pkl", stderr=folder / f"{number}.err")
    if done:
        paths.result_pickle.touch()
    return Job(job_id=number, paths=paths, value=value, error=error)


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (["7"], "7"),
        (["7_0", "7_1", "7_2"], "7_0 to 7_2"),
        (["7_0", "7_2", "7_3"], "7_0, 7_2, 7_3"),
        (["5_1", "7_0", "7_1", "7_2"], "5_1, 7_0 to 7_2"),
    ],
)
def test_numbers_of_jobs_in_few_words(jobs: list[str], told: str) -> None:
    assert slurm.span(jobs) == told


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        ([["a=1", "seed=0", "hydra.x=1"], ["a=1", "seed=1"]], ["seed=0", "seed=1"]),
        ([["a=1", "seed=0"]], ["a=1 seed=0"]),
        ([["a=1"], ["a=1", "seed=1"]], ["a=1", "seed=1"]),
        ([[]], ["defaults"]),
    ],
)
def test_a_job_is_called_by_what_the_others_have_not(jobs: list[list[str]], told: list[str]) -> None:
    assert handing_out.labelled(jobs) == told


def test_each_job_is_told_as_it_ends_and_a_lost_one_with_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is cancelled, one is forgotten by Slurm, one ends at the third look; squeue fails once in between."""
    monkeypatch.setattr(slurm, "PATIENCE", (0.0, 0.0))
    jobs = {n: job(tmp_path, f"9_{n}", done=n == 1, value=n) for n in range(4)}
    states = {"9_0": "CANCELLED", "9_1": "COMPLETED", "9_3": "RUNNING"}
    looks = []

    def queue() -> dict[str, str]:
        looks.append(1)
        if len(looks) == 2:
            raise slurm.Silent("the controller is away")
        if len(looks) == 3:
            jobs[3].paths.result_pickle.touch()
        return states

    monkeypatch.setattr(slurm, "queue", queue)
    handed = {n: slurm.Handed(f"seed={n}", tmp_path, one) for n, one in jobs.items()}
    ended = list(slurm.results(handed))
    assert [number for number, _ in ended] == [1, 3, 0, 2] and [value for _, value in ended[:2]] == [1, 3]
    assert ended[2][1].reason.startswith("not finished: cancelled (scancel); job 9_0, log ")
    assert ended[3][1].reason.startswith("not finished: Slurm does not know it any more; job 9_2, log ")


def test_what_a_job_raised_is_told_by_its_last_line(tmp_path: Path) -> None:
    rule = "-" * 22
    trace = 'Traceback (most recent call last):\n  File "x", line 1\nModuleNotFoundError: No module named wonder'
    error = RuntimeError(f"Job (task=0) failed during processing with trace:\n{rule}\n{trace}\n{rule}\nYou can check full logs")
    lost = slurm.returned(job(tmp_path, "7", done=True, error=error))
    assert lost.reason.startswith("ModuleNotFoundError: No module named wonder; job 7, log ")


def test_without_slurm_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurm.UsageError, match="needs a Slurm cluster, and there is no sbatch on this machine"):
        slurm.hand_in(lambda: None, {"submitit_folder": "x"}, [("seed=0", tmp_path, ())])
