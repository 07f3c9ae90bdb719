"""Masks after pruning, once: the lowest go, among the weights that are still alive; and how much masks keep."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from maskbench.masks.sites import maskable

MANY = 1 << 15  # values from which on they are thinned out before one is selected
SAMPLE, REACH = 1024, 64  # values that are looked at for it; ranks among them, four deviations, within which it is sought
NAN = "weights cannot be pruned by scores that are NaN: training diverged; try a smaller optimizer.lr"


def prune(w: Tensor, alive: Tensor, share: float) -> Tensor:
    """The mask after `share` of the `alive` weights with smallest magnitude went.

    k = round(share * alive) weights go, and with them every tie at the k-th smallest magnitude (PackNet's rule: `<=`).

    Raises:
        ValueError: `share` is not within 0 <= share < 1. FloatingPointError: a magnitude is NaN.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is the part that goes, 0 <= share < 1, not {share}")
    magnitudes = ranked(w.detach()[alive].abs())
    k = round(share * magnitudes.numel())
    if k == 0:
        return alive.clone()
    return alive & (w.detach().abs() > smallest(magnitudes, k))


def keep_best(score: Tensor, alive: Tensor, keep: int) -> Tensor:
    """The mask of the `keep` highest-scoring weights among the `alive`: an exact count, ties at the cut by lot.

    Raises:
        ValueError: fewer than `keep` are alive. FloatingPointError: a score is NaN.
    """
    living = int(alive.sum())
    if not 0 <= keep <= living:
        raise ValueError(f"cannot keep {keep} of {living} weights")
    # picking most of a tensor costs several passes over it: then the others are held below all that is ranked instead
    values = ranked(score[alive] if 2 * living < alive.numel() else torch.where(alive, score, -math.inf))
    if keep == living:
        return alive.clone()
    cut = smallest(values, values.numel() - keep)
    kept = alive & (score > cut)
    ties = (alive & (score == cut)).flatten().nonzero().squeeze(1)
    chosen = ties[torch.randperm(len(ties), device=ties.device)[: keep - int(kept.sum())]]
    kept.view(-1)[chosen] = True
    return kept


def smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest value (k from 1), by selection: a full sort costs some fifty times as much on a CPU."""
    if values.device.type == "cpu":
        if values.dtype.itemsize < 4:  # numpy has no bfloat16; float32 holds each of its values
            return smallest(values.float(), k).to(values.dtype)
        return torch.from_numpy(_smallest(values.numpy().ravel(), k - 1)).squeeze()
    return values.flatten().kthvalue(k).values


def _smallest(values: np.ndarray, place: int) -> np.ndarray:
    """[1], the value that stands at `place` once all are in ascending order; none is NaN.

    A sample of many values says between which two the place lies, most likely, so that few are left to select among. Where it
    was wrong, all are.
    """
    if values.size >= MANY:
        sample = np.sort(values[:: values.size // SAMPLE])
        expected = place * sample.size // values.size
        low, high = (sample[min(max(expected + reach, 0), sample.size - 1)] for reach in (-REACH, REACH))
        inside = values[(values >= low) & (values <= high)]
        among = place - int(np.count_nonzero(values < low))
        if 0 <= among < inside.size:
            values, place = inside, among
    return np.partition(values, place)[place : place + 1]


def ranked(values: Tensor) -> Tensor:
    """The values, which can be ranked.

    Raises:
        FloatingPointError: one is NaN.
    """
    if values.isnan().any():
        raise FloatingPointError(NAN)
    return values


def density(masks: Iterable[Tensor]) -> float:
    """Share of ones over all masks together."""
    masks = list(masks)
    return sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


def densities(net: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, float]:
    """`density`, the share that these masks keep of a net's weights as the papers count them, layers without a mask whole;
    and `density/<layer>` of each."""
    every = {name: masks[name] if name in masks else torch.ones_like(net.get_parameter(name)) for name in maskable(net)}
    layers = {f"density/{name.removesuffix('.weight')}": float(m.float().mean()) for name, m in every.items()}
    return {"density": density(every.values())} | layers
