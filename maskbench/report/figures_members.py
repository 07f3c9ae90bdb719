"""Figures of methods with members on one sheet: reliability, risk and coverage, sizes of conformal sets, entropy of known and of
unknown classes; and of one run the test images about which its members differ most.

Drawn from curves.json; of several seeds the means with the range from least to largest, of
counts and intervals all seeds together.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.report import style
from maskbench.report.figures_held_out import LEVEL, in_sets
from maskbench.report.figures_methods import most_seeds, names, styles
from maskbench.report.figures_uncertainty import calibrated, grid, rows, series, sets
from maskbench.report.style import GREY, PAGE, band, canvas, legend, points, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw", "compare")  # what `maskbench figure` asks of this module (figures.py)
Group = Sequence["Finished"]
SCORE = "lac"
ACROSS = 4  # images beside each other
AXIS = 0.4  # inches beside a panel for its axis, where its heading has no room
LEAST = 0.1  # percent, below which an axis of risks is even


def draw(runs: Group, title: str) -> dict[str, "Figure"]:
    """The images of the first seed's run, where it kept some."""
    return {"disputed": disputed(runs, title)} if rows(runs[0], "disputed") else {}


def compare(groups: Sequence[Group], title: str) -> dict[str, "Figure"]:
    """The sheets that all these experiments have something for, by name."""
    every = [run for group in groups for run in group]
    kinds = {
        "reliabilities": ("reliability", reliabilities),
        "risks": ("risk", risks),
        "set_sizes": ("conformal", set_sizes),
        "unknown_entropies": ("entropy", entropies),
    }
    return {name: figure(groups, title) for name, (kind, figure) in kinds.items() if all(rows(run, kind) for run in every)}


# ---- of several methods


