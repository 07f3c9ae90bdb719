"""Masks after pruning, once: the lowest go, among the weights that are still alive; and how much masks keep."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from maskbench.masks.sites import maskable

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
    values = ranked(score[alive])
    drop = values.numel() - keep
    if not 0 <= keep <= values.numel():
        raise ValueError(f"cannot keep {keep} of {values.numel()} weights")
    if drop == 0:
        return alive.clone()
    cut = smallest(values, drop)
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
        return torch.from_numpy(np.partition(values.numpy().ravel(), k - 1)[k - 1 : k]).squeeze()
    return values.flatten().kthvalue(k).values


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
