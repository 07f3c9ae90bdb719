"""Batch normalisation by the statistics of the inputs at hand, in training and in testing: what few-shot learners use, and
nets whose masks are superposed.

Nothing is averaged over batches, so an answer to a query set depends on all of it (transductive). Within `by_first` the
first rows alone (the support set) say mean and variance for all rows, so each query is answered by itself (inductive).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from maskbench.common import devices
from maskbench.common.errors import UsageError

LONELY = (
    "backbone.norm=batch_no_stats cannot answer an image by itself in a layer whose units have one place, since nothing would be "
    "left of them: take task.group=2 or more with task.pooling=all, or a backbone of convolutions with larger maps"
)


class GroupStatistics(nn.Module):
    """Batch norm that learns and keeps nothing: [rows, units, ...] standardised over rows and places, by the biased variance.

    The non-affine norm without running statistics of SupSup's code. What is answered together is part of the answer, so a
    net that has it is evaluated in groups of a size that its task says (training/evaluate.py). A group may be one image where
    units have several places, whose statistics they then are.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.first: int | None = None  # rows whose statistics count; None: all
        self.group: int | None = None  # rows that stand alone, each group of them by its own statistics; None: all together

    def forward(self, x: Tensor) -> Tensor:
        """[rows, units, ...] -> the same shape.

        Raises:
            UsageError: a unit is to be standardised by a single value, which would leave 0 of it.
        """
        size = self.group or len(x)
        if (devices.whole(size) if devices.by_whole_batch() else size) * x[0, 0].numel() == 1:
            raise UsageError(LONELY)
        if size < len(x):
            return self.alone(x.unflatten(0, (-1, size)))
        mean, gain = statistics(x, self.first, self.eps)
        return (x - mean) * gain

    def alone(self, x: Tensor) -> Tensor:
        """[groups, rows, units, ...], each group by its own statistics -> [groups * rows, units, ...]."""
        variance, mean = torch.var_mean(x, [1, *range(3, x.ndim)], correction=0, keepdim=True)
        return ((x - mean) * torch.rsqrt(variance + self.eps)).flatten(0, 1)


class BatchStatistics(nn.Module):
    """Batch norm without running averages: [rows, units, ...] standardised over rows and places, times `weight` plus `bias`."""

    def __init__(self, units: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(units))
        self.bias = nn.Parameter(torch.zeros(units))
        self.first: int | None = None  # rows whose statistics count; None: all

    def forward(self, x: Tensor) -> Tensor:
        # not torch's batch_norm: under vmap its second derivative is wrong where the gain differs between tasks (torch 2.14)
        mean, gain = statistics(x, self.first, self.eps)
        return torch.addcmul(self.bias.reshape(mean.shape[1:]), x - mean, gain * self.weight.reshape(mean.shape[1:]))


def statistics(x: Tensor, first: int | None, eps: float) -> tuple[Tensor, Tensor]:
    """(mean, 1 / deviation) of each unit over places and rows of [rows, units, ...], or its `first` rows: [1, units, 1, ...]."""
    if first is None and devices.by_whole_batch():
        place = (1, -1, *[1] * (x.ndim - 2))
        mean, variance, _ = devices.mean_and_variance(x)
        return mean.view(place), torch.rsqrt(variance + eps).view(place)
    counted = x if first is None else x[:first]
    variance, mean = torch.var_mean(counted, [0, *range(2, x.ndim)], correction=0, keepdim=True)
    return mean, torch.rsqrt(variance + eps)


def uses_batches(net: nn.Module) -> bool:
    """Whether an answer of `net` depends on the other rows of its batch."""
    return any(isinstance(module, BatchStatistics | GroupStatistics) for module in net.modules())


def answers_in_groups(net: nn.Module) -> bool:
    """Whether `net` is to be asked in groups of a stated size."""
    return any(isinstance(module, GroupStatistics) for module in net.modules())


@contextmanager
def in_groups(net: nn.Module, rows: int) -> Iterator[None]:
    """Inside, a net that `answers_in_groups` takes what it is given for groups of so many rows, each of which stands alone."""
    norms = [module for module in net.modules() if isinstance(module, GroupStatistics)]
    for norm in norms:
        norm.group = rows
    try:
        yield
    finally:
        for norm in norms:
            norm.group = None


@torch.no_grad()
def answers_single_images(net: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether inputs [*shape] can be answered one by one: not where a unit without places is standardised by the rows at hand."""
    if not uses_batches(net):
        return True
    if not answers_in_groups(net):
        return False
    modes = {module: module.training for module in net.modules()}
    try:
        net.eval()(torch.zeros(1, *shape, device=next(net.parameters()).device))
    except UsageError:
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode
    return True


@contextmanager
def by_first(net: nn.Module, rows: int) -> Iterator[None]:
    """Inside, the net's norms take their statistics from the first `rows` rows of what they are given."""
    norms = [module for module in net.modules() if isinstance(module, BatchStatistics | GroupStatistics)]
    for norm in norms:
        norm.first = rows
    try:
        yield
    finally:
        for norm in norms:
            norm.first = None
