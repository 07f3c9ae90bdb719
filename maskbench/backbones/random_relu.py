"""A random ReLU net without biases that is drawn as the run goes on: what masks prune into another net, never trained.

Its weights are buffers, empty until they are drawn, and take any shape that a state brings.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Drawn(nn.Module):
    """A layer whose weight is sampled after the layer is made: the base of the layers below."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(0))

    def _load_from_state_dict(self, state, prefix, metadata, strict, missing, unexpected, errors) -> None:
        if f"{prefix}weight" not in state:
            missing.append(f"{prefix}weight")
            return
        self.weight = state[f"{prefix}weight"].detach().clone().to(self.weight.device)


class Linear(Drawn):
    """A linear map without bias; weight [outputs, inputs]."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


class Spread(Drawn):
    """The layer that gives each input i neurons of its own: neuron (k, i), at place k * inputs + i, is fed by input i alone.

    weight [neurons, inputs] is the whole random matrix, of which a mask keeps the entries ((k, i), i) at most; or
    [per input, inputs, 1] are these entries only, which compute the same and need a 1/inputs of the memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return linear(x, self.weight)
        return (x[:, None] * self.weight[..., 0]).flatten(1)


class Sums(Drawn):
    """A linear map each of whose weights is the sum of n numbers; weight [outputs, inputs, n]."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.sum(-1))


class RandomReLU(nn.Module):
    """Layers one after another, with ReLUs between them: [batch, ...] -> [batch, outputs]."""

    def __init__(self, layers: list[Drawn]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
