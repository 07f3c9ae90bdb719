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

from maskbench.masks.cuts import Cut, cut, cuts

SMALL = 4096  # below so many values selection among all of them costs no more than the pass
CROWDED, FULL = 1 / 32, 1 / 8  # a window that holds a larger share of the values is too wide; is no help
BLOCK = 1 << 17  # values at a time, so that what is read twice is still near the processor
LIMITS = {"f": float(np.finfo("f").max), "d": float(np.finfo("d").max)}  # of the types that are ranked
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
        found = self._inside(numbers(score), n - count, magnitude)
        if found is None:
            found = cut(score, count, magnitude)
            self._begin(found.value)
        return found

    def cuts(self, scores: Sequence[Tensor], count: int, least: int = 0, magnitude: bool = False) -> list[Cut]:
        """One cut through the joint ranking of several tensors, as it falls in each of them; see `cuts.cuts`."""
        if len(self.parts) != len(scores):
            self.parts = [Cutter() for _ in scores]
        return cuts(scores, count, least, magnitude, by=[*(part.cut for part in self.parts), self.cut])

    def _inside(self, scores: np.ndarray, drop: int, magnitude: bool) -> Cut | None:
        """The cut above the `drop`-th smallest of the ranked scores (flat), if it lies inside the window and none is NaN."""
        if self.last is None:
            return None
        (value, reach), limit = self.last, LIMITS[scores.dtype.char]
        low, high = max(value - reach, -limit), min(value + reach, limit)
        below, above, room = _memory(scores)
        for begin in range(0, scores.size, BLOCK):
            block = slice(begin, begin + BLOCK)
            ranks = scores[block]
            if magnitude:
                ranks = np.abs(ranks, out=room[: ranks.size])
            np.less(ranks, low, out=below[block])
            np.greater(ranks, high, out=above[block])
        place = drop - 1 - int(np.count_nonzero(below))  # of the cut, among what is inside
        (inside,) = np.equal(below, above, out=above).nonzero()  # neither below nor above: NaN, too
        if inside.size > FULL * scores.size:
            self.last = value, reach / 4
            return None
        if not 0 <= place < inside.size:
            return None
        crowd = np.abs(scores[inside]) if magnitude else scores[inside]
        order = np.sort(crowd)  # NaN comes last
        if order[-1] != order[-1]:
            return None
        value = order[place]
        self._move(float(value), inside.size > CROWDED * scores.size)
        ties = int(np.count_nonzero(order[place + 1 :] == value))
        return Cut(float(value), int(inside[(crowd == value).nonzero()[0][-ties]]) if ties else scores.size)

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


def numbers(score: Tensor) -> np.ndarray:
    """The scores, flat, as numpy has them: their own memory where they can be, and float32 for what numpy has no type for."""
    score = score.detach()
    if score.dtype.itemsize < 4:
        score = score.float()
    return score.numpy().reshape(-1)


_local = threading.local()


def _memory(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for two flags a score and for a block of scores, for work that ends before the next call: the same memory every time,
    since on a CPU fresh memory costs more than a pass over it."""
    n, flags, room = scores.size, getattr(_local, "flags", None), getattr(_local, "room", None)
    if flags is None or flags.size < 2 * n:
        flags = _local.flags = np.empty(2 * n, dtype=bool)
    if room is None or room.dtype != scores.dtype:
        room = _local.room = np.empty(BLOCK, dtype=scores.dtype)
    return flags[:n], flags[n : 2 * n], room
