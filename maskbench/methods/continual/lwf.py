"""LwF, learning without forgetting (Li & Hoiem 2016, arXiv 1606.09282): while a stage is learnt, the net's answers to its images
over the old classes stay near those that the net gave before it.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench.common.knobs import NonNegative, Positive
from maskbench.data.stage import Stage
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.outputs import Outputs, Together
from maskbench.training.method import Method


@final
class LwF(Method):
    """One net and one head for all stages, taught by itself as it was before the stage. There is no teacher in the first stage.

    Args:
        net: any backbone.
        alpha: strength of the teacher's term, which is also multiplied by the squared temperature.
        temperature: by which logits of both are divided.
        outputs: which outputs the loss sees: of the classes `seen` so far, `all`, or the `stage`'s own. The teacher's term is one
            softmax over all old classes; under `stage` a sum of one for each old stage.
    """

    def __init__(
        self, net: nn.Module, *, alpha: NonNegative = 2.0, temperature: Positive = 2.0, outputs: Outputs = "seen"
    ) -> None:
        super().__init__(net)
        self.alpha, self.temperature, self.outputs = alpha, temperature, outputs
        self.teacher = copy.deepcopy(net)  # a module: it answers in evaluation mode while the net trains

    def learn(self, stage: Stage, fit: Callable) -> None:
        if stage.earlier:
            self.teacher.load_state_dict(self.net.state_dict())
        fit(self, stage)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.net.parameters()

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        x, y = batch
        logits = self.logits(x, stage)
        loss = over.loss(logits, y, stage, self.outputs)
        if not stage.earlier:
            return loss
        with torch.no_grad():
            before = self.teacher(x)
        terms = [self.apart(over.among(logits, own), over.among(before, own)) for own in old(stage, self.outputs)]
        return loss + self.alpha * self.temperature**2 * torch.stack(terms).sum()

    def apart(self, logits: Tensor, before: Tensor) -> Tensor:
        """Cross-entropy of the net's softened answers [batch, classes] with the teacher's, mean over the batch."""
        return F.cross_entropy(logits / self.temperature, (before / self.temperature).softmax(1))

    def train(self, mode: bool = True) -> Self:
        """The teacher only answers."""
        super().train(mode)
        self.teacher.eval()
        return self

    def memory(self) -> dict[str, int]:
        """One net, and in training what it was before the stage."""
        net = sum(value.numel() * value.element_size() for value in self.net.state_dict().values())
        return {"shared": 2 * net, "stage": 0}


def old(stage: Stage, outputs: Outputs) -> Together:
    """The sets of old outputs that the teacher speaks of."""
    if outputs == "stage":
        return tuple(dict.fromkeys(one.own for one in stage.earlier))
    return (stage.earlier[-1].seen,)
