"""How far apart are two ReLU nets over the unit ball? A certificate from above, ascent and samples from below.

A net is a list of `Map`s with ReLUs between them. All in float64.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SAFE = 1 + 1e-9  # above the rounding of float64 in norms and products


class Map(NamedTuple):
    """x -> plus relu(x) + minus relu(-x), each [outputs, inputs]; a linear map W is (W, -W).

    `minus` None: it is never needed, as inputs are not negative.
    """

    plus: Tensor
    minus: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        positive = x.relu() @ self.plus.T
        return positive if self.minus is None else positive + (-x).relu() @ self.minus.T


def linear(w: Tensor) -> Map:
    """A linear map as a `Map`."""
    return Map(w, -w)


def run(net: Sequence[Map], x: Tensor) -> Tensor:
    """[points, inputs] -> [points, outputs]."""
    for layer in net[:-1]:
        x = layer(x).relu()
    return net[-1](x)


def norm(w: Tensor) -> float:
    """The spectral norm."""
    return torch.linalg.matrix_norm(w.double(), 2).item()


def layer_error(w: Tensor, stand_in: Map) -> float:
    """sup over the unit ball of |stand_in(x) - w x|, bounded: the spectral norm of the two sides' errors side by side,
    since (relu(x), relu(-x)) is as long as x."""
    sides = [stand_in.plus - w] + ([] if stand_in.minus is None else [stand_in.minus + w])
    return norm(torch.cat(sides, 1))


def certificate(target: Sequence[Tensor], stand_in: Sequence[Map]) -> float:
    """An upper bound of sup |stand_in(x) - target(x)|_2 over the unit ball (or its part that the maps cover).

    delta_l = delta_{l-1} (s_l + e_l) + e_l r_{l-1} with s_l the target layer's spectral norm, e_l its error and
    r_l = r_{l-1} s_l the length that the target's signal can have (pruning_theory.md section 2).
    """
    delta, reach = 0.0, 1.0
    for w, layer in zip(target, stand_in, strict=True):
        s, e = norm(w), layer_error(w, layer)
        delta, reach = delta * (s + e) + e * reach, reach * s
    return delta * SAFE


def tolerances(eps: float, shapes: Sequence[tuple[int, int]], both: Sequence[bool]) -> list[float]:
    """Error of each weight that suffices for a certificate <= eps on a net of spectral norms 1, layer by layer.

    Layers share eps evenly, (1 + e)^l = 1 + eps, and e bounds the Frobenius norm of sides * d_in * d_out equal errors.
    """
    e = (1 + eps) ** (1 / len(shapes)) - 1
    return [e / ((1 + two) * d_out * d_in) ** 0.5 for (d_out, d_in), two in zip(shapes, both, strict=True)]


# ---- from below


def project(x: Tensor, nonnegative: bool) -> Tensor:
    """The nearest points of the unit ball, or of its part without negative coordinates."""
    x = x.clamp(min=0) if nonnegative else x
    return x / x.norm(dim=1, keepdim=True).clamp(min=1)


def sphere(points: int, dimension: int, nonnegative: bool, generator: torch.Generator) -> Tensor:
    """Random unit vectors, [points, dimension]."""
    x = torch.randn(points, dimension, dtype=torch.float64, generator=generator)
    x = x.abs() if nonnegative else x
    return x / x.norm(dim=1, keepdim=True)


def ascend(difference: Callable[[Tensor], Tensor], x: Tensor, steps: int, nonnegative: bool) -> Tensor:
    """Projected gradient ascent of |difference(x)|_2 from each point; the best point that each start met."""
    best, height = x, difference(x).norm(dim=1)
    for step in range(steps):
        at = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(difference(at).norm(dim=1).sum(), at)
        length = slope.norm(dim=1, keepdim=True).clamp(min=1e-300)
        x = project(x + 0.5 * 0.95**step * slope / length, nonnegative)
        now = difference(x).norm(dim=1).detach()
        better = now > height
        best, height = torch.where(better[:, None], x, best), torch.where(better, now, height)
    return best.detach()


def highest(difference: Callable[[Tensor], Tensor], x: Tensor, count: int) -> Tensor:
    """The `count` points of x at which the difference is longest."""
    with torch.no_grad():
        height = torch.cat([difference(part).norm(dim=1) for part in x.split(1000)])
    return x[height.topk(min(count, len(x))).indices]
