"""Figures of the masks that pruning leaves: what remains of each layer, and what untrained masked nets reach.

Drawn from curves.json, as those of the trained nets are (figures_prune).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.report import style
from maskbench.report.figures_prune import (
    ACCURACY,
    LINES,
    REMAINING,
    TICKET,
    UNTRAINED,
    every,
    extra_metrics,
    measure,
    percent,
    pruned,
    remaining,
    remaining_axis,
    rows,
    series,
    some,
    word,
)
from maskbench.report.spread import share
from maskbench.report.style import COLUMN, GREY, PAGE, PALE, band, canvas, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for, by name; none for records without curves."""
    if not pruned(runs):
        return {}
    made = {"density": density(runs, title), "supermasks": supermasks(runs, title)}
    return {name: figure for name, figure in made.items() if figure is not None}


# ---- layers


def density(runs: Sequence["Finished"], title: str) -> "Figure | None":
    """What remains of each layer: lines over levels, a heat map for many layers, dots for a single level."""
    levels = rows(runs, TICKET)
    measures = [[extra_metrics(row) for row in group] for group in levels.values()]
    names = list(dict.fromkeys(k for group in measures for own in group for k in own if k[:8] == "density/"))
    x = np.array([remaining(group) for group in levels.values()])
    y = np.array([[100 * np.mean([own.get(k, np.nan) for own in group]) for group in measures] for k in names])
    if not names or (len(x) == 1 and np.all(y == 100)):
        return None
    names = [name.removeprefix("density/") for name in names]
    if len(x) == 1:
        return layer_dots(names, x[0], y[:, 0], title)
    return layer_lines(names, x, y, title) if len(names) <= LINES else layer_map(names, x, y, title)


def layer_lines(names: Sequence[str], x: np.ndarray, y: np.ndarray, title: str) -> "Figure":
    """y [layers, levels] in percent; a layer of which nothing is left ends there, and its name says so."""
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    for i, ((name, line_style), line) in enumerate(zip(line_styles(names).items(), y, strict=True)):
        gone = f" (empty at {percent(x[line == 0][0])} %)" if (line == 0).any() else ""
        under = 1 - (i + 1) / len(names)  # layers of one rate lie on each other: the lower ones are wider
        size = {"linewidth": 1.2 + 2.7 * under, "markersize": 3 + 4 * under}
        panel.plot(x, np.where(line > 0, line, np.nan), label=name + gone, **line_style, **size)
    panel.set_yscale("log")
    remaining_axis(panel, x)
    panel.set_xlabel("weights remaining in all layers (%)")
    percent_axis(panel, y)
    panel.set_ylabel("weights remaining in the layer (%)")
    legend(figure, [panel], 1)
    return figure


def percent_axis(panel: "Axes", y: np.ndarray) -> None:
    """Ticks and limits of y in percent on a logarithmic axis."""
    least = np.nanmin(np.where(y > 0, y, np.nan), initial=100)
    percent_ticks(panel.yaxis, least)
    panel.set_ylim(least / 1.15, 115)


def percent_ticks(axis: "Axis", least: float) -> None:
    """Ticks of a logarithmic axis: 100, 50, 20, 10, ... down to the least percentage."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    steps = (1.0, 2.0, 5.0) if least > 0.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def layer_map(names: Sequence[str], x: np.ndarray, y: np.ndarray, title: str) -> "Figure":
    """y [layers, levels] in percent as colours on a logarithmic scale, layers from the input down; empty is blank."""
    from matplotlib.colors import LogNorm

    figure, (panel,) = canvas(title, width=COLUMN, height=min(9.0, 1.3 + 0.12 * len(names)))
    shown = np.ma.masked_where(~(y > 0), y)
    norm = LogNorm(vmin=min(shown.min(), 99.0), vmax=100)
    image = panel.imshow(shown, aspect="auto", cmap=style.SHADES, norm=norm, interpolation="none")
    named = every(len(names), 64)
    panel.set_yticks(named, [names[i] for i in named], fontsize=style.points(max(4.5, min(7, 360 / len(names)))))
    at = every(len(x), 7)
    panel.set_xticks(at, [percent(x[i]) for i in at])
    panel.set_xlabel("weights remaining in all layers (%)")
    panel.grid(False)
    ticks = [tick for tick in (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1) if tick >= norm.vmin]
    bar = figure.colorbar(image, ax=panel, label="remaining in the layer (%)", ticks=ticks, format="%g")
    bar.outline.set_visible(False)
    bar.minorticks_off()
    return figure


def layer_dots(names: Sequence[str], x: float, y: np.ndarray, title: str) -> "Figure":
    """y [layers] in percent, beside the whole net's x."""
    figure, (panel,) = canvas(title, width=COLUMN, height=min(9.0, 1.3 + 0.16 * len(names)))
    panel.plot(y, range(len(names)), "o", color=style.COLOURS[0], label="layer")
    panel.axvline(x, color=GREY, linestyle=(0, (4, 2)), linewidth=0.9, label=f"whole net ({percent(x)} %)")
    named = every(len(names), 90)
    panel.set_yticks(named, [names[i] for i in named], fontsize=style.points(max(4.5, min(7, 360 / len(names)))))
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlim(0, 102)
    panel.set_xlabel(REMAINING)
    panel.grid(False, axis="y")
    panel.grid(True, axis="x")
    legend(figure, [panel], 1)
    return figure


