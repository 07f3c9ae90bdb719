"""A gain on the units of a hidden layer: where masks over units (rather than weights) meet the network."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """x * gain. The backbone's own gain is the scalar one, which costs nothing; a method stands another in for it.

    gain: [units] for all examples alike, or [batch, units]; for convolutions it goes over channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.gain.ndim == 0:
            return x
        return x * self.gain.reshape(*self.gain.shape, *[1] * (x.ndim - 2))
