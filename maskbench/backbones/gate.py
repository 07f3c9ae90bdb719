"""A gain on the units of a layer: where masks over units (rather than weights) meet the network."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """A layer that multiplies units by a gain: x * gain.

    The backbone's own gain is the scalar one, which costs nothing; a method stands another in for it: [*shape] for all
    examples alike, or [batch, *shape]. For convolutions it goes over channels.

    Args:
        *shape: of the gated units of one example: units, or folds and units where a net is many side by side.
        inlet: whether it gates the net's inputs, and not a layer's outputs.
    """

    def __init__(self, *shape: int, inlet: bool = False) -> None:
        super().__init__()
        self.shape, self.inlet = shape, inlet
        self.register_buffer("gain", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.gain.ndim == 0:
            return x
        if self.inlet and x.ndim > 1 + len(self.shape):  # pixels, gated one by one
            return self(x.flatten(1)).reshape(x.shape)
        return x * self.gain.reshape(*self.gain.shape, *[1] * (x.ndim - 1 - len(self.shape)))


def gates_of(net: nn.Module, inlets: bool = False) -> dict[str, Gate]:
    """The gates of `net` by the names of their gains, in the order of its modules; those of inputs only with `inlets`."""
    gates = {f"{name}.gain": module for name, module in net.named_modules() if isinstance(module, Gate)}
    return {name: gate for name, gate in gates.items() if inlets or not gate.inlet}