# ---- supermasks


def supermasks(runs: Sequence["Finished"], title: str) -> "Figure | None":
    """Accuracy of untrained masked nets: one panel, or for many of them a panel for each criterion, best first."""
    names = dict.fromkeys(row["branch"] for run in runs for row in run.curves if row["branch"].startswith(UNTRAINED))
    own = measure(runs)
    accuracies = {name: series(runs, name, own.name) for name in names}
    accuracies = {name: (x, own.scale * y) for name, (x, y) in accuracies.items() if some(y)}
    if not accuracies:
        return None
    if len(accuracies) > LINES and own is ACCURACY:
        return supermask_panels(accuracies, runs, title)
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    for name, line_style in line_styles(list(accuracies)).items():
        band(panel, *accuracies[name], most=share(own.scale), label=word(name), **line_style)
    supermask_axes(panel, accuracies, most=100 if own is ACCURACY else None)
    panel.set_ylabel("test accuracy, untrained (%)" if own is ACCURACY else f"test {own.label}, untrained")
    legend(figure, [panel], len(runs), entry=1.5)
    return figure


def supermask_panels(accuracies: dict[str, tuple], runs: Sequence["Finished"], title: str) -> "Figure":
    """NAME and NAME_constant share a panel; all others stand behind it in grey, for comparison."""
    pairs: dict[str, dict[str, tuple]] = {}
    for name, line in accuracies.items():
        stem = name.removesuffix("_constant")
        pairs.setdefault(stem if stem in accuracies else name, {})[name] = line
    pairs = dict(sorted(pairs.items(), key=lambda pair: -max(y.mean(0).max() for _, y in pair[1].values())))
    across = style.across(3)
    down = -(-len(pairs) // across)
    figure, axes = canvas(title, across, down, width=PAGE * across / 3, height=1.2 + 1.1 * down, sharex=True, sharey=True)
    for panel, (stem, pair) in zip(axes, pairs.items(), strict=False):
        for name, (x, y) in accuracies.items():
            if name not in pair:
                panel.plot(x, y.mean(0), color=PALE, linewidth=0.7, zorder=1.5)
        for name, (x, y) in pair.items():
            constant = name != stem
            colour, label = (style.COLOURS[1], "signed constant") if constant else (style.COLOURS[0], "initial values")
            band(panel, x, y, most=100, color=colour, label=label)
        supermask_axes(panel, accuracies, ticks=4)
        panel.set_xlabel("")
        panel.set_title(word(stem), loc="left", pad=3)
    for panel in axes[len(pairs) :]:
        panel.set_visible(False)
    for panel in axes[len(pairs) - across : len(pairs)]:  # the last of each column
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(REMAINING)
    figure.supylabel("test accuracy, untrained (%)", fontsize=style.points(7.5))
    legend(figure, axes[: len(pairs)], len(runs), entry=1.5)
    return figure


def supermask_axes(panel: "Axes", accuracies: dict[str, tuple], ticks: int = 7, most: float | None = 100) -> None:
    remaining_axis(panel, max((x for x, _ in accuracies.values()), key=len), ticks)
    panel.set_ylim(0, most)
