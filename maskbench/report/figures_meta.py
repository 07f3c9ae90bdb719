"""Figures of few-shot runs: accuracy or squared error over the steps of the inner loop, for each list of test episodes.

Drawn from curves.json, one entry for each list: mean over episodes and half of the 95 % interval after each count of steps.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.report.spread import share
from maskbench.report.statistics import bounded
from maskbench.report.style import COLUMN, band, canvas, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
LABELS = {"accuracy": ("test accuracy (%)", 100.0), "mse": ("mean squared error", 1.0)}


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for; none for records without test episodes."""
    if not all(run.curves and "episodes" in run.curves[0] for run in runs):
        return {}
    return {"inner_steps": inner_steps(runs, title)}


def inner_steps(runs: Sequence["Finished"], title: str) -> "Figure":
    """A line for each list of episodes; of one run with its interval over episodes, of several with their range. What is
    answered inductively, where that differs, as a line of its own."""
    from matplotlib.ticker import MaxNLocator

    measure = next(name for name in LABELS if name in runs[0].curves[0])
    label, scale = LABELS[measure]
    lines_by_name = {name: parts for entry in runs[0].curves for name, parts in lines(runs, entry["episodes"], measure).items()}
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    for (name, (steps, mean, half)), line_style in zip(
        lines_by_name.items(), line_styles(list(lines_by_name)).values(), strict=True
    ):
        band(panel, steps, scale * mean, most=share(scale), label=name, **line_style)
        if len(runs) == 1:
            low, high = bounded(mean[0], half[0]) if share(scale) else ((mean - half)[0], (mean + half)[0])
            panel.fill_between(steps, scale * low, scale * high, color=line_style["color"], alpha=0.18, linewidth=0)
    panel.set_xlabel("steps of the inner loop" + (" (bands: 95 % over episodes)" if len(runs) == 1 else ""))
    panel.set_ylabel(label)
    panel.set_ylim(bottom=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, [panel], len(runs))
    return figure


def lines(runs: Sequence["Finished"], episodes: str, measure: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Name -> (steps [points], means [runs, points], halves of intervals [runs, points]) of one list of episodes."""
    entries = [next(entry for entry in run.curves if entry["episodes"] == episodes) for run in runs]
    made = {episodes: series([entry[measure] for entry in entries])}
    inductive = series([entry[f"{measure}_inductive"] for entry in entries])
    own = {step: at for at, step in enumerate(made[episodes][0])}
    same = all(np.array_equal(inductive[1][:, i], made[episodes][1][:, own[s]]) for i, s in enumerate(inductive[0]))
    return made if same else made | {f"{episodes}, inductive": inductive}


def series(parts: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array(parts[0]["steps"]), np.array([p["mean"] for p in parts]), np.array([p["ci95"] for p in parts])
