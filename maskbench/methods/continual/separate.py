"""A net of its own for every stage: the upper bound of the continual family, at one net's memory per stage."""

from collections.abc import Callable, Iterator
from typing import ClassVar, final

from torch import Tensor, nn

from maskbench.backbones.per_stage import PrivateHeads
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.training.method import Method


@final
class Separate(Method):
    """A net for each stage. Each trains from the same initial weights and leaves a copy of the result; a stage with another
    number of outputs than the net's has a head of its own."""

    keeps_given_stage: ClassVar = True

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.start, self.nets = TensorStore(), TensorStore()
        self.heads = PrivateHeads(net.head if hasattr(net, "head") else None, always=False)
        self.stage = 0  # in training; follows from the stage that learns
        for name, value in net.state_dict().items():
            self.start.put(name, value)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        head = self.heads.of(stage.index) if stage.index in self.heads else {}
        if not self.has_learned(stage):
            return head  # in training: the backbone's own
        return {name: self.nets[f"{stage.index}/{name}"] for name in self.start.names() if name not in head} | head

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.heads.trainable(self.net, self.stage)

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage = stage.index
        own = self.net.state_dict()  # weights and norm statistics
        for name, value in own.items():
            value.copy_(self.start[name])
        if stage.own_head["outputs"] is not None:
            self.heads.open(stage.index, self.net.head, **stage.own_head)
        fit(self, stage)
        head = self.heads.of(stage.index) if stage.index in self.heads else {}
        for name, value in own.items():
            if name not in head:
                self.nets.put(f"{stage.index}/{name}", value)

    def has_learned(self, stage: Stage) -> bool:
        return f"{stage.index}/{self.start.names()[0]}" in self.nets

    def memory(self) -> dict[str, int]:
        return {"shared": 0, "stage": sum(4 * p.numel() for p in self.net.parameters())}

    def memory_after(self, stage: Stage) -> int:
        """Bytes once a stage is learnt: norm statistics, too, and heads with as many outputs as their stage."""
        kept = [self.nets[name] for name in self.nets.names() if int(name.partition("/")[0]) <= stage.index]
        return sum(value.numel() * value.element_size() for value in kept) + self.heads.bytes_upto(stage.index)
