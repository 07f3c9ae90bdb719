"""Subset sums: which of n numbers add up to a goal? Exact solvers, a check by mixed-integer programming, a heuristic.

All take values [rows, n] and goals [rows, goals] (float64: single precision loses what more than 22 candidates gain) and
give the chosen subsets with the error that these really have. Rows are worked off in pieces, so memory stays bounded.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MOST = 24  # candidates that meet in the middle: halves of 2^12 sums
BLOCK = 2**18  # numbers of one working array: 2 MB, which stays in a core's cache
SMALL = 3  # sizes that `smallest` enumerates before it meets in the middle


class Subsets(NamedTuple):
    """Chosen subsets. kept: bool [rows, goals, n]. error: |sum of what is kept - goal|, [rows, goals]."""

    kept: Tensor
    error: Tensor


def with_error(values: Tensor, goal: Tensor, kept: Tensor) -> Subsets:
    """The error of given subsets, summed anew."""
    return Subsets(kept, ((values[:, None] * kept).sum(-1) - goal).abs())


# ---- exact


def brute_force(values: Tensor, goal: Tensor) -> Subsets:
    """The least error, out of all 2^n subsets: for tests."""
    sums = subset_sums(values)  # [rows, 2^n]
    best = (sums[:, None] - goal[..., None]).abs().argmin(-1)
    return with_error(values, goal, members(best, values.shape[1]))


def meet_in_the_middle(values: Tensor, goal: Tensor) -> Subsets:
    """The least error: for every sum of one half, the nearest completion among the sorted sums of the other.

    Raises:
        ValueError: more than 24 candidates; cut them first.
    """
    return _pieces(values, goal, _nearest)


def smallest(values: Tensor, goal: Tensor, eps: float) -> Subsets:
    """A subset of least size among those with error <= eps; where there is none, the one of least error.

    Sizes 0 to 3 are enumerated, which settles most goals when eps is coarse. The rest meets in the middle: all sums of the
    other half within eps of completing one of this half are a stretch of the sorted ones, and a table of minima over
    stretches of 2^k gives the smallest of it at once. Of subsets of one size, one with a small error is taken.
    """
    n = values.shape[1]
    kept = torch.zeros(goal.numel(), n, dtype=torch.bool)
    row = torch.arange(len(values))[:, None].expand_as(goal).flatten()  # open goals, one a row
    where = torch.arange(goal.numel())
    flat = goal.flatten()
    for size in range(min(SMALL, n) + 1):
        near = torch.cat([_of_size(values[r], flat[w], size, eps) for r, w in _parts(row, where, n)])
        hit = near >= 0
        if size:
            kept[where[hit]] = kept[where[hit]].scatter(1, _combinations(n, size)[near[hit]], True)
        row, where = row[~hit], where[~hit]
    if len(where):
        rest = _pieces(values[row], flat[where][:, None], lambda v, g: _fewest(v, g, eps))
        kept[where] = rest.kept[:, 0]
    return with_error(values, goal, kept.unflatten(0, goal.shape))


# ---- checks and heuristics


def milp(values: Tensor, goal: Tensor, eps: float | None = None, seconds: float = 60.0) -> Subsets:
    """Mixed-integer programming by HiGHS (scipy), one goal after another: least error, or with `eps` least size within it.

    Milliseconds to seconds a goal; HiGHS' own tolerances (1e-6 to 1e-7) bound how exact it can be. A goal that no subset
    reaches within `eps` keeps nothing.
    """
    n = values.shape[1]
    kept = torch.zeros(*goal.shape, n, dtype=torch.bool)
    for r, row in enumerate(values.tolist()):
        for g, aim in enumerate(goal[r].tolist()):
            x = _program(row, aim, eps, seconds)
            if x is not None:
                kept[r, g] = torch.from_numpy(x[:n] > 0.5)
    return with_error(values, goal, kept)


def _program(row: list[float], aim: float, eps: float | None, seconds: float) -> np.ndarray | None:
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.optimize import milp as solve

    n = len(row)
    if eps is not None:
        limits = LinearConstraint([row], aim - eps, aim + eps)
        answer = solve(
            np.ones(n), constraints=limits, integrality=np.ones(n), bounds=Bounds(0, 1), options={"time_limit": seconds}
        )
        return answer.x
    cost = np.append(np.zeros(n), 1.0)  # the last variable is the error
    limits = [LinearConstraint([[*row, -1.0]], -np.inf, aim), LinearConstraint([[*row, 1.0]], aim, np.inf)]
    bounds = Bounds(0, np.append(np.ones(n), np.inf))
    answer = solve(cost, constraints=limits, integrality=np.append(np.ones(n), 0), bounds=bounds, options={"time_limit": seconds})
    return answer.x


def greedy(values: Tensor, goal: Tensor) -> Subsets:
    """A heuristic, orders of magnitude worse than the exact solvers: the largest first, if it brings the sum closer."""
    kept = torch.zeros(*goal.shape, values.shape[1], dtype=torch.bool)
    left = goal.clone()
    for j in values.abs().argsort(1, descending=True).unbind(1):
        value = values.gather(1, j[:, None])  # [rows, 1]
        take = (left - value).abs() < left.abs()
        left = torch.where(take, left - value, left)
        kept.scatter_(2, j[:, None, None].expand(*goal.shape, 1), take[..., None])
    return with_error(values, goal, kept)


def cut(score: Tensor, most: int = MOST) -> Tensor:
    """Which candidates of each row stay, [rows, n] -> places [rows, most] of the highest scores, in their own order."""
    return score.topk(min(most, score.shape[1]), 1).indices.sort(1).values


# ---- inside


def subset_sums(values: Tensor) -> Tensor:
    """All sums [rows, 2^n]; bit j of the place says whether value j is in it."""
    sums = values.new_zeros(len(values), 1)
    for value in values.unbind(1):
        sums = torch.cat([sums, sums + value[:, None]], 1)
    return sums


def members(places: Tensor, n: int) -> Tensor:
    """The subsets behind places of `subset_sums`: bool [..., n]."""
    return (places[..., None] >> torch.arange(n)) & 1 == 1


def _pieces(values: Tensor, goal: Tensor, solve: Callable[[Tensor, Tensor], Tensor]) -> Subsets:
    """`solve` on pieces of rows and goals that fit BLOCK; it gives the places of whole subsets [rows, goals]."""
    n = values.shape[1]
    if n > MOST:
        raise ValueError(f"{n} candidates are too many to meet in the middle: cut them to {MOST}")
    size = 2 ** (n - n // 2)
    goals = max(1, min(goal.shape[1], BLOCK // size))
    rows = max(1, BLOCK // (size * goals))
    parts = [
        torch.cat([solve(v, g) for g in piece.split(goals, 1)], 1)
        for v, piece in zip(values.split(rows), goal.split(rows), strict=True)
    ]
    places = torch.cat(parts) if parts else goal.new_zeros(goal.shape, dtype=torch.long)
    return with_error(values, goal, members(places, n))


def _sorted(values: Tensor) -> tuple[Tensor, Tensor]:
    """All sums in ascending order, and their places."""
    sums = subset_sums(values)
    order = torch.from_numpy(np.argsort(sums.numpy(), 1))  # several times as fast as torch's on a CPU
    return sums.gather(1, order), order


def _halves(values: Tensor, goal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sorted sums of the upper half with their places, what each lower sum still lacks [rows, goals * lower], its places."""
    half = values.shape[1] // 2
    upper, upper_at = _sorted(values[:, half:])
    lower, lower_at = _sorted(values[:, :half])
    lack = (goal[:, :, None] - lower[:, None]).flatten(1)  # in order within a goal: neighbours search near each other
    return upper, upper_at, lack, lower_at


