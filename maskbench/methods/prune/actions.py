"""What becomes of kept and of pruned weights after a mask is drawn (Deconstructing Lottery Tickets, arXiv 1905.01067).

Mask-1 actions make the values that kept weights start from; `signed_<action>` gives them the signs of the initial values,
`<action>_rescaling` makes them larger by as much as the mask makes them fewer.
Mask-0 actions make the values that pruned weights are frozen at. Both are functions of one layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from maskbench.common.named import named

Mask1 = Literal[
    "rewind", "reinit", "permute", "reshuffle", "constant",
    "signed_rewind", "signed_reinit", "signed_permute", "signed_reshuffle", "signed_constant",
    "rewind_rescaling", "reinit_rescaling", "permute_rescaling", "reshuffle_rescaling", "constant_rescaling",
    "signed_rewind_rescaling", "signed_reinit_rescaling", "signed_permute_rescaling", "signed_reshuffle_rescaling",
    "signed_constant_rescaling",
]  # fmt: skip
Mask0 = Literal[
    "zero", "freeze_init", "freeze_init_zero_mask", "freeze_init_zero_all", "freeze_init_zero_rev", "freeze_init_zero_reshuffle",
]  # fmt: skip


@dataclass
class Layer:
    """One layer's weights around a pruning: all tensors of the weight's shape.

    Attributes:
        init: where training started. final: where it ended. mask: the new mask, bool. draw: makes fresh initial values.
        before: the mask until now, bool; None: all ones.
    """

    init: Tensor
    final: Tensor
    mask: Tensor
    draw: Callable[[], Tensor]
    before: Tensor | None = None

    @property
    def toward_zero(self) -> Tensor:
        """Whether training made the weight smaller; crossing zero is ignored, as in the authors' code."""
        return self.final.abs() < self.init.abs()


# ---- mask-1: kept weights


def rewind(layer: Layer) -> Tensor:
    """The initial values (the lottery ticket)."""
    return layer.init


def reinit(layer: Layer) -> Tensor:
    """A fresh draw from the initial distribution (the lottery ticket's control)."""
    return layer.draw()


def permute(layer: Layer) -> Tensor:
    """All initial values of the layer in random order, pruned slots included (the authors' random_reinit)."""
    return shuffled(layer.init.flatten()).reshape(layer.init.shape)


def reshuffle(layer: Layer) -> Tensor:
    """The kept values in random order over the kept slots."""
    values = layer.init.clone()
    values[layer.mask] = shuffled(layer.init[layer.mask])
    return values


def constant(layer: Layer) -> Tensor:
    """+-std (divided by n, as in the authors' code) of all the layer's initial values, signs in random order."""
    return shuffled(layer.init.sign().flatten()).reshape(layer.init.shape) * layer.init.std(correction=0)


def mask1(name: str) -> Callable[[Layer], Tensor]:
    """The action on kept weights of that name; `signed_` before it keeps each weight's initial sign, `_rescaling` after it
    makes up for the weights that go."""
    plain = (rewind, reinit, permute, reshuffle, constant)
    base = name.removeprefix("signed_").removesuffix("_rescaling")
    action = named("method.mask1", base, {f.__name__: f for f in plain})
    action = Signed(action) if name.startswith("signed_") else action
    return Rescaled(action) if name.endswith("_rescaling") else action


@dataclass(frozen=True)
class Signed:
    """An action's magnitudes with the initial signs."""

    action: Callable[[Layer], Tensor]

    def __call__(self, layer: Layer) -> Tensor:
        return self.action(layer).abs() * layer.init.sign()


@dataclass(frozen=True)
class Rescaled:
    """An action's values times (weights before the pruning) / (weights after it); over levels n / ones of the mask."""

    action: Callable[[Layer], Tensor]

    def __call__(self, layer: Layer) -> Tensor:
        before = layer.mask.numel() if layer.before is None else int(layer.before.sum())
        return self.action(layer) * (before / max(1, int(layer.mask.sum())))


# ---- mask-0: pruned weights


def zero(layer: Layer) -> Tensor:
    """Pruned weights are gone (the lottery ticket)."""
    return torch.zeros_like(layer.init)


def freeze_init(layer: Layer) -> Tensor:
    """Pruned weights stay at their initial values."""
    return layer.init


def freeze_init_zero_mask(layer: Layer) -> Tensor:
    """Zero where training had moved the weight toward zero, else its initial value (variant 1)."""
    return layer.init.masked_fill(layer.toward_zero, 0.0)


def freeze_init_zero_all(layer: Layer) -> Tensor:
    """As variant 1 for pruned weights; kept ones that moved toward zero start from zero too (variant 2)."""
    return freeze_init_zero_mask(layer)


def freeze_init_zero_rev(layer: Layer) -> Tensor:
    """The control: zero where the weight had moved away from zero."""
    return layer.init.masked_fill(~layer.toward_zero, 0.0)


def freeze_init_zero_reshuffle(layer: Layer) -> Tensor:
    """The control: as many zeros among the pruned as variant 1 has, at random places."""
    pruned = ~layer.mask
    values = layer.init.clone()
    values[pruned] = layer.init[pruned].masked_fill(shuffled(layer.toward_zero[pruned]), 0.0)
    return values


def mask0(name: str) -> Callable[[Layer], Tensor]:
    """The action on pruned weights of that name."""
    plain = (zero, freeze_init, freeze_init_zero_mask, freeze_init_zero_all, freeze_init_zero_rev, freeze_init_zero_reshuffle)
    return named("method.mask0", name, {f.__name__: f for f in plain})


def shuffled(values: Tensor) -> Tensor:
    """The entries of a vector in random order."""
    return values[torch.randperm(len(values), device=values.device)]
