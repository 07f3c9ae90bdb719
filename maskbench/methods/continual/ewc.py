"""EWC, elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796; online: Schwarz et al. 2018, 1805.06370).

After each stage the diagonal of its Fisher information says how much the stage's answers hang on each weight; later stages
pay lam / 2 * F * (w - w*)^2 for moving it.
"""

from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor, nn

from maskbench.common.knobs import Count, NonNegative, Probability
from maskbench.data.stage import Stage
from maskbench.methods.continual import fisher as information
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.anchors import Anchors, warn_of_decay
from maskbench.methods.continual.outputs import Outputs
from maskbench.training.method import Method, Progress


@final
class EWC(Method):
    """One net and one head for all stages, whose weights stay near where they matter to earlier stages.

    Args:
        net: any backbone but those that standardise by the images at hand.
        mode: `separate`: a term for each stage, around its own solution, as first published; `online`: one term, around the
            latest solution, with F = gamma F + F of the stage.
        lam: strength; the term has the paper's 1/2.
        gamma: of `online`: how much of the earlier stages' F stays.
        fisher: over which labels an image's squared gradient is averaged: `exact`, all by their probability; `sample`, one that
            is drawn by it; `empirical`, its true one.
        images: training images, drawn at random, that F is the mean of.
        outputs: which outputs the loss sees, and F with it: of the classes `seen` so far, `all`, or the `stage`'s own.

    Raises:
        UsageError: no image has a gradient of its own in this net.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        mode: Literal["online", "separate"] = "online",
        lam: NonNegative = 1e4,
        gamma: Probability = 1.0,
        fisher: Literal["exact", "empirical", "sample"] = "exact",
        images: Count = 1000,
        outputs: Outputs = "seen",
    ) -> None:
        super().__init__(net)
        information.require_single_images(net)
        self.mode, self.lam, self.gamma, self.outputs = mode, lam, gamma, outputs
        self.fisher, self.images = fisher, images
        self.anchors = Anchors(net)
        self.register_buffer("sums", torch.zeros(2))  # of F of the latest stage: of single images, of batches

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """That of the data; the terms are in the gradient (`after_backward`)."""
        x, y = batch
        return over.loss(self.logits(x, stage), y, stage, self.outputs)

    def learn(self, stage: Stage, fit: Callable) -> None:
        fit(self, stage)
        self.consolidate(stage)

    def after_backward(self, progress: Progress) -> None:
        if progress.stage.index > 0:
            self.anchors.pull(self.net, self.lam)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        warn_of_decay("EWC", progress, optimizer)

    def consolidate(self, stage: Stage) -> None:
        """Take up the F of the stage that has been learnt.

        The terms of `separate` add up to one: with F = F_1 + ... + F_t and the mean of the solutions by F as its anchor it has
        the same gradient everywhere. So neither a step nor the memory grows with the stages.
        """
        self.eval()
        x, y = stage.train.pick(torch.randperm(len(stage.train))[: self.images], next(self.net.parameters()).device)
        judged = over.together(stage, self.outputs)[-1]
        own = information.diagonal(self.net, x, y, judged, self.fisher)
        batches = information.of_batches(self.net, x, lambda out, rows: over.loss(out, y[rows], stage, self.outputs))
        self.sums.copy_(torch.stack([sum(f.sum() for f in own.values()), batches]))
        importance, anchor = self.anchors.importance, self.anchors.anchor
        with torch.no_grad():
            for name, f in own.items():
                before, w = importance[name], self.net.get_parameter(name)
                if self.mode == "online":
                    before.mul_(self.gamma).add_(f)
                    anchor[name].copy_(w)
                else:
                    before.add_(f)
                    anchor[name].lerp_(w, torch.where(before > 0, f / before, 1.0))

    # ---- for the record

    def memory(self) -> dict[str, int]:
        """One net, F and the anchors."""
        net = sum(value.numel() * value.element_size() for value in self.net.state_dict().values())
        return {"shared": net + self.anchors.bytes, "stage": 0}

    def extra_metrics(self) -> dict[str, float]:
        """The sum of F of the latest stage, and what it would be of gradients of whole batches."""
        alone, batches = self.sums.tolist()
        return {"fisher_sum": alone, "fisher_sum_batches": batches}
