"""What is added to the loss when a net that knows a source learns a target: pure functions, without their strength.

Factors: every function here is the plain sum of its formula, and the strength that a method multiplies it by has no 1/2
in it. PAC-Net (2206.05703) writes its lam so; L2-SP's paper (1802.01483) writes alpha / 2 and beta / 2, so its alpha of
0.1 is `l2_sp: 0.05` here. `delta` is a mean over the batch, so that its strength does not depend on the batch size.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor


def l2(weights: Iterable[Tensor]) -> Tensor:
    """sum w^2, over all tensors."""
    return torch.stack([w.square().sum() for w in weights]).sum()


def l2_sp(weights: Iterable[Tensor], start: Iterable[Tensor]) -> Tensor:
    """sum (w - w_S)^2: squared distance from the starting point, the source's solution."""
    return torch.stack([(w - s).square().sum() for w, s in zip(weights, start, strict=True)]).sum()


def delta(features: Mapping[str, Tensor], source: Mapping[str, Tensor], attention: Mapping[str, Tensor]) -> Tensor:
    """sum over layers and channels of attention_j * |FM_j - FM_j^S|^2, mean over the batch (DELTA, 1901.09229).

    features, source: by layer, [batch, channels, ...], of the net and of the source's net on the same inputs.
    attention: by layer, [channels].
    """
    layers = []
    for name, own in features.items():
        distance = (own - source[name]).square().flatten(2).sum(2) if own.ndim > 2 else (own - source[name]).square()
        layers.append((distance @ attention[name]).mean())
    return torch.stack(layers).sum()


def channel_attention(loss: Callable[[int | None], Tensor], channels: int) -> Tensor:
    """DELTA's attention on the channels of one layer: softmax of how much the loss grows when each is switched off.

    loss: of the source's net with channel j off; of the whole net for None. Returns [channels].
    """
    whole = loss(None)
    return torch.stack([loss(j) - whole for j in range(channels)]).softmax(0)


def bss(features: Tensor, k: int) -> Tensor:
    """Sum of the k smallest squared singular values of a batch's features [batch, features] (BSS, Chen et al. 2019)."""
    return torch.linalg.svdvals(features)[-k:].square().sum()
