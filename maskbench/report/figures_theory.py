"""Figures of constructions inside random nets: the width that is needed against the error and against the target's size.

Drawn from curves.json, one row for each construction, replicate and cell: the narrowest certified width, and the width that
a formula has for a weight of typical size (`typical`, in older records `bound`). Slopes with their intervals are those of
result.json.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.report.style import COLUMN, GREY, PAGE, canvas, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
Points = dict[float, list[dict[str, Any]]]  # x -> rows of all replicates and runs
AXES = {"errors": "1 / error asked for", "sizes": "inputs d of the target d-2d-2d-d/2"}
EXPONENTS = {"errors": "inverse_eps", "sizes": "size"}
WIDTH = "width N (random neurons per input)"
LOGARITHMIC = 0.5  # exponent in 1/eps below which a construction is drawn on a linear axis too


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for, by name; none for records without widths."""
    rows = [row for run in runs for row in run.curves if "construction" in row]
    kinds = [kind for kind in AXES if any(row["kind"] == kind for row in rows)]
    if not rows or not all(run.curves for run in runs):
        return {}
    metrics = [run.result["metrics"] for run in runs]
    made = {f"width_{kind}": power(kind, grouped(rows, kind), metrics, title) for kind in kinds}
    slow = {name: points for name, points in grouped(rows, "errors").items() if logarithmic(name, metrics)}
    if slow:
        made["width_per_bit"] = per_bit(slow, metrics, title)
    return made


# ---- numbers out of the records


def grouped(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, Points]:
    """Construction -> x -> rows, x ascending: 1/eps, or the size."""
    constructions: dict[str, Points] = {}
    for row in rows:
        if row["kind"] == kind:
            x = 1 / row["eps"] if kind == "errors" else row["size"]
            constructions.setdefault(row["construction"], {}).setdefault(x, []).append(row)
    return {name: dict(sorted(points.items())) for name, points in constructions.items()}


def interval(metrics: Sequence[dict[str, Any]], name: str, digits: int = 2) -> str:
    """`slope [low, high]`: of one run its interval over replicates; of several the mean alone."""
    values = [m.get(name) for m in metrics]
    if any(v is None for v in values):
        return ""
    text = f"{np.mean(values):.{digits}f}"
    low, high = metrics[0].get(f"{name}_ci95_low"), metrics[0].get(f"{name}_ci95_high")
    return text if len(metrics) > 1 or low is None else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def logarithmic(name: str, metrics: Sequence[dict[str, Any]]) -> bool:
    exponents = [m.get(f"width_exponent_in_inverse_eps/{name}") for m in metrics]
    return all(e is not None and e < LOGARITHMIC for e in exponents)


# ---- figures


def power(kind: str, constructions: dict[str, Points], metrics: Sequence[dict[str, Any]], title: str) -> "Figure":
    """Both axes logarithmic, where powers are straight: measured widths with their geometric mean, formulas dashed."""
    figure, (panel,) = canvas(title, width=PAGE * 0.7, height=3.2)
    for name, line_style in line_styles(list(constructions)).items():
        exponent = interval(metrics, f"width_exponent_in_{EXPONENTS[kind]}/{name}")
        widths(
            panel, constructions[name], line_style, f"{name.replace('_', ' ')}" + (f", exponent {exponent}" if exponent else "")
        )
        x = np.array(list(constructions[name]))
        formula = [np.mean([row.get("typical", row.get("bound")) for row in rows]) for rows in constructions[name].values()]
        panel.plot(x, formula, color=line_style["color"], linestyle=":", linewidth=0.9)
    panel.plot([], [], color=GREY, linestyle=":", linewidth=0.9, label="formula for a typical weight (no bound)")
    panel.set_xscale("log")
    panel.set_yscale("log")
    if kind == "sizes":
        ticks = sorted({x for points in constructions.values() for x in points})
        panel.set_xticks(ticks, ticks)
        panel.minorticks_off()
    panel.set_xlabel(AXES[kind])
    panel.set_ylabel(WIDTH)
    legend(figure, [panel], 1, entry=2.4)
    return figure


def per_bit(constructions: dict[str, Points], metrics: Sequence[dict[str, Any]], title: str) -> "Figure":
    """The width on a linear axis against bits of accuracy, where a logarithm is straight."""
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    for name, line_style in line_styles(list(constructions)).items():
        bits = {float(np.log2(x)): rows for x, rows in constructions[name].items()}
        label = f"{name.replace('_', ' ')}, {interval(metrics, f'width_per_bit/{name}', 1)} per bit"
        widths(panel, bits, line_style, label)
    panel.set_xlabel("bits of accuracy, log2(1 / error asked for)")
    panel.set_ylabel(WIDTH)
    panel.set_ylim(bottom=0)
    legend(figure, [panel], 1, entry=2.4)
    return figure


def widths(panel: "Axes", points: Points, line_style: dict[str, Any], label: str) -> None:
    """Every replicate as a faint mark, their geometric mean as a line."""
    for x, rows in points.items():
        y = [row["width"] for row in rows]
        panel.plot(
            [x] * len(y), y, linestyle="", marker=line_style["marker"], color=line_style["color"], alpha=0.35, markersize=2.5
        )
    mean = [np.exp(np.mean(np.log([row["width"] for row in rows]))) for rows in points.values()]
    panel.plot(list(points), mean, label=label, color=line_style["color"], marker=line_style["marker"], markersize=3.5)
