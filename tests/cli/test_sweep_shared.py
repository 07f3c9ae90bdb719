"""Several processes at one grid: each run is done once, by whoever comes first, and all of them end well."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

GRID = (
    "-m", "method=supsup,packnet", "seed=range(6)", "data=splitmnist", "data.base=synthetic", "logger=none",
    "backbone.widths=[16,8]", "budget.steps=10", "budget.batch_size=32", "task.trials=2", "task.probe=20",
)  # fmt: skip


@pytest.mark.full
def test_two_sweeps_of_one_grid_do_each_run_once(program: Callable, tmp_path: Path) -> None:
    processes = [program(*GRID, log=log) for log in ("first", "second")]
    for process in processes:
        process.join()
    said = [(tmp_path / log).read_text() for log in ("first", "second")]
    assert [process.exitcode for process in processes] == [0, 0], said
    folders = list((tmp_path / "outputs").glob("*/s*"))
    assert len(folders) == 12 and all((folder / "result.json").exists() for folder in folders)
    attempts = [json.loads((folder / "run.json").read_text())["attempts"] for folder in folders]
    assert all(len(one) == 1 for one in attempts)
    assert len({one[0]["process"] for one in attempts}) == 2, "they share the work"
