"""What a backbone computes on the way: the outputs of its hidden layers, and what its head is given."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from maskbench.backbones.gate import gates_of


def layers(net: nn.Module) -> list[str]:
    """Names of the modules that end the hidden layers, in the order of the net: its gates."""
    return [name.removesuffix(".gain") for name in gates_of(net)]


@contextmanager
def tapped(net: nn.Module, names: Sequence[str], head: bool = False) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules: inside, each forward pass of `net` leaves them in the dict.

    With `head` also what goes into the last layer, [batch, features], under "head".
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        return lambda module, inputs, output: outputs.__setitem__(name, output)

    handles = [net.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    if head:
        handles.append(
            net.head.register_forward_pre_hook(lambda module, inputs: outputs.__setitem__("head", inputs[0].flatten(1)))
        )
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
