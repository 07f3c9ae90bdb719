"""Activations of hidden layers by the field's names, `sign` of binary nets among them."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import elu, relu, tanh

Activation = Literal["relu", "tanh", "elu", "sign"]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1. Straight through, as Bi-Real nets do (Liu et al. 2018, arXiv 1808.00278): the gradient is
    that of the piecewise quadratic which leads from -1 to 1 within [-1, 1], 2 * (1 - |x|) there and 0 outside."""
    return _Sign.apply(x)


class _Sign(torch.autograd.Function):
    """`sign` with its own backward; autograd's would be 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (2 - 2 * x.abs()).clamp(min=0)


ACTIVATIONS = {function.__name__: function for function in (relu, tanh, elu, sign)}
