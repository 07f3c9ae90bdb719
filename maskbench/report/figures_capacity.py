"""Figures of how full a net becomes under the masks of its stages: what they use, what they share, units that none reaches.

Counted from masks.safetensors as it lies on disk, for every method that has a mask a stage, over weights or over units.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maskbench.common import foreign
from maskbench.report import figures_methods as methods
from maskbench.report import style
from maskbench.report.figures_continual import BARS, whole_numbers
from maskbench.report.html import mask_file
from maskbench.report.style import COLUMN, PAGE, band, canvas, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw", "compare")  # what `maskbench figure` asks of this module (figures.py)
SIGNS = ".negative"  # beside a mask of three values: which of its weights change sign
GAIN = ".gain"  # ends the names of masks over units
GIVEN = "given_net/same"  # of runs over a net that came trained on a stage of its own
USED, DEAD = "used so far", "dead units"


class Filling(NamedTuple):
    """What the masks of a run's stages leave of the net.

    Attributes:
        over: what they stand on: weights, or units.
        shares: by name, in percent after each stage.
    """

    over: str
    shares: dict[str, np.ndarray]


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figure of these runs; none where one of them has not a mask for each of several stages."""
    found = [filling(run) for run in runs]
    if not all(found) or len({(own.over, own.shares[USED].size) for own in found}) > 1:
        return {}
    return {"capacity": along(found, title)}


def compare(groups: Sequence[Sequence["Finished"]], title: str) -> dict[str, "Figure"]:
    """How the nets of several experiments fill up; those without a mask a stage are left out."""
    found = {}
    for name, group in zip(methods.names(groups), groups, strict=True):
        own = [filling(run) for run in group]
        if all(own):
            found[name] = np.array([one.shares[USED] for one in own])
    if len(found) < 2 or len({used.shape[1] for used in found.values()}) > 1:
        return {}
    styles = {name: kind for name, kind in methods.styles(groups).items() if name in found}
    return {"methods_capacity": of_methods(found, styles, methods.most_seeds(groups), title)}


# ---- numbers out of the masks


class Masks(NamedTuple):
    """A mask for each of several stages, packed.

    Attributes:
        stages: their names. layers: by name [stages][bytes]. shapes: of a mask of each layer.
    """

    stages: list[str]
    layers: dict[str, list[np.ndarray]]
    shapes: dict[str, tuple[int, ...]]


def filling(run: "Finished") -> Filling | None:
    """Counted from a run's masks; None where it has not one mask a stage."""
    found = read(run)
    return None if found is None else counted(found.layers, found.shapes)


def read(run: "Finished") -> Masks | None:
    """A run's masks; None where it has not one a stage. A stage that the net came trained on may have one, too."""
    matrix = (run.result.get("matrices") or {}).get("accuracy")
    path = run.folder / "masks.safetensors"
    if not matrix or len(matrix) < 2 or not path.exists():
        return None
    try:
        masks = mask_file.read(path)
    except (OSError, ValueError) as error:
        foreign.say(f"{path} is left out: {error}")
        return None
    names = [str(row.get("stage")) for row in run.result["table"]]
    if GIVEN in run.result["metrics"]:
        names = ["given net", *names]
    stages = {str(i): name for i, name in enumerate(names) if any(key.startswith(f"{i}/") for key in masks)}
    if len(stages) < len(matrix):
        return None
    shapes = {name.partition("/")[2]: shape for name, (_, shape) in masks.items() if not name.endswith(SIGNS)}
    if masks.keys() - {f"{stage}/{layer}{end}" for stage in stages for layer in shapes for end in ("", SIGNS)}:
        return None
    if any(f"{stage}/{layer}" not in masks for stage in stages for layer in shapes):
        return None
    return Masks([*stages.values()], {layer: [masks[f"{s}/{layer}"][0] for s in stages] for layer in shapes}, shapes)


def counted(layers: dict[str, list[np.ndarray]], shapes: dict[str, tuple[int, ...]]) -> Filling:
    """Of packed masks by layer [stages][bytes]: what a stage uses, of it what earlier ones use, what all use so far; and units
    that none of these reaches."""
    own, again, used, dead = np.zeros((4, len(next(iter(layers.values())))))
    size, units = sum(int(np.prod(shape)) for shape in shapes.values()), sum(shape[0] for shape in shapes.values())
    for layer, bits in layers.items():
        so_far = np.zeros_like(bits[0])
        for t, mask in enumerate(bits):
            own[t] += mask_file.popcount(mask)
            again[t] += mask_file.popcount(mask & so_far)
            so_far = so_far | mask
            used[t] += mask_file.popcount(so_far)
            dead[t] += untouched(so_far, shapes[layer])
    numbers = {"mask of the stage": own / size, "of it, used before": again / np.maximum(own, 1), USED: used / size}
    gated = all(layer.endswith(GAIN) for layer in layers)
    numbers |= {} if gated else {DEAD: dead / units}  # of units it is what is not used
    return Filling("units" if gated else "weights", {name: 100 * values for name, values in numbers.items()})


def untouched(bits: np.ndarray, shape: tuple[int, ...]) -> int:
    """Units of a layer [units, ...] of which a packed mask has nothing."""
    mask = np.unpackbits(bits, count=int(np.prod(shape)), bitorder="little").reshape(shape[0], -1)
    return int((~mask.any(1)).sum())


# ---- figures


def along(found: Sequence[Filling], title: str) -> "Figure":
    """Shares along the stages learnt."""
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    for name, line_style in style.line_styles(list(found[0].shares)).items():
        lines(panel, np.array([own.shares[name] for own in found]), name, line_style)
    finish(panel, found[0].shares[USED].size, f"share of {found[0].over} (%)")
    legend(figure, [panel], len(found), entry=1.6)
    return figure


def of_methods(found: dict[str, np.ndarray], styles: dict[str, dict], seeds: int, title: str) -> "Figure":
    """What the stages so far use, a line for each experiment."""
    figure, (panel,) = canvas(title, width=PAGE, height=3.4)
    for name, line_style in styles.items():
        lines(panel, found[name], name, line_style)
    finish(panel, next(iter(found.values())).shape[1], "weights or units used so far (%)")
    legend(figure, [panel], seeds, entry=1.7)
    return figure


def lines(panel: "Axes", values: np.ndarray, name: str, line_style: dict) -> None:
    few = {} if values.shape[1] <= BARS else {"marker": ""}
    band(panel, np.arange(1, values.shape[1] + 1), values, most=100, label=name, **line_style | few)


def finish(panel: "Axes", count: int, label: str) -> None:
    panel.set_ylim(0, 102)
    panel.set_xlabel("stages learnt")
    panel.set_ylabel(label)
    whole_numbers(panel, count)
