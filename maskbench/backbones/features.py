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
    """Inside, each forward pass of `net` leaves the outputs of the named modules in the dict, and with `head` what goes
    into the last layer [batch, features] under "head"."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    handles = [net.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    if head:
        handles.append(net.head.register_forward_pre_hook(lambda module, inputs: seen.__setitem__("head", inputs[0].flatten(1))))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
