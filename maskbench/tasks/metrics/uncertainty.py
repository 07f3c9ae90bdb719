"""Classification: how right, how sure and how calibrated a set of members is, and what it makes of unknown classes.

Members are log-probabilities [members, n, classes], finite, float64: a probability may be too small for a float, its
logarithm is not. What is judged is the members' mean probability unless a name says `member`. Definitions are those of
Lakshminarayanan et al. 2017 (arXiv 1612.01474) where not said otherwise. Undefined is None. No number depends on the order
of the rows.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.special import entr

DECIMALS = 12  # of a confidence: what differs less is equal, for ranks and at the edges of bins
HOTTEST = 1000.0  # temperature that is looked for; the coldest is its inverse


def mixture(members: Tensor) -> Tensor:
    """Log of the members' mean probability: [members, n, classes] -> [n, classes], float64."""
    return members.double().logsumexp(0) - math.log(len(members))


def confidence(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """(largest probability, its class), each [n], of log-probabilities [n, classes]."""
    largest, guess = log_p.max(-1)
    return largest.exp(), guess


def calibration(members: Tensor, y: Tensor, bins: int) -> dict[str, float]:
    """Accuracy; NLL (nats); Brier score, the sum over classes (not divided by them); ECE of the most probable class,
    L1, with `bins` bins of equal width, and `ece_adaptive` with as many of equal count.

    members: log-probabilities [members, n, classes]; y: [n].
    """
    log_p = mixture(members)
    truth = torch.nn.functional.one_hot(y, log_p.shape[-1])
    sure, guess = confidence(log_p)
    return {
        "accuracy": (guess == y).double().mean().item(),
        "nll": nll(log_p, y),
        "brier": (log_p.exp() - truth).square().sum(-1).mean().item(),
        "ece": ece(sure, guess == y, bins),
        "ece_adaptive": adaptive_ece(sure, guess == y, bins),
    }


def nll(log_p: Tensor, y: Tensor) -> float:
    return -log_p.double().gather(1, y[:, None]).mean().item()


def bin_of(sure: Tensor, bins: int) -> Tensor:
    """The bin of each confidence, from 0: ((k - 1) / bins, k / bins], closed on the right (Guo et al. 2017, equation 3).

    A confidence of k / bins but for the rounding of float64 is that edge itself, so it is in the bin below.
    """
    place = (sure.double() * bins).round(decimals=DECIMALS).ceil()
    return place.long().clamp(1, bins) - 1


def ece(sure: Tensor, right: Tensor, bins: int) -> float:
    """|accuracy - confidence| in each of `bins` bins of equal width, weighted by their counts."""
    gaps = torch.zeros(bins, dtype=torch.float64, device=sure.device)
    return gaps.index_add(0, bin_of(sure, bins), right.double() - sure.double()).abs().sum().item() / len(sure)


def adaptive_ece(sure: Tensor, right: Tensor, bins: int) -> float:
    """|accuracy - confidence| in each of `bins` bins of equal count (to one), weighted by their counts. Where rows of
    equal confidence fall into several bins each has its part of all of them."""
    ordered, right = by_rank(sure, right)
    parts = zip(ordered.tensor_split(bins), right.tensor_split(bins), strict=True)
    return sum((a.sum() - b.sum()).abs().item() for a, b in parts) / len(sure)


def by_rank(sure: Tensor, values: Tensor, descending: bool = False) -> tuple[Tensor, Tensor]:
    """(confidences, values) in the order of the confidence, float64; rows of equal confidence have the mean of their
    values, which is what each place of theirs holds on average over all their orders."""
    levels, level = sure.double().round(decimals=DECIMALS).unique(return_inverse=True)
    count = torch.zeros_like(levels).index_add(0, level, torch.ones_like(levels[level]))
    mean = torch.zeros_like(levels).index_add(0, level, values.double()) / count
    order = level.argsort(descending=descending)
    return levels[level[order]], mean[level[order]]


# ---- what members know and where they differ


def scores(members: Tensor) -> dict[str, Tensor | None]:
    """How unsure of each input [n], larger is less sure: `entropy` of the mean, `mi` (mutual information of answer and
    member: entropy minus the members' mean entropy; None for one member), `maxprob` (1 - the largest mean probability)."""
    log_p = mixture(members)
    total = entropy(log_p)
    mi = total - expected_entropy(members) if len(members) > 1 else None
    return {"entropy": total, "mi": mi, "maxprob": 1 - log_p.amax(-1).exp()}


def entropy(log_p: Tensor) -> Tensor:
    """Of distributions [n, classes], nats, [n]."""
    return entr(log_p.double().exp()).sum(-1)


def expected_entropy(members: Tensor) -> Tensor:
    """Mean over members of the entropy of each, [n]."""
    return torch.stack([entropy(member) for member in members]).mean(0)


def diversity(members: Tensor, y: Tensor) -> dict[str, float | None]:
    """Means over inputs: total, expected and epistemic entropy (nats); variation ratio (share of votes off the modal one);
    disagreement (share of pairs of members whose votes differ); KL of each member from their mean, summed as the paper
    has it; and what single members reach on average. What needs two members is None for one."""
    known, votes, several = scores(members), members.argmax(-1), len(members) > 1
    counts = torch.stack([(votes == label).sum(0) for label in range(members.shape[-1])], 1).double()  # [n, classes]
    m = len(members)
    agree = (counts * (counts - 1)).sum(-1) / (m * (m - 1)) if several else None
    return {
        "entropy": known["entropy"].mean().item(),
        "expected_entropy": expected_entropy(members).mean().item(),
        "mutual_information": known["mi"].mean().item() if several else None,
        "variation_ratio": (1 - counts.amax(-1) / m).mean().item() if several else None,
        "disagreement": (1 - agree).mean().item() if several else None,
        "kl_from_mean": m * known["mi"].mean().item() if several else None,  # sum_m KL(p_m || p) = M * MI
        "member_accuracy": (votes == y).double().mean().item(),
        "member_nll": sum(nll(one, y) for one in members) / m,
    }


def by_members(members: Tensor, y: Tensor, bins: int) -> list[dict[str, float]]:
    """Calibration of the first 1, 2, ... members: all counts up to ten, then ever fewer, and all of them."""
    return [{"members": count} | calibration(members[:count], y, bins) for count in counts_of(len(members))]


def counts_of(members: int) -> list[int]:
    """1 .. 10, then 1, 2 and 5 times powers of ten, then the last."""
    steps = [*range(1, 11), *(k * 10**e for e in range(1, 7) for k in (2, 5, 10))]
    return [c for c in steps if c < members] + [members]


# ---- unknown classes

DETECTION = ("auroc", "aupr", "aupr_in", "fpr95")


def detection(known: Tensor, unknown: Tensor) -> dict[str, float | None]:
    """Telling unknown inputs (the positive class) from known ones by a score that is larger for them.

    AUROC; AUPR of finding unknown ones (which depends on how many of each there are) and, with turned signs, of finding
    known ones; FPR95, the share of known ones at or above the threshold that finds 95 % of the unknown. All are None
    where there are no inputs of one kind.
    """
    from torchmetrics.functional.classification import (
        binary_auroc,
        binary_average_precision,
        binary_specificity_at_sensitivity,
    )

    if not len(known) or not len(unknown):
        return dict.fromkeys(DETECTION)
    score = ranks(torch.cat([known, unknown]))  # torchmetrics takes what leaves [0, 1] for logits
    target = torch.cat([torch.zeros(len(known)), torch.ones(len(unknown))]).long().to(score.device)
    specificity, _ = binary_specificity_at_sensitivity(score, target, min_sensitivity=0.95)
    values = (binary_auroc(score, target), binary_average_precision(score, target))
    values += (binary_average_precision(1 - score, 1 - target), 1 - specificity)
    return {name: value.item() for name, value in zip(DETECTION, values, strict=True)}


def ranks(score: Tensor) -> Tensor:
    """The scores as numbers in [0, 1] in the same order, ties kept, float64."""
    values, place = score.unique(return_inverse=True)
    return place.double() / max(1, len(values) - 1)


def outside(known: Tensor, unknown: Tensor) -> dict[str, float | None]:
    """`detection` by each score, and the mean over members of the AUROC by a member's own entropy.

    known, unknown: members' log-probabilities [members, n, classes] on each set. Names are `<what>_<score>`.
    """
    ours, theirs = scores(known), scores(unknown)
    numbers: dict[str, float | None] = {}
    for name, score in ours.items():
        by_score = dict.fromkeys(DETECTION) if score is None else detection(score, theirs[name])
        numbers |= {f"{what}_{name}": value for what, value in by_score.items()}
    alone = [detection(entropy(a), entropy(b))["auroc"] for a, b in zip(known, unknown, strict=True)]
    numbers["member_auroc_entropy"] = None if None in alone else sum(alone) / len(alone)
    return numbers | {"entropy": theirs["entropy"].mean().item() if unknown.shape[1] else None}


# ---- answering only when sure


def selective(sure: Tensor, right: Tensor) -> dict[str, float]:
    """`aurc`: the error among the k surest inputs, mean over k = 1 .. n (Geifman et al. 2019); `risk_80`: among the
    surest 80 %. Of equally sure inputs the mean over all their orders."""
    _, wrong = by_rank(sure, ~right, descending=True)
    risk = wrong.cumsum(0) / torch.arange(1, len(wrong) + 1, device=wrong.device)
    return {"aurc": risk.mean().item(), "risk_80": risk[max(1, round(0.8 * len(wrong))) - 1].item()}


def by_confidence(sure: Tensor, right: Tensor, thresholds: Sequence[float]) -> list[dict[str, float | None]]:
    """Accuracy over the inputs with a largest probability of at least each threshold, and the share of inputs those are."""
    rows = []
    for threshold in thresholds:
        kept = sure >= threshold
        accuracy = right[kept].double().mean().item() if kept.any() else None
        rows.append({"threshold": threshold, "accuracy": accuracy, "kept": kept.double().mean().item()})
    return rows


def reliability(sure: Tensor, right: Tensor, bins: int) -> list[dict[str, float | None]]:
    """Mean confidence, accuracy and count in bins of equal width of the largest probability."""
    place = bin_of(sure, bins)
    rows = []
    for number in range(bins):
        inside = place == number
        columns = {"confidence": sure, "accuracy": right} if inside.any() else {}
        means = {name: values[inside].double().mean().item() for name, values in columns.items()}
        rows.append({"bin": number, "confidence": None, "accuracy": None, "count": int(inside.sum())} | means)
    return rows


# ---- temperature


def temperature(log_p: Tensor, y: Tensor) -> float | None:
    """The temperature under which log_p [n, classes] has the least NLL on y: d NLL / d(1/T) = E_p[z] - z_y, z = log p,
    rises with 1/T, so its zero is bracketed and halved, on a logarithmic scale.

    None where it is not between 1 / HOTTEST and HOTTEST: then NLL falls on and on as answers become surer (all rows are
    right) or even (they are no better than chance).
    """
    z = log_p.double()
    own = z.gather(1, y[:, None]).mean()

    def slope(inverse: float) -> Tensor:
        return ((inverse * z).softmax(-1) * z).sum(-1).mean() - own

    low, high = 1 / HOTTEST, HOTTEST
    if not slope(low) < 0 < slope(high):
        return None
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / middle


def tempered(log_p: Tensor, t: float) -> Tensor:
    """log softmax(log p / t), float64."""
    return (log_p.double() / t).log_softmax(-1)
