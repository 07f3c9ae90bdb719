"""Weights held near where earlier stages left them, each as strongly as it mattered to them: what EWC and SI have in common."""

import logging

import torch
from torch import Tensor, nn

from maskbench.masks.stores import TensorStore
from maskbench.training.method import Progress

log = logging.getLogger("maskbench")


class Anchors(nn.Module):
    """sum of importance * (w - anchor)^2 over the weights of a net: two buffers a weight, and nothing else.

    Args:
        net: whose parameters are held; at first their importance is 0 and their anchors are where they stand.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.names = [name for name, _ in net.named_parameters()]
        self.importance, self.anchor = TensorStore(), TensorStore()
        for name, w in net.named_parameters():
            self.importance.put(name, torch.zeros_like(w))
            self.anchor.put(name, w)

    @torch.no_grad()
    def drop(self, net: nn.Module) -> None:
        """The anchors are where the weights stand."""
        for name in self.names:
            self.anchor[name].copy_(net.get_parameter(name))

    def penalty(self, net: nn.Module) -> Tensor:
        """The sum itself, a scalar."""
        parts = [self.importance[name] * (net.get_parameter(name) - self.anchor[name]).square() for name in self.names]
        return torch.stack([part.sum() for part in parts]).sum()

    @torch.no_grad()
    def pull(self, net: nn.Module, strength: float) -> None:
        """Add `strength` * importance * (w - anchor) to the gradients: what half of `strength` * `penalty` would add.

        Written out since autograd would hold and sweep three more tensors a weight. Every device adds the same to its average.
        """
        weights = [net.get_parameter(name) for name in self.names]
        away = torch._foreach_sub(weights, [self.anchor[name] for name in self.names])
        importance = [self.importance[name] for name in self.names]
        torch._foreach_addcmul_(gradients(weights), importance, away, strength)

    @property
    def bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.buffers())


def gradients(weights: list[nn.Parameter]) -> list[Tensor]:
    """The gradients of the weights; of one that none reached, zeros, which are put there."""
    for w in weights:
        if w.grad is None:
            w.grad = torch.zeros_like(w)
    return [w.grad for w in weights]


def warn_of_decay(name: str, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
    """Say at the first step of a run that weight decay works against anchors."""
    if progress.step == 0 == progress.stage.index and any(group.get("weight_decay") for group in optimizer.param_groups):
        log.warning("%s: optimizer.weight_decay pulls weights to 0 that it holds near their anchors; 0 leaves them to it", name)
