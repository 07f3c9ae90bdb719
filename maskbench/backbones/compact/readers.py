"""Units that somebody reads: followed back from the output, through weights that are not 0."""

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from maskbench.backbones.compact.constants import pads, read
from maskbench.backbones.compact.graph import Step


@dataclass(frozen=True)
class Kept:
    """Which units of each step stay, bool [units]: those that are read, and where nobody reads any, the first."""

    by: dict[fx.Node, Tensor]

    def __getitem__(self, node: fx.Node) -> Tensor:
        return self.by[node]


def kept(steps: list[Step], values: dict[fx.Node, Tensor]) -> Kept:
    """Which units stay. A layer needs no constant (it goes into its bias), except that a padded convolution needs one of them
    (see `carrier`); what mixes units needs all of them."""
    needed = wanted(steps, values)
    stay: dict[fx.Node, Tensor] = {}
    for step in steps:
        if not step.units:
            continue
        if step.role in ("input", "mixes"):
            stay[step.node] = torch.ones(step.units, dtype=torch.bool)
        elif step.role == "layer":
            stay[step.node] = needed[step.node]
            stay[step.node][0] |= not stay[step.node].any()  # a layer has one unit at least
        else:
            before = stay[step.source]
            stay[step.node] = before.repeat_interleave(step.units // len(before))
    return Kept(stay)


def wanted(steps: list[Step], values: dict[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
    """By step which of its units are read, from the last step to the first."""
    needed = {step.node: torch.zeros(step.units, dtype=torch.bool) for step in steps if step.units}
    for step in reversed(steps):
        if step.role in ("output", "mixes"):
            for node in step.node.all_input_nodes:
                if node in needed:
                    needed[node][:] = True
        elif step.role == "layer":
            by_one = read(step.module)[needed[step.node]].any(0)
            before = values[step.source]
            needed[step.source] |= by_one & before.isnan()
            if pads(step.module) and (place := carrier(by_one, before)) is not None:
                needed[step.source][place] = True
        elif step.source is not None and step.units:
            needed[step.source] |= needed[step.node].reshape(len(needed[step.source]), -1).any(1)
    return needed


def carrier(readable: Tensor, values: Tensor) -> int | None:
    """The constant unit that stands for all others before a padded convolution, whose zeros around an image make of a constant
    what no bias is: the largest of those that are read. None: there is none but 0.

    readable: bool [units]. values: of each unit, NaN where it is no constant.
    """
    size = torch.where(readable, values.abs().nan_to_num(), 0.0)
    return int(size.argmax()) if size.any() else None
