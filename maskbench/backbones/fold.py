"""Many small fully connected nets side by side, one per fold of a table: they train as one, at a fraction of the cost.

Nothing connects them: a fold's outputs and gradients depend on its own weights and inputs only.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.sizes import widened
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Positive


class FoldLinear(nn.Module):
    """[folds, batch, inputs] -> [folds, batch, outputs]: a Linear layer for each fold; weight [folds, outputs, inputs]."""

    def __init__(self, folds: int, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(folds, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(folds, outputs)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch's Linear draws its own."""
        for w in self.matrices():
            nn.init.kaiming_uniform_(w, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight.shape[-1])
            nn.init.uniform_(self.bias, -bound, bound)

    def matrices(self) -> list[Tensor]:
        """The weight of each fold, [outputs, inputs]: what initial rules draw."""
        return list(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class FoldMLP(nn.Module):
    """[batch, folds, features] -> [batch, folds, outputs], or [batch, features] -> [batch, outputs] where there is one fold.

    Hidden layers with ReLU; a gate before every weight layer, that of the inputs included.

    Args:
        widths: units of each hidden layer. width: multiplies every one of them.
        bias: of every layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        widths: Sequence[Count],
        width: Positive = 1.0,
        bias: bool = True,
        init: Init = "glorot_uniform",
    ) -> None:
        super().__init__()
        if len(shape) not in (1, 2):
            raise UsageError(f"this backbone needs the rows of a table, not inputs of shape {list(shape)}: take backbone=lenet5")
        self.plain = len(shape) == 1
        folds, features = (1, *shape) if self.plain else shape
        sizes = [features, *widened(widths, width)]
        front = () if self.plain else (folds,)
        self.inlet = Gate(*front, features, inlet=True)
        self.hidden = nn.ModuleList(FoldLinear(folds, i, o, bias) for i, o in pairwise(sizes))
        self.gates = nn.ModuleList(Gate(*front, units) for units in sizes[1:])
        self.head = FoldLinear(folds, sizes[-1], outputs, bias)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        for layer, gate in zip(self.hidden, self.gates, strict=True):
            x = gate(self.apart(relu(layer(self.together(x)))))
        return self.apart(self.head(self.together(x)))

    def together(self, x: Tensor) -> Tensor:
        """[batch, folds, ...] or [batch, ...] -> [folds, batch, ...], without a copy."""
        return x[None] if self.plain else x.transpose(0, 1)

    def apart(self, x: Tensor) -> Tensor:
        return x[0] if self.plain else x.transpose(0, 1)
