"""A split made of rows of several others, which may lie in different tensors or be seen through different views."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from maskbench.data.stage import Feed, Split, View


@dataclass(frozen=True, eq=False)
class Mixed:
    """Rows of several splits in an order of their own: the same methods as `Split`.

    Args:
        parts: the splits, of inputs of one shape.
        order: rows of the parts laid end to end, [rows of this split].
    """

    parts: tuple[Split, ...]
    order: Tensor

    @cached_property
    def y(self) -> Tensor:
        return torch.cat([part.y for part in self.parts])[self.order]

    @property
    def x(self) -> Tensor:
        """The inputs of the first part, as a split has those that stages share."""
        return self.parts[0].x

    @property
    def augment(self) -> View | None:
        return self.parts[0].augment

    def __len__(self) -> int:
        return len(self.order)

    def __add__(self, other: Split) -> Split:
        return Split(*self.tensors(), augment=self.augment) + other

    def tensors(self, device: torch.device | str = "cpu", first: int | None = None) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the whole split, or of its `first` rows, on `device`."""
        return self.pick(torch.arange(len(self))[:first], device)

    def batches(self, size: int, device: torch.device | str = "cpu", first: int | None = None) -> Iterable[tuple[Tensor, Tensor]]:
        """What `tensors` gives, in pieces of at most `size` rows."""
        return (self.pick(index, device) for index in torch.arange(len(self))[:first].split(size))

    def pick(self, index: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the rows number `index` of this split, [rows picked], on `device`."""
        rows, x, start = self.order[index], None, 0
        for part in self.parts:
            here = ((rows >= start) & (rows < start + len(part))).nonzero().squeeze(1)
            own, _ = part.pick(rows[here] - start, device)
            x = own.new_empty(len(rows), *own.shape[1:]) if x is None else x
            x[here.to(x.device)] = own
            start += len(part)
        return x, self.y[index].to(device)

    def feed(self, device: torch.device | str = "cpu") -> Feed:
        """The whole split on `device`, to take training batches from."""
        return Feed(*self.tensors(device), self.augment)

    def update(self, digest: "hashlib._Hash") -> None:
        """Add all that decides this split's content, apart from the shared inputs, to a hash."""
        for part in self.parts:
            part.update(digest)
        digest.update(self.order.numpy().tobytes())


def take(split: Split, index: Tensor) -> Split:
    """The rows number `index` of a split, in that order."""
    if isinstance(split, Mixed):
        return Mixed(split.parts, split.order[index])
    return replace(split, y=split.y[index], rows=index if split.rows is None else split.rows[index])


def join(parts: tuple[Split, ...], order: Tensor) -> Split | Mixed:
    """The rows of several splits in an order; one split, where they lie in one tensor and are seen alike."""
    first = parts[0]
    if any(part.x is not first.x or getattr(part, "view", None) != getattr(first, "view", None) for part in parts):
        return Mixed(parts, order)
    rows = [torch.arange(len(part)) if part.rows is None else part.rows for part in parts]
    return replace(first, y=torch.cat([part.y for part in parts])[order], rows=torch.cat(rows)[order])
