"""Classification: how right, how sure and how calibrated a set of members is, and what it makes of unknown classes.

Members are probabilities [members, n, classes]; what is judged is their mean unless a name says `member`. Definitions
are those of Lakshminarayanan et al. 2017 (arXiv 1612.01474) where not said otherwise. Undefined is None.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.special import entr

TINY = 1e-300  # of a probability whose logarithm is taken


def calibration(members: Tensor, y: Tensor, bins: int) -> dict[str, float]:
    """Accuracy; NLL (nats); Brier score, the sum over classes (not divided by them); ECE of the most probable class,
    L1, with `bins` bins of equal width, and `ece_adaptive` with as many of equal count.

    members: probabilities [members, n, classes]; y: [n].
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    p = members.mean(0, dtype=torch.float64)
    truth = torch.nn.functional.one_hot(y, p.shape[-1])
    sure, guess = p.max(-1)
    return {
        "accuracy": (guess == y).double().mean().item(),
        "nll": nll(p, y),
        "brier": (p - truth).square().sum(-1).mean().item(),
        "ece": multiclass_calibration_error(below_one(p), y, num_classes=p.shape[-1], n_bins=bins, norm="l1").item(),
        "ece_adaptive": adaptive_ece(sure, guess == y, bins),
    }


def below_one(p: Tensor) -> Tensor:
    """Probabilities as float32 below 1: torchmetrics' bins are [low, high), and 1 itself would have a bin of its own."""
    return p.float().clamp(max=1 - 2**-24)


def nll(p: Tensor, y: Tensor) -> float:
    return -p.double().gather(1, y[:, None]).clamp_min(TINY).log().mean().item()


def adaptive_ece(sure: Tensor, right: Tensor, bins: int) -> float:
    """|accuracy - confidence| in each of `bins` bins of equal count (to one), weighted by their counts."""
    order = sure.argsort(stable=True)
    parts = zip(sure[order].double().tensor_split(bins), right[order].double().tensor_split(bins), strict=True)
    return sum((a.sum() - b.sum()).abs().item() for a, b in parts) / len(sure)


# ---- what members know and where they differ


def scores(members: Tensor) -> dict[str, Tensor | None]:
    """How unsure of each input [n], larger is less sure: `entropy` of the mean, `mi` (mutual information of answer and
    member: entropy minus the members' mean entropy; None for one member), `maxprob` (1 - the largest mean probability)."""
    p = members.mean(0, dtype=torch.float64)
    entropy = entr(p).sum(-1)
    mi = entropy - expected_entropy(members) if len(members) > 1 else None
    return {"entropy": entropy, "mi": mi, "maxprob": 1 - p.amax(-1)}


def expected_entropy(members: Tensor) -> Tensor:
    """Mean over members of the entropy of each, [n]."""
    return torch.stack([entr(m.double()).sum(-1) for m in members]).mean(0)


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


def detection(known: Tensor, unknown: Tensor) -> dict[str, float]:
    """Telling unknown inputs (the positive class) from known ones by a score that is larger for them.

    AUROC; AUPR of finding unknown ones (which depends on how many of each there are) and, with turned signs, of finding
    known ones; FPR95, the share of known ones at or above the threshold that finds 95 % of the unknown.
    """
    from torchmetrics.functional.classification import (
        binary_auroc,
        binary_average_precision,
        binary_specificity_at_sensitivity,
    )

    score = ranks(torch.cat([known, unknown]))  # torchmetrics takes what leaves [0, 1] for logits
    target = torch.cat([torch.zeros(len(known)), torch.ones(len(unknown))]).long().to(score.device)
    specificity, _ = binary_specificity_at_sensitivity(score, target, min_sensitivity=0.95)
    return {
        "auroc": binary_auroc(score, target).item(),
        "aupr": binary_average_precision(score, target).item(),
        "aupr_in": binary_average_precision(1 - score, 1 - target).item(),
        "fpr95": 1 - specificity.item(),
    }


def ranks(score: Tensor) -> Tensor:
    """The scores as numbers in [0, 1] in the same order, ties kept, float64."""
    values, place = score.unique(return_inverse=True)
    return place.double() / max(1, len(values) - 1)


def outside(known: Tensor, unknown: Tensor) -> dict[str, float | None]:
    """`detection` by each score, and the mean over members of the AUROC by a member's own entropy.

    known, unknown: members' probabilities [members, n, classes] on each set. Names are `<what>_<score>`.
    """
    ours, theirs = scores(known), scores(unknown)
    found: dict[str, float | None] = {}
    for name, score in ours.items():
        empty = dict.fromkeys(("auroc", "aupr", "aupr_in", "fpr95"))
        told = empty if score is None else detection(score, theirs[name])
        found |= {f"{what}_{name}": value for what, value in told.items()}
    pairs = zip(known, unknown, strict=True)
    alone = [detection(entr(a.double()).sum(-1), entr(b.double()).sum(-1))["auroc"] for a, b in pairs]
    return found | {"member_auroc_entropy": sum(alone) / len(alone), "entropy": theirs["entropy"].mean().item()}


# ---- answering only when sure


def selective(sure: Tensor, right: Tensor) -> dict[str, float]:
    """`aurc`: the error among the k surest inputs, mean over k = 1 .. n (Geifman et al. 2019); `risk_80`: among the
    surest 80 %."""
    wrong = (~right[sure.argsort(descending=True, stable=True)]).double()
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
    edges = torch.linspace(0, 1, bins + 1, device=sure.device)
    place = torch.bucketize(below_one(sure), edges, right=True) - 1  # [low, high), as torchmetrics has it
    rows = []
    for number in range(bins):
        inside = place == number
        told = {"confidence": sure, "accuracy": right} if inside.any() else {}
        means = {name: values[inside].double().mean().item() for name, values in told.items()}
        rows.append({"bin": number, "confidence": None, "accuracy": None, "count": int(inside.sum())} | means)
    return rows


# ---- temperature


def temperature(p: Tensor, y: Tensor) -> float:
    """The temperature under which p [n, classes] has the least NLL on y: d NLL / d(1/T) = E_p[z] - z_y, z = log p, rises
    with 1/T, so its zero is bracketed and halved. Between 1/100 and 100."""
    z = p.double().clamp_min(TINY).log()
    own = z.gather(1, y[:, None]).mean()
    low, high = 0.01, 100.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        slope = ((middle * z).softmax(-1) * z).sum(-1).mean() - own
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / middle


def tempered(p: Tensor, t: float) -> Tensor:
    """softmax(log p / t), float64."""
    return (p.double().clamp_min(TINY).log() / t).softmax(-1)
