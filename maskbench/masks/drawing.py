"""Masks drawn anew at each forward pass, with gradients straight through the draw: by a threshold, by two (signed masks), or by
chance; and masked weights made binary."""

import torch
from torch import Tensor


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
    """w under the mask [score >= tau], straight through: d/dscore = w * d/d(w * m). Equality is kept (SupSup, section 3b)."""
    return _Threshold.apply(w, score, tau)


class _Signed(torch.autograd.Function):
    """w * sign(score) where |score| > tau, else 0, with the gradient to the score as if the mask were the score itself."""

    @staticmethod
    def forward(ctx, w: Tensor, score: Tensor, tau: Tensor) -> Tensor:
        ctx.save_for_backward(w, score, tau)
        return w * signs(score, tau)

    @staticmethod
    def backward(ctx, grad: Tensor):
        w, score, tau = ctx.saved_tensors
        to_w = grad * signs(score, tau) if ctx.needs_input_grad[0] else None
        return to_w, grad * w, None


def signed(w: Tensor, score: Tensor, tau: Tensor) -> Tensor:
    """w under a mask of -1, 0 and 1 (`signs`), straight through: d/dscore = w * d/d(w * m), whatever the mask is."""
    return _Signed.apply(w, score, tau)


def signs(score: Tensor, tau: Tensor) -> Tensor:
    """The signed mask of scores, as floats: 1 above tau, -1 below -tau, else 0. tau: a scalar tensor; equality is 0."""
    return torch.where(score.abs() > tau, score.sign(), 0.0)


class _Binary(torch.autograd.Function):
    """`binary` with the identity for its backward."""

    @staticmethod
    def forward(ctx, w: Tensor, count: int) -> Tensor:
        return w.sign() * gain(w, count)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


def binary(w: Tensor, count: int) -> Tensor:
    """Masked weights, all but `count` of them 0, made binary: sign(w) * gain(w). Straight through: the gradient passes."""
    return _Binary.apply(w, count)


def gain(w: Tensor, count: int) -> Tensor:
    """The size of binary weights that is nearest to masked ones in the sense of least squares, a scalar: their sum of
    magnitudes over their count (2103.09377, algorithm 1)."""
    return w.abs().sum() / count


class _Bernoulli(torch.autograd.Function):
    """[noise < sigmoid(logit)], with the gradient to the logit as if the mask were the probability (straight through)."""

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
