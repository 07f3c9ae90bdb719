"""Joint training: after each stage a fresh net on all stages so far, the upper bound of what one net can learn of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from maskbench.data.joined import joined
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.outputs import Outputs
from maskbench.training.method import Method


@final
class Joint(Method):
    """At stage t a net from the same initial weights, trained on stages 1 to t for as long as they take together.

    Args:
        net: any backbone.
        outputs: which outputs the loss sees: of the classes `seen` so far, `all`, or for each image those of its own `stage`.
    """

    def __init__(self, net: nn.Module, *, outputs: Outputs = "seen") -> None:
        super().__init__(net)
        self.outputs = outputs
        self.start = TensorStore()
        for name, value in net.state_dict().items():
            self.start.put(name, value)
        self.register_buffer("images", torch.tensor(0))  # bytes of the stages that a next one needs

    def learn(self, stage: Stage, fit: Callable) -> None:
        for name, value in self.net.state_dict().items():
            value.copy_(self.start[name])
        stages = (*stage.earlier, stage)
        train = joined([one.train for one in stages])
        budgets = sum(fit.length(len(one.train), 1.0, one.index) for one in stages)
        fit(self, replace(stage, train=train), share=budgets / fit.length(len(train), 1.0, stage.index))
        self.images.fill_(len(train) * (4 * torch.Size(stage.shape).numel() + 8))

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        x, y = batch
        return over.loss(self.logits(x, stage), y, stage, self.outputs)

    def memory(self) -> dict[str, int]:
        """One net, and all training images and labels, 4 bytes a value and 8 a label as in replay."""
        net = sum(value.numel() * value.element_size() for value in self.net.state_dict().values())
        return {"shared": net + int(self.images), "stage": 0}
