"""Figures of pruning runs on reals, in the targets' own units, and of what is found of a planted ticket."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskbench.report import figures_masks, figures_prune, figures_recovery, style

LOOKS = [{"step": step, "val_loss": 4 / step, "test_loss": 5 / step} for step in (10, 20, 30)]


def row(level: int, branch: str, rmse: float, **more: Any) -> dict:
    told = {"early_stop_step": 30, "early_stop_rmse": rmse + 0.01, "fast_step": None, "curve": LOOKS}
    return {"level": level, "branch": branch, "rmse": rmse, "extra_metrics": {"density": 0.5**level}} | told | more


def run(**more: Any) -> SimpleNamespace:
    rows = [row(n, "ticket", 0.1 + 0.02 * n, **more) for n in range(4)] + [row(3, "other", 0.3, **more)]
    rows += [
        {"level": n, "branch": "supermask/a", "rmse": 2.0 + n, "val_rmse": 1.0, "extra_metrics": {"density": 0.5**n}}
        for n in (1, 2)
    ]
    return SimpleNamespace(curves=rows, config={"task": {"fast": 0.95}}, result={}, name="s0")


@pytest.fixture(autouse=True)
def styled():
    with style.styled():
        yield


def line(figure: Any, label: str, panel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [one for one in figure.axes[panel].get_lines() if one.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def test_errors_are_drawn_as_they_are() -> None:
    made = figures_prune.draw([run()], "title")
    assert "accuracy" not in made
    x, y = line(made["rmse"], "ticket")
    assert np.allclose(x, [100, 50, 25, 12.5]) and np.allclose(y, [0.1, 0.12, 0.14, 0.16])
    assert np.allclose(line(made["rmse"], "dense")[1], 0.1) and np.allclose(line(made["rmse"], "ticket", 1)[1], y + 0.01)
    assert [panel.get_ylabel() for panel in made["rmse"].axes] == ["test RMSE", "test RMSE at early stop"]


def test_learning_curves_are_of_the_loss() -> None:
    figure = figures_prune.draw([run()], "title")["learning_curves"]
    x, y = line(figure, "100 %")
    assert x.tolist() == [10, 20, 30] and np.allclose(y, [0.5, 0.25, 5 / 30])
    assert figure.axes[0].get_ylabel() == "test loss"
    low, high = figure.axes[0].get_ylim()
    assert low < 5 / 30 and high >= 0.5, "the end of the curves is in sight"


def test_untrained_nets_of_reals() -> None:
    figure = figures_masks.draw([run()], "title")["supermasks"]
    assert line(figure, "a")[1].tolist() == [3, 4] and figure.axes[0].get_ylabel() == "test RMSE, untrained"
    assert figure.axes[0].get_ylim()[1] >= 4


def test_recall_beside_what_chance_finds() -> None:
    figure = figures_recovery.draw([run(ticket_recall=0.4, ticket_precision=0.1)], "title")["recall"]
    x, y = line(figure, "ticket")
    assert np.allclose(y, 40) and np.allclose(line(figure, "at random")[1], x)
    assert figures_recovery.draw([run()], "title") == {}


def test_classes_have_no_recall_without_a_ticket(tmp_path: Path) -> None:
    plain = SimpleNamespace(curves=[{"level": 0, "branch": "ticket", "accuracy": 0.9, "extra_metrics": {}}], config={}, result={})
    assert figures_recovery.draw([plain], "title") == {} == figures_recovery.draw([SimpleNamespace(curves=None)], "title")
    assert figures_prune.measure([plain]) is figures_prune.ACCURACY
