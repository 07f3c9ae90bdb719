"""Masks after pruning, once: the lowest go, among the weights that are still alive; and how much masks keep."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from maskbench.masks.sites import maskable

MANY = 1 << 15  # values from which on they are thinned out before one is selected
SAMPLE = 1024  # values that are looked at for it
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
    living = int(alive.count_nonzero())
    if not 0 <= keep <= living:
        raise ValueError(f"cannot keep {keep} of {living} weights")
    score = score.detach()
    # picking most of a tensor costs several passes over it: then the others are held below all that is ranked instead
    within = places(alive) if 2 * living < alive.numel() else None
    values = ranked(torch.where(alive, score, -math.inf).flatten() if within is None else score.flatten()[within])
    if keep == living:
        return alive.clone()
    above, ties = highest(values, keep)
    if within is None:
        ties = ties[alive.flatten()[ties]]  # where those that rank are at minus infinity, too
    else:
        above, ties = within[above], within[ties]
    chosen = ties[torch.randperm(len(ties), device=ties.device)[: keep - len(above)]]
    kept = torch.zeros_like(alive, memory_format=torch.contiguous_format)
    kept.view(-1)[torch.cat([above, chosen])] = True
    return kept


def highest(values: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """(places of the values above the largest that is not among the `keep` highest, places of those equal to it), ascending.

    values [n] without NaN, keep < n.
    """
    if values.device.type == "cpu" and len(values) >= MANY and 8 * keep < len(values):
        array = (values.float() if values.dtype.itemsize < 4 else values).numpy()
        crowd = np.flatnonzero(array >= around(array, array.size - keep - 1)[0])  # the highest are among these, most likely
        if crowd.size > keep:
            some = array[crowd]
            cut = np.partition(some, some.size - keep - 1)[some.size - keep - 1]
            return torch.from_numpy(crowd[some > cut]), torch.from_numpy(crowd[some == cut])
    cut = smallest(values, len(values) - keep)
    return places(values > cut), places(values == cut)


def places(mask: Tensor) -> Tensor:
    """Where a mask is true, in its flattened order: int64 [count], ascending."""
    if mask.device.type == "cpu":  # numpy's takes half of torch's time
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest value (k from 1), by selection: a full sort costs some fifty times as much on a CPU."""
    if values.device.type == "cpu":
        if values.dtype.itemsize < 4:  # numpy has no bfloat16; float32 holds each of its values
            return smallest(values.float(), k).to(values.dtype)
        return torch.from_numpy(_smallest(values.numpy().ravel(), k - 1)).squeeze()
    return values.flatten().kthvalue(k).values


def _smallest(values: np.ndarray, place: int) -> np.ndarray:
    """[1], the value that stands at `place` once all are in ascending order; none is NaN.

    Of many values few are left to select among, those `around` the place; where it is not among them, all are.
    """
    if values.size >= MANY:
        low, high = around(values, place)
        inside = values[(values >= low) & (values <= high)]
        among = place - int(np.count_nonzero(values < low))
        if 0 <= among < inside.size:
            values, place = inside, among
    return np.partition(values, place)[place : place + 1]


def around(values: np.ndarray, place: int) -> tuple[float, float]:
    """Two of many values [n] between which the one at `place` (from 0) of their ascending order lies, most likely: those of a
    sample that stand four deviations of its rank, and four ranks, below and above."""
    sample = np.sort(values[:: values.size // SAMPLE])
    rank = place * sample.size / values.size
    reach = 4 * math.sqrt(rank * (1 - rank / sample.size)) + 4
    low, high = math.floor(rank - reach), math.ceil(rank + reach)
    return sample[max(low, 0)], sample[min(high, sample.size - 1)]


def ranked(values: Tensor) -> Tensor:
    """The values, which can be ranked.

    Raises:
        FloatingPointError: one is NaN.
    """
    if values.numel() and values.detach().amax().isnan():  # the largest of values is NaN where any is
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
