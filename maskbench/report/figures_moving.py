"""Figure of masks that move while a net trains: what went of each layer, over the steps. Drawn from metrics.csv."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.common.checksums import check
from maskbench.report import spark, style
from maskbench.report.figures_prune import LINES, every
from maskbench.report.style import COLUMN, GREY, band, canvas, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
KINDS = {"replaced": "gone of the first mask (%)", "density": "weights remaining (%)"}  # of numbers by layer; what an axis says
FIRST = {"replaced": 0.0, "density": 1.0}  # before the first step
WHOLE = "whole net"


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figure of these runs' first phase with such numbers; none where a run has no such, or nothing moved."""
    told = [layers(run) for run in runs]
    for kind in KINDS:
        found = [one.get(kind, {}) for one in told]
        if all(found) and len({tuple(one) for one in found}) == 1:
            x = np.array(sorted(set.intersection(*(set(one[WHOLE]) for one in found))))
            y = {name: np.array([[100 * one[name][step] for step in x] for one in found]) for name in found[0]}
            if len(x) > 2 and any(np.ptp(values[:, 1:]) > 0 for values in y.values()):
                return {"moving": figure(x, y, KINDS[kind], title)}
    return {}


def layers(run: "Finished") -> dict[str, dict[str, dict[int, float]]]:
    """Kind -> layer -> step -> value, of the first phase that has that kind; the whole net first."""
    check(run.folder, "metrics.csv")
    made: dict[str, dict[str, dict[int, float]]] = {}
    phases: dict[str, tuple[str, str]] = {}
    for (stage, phase, metric), curve in spark.series(run.folder).items():
        kind, _, layer = metric.partition("/")
        if kind in KINDS and phases.setdefault(kind, (stage, phase)) == (stage, phase):
            made.setdefault(kind, {})[layer or WHOLE] = {0: FIRST[kind], **dict(curve)}
    return {kind: own for kind, own in made.items() if WHOLE in own}


def figure(x: np.ndarray, y: Mapping[str, np.ndarray], label: str, title: str) -> "Figure":
    """x [steps]; y: layer -> [seeds, steps] in percent. Lines, or of many layers colours."""
    names = [name for name in y if name != WHOLE]
    if len(names) > LINES:
        return colours(x, names, np.array([y[name].mean(0) for name in names]), label, title)
    made, (panel,) = canvas(title, width=COLUMN, height=2.9)
    for name, line_style in line_styles(names).items():
        band(panel, x, y[name], most=100, label=name, **line_style | {"marker": ""})
    band(panel, x, y[WHOLE], most=100, fill=0.0, label=WHOLE, color=GREY, linestyle=(0, (4, 2)), linewidth=0.9)
    panel.set_ylim(bottom=0)
    panel.set_xlim(0, x[-1])
    panel.set_xlabel("optimiser steps")
    panel.set_ylabel(label)
    legend(made, [panel], len(next(iter(y.values()))))
    return made


def colours(x: np.ndarray, names: Sequence[str], percent: np.ndarray, label: str, title: str) -> "Figure":
    """percent [layers, steps], layers from the input down."""
    made, (panel,) = canvas(title, width=COLUMN, height=min(9.0, 1.3 + 0.12 * len(names)))
    image = panel.imshow(percent, aspect="auto", cmap=style.SHADES, interpolation="none", vmin=0)
    named, at = every(len(names), 64), every(len(x), 6)
    panel.set_yticks(named, [names[i] for i in named], fontsize=style.points(max(4.5, min(7, 360 / len(names)))))
    panel.set_xticks(at, [f"{x[i]}" for i in at])
    panel.set_xlabel("optimiser steps")
    panel.grid(False)
    made.colorbar(image, ax=panel, label=label).outline.set_visible(False)
    return made
