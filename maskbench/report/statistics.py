"""What several seeds say together: means with intervals, paired differences, interquartile means. Imports no torch.

The interquartile mean with stratified bootstrap intervals is that of Agarwal et al. 2021, Deep Reinforcement Learning at
the Edge of the Statistical Precipice (arXiv 2108.13264). numpy and scipy are imported only when something is computed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
DRAWS = 2000  # of a bootstrap


@dataclass(frozen=True)
class Mean:
    """The mean of `n` numbers and its interval; one number has no interval."""

    n: int
    mean: float
    low: float | None
    high: float | None


def mean(values: Sequence[float], level: float = LEVEL, *, most: float | None = None) -> Mean:
    """Mean and Student's t interval.

    most: of shares, what all is (1 or 100). Where their interval would go below 0 or beyond it, it is taken on the scale of the
        arcsine of their root (`bounded`). Numbers that are not all between the two are taken for no shares.

    Raises:
        ValueError: there are no numbers.
    """
    if not values:
        raise ValueError("the mean of no numbers")
    n, centre = len(values), fmean(values)
    if n == 1:
        return Mean(n, centre, None, None)
    half = student(level, n - 1) * math.sqrt(math.fsum((x - centre) ** 2 for x in values) / (n - 1) / n)
    low, high = centre - half, centre + half
    if most is not None and not (low >= 0 and high <= most) and all(0 <= value <= most for value in values):
        low, high = (most * float(end) for end in bounded(centre / most, half / most))
    return Mean(n, centre, low, high)


def bounded(mean: "np.ndarray | float", half: "np.ndarray | float") -> "tuple[np.ndarray, np.ndarray]":
    """(low, high): an interval of shares around `mean`, `half` as wide to each side where shares spread alike: on the scale of
    the arcsine of their root.

    The half width is taken there to first order (the delta method), so single values may be 0 or 1, and the ends reach 0 and 1
    at most; a mean of 0 or of 1 has no width. (On logits the far end of three values near 1 would lie below all sense.)
    """
    import numpy as np

    mean = np.clip(np.asarray(mean, dtype=float), 0, 1)
    slope = 2 * np.sqrt(mean * (1 - mean))  # of shares against angles
    angle, away = np.arcsin(np.sqrt(mean)), np.minimum(np.where(slope > 0, half, 0) / np.where(slope > 0, slope, 1), np.pi)
    low, high = (np.sin(np.clip(angle + side, 0, np.pi / 2)) ** 2 for side in (-away, away))
    return np.minimum(low, mean), np.clip(np.maximum(high, mean), 0, 1)


@cache
def student(level: float, freedom: int) -> float:
    """So many standard errors lie to each side of a mean in its interval, by Student's t."""
    from scipy.special import stdtrit  # the quantile that scipy.stats.t gives, without scipy.stats's second of imports

    return float(stdtrit(freedom, 0.5 + level / 2))


@dataclass(frozen=True)
class Paired:
    """Differences a - b of numbers that belong together pair by pair, as two methods do under one seed.

    effect: Cohen's d_z, the mean difference over the standard deviation of the differences; None where they are all
        equal or only one. sign_p: two-sided sign test, ties left out; None where all are ties.
    """

    difference: Mean
    effect: float | None
    wins: int
    ties: int
    losses: int
    sign_p: float | None


def paired(a: Sequence[float], b: Sequence[float], less: bool = False) -> Paired:
    """Two samples compared pair by pair, as by seed: the mean difference, its interval, wins, and the sign test.

    Args:
        less: the lower number of a pair wins.

    Raises:
        ValueError: the numbers do not come in pairs.
    """
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    spread = stdev(gaps) if len(gaps) > 1 else 0.0
    above, below = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    wins, losses = (below, above) if less else (above, below)
    effect = fmean(gaps) / spread if spread > 0 else None
    return Paired(mean(gaps), effect, wins, len(gaps) - wins - losses, losses, _sign_test(wins, wins + losses))


def _sign_test(wins: int, n: int) -> float | None:
    from scipy.stats import binomtest

    return float(binomtest(wins, n).pvalue) if n else None


# ---- robust aggregates


def iqm(strata: Sequence[Sequence[float]]) -> float:
    """Interquartile mean of all numbers of all strata: the mean without the lowest and the highest quarter."""
    from scipy.stats import trim_mean

    return float(trim_mean([value for stratum in strata for value in stratum], 0.25))


def bootstrap(
    strata: Sequence[Sequence[float]],
    statistic: "Callable[[np.ndarray], np.ndarray] | None" = None,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `statistic` when runs are drawn anew, with replacement, within each stratum.

    statistic: [draws, numbers] -> [draws]; None: the interquartile mean.
    """
    import numpy as np
    from scipy.stats import trim_mean

    generator = np.random.default_rng(seed)
    resampled = [np.asarray(one)[generator.integers(0, len(one), (draws, len(one)))] for one in strata]
    statistics = (statistic or (lambda x: trim_mean(x, 0.25, axis=1)))(np.concatenate(resampled, axis=1))
    low, high = np.quantile(statistics, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
