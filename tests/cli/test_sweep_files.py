"""conf/sweep: each file is a sweep by itself, what the user says wins, and without its plugin it is one sentence."""

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskbench.cli import command_line, preflight
from maskbench.cli import main as cli
from maskbench.common import identity

pytestmark = pytest.mark.full  # whole runs: make test-full

FOLDER = identity.conf_dir() / "sweep"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PLUGINS = {"search_optuna": "hydra_plugins.hydra_optuna_sweeper", "slurm": "hydra_plugins.hydra_submitit_launcher"}


def here(name: str) -> bool:
    try:
        return name not in PLUGINS or importlib.util.find_spec(PLUGINS[name]) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_a_sweep_by_itself_or_says_what_it_needs(name: str, capsys: pytest.CaptureFixture) -> None:
    note = (FOLDER / f"{name}.yaml").read_text()
    assert note.startswith("# @package _global_\n# ") and f"sweep={name}" in note
    if here(name):
        command = preflight.check([f"sweep={name}"], starts=False)
        assert command.multirun
        assert name == "search_optuna" or len(list(command_line.jobs(command))) >= 5
    else:
        assert cli.main(["where", f"sweep={name}"]) == 2
        assert "pip install 'maskbench[sweep]'" in capsys.readouterr().err


def test_the_users_values_win(runs: Callable) -> None:
    seen = runs(lambda cfg: 0.0)
    assert cli.main(["sweep=seeds", "method=packnet", "seed=3,7"]) == 0
    assert [(cfg.method.name, cfg.seed) for cfg in seen] == [("packnet", 3), ("packnet", 7)]


def test_a_sweep_changes_no_key_and_its_mistakes_start_nothing(runs: Callable, capsys: pytest.CaptureFixture) -> None:
    seen = runs(lambda cfg: 0.0)
    assert cli.main(["sweep=seeds", "method=packnet"]) == 0
    assert cli.main(["method=packnet", "seed=2"]) == 0
    assert identity.run_dir(seen[2]) == identity.run_dir(seen[-1])
    before = len(seen)
    assert cli.main(["sweep=edge_popup_keep", "method.keep=2,-1,a"]) == 2
    assert cli.main(["sweep=continual_methods", "task=prune"]) == 2
    assert "cannot do task=prune" in capsys.readouterr().err and len(seen) == before


@pytest.mark.full
def test_a_broken_job_ends_no_other_and_the_rerun_does_only_what_is_missing(interpreter: Callable, tmp_path: Path) -> None:
    """With joblib, whose jobs are processes of their own."""
    small = ["data=splitmnist", "data.base=synthetic", "logger=none", "task.trials=2", "task.probe=10", "budget.steps=2"]
    words = ["sweep=seeds", "method=packnet", *small, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1"]
    (tmp_path / "outputs").mkdir()
    done = interpreter(*words, "backbone.widths=[16,8]", "seed=0")
    (first,) = (tmp_path / "outputs").glob("packnet-*/s0-*")
    assert done.returncode == 0 and (first / "result.json").exists(), done.stderr
    other = first.with_name(first.name.replace("s0", "s1"))
    (other / "result.json").mkdir(parents=True)  # which cannot be read, and is never taken for absent
    done = interpreter(*words, "backbone.widths=[16,8]", "seed=0,1,2")
    assert done.returncode == 2 and "1 job of the sweep failed" in done.stderr
    assert "seed=1" in done.stderr.splitlines()[-1] and "result.json" in done.stderr.splitlines()[-1]
    (other / "result.json").rmdir()
    assert (first.with_name(first.name.replace("s0", "s2")) / "result.json").exists(), done.stderr
    assert interpreter(*words, "backbone.widths=[16,8]", "seed=0,1,2").returncode == 0
    attempts = [json.loads(p.read_text())["attempts"] for p in (tmp_path / "outputs").glob("packnet-*/s*/run.json")]
    assert sorted(map(len, attempts)) == [1, 1, 1], "nothing was done twice"


def test_a_sweep_that_runs_elsewhere_can_be_watched(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    from maskbench.cli.commands import where

    words = ["method=packnet", "seed=0,1"]
    capsys.readouterr()
    assert cli.main(["where", *words]) == 0
    first, second = (Path(line.split()[0]) for line in capsys.readouterr().out.splitlines())

    def finish(*folders: Path) -> None:
        for folder in folders:
            folder.mkdir(parents=True)
            for name in ("run.json", "result.json"):
                (folder / name).write_text('{"status": "finished", "objective": 0.5}')

    finish(first)
    monkeypatch.setattr(where, "time", SimpleNamespace(time=time.time, sleep=lambda seconds: finish(second)))
    assert where.watch([first, second]) == 0
    assert cli.main(["where", "--live", *words]) == 0
    first_look = "1 new, 1 finished; how long they take is seen after the first"
    assert capsys.readouterr().out.splitlines() == [first_look, "2 finished", "2 finished"]
    table = where.grid([first, second], ["finished", "finished"], "2 finished")
    assert list(table.columns[3].cells) == ["0.5000", "0.5000"]
