"""Products with a masked matrix that cost what its mask keeps: the kept values and their places, instead of w * m.

`Pattern` is where the ones of a mask lie, by rows and by columns; with a vector of kept values it is a matrix in compressed
rows (CSR). `linear` is torch's `linear` with such a weight, and its gradient is taken at the kept places alone. `SparseWeight`
lets any module compute so: it stands in for the weight [outputs, inputs], `torch.nn.functional.linear` takes it by its kept
values, and every other function sees the dense matrix.

Sums run over examples side by side, so the work lies as [features, batch]. torch's `embedding_bag` with weights of its own is
such a product (2 to 3 times as fast on a CPU as `torch.sparse.mm`), `torch.sparse.sampled_addmm` the weights' gradient.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear as torch_linear
from torch.utils._pytree import tree_map

from maskbench.masks.pruning import places

TYPES = (torch.float32, torch.float64)
OVERHEAD, PER_ONE = 12_000, 5  # of a step by kept values, in entries of a dense one: measured, see `pays`


def pays(shape: Sequence[int], count: int) -> bool:
    """Whether a training step of a Linear layer [outputs, inputs] is cheaper by its `count` kept values than as w * m.

    A rule of shape and count alone, so that equal commands give equal bits: fitted to measured steps of one thread at batch
    60 (product, both gradients, fused Adam). Large matrices gain below a fifth, those under 12,000 weights never.
    """
    return OVERHEAD + PER_ONE * count <= shape[0] * shape[1]


class Pattern:
    """Where the ones of a mask lie. It never changes, so copies of what holds it share it.

    Args:
        flat: their places in the flattened mask, int64 [count], ascending: the order of the kept values.
        shape: of the mask, (outputs, inputs). It may have empty rows, full rows, or no ones at all.

    Attributes:
        empty: a tensor of the mask's shape whose entries mean nothing.
    """

    def __init__(self, flat: Tensor, shape: Sequence[int]) -> None:
        self.flat, self.shape = flat, tuple(shape)
        outputs, inputs = self.shape
        row, column = flat // inputs, flat % inputs
        self.column, self.starts = column.int(), starts(row, outputs)
        order = by_columns(column, inputs)
        self.order, self.row, self.column_starts = order.int(), row[order].int(), starts(column, inputs)
        self.empty = torch.empty(1, device=flat.device).expand(self.shape)
        self._sampler: dict[torch.dtype, Tensor] = {}

    @classmethod
    def of(cls, mask: Tensor) -> "Pattern":
        """That of a mask, bool [outputs, inputs]."""
        return cls(places(mask.detach()), mask.shape)

    def __deepcopy__(self, memo: dict) -> "Pattern":
        return self

    @property
    def count(self) -> int:
        """How many ones there are."""
        return len(self.flat)

    def gather(self, matrix: Tensor) -> Tensor:
        """The kept entries [count] of a dense matrix [outputs, inputs]."""
        return matrix.flatten().index_select(0, self.flat)

    def scatter(self, values: Tensor) -> Tensor:
        """The dense matrix [outputs, inputs] of kept values [count], exactly 0 elsewhere; differentiable."""
        return values.new_zeros(self.shape[0] * self.shape[1]).scatter(0, self.flat, values).view(self.shape)

    def product(self, values: Tensor, x: Tensor) -> Tensor:
        """(w * m) x, of x [inputs, batch]: [outputs, batch]. No autograd."""
        return summed(x, self.column, self.starts, values)

    def transposed_product(self, values: Tensor, g: Tensor) -> Tensor:
        """(w * m)^T g, of g [outputs, batch]: [inputs, batch]. No autograd."""
        return summed(g, self.row, self.column_starts, values.detach().index_select(0, self.order))

    def sampled(self, g: Tensor, x: Tensor) -> Tensor:
        """The kept entries [count] of g x^T, of g [outputs, batch] and x [inputs, batch]; nothing else of it is computed."""
        if not self.count:
            return g.new_zeros(0)
        return torch.sparse.sampled_addmm(self.sampler(g.dtype), g, x.t(), beta=0.0).values()

    def sampler(self, dtype: torch.dtype) -> Tensor:
        """A matrix in compressed rows with these places."""
        if dtype not in self._sampler:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says once a process that this layout is new
                zeros = torch.zeros(self.count, dtype=dtype)
                self._sampler[dtype] = torch.sparse_csr_tensor(self.starts, self.column, zeros, self.shape)
        return self._sampler[dtype]


def by_columns(column: Tensor, inputs: int) -> Tensor:
    """The order that takes kept values column by column, and within one row by row, as they come."""
    if column.device.type == "cpu" and inputs < 1 << 15:  # numpy sorts numbers of two bytes ten times as fast
        return torch.from_numpy(column.numpy().astype(np.int16).argsort(kind="stable"))
    return column.argsort(stable=True)


def starts(rows: Tensor, count: int) -> Tensor:
    """Where the entries of each of `count` rows begin, and the end of the last: int32 [count + 1]."""
    return torch.cat([rows.new_zeros(1), rows.bincount(minlength=count).cumsum(0)]).int()


def summed(rows: Tensor, places: Tensor, begins: Tensor, factors: Tensor) -> Tensor:
    """Sums of chosen rows times their factors, one for each stretch of `places`."""
    # torch.nn.functional.embedding_bag would ask the same of every call, which here costs a tenth of it; 0 is "sum"
    return torch.embedding_bag(rows, places, begins, False, 0, False, factors.detach(), True)[0]


class SparseLinear(torch.autograd.Function):
    """x [batch, inputs], kept values [count], bias [outputs] or None -> x (w * m)^T + bias [batch, outputs].

    The result lies feature by feature in memory, as the next such layer wants it. No second derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, pattern: Pattern) -> Tensor:
        side = x.detach().t().contiguous()
        y = pattern.product(values, side)
        if bias is not None:
            y += bias[:, None]
        ctx.save_for_backward(side, values)
        ctx.pattern = pattern
        return y.t()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("a layer of kept values has no second derivative: compute it by the dense weight (kernel=dense)")
        side, values = ctx.saved_tensors
        wants, pattern, g = ctx.needs_input_grad, ctx.pattern, g.t().contiguous()
        return (
            pattern.transposed_product(values, g).t() if wants[0] else None,
            pattern.sampled(g, side) if wants[1] else None,
            g.sum(1) if wants[2] else None,
            None,
        )


