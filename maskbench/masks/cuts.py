"""A ranking cut so that an exact count stays, found by selection; and weights masked by it, straight through (edge-popup)."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.masks.pruning import NAN, ranked

HARDSHRINK, THRESHOLD = torch.ops.aten.hardshrink_backward.default, torch.ops.aten.threshold_backward.default
SMOOTH_L1 = torch.ops.aten.smooth_l1_loss_backward.grad_input
ZEROS = {  # minus zero, since minus zero less minus zero is zero, as sign has it; and the smallest number
    dtype: (torch.full((), -0.0, dtype=dtype), torch.finfo(dtype).tiny) for dtype in (torch.float32, torch.float64)
}


class Cut(NamedTuple):
    """Where a ranking is cut: what stays ranks above `value`, or equal to it and stands at flat index `tie` or later.

    Cuts are ordered: the smaller one keeps everything the larger one keeps. On an accelerator both may be tensors [], which
    nobody waits for (windows.py).
    """

    value: float | Tensor
    tie: int | Tensor


@lru_cache
def kept_count(keep: float, n: int) -> int:
    """How many of n weights a share keeps: ceil(keep * n), with `keep` taken as the decimal number it is written as.

    That is the papers' n - int((1 - keep) * n) without what floating point does to it: of 1000, 0.07 keeps 70, not 71.
    """
    return math.ceil(Fraction(str(keep)) * n)


def kept_counts(keep: float, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """How many weights of each layer `method.keep` keeps.

    Raises:
        UsageError: less than one of a layer.
    """
    for name, w in weights.items():
        if keep * w.numel() < 1:
            raise UsageError(
                f"method.keep={keep} keeps less than one of the {w.numel()} weights of {name.removesuffix('.weight')}: "
                f"take at least 1/{w.numel()}"
            )
    return {name: kept_count(keep, w.numel()) for name, w in weights.items()}


def cut(score: Tensor, count: int, magnitude: bool = False) -> Cut:
    """The cut that keeps the `count` highest of the n scores (any shape), exactly; with `magnitude` by |score|.

    Ties fall as in a stable ascending sort whose first n - count go: of equals, the lower index goes first. Found by
    selection, which costs a hundredth of that sort.

    Raises:
        ValueError: `count` is not within 0 .. n. FloatingPointError: a score is NaN.
    """
    n = score.numel()
    if not 0 <= count <= n:
        raise ValueError(f"cannot keep {count} of {n} weights")
    if count == n:
        ranked(score.detach())
        return Cut(-math.inf, 0)
    value, ties = _select(_copy(score.detach(), magnitude), n - count)
    if ties == 0:
        return Cut(value, n)
    return Cut(value, int((_rank(score, magnitude) == value).flatten().nonzero()[-ties]))


def cuts(
    scores: Sequence[Tensor], count: int, least: int = 0, magnitude: bool = False, by: Sequence[Callable[..., Cut]] = ()
) -> list[Cut]:
    """One cut through the joint ranking of several tensors, as it falls in each of them; `count` stay in all.

    Ties go by the order of the tensors. Every tensor keeps its `least` best whatever the ranking says (all it has, if
    that is fewer); where these alone are more than `count`, they are what stays. `by` finds the tensors' own cuts and, the
    last of it, the joint one in the place of `cut`.
    """
    *parts, joint_cut = by or [cut] * (len(scores) + 1)
    floors = [min(least, score.numel()) for score in scores]
    own = [
        part(score, floor, magnitude) if floor else Cut(math.inf, score.numel())
        for part, score, floor in zip(parts, scores, floors, strict=True)
    ]
    sure = [
        (_rank(score, magnitude).masked_fill(kept(score, c, magnitude), math.inf) if floor else _rank(score, magnitude)).flatten()
        for score, c, floor in zip(scores, own, floors, strict=True)
    ]
    joint = joint_cut(torch.cat(sure), max(count, sum(floors)))
    starts = accumulate((score.numel() for score in scores), initial=0)
    return [_lower(c, joint.value, joint.tie - start) for c, start in zip(own, starts, strict=False)]


def kept(score: Tensor, cut: Cut, magnitude: bool = False) -> Tensor:
    """The mask of a cut, bool."""
    rank = _rank(score, magnitude)
    mask = rank > cut.value
    if isinstance(cut.tie, Tensor):
        return mask | (rank == cut.value) & (_places(rank) >= cut.tie)
    if cut.tie < rank.numel():
        mask.view(-1)[_ties(rank, cut)] = True
    return mask


def top_share(w: Tensor, score: Tensor, cut: Cut, magnitude: bool = False) -> Tensor:
    """w * m, where m keeps the scores, or with `magnitude` the |scores|, that `cut` keeps (edge-popup).

    Straight through the selection: d/dscore = w * d/d(w * m), times sign(score) where the magnitude ranks. What is masked
    out gets a gradient too.
    """
    return _TopShares.apply((cut,), magnitude, None, w, score)[0]


def top_shares(
    ws: Mapping[str, Tensor],
    scores: Mapping[str, Tensor],
    cuts: Mapping[str, Cut],
    magnitude: bool = False,
    owned: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """`top_share` of each name: all of a net's in one step of autograd.

    owned: (kept, alive) by name, for weights of which some hold a fixed value: what is masked is then kept + alive * w, and
    there is no second derivative.
    """
    pairs = [tensor for name, w in ws.items() for tensor in (w, scores[name])]
    fixed = None if owned is None else [owned[name] for name in ws]
    return dict(zip(ws, _TopShares.apply([cuts[name] for name in ws], magnitude, fixed, *pairs), strict=True))


class _TopShares(torch.autograd.Function):
    """`top_share` of pairs of tensors (w, score) with its own backward: autograd would stop at the selection."""

    @staticmethod
    def forward(
        ctx, cuts: Sequence[Cut], magnitude: bool, owned: Sequence[tuple[Tensor, Tensor]] | None, *pairs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ws, scores, alive = pairs[::2], pairs[1::2], ()
        if owned is not None:
            ws = [torch.addcmul(kept, alive, w) for (kept, alive), w in zip(owned, ws, strict=True)]
            alive = [alive for _, alive in owned]
        ctx.save_for_backward(*ws, *scores, *alive)
        ctx.cuts, ctx.magnitude = cuts, magnitude
        return tuple(_masked(w, score, cut, magnitude) for w, score, cut in zip(ws, scores, cuts, strict=True))

    @staticmethod
    def backward(ctx, *grads: Tensor | None):
        n, magnitude = len(grads), ctx.magnitude
        ws, scores, alive = (ctx.saved_tensors[n * part : n * part + n] for part in range(3))
        if alive and torch.is_grad_enabled():  # ws are results here, of which autograd knows nothing
            raise RuntimeError("weights of which some are owned have no second derivative through top_shares")
        to_pairs: list[Tensor | None] = [None, None] * n  # None: the loss does not depend on it
        for i, (grad, w, score) in enumerate(zip(grads, ws, scores, strict=True)):
            if grad is None:
                continue
            grad = grad.contiguous()  # of a convolution it may lie channels last, and ties are flat indices
            if ctx.needs_input_grad[3 + 2 * i]:
                to_w = _masked(grad, score, ctx.cuts[i], magnitude)
                to_pairs[2 * i] = to_w.mul_(alive[i]) if alive else to_w
            to_pairs[2 * i + 1] = _signed(grad * w, score) if magnitude else grad * w
        return None, None, None, *to_pairs


def _signed(x: Tensor, score: Tensor) -> Tensor:
    """x * sign(score), in the place of x.

    A backward kernel of torch is just this in one pass: smooth_l1's is x * score / beta within beta of 0, and x * sign(score)
    beyond; beta is the smallest number that the processor divides by at full speed, 1e-38 for float32.
    """
    if x.is_cpu and score.dtype == x.dtype and x.dtype in ZEROS:
        zero, least = ZEROS[x.dtype]
        return SMOOTH_L1(x, score, zero, 0, least, grad_input=x)
    return x.mul_(score.sign())


def _masked(w: Tensor, score: Tensor, cut: Cut, magnitude: bool) -> Tensor:
    """w where the cut keeps the score, else 0. Two backward kernels of torch are just this, in one pass over memory:
    hardshrink's is w * [|score| > value], threshold's w * [score > value]."""
    if isinstance(cut.value, Tensor):
        return torch.where(kept(score, cut, magnitude), w, 0)
    masked = (HARDSHRINK if magnitude else THRESHOLD)(w, score, cut.value)
    if cut.tie < w.numel():
        ties = _ties(_rank(score, magnitude), cut)
        masked.view(-1)[ties] = w.flatten()[ties]
    return masked


def _rank(score: Tensor, magnitude: bool) -> Tensor:
    return score.detach().abs() if magnitude else score.detach()


def _places(x: Tensor) -> Tensor:
    """Flat indices of a tensor's entries, in its shape."""
    return torch.arange(x.numel(), device=x.device).view(x.shape)


