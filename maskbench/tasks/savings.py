"""What task=prune says of each trained net beside its accuracy: what its masks save, what is still connected, what training
cost."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maskbench.data.stage import Stage
from maskbench.masks import maskable
from maskbench.masks.connectivity import Connectivity, connectivity
from maskbench.masks.places import positions
from maskbench.tasks.contracts import Costs
from maskbench.tasks.metrics import accounting
from maskbench.training.method import Method

LIVE = "live_units/"  # what names of one layer's counts begin with
EACH = ("speedup_theoretical", "compression", "effective_density")  # told of every density of every branch


def of(method: Method, stage: Stage, fit: Callable, steps: int) -> dict[str, Any]:
    """Numbers of the net that a method has trained, by the names of the record, and `collapse`, in words.

    Args:
        fit: what trained it. steps: how many of its steps were this net's.
    """
    kept = masks_of(method)
    shapes = {name: tuple(method.net.get_parameter(name).shape) for name in maskable(method.net)}
    if not shapes:
        return {}
    places = positions(method.net, stage.shape)
    parameters = sum(p.numel() for p in method.net.parameters())
    numbers = accounting.savings(shapes, parameters, places, {name: int(m.sum()) for name, m in kept.items()})
    numbers["training_cost"] = training_cost(method, kept, numbers, fit.length(len(stage.train), 1.0), steps)
    found = connectivity(method.net, kept, stage.shape) if kept else None
    return numbers | (connected(found) if found else {})


def last(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Numbers of a method by its rows, level by level: those of the last, and what all trainings cost together."""
    known = [row["savings"] for row in rows if row.get("savings")]
    if not known:
        return {}
    costs = [one["training_cost"] for one in known]
    told = {name: value for name, value in known[-1].items() if name != "collapse" and not name.startswith(LIVE)}
    return told | {"training_cost": None if None in costs else sum(costs)}


def connected(found: Connectivity) -> dict[str, Any]:
    """What is connected, by the names of the record."""
    return {
        "effective_density": found.effective_density,
        "outputs_connected": found.connected,
        "live_units": found.live_units,
        "collapsed": len(found.empty),
        "collapse": found.words(),
    } | {f"{LIVE}{name}": count for name, count in found.live.items()}


def training_cost(
    method: Method, kept: Mapping[str, Tensor], numbers: Mapping[str, float | None], budget: int, steps: int
) -> float | None:
    """In trainings of the dense net of one budget; a method that changes its masks on the way says it itself."""
    if numbers["macs_sparse"] is None:
        return None
    share = numbers["macs_sparse"] / numbers["macs_dense"]
    if isinstance(method, Costs):
        return method.training_cost(share, budget)
    moving = {id(p) for p in method.trainable_parameters()}
    fixed = all(id(method.net.get_parameter(name)) in moving for name in kept)
    return accounting.step_cost(share, fixed) * steps / budget


def masks_of(method: Method) -> dict[str, Tensor]:
    """The masks under which the method answers now, bool, by the name of a weight: its ticket's, or of all that it has
    finished the last ones; none of a dense net, and none over units."""
    masks = {n.removeprefix("mask|"): m for n, m in method.ticket().items() if n.startswith("mask|")}
    if not masks:
        masks = {name.partition("/")[2]: m for name, m in method.masks().items()}
    there = {name: method.net.get_parameter(name) for name in maskable(method.net)}
    return {name: m.to(torch.bool) for name, m in masks.items() if name in there and m.shape == there[name].shape}
