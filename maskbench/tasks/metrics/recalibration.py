"""Recalibration: maps from a net's answers to answers that are as sure as they are right, fitted on held-out rows.

Classes: log-probabilities [n, classes] of the mean prediction take the place of a net's outputs (they are these but for a number
an input), so that ensembles are recalibrated as a whole. Temperature (metrics/uncertainty.py) and vector scaling: Guo et al. 2017
(arXiv 1706.04599). Platt scaling: Platt 1999, one class against the others (Zadrozny and Elkan 2002), as scikit-learn does it.
Reals: isotonic regression of what share of targets lies below a predicted quantile (Kuleshov et al. 2018, arXiv 1807.00263).

A map is None where there is no best one: NLL falls on and on as answers become surer.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.tasks.metrics import uncertainty
from maskbench.tasks.metrics.uncertainty import HOTTEST

Map = Callable[[Tensor], Tensor]  # log-probabilities [n, classes] -> recalibrated ones
STEPS = 500  # of L-BFGS, at most
FLAT = 1e-4  # the slope of NLL, in nats, at which it has ended
CLASSES, REALS = ("temperature", "vector", "platt"), ("isotonic",)
LEVELS = tuple(i / 100 for i in range(1, 100))  # quantiles by which predicted distributions are judged
INTERVALS = (50, 90, 95)  # percent
EDGE = 1e-9  # a distribution's quantiles are asked from here to 1 - EDGE: that of 1 is infinite


def check(kinds: Sequence[str], regression: bool) -> None:
    """Refuse maps that are for other targets.

    Raises:
        UsageError: names the first such map, and those that there are.
    """
    for kind in kinds:
        if kind not in (fit := REALS if regression else CLASSES):
            told = "reals" if regression else "classes"
            others = "classes" if regression else "reals"
            raise UsageError(f"task.recalibrate={kind} is for {others}, and these data have {told}: take {' or '.join(fit)}.")


# ---- classes


def temperature(log_p: Tensor, y: Tensor) -> Map | None:
    """log softmax(log p / T), T of least NLL."""
    t = uncertainty.temperature(log_p, y)
    return None if t is None else lambda theirs: uncertainty.tempered(theirs, t)


def vector(log_p: Tensor, y: Tensor) -> Map | None:
    """log softmax(w * log p + b), a weight and a bias for each class, of least NLL."""
    z = log_p.double()
    count = z.shape[-1]

    def loss(v: Tensor) -> Tensor:
        return -(v[:count] * z + v[count:]).log_softmax(-1).gather(1, y[:, None]).mean()

    found = least(loss, torch.cat([torch.ones(count), torch.zeros(count)]).to(z))
    if found is None or found.abs().max() > HOTTEST:
        return None
    w, b = found.split(count)
    if ((w * z + b).argmax(-1) == y).all():  # a steeper map would have less NLL still
        return None
    return lambda theirs: (w * theirs.double() + b).log_softmax(-1)


def platt(log_p: Tensor, y: Tensor) -> Map | None:
    """Each class's log-odds through a sigmoid of its own, then divided by their sum over classes. Targets are Platt's, a little
    inside 0 and 1, so that there always is a best one."""
    odds, count = log_odds(log_p), log_p.shape[-1]
    slopes = []
    for c in range(count):
        own = (y == c).double()
        hits = own.sum()
        target = torch.where(own > 0, (hits + 1) / (hits + 2), 1 / (len(y) - hits + 2))
        spread = max(1.0, odds[:, c].abs().max().item())

        def loss(v: Tensor, f: Tensor = odds[:, c] / spread, target: Tensor = target) -> Tensor:
            return torch.nn.functional.binary_cross_entropy_with_logits(v[0] * f + v[1], target)

        found = least(loss, torch.tensor([spread, 0.0]).to(odds))
        if found is None:
            return None
        slopes.append(found / found.new_tensor([spread, 1.0]))
    a, b = torch.stack(slopes, -1)

    def mapped(theirs: Tensor) -> Tensor:
        shares = torch.nn.functional.logsigmoid(a * log_odds(theirs) + b)
        return shares - shares.logsumexp(-1, keepdim=True)

    return mapped


def log_odds(log_p: Tensor) -> Tensor:
    """log p - log(1 - p), float64, finite where the float nearest to p is 1: [n, classes]. One class: as log 1e300."""
    z = log_p.double().log_softmax(-1)
    top = z.argmax(-1, keepdim=True)
    rest = z.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True)  # of all but the largest
    others = torch.log1p(-z.exp()).scatter(-1, top, rest)
    return (z - others).clamp(-math.log(1e300), math.log(1e300))


def least(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor | None:
    """Where a convex loss is least, by L-BFGS; None where it has not come to an end."""

    def value(at: np.ndarray) -> tuple[float, np.ndarray]:
        v = torch.from_numpy(at).to(start).requires_grad_()
        with torch.enable_grad():
            result = loss(v)
        (slope,) = torch.autograd.grad(result, v)
        return result.item(), slope.cpu().double().numpy()

    options = {"maxiter": STEPS, "gtol": 1e-8, "ftol": 1e-14}
    found = minimize(value, start.cpu().numpy(), jac=True, method="L-BFGS-B", options=options)
    ended = np.isfinite(found.x).all() and np.abs(found.jac).max() < FLAT
    return torch.from_numpy(found.x).to(start) if ended else None


MAPS: dict[str, Callable[[Tensor, Tensor], Map | None]] = {"temperature": temperature, "vector": vector, "platt": platt}


# ---- reals


class Isotonic:
    """The share of targets that lies below a predicted quantile, as it was on held-out rows: a rising map of [0, 1] onto itself,
    straight between the rows' own levels. Of those levels the shares rise already, so pooling has nothing to do.

    Args:
        levels: where each held-out target stands in its own predicted distribution, [rows], in [0, 1].
    """

    def __init__(self, levels: Tensor) -> None:
        at, counts = levels.double().cpu().unique(return_counts=True)
        share = counts.cumsum(0).double() / len(levels)
        inside = (at > 0) & (at < 1)
        self.at = np.concatenate([[0.0], at[inside].numpy(), [1.0]])
        self.share = np.concatenate([[0.0], share[inside].numpy(), [1.0]])

    def __call__(self, levels: Tensor) -> Tensor:
        """Recalibrated levels."""
        return torch.from_numpy(np.interp(levels.cpu().numpy(), self.at, self.share)).to(levels)

    def inverse(self, share: float) -> float:
        """The predicted level below which this share of targets lies."""
        first = np.concatenate([[True], np.diff(self.share) > 0])
        return float(np.clip(np.interp(share, self.share[first], self.at[first]), EDGE, 1 - EDGE))


def quantiles(levels: Tensor, spread: Tensor, mapped: Isotonic | None = None) -> dict[str, float]:
    """How calibrated predicted Gaussians are, as they are or through a map.

    `quantile_error`: the mean over LEVELS of |share of targets below that quantile - level|; `coverage_<p>` and `width_<p>` of
    central intervals.

    Args:
        levels: where each target stands in its own distribution, [rows]. spread: predicted deviations, [rows].
    """
    at = levels.double() if mapped is None else mapped(levels.double())
    asked = torch.tensor(LEVELS, dtype=torch.float64, device=at.device)
    shares = (at[:, None] <= asked).double().mean(0)
    numbers = {"quantile_error": (shares - asked).abs().mean().item()}
    for percent in INTERVALS:
        ends = [(1 - percent / 100) / 2, (1 + percent / 100) / 2]
        ends = ends if mapped is None else [mapped.inverse(end) for end in ends]
        low, high = torch.special.ndtri(torch.tensor(ends, dtype=torch.float64, device=at.device))
        inside = (levels >= ends[0]) & (levels <= ends[1])
        numbers |= {
            f"coverage_{percent}": inside.double().mean().item(),
            f"width_{percent}": ((high - low) * spread.mean()).item(),
        }
    return numbers


def reals(choose: tuple[Tensor, Tensor, Tensor] | None, test: tuple[Tensor, Tensor, Tensor]) -> tuple[dict, dict]:
    """(`quantiles` as they are, `quantiles` after the isotonic map), the mean over folds and values, each with a map of its own.

    choose, test: (mean, variance, target), each [n, folds, values]; None where nothing is held out, or a variance is 0: then all
    are None.
    """
    plain = names = dict.fromkeys(["quantile_error", *(f"{what}_{p}" for p in INTERVALS for what in ("coverage", "width"))])
    if (test[1] <= 0).any():
        return plain, names
    columns = [part.flatten(1).T for part in (standing(*test), test[1].sqrt())]
    plain = mean([quantiles(*column) for column in zip(*columns, strict=True)])
    if choose is None or (choose[1] <= 0).any():
        return plain, names
    maps = [Isotonic(column) for column in standing(*choose).flatten(1).T]
    return plain, mean([quantiles(*column) for column in zip(*columns, maps, strict=True)])


def standing(centre: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    """Where each target stands in the predicted Gaussian, 0 to 1, [n, folds, values]."""
    return torch.special.ndtr((y - centre) / variance.sqrt())


def mean(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(one[name] for one in each) / len(each) for name in each[0]}
