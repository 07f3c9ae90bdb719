"""Figures of continual runs: the accuracy matrix, accuracy against stages learnt, every stage given or inferred.

Drawn from result.json: R[i, j] is the accuracy on stage j after learning stage i, null where nothing was tested;
where the method infers stages, counts [true stage, inferred stage] of single images are there too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.report import style
from maskbench.report.style import COLUMN, GREY, INK, PAGE, band, canvas, error_bar, legend, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
CELLS = 12  # stages up to which a heat map has room for numbers
BARS = 40  # stages up to which bars are told apart
WIDE = 19  # points of text in a row of cells for an inch of figure, up to which there is room for a decimal
NAMED = 12  # stages up to which their names have room


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for, by name; none for records without an accuracy matrix."""
    if not all((run.result.get("matrices") or {}).get("accuracy") for run in runs):
        return {}
    r, made = matrices(runs), {}
    if r.shape[-1] > 1:
        if r.shape[-1] <= CELLS or whole(r):
            made["matrix"] = heat_map(r, names(runs), title)
        made["stages"] = over_stages(r, column(runs, "accuracy, stage inferred"), title)
        confusions = [run.result["matrices"].get("stages_inferred") for run in runs]
        if all(confusions):
            made["confusion"] = confusion(np.array(confusions, dtype=float), names(runs), title)
    curves = [run.result["matrices"].get("recall_distance_curve") for run in runs]
    if all(curves):
        made["recall"] = recall(curves, names(runs), title)
    made["per_stage"] = per_stage(r, column(runs, "accuracy, stage inferred"), names(runs), title)
    return made


# ---- numbers out of the records


def matrices(runs: Sequence["Finished"]) -> np.ndarray:
    """R in percent [runs, learnt so far, tested on]; nan where nothing was tested."""
    return 100 * np.array([run.result["matrices"]["accuracy"] for run in runs], dtype=float)


def column(runs: Sequence["Finished"], name: str) -> np.ndarray | None:
    """A column of the result tables in percent [runs, stages]; None where a run lacks it."""
    values = [[row.get(name) for row in run.result["table"]] for run in runs]
    return None if any(v is None for row in values for v in row) else 100 * np.array(values, dtype=float)


def names(runs: Sequence["Finished"]) -> list[str]:
    """The stages' names where they have room and all seeds agree on them (class orders may differ), else numbers."""
    stage_names = [[str(row["stage"]) for row in run.result["table"]] for run in runs]
    agreed = all(one == stage_names[0] for one in stage_names) and len(stage_names[0]) <= NAMED
    return stage_names[0] if agreed else [str(i + 1) for i in range(len(stage_names[0]))]


def whole(r: np.ndarray) -> bool:
    """Whether every stage was tested after every later one; else only the diagonal and the last row are there."""
    return bool(np.isfinite(r[:, *np.tril_indices(r.shape[-1])]).all())


