"""Among which weights a ranking is made, and how many of them stay: the whole net, a layer, a row, each M inputs, whole units.

    global          one ranking of all weights
    layer           one a layer, with the counts of a distribution (distributions.py)
    row             one a row, the weights into one output, of which all have equal counts (Wanda, arXiv 2306.11695)
    N:M             one in each M consecutive inputs of an output (of a convolution: input channels at one kernel place)
    unit, unit_l1   one of each hidden layer's units, by the l2 or l1 norm of the scores of a unit's own weights; with a unit
                    go the weights out of it. Units of the output layer all stay.

Weights are [outputs, inputs, *kernel]. Counts are of weights, under `unit` of units; by layer, under `global` of the name "".
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import prod
from typing import Annotated, Literal

import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.knobs import OfEach
from maskbench.masks.cuts import kept_count
from maskbench.masks.distributions import Shapes, layer_counts
from maskbench.masks.pruning import keep_best, ranked

Scope = Literal["layer", "global", "row", "unit", "unit_l1"] | Annotated[str, OfEach()]
Follow = Mapping[str, Sequence[str]]  # layer -> the masked layers that its units are inputs of (units.py)


def of_each(scope: str) -> tuple[int, int] | None:
    """(N, M) of a scope N:M; None of any other."""
    n, _, m = scope.partition(":")
    return (int(n), int(m)) if m else None


def by_unit(scope: str) -> bool:
    return scope.startswith("unit")


def share(scope: str, keep: float | None, usual: float) -> float:
    """The share that stays: `keep`; where it is null N/M under the scope N:M, and `usual` under any other.

    Raises:
        UsageError: `keep` is not N/M.
    """
    if (pattern := of_each(scope)) is None:
        return usual if keep is None else keep
    follows = Fraction(*pattern)
    if keep is not None and keep != float(follows) and Fraction(str(keep)) != follows:
        raise UsageError(
            f"method.keep={keep:g} contradicts method.scope={scope}, which keeps {float(follows):g}: leave method.keep out"
        )
    return float(follows)


def counts(
    shapes: Shapes, scope: str, keep: float, distribution: str = "erk", whole: Collection[str] | None = None
) -> dict[str, int]:
    """How many stay when `keep` does: ceil(keep * n) of the weights of the net, of a row, or of a layer's units.

    Args:
        distribution: under `layer`. whole: under `unit`, the layers whose units all stay (units.py); None: the last one.

    Raises:
        UsageError: `keep` is not the N/M of the scope; M does not divide a layer's inputs; there are fewer ones than layers.
    """
    every, pattern = sum(map(prod, shapes.values())), of_each(scope)
    total = kept_count(keep, every)
    if total < len(shapes):
        raise UsageError(
            f"method.keep={keep:g} leaves {total} of {every} weights, fewer than the {len(shapes)} masked layers: take "
            f"{1.005 * len(shapes) / every:.3g} or more"
        )
    if scope == "global":
        return {"": total}
    if pattern:
        share(scope, keep, keep)
        require_divisible(shapes, scope)
        return {name: prod(shape) * pattern[0] // pattern[1] for name, shape in shapes.items()}
    if scope == "row":
        return {name: shape[0] * kept_count(keep, prod(shape[1:])) for name, shape in shapes.items()}
    if by_unit(scope):
        whole = list(shapes)[-1:] if whole is None else whole
        return {name: shape[0] if name in whole else kept_count(keep, shape[0]) for name, shape in shapes.items()}
    return layer_counts(shapes, keep, distribution)


def require_divisible(shapes: Shapes, scope: str) -> None:
    """Hold layers to a scope N:M.

    Raises:
        UsageError: M does not divide the inputs of a layer; names all such layers.
    """
    _, m = of_each(scope)
    odd = {name.rpartition(".")[0] or name: shape[1] for name, shape in shapes.items() if shape[1] % m}
    if odd:
        inputs = ", ".join(f"{name} has {n}" for name, n in odd.items())
        raise UsageError(
            f"method.scope={scope} takes each {m} inputs together, which does not divide those of every masked layer ({inputs}): "
            f"leave such a layer dense, method.dense=[{','.join(odd)}] and what is there already, or take another scope"
        )


def living(alive: Mapping[str, Tensor], scope: str) -> dict[str, int]:
    """How many a mask keeps (bool tensors), counted as `counts` counts; a unit lives while it has an input."""
    if scope == "global":
        return {"": sum(int(m.sum()) for m in alive.values())}
    if by_unit(scope):
        return {name: int(units_of(m).sum()) for name, m in alive.items()}
    return {name: int(m.sum()) for name, m in alive.items()}


def units_of(mask: Tensor) -> Tensor:
    """Which units of a layer have an input that is kept: [outputs], bool."""
    return mask.flatten(1).any(1)


def best(
    scores: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    scope: str,
    counts: Mapping[str, int],
    follow: Follow | None = None,
) -> dict[str, Tensor]:
    """The masks that keep the highest scores among the `alive`: exact counts, ties at the cut by lot (N:M: the lower index).

    Args:
        scores: by layer, [outputs, inputs, *kernel], in the order of the forward pass. alive: bool; what is dead stays so.
        counts: as `counts` gives them. follow: under `unit`, the layers that each one's units are inputs of (units.py);
            None: each layer's next one.

    Raises:
        ValueError: fewer are alive than are to stay. FloatingPointError: a score is NaN.
    """
    if scope == "global":
        return _together(scores, alive, counts[""])
    if pattern := of_each(scope):
        return {name: _of_each(score, alive[name], *pattern) for name, score in scores.items()}
    if scope == "row":
        return {name: _rows(score, alive[name], counts[name]) for name, score in scores.items()}
    if by_unit(scope):
        return _units(scores, alive, counts, 1 if scope == "unit_l1" else 2, follow or _next(scores))
    return {name: keep_best(score, alive[name], counts[name]) for name, score in scores.items()}


def _together(scores: Mapping[str, Tensor], alive: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    joint = [torch.cat([tensors[name].flatten() for name in scores]) for tensors in (scores, alive)]
    parts = keep_best(*joint, count).split([score.numel() for score in scores.values()])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def _rows(score: Tensor, alive: Tensor, count: int) -> Tensor:
    """The best of every row, `count` in all; ties by lot, which falls before the sorting: that is stable."""
    lot = torch.rand(score.flatten(1).shape, device=score.device).argsort(1)
    kept = _first(score.flatten(1).gather(1, lot), alive.flatten(1).gather(1, lot), count // len(score))
    return torch.empty_like(kept).scatter_(1, lot, kept).reshape(score.shape)


def _of_each(score: Tensor, alive: Tensor, n: int, m: int) -> Tensor:
    """The n best of each m consecutive inputs."""
    values, living = (tensor.movedim(1, -1) for tensor in (score, alive))
    kept = _first(values.reshape(-1, m), living.reshape(-1, m), n)
    return kept.reshape(values.shape).movedim(-1, 1).contiguous()


def _first(score: Tensor, alive: Tensor, count: int) -> Tensor:
    """The mask of the `count` best of the living in each row [rows, places]; of equals the first.

    Raises:
        ValueError: a row has fewer. FloatingPointError: a score is NaN.
    """
    ranked(score[alive])
    if (least := int(alive.sum(1).min())) < count:
        raise ValueError(f"cannot keep {count} of {least} weights of a row")
    order = score.sort(dim=1, descending=True, stable=True).indices
    dead_last = (~alive).gather(1, order).byte().sort(dim=1, stable=True).indices
    return torch.zeros_like(alive).scatter_(1, order.gather(1, dead_last)[:, :count], True)


def _units(
    scores: Mapping[str, Tensor], alive: Mapping[str, Tensor], counts: Mapping[str, int], power: int, follow: Follow
) -> dict[str, Tensor]:
    """Keep whole units, the highest by the norm of their living scores; all else of what is alive goes with them.

    A score below zero counts against its unit, so that the controls, which rank by -|w|, keep the smallest units.
    """
    kept = {name: m.clone() for name, m in alive.items()}
    for name, score in scores.items():
        values = ranked(score.double().masked_fill(~alive[name], 0.0).flatten(1))
        units = keep_best((values * values.abs() ** (power - 1)).sum(1), units_of(alive[name]), counts[name])
        kept[name] &= units.reshape(-1, *[1] * (score.ndim - 1))
        for after in follow[name]:  # the inputs of a matrix behind a convolution: its channels, each with all places
            inputs = units.repeat_interleave(scores[after].shape[1] // len(units))
            kept[after] &= inputs.reshape(1, -1, *[1] * (scores[after].ndim - 2))
    return kept


def _next(scores: Mapping[str, Tensor]) -> Follow:
    """Each layer's next one, in a net that is a chain.

    Raises:
        ValueError: it is none, by its shapes.
    """
    for before, after in pairwise(scores):
        if scores[after].shape[1] % len(scores[before]):
            raise ValueError(f"{after} does not follow {before}: say by `follow` which layers do")
    return {before: [after] for before, after in pairwise(scores)} | {list(scores)[-1]: []}
