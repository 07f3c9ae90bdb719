"""Figures of what uncertainty runs make of held-out rows and of unknown classes: set sizes and coverage by class, reliability
before and after recalibration, AUROC of every score with its interval.

Drawn from curves.json and result.json; of several seeds the means, and of intervals those of the first seed.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.report.figures_uncertainty import calibrated, grid, rows, sets
from maskbench.report.interval_ends import ends
from maskbench.report.style import COLUMN, GREY, PAGE, canvas, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
Group = Sequence["Finished"]
LEVEL = 90  # percent, of the sets that are drawn
SCORES = ("entropy", "mi", "maxprob", "energy", "maxlogit", "knn", "mahalanobis")
COLOUR = {score: line_style["color"] for score, line_style in line_styles(SCORES).items()}
CALIBRATED = ("confidence", "accuracy", "count")


def draw(runs: Group, title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for, by name."""
    made = {}
    if all(rows(run, "conformal") for run in runs):
        made["conformal"] = conformal(runs, title)
    if all(rows(run, "recalibrated") for run in runs):
        made["recalibrated"] = recalibrated(runs, title)
    if all(any(name.startswith("auroc_knn") for name in run.result["metrics"]) for run in runs):
        made["unknown"] = unknown(runs, title)
    return made


def conformal(runs: Group, title: str) -> "Figure":
    """How many classes are in the sets of LEVEL percent, and how often a class is in its own, by score."""
    figure, (left, right) = canvas(f"{title}; sets of {LEVEL} %", 2, width=PAGE, height=2.7)
    chosen = [row for run in runs for row in rows(run, "conformal") if row["level"] == LEVEL]
    scores = dict.fromkeys(row["score"] for row in chosen)
    by_score = {score: [row for row in chosen if row["score"] == score] for score in scores}
    in_sets(left, right, by_score, line_styles(list(scores)))
    legend(figure, [left, right], len(runs), entry=1.1)
    return figure


def in_sets(left: "Axes", right: "Axes", chosen: Mapping[str, list[dict]], styles: Mapping[str, dict]) -> None:
    """Shares of inputs by the size of their conformal set, and coverage by class: by name, the means of rows of curves.json and
    how they are drawn."""
    last = max(np.flatnonzero(np.array(row["sizes"]) > 0).max() for own in chosen.values() for row in own) + 1
    for number, (name, line_style) in enumerate(styles.items()):
        own = chosen[name]
        sizes = np.array([row["sizes"] for row in own], dtype=float)
        shares = (100 * sizes / sizes.sum(1, keepdims=True)).mean(0)[:last]
        places = np.arange(last) + 0.8 * ((number + 0.5) / len(chosen) - 0.5)
        left.bar(places, shares, width=0.8 / len(chosen), color=line_style["color"], label=name)
        by_class = np.array([row["coverage_by_class"] for row in own], dtype=float)  # null, of a class that is not there, is nan
        right.plot(np.arange(by_class.shape[1]), 100 * by_class.mean(0), label=name, **(line_style | {"linestyle": ""}))
    right.axhline(LEVEL, color=GREY, linewidth=0.6, linestyle="--", label="asked")
    left.set_xlabel("classes in a set")
    left.set_ylabel("share of inputs (%)")
    right.set_xlabel("class")
    right.set_ylabel("coverage (%)")
    for panel in (left, right):
        panel.xaxis.get_major_locator().set_params(integer=True)


def recalibrated(runs: Group, title: str) -> "Figure":
    """Accuracy against confidence before and after each map, of the first seed, with 95 % intervals."""
    more = f"; drawn: seed {runs[0].result['seed']}" if len(runs) > 1 else ""
    figure, (panel,) = canvas(title + more, width=COLUMN, height=3.2)
    panel.plot([0, 100], [0, 100], color=GREY, linewidth=0.6, linestyle="--", label="perfectly calibrated")
    after = rows(runs[0], "recalibrated")
    parts = {"before": rows(runs[0], "reliability")}
    parts |= {kind: [row for row in after if row["map"] == kind] for kind in dict.fromkeys(row["map"] for row in after)}
    for name, line_style in line_styles(list(parts)).items():
        columns = ([np.nan if row[what] is None else row[what] for row in parts[name]] for what in CALIBRATED)
        calibrated(panel, *(np.array(column, dtype=float) for column in columns), label=name, **line_style)
    panel.set_xlabel("confidence, largest probability (%)")
    panel.set_ylabel("accuracy (%)")
    legend(figure, [panel], 1, entry=1.4)
    return figure


def unknown(runs: Group, title: str) -> "Figure":
    """AUROC of every score, a panel for each set of unknown classes: the mean of the seeds, and the first one's interval."""
    every = [run.result["metrics"] for run in runs]
    names = [name for name in dict.fromkeys(sets(runs, "entropy")) if f"auroc_entropy/{name}" in every[0]]
    figure, panels = grid(title, len(names))
    for panel, name in zip(panels, names, strict=True):
        for place, score in enumerate(SCORES):
            metric = f"auroc_{score}/{name}"
            values = [metrics.get(metric) for metrics in every]
            if any(value is None for value in values):
                continue
            low, high = (every[0].get(end) for end in ends(metric))
            panel.plot([100 * sum(values) / len(values)], [place], marker="o", color=COLOUR[score], linestyle="")
            if low is not None and high is not None:
                panel.plot([100 * low, 100 * high], [place, place], color=COLOUR[score], marker="")
        panel.set_yticks(range(len(SCORES)), SCORES)
        panel.set_ylim(len(SCORES) - 0.5, -0.5)
        panel.set_title(name, loc="left")
        panel.set_xlabel("AUROC (%)")
    return figure
