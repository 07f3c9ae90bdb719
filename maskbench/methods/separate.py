"""A net of its own for every stage: the upper bound of the continual family, at one net's memory per stage."""

from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from maskbench.data.stage import Stage
from maskbench.method import Method
from maskbench.shelf import Shelf


@final
class Separate(Method):
    """Each stage trains from the same initial weights and leaves a copy of the result."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.start, self.nets = Shelf(), Shelf()
        for name, w in net.named_parameters():
            self.start.put(name, w)

    def effective(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if not self.knows(stage):
            return {}  # in training: the backbone's own
        return {name: self.nets[f"{stage.index}/{name}"] for name in self.start.names()}

    def learn(self, stage: Stage, fit: Callable) -> None:
        own = dict(self.net.named_parameters())
        for name, w in own.items():
            w.data.copy_(self.start[name])
        fit(self, stage)
        for name, w in own.items():
            self.nets.put(f"{stage.index}/{name}", w)

    def knows(self, stage: Stage) -> bool:
        return f"{stage.index}/{self.start.names()[0]}" in self.nets

    def memory(self) -> dict[str, int]:
        return {"shared": 0, "stage": sum(4 * p.numel() for p in self.net.parameters())}
