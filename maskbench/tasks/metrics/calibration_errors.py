"""Calibration and selective prediction of classes as functions of how often each test input counts, to be drawn anew.

`errors(...)` sorts and bins once; what it returns gives every score under any counts [n, draws]. Counts of 1 give the scores
themselves: those of metrics/uncertainty.py to rounding, whose rules on ties and edges hold here too.

- `ece`, `ece_adaptive`: as there, in bins of equal width and of equal count.
- `ece_debiased`: the root of the squared error of calibration without its bias, sum over bins of equal count of their share
  times (confidence - accuracy)^2 - accuracy (1 - accuracy) / (count - 1), 0 where that is negative (Kumar et al. 2019, arXiv
  1909.10155, definition 5.2). Rows of equal confidence are in one bin.
- `ece_classwise`: the mean over classes of the gap between a class's probability and its frequency in bins of equal width (Kull
  et al. 2019, arXiv 1910.12656; Nixon et al. 2019 call it SCE).
- `ks_error`: the largest gap between summed confidences and summed hits over the inputs in the order of confidence, over n (Gupta
  et al. 2021, arXiv 2006.12800): no bins.
- `aurc`; `e_aurc`, that minus the least that so many errors allow (Geifman et al. 2019, here exact, not its limit for large n);
  `auarc`, the mean accuracy among the k surest inputs, 1 - aurc (Nadeem et al. 2009).
"""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from maskbench.tasks.metrics.bootstrap import Score
from maskbench.tasks.metrics.uncertainty import DECIMALS, bin_of, confidence, ece

PLACES = 200_000  # classes times inputs up to which the class-wise error is drawn anew


def classwise(log_p: Tensor, y: Tensor, bins: int) -> float:
    """`ece_classwise` of mean predictions, log-probabilities [n, classes], y [n]."""
    p = log_p.double().exp()
    return sum(ece(p[:, c], y == c, bins) for c in range(p.shape[-1])) / p.shape[-1]


def errors(log_p: Tensor, y: Tensor, bins: int) -> Score:
    """Every score of mean predictions, log-probabilities [n, classes], y [n], as a function of counts [n, draws] -> [draws].

    The class-wise error is among them for up to PLACES probabilities.
    """
    log_p, y = log_p.double().cpu(), y.cpu()
    sure, guess = confidence(log_p)
    right = (guess == y).double()
    own = -log_p.gather(1, y[:, None])[:, 0]
    brier = (log_p.exp() - torch.nn.functional.one_hot(y, log_p.shape[-1])).square().sum(-1)
    means = torch.stack([right, own, brier])
    wide, ranked = in_bins(sure, right, bins), by_confidence(sure, right, bins)
    each = by_class(log_p.exp(), y, bins) if log_p.numel() <= PLACES else None

    def score(counts: Tensor) -> dict[str, Tensor]:
        accuracy, nll, squares = means @ counts / counts.sum(0)
        numbers = {"accuracy": accuracy, "nll": nll, "brier": squares, "ece": wide(counts)} | ranked(counts)
        return numbers | ({} if each is None else {"ece_classwise": each(counts)})

    return score


def in_bins(p: Tensor, hits: Tensor, bins: int) -> Callable[[Tensor], Tensor]:
    """|hits - p| in bins of equal width, weighted by their inputs."""
    inside = torch.nn.functional.one_hot(bin_of(p, bins), bins).double().T * (hits - p)
    return lambda counts: (inside @ counts).abs().sum(0) / counts.sum(0)


def by_class(p: Tensor, y: Tensor, bins: int) -> Callable[[Tensor], Tensor]:
    """The mean over classes of `in_bins` of each class against the others."""
    each = [in_bins(p[:, c], (y == c).double(), bins) for c in range(p.shape[-1])]
    return lambda counts: sum(gap(counts) for gap in each) / len(each)


