"""Fully connected nets with Swish whose units are standardised over the batch at hand, when they train and when they answer.

Nothing is learnt or kept by the norm: there is no gain, no shift and no running average, so an answer depends on the
other inputs of its batch, and that for a single input is meaningless (every hidden unit is 0).
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from maskbench.backbones.initial import initialise
from maskbench.backbones.mlp import layers


class NormMLP(nn.Module):
    """[batch, *shape] -> [batch, outputs]: hidden Linear layers, standardised, with a gate and Swish each, then `head`.

    `width` multiplies every hidden layer. The gate is the scale of the norm: it stands before Swish, as in HopSupSup.
    `bias` is the head's; the norm would cancel any before it.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        widths: Sequence[int],
        width: float | None = None,
        bias: bool = True,
        init: str = "glorot_normal",
    ) -> None:
        super().__init__()
        sizes = [prod(shape), *(round((width or 1.0) * w) for w in widths)]
        self.hidden, self.gates = layers(sizes, bias=False)
        self.head = nn.Linear(sizes[-1], outputs, bias=bias)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer, gate in zip(self.hidden, self.gates, strict=True):
            x = silu(gate(standardised(layer(x))))
        return self.head(x)


def standardised(x: Tensor) -> Tensor:
    """Each unit's mean over the batch taken off, divided by its deviation: sqrt(biased variance + 1e-5). [batch, units]."""
    # torch.nn.functional's wrapper refuses a batch of one, and an epoch may end with one
    return torch.batch_norm(x, None, None, None, None, True, 0.0, 1e-5, torch.backends.cudnn.enabled)
