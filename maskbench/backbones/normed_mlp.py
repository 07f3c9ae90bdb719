"""Fully connected nets with batch norm: what the deep-ensembles paper trains on MNIST, three layers of 200."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import relu

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.mlp import layers
from maskbench.backbones.norm import need_one
from maskbench.backbones.sizes import widened
from maskbench.common.knobs import Count, Positive


class NormedMLP(nn.Module):
    """[batch, *shape] -> [batch, outputs]: hidden Linear layers with batch norm, ReLU and a gate each, then `head`.

    The norm keeps running statistics, by which the net answers; its shift makes biases of hidden layers needless.

    Args:
        widths: units of each hidden layer. width: multiplies every one of them.
        bias: of the head.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """

    keeps_statistics: ClassVar = {}  # superposed.py

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        widths: Sequence[Count],
        width: Positive = 1.0,
        bias: bool = True,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        need_one(shape)
        sizes = [prod(shape), *widened(widths, width)]
        self.inlet = Gate(sizes[0], inlet=True)
        self.hidden, self.gates = layers(sizes, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm1d(units) for units in sizes[1:])
        self.head = nn.Linear(sizes[-1], outputs, bias=bias)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x.flatten(1))
        for layer, norm, gate in zip(self.hidden, self.norms, self.gates, strict=True):
            x = gate(relu(norm(layer(x))))
        return self.head(x)
