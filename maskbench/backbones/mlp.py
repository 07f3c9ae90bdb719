"""Fully connected nets: LeNet-300-100, FC 1024-1024 and others by their widths."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from maskbench.backbones.activations import ACTIVATIONS, Activation
from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.norm import need_one
from maskbench.backbones.redundant import linear
from maskbench.backbones.sizes import widened
from maskbench.common.knobs import Count, Positive


class MLP(nn.Module):
    """[batch, *shape] -> [batch, outputs]: hidden Linear layers with an activation and a gate each, then `head`.

    The flattened inputs have a gate too.

    Args:
        widths: units of each hidden layer. width: multiplies every one of them.
        bias: of every layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
        activation: of the hidden layers (activations.py).
        redundancy: links in the place of each weight (redundant.py); null: plain layers. between: a ReLU behind the links.
    """

    unitwise: ClassVar = {"redundancy": None}  # its settings under which nets of it may train as one (cli/side_by_side.py)

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        widths: Sequence[Count],
        width: Positive = 1.0,
        bias: bool = True,
        init: Init = "glorot_normal",
        activation: Activation = "relu",
        redundancy: Count | None = None,
        between: bool = True,
    ) -> None:
        super().__init__()
        need_one(shape)
        sizes = [prod(shape), *widened(widths, width)]
        self.inlet = Gate(sizes[0], inlet=True)
        self.hidden, self.gates = layers(sizes, bias, redundancy, between)
        self.head = linear(sizes[-1], outputs, bias, redundancy, between)
        self.activation = ACTIVATIONS[activation]
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x.flatten(1))
        for layer, gate in zip(self.hidden, self.gates, strict=True):
            x = gate(self.activation(layer(x)))
        return self.head(x)


def layers(
    sizes: Sequence[int], bias: bool, redundancy: int | None = None, between: bool = True
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Linear layers from each size to the next one, and a gate for the units of each."""
    hidden = nn.ModuleList(linear(i, o, bias, redundancy, between) for i, o in pairwise(sizes))
    return hidden, nn.ModuleList(Gate(units) for units in sizes[1:])
