"""Training steps in which the backbone's forward pass is compiled (loop.compile=true): torch.compile, and on GPUs CUDA graphs.

Only the net itself is compiled, and only while steps are made: masks are drawn, weights are masked, hooks act and losses are
computed as without it, and every evaluation is by the net as it is. So a mask that follows from given weights and scores is the
same; what differs is the rounding of sums in the pass and in its gradients, by which two trainings drift apart as they do between
machines. That is why such a run is another run (common/identity.py).

Where a method maps over the net or differentiates through it by torch.func (the inner loops of task=meta, deep ensembles in one
pass, Fisher information), torch runs the net as it is: nothing is gained there, and nothing changes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from maskbench.common import compilers
from maskbench.common.errors import UsageError


class Compiled:
    """The compiled forward pass of the nets of a run: each is compiled when it is first called, for all phases."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[nn.Module, Callable]] = {}

    @contextmanager
    def steps(self, net: nn.Module, device: torch.device) -> Iterator[None]:
        """Inside, `net(x)` is its compiled pass.

        Raises:
            UsageError: no compiler is found on this machine.
        """
        if id(net) not in self.held:
            if lacking := compilers.lacking():
                raise UsageError(lacking)
            mode = "reduce-overhead" if device.type == "cuda" else None  # CUDA graphs: launches cost more than small kernels
            self.held[id(net)] = net, torch.compile(net.forward, mode=mode)
        net.forward = self.held[id(net)][1]
        try:
            yield
        finally:
            del net.forward  # the class's own is in its place again


def begin_step(device: torch.device) -> None:
    """Outputs of the step before may be overwritten now."""
    if device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
