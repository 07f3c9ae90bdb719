"""Masks as pure functions on tensors: where they stand, how they are drawn, pruned, counted and stored.

A mask stands beside a named weight of the backbone. `keep` is the share that stays (density), `share` the share that goes.
"""

import json
import math
import threading
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from maskbench.errors import UsageError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # whose weights can be masked

# ---- where


def sites(net: nn.Module, skip: Iterable[str] = ()) -> list[str]:
    """Names of the maskable tensors: every Linear and Conv weight, in the order of the forward pass; biases and norms never.

    `skip` names modules left out (`["head"]`).

    Raises:
        UsageError: there are none.
    """
    layers = [name for name, module in net.named_modules() if isinstance(module, LAYERS) and name not in set(skip)]
    if not layers:
        raise UsageError(
            f"{type(net).__name__} has no layer whose weights this method could mask: take another backbone, such as "
            "backbone=mlp_100x3 (for a table in divisions with data.fold=0, one of them)"
        )
    return [f"{name}.weight" for name in layers]


# ---- drawn


class _Threshold(torch.autograd.Function):
    """w * [score >= tau], with the gradient to the score as if the mask were the score itself (straight through)."""

    @staticmethod
    def forward(ctx, w: Tensor, score: Tensor, tau: float) -> Tensor:
        ctx.save_for_backward(w, score)
        ctx.tau = tau
        kept = torch.empty_like(w)
        torch.ge(score, tau, out=kept)  # into floats at once: a bool mask costs a second pass
        return kept.mul_(w)

    @staticmethod
    def backward(ctx, grad: Tensor):
        w, score = ctx.saved_tensors
        to_w = grad * (score >= ctx.tau) if ctx.needs_input_grad[0] else None
        return to_w, grad * w, None


def threshold(w: Tensor, score: Tensor, tau: float = 0.0) -> Tensor:
    """w * [score >= tau]; d/dscore = w * d/d(w * m). Equality counts as kept (SupSup section 3b, Piggyback)."""
    return _Threshold.apply(w, score, tau)


class Cut(NamedTuple):
    """Where a ranking is cut: what stays ranks above `value`, or equal to it and stands at flat index `tie` or later.

    Cuts are ordered: the smaller one keeps everything the larger one keeps.
    """

    value: float
    tie: int


def kept_count(keep: float, n: int) -> int:
    """How many of n weights a share keeps: ceil(keep * n), with `keep` taken as the decimal number it is written as.

    That is the papers' n - int((1 - keep) * n) without what floating point does to it: of 1000, 0.07 keeps 70, not 71.
    """
    return math.ceil(Fraction(str(keep)) * n)


def cut(score: Tensor, count: int, magnitude: bool = False) -> Cut:
    """The cut that keeps the `count` highest of the n scores (any shape), exactly; with `magnitude` by |score|.

    Ties fall as in a stable ascending sort whose first n - count go: of equals, the lower index goes first. Found by
    selection, which costs a hundredth of that sort.

    Raises:
        ValueError: `count` is not within 0 .. n.
    """
    n = score.numel()
    if not 0 <= count <= n:
        raise ValueError(f"cannot keep {count} of {n} weights")
    if count == n:
        return Cut(-math.inf, 0)
    value, ties = _select(_copy(score.detach(), magnitude), n - count)
    if ties == 0:
        return Cut(value, n)
    return Cut(value, int((_rank(score, magnitude) == value).flatten().nonzero()[-ties]))


def cuts(scores: Sequence[Tensor], count: int, least: int = 0, magnitude: bool = False) -> list[Cut]:
    """One cut through the joint ranking of several tensors, as it falls in each of them; `count` stay in all.

    Ties go by the order of the tensors. Every tensor keeps its `least` best whatever the ranking says (all it has, if
    that is fewer); where these alone are more than `count`, they are what stays.
    """
    floors = [min(least, score.numel()) for score in scores]
    own = [cut(score, floor, magnitude) for score, floor in zip(scores, floors, strict=True)]
    sure = [
        _rank(score, magnitude).masked_fill(kept(score, c, magnitude), math.inf).flatten()
        for score, c in zip(scores, own, strict=True)
    ]
    joint = cut(torch.cat(sure), max(count, sum(floors)))
    starts = accumulate((score.numel() for score in scores), initial=0)
    return [min(c, Cut(joint.value, max(0, joint.tie - start))) for c, start in zip(own, starts, strict=False)]


