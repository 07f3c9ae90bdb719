"""The way in: a trained net -> the smallest net of the same outputs that leaving out whole units makes."""

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from maskbench.backbones.batch_statistics import uses_batches
from maskbench.backbones.compact.constants import constants
from maskbench.backbones.compact.graph import Step, follow
from maskbench.backbones.compact.readers import Kept, kept
from maskbench.backbones.compact.rebuild import rebuilt
from maskbench.common.errors import UsageError


@dataclass(frozen=True)
class Layer:
    """A layer before and after: (outputs, inputs) as they were and as they are; `mixed`: why its units stay, else empty."""

    name: str
    before: tuple[int, int]
    after: tuple[int, int]
    mixed: str = ""


@dataclass(frozen=True)
class Compacted:
    """A smaller net with the outputs of another.

    Attributes:
        net: plain layers in a graph (source.py writes it as a module of its own).
        layers: each before and after.
        weights, biases: how many there were and are, (before, after); gains and shifts of norms count as biases.
        whole: steps that mix units, by what they call: the units before them all stay.
    """

    net: fx.GraphModule
    layers: list[Layer]
    weights: tuple[int, int]
    biases: tuple[int, int]
    whole: list[str]


def compact(net: nn.Module, x: Tensor) -> Compacted:
    """A net without the units that do nothing: those that nobody reads, and constant ones, whose contribution goes into the
    next bias (behind a batch norm too, and before a padded convolution into one constant unit that is left).

    Outputs are those of `net` up to rounding, in evaluation mode. Channels of a residual sum, and of whatever else mixes units
    in another way than a layer, stay. One pass finds all there is to find: what goes leaves no other unit without readers
    or inputs that had some.

    Args:
        net: its masks applied, so that what is pruned is 0. x: some of its inputs, [rows, ...].

    Raises:
        UsageError: its forward pass depends on its inputs in a way that no graph shows, or its norms on the rows at hand.
    """
    if uses_batches(net):
        raise UsageError(
            f"{type(net).__name__} answers by the statistics of the rows at hand (as norm=batch_no_stats), as no net of plain "
            "layers does: one with running statistics, or without norms, can be made smaller"
        )
    program, steps = follow(net, x)
    values = constants(steps)
    stay = kept(steps, values)
    before = counted(program)
    sizes = {step.node.target: step.module.weight.shape[:2] for step in steps if step.role == "layer"}
    mixed = sums(steps, stay)
    small = rebuilt(program, steps, values, stay)
    after = counted(small)
    layers = [
        Layer(name, tuple(size), tuple(small.get_submodule(name).weight.shape[:2]), mixed.get(name, ""))
        for name, size in sizes.items()
    ]
    whole = list(dict.fromkeys(title(step) for step in steps if step.role == "mixes" and step.node.op != "get_attr"))
    return Compacted(small, layers, (before[0], after[0]), (before[1], after[1]), whole)


def counted(net: nn.Module) -> tuple[int, int]:
    """(weights: parameters of two dimensions or more, biases: all others)."""
    sizes = [(p.numel(), p.ndim > 1) for p in net.parameters()]
    return sum(n for n, matrix in sizes if matrix), sum(n for n, matrix in sizes if not matrix)


def sums(steps: list[Step], stay: Kept) -> dict[str, str]:
    """By layer, what mixes its units, so that all of them stay."""
    found: dict[str, str] = {}
    for step in steps:
        if step.role != "mixes":
            continue
        for node in step.node.all_input_nodes:
            by = {other.node: other for other in steps}
            while (one := by[node]).role not in ("layer", "input", "mixes", "output") and one.source is not None:
                node = one.source
            if by[node].role == "layer":
                found.setdefault(str(node.target), title(step))
    return found


def title(step: Step) -> str:
    """What a step calls, for people."""
    target = step.node.target
    if step.module is not None:
        return f"{type(step.module).__name__} {target}"
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def largest_difference(one: Tensor, other: Tensor) -> float:
    """max |one - other| over all outputs; infinite where one is NaN."""
    difference = (one.double() - other.double()).abs().max()
    return float(torch.nan_to_num(difference, nan=torch.inf, posinf=torch.inf))
