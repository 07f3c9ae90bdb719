"""Sparse ReLU nets that solve a problem by construction: tickets as in Plant 'n' Seek (Fischer & Burkholz 2022, 2111.11153).

A ticket is a list of layers, all but the last followed by ReLU. What it needs of arithmetic are identities (a chain of weights
of 1), absolute values (two units), and functions of one variable, drawn through knots in straight lines (a unit a knot).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BOUNDS = (0.2, 0.5, 0.7)  # squared radii between the circle's classes
STEEPNESS = 5.0  # of the first class's score in the squared radius; each further class is twice as steep
TURNS = (2.0, 8.0)  # the helix goes from 2 pi to 8 pi


class Layer(NamedTuple):
    """An affine map: weight [outputs, inputs], bias [outputs], float64."""

    weight: Tensor
    bias: Tensor


def circle(hidden: int, knots: int) -> list[Layer]:
    """[x1, x2] of [-1, 1]^2 -> scores of four classes, rings between the squared radii BOUNDS; `hidden` layers with ReLU.

    x1^2 + x2^2 needs both squares. One hidden layer draws them through `knots` knots in [-1, 1] each; from two on the first
    takes signs off, so that the knots are in [0, 1]; from four on further layers fold the plane onto an ever smaller angle,
    where the second coordinate, and with it the error, is small.
    """
    if hidden == 1:
        half = [interpolated(torch.square, -1.0, 1.0, knots)] * 2
        return [Layer(_blocks([ends.inner.weight for ends in half]), _chain(half)), scores(half)]
    layers = [Layer(_matrix([[1, 0], [-1, 0], [0, 1], [0, -1]]), torch.zeros(4, dtype=torch.float64))]
    merge = _matrix([[1, 1, 0, 0], [0, 0, 1, 1]])  # of what the layer before computes -> the two coordinates
    reach = [1.0, 1.0]
    if hidden > 2:
        layers.append(Layer(merge, torch.zeros(2, dtype=torch.float64)))
        merge = torch.eye(2, dtype=torch.float64)
    angle = math.pi / 2
    for _ in range(hidden - 3):
        angle /= 2
        along = _matrix([[math.cos(angle), math.sin(angle)]]) @ merge
        across = _matrix([[math.sin(angle), -math.cos(angle)]]) @ merge
        layers.append(Layer(torch.cat([along, across, -across]), torch.zeros(3, dtype=torch.float64)))
        merge = _matrix([[1, 0, 0], [0, 1, 1]])
        reach = [math.sqrt(2), math.sqrt(2) * math.sin(angle)]
    half = [interpolated(torch.square, 0.0, far, knots) for far in reach]
    layers.append(Layer(_blocks([ends.inner.weight for ends in half]) @ merge, _chain(half)))
    return [*layers, scores(half)]


def relu(hidden: int, knots: int | None = None) -> list[Layer]:
    """[x] -> [max(0, x)]: a chain of weights of 1."""
    return [Layer(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))] * (hidden + 1)


def helix(hidden: int, knots: int) -> list[Layer]:
    """[x] of [-1, 1] -> (t cos t, t sin t, t) / 8 pi with t = 5 pi + 3 pi x, through `knots` knots that all three share.

    Two hidden layers and more make x + 1 first, and carry the values, raised by 1, through the layers behind the knots.
    """
    shift = 0.0 if hidden == 1 else 1.0
    ends = interpolated(lambda x: spiral(x - shift), shift - 1, shift + 1, knots)
    layers = [] if hidden == 1 else [Layer(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))]
    layers.append(ends.inner)
    if hidden < 3:
        return [*layers, ends.outer]
    same = torch.eye(3, dtype=torch.float64)
    carried = [Layer(same, torch.zeros(3, dtype=torch.float64))] * (hidden - 3)
    return [*layers, Layer(ends.outer.weight, ends.outer.bias + 1), *carried, Layer(same, torch.full((3,), -1.0).double())]


def spiral(x: Tensor) -> Tensor:
    """The helix at x [n], [n, 3]."""
    t = math.pi * ((TURNS[0] + TURNS[1]) / 2 + (TURNS[1] - TURNS[0]) / 2 * x)
    return torch.stack([t * t.cos(), t * t.sin(), t], -1) / (TURNS[1] * math.pi)


# ---- their parts


class Ends(NamedTuple):
    """A function of one variable in two layers: from it to a unit a knot, and from those to its values."""

    inner: Layer
    outer: Layer


def interpolated(f: Callable[[Tensor], Tensor], low: float, high: float, knots: int) -> Ends:
    """`f` ([n] -> [n] or [n, values]) in straight lines between `knots` + 1 evenly spaced points of [low, high], exact there.

    Every second unit is relu(knot - x) instead of relu(x - knot), so that signs are mixed as in a random net: what that adds,
    a straight line, goes to the first unit. Coefficients that rounding alone keeps from 0 are 0.
    """
    s = torch.linspace(low, high, knots + 1, dtype=torch.float64)
    y = f(s).reshape(knots + 1, -1)
    slopes = y.diff(dim=0) / s.diff()[:, None]
    turns = torch.cat([slopes[:1], slopes.diff(dim=0)])  # [knots, values]: what the slope changes by at each knot
    turns = turns.where(turns.abs() > 1e-9 * turns.abs().max(), 0.0)
    sign = torch.ones(knots, dtype=torch.float64)
    sign[1::2] = -1
    back = turns[1::2]
    outer, constant = turns.clone(), y[0] + (back * (s[0] - s[1:-1:2])[:, None]).sum(0)
    outer[0] += back.sum(0)
    return Ends(Layer(sign[:, None], -sign * s[:-1]), Layer(outer.T.contiguous(), constant))


def scores(half: Sequence[Ends]) -> Layer:
    """The circle's last layer: of each class a straight line in the squared radius, the highest of which is its own ring's."""
    radius = torch.cat([ends.outer.weight for ends in half], 1)  # [1, units]
    constant = sum(ends.outer.bias for ends in half)
    lines = [(STEEPNESS, 0.0)]
    for bound in BOUNDS:
        steep, offset = lines[-1]
        lines.append((2 * steep, offset - steep * bound))
    steep, offset = torch.tensor(lines, dtype=torch.float64).T
    return Layer(steep[:, None] * radius, steep * constant + offset)


def run(ticket: Sequence[Layer], x: Tensor) -> Tensor:
    """What a ticket computes: [n, inputs] -> [n, outputs]."""
    x = x.double()
    for layer in ticket[:-1]:
        x = (x @ layer.weight.T + layer.bias).relu()
    return x @ ticket[-1].weight.T + ticket[-1].bias


def _matrix(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _blocks(columns: Sequence[Tensor]) -> Tensor:
    return torch.block_diag(*columns)


def _chain(half: Sequence[Ends]) -> Tensor:
    return torch.cat([ends.inner.bias for ends in half])
