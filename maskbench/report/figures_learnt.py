"""Pictures of what masks have become: the input pixels that they keep, level by level or stage by stage, and how much the masks
of stages, or of members, are the same.

Counted from masks.safetensors as it lies on disk. Imports no torch.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.common import foreign
from maskbench.report import figures_continual as continual
from maskbench.report import style
from maskbench.report.figures_capacity import GAIN, GIVEN, SIGNS
from maskbench.report.html import mask_file
from maskbench.report.html.groups import natural
from maskbench.report.style import PAGE, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
PICTURES, LOOKED_AT = 6, 64  # of input pixels: shown; stages that are looked at for some to show
SETS = {"continual": "stage", "uncertainty": "member"}  # task -> what it has a mask for each of, beside each other
Shapes = dict[str, tuple[int, ...]]
Packed = dict[str, tuple[np.ndarray, tuple[int, ...]]]  # STAGE/LAYER -> bits, shape


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figures these runs have masks for; none where one run has none, or they have masks of different stages or layers."""
    found = [read(run) for run in runs]
    if not all(found) or len({(*one, *(shape for _, shape in one.values())) for one in found}) > 1:
        return {}
    names = sorted({name.partition("/")[0] for name in found[0]}, key=natural)
    made = {"inputs": pictures(runs, found, names, title), "overlap": overlap(runs, found, names, title)}
    return {name: figure for name, figure in made.items() if figure is not None}


def read(run: "Finished") -> Packed:
    """A run's masks, without the signs that stand beside some; {} where it has none that can be read."""
    path = run.folder / "masks.safetensors"
    if not path.exists():
        return {}
    try:
        return {name: one for name, one in mask_file.read(path).items() if not name.endswith(SIGNS)}
    except (OSError, ValueError) as error:
        foreign.say(f"{path} is left out: {error}")
        return {}


def shapes_of(masks: Packed, name: str) -> Shapes:
    """Layer -> shape of the masks of one stage."""
    return {key.partition("/")[2]: shape for key, (_, shape) in masks.items() if key.partition("/")[0] == name}


# ---- inputs


def pictures(runs: Sequence["Finished"], found: Sequence[Packed], names: Sequence[str], title: str) -> "Figure | None":
    """An image for each level or stage: the connections that each input pixel keeps, over their mean in the layer.

    Masks that keep or drop all of the first layer have nothing to show and are left out; of many, evenly spread ones are shown.
    """
    kept = {n: [mask_file.inputs(masks, n, shapes_of(masks, n)) for masks in found] for n in spread_out(names, LOOKED_AT)}
    kept = {name: own for name, own in kept.items() if all(own) and all(0 < one.kept.mean() < one.outputs for one in own)}
    if not kept:
        return None
    shown = spread_out(list(kept), PICTURES)
    relative = {name: np.mean([one.kept / one.kept.mean() for one in kept[name]], axis=0) for name in shown}
    labels = dict(zip(names, titles(runs, names), strict=True))
    figure, panels = canvas(title, len(shown), width=PAGE * max(2, len(shown)) / PICTURES, height=1.9)
    most = max(values.max() for values in relative.values())
    for panel, (name, values) in zip(panels, relative.items(), strict=True):
        own = kept[name][0]
        image = panel.imshow(
            values.reshape(own.side, own.side), cmap=style.SHADES, vmin=0, vmax=most, interpolation="nearest", aspect="equal"
        )
        density = np.mean([one.kept.mean() / one.outputs for one in kept[name]])
        panel.set_title(f"{labels[name]}\nkeeps {100 * density:.3g} %", fontsize=style.points(7), loc="left")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(False)
        panel.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panels, shrink=0.8, aspect=12)
    bar.set_label("connections of a pixel,\ntimes their mean", fontsize=style.points(7))
    bar.outline.set_visible(False)
    return figure


def spread_out(names: Sequence[str], most: int) -> list[str]:
    """So many of them at most, evenly spread, with the first and the last."""
    return [names[i] for i in sorted({round(i) for i in np.linspace(0, len(names) - 1, min(most, len(names)))})]


def titles(runs: Sequence["Finished"], names: Sequence[str]) -> list[str]:
    """What the masks are called: stages by their own names, levels and members by numbers."""
    task = runs[0].result.get("task")
    if task == "prune":
        return [f"level {name}" for name in names] if len(names) > 1 else ["the mask"]
    if task not in SETS:
        return list(names)
    own = continual.names(runs) if task == "continual" else []
    if GIVEN in (runs[0].result.get("metrics") or {}):
        own = ["given net", *own]
    return own if len(own) == len(names) else [f"{SETS[task]} {name}" for name in names]


# ---- overlap


def overlap(runs: Sequence["Finished"], found: Sequence[Packed], names: Sequence[str], title: str) -> "Figure | None":
    """How much of two masks is the same: what both keep of what either keeps, a row and a column for each stage or member."""
    task, layers = runs[0].result.get("task"), shapes_of(found[0], names[0])
    if task not in SETS or len(names) < 2 or any(shapes_of(found[0], name) != layers for name in names):
        return None
    size = sum(math.prod(shape) for shape in layers.values())
    shown = [names[i] for i in mask_file.chosen(len(names), size / 8)]
    values, chance = zip(*(same(masks, shown, layers) for masks in found), strict=True)
    what = "units" if all(layer.endswith(GAIN) or len(shape) == 1 for layer, shape in layers.items()) else "weights"
    independent = f"independent masks of these sizes: {100 * np.mean(chance):.3g} %"
    labels = (SETS[task], SETS[task], f"{what} of both, of those of either (%)")
    called = dict(zip(names, titles(runs, names), strict=True))
    ticks = [called[name].removeprefix(f"{SETS[task]} ") for name in shown]
    return continual.tiles(100 * np.mean(values, 0), ticks, f"{title}; {independent}", 0, labels, len(runs), digits=0)


def same(masks: Packed, names: Sequence[str], layers: Shapes) -> tuple[np.ndarray, float]:
    """(intersection over union of each pair of masks [names, names], nan where both are empty; what is expected of a pair
    whose layers keep as many, drawn independently)."""
    each = [[masks[f"{name}/{layer}"][0] for layer in layers] for name in names]
    both = np.zeros((len(names), len(names)))
    for i, row in enumerate(mask_file.intersections(each)):
        both[i, : i + 1] = both[: i + 1, i] = row
    kept = np.diag(both)
    sizes = np.array([math.prod(shape) for shape in layers.values()], dtype=float)
    counts = np.array([[mask_file.popcount(bits) for bits in own] for own in each], dtype=float)
    expected = (counts / sizes) @ counts.T  # of what both keep, layer by layer
    with np.errstate(invalid="ignore"):
        iou, drawn = (part / (kept[:, None] + kept - part) for part in (both, expected))
    apart = ~np.eye(len(names), dtype=bool)
    return iou, float(np.nanmean(drawn[apart])) if np.isfinite(drawn[apart]).any() else float("nan")