def reliabilities(groups: Sequence[Group], title: str) -> "Figure":
    """A panel for each method: accuracy against confidence in bins with its interval over all seeds' inputs, and below it how
    many inputs a bin holds."""
    most = min(len(groups), ACROSS)
    across = style.across(most, least=PAGE / ACROSS)
    down = -(-len(groups) // across)
    ratios = [3, 1] * down
    figure, panels = canvas(
        title,
        across,
        2 * down,
        width=PAGE * across / most,
        height=2.3 * down + 0.6,
        sharex=True,
        sharey="row",
        height_ratios=ratios,
    )
    cells = np.array(panels, dtype=object).reshape(2 * down, across)
    for number, (group, (name, line_style)) in enumerate(zip(groups, styles(groups).items(), strict=True)):
        upper, lower = cells[2 * (number // across) :, number % across][:2]
        bins, *columns = pooled(group)
        upper.plot([0, 100], [0, 100], color=GREY, linewidth=0.6, linestyle="--")
        calibrated(upper, *columns, color=line_style["color"], marker="o", markersize=2)
        upper.set_title(wrapped(name, figure.get_figwidth() / across - AXIS), loc="left")
        lower.bar(100 * (bins + 0.5) / len(bins), columns[-1], width=90 / len(bins), color=line_style["color"])
        lower.set_yscale("symlog", linthresh=1)
        if number % across == 0:
            upper.set_ylabel("accuracy (%)")
            lower.set_ylabel("inputs")
        if number + across >= len(groups):
            lower.set_xlabel("confidence (%)")
            lower.tick_params(labelbottom=True)
    for empty in cells[2 * (down - 1) :, len(groups) - across * (down - 1) :].flat:
        empty.remove()
    return figure


def pooled(group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(bins, confidence, accuracy, count) of the inputs of all seeds together; nan where a bin is empty."""
    bins, counts = series(group, "reliability", "bin", "count")
    total = counts.sum(0)
    with np.errstate(invalid="ignore"):
        sums = [np.nansum(series(group, "reliability", "bin", name)[1] * counts, 0) for name in ("confidence", "accuracy")]
        means = [one / total for one in sums]
    return bins, *means, total


def risks(groups: Sequence[Group], title: str) -> "Figure":
    """Error among the surest answers against the share that is answered."""
    figure, (panel,) = canvas(title, width=PAGE, height=3.2)
    for group, (name, line_style) in zip(groups, styles(groups).items(), strict=True):
        x, y = series(group, "risk", "coverage", "risk")
        band(panel, 100 * x, 100 * y, most=100, label=name, markevery=20, **line_style)
    panel.set_yscale("symlog", linthresh=LEAST)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("answered, the surest first (%)")
    panel.set_ylabel("error (%)")
    legend(figure, [panel], most_seeds(groups), entry=1.8)
    return figure


def set_sizes(groups: Sequence[Group], title: str) -> "Figure":
    """How many classes are in conformal sets, and how often a class is in its own."""
    figure, (left, right) = canvas(f"{title}; {SCORE} sets of {LEVEL} %", 2, width=PAGE, height=3.0)
    chosen = [[row for run in group for row in rows(run, "conformal") if (row["level"], row["score"]) == (LEVEL, SCORE)]
              for group in groups]  # fmt: skip
    in_sets(left, right, dict(zip(names(groups), chosen, strict=True)), styles(groups))
    legend(figure, [left], 1, entry=1.8)
    return figure


def entropies(groups: Sequence[Group], title: str) -> "Figure":
    """A panel for the test set and for each set of unknown classes that all have: densities of the mean prediction's entropy."""
    data = [name for name in sets(groups[0], "entropy") if all(name in sets(group, "entropy") for group in groups)]
    figure, panels = grid(title, len(data))
    for panel, name in zip(panels, data, strict=True):
        for group, (method, line_style) in zip(groups, styles(groups).items(), strict=True):
            found = [row for run in group for row in rows(run, "entropy") if row["data"] == name]
            counts = np.array([row["counts"] for row in found], dtype=float)
            edges = np.linspace(0, found[0]["top"], counts.shape[1] + 1)
            shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
            band(panel, (edges[:-1] + edges[1:]) / 2, shares, most=100, label=method, **(line_style | {"marker": ""}))
        panel.set_yscale("symlog", linthresh=1)
        panel.set_title(name, loc="left")
        panel.set_xlabel("entropy (nats)")
    panels[0].set_ylabel("share of inputs (%)")
    legend(figure, panels, most_seeds(groups), entry=1.8)
    return figure


# ---- of one run


def disputed(runs: Group, title: str) -> "Figure":
    """The test images about which members differ most; beside each what every member says: a row a member, a column a class, the
    darker the surer; a frame around the true class."""
    more = f"; drawn: seed {runs[0].result['seed']}" if len(runs) > 1 else ""
    kept = rows(runs[0], "disputed")
    across = style.across(ACROSS)
    down = -(-len(kept) // across)
    size = {"width": PAGE * across / ACROSS, "height": 1.15 * down + 0.5, "width_ratios": [1, 1.25] * across}
    figure, panels = canvas(title + more, 2 * across, down, **size)
    for number, row in enumerate(kept):
        shown(row, *panels[2 * number : 2 * number + 2])
    for empty in panels[2 * len(kept) :]:
        empty.remove()
    return figure


def shown(row: dict[str, Any], image: "Axes", answers: "Axes") -> None:
    """One image, and beside it its members' answers."""
    image.imshow(np.array(row["pixels"], dtype=np.uint8), cmap="gray_r", vmin=0, vmax=255)
    image.set_xticks([])
    image.set_yticks([])
    image.grid(False)
    image.spines[:].set_visible(False)
    p = np.array(row["members"], dtype=float)
    answers.imshow(p, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    answers.axvspan(row["label"] - 0.5, row["label"] + 0.5, fill=False, edgecolor=style.COLOURS[1], linewidth=1)
    answers.set_yticks([])
    answers.grid(False)
    step = 1 if p.shape[1] <= 10 else -(-p.shape[1] // 5)
    answers.set_xticks(range(0, p.shape[1], step))
    answers.tick_params(length=0, labelsize=points(5), pad=1)
    answers.set_title(f"{row['information']:.2f} nats", loc="left", fontsize=points(6), pad=2)
