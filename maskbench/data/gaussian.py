"""Regression with Gaussians: means and variances out of a net's outputs, the loss, and scores of predictive mixtures.

A net states one mean per target value, or with twice as many outputs also a variance. Predictions are
[members, n, (folds,) 2 * values]: means, then variances, in standardised units; a variance of 0: the net states none.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from maskbench.common.errors import UsageError

FLOOR = 1e-6  # of a stated variance, in standardised units (1612.01474)
LEVELS = (50, 90, 95)  # percent, of central intervals


def split(outputs: Tensor, values: int) -> tuple[Tensor, Tensor | None]:
    """A net's outputs [..., values] -> (means, None), or [..., 2 * values] -> (means, variances).

    Raises:
        UsageError: another number of outputs.
    """
    if outputs.shape[-1] == values:
        return outputs, None
    if outputs.shape[-1] != 2 * values:
        raise UsageError(
            f"backbone.outputs={outputs.shape[-1]} must be {values}, a mean for each target, or {2 * values}, with variances"
        )
    mean, raw = outputs.split(values, -1)
    return mean, softplus(raw) + FLOOR


def moments(outputs: Tensor, values: int) -> Tensor:
    """A net's outputs as a prediction [..., 2 * values]: means, then variances (0 where the net states none)."""
    mean, variance = split(outputs, values)
    return torch.cat([mean, torch.zeros_like(mean) if variance is None else variance], -1)


def answer(outputs: Tensor, values: int) -> Tensor:
    """The link of regression: values as they are, or where the net states variances a prediction as above."""
    return outputs if outputs.shape[-1] == values else moments(outputs, values)


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Gaussian negative log-likelihood without its constant, or squared error where the net states no variance.

    The mean over the batch (and, of the squared error, over values), summed over folds: each fold's gradient is that of
    training it alone. outputs: [batch, (folds,) values or 2 * values]; y: [batch, (folds,) values].
    """
    mean, variance = split(outputs, y.shape[-1])
    if variance is None:
        return (mean - y).square().sum() / (len(y) * y.shape[-1])
    return (0.5 * variance.log() + (y - mean).square() / (2 * variance)).sum() / len(y)


# ---- scores, by fold


def scores(members: Tensor, y: Tensor, units: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor | None]:
    """Scores of the uniform mixture of all members, one number for each fold [folds], in original units.

    `rmse` of the mean over members; `log_likelihood` of the mixture itself, the mean over rows of
    log (1/M) sum_m N(y; mean_m, variance_m); `nll_mixture` minus that; `nll` and `crps` of the one Gaussian with the
    mixture's moments, and `coverage_<p>`, `width_<p>` of its central intervals of p percent. None where no variance is
    stated that could make it defined.

    Args:
        members: [members, n, (folds,) 2 * values], standardised. y: [n, (folds,) values], standardised.
        units: (mean, deviation), each [folds, values]: value = mean + deviation * y.
    """
    mean, variance, y = in_units(members, y, units)
    centre, spread = mixture_moments(mean, variance)
    result: dict[str, Tensor | None] = {"rmse": (y - centre).square().mean((0, 2)).sqrt()}
    stated, known = bool((variance > 0).all()), bool((spread > 0).all())
    mixture = log_density(mean, variance, y).sum(-1) if stated else None  # [members, n, folds]
    likelihood = None if mixture is None else (mixture.logsumexp(0) - math.log(len(mixture))).mean(0)
    result |= {"log_likelihood": likelihood, "nll_mixture": None if likelihood is None else -likelihood}
    result["nll"] = -log_density(centre, spread, y).sum(-1).mean(0) if known else None
    result["crps"] = crps(centre, spread.sqrt(), y).mean((0, 2)) if known else None
    for level in LEVELS:
        half = spread.sqrt() * math.sqrt(2) * torch.erfinv(torch.tensor(level / 100, dtype=y.dtype, device=y.device))
        result[f"coverage_{level}"] = ((y - centre).abs() <= half).double().mean((0, 2)) if known else None
        result[f"width_{level}"] = 2 * half.mean((0, 2)) if known else None
    return result


def in_units(members: Tensor, y: Tensor, units: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
    """(means, variances [members, n, folds, values], targets [n, folds, values]) in original units, float64."""
    values = y.shape[-1]
    members, y = members.double(), y.double()
    mean, variance = members.split(values, -1)
    if y.ndim == 2:
        mean, variance, y = mean[:, :, None], variance[:, :, None], y[:, None]
    if units is None:
        return mean, variance, y
    shift, scale = (unit.to(y).reshape(-1, values) for unit in units)
    return shift + scale * mean, scale.square() * variance, shift + scale * y


def mixture_moments(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the uniform mixture over the first dimension: E[mu], E[var] + Var[mu]."""
    centre = mean.mean(0)
    return centre, (variance + (mean - centre).square()).mean(0)


def log_density(mean: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    """log N(y; mean, variance), element by element."""
    return -0.5 * ((y - mean).square() / variance + variance.log() + math.log(2 * math.pi))


def crps(mean: Tensor, deviation: Tensor, y: Tensor) -> Tensor:
    """Continuous ranked probability score of N(mean, deviation^2), in the units of y (Gneiting and Raftery 2007, eq. 5)."""
    z = (y - mean) / deviation
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return deviation * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def quantile_curve(members: Tensor, y: Tensor, levels: Sequence[float]) -> list[float] | None:
    """Share of targets (of all folds and values) below the one Gaussian's quantile, for each of `levels`."""
    mean, variance, y = in_units(members, y, None)
    centre, spread = mixture_moments(mean, variance)
    if not (spread > 0).all():
        return None
    below = torch.special.ndtr((y - centre) / spread.sqrt())  # where each target stands in its own distribution
    return [(below <= level).double().mean().item() for level in levels]
