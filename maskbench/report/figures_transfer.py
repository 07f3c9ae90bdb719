"""Figures of transfer runs: what each net makes of source and target, and how the target was learnt.

Drawn from result.json (source_* and target_* of a run with a source and a target) and curves.json, which has looks at the
validation and the test split where the run took them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.report import style
from maskbench.report.style import COLUMN, INK, band, canvas, legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

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
    looks = [next((part["curve"] for part in run.curves if part.get("stage") == "target"), []) for run in runs]
    if all(looks):
        made["target_curve"] = curve(looks, kind, title)
    return made


def values(runs: Sequence["Finished"], metric: str, kind: str) -> np.ndarray | None:
    """A metric of every run, accuracies in percent; None where one has none."""
    found = [run.result["metrics"].get(metric) for run in runs]
    if any(value is None for value in found):
        return None
    return np.array(found, dtype=float) * (100 if kind == "accuracy" else 1)


def bars(runs: Sequence["Finished"], kind: str, title: str) -> "Figure":
    """Source and target under the net of each moment: mean over seeds, and the range where there are several."""
    figure, (panel,) = canvas(title, width=COLUMN, height=2.8)
    for k, (name, metrics) in enumerate(NETS.items()):
        for place, metric in enumerate(metrics):
            found = None if metric is None else values(runs, metric.format(kind), kind)
            if found is None:
                continue
            mean = found.mean()
            spread = [[mean - found.min()], [found.max() - mean]] if len(found) > 1 else None
            error = {"elinewidth": 0.8, "ecolor": INK}
            panel.bar([place + 0.27 * (k - 1)], [mean], 0.25, color=style.COLOURS[k], yerr=spread, error_kw=error, label=name)
    panel.set_xticks([0, 1], ["source", "target"])
    panel.set_ylabel(KINDS[kind])
    if kind == "accuracy":
        panel.set_ylim(0, 100)
    legend(figure, [panel], len(runs), entry=1.1)
    return figure


def curve(looks: Sequence[Sequence[dict]], kind: str, title: str) -> "Figure":
    """The target's looks over its steps: loss (of standardised values where they are reals), and accuracy of classes."""
    measures = ["loss", "accuracy"] if kind == "accuracy" else ["loss"]
    figure, panels = canvas(title, columns=len(measures), width=COLUMN * len(measures), height=2.8)
    steps = np.array([look["step"] for look in looks[0]], dtype=float)
    for panel, measure in zip(panels, measures, strict=True):
        for k, split in enumerate(("val", "test")):
            name = f"{split}_{measure}"
            if name in looks[0][0]:
                scale = 100 if measure == "accuracy" else 1
                found = scale * np.array([[look[name] for look in run] for run in looks], dtype=float)
                band(panel, steps, found, color=style.COLOURS[k], label={"val": "validation", "test": "test"}[split])
        panel.set_xlabel("steps on the target")
        panel.set_ylabel("accuracy (%)" if measure == "accuracy" else "loss")
    panels[0].set_yscale("log")
    legend(figure, panels, len(looks))
    return figure
