"""At how many places of an input a net uses each of its weights: what multiplications are counted by."""

import copy

import torch
from torch import Tensor, nn

from maskbench.masks.sites import LAYERS, maskable, patterns, weights

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRACED = (*LAYERS, *TRANSPOSED)  # layers whose weights are used where their outputs, or inputs, stand


def traceable(net: nn.Module) -> bool:
    """Whether all of a net's matrices are in layers of these kinds; not so with attention and recurrence."""
    return all(isinstance(module, TRACED) for module in net.modules() if patterns(module))


def positions(net: nn.Module, shape: tuple[int, ...]) -> dict[str, int] | None:
    """How often one example uses each entry of a matrix weight, by its name; the net stays as it is.

    It is 1 in a matrix, and the places of its output in a convolution (of its input, where that is transposed). A layer
    that is called several times, or whose weight others share, counts each time; one that is never called counts 0.

    Args:
        net: any module from inputs [batch, *shape]. shape: of one input.

    Returns:
        None of a net with other matrices than those of Linear and Conv layers (attention, recurrence).
    """
    if not traceable(net):
        return None
    twin = copy.deepcopy(net).to("meta").eval()
    names = {id(w): name for name, w in twin.named_parameters()}
    places = dict.fromkeys(maskable(twin), 0)

    def count(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        for _, w in weights(layer):
            places[names[id(w)]] += (args[0] if isinstance(layer, TRANSPOSED) else out).numel() // w.shape[0]

    for module in twin.modules():
        if isinstance(module, TRACED):
            module.register_forward_hook(count)
    with torch.no_grad(), torch.device("meta"):
        twin(torch.ones(1, *shape))
    return places
