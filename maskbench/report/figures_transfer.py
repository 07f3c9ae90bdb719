"""Figures of transfer runs: what each net makes of source and target, and how the target was learnt.

Drawn from result.json (source_* and target_* of a run with a source and a target) and curves.json, which has scores of the
validation and the test split where the run took them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.report import style
from maskbench.report.spread import share
from maskbench.report.style import COLUMN, INK, band, canvas, error_bar, legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
KINDS = {"accuracy": "test accuracy (%)", "rmse": "test RMSE"}
NETS = {  # name in the figure -> metric on the source, metric on the target
    "source learnt": ("source_{}", "target_{}_source_model"),
    "target learnt": ("source_{}_after", "target_{}"),
    "target unloaded": ("source_{}_unloaded", None),
}


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for, by name; none for records that are not of a source and a target."""
    kind = next((kind for kind in KINDS if all(f"target_{kind}" in run.result["metrics"] for run in runs)), None)
    if kind is None or not all(f"source_{kind}" in run.result["metrics"] for run in runs):
        return {}
    made = {"transfer": bars(runs, kind, title)}
    target_curves = [next((part["curve"] for part in run.curves if part.get("stage") == "target"), []) for run in runs]
    if all(target_curves):
        made["target_curve"] = curve(target_curves, kind, title)
    return made


def values(runs: Sequence["Finished"], metric: str, kind: str) -> np.ndarray | None:
    """A metric of every run, accuracies in percent; None where one has none."""
    per_run = [run.result["metrics"].get(metric) for run in runs]
    if any(value is None for value in per_run):
        return None
    return np.array(per_run, dtype=float) * (100 if kind == "accuracy" else 1)


def bars(runs: Sequence["Finished"], kind: str, title: str) -> "Figure":
    """Source and target under the net of each moment: mean over seeds, and the range where there are several."""
    figure, (panel,) = canvas(title, width=COLUMN, height=2.8)
    for k, (name, metrics) in enumerate(NETS.items()):
        for place, metric in enumerate(metrics):
            scores = None if metric is None else values(runs, metric.format(kind), kind)
            if scores is None:
                continue
            error = {
                "yerr": error_bar(scores, 100 if kind == "accuracy" else None),
                "error_kw": {"elinewidth": 0.8, "ecolor": INK},
            }
            panel.bar([place + 0.27 * (k - 1)], [scores.mean()], 0.25, color=style.COLOURS[k], label=name, **error)
    panel.set_xticks([0, 1], ["source", "target"])
    panel.set_ylabel(KINDS[kind])
    if kind == "accuracy":
        panel.set_ylim(0, 100)
    legend(figure, [panel], len(runs), entry=1.1)
    return figure


def curve(target_curves: Sequence[Sequence[dict]], kind: str, title: str) -> "Figure":
    """The target's validation and test loss over its steps (of reals standardised); of classes accuracy too."""
    measures = ["loss", "accuracy"] if kind == "accuracy" else ["loss"]
    figure, panels = canvas(title, columns=len(measures), width=COLUMN * len(measures), height=2.8)
    steps = np.array([entry["step"] for entry in target_curves[0]], dtype=float)
    for panel, measure in zip(panels, measures, strict=True):
        for k, split in enumerate(("val", "test")):
            name = f"{split}_{measure}"
            if name in target_curves[0][0]:
                scale = 100 if measure == "accuracy" else 1
                percents = scale * np.array([[entry[name] for entry in run] for run in target_curves], dtype=float)
                own = {"color": style.COLOURS[k], "label": {"val": "validation", "test": "test"}[split]}
                band(panel, steps, percents, most=share(scale), **own)
        panel.set_xlabel("steps on the target")
        panel.set_ylabel("accuracy (%)" if measure == "accuracy" else "loss")
    panels[0].set_yscale("log")
    legend(figure, panels, len(target_curves))
    return figure
