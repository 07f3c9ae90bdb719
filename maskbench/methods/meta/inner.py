"""Inner loops: gradient steps on a dict of weights, of first or second order, and many tasks side by side. Pure functions."""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import islice

import torch
from torch import Tensor
from torch.func import grad, vmap

Weights = dict[str, Tensor]
Loss = Callable[[Weights], Tensor]


def steps(loss: Loss, weights: Weights, rates: Mapping[str, float], first_order: bool = False) -> Iterator[Weights]:
    """The weights before any step, after one step of gradient descent, after two, ...: w - rate * dloss/dw.

    Only weights that have a rate move. The result is differentiable by what `weights` and `loss` were made of, through
    the gradients too; with `first_order` these count as constants.
    """
    while True:
        yield weights
        weights = weights | step(loss, weights, rates, first_order)


def step(loss: Loss, weights: Weights, rates: Mapping[str, float], first_order: bool) -> Weights:
    """The weights that have a rate, after one step."""
    moving = {name: weights[name] for name in rates}

    def moved(values: Weights) -> Tensor:
        return loss(weights | values)

    if first_order:
        with torch.no_grad():  # of what lies outside of `grad`: nothing of the gradient's making is remembered
            slopes = grad(moved)(moving)
    else:
        slopes = grad(moved)(moving)
    return {name: w - rates[name] * slopes[name] for name, w in moving.items()}


def adapted(loss: Loss, weights: Weights, rates: Mapping[str, float], count: int, first_order: bool = False) -> Weights:
    """The weights after `count` steps."""
    return next(islice(steps(loss, weights, rates, first_order), count, None))


def masked(weights: Weights, masks: Weights) -> Weights:
    """w * m where there is a mask; a gradient step on w then leaves what the mask drops where it is."""
    return weights | {name: weights[name] * m for name, m in masks.items()}


def over_tasks(one: Callable[..., Tensor], *parts: Tensor, side_by_side: bool) -> Tensor:
    """`one` of each task, stacked: parts are [tasks, ...] each. Side by side (vmap) or one after another, equal but for
    rounding: narrow nets are several times as fast side by side, convolutions on a CPU often slower."""
    if side_by_side:
        return vmap(one)(*parts)
    return torch.stack([one(*part) for part in zip(*parts, strict=True)])


def selected(names: list[str], patterns: list[str]) -> list[str]:
    """The names that a pattern (as of file names) fits and no pattern after a `!` does: `["*", "!head.*"]` is the body."""
    wanted = [p for p in patterns if not p.startswith("!")]
    barred = [p[1:] for p in patterns if p.startswith("!")]

    def fits(name: str, some: list[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in some)

    return [name for name in names if fits(name, wanted) and not fits(name, barred)]
