"""A net of its own for every stage: the upper bound of the continual family, at one net's memory per stage."""

from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.training.method import Method


@final
class Separate(Method):
    """A net for each stage. Each trains from the same initial weights and leaves a copy of the result."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.start, self.nets = TensorStore(), TensorStore()
        for name, value in net.state_dict().items():
            self.start.put(name, value)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if not self.has_learned(stage):
            return {}  # in training: the backbone's own
        return {name: self.nets[f"{stage.index}/{name}"] for name in self.start.names()}

    def learn(self, stage: Stage, fit: Callable) -> None:
        own = self.net.state_dict()  # weights and norm statistics
        for name, value in own.items():
            value.copy_(self.start[name])
        fit(self, stage)
        for name, value in own.items():
            self.nets.put(f"{stage.index}/{name}", value)

    def has_learned(self, stage: Stage) -> bool:
        return f"{stage.index}/{self.start.names()[0]}" in self.nets

    def memory(self) -> dict[str, int]:
        return {"shared": 0, "stage": sum(4 * p.numel() for p in self.net.parameters())}