def _nearest(values: Tensor, goal: Tensor) -> Tensor:
    upper, upper_at, lack, lower_at = _halves(values, goal)
    above = torch.searchsorted(upper, lack).clamp_(max=upper.shape[1] - 1)
    below = (above - 1).clamp_(min=0)
    above_error = (upper.gather(1, above) - lack).abs_()
    below_error = (upper.gather(1, below) - lack).abs_()
    at = torch.where(below_error < above_error, below, above)
    error = torch.minimum(above_error, below_error).unflatten(1, (goal.shape[1], -1))
    return _joined(error.argmin(-1), at, upper_at, lower_at, values.shape[1] // 2)


def _joined(best: Tensor, at: Tensor, upper_at: Tensor, lower_at: Tensor, half: int) -> Tensor:
    """Places of whole subsets [rows, goals]: the `best` lower sum of each goal, and its upper one."""
    upper = at.unflatten(1, (best.shape[1], -1)).gather(2, best[..., None]).squeeze(2)
    return lower_at.gather(1, best) + (upper_at.gather(1, upper) << half)


def _fewest(values: Tensor, goal: Tensor, eps: float) -> Tensor:
    n, half, goals = values.shape[1], values.shape[1] // 2, goal.shape[1]
    upper, upper_at, lack, lower_at = _halves(values, goal)
    first = torch.searchsorted(upper, lack - eps)
    length = torch.searchsorted(upper, lack + eps, right=True) - first  # of the stretch that completes to within eps
    sizes, width = members(torch.arange(2 ** (n - half)), n - half).sum(-1, dtype=torch.int32), upper.shape[1]
    table = _minima(sizes[upper_at], int(length.max()))
    level = torch.log2(length.clamp(min=1).double()).long()
    last = (first + length - (1 << level)).clamp(min=0)
    first = first.clamp(max=width - 1)
    best = torch.minimum(table.gather(1, level * width + first), table.gather(1, level * width + last))
    at = (best % width).long()
    error = (upper.gather(1, at) - lack).abs()
    count = best // width + sizes[lower_at].repeat(1, goals)
    key = (count + error / (4 * eps)).masked_fill(length <= 0, torch.inf).unflatten(1, (goals, -1))
    places, none = _joined(key.argmin(-1), at, upper_at, lower_at, half), key.amin(-1).isinf()
    if none.any():
        rows = none.any(1)
        places[rows] = torch.where(none[rows], _nearest(values[rows], goal[rows]), places[rows])
    return places


def _minima(counts: Tensor, longest: int) -> Tensor:
    """[rows, width] -> [rows, levels * width]: the least count * width + place over 2^level places from each on, for as
    many levels as stretches of up to `longest` need."""
    width = counts.shape[1]
    levels = [counts * width + torch.arange(width, dtype=torch.int32)]
    while 2 ** len(levels) <= longest:
        before, step = levels[-1], 2 ** (len(levels) - 1)
        levels.append(before.clone())
        torch.minimum(before[:, :-step], before[:, step:], out=levels[-1][:, :-step])
    return torch.cat(levels, 1)


def _combinations(n: int, size: int) -> Tensor:
    """All subsets of `size` of n, [subsets, size]."""
    return torch.tensor(list(combinations(range(n), size)), dtype=torch.long).reshape(-1, size)


def _of_size(values: Tensor, goal: Tensor, size: int, eps: float) -> Tensor:
    """The subset of this size nearest to the goal (its number in `_combinations`), or -1 where it is off by more than eps.

    values: [goals, n], goal: [goals].
    """
    sums = values[:, _combinations(values.shape[1], size)].sum(-1) if size else values.new_zeros(len(values), 1)
    error, place = (sums - goal[:, None]).abs().min(1)
    return place.masked_fill(error > eps, -1)


def _parts(row: Tensor, where: Tensor, n: int) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, BLOCK // max(1, n**3 // 6))
    return zip(row.split(size), where.split(size), strict=True)