def _lower(own: Cut, value: float | Tensor, tie: int | Tensor) -> Cut:
    """The smaller of a tensor's own cut and the joint one, whose tie may stand before the tensor begins."""
    if not isinstance(value, Tensor):
        return min(own, Cut(value, max(0, tie)))
    own_value, own_tie = (torch.as_tensor(x, device=value.device) for x in own)
    first = (own_value < value) | (own_value == value) & (own_tie < tie)
    return Cut(torch.where(first, own_value.to(value.dtype), value), torch.where(first, own_tie, tie.clamp(min=0)))


def _ties(rank: Tensor, cut: Cut) -> Tensor:
    """Flat indices of the values equal to the cut's that stay."""
    equal = (rank == cut.value).flatten().nonzero().squeeze(1)
    return equal[equal >= cut.tie]


def _select(values: Tensor, drop: int) -> tuple[float, int]:
    """The `drop`-th smallest value (from 1), and how many of those ranked above it equal it. Reorders `values`.

    Raises:
        FloatingPointError: one is NaN.
    """
    if values.device.type == "cpu":
        flat = values.numpy()
        flat.partition(drop - 1)
        if np.isnan(flat[drop - 1 :].max()):  # NaN ranks above all numbers, and a maximum passes it on
            raise FloatingPointError(NAN)
        return float(flat[drop - 1]), int(np.count_nonzero(flat[drop:] == flat[drop - 1]))
    value = values.kthvalue(drop).values
    above, undefined = torch.stack([(values > value).sum(), values.isnan().sum()]).tolist()
    if undefined:
        raise FloatingPointError(NAN)
    return value.item(), values.numel() - drop - above


def _copy(score: Tensor, magnitude: bool) -> Tensor:
    """The ranked values, flat, to be reordered; in float32 what numpy has no type for."""
    if score.dtype.itemsize < 4:
        score = score.float()
    copy = _scratch(score)
    return (torch.abs(score, out=copy) if magnitude else copy.copy_(score)).view(-1)


_memory = threading.local()


def _scratch(like: Tensor) -> Tensor:
    """A tensor like this one, for work that ends before the next call.

    It is the same memory again and again, since on a CPU fresh memory costs more than a pass over it.
    """
    scratch = getattr(_memory, "scratch", None)
    if scratch is None or scratch.numel() < like.numel() or (scratch.dtype, scratch.device) != (like.dtype, like.device):
        scratch = _memory.scratch = torch.empty(like.numel(), dtype=like.dtype, device=like.device)
    return scratch[: like.numel()].view(like.shape)
