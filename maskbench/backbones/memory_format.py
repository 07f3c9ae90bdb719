"""How images lie in memory on their way through a net: channel after channel, as torch has them, or channels last.

Convolutions of a CPU are faster with channels last. Only what passes through a net lies so: weights, their gradients, masks and
whatever is drawn keep their order, so a state and its draws are the same either way, and sums differ by their rounding: logits
by at most 1e-5 of the largest, gradients by 1e-4 of the largest (held by tests/training/test_arithmetic.py).
"""

from typing import Literal

from torch import Tensor, nn

from maskbench.common.errors import UsageError

MemoryFormat = Literal["contiguous", "channels_last"]


def arrange(net: nn.Module, order: MemoryFormat | None) -> None:
    """Let the convolutions of `net` work in this order; None: as torch has it, `contiguous`.

    Raises:
        UsageError: it has no convolution, for which alone the order counts.
    """
    if order != "channels_last":
        return
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise UsageError("trainer.memory_format=channels_last is for convolutions, and this backbone has none: leave it out")
    for module in convolutions:
        module.register_forward_pre_hook(channels_last)


def channels_last(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """[batch, channels, height, width], its memory as of [batch, height, width, channels]; no copy where it lies so already."""
    (x,) = inputs
    # not x.contiguous(memory_format=...), which vmap does not know
    return (x.movedim(-3, -1).contiguous().movedim(-1, -3),)


def forget(net: nn.Module) -> None:
    """Let the convolutions of `net` work in the order in which their inputs come."""
    for module in net.modules():
        for key in [key for key, hook in module._forward_pre_hooks.items() if hook is channels_last]:
            del module._forward_pre_hooks[key]
