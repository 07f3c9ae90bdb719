"""Batch normalisation by the statistics of the inputs at hand, in training and in testing: what few-shot learners use.

Nothing is averaged over batches, so an answer to a query set depends on all of it (transductive). Within `by_first` the
first rows alone (the support set) say mean and variance for all rows, so each query is answered by itself (inductive).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
        counted = x if self.first is None else x[: self.first]
        variance, mean = torch.var_mean(counted, [0, *range(2, x.ndim)], correction=0, keepdim=True)
        gain = torch.rsqrt(variance + self.eps) * self.weight.reshape(mean.shape[1:])
        return torch.addcmul(self.bias.reshape(mean.shape[1:]), x - mean, gain)


def uses_batches(net: nn.Module) -> bool:
    """Whether an answer of `net` depends on the other rows of its batch."""
    return any(isinstance(module, BatchStatistics) for module in net.modules())


@contextmanager
def by_first(net: nn.Module, rows: int) -> Iterator[None]:
    """Inside, the net's norms take their statistics from the first `rows` rows of what they are given."""
    norms = [module for module in net.modules() if isinstance(module, BatchStatistics)]
    for norm in norms:
        norm.first = rows
    try:
        yield
    finally:
        for norm in norms:
            norm.first = None