def kept(score: Tensor, cut: Cut, magnitude: bool = False) -> Tensor:
    """The mask of a cut, bool."""
    rank = _rank(score, magnitude)
    mask = rank > cut.value
    if cut.tie < rank.numel():
        mask.view(-1)[_ties(rank, cut)] = True
    return mask


def top_share(w: Tensor, score: Tensor, cut: Cut, magnitude: bool = False) -> Tensor:
    """w * m, where m keeps the scores, or with `magnitude` the |scores|, that `cut` keeps (edge-popup).

    Straight through the selection: d/dscore = w * d/d(w * m), times sign(score) where the magnitude ranks. What is masked
    out gets a gradient too.
    """
    return _TopShare.apply(w, score, cut, magnitude)


class _TopShare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w: Tensor, score: Tensor, cut: Cut, magnitude: bool) -> Tensor:
        ctx.save_for_backward(w, score)
        ctx.cut, ctx.magnitude = cut, magnitude
        return _masked(w, score, cut, magnitude)

    @staticmethod
    def backward(ctx, grad: Tensor):
        w, score = ctx.saved_tensors
        to_w = _masked(grad, score, ctx.cut, ctx.magnitude) if ctx.needs_input_grad[0] else None
        to_score = grad * w
        if ctx.magnitude:
            to_score.mul_(torch.sign(score, out=_scratch(score)))
        return to_w, to_score, None, None


def _masked(w: Tensor, score: Tensor, cut: Cut, magnitude: bool) -> Tensor:
    """w where the cut keeps the score, else 0. Two backward kernels of torch are just this, in one pass over memory:
    hardshrink's is w * [|score| > value], threshold's w * [score > value]."""
    kernel = torch.ops.aten.hardshrink_backward if magnitude else torch.ops.aten.threshold_backward
    masked = kernel(w, score, cut.value)
    if cut.tie < w.numel():
        ties = _ties(_rank(score, magnitude), cut)
        masked.view(-1)[ties] = w.flatten()[ties]
    return masked


def _rank(score: Tensor, magnitude: bool) -> Tensor:
    return score.detach().abs() if magnitude else score.detach()


def _ties(rank: Tensor, cut: Cut) -> Tensor:
    """Flat indices of the values equal to the cut's that stay."""
    equal = (rank == cut.value).flatten().nonzero().squeeze(1)
    return equal[equal >= cut.tie]


def _select(values: Tensor, drop: int) -> tuple[float, int]:
    """The `drop`-th smallest value (from 1), and how many of those ranked above it equal it. Reorders `values`."""
    if values.device.type == "cpu":
        flat = values.numpy()
        flat.partition(drop - 1)
        return float(flat[drop - 1]), int(np.count_nonzero(flat[drop:] == flat[drop - 1]))
    value = values.kthvalue(drop).values
    return value.item(), values.numel() - drop - int((values > value).sum())


def _copy(score: Tensor, magnitude: bool) -> Tensor:
    """The ranked values, flat, to be reordered; in float32 what numpy has no type for."""
    if score.dtype.itemsize < 4:
        score = score.float()
    copy = _scratch(score)
    return (torch.abs(score, out=copy) if magnitude else copy.copy_(score)).view(-1)


_held = threading.local()


