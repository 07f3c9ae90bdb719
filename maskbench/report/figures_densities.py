"""Figures that compare pruning experiments: the score against the weights that remain, and against what a pass costs.

From groups of runs on the same data, each group one experiment with one or more seeds. Experiments that differ in nothing but
how much they keep are one line; an experiment of several levels is one by itself.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maskbench.report.figures_methods import most_seeds, named
from maskbench.report.figures_prune import (
    MULTIPLIED,
    REMAINING,
    TICKET,
    Measure,
    branches,
    measure,
    multiplied,
    percent,
    pruned,
    remaining,
    rows,
    word,
)
from maskbench.report.spread import share
from maskbench.report.style import COLUMN, PAGE, canvas, error_bar, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("compare",)  # what `maskbench figure` asks of this module (figures.py)
Group = Sequence["Finished"]
KEEP = "method.keep"  # the key that says how much stays
APART = 1.4  # ticks of an axis of shares, as a ratio
FAR, LEAST = 5, 0.05  # errors whose ratio is larger lie far apart; below so many percent an error counts as that
ACCURACIES = (10, 50, 80, 90, 95, 98, 99, 99.5, 99.9)  # ticks


class Point(NamedTuple):
    """One branch of one experiment at one level: where it stands, and its score by seed."""

    x: float
    y: np.ndarray


def compare(groups: Sequence[Group], title: str) -> dict[str, "Figure"]:
    """The figures these experiments have something for; none unless all are pruning runs that are scored alike, at two
    densities or more."""
    if not all(pruned(group) for group in groups) or len({measure(group).name for group in groups}) > 1:
        return {}
    own, joined = measure(groups[0]), lines(groups)
    if len({round(point.x, 6) for line in joined.values() for point in points(line, TICKET, own, remaining)}) < 2:
        return {}
    made = {"methods_densities": over_densities(joined, own, title), "methods_multiplications": over_costs(joined, own, title)}
    return {name: figure for name, figure in made.items() if figure is not None}


# ---- what is compared


def lines(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The experiments of each line, by its name: the method, and settings other than `method.keep` in which its lines differ."""
    joined: dict[str, list[Group]] = {}
    for group in groups:
        joined.setdefault(named(group, groups, without=[KEEP]), []).append(group)
    return joined


def points(line: Sequence[Group], branch: str, own: Measure, at: Callable) -> list[Point]:
    """Those of a line's branch, from the densest to the sparsest; a level that keeps all weights is no point."""
    found = []
    for group in line:
        for level in rows(group, branch).values():
            y = np.array([own.scale * row[own.name] for row in level if row.get(own.name) is not None])
            if len(y) == len(level) and remaining(level) < 100 and np.isfinite(at(level)):
                found.append(Point(at(level), y))
    return sorted(found, key=lambda point: -point.x)


# ---- figures


def over_densities(joined: dict[str, list[Group]], own: Measure, title: str) -> "Figure":
    """All methods in one panel; beside it one for each method that has controls, the method among them."""
    beside = {name: names for name, line in joined.items() if (names := controls(line))}
    columns = 1 + len(beside)
    figure, axes = canvas(title, columns, width=PAGE if beside else COLUMN, height=3.2, sharey=True)
    seeds = most_seeds([group for line in joined.values() for group in line])
    methods(axes[0], joined, own, remaining)
    axes[0].set_xlabel(REMAINING)
    axes[0].set_ylabel(f"test {own.label}")
    kinds = line_styles(list(dict.fromkeys([TICKET, *(name for names in beside.values() for name in names)])))
    for panel, (name, names) in zip(axes[1:], beside.items(), strict=True):
        for branch in (TICKET, *names):
            trace(panel, points(joined[name], branch, own, remaining), own, label=word(branch), **kinds[branch])
        axis(panel, [point.x for point in points(joined[name], TICKET, own, remaining)])
        panel.set_title(f"{name} and its controls", loc="left")
        panel.set_xlabel(REMAINING)
    stretch(axes, own)
    legend(figure, axes, seeds)
    return figure


def over_costs(joined: dict[str, list[Group]], own: Measure, title: str) -> "Figure | None":
    """All methods against the multiply-adds that remain by formula; None where a record does not say them, or they are the
    share of weights, as without convolutions."""
    lines = joined.values()
    cost, weights = (np.array([p.x for line in lines for p in points(line, TICKET, own, at)]) for at in (multiplied, remaining))
    if len(cost) < len(weights) or np.allclose(cost, weights, rtol=0.01):
        return None
    figure, (panel,) = canvas(title, width=COLUMN, height=3.2)
    methods(panel, joined, own, multiplied)
    panel.set_xlabel(MULTIPLIED)
    panel.set_ylabel(f"test {own.label}")
    stretch([panel], own)
    legend(figure, [panel], most_seeds([group for line in joined.values() for group in line]))
    return figure


def methods(panel: "Axes", joined: dict[str, list[Group]], own: Measure, at: Callable) -> None:
    """The lines of all methods, each in the colour it has elsewhere."""
    kinds, found = line_styles(list(joined), [line[0][0].result["method"] for line in joined.values()]), []
    for name, line in joined.items():
        found += (of_line := points(line, TICKET, own, at))
        trace(panel, of_line, own, label=name, **kinds[name])
    axis(panel, [point.x for point in found])


def controls(line: Sequence[Group]) -> list[str]:
    """Names of the branches beside the method that some experiment of the line trained."""
    names = dict.fromkeys(name for group in line for name in branches(group) if name != TICKET)
    return [name for name in names if points(line, name, measure(line[0]), remaining)]


def trace(panel: "Axes", found: Sequence[Point], own: Measure, **line_style: Any) -> None:
    """A line through the means, with what the seeds spread over at each point, which need not have the same seeds."""
    if not found:
        return
    x, means = [point.x for point in found], [float(point.y.mean()) for point in found]
    panel.plot(x, means, **line_style)
    for point in found:
        if (ends := error_bar(point.y, share(own.scale))) is not None:
            panel.errorbar(
                [point.x], [point.y.mean()], yerr=ends, elinewidth=0.8, capsize=1.5, color=line_style["color"], fmt="none"
            )


def axis(panel: "Axes", x: Sequence[float]) -> None:
    """Logarithmic, from dense to sparse; ticks are points, those left out that would touch the one before."""
    from matplotlib.ticker import NullLocator

    x, ticks = sorted((value for value in x if value > 0), reverse=True), []
    for value in x:
        if not ticks or value < ticks[-1] / APART:
            ticks.append(value)
    panel.set_xscale("log")
    panel.set_xlim(x[0] * 1.15, x[-1] / 1.15)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(ticks, [percent(tick) for tick in ticks])


def stretch(axes: Sequence["Axes"], own: Measure) -> None:
    """Where accuracies lie far apart, an axis (all share it) that is logarithmic in the error: from 90 to 95 as from 80 to 90."""
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    low, high = min(panel.dataLim.ymin for panel in axes), max(panel.dataLim.ymax for panel in axes)
    if own.scale != 100 or (100 - low) < FAR * max(100 - high, LEAST):
        return
    panel = axes[0]
    panel.set_yscale("function", functions=(lambda y: -np.log10(np.maximum(100 - y, LEAST)), lambda z: 100 - 10.0**-z))
    panel.set_ylim(max(0, low - 0.08 * (100 - low)), 100 - max(0.8 * (100 - high), LEAST))
    panel.yaxis.set_major_locator(FixedLocator([tick for tick in ACCURACIES if low - 10 <= tick <= high + 1]))
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.yaxis.set_minor_locator(NullLocator())
