"""Cuts of a ranking that is cut again and again: where the last one fell says where to look for the next.

Scores move little in a training step, and their cut less. One pass over them counts what lies below a window around the last
cut and marks what lies inside; among the few hundred values there the cut is selected, exactly. What a `Cutter` remembers
decides what a cut costs and never which one it is, so it is neither part of a state nor of a run's bits.
"""

import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskbench.masks.cuts import Cut, cut, cuts, ranking

SMALL = 4096  # below so many values selection among all of them costs no more than the pass
CROWDED = 1 / 32  # a window that holds a larger share of the values is too wide
BEGIN = 1 / 64  # reach of a window as a share of the value it stands around, where nothing is known of its movements
WIDER, NARROWER = 4, 0.9  # times the last movement, times the last reach: of 600 cuts of a run one to five leave such a window


class Cutter:
    """`cut` and `cuts` (cuts.py) of one ranking, for calls that follow each other: the same cuts, for one pass over the scores.

    Where a cut left its window it is found as `cut` finds it, and so it is in the first call. On devices other than the CPU
    nothing is remembered: there a cut is two tensors, found without asking the device for a number.
    """

    def __init__(self) -> None:
        self.last: tuple[float, float] | None = None  # where the ranking was cut, and how far from there the next one is sought
        self.parts: list[Cutter] = []  # of the single tensors in a joint ranking

    def cut(self, score: Tensor, count: int, magnitude: bool = False) -> Cut:
        """The cut that keeps the `count` highest of the n scores (any shape), exactly, ties as `cuts.cut` has them; with
        `magnitude` by |score|.

        Raises:
            ValueError: `count` is not within 0 .. n. FloatingPointError: a score is NaN (on the CPU; elsewhere nobody waits
            for the device to say so, and what is NaN is not kept).
        """
        n = score.numel()
        if score.device.type != "cpu" and 0 <= count <= n:
            return cut_there(score, count, magnitude)
        if n < SMALL or not 0 < count < n or not score.is_floating_point():
            return cut(score, count, magnitude)
        found = self._inside(ranking(score.detach(), magnitude).numpy(), n - count)
        if found is None:
            found = cut(score, count, magnitude)
            self._begin(found.value)
        return found

    def cuts(self, scores: Sequence[Tensor], count: int, least: int = 0, magnitude: bool = False) -> list[Cut]:
        """One cut through the joint ranking of several tensors, as it falls in each of them; see `cuts.cuts`."""
        if len(self.parts) != len(scores):
            self.parts = [Cutter() for _ in scores]
        return cuts(scores, count, least, magnitude, by=[*(part.cut for part in self.parts), self.cut])

    def _inside(self, ranks: np.ndarray, drop: int) -> Cut | None:
        """The cut above the `drop`-th smallest of the values (flat), if that lies inside the window and no value is NaN."""
        if self.last is None:
            return None
        value, reach = self.last
        limit = float(np.finfo(ranks.dtype).max)
        low, high = max(value - reach, -limit), min(value + reach, limit)
        below, above = _flags(ranks.size)
        np.less(ranks, low, out=below)
        np.greater(ranks, high, out=above)
        place = drop - 1 - int(np.count_nonzero(below))  # of the cut, among what is inside
        inside = np.flatnonzero(np.equal(below, above, out=above))  # neither below nor above: NaN, too
        if not 0 <= place < inside.size:
            return None
        crowd = ranks[inside]
        order = np.partition(crowd, place)
        if np.isnan(order[place:].max()):
            return None
        value = order[place]
        ties = int(np.count_nonzero(order[place + 1 :] == value))
        self._move(float(value), inside.size > CROWDED * ranks.size)
        return Cut(float(value), int(inside[np.flatnonzero(crowd == value)[-ties]]) if ties else ranks.size)

    def _move(self, value: float, crowded: bool) -> None:
        """The cut was found inside the window: the next one is sought around it, as far as the last few moved."""
        before, reach = self.last
        moved = abs(value - before)
        if moved or crowded:  # scores that are ranked twice say nothing of how they move
            self.last = value, max(WIDER * moved, reach * (0.5 if crowded else NARROWER))

    def _begin(self, value: float) -> None:
        """The cut was found outside the window, or there was none."""
        reach = 2 * self.last[1] if self.last else 0.0
        self.last = (value, max(reach, BEGIN * abs(value))) if math.isfinite(value) else None


def cut_there(score: Tensor, count: int, magnitude: bool = False) -> Cut:
    """The cut that keeps the `count` highest of n scores, 0 <= count <= n, as two tensors [] on their device, found without a
    host round trip; of scores that are NaN none is kept."""
    rank = (score.detach().abs() if magnitude else score.detach()).flatten()
    if count in (0, rank.numel()):
        value, tie = (-math.inf, 0) if count else (math.inf, rank.numel())
        return Cut(rank.new_full((), value), rank.new_full((), tie, dtype=torch.long))
    value = rank.sort().values[rank.numel() - count - 1]  # the highest that goes
    equal = rank == value
    seen = equal.cumsum(0)
    dropped = seen[-1] - (count - (rank > value).sum())  # equals that go: those of lowest index
    return Cut(value, torch.searchsorted(seen, dropped + 1))


_memory = threading.local()


def _flags(n: int) -> np.ndarray:
    """Two rows of n bools, for work that ends before the next call: the same memory again and again."""
    flags = getattr(_memory, "flags", None)
    if flags is None or flags.size < 2 * n:
        flags = _memory.flags = np.empty(2 * n, dtype=bool)
    return flags[: 2 * n].reshape(2, n)