def average_seen(r: np.ndarray) -> np.ndarray:
    """Accuracy averaged over the stages seen so far [runs, stages]; nan where one of them was not tested."""
    return np.stack([r[:, i, : i + 1].mean(1) for i in range(r.shape[-1])], 1)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first n stages, for every n [runs, stages]."""
    return np.cumsum(values, 1) / np.arange(1, values.shape[1] + 1)


# ---- figures


def heat_map(r: np.ndarray, stages: Sequence[str], title: str) -> "Figure":
    """R, mean over seeds; cells that were not tested are blank."""
    mean = r.mean(0)
    low = min(90.0, 10 * np.floor(np.nanmin(mean) / 10))
    labels = ("tested on stage", "after learning stage", "test accuracy (%)")
    return tiles(mean, stages, title, low, labels, len(r), digits=1)


def confusion(counts: np.ndarray, stages: Sequence[str], title: str) -> "Figure":
    """Where single images of each stage are taken to come from: counts [runs, true, inferred] as shares of their row."""
    shares = 100 * counts / counts.sum(2, keepdims=True).clip(1)
    labels = ("inferred stage", "true stage", "share of single images (%)")
    return tiles(shares.mean(0), stages, title, 0, labels, len(counts), digits=0)


def tiles(
    mean: np.ndarray, stages: Sequence[str], title: str, low: float, labels: Sequence[str], seeds: int, digits: int
) -> "Figure":
    """Percentages [stages, stages] as colours from `low` to 100, and as numbers where cells have room for them.

    `labels` are those of the x axis, the y axis and the colours.
    """
    count = len(mean)
    figure, (panel,) = canvas(title, width=COLUMN, height=3.3)
    shown = np.ma.masked_invalid(mean)
    image = panel.imshow(shown, cmap=style.SHADES, vmin=low, vmax=100, aspect="equal", interpolation="none")
    if count <= CELLS:
        size = points(min(7.0, 56 / count))
        digits = digits if size * count <= WIDE * figure.get_figwidth() else 0
        for i, j in np.argwhere(np.isfinite(mean)):
            line_style = {"color": "white" if mean[i, j] < (low + 100) / 2 else INK, "fontsize": size}
            panel.text(j, i, f"{mean[i, j]:.{digits}f}", ha="center", va="center", **line_style)
    ticks = stage_ticks(count)
    upright = max(len(stages[i]) for i in ticks) * len(ticks) > 40
    panel.set_xticks(ticks, [stages[i] for i in ticks], rotation=90 if upright else 0)
    panel.set_yticks(ticks, [stages[i] for i in ticks])
    panel.set_xlabel(labels[0])
    panel.set_ylabel(labels[1])
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0 if count <= CELLS else 2)
    label = labels[2] + (f", mean of {seeds} seeds" if seeds > 1 else "")
    figure.colorbar(image, ax=panel, label=label, shrink=0.8).outline.set_visible(False)
    return figure


def over_stages(r: np.ndarray, inferred: np.ndarray | None, title: str) -> "Figure":
    """The average over the stages seen, and each stage from when it was learnt; from the ends only where R has no more."""
    count = r.shape[-1]
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    x, seen = np.arange(1, count + 1), average_seen(r)
    mark = {"marker": "o"} if count <= BARS else {}
    if whole(r):
        line_style = {"color": GREY, "linewidth": 0.6}
        panel.plot([], [], label="each stage", alpha=0.5, **line_style)  # what the legend shows: many lines are faint ones
        line_style |= {"alpha": min(0.5, 12 / count), "rasterized": count > BARS}
        for j in range(count):
            panel.plot(x[j:], r[:, j:, j].mean(0), label=f"_stage {j + 1}", **line_style)
        band(panel, x, seen, most=100, color=style.COLOURS[0], label="average of stages seen", zorder=3, **mark)
        panel.set_xlabel("stages learnt")
    else:
        diagonal = np.diagonal(r, axis1=1, axis2=2)
        band(panel, x, running_mean(diagonal), most=100, color=style.COLOURS[2], label="tested when learnt", linestyle="--")
        band(panel, x, running_mean(r[:, -1]), most=100, color=style.COLOURS[0], label="tested at the end", zorder=3, **mark)
        panel.set_xlabel("first stages averaged")
    if inferred is not None and not whole(r):
        line_style = {"color": style.COLOURS[1]} | ({"marker": "s"} if count <= BARS else {})
        band(panel, x, running_mean(inferred), most=100, label="tested at the end, inferred", **line_style)
    panel.set_ylabel("test accuracy (%)")
    whole_numbers(panel, count)
    legend(figure, [panel], len(r), entry=1.6)
    return figure


def per_stage(r: np.ndarray, inferred: np.ndarray | None, stages: Sequence[str], title: str) -> "Figure":
    """Accuracy of every stage at the end, beside it with the stage inferred or, without that, when it was learnt."""
    end, count = r[:, -1], r.shape[-1]
    shown = {"stage given": end, "stage inferred": inferred}
    if inferred is None:
        shown = {"when learnt": np.diagonal(r, axis1=1, axis2=2), "at the end": end}
    figure, (panel,) = canvas(title, width=COLUMN if count <= NAMED else PAGE, height=2.9)
    for k, (name, values) in enumerate(shown.items()):
        label = f"{name} (mean {np.nanmean(values):.1f} %)"
        marks(panel, values, k, label)
    ticks = stage_ticks(count)
    upright = max(len(stages[i]) for i in ticks) * len(ticks) > 45
    panel.set_xticks(ticks, [stages[i] for i in ticks], rotation=90 if upright else 0)
    panel.set_xlim(-0.7, count - 0.3)
    panel.set_xlabel("stage")
    panel.set_ylabel("test accuracy (%)")
    if count <= BARS:
        panel.set_ylim(0, 100)
    legend(figure, [panel], len(r), entry=1.8)
    return figure


def recall(curves: Sequence[Sequence[Sequence[int]]], stages: Sequence[str], title: str) -> "Figure":
    """Bits in which the mask that is recalled differs from the stage's own, [runs][stages][steps]: a line for each stage.

    Stages have as many steps as their test sets have batches; at 0 the mask is recalled exactly.
    """
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    ends = [curve[-1] for run in curves for curve in run]
    for stage, line_style in zip(range(len(stages)), style.line_styles(stages).values(), strict=True):
        own = [run[stage] for run in curves]
        length = min(map(len, own))
        y = np.array([one[:length] for one in own], dtype=float)
        band(panel, np.arange(length), y, label=stages[stage], **line_style | {"marker": ""})
    panel.set_ylim(bottom=0)
    panel.set_xlabel(f"steps of recall ({sum(end == 0 for end in ends)} of {len(ends)} masks exact at the end)")
    panel.set_ylabel("bits off the stage's own mask")
    legend(figure, [panel], len(curves), entry=0.8)
    return figure


def marks(panel: "Axes", values: np.ndarray, k: int, label: str) -> None:
    """values [runs, stages] in percent as the k-th of two: bars from zero, or dots where bars would be threads."""
    x, mean = np.arange(values.shape[1]), values.mean(0)
    colour = style.COLOURS[k]
    spread = error_bar(values, 100)
    if values.shape[1] <= BARS:
        error = {"elinewidth": 0.8, "ecolor": INK}
        panel.bar(x + 0.4 * (k - 0.5), mean, 0.38, color=colour, yerr=spread, error_kw=error, label=label)
        return
    if spread is not None:
        panel.vlines(x, mean - spread[0], mean + spread[1], color=colour, alpha=0.3, linewidth=0.8)
    dot = {"marker": "o", "markersize": 3.2, "fillstyle": "none"} if k == 0 else {"marker": "s", "markersize": 1.4}
    panel.plot(x, mean, linestyle="", color=colour, label=label, **dot)  # one inside the other where they are equal


def stage_ticks(count: int) -> list[int]:
    """Positions (from 0) of the stages that are named on an axis: all of a few, else round numbers."""
    if count <= NAMED:
        return list(range(count))
    every = next(step for step in (2, 5, 10, 20, 25, 50, 100, 250, 500, 1000, 10**9) if count / step <= 10)
    return [0, *range(every - 1, count, every)]


def whole_numbers(panel: "Axes", count: int) -> None:
    ticks = [i + 1 for i in stage_ticks(count)]
    panel.set_xticks(ticks, ticks)
