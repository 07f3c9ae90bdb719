"""Figure of which weights each task took: layers from the input down, stages across. Counted from masks.safetensors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.report import figures_capacity as capacity
from maskbench.report import style
from maskbench.report.figures_masks import every, percent_ticks
from maskbench.report.html import mask_file
from maskbench.report.html.groups import natural
from maskbench.report.style import PAGE, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
MOST = 40  # stages up to which columns are told apart
FAR = 5  # times its least, from which on colours are logarithmic
PANELS = {"in the stage's mask": "Computes with", "in no mask before": "Took, as no stage before"}  # what is counted: heading


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figure of these runs; none where one of them has not a mask for each of several stages, or other ones."""
    found = [capacity.read(run) for run in runs]
    if not all(found) or len({(*own.stages, *own.shapes.items()) for own in found}) > 1 or len(found[0].stages) > MOST:
        return {}
    layers = sorted(found[0].layers, key=natural)
    return {"taken": maps(layers, found[0].stages, np.mean([shares(own, layers) for own in found], 0), title)}


def shares(found: capacity.Masks, layers: Sequence[str]) -> np.ndarray:
    """Percent of each layer [2, layers, stages]: that the stage's mask has; and that it has and none before it."""
    made = np.zeros((2, len(layers), len(found.stages)))
    for i, layer in enumerate(layers):
        before = np.zeros_like(found.layers[layer][0])
        for t, mask in enumerate(found.layers[layer]):
            made[:, i, t] = mask_file.popcount(mask), mask_file.popcount(mask & ~before)
            before = before | mask
        made[:, i] *= 100 / np.prod(found.shapes[layer])
    return made


def maps(layers: Sequence[str], stages: Sequence[str], percent: np.ndarray, title: str) -> "Figure":
    """percent [2, layers, stages] as colours, a panel each with a scale of its own; without the second, where the first stage
    has all there is."""
    shown_of = list(zip(PANELS.items(), percent, strict=True))[: 2 if percent[1, :, 1:].any() else 1]
    width = PAGE if len(shown_of) > 1 else 0.62 * PAGE
    below = len(shown_of) // style.across(len(shown_of), width)
    figure, panels = canvas(
        title, columns=len(shown_of), width=width, height=min(9.0 / below, 1.9 + 0.11 * len(layers)), sharey=True
    )
    named = every(len(layers), 64 // below)
    for panel, ((label, heading), values) in zip(panels, shown_of, strict=True):
        shown = np.ma.masked_where(~(values > 0), values)  # nothing is blank
        far = shown.count() and shown.max() > FAR * shown.min()
        image = panel.imshow(shown, norm="log" if far else None, aspect="auto", cmap=style.SHADES, interpolation="none")
        columns(panel, stages)
        panel.set_yticks(named, [layers[i] for i in named], fontsize=style.points(max(4.0, min(7, 360 / len(layers)))))
        panel.set_title(heading, loc="left", pad=3)
        panel.grid(False)
        bar = figure.colorbar(image, ax=panel, label=f"{label} (% of the layer)", location="bottom")
        bar.outline.set_visible(False)
        if far:
            percent_ticks(bar.ax.xaxis, shown.min())
    return figure


def columns(panel: "Axes", stages: Sequence[str]) -> None:
    upright = sum(map(len, stages)) > 30
    panel.set_xticks(range(len(stages)), stages, rotation=90 if upright else 0)
