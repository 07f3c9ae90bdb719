"""SI, synaptic intelligence (Zenke, Poole & Ganguli 2017, arXiv 1703.04200): a weight matters to a stage by how much of the
loss's fall its own path through training accounts for.

Along that path omega sums -g * dw, g the gradient of the data's loss alone. At the end of a stage Omega grows by
max(omega, 0) / (distance^2 + xi), and later stages pay c * Omega * (w - w*)^2.
"""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from maskbench.common.knobs import NonNegative, Positive
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.anchors import Anchors, gradients, warn_of_decay
from maskbench.methods.continual.outputs import Outputs
from maskbench.training.method import Method, Progress


@final
class SI(Method):
    """One net and one head for all stages, whose weights stay where earlier stages left them, by what they did for the loss.

    Args:
        net: any backbone.
        c: strength; the term has no 1/2 in it.
        xi: keeps the importance of a weight finite that hardly moved.
        outputs: which outputs the loss sees: of the classes `seen` so far, `all`, or the `stage`'s own.
    """

    def __init__(self, net: nn.Module, *, c: NonNegative = 100.0, xi: Positive = 0.1, outputs: Outputs = "seen") -> None:
        super().__init__(net)
        self.c, self.xi, self.outputs = c, xi, outputs
        self.anchors = Anchors(net)  # Omega, and the weights at the end of the latest stage
        self.path = TensorStore()  # omega of the stage in training
        for name, w in net.named_parameters():
            self.path.put(name, torch.zeros_like(w))
        self.under_way: tuple[list[Tensor], list[Tensor]] = ([], [])  # within a step: the data's gradient, weights before it

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """That of the data; the term is in the gradient (`after_backward`)."""
        x, y = batch
        return over.loss(self.logits(x, stage), y, stage, self.outputs)

    def learn(self, stage: Stage, fit: Callable) -> None:
        if stage.index == 0:
            self.anchors.drop(self.net)  # where the first path starts
        for name in self.path.names():
            self.path[name].zero_()
        fit(self, stage)
        self.consolidate()

    def after_backward(self, progress: Progress) -> None:
        weights = list(self.net.parameters())
        # a gradient that is not finite belongs to a step that mixed precision skips: the weights stay, and 0 is what it did
        data = [torch.nan_to_num(g, 0.0, 0.0, 0.0) for g in gradients(weights)]
        self.under_way = data, [w.clone() for w in weights]
        if progress.stage.index > 0:
            self.anchors.pull(self.net, 2 * self.c)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        data, before = self.under_way
        torch._foreach_sub_(before, list(self.net.parameters()))  # -dw
        torch._foreach_addcmul_([self.path[name] for name in self.anchors.names], data, before)
        self.under_way = ([], [])
        warn_of_decay("SI", progress, optimizer)

    @torch.no_grad()
    def consolidate(self) -> None:
        """Take up the path of the stage that has been learnt."""
        for name in self.anchors.names:
            moved = self.net.get_parameter(name) - self.anchors.anchor[name]
            self.anchors.importance[name].add_(self.path[name].clamp_min(0) / (moved.square() + self.xi))
        self.anchors.drop(self.net)

    def memory(self) -> dict[str, int]:
        """One net, Omega and the anchors; omega is needed in training alone."""
        net = sum(value.numel() * value.element_size() for value in self.net.state_dict().values())
        return {"shared": net + self.anchors.bytes, "stage": 0}