def by_confidence(sure: Tensor, right: Tensor, bins: int) -> Callable[[Tensor], dict[str, Tensor]]:
    """The scores that go by the order of the confidences; rows of equal confidence are one level, which has their mean."""
    levels, level = sure.double().round(decimals=DECIMALS).unique(return_inverse=True)
    order = level.argsort(stable=True)
    ends = torch.bincount(level).cumsum(0) - 1  # of the levels, among the rows in order
    hits, gaps = (values[order, None] for values in (right, right - levels[level]))

    def score(counts: Tensor) -> dict[str, Tensor]:
        n, ordered = int(counts[:, 0].sum()), counts.index_select(0, order)
        upto, hit, gap = (ordered.mul(values).cumsum(0)[ends] for values in (torch.ones_like(hits), hits, gaps))
        cuts = torch.tensor([0, *accumulate(n // bins + (number < n % bins) for number in range(bins))])
        risk = aurc(n, upto, hit)
        return {
            "ece_adaptive": part(gap, upto, cuts).abs().sum(0) / n,
            "ece_debiased": debiased(upto, hit, gap, cuts),
            "ks_error": gap.abs().amax(0) / n,
            "aurc": risk,
            "e_aurc": risk - least_aurc(n)[(n - hit[-1]).long()],
            "auarc": 1 - risk,
        }

    return score


def part(total: Tensor, upto: Tensor, cuts: Tensor) -> Tensor:
    """What of a running total lies between the cuts, [bins, draws]; a level that a cut goes through is divided.

    total, upto: of the values and of the inputs, up to each level, [levels, draws].
    """
    at = first(upto, cuts)

    def before(running: Tensor) -> Tensor:
        return torch.where(at > 0, running.gather(0, (at - 1).clamp_min(0)), 0.0)

    rows = upto.gather(0, at) - before(upto)
    share = (cuts.to(upto)[:, None] - before(upto)) / rows.clamp_min(1)
    return (before(total) + (total.gather(0, at) - before(total)) * share).diff(dim=0)


def first(upto: Tensor, cuts: Tensor) -> Tensor:
    """The first level with at least so many inputs up to it, for each cut: [cuts, draws]."""
    return torch.searchsorted(upto.T.contiguous(), cuts.to(upto).expand(upto.shape[1], -1).contiguous()).T


def debiased(upto: Tensor, hit: Tensor, gap: Tensor, cuts: Tensor) -> Tensor:
    """The root of the squared calibration error without its bias; a level that a cut goes through is in the bin below."""
    last = first(upto, cuts[1:])  # the last level of each bin

    def within(total: Tensor) -> Tensor:
        ends = total.gather(0, last)
        return torch.cat([ends[:1], ends.diff(dim=0)])

    count, hits, gaps = within(upto), within(hit), within(gap)
    many = count.clamp_min(1)
    square = (gaps / many).square() - hits / many * (1 - hits / many) / (count - 1).clamp_min(1)
    return torch.where(count > 1, count * square, 0.0).sum(0).div(upto[-1]).clamp_min(0).sqrt()


def aurc(n: int, upto: Tensor, hit: Tensor) -> Tensor:
    """Error among the k surest of n inputs, mean over k. In a level of m inputs with error r behind c inputs with w errors that
    is sum over j = 1 .. m of (w + j r) / (c + j) = m r + (w - c r) (H(c + m) - H(c)), H the harmonic numbers."""
    nothing = torch.zeros_like(upto[:1])
    held, wrong = (running.diff(dim=0, prepend=nothing) for running in (upto, upto - hit))
    above = n - upto  # inputs of higher levels
    wrong_above = above - (hit[-1] - hit)
    rate = wrong / held.clamp_min(1)
    steps = -harmonics(n)[torch.cat([nothing + n, above]).long()].diff(dim=0)
    return (wrong + (wrong_above - above * rate) * steps).sum(0) / n


def least_aurc(n: int) -> Tensor:
    """The least `aurc` of n inputs with 0, 1, ... n errors: all errors are the least sure. [n + 1]."""
    harmonic, wrong = harmonics(n), torch.arange(n + 1)
    right = n - wrong  # behind them the error is (k - right) / k
    return (wrong - right * (harmonic[n] - harmonic[right])) / n


def harmonics(n: int) -> Tensor:
    """1 + 1/2 + ... + 1/k for k = 0 .. n, float64."""
    return (1 / torch.arange(n + 1, dtype=torch.float64)).index_fill(0, torch.tensor([0]), 0).cumsum(0)