def _scratch(like: Tensor) -> Tensor:
    """A tensor like this one, for work that ends before the next call: the same memory again and again, since on a CPU
    fresh memory costs more than a pass over it."""
    held = getattr(_held, "scratch", None)
    if held is None or held.numel() < like.numel() or (held.dtype, held.device) != (like.dtype, like.device):
        held = _held.scratch = torch.empty(like.numel(), dtype=like.dtype, device=like.device)
    return held[: like.numel()].view(like.shape)


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logit: Tensor, noise: Tensor) -> Tensor:
        p = logit.sigmoid()
        ctx.save_for_backward(p)
        return torch.lt(noise, p, out=torch.empty_like(p))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (p,) = ctx.saved_tensors
        return torch.ops.aten.sigmoid_backward(grad, p), None


def bernoulli(logit: Tensor, noise: Tensor | None = None) -> Tensor:
    """A mask of zeros and ones (floats), each one with probability sigmoid(logit).

    Straight through the draw: d/dlogit = p * (1 - p) * d/dm. `noise` is uniform on [0, 1), of the logits' shape; None
    draws it from the global generator. (torch.bernoulli is four times as slow on a CPU.)
    """
    return _Bernoulli.apply(logit, torch.rand_like(logit) if noise is None else noise)


# ---- pruned


def prune(w: Tensor, alive: Tensor, share: float) -> Tensor:
    """The mask after `share` of the `alive` weights with smallest magnitude went.

    k = round(share * alive) weights go, and with them every tie at the k-th smallest magnitude (PackNet's rule: `<=`).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is the part that goes, 0 <= share < 1, not {share}")
    magnitudes = w.detach()[alive].abs()
    k = round(share * magnitudes.numel())
    if k == 0:
        return alive.clone()
    return alive & (w.detach().abs() > smallest(magnitudes, k))


def keep_best(score: Tensor, alive: Tensor, keep: int) -> Tensor:
    """The mask of the `keep` highest-scoring weights among the `alive`: an exact count, ties at the cut by lot.

    Raises:
        ValueError: fewer than `keep` are alive.
    """
    values = score[alive]
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
        return torch.from_numpy(np.partition(values.numpy().ravel(), k - 1)[k - 1 : k]).squeeze()
    return values.flatten().kthvalue(k).values


# ---- counted


def density(masks: Iterable[Tensor]) -> float:
    """Share of ones over all masks together."""
    masks = list(masks)
    return sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


# ---- stored: 8 weights a byte, first weight in the lowest bit


def pack(mask: Tensor) -> Tensor:
    """A bool mask of any shape as ceil(numel / 8) bytes; the padding bits are 0."""
    return torch.from_numpy(np.packbits(mask.detach().cpu().numpy().ravel(), bitorder="little"))


def unpack(bits: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Bits of one mask [bytes], or of several [masks, bytes], as bool [*shape] or [masks, *shape]."""
    count = int(np.prod(shape))
    flat = np.unpackbits(bits.cpu().numpy(), axis=-1, count=count, bitorder="little")
    return torch.from_numpy(flat.view(bool)).reshape((*bits.shape[:-1], *shape)).to(bits.device)


def packed_bytes(w: Tensor) -> int:
    """Of a mask of w at one bit a weight."""
    return -(-w.numel() // 8)


def sparse_bytes(w: Tensor, ones: int) -> int:
    """Of a mask of w [outputs, ...] with so many ones, in compressed sparse columns: 16-bit rows, 32-bit column pointers
    (the SupSup paper's; the values are implied)."""
    return 2 * ones + 4 * (w[0].numel() + 1)


def save(path: Path, masks: dict[str, Tensor]) -> None:
    """Write masks to a safetensors file, one bit a weight; shapes and bit order stand in its metadata."""
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    about = {"format": 1, "bitorder": "little", "shapes": shapes}
    # one entry: safetensors writes several in an order that differs from call to call
    path.write_bytes(safetensors.torch.save({name: pack(m) for name, m in masks.items()}, {"masks": json.dumps(about)}))


def load(path: Path) -> dict[str, Tensor]:
    """Read masks written by `save` as bool tensors of their own shapes."""
    with safe_open(path, "pt") as file:
        shapes = json.loads(file.metadata()["masks"])["shapes"]
        return {name: unpack(file.get_tensor(name), tuple(shapes[name])) for name in file.keys()}  # noqa: SIM118
