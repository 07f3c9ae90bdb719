"""What training a sparse net costs by formula, in dense steps: multiplications of its weights, from masks and shapes alone.

A weight multiplies once for each place it is applied at: in a matrix once an example, in a convolution at each place of its
output. A training step takes three passes of that (forward, and backward to inputs and to weights); biases, norms and
activations are not counted.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.data.stage import Stage
from maskbench.masks.sites import MATRICES, weights

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def places(net: nn.Module, shape: Sequence[int]) -> dict[str, int]:
    """At how many places of one input of that shape a net applies each of its maskable weights, found by one pass.

    A layer that is passed twice counts twice; one that computes with its weight by itself (attention, recurrent layers) is
    taken to apply it once.
    """
    names = {id(weight): name for name, weight in net.named_parameters()}
    found = dict.fromkeys(masks.maskable(net), 0)

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for _, weight in weights(layer):
            found[names[id(weight)]] += applied(layer, inputs[0], output)

    hooks = [layer.register_forward_hook(count) for layer in net.modules() if isinstance(layer, tuple(sum(MATRICES, ())))]
    training, device = net.training, next(net.parameters()).device
    try:
        net.eval()(torch.zeros(1, *shape, device=device))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return {name: max(1, number) for name, number in found.items()}


def applied(layer: nn.Module, x: Tensor, output: Tensor | tuple) -> int:
    """At how many places of one input [1, ...] a layer applies its weight."""
    if isinstance(layer, CONVOLUTIONS):
        return output[0, 0].numel()
    if isinstance(layer, TRANSPOSED):
        return x[0, 0].numel()
    if isinstance(layer, nn.Linear | nn.Bilinear):
        return output.numel() // output.shape[-1]
    return 1


class Cost(nn.Module):
    """At how many places of an input a net applies each weight, known once a stage is learnt; its buffer is all it remembers."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.names = masks.maskable(net)
        self.register_buffer("places", torch.ones(len(self.names), dtype=torch.long))

    def measure(self, net: nn.Module, stage: Stage) -> None:
        """Count for inputs of the stage's shape."""
        found = places(net, stage.shape)
        self.places.copy_(torch.tensor([found[name] for name in self.names]))

    def products(self, net: nn.Module, counts: Mapping[str, int]) -> int:
        """Multiplications of one input's pass where masks keep so many weights, by name; other weights are whole."""
        sizes = [counts.get(name, net.get_parameter(name).numel()) for name in self.names]
        return sum(size * number for size, number in zip(sizes, self.places.tolist(), strict=True))

    def share(self, net: nn.Module, counts: Mapping[str, int]) -> float:
        """These multiplications over those of the dense net: f_S / f_D."""
        return self.products(net, counts) / self.products(net, {})
