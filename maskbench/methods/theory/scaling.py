"""How wide must a random net be? The search for the narrowest width, and fits over errors and sizes with intervals."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from maskbench.common.streams import generator
from maskbench.methods.theory import certify, construct


class Bracket(NamedTuple):
    """The narrowest width that fits, its measured error, and how many widths were tried."""

    width: int
    error: float
    tried: int


def narrowest(
    measure: Callable[[int], float],
    eps: float,
    start: int,
    *,
    growth: float,
    most: int,
    resolution: float = 0.0,
    floor: int = 0,
) -> Bracket | None:
    """The narrowest width above `floor` with measure(width) <= eps, where the next narrower one that was tried fails.

    Grows or shrinks from `start` by the factor `growth` until the answer lies between two widths, then halves the gap until
    it is one, or `resolution` times the width. Measured errors need only fall roughly: what is returned was measured.
    None: even `most` fails.
    """
    tried: dict[int, float] = {}

    def fits(width: int) -> bool:
        tried[width] = measure(width)
        return tried[width] <= eps

    low, high = floor, min(max(floor + 1, start), most)
    bounded = floor > 0  # whether `low` is known to fail
    while not fits(high):
        low, bounded = high, True
        if high == most:
            return None
        high = min(most, max(high + 1, round(high * growth)))
    while not bounded and high > 1:
        narrower = max(1, min(high - 1, round(high / growth)))
        if fits(narrower):
            high = narrower
        else:
            low, bounded = narrower, True
    while high - low > max(1, resolution * high):
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return Bracket(high, tried[high], len(tried))


def random_target(shape: Sequence[int], *stream: object) -> list[torch.Tensor]:
    """Gaussian layers of spectral norm 1, `shape` = inputs, widths, outputs."""
    layers = []
    for i, (d_in, d_out) in enumerate(zip(shape[:-1], shape[1:], strict=True)):
        w = torch.randn(d_out, d_in, dtype=torch.float64, generator=generator(*stream, "target", i))
        layers.append(w / certify.norm(w))
    return layers


class Built(NamedTuple):
    """A target built from random layers of one width: the certificate, and all errors of weights."""

    certificate: float
    errors: torch.Tensor


def build(target: Sequence[torch.Tensor], rule: construct.Rule, width: int, *stream: object) -> Built:
    """Inputs from the whole ball: the first layer needs both sides, the others are behind ReLUs."""
    maps, errors = [], []
    for i, w in enumerate(target):
        pairs = construct.draw(tuple(w.shape), width, "uniform", *stream, i)
        kept = construct.choose(w, pairs, i == 0, rule, 0.0)
        maps.append(construct.effect(*pairs, kept, i == 0))
        sides = [maps[-1].plus - w] + ([maps[-1].minus + w] if i == 0 else [])
        errors.append(torch.cat([side.abs().flatten() for side in sides]))
    return Built(certify.certificate(target, maps), torch.cat(errors))


def width_needed(shape: Sequence[int], rule: construct.Rule, eps: float, start: int, *stream: object) -> Bracket | None:
    """The narrowest random net whose certificate for a random target of this shape is within eps."""
    target = random_target(shape, *stream)
    entries = sum(i * (1 + o) for i, o in zip(shape[:-1], shape[1:], strict=True))
    most = max(64, 150_000_000 // entries)
    return narrowest(
        lambda width: build(target, rule, width, *stream).certificate,
        eps, start, growth=rule.growth, most=most, resolution=0.02,
    )  # fmt: skip


class Slope(NamedTuple):
    """A mean slope with its 95 % interval."""

    slope: float
    low: float
    high: float


def slope(lines: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Slope:
    """The mean slope of independent lines (x, y), one a replicate, with a t interval over the replicates.

    Points of one replicate share its draw, so each replicate counts as one observation.
    """
    from scipy import stats

    fitted = [stats.linregress(x, y).slope for x, y in lines]
    mean = sum(fitted) / len(fitted)
    if len(fitted) < 2:
        return Slope(mean, -math.inf, math.inf)
    spread = math.sqrt(sum((s - mean) ** 2 for s in fitted) / (len(fitted) - 1) / len(fitted))
    reach = stats.t.ppf(0.975, len(fitted) - 1) * spread
    return Slope(mean, mean - reach, mean + reach)
