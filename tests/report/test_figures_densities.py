"""Figures of pruning experiments against what remains: the records' numbers, lines that join what differs in `keep` alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskbench.cli import main as program
from maskbench.report import figures


def run(folder: Path, method: str, keep: float, accuracy: float, *, seed: int = 0, macs: float | None = None,
        controls: dict | None = None, **knobs: Any) -> Path:  # fmt: skip
    """A finished run of one level that keeps `keep` of the weights and `macs` of the multiply-adds; a branch for each control."""
    key, keys = f"{method}{keep}{knobs}", {"name": method, "keep": keep} | knobs
    told = {"status": "finished", "seed": seed, "source": "synthetic", "data": "toy", "task": "prune", "notes": []}
    told |= {"method": method, "key": key, "metrics": {"accuracy": accuracy}, "table": []}
    savings = {} if macs is None else {"savings": {"macs_dense": 1000, "macs_sparse": 1000 * macs}}
    curves = [
        {"level": 0, "branch": branch, "accuracy": value, "extra_metrics": {"density": keep}} | savings
        for branch, value in ({"ticket": accuracy} | (controls or {})).items()
    ]
    made = folder / f"{method}-toy" / f"s{seed}-{key}"
    made.mkdir(parents=True)
    config = {"method": keys, "data": {"name": "toy"}}
    (made / "result.json").write_text(json.dumps(told))
    (made / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": config}))
    (made / "curves.json").write_text(json.dumps(curves))
    return made


def compared(*groups: list[Path]) -> dict[str, Any]:
    return figures.compare([[figures.read(one) for one in group] for group in groups])


def line(panel: Any, label: str) -> tuple[list[float], list[float]]:
    (found,) = [one for one in panel.get_lines() if one.get_label() == label]
    return list(np.asarray(found.get_xdata(), float)), list(np.asarray(found.get_ydata(), float))


def test_a_method_is_one_line_from_dense_to_sparse(tmp_path: Path) -> None:
    groups = [
        [run(tmp_path, "snip", keep, value + 0.01 * s, seed=s) for s in (0, 1)] for keep, value in ((0.01, 0.7), (0.1, 0.8))
    ]
    groups += [[run(tmp_path, "set", 0.1, 0.9, drop=d)] for d in (0.2, 0.3)]
    (panel,) = compared(*groups)["methods_densities"].axes
    x, y = line(panel, "snip")
    assert x == pytest.approx([10, 1]) and y == pytest.approx([80.5, 70.5])
    assert line(panel, "set drop=0.2")[1] == line(panel, "set drop=0.3")[1] == pytest.approx([90])
    assert panel.get_xlim()[0] > panel.get_xlim()[1], "from dense to sparse"
    assert "methods_multiplications" not in compared(*groups), "no record says them"


def test_controls_stand_beside_their_method(tmp_path: Path) -> None:
    groups = [
        [run(tmp_path, "snip", keep, 0.8, controls={"shuffled": 0.6, "erk": 0.5})] for keep in (0.1, 0.01)
    ]  # fmt: skip
    groups += [[run(tmp_path, "gradual", 0.1, 0.95)]]
    methods, controls = compared(*groups)["methods_densities"].axes
    assert line(controls, "shuffled")[1] == pytest.approx([60, 60]) and line(controls, "ticket")[1] == pytest.approx([80, 80])
    assert "snip" in controls.get_title(loc="left")
    assert {one.get_label() for one in methods.get_lines()} >= {"snip", "gradual"}


def test_multiplications_are_drawn_where_they_are_not_the_share_of_weights(tmp_path: Path) -> None:
    cost = {0.1: 0.3, 0.01: 0.05}
    (panel,) = compared(*([run(tmp_path, "snip", k, 0.9, macs=m)] for k, m in cost.items()))["methods_multiplications"].axes
    assert line(panel, "snip")[0] == pytest.approx([30, 5])
    same = [[run(tmp_path, "set", k, 0.9, macs=k)] for k in cost]
    assert "methods_multiplications" not in compared(*same) and "methods_densities" in compared(*same)


@pytest.mark.parametrize("low, stretched", [(0.12, True), (0.95, False)])
def test_accuracies_far_apart_have_an_axis_of_errors(tmp_path: Path, low: float, stretched: bool) -> None:
    """So that what collapsed does not press all others together: 90 to 95 takes as much room as 80 to 90."""
    (panel,) = compared([run(tmp_path, "snip", 0.1, 0.97)], [run(tmp_path, "snip", 0.01, low)])["methods_densities"].axes
    (a, b, c), low_end, high_end = (panel.transData.transform((1, y))[1] for y in (80, 90, 95)), *panel.get_ylim()
    assert bool(np.isclose(b - a, c - b)) is stretched
    assert low_end <= 100 * low and high_end >= 97, "nothing is cut off"


def test_one_density_and_other_tasks_have_no_such_figure(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    snip, taken = run(tmp_path, "snip", 0.1, 0.9), run(tmp_path, "set", 0.1, 0.9)
    assert "methods_densities" not in compared([snip], [taken])
    sparser = run(tmp_path, "set", 0.01, 0.8)
    assert program.main(["figure", str(snip), str(taken), str(sparser), "--output", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "figures" / "methods_densities.svg").exists()
