"""One layer of a target as two random layers, by a mask: the construction of Malach et al. (2020, arXiv 2002.00585).

Every input i gets N neurons u[k, i] of its own in the first random layer; the second has an entry v[k, j, i] from each of
them to each output j. A kept pair contributes v relu(u x_i): |u| v relu(x_i) where u > 0, |u| v relu(-x_i) where u < 0. So
the kept pairs with u > 0 must sum up to w[j, i], those with u < 0 to -w[j, i]; the latter are not needed where inputs are
never negative. Which pairs to keep is a rule: one pair (Malach et al.), or any subset (Pensia et al., arXiv 2006.07990).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskbench.backbones.random_relu import Drawn, Linear, RandomReLU, Spread, Sums
from maskbench.common.streams import generator
from maskbench.methods.theory import subset_sums
from maskbench.methods.theory.certify import Map

DENSE = 32_000_000  # entries up to which storage=auto keeps the whole random net
CHUNK = 2**20  # entries worked on at once, where a sum runs over candidates
Watch = Callable[[int, int], None]  # called with (weights done, of all)

# ---- rules: which candidates stand for a weight


class Rule(NamedTuple):
    """How candidates are chosen.

    Attributes:
        name: for the record.
        choose: (u [weights, n] without signs, v [weights, n], goal [weights], tolerance) -> kept, bool [weights, n].
        growth: by which a width that was too narrow grows in a search.
        solver: what solves it, in words.
    """

    name: str
    choose: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    growth: float
    solver: str


def one(place: Tensor, n: int) -> Tensor:
    """One-hot masks, bool [weights, n]."""
    return torch.nn.functional.one_hot(place, n).bool()


def two_coordinate(u: Tensor, v: Tensor, goal: Tensor, eps: float) -> Tensor:
    """The pair that is nearest to (|w|, sign w) in both coordinates: the proof's own choice."""
    far = torch.maximum((u - goal.abs()[:, None]).abs(), (v - goal.sign()[:, None]).abs())
    return one(far.argmin(1), u.shape[1])


def product(u: Tensor, v: Tensor, goal: Tensor, eps: float) -> Tensor:
    """The pair whose product is nearest to w."""
    return one((u * v - goal[:, None]).abs().argmin(1), u.shape[1])


PICKS = {rule.__name__: Rule(rule.__name__, rule, 2.0, "exact (all pairs)") for rule in (two_coordinate, product)}

SOLVERS = {  # of `min_error`
    "meet_in_the_middle": (subset_sums.meet_in_the_middle, "meet in the middle, exact"),
    "milp": (subset_sums.milp, "scipy milp (HiGHS)"),
    "greedy": (subset_sums.greedy, "greedy, a heuristic"),
}


def subsets(objective: str = "min_error", solver: str = "meet_in_the_middle") -> Rule:
    """Any subset: of least error, or with `min_size` the smallest whose error is within the tolerance.

    Where there are more than 24 candidates, only those with the 24 largest |u| count.
    """
    solve, words = SOLVERS[solver]

    def choose(u: Tensor, v: Tensor, goal: Tensor, eps: float) -> Tensor:
        top = subset_sums.cut(u)
        values = u.gather(1, top) * v.gather(1, top)
        aims = goal[:, None]
        if objective == "min_error":
            chosen = solve(values, aims)
        else:
            chosen = subset_sums.milp(values, aims, eps) if solver == "milp" else subset_sums.smallest(values, aims, eps)
        return torch.zeros_like(u, dtype=torch.bool).scatter_(1, top, chosen.kept[:, 0])

    words = words if objective == "min_error" or solver == "milp" else "smallest subset within the tolerance, exact"
    return Rule("subset_sum", choose, 1.25, words)


def typical_error(n: int, variance: float) -> float:
    """Median least error of the subset sums of n numbers of this variance, up to a factor near 1.6 (section 2)."""
    return math.log(2) * math.sqrt(2 * math.pi * n * variance) / 2 ** (n + 1)


# ---- the two random layers


class Pairs(NamedTuple):
    """The random candidates of one layer: u [N, inputs] and v [N, outputs, inputs]. A wider draw begins with a narrower one."""

    u: Tensor
    v: Tensor


def draw(shape: tuple[int, int], width: int, distribution: str, *stream: object) -> Pairs:
    """N = `width` candidates for every weight of a layer [outputs, inputs], from the named stream."""
    d_out, d_in = shape
    law = LAWS[distribution]
    return Pairs(
        law(torch.rand(width, d_in, generator=generator(*stream, "u"))),
        law(torch.rand(width, d_out, d_in, generator=generator(*stream, "v"))),
    )


