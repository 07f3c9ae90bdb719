"""Fully connected nets with Swish whose units are standardised over the batch at hand, when they train and when they answer.

Nothing is learnt or kept by the norm: there is no gain, no shift and no running average, so an answer depends on the
other inputs of its batch, and that for a single input is meaningless (every hidden unit is 0).
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.mlp import layers
from maskbench.backbones.sizes import widened
from maskbench.common.knobs import Count, Positive


class NormMLP(nn.Module):
    """[batch, *shape] -> [batch, outputs]: hidden Linear layers, standardised, with a gate and Swish each, then `head`.

    The gate is the scale of the norm: it stands before Swish, as in HopSupSup.

    Args:
        widths: units of each hidden layer. width: multiplies every one of them; null: by 1.
        bias: of the head; the norm would cancel any before it.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        widths: Sequence[Count],
        width: Positive | None = None,
        bias: bool = True,
        init: Init = "glorot_normal",
    ) -> None:
        super().__init__()
        sizes = [prod(shape), *widened(widths, width or 1.0)]
        self.hidden, self.gates = layers(sizes, bias=False)
        self.head = nn.Linear(sizes[-1], outputs, bias=bias)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer, gate in zip(self.hidden, self.gates, strict=True):
            x = silu(gate(standardised(layer(x))))
        return self.head(x)


def standardised(x: Tensor) -> Tensor:
    """Units standardised over the batch, [batch, units]: (x - mean) / sqrt(biased variance + 1e-5)."""
    # torch.nn.functional's wrapper refuses a batch of one, and an epoch may end with one
    return torch.batch_norm(x, None, None, None, None, True, 0.0, 1e-5, torch.backends.cudnn.enabled)
