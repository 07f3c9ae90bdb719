"""The devices that train one net together: each has every `world`-th row of a batch, and all draw what one device would.

What is drawn for each row is drawn for the whole batch, on every device alike, and a device takes its own rows of it (`own`):
then two devices train on the draws that one has, and their generators stay together whatever parts they have. What is a mean over
rows is weighted by how many a device has (`weight`), so that the mean over devices is that of the batch.

The training loop opens a `batch`; outside of one, and with one device, a part is the whole and everything here is free.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The batch under way: its rows on all devices together, which of them are here and whether those count, and whether norms
    look at all."""

    rows: int
    share: slice
    counts: bool
    norms: bool

    @property
    def here(self) -> int:
        return len(range(self.rows)[self.share])


_batch: Batch | None = None


def several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This device's number among them, from 0."""
    return dist.get_rank() if several() else 0


def world() -> int:
    """How many they are."""
    return dist.get_world_size() if several() else 1


def share(rows: int) -> slice:
    """This device's rows of a batch. One for which there is none has the first row too, at weight 0."""
    return slice(rank(), None, world()) if rank() < rows else slice(0, 1)


def weight(rows: int) -> float:
    """What the mean over this device's rows of a batch counts in the mean over devices: 1 where all have as many."""
    return len(range(rank(), rows, world())) * world() / rows


@contextmanager
def batch(rows: int, norms: bool = False) -> Iterator[None]:
    """Inside, this device's part is of a batch of so many rows.

    Args:
        norms: norms that standardise by the batch do so by all of it, and not by this device's rows.
    """
    global _batch
    _batch = Batch(rows, share(rows), weight(rows) > 0, norms)
    try:
        yield
    finally:
        _batch = None


@contextmanager
def uncounted() -> Iterator[None]:
    """Inside, this device's rows only keep step with the other devices: no norm over the batch counts them."""
    global _batch
    before = _batch
    _batch = None if before is None else replace(before, counts=False)
    try:
        yield
    finally:
        _batch = before


def whole(here: int) -> int:
    """How many rows all devices have together where this one has `here`: the batch's, or more where a batch is repeated."""
    if _batch is None or here % _batch.here:
        return here
    return here // _batch.here * _batch.rows


def own(drawn: Tensor) -> Tensor:
    """This device's rows of what was drawn for `whole` rows, [rows, ...]."""
    if _batch is None or len(drawn) % _batch.rows:
        return drawn
    return drawn.unflatten(0, (-1, _batch.rows))[:, _batch.share].flatten(0, 1)


def places(rows: int) -> Sequence[int]:
    """Where this device's rows are among those of the whole batch."""
    return range(rows) if _batch is None else range(rows)[_batch.share]


def placed(part: Tensor) -> Tensor:
    """[rows here, ...] at their places among those of the whole batch, [rows, ...], 0 elsewhere: what `own` gives back."""
    if _batch is None or len(part) % _batch.here:
        return part
    room = part.new_zeros(len(part) // _batch.here, _batch.rows, *part.shape[1:])
    room[:, _batch.share] = part.unflatten(0, (-1, _batch.here))
    return room.flatten(0, 1)


def whole_batch(part: Tensor) -> Tensor:
    """The rows [rows, ...] of all devices in the batch's own order, from this device's part of them.

    A gradient comes back to the rows of this device from all of them.
    """
    if _batch is None:
        return part
    return _sum(placed(part if _batch.counts else part * 0))


def by_whole_batch() -> bool:
    """Whether norms standardise by the rows of all devices."""
    return _batch is not None and _batch.norms


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each unit of [rows here, units, ...], over places and the rows of all devices: the mean [units], the biased variance
    [units], and how many values they are of."""
    counted = x.transpose(0, 1).flatten(1)  # [units, values]
    counted = counted if _batch.counts else counted[:, :0]
    values = _sum(counted.new_tensor(float(counted.shape[1])))
    mean = _sum(counted.sum(1)) / values
    return mean, _sum((counted - mean[:, None]).square().sum(1)) / values, values


def mean_over_devices(value: Tensor) -> Tensor:
    """The mean of a number that each device has of its own."""
    return _sum(value.detach()) / world() if several() else value


def as_on_first(tensors: list[Tensor]) -> None:
    """Let these tensors be on every device what they are on the first."""
    if several():
        for tensor in tensors:
            dist.broadcast(tensor, 0)


class _Sum(torch.autograd.Function):
    """The sum over devices, on each of them; a gradient is that of what all devices make of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _all_reduced(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _all_reduced(gradient)


def _sum(x: Tensor) -> Tensor:
    return _Sum.apply(x) if several() else x


def _all_reduced(x: Tensor) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total)
    return total