LAWS = {  # of the random weights, from numbers uniform on [0, 1), one from each: so that a wider draw begins alike
    "uniform": lambda p: 2 * p - 1,
    "normal": lambda p: math.sqrt(2) * torch.erfinv((2 * p - 1).clamp(-1 + 1e-7, 1 - 1e-7)),
}


def choose(w: Tensor, pairs: Pairs, both: bool, rule: Rule, eps: float, watch: Watch = lambda *_: None) -> Tensor:
    """Which pairs are kept, bool [N, outputs, inputs]. w: [outputs, inputs] in float64; `both` sides, or only u > 0."""
    kept = torch.zeros(pairs.v.shape, dtype=torch.bool)
    sides = (1, -1) if both else (1,)
    done, total = 0, len(sides) * w.numel()
    for side in sides:
        usable = pairs.u * side > 0
        for n in usable.sum(0).unique().tolist():
            alike = (usable.sum(0) == n).nonzero().squeeze(1)  # inputs that have this many candidates
            for inputs in alike.split(max(1, CHUNK // max(1, n * w.shape[0]))):
                if n:
                    k = usable[:, inputs].T.nonzero()[:, 1].view(-1, n)  # [inputs, n]
                    u = pairs.u[k, inputs[:, None]].abs().double()
                    v = pairs.v[k, :, inputs[:, None]].double().transpose(1, 2)  # [inputs, outputs, n]
                    goal = side * w[:, inputs].T
                    chosen = rule.choose(u[:, None].expand_as(v).reshape(-1, n), v.reshape(-1, n), goal.reshape(-1), eps)
                    kept[k, :, inputs[:, None]] = chosen.view(v.shape).transpose(1, 2)
                done += len(inputs) * w.shape[0]
                watch(done, total)
    return kept


def effect(u: Tensor, v: Tensor, kept: Tensor, both: bool) -> Map:
    """What the kept pairs compute, as matrices; float64, exact up to the order of the sums."""
    sides = []
    for side in (1, -1) if both else (1,):
        sign = (u * side > 0) * u.abs().double()
        total = torch.zeros(v.shape[1:], dtype=torch.float64)
        step = max(1, CHUNK // total.numel())
        for s, values, mask in zip(sign.split(step), v.split(step), kept.split(step), strict=True):
            total += (s[:, None] * values * mask).sum(0)
        sides.append(total)
    return Map(sides[0], sides[1] if both else None)


# ---- two plans of how a target layer becomes random layers: as in the theorems, and as in the authors' code


class TwoLayers:
    """The theorems' plan: a target layer becomes two random layers, of which a mask keeps the pairs that the rule chose.

    `storage` dense keeps the whole first random matrix, block only the entries that a mask can keep, auto the whole one
    while the random net has at most 32 million entries. Both compute the same.
    """

    normalised = True  # targets are scaled to spectral norm 1

    def __init__(self, rule: Rule, distribution: str, storage: str) -> None:
        self.rule, self.distribution, self.storage = rule, distribution, storage

    def net(self, depth: int) -> RandomReLU:
        layers: list[Drawn] = []
        for _ in range(depth):
            layers += [Spread(), Linear()]
        return RandomReLU(layers)

    def names(self, layer: int) -> list[str]:
        return [f"layers.{2 * layer}.weight", f"layers.{2 * layer + 1}.weight"]

    def draw(self, goals: Sequence[Tensor], layer: int, width: int, *stream: object) -> Pairs:
        return draw(tuple(goals[layer].shape), width, self.distribution, *stream, layer)

    def choose(self, w: Tensor, pairs: Pairs, both: bool, eps: float, watch: Watch = lambda *_: None) -> Tensor:
        return choose(w, pairs, both, self.rule, eps, watch)

    def effect(self, pairs: Pairs, kept: Tensor, both: bool) -> Map:
        return effect(*pairs, kept, both)

    def dense(self, shapes: Sequence[tuple[int, int]], width: int) -> bool:
        return self.storage == "dense" or (self.storage == "auto" and self.entries(shapes, width) <= DENSE)

    def entries(self, shapes: Sequence[tuple[int, int]], width: int) -> int:
        """Random entries of the dense random net."""
        return sum(width * d_in * (d_in + d_out) for d_out, d_in in shapes)

    def candidates(self, shapes: Sequence[tuple[int, int]], width: int) -> int:
        """Entries that some mask may keep."""
        return sum(width * d_in * (1 + d_out) for d_out, d_in in shapes)

    def widths(self, shape: tuple[int, int], width: int) -> list[int]:
        """Outputs of the random layers that stand for a target layer."""
        return [width * shape[1], shape[0]]

    def tensors(self, pairs: Pairs, dense: bool, *stream: object) -> list[Tensor]:
        """The weights of the random layers."""
        (width, d_in), d_out = pairs.u.shape, pairs.v.shape[1]
        second = pairs.v.transpose(0, 1).reshape(d_out, width * d_in).contiguous()
        if not dense:
            return [pairs.u[..., None].clone(), second]
        first = LAWS[self.distribution](torch.rand(width, d_in, d_in, generator=generator(*stream, "rest")))
        first.diagonal(dim1=1, dim2=2).copy_(pairs.u)
        return [first.view(width * d_in, d_in), second]

    def masks(self, kept: Tensor, dense: bool) -> list[Tensor]:
        """Of the two layers: a pair's second entry, and its first if any output keeps a pair with it."""
        width, d_out, d_in = kept.shape
        used = kept.any(1)
        first = torch.diag_embed(used).view(width * d_in, d_in) if dense else used[..., None]
        return [first, kept.transpose(0, 1).reshape(d_out, width * d_in)]

    def read(self, weights: Sequence[Tensor], masks: Sequence[Tensor], both: bool) -> Map:
        """What a pair of masked layers computes, from the net's own tensors; no pair counts whose first entry is masked."""
        d_out, total = weights[1].shape
        shape = (-1, weights[0].shape[1]) if weights[0].ndim == 3 else (-1, weights[0].shape[1], weights[0].shape[1])
        first, used = weights[0].reshape(shape), masks[0].reshape(shape)
        if first.ndim == 3:
            first, used = first.diagonal(dim1=1, dim2=2), used.diagonal(dim1=1, dim2=2)
        size = (d_out, *first.shape)
        v, kept = weights[1].reshape(size).transpose(0, 1), masks[1].reshape(size).transpose(0, 1)
        return effect(first, v, kept & used[:, None], both)


class SharedSums:
    """The plan of Pensia et al.'s public code, kept for comparison: each weight is a sum of some of n uniform numbers on the
    range of the whole target's weights and 0, one set of n for a whole output. No single random net has such weights.
    """

    normalised = False

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def net(self, depth: int) -> RandomReLU:
        return RandomReLU([Sums() for _ in range(depth)])

    def names(self, layer: int) -> list[str]:
        return [f"layers.{layer}.weight"]

    def draw(self, goals: Sequence[Tensor], layer: int, width: int, *stream: object) -> Tensor:
        """[outputs, inputs, n], the same for all inputs of an output."""
        w = goals[layer]
        low, high = min(0.0, *(goal.min().item() for goal in goals)), max(0.0, *(goal.max().item() for goal in goals))
        uniform = torch.rand(width, w.shape[0], generator=generator(*stream, layer, "coefficients")).T.double()
        return (low + (high - low) * uniform).float()[:, None].expand(*w.shape, width)

    def choose(self, w: Tensor, numbers: Tensor, both: bool, eps: float, watch: Watch = lambda *_: None) -> Tensor:
        parts = []
        for values, goal in zip(numbers.split(10), w.split(10), strict=True):
            rows = values.double().flatten(0, 1)
            parts.append(self.rule.choose(torch.ones_like(rows), rows, goal.flatten(), eps).view(values.shape))
            watch(min(10 * len(parts), len(w)) * w.shape[1], w.numel())
        return torch.cat(parts)

    def effect(self, numbers: Tensor, kept: Tensor, both: bool) -> Map:
        return self.read([numbers], [kept], both)

    def dense(self, shapes: Sequence[tuple[int, int]], width: int) -> bool:
        return True

    def entries(self, shapes: Sequence[tuple[int, int]], width: int) -> int:
        return sum(width * d_out for d_out, _ in shapes)

    def candidates(self, shapes: Sequence[tuple[int, int]], width: int) -> int:
        return sum(width * d_out * d_in for d_out, d_in in shapes)

    def widths(self, shape: tuple[int, int], width: int) -> list[int]:
        return [shape[0]]

    def tensors(self, numbers: Tensor, dense: bool, *stream: object) -> list[Tensor]:
        return [numbers.contiguous()]

    def masks(self, kept: Tensor, dense: bool) -> list[Tensor]:
        return [kept]

    def read(self, weights: Sequence[Tensor], masks: Sequence[Tensor], both: bool) -> Map:
        w = (weights[0].double() * masks[0]).sum(-1)
        return Map(w, -w if both else None)
