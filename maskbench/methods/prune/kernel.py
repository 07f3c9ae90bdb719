"""Training the kept weights alone, while a mask stands still: values and places in the place of w * m (masks/kernels.py).

Between `compact` and `expand` the optimiser moves a vector of kept values for each chosen weight instead of the weight, and
forward and backward pass cost what is kept. Both ways weights and moments are carried over exactly, so what moves a mask, or
reads the net, works on the net itself in between.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskbench.masks.kernels import Pattern, SparseWeight, pays
from maskbench.masks.stores import TensorStore
from maskbench.training.optimizers import exchange

Choice = Literal["auto", "dense", "csr"]


class Kernel(nn.Module):
    """How masked Linear layers are computed; its state is empty unless they are compact now.

    Args:
        choice: `dense`: as w * m; `csr`: by the kept values; `auto`: by these where that is cheaper, which follows from a
            layer's shape and count alone (masks/kernels.py).
    """

    def __init__(self, choice: Choice = "auto") -> None:
        super().__init__()
        self.choice = choice
        self.values, self.places = TensorStore(moving=True), TensorStore()
        self.patterns: dict[str, tuple[Tensor, Pattern]] = {}  # made of the places beside them
        self.asleep: dict[str, nn.Parameter] = {}  # values of before the last `expand`

    # ---- between the net and the kept values

    def names(self) -> list[str]:
        """The weights that are compact now."""
        return self.values.names()

    def chosen(self, net: nn.Module, masks: Mapping[str, Tensor]) -> list[str]:
        """Which weights are to be compact under these masks (bool, by the weight's name)."""
        if self.choice == "dense":
            return []
        layers = [name for name in masks if isinstance(net.get_submodule(name.rpartition(".")[0]), nn.Linear)]
        return [name for name in layers if self.choice == "csr" or pays(masks[name].shape, int(masks[name].sum()))]

    @torch.no_grad()
    def compact(self, net: nn.Module, masks: Mapping[str, Tensor], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Take the kept values out of the net; from now on they are what trains."""
        for name in self.chosen(net, masks):
            pattern, w = Pattern.of(masks[name]), net.get_parameter(name)
            values = self.reused(name, pattern.gather(w))
            if values is None and optimizer is not None and torch.distributed.is_initialized():
                continue  # gradients of a parameter that was not there when training began would not be averaged
            values = nn.Parameter(pattern.gather(w)) if values is None else values
            self.values.hold(name, values)
            self.places.put(name, pattern.flat)
            self.patterns[name] = self.places[name], pattern
            if optimizer is not None:
                exchange(optimizer, w, values, pattern.gather)

    def reused(self, name: str, values: Tensor) -> nn.Parameter | None:
        """The parameter that was a layer's before, with these values, where their number is the same."""
        before = self.asleep.pop(name, None)
        if before is None or before.shape != values.shape or before.device != values.device:
            return None
        return before.copy_(values)

    @torch.no_grad()
    def settle(self, net: nn.Module) -> None:
        """Write the kept values into the net, for who reads it; they go on training."""
        for name in self.names():
            net.get_parameter(name).put_(self.places[name], self.values[name])

    @torch.no_grad()
    def expand(self, net: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Put the kept values back: the net's own weights train again, with moments that are exactly 0 where nothing is kept."""
        self.settle(net)
        for name in self.names():
            pattern = self.pattern(net, name)
            values = self.asleep[name] = self.values.drop(name)
            self.places.drop(name)
            if optimizer is not None:
                exchange(optimizer, values, net.get_parameter(name), pattern.scatter)
        self.patterns = {}

    @contextmanager
    def compacted(self, net: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the kept values train; behind it the net is whole again."""
        self.asleep = {}
        self.compact(net, masks)
        try:
            yield
        finally:
            self.expand(net)
            self.asleep = {}

    def pattern(self, net: nn.Module, name: str) -> Pattern:
        """The places of a compact weight, prepared; anew where a state was loaded or the device is another."""
        places, prepared = self.places[name], self.patterns.get(name)
        if prepared is None or prepared[0] is not places:
            self.patterns[name] = places, Pattern(places, net.get_parameter(name).shape)
        return self.patterns[name][1]

    # ---- for a method's verbs

    def effective_weights(self, net: nn.Module) -> dict[str, Tensor]:
        """What stands in for the weights that are compact."""
        return {name: SparseWeight(self.values[name], self.pattern(net, name)) for name in self.names()}

    def trainable_parameters(self, net: nn.Module) -> Iterator[nn.Parameter]:
        """All of the net's, with kept values in the place of what is compact."""
        for name, p in net.named_parameters():
            yield self.values[name] if name in self.values else p

    def fingerprints(self, net: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Any]:
        """By which kernel each layer computes in training under these masks."""
        chosen = self.chosen(net, masks)
        return {"kernel": {name: "csr" if name in chosen else "dense" for name in masks}}
