"""Batch normalisation by the statistics of the inputs at hand, in training and in testing: what few-shot learners use, and
nets whose masks are superposed.

Nothing is averaged over batches, so an answer to a query set depends on all of it (transductive). Within `by_first` the
first rows alone (the support set) say mean and variance for all rows, so each query is answered by itself (inductive).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class GroupStatistics(nn.Module):
    """Batch norm that learns and keeps nothing: [rows, units, ...] standardised over rows and places, by the biased variance.

    The non-affine norm without running statistics of SupSup's code. What is answered together is part of the answer, so a
    net that has it is evaluated in groups of a size that its task says (training/evaluate.py).
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.first: int | None = None  # rows whose statistics count; None: all

    def forward(self, x: Tensor) -> Tensor:
        mean, gain = statistics(x, self.first, self.eps)
        return (x - mean) * gain


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