def linear(x: Tensor, values: Tensor, bias: Tensor | None, pattern: Pattern) -> Tensor:
    """torch's `linear` [..., inputs] -> [..., outputs] with the weight that has `values` [count] where `pattern` says.

    Off the CPU, under autocast and in half precision the product is the dense one of the scattered values.
    """
    plain = x.device.type == "cpu" and x.dtype == values.dtype in TYPES and not torch.is_autocast_enabled("cpu")
    if not plain:
        return torch_linear(x, pattern.scatter(values), bias)
    if x.ndim == 2:
        return SparseLinear.apply(x, values, bias, pattern)
    return SparseLinear.apply(x.reshape(-1, x.shape[-1]), values, bias, pattern).reshape(*x.shape[:-1], pattern.shape[0])


class SparseWeight(Tensor):
    """What stands in for a weight [outputs, inputs] of which only kept values are stored.

    `torch.nn.Linear` computes with these; to every other function it is the dense matrix, made anew at each use.
    """

    kept: Tensor
    pattern: Pattern

    @staticmethod
    def __new__(cls, values: Tensor, pattern: Pattern) -> "SparseWeight":
        made = pattern.empty.as_subclass(cls)
        made.kept, made.pattern = values, pattern
        return made

    @classmethod
    def __torch_function__(cls, func: Callable, types: Sequence[type], args: Sequence = (), kwargs: Mapping | None = None) -> Any:
        if func is torch_linear and not kwargs and len(args) == 3:  # as torch.nn.Linear calls it
            x, weight, bias = args
            if type(weight) is cls and type(x) is not cls:
                return linear(x, weight.kept, bias, weight.pattern)
        plain = tree_map(lambda value: value.dense() if isinstance(value, cls) else value, (tuple(args), dict(kwargs or {})))
        return func(*plain[0], **plain[1])

    def dense(self) -> Tensor:
        """The matrix itself, 0 where nothing is kept."""
        return self.pattern.scatter(self.kept)


class BlockDiagonal:
    """Layers of one shape of many nets as one: their matrices along the diagonal of a large one, which costs their ones alone.

    A layer of n nets takes their inputs side by side, [batch, n * inputs], and gives [batch, n * outputs]: one product in the
    place of n, and one vector of values for the optimiser. Net by net, results are those of the nets alone.

    Args:
        patterns: of each net's layer, all of one shape.

    Attributes:
        pattern: of the large matrix, for `linear`.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        (outputs, inputs), n = patterns[0].shape, len(patterns)
        places = []
        for number, pattern in enumerate(patterns):
            row, column = pattern.flat // inputs, pattern.flat % inputs
            places.append((number * outputs + row) * (n * inputs) + number * inputs + column)
        self.pattern = Pattern(torch.cat(places), (n * outputs, n * inputs))
        self.counts = [pattern.count for pattern in patterns]

    def join(self, values: Sequence[Tensor]) -> Tensor:
        """The kept values of all nets, as `pattern` has them."""
        return torch.cat(list(values))

    def split(self, values: Tensor) -> list[Tensor]:
        """Those of each net, as views."""
        return list(values.split(self.counts))
