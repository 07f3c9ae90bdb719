"""Conformal prediction: sets of classes and intervals of reals that hold the truth as often as is asked, whatever the net is.

Split conformal prediction (Papadopoulos et al. 2002; Vovk et al. 2005): n held-out rows are scored by how badly each suits its
own target, and an answer is in the set where it suits no worse than the k-th best of them, k = ceil((n + 1) * level). If held-out
and test rows are exchangeable, the truth is in the set with probability level at least, and level + 1 / (n + 1) at most where
scores have no ties. With fewer than level / (1 - level) rows no bound exists: every class is in the set, an interval has no end.

Classes: LAC (Sadinle et al. 2019), APS (Romano et al. 2020) and RAPS (Angelopoulos et al. 2021, arXiv 2009.14193). Reals: the
absolute residual, and that over the predicted deviation (Lei et al. 2018). Quantile regression made conformal (Romano et al.
2019) has no place here: no method of this house predicts quantiles.

Own lines, since MAPIE wraps estimators of scikit-learn, and TorchCP needs torch_geometric and transformers to be imported; they
agree with both (tests/tasks/metrics/test_conformal.py).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from maskbench.common.streams import generator

LEVELS = (90, 95)  # percent of the truths that are to be in the set
PENALTIES = (0.001, 0.01, 0.1, 0.2, 0.5)  # lambda of RAPS that are tried, as the authors' program does
LISTED = 20  # classes: of so many at most a run's metrics tell the coverage one by one

Answers = tuple[Tensor, Tensor]  # probabilities [n, classes], labels [n]
Scores = Callable[[Tensor, Tensor], Tensor]  # (probabilities [n, classes], uniform draws [n]) -> how badly each class suits


def halves(rows: int) -> tuple[Tensor, Tensor]:
    """Row numbers of the half that chooses and of the half that calibrates, at random, the same for equally many rows."""
    order = torch.randperm(rows, generator=generator("conformal halves", rows))
    return order[: rows // 2], order[rows // 2 :]


def bound(scores: Tensor, level: int) -> Tensor:
    """The k-th smallest of n scores, k = ceil((n + 1) * level / 100): [n, ...] -> [...]; infinity where k exceeds n."""
    n = len(scores)
    k = -(-(n + 1) * level // 100)
    return scores.kthvalue(k, 0).values if 0 < k <= n else torch.full_like(scores[:1].sum(0), torch.inf)


# ---- classes


def lac(p: Tensor, u: Tensor) -> Tensor:
    """1 - p: the sets that are smallest on average. [n, classes]."""
    return 1 - p


def aps(p: Tensor, u: Tensor) -> Tensor:
    """The probability of all classes that are more probable, and of the class itself but for the part u. [n, classes].

    u: [n], uniform: coverage is then what is asked, not more. 0: sets that hold all of their last class.
    """
    return raps(p, u, 0.0, 0)


def raps(p: Tensor, u: Tensor, penalty: float, free: int) -> Tensor:
    """That of `aps`, and `penalty` for each place in the order of the classes beyond the `free` first. [n, classes]."""
    ordered, classes = p.sort(dim=-1, descending=True, stable=True)
    places = torch.arange(1, p.shape[-1] + 1)
    scores = ordered.cumsum(-1) - u[:, None] * ordered + penalty * (places - free).clamp_min(0)
    return torch.empty_like(scores).scatter(-1, classes, scores)


def own(scores: Tensor, y: Tensor) -> Tensor:
    """Scores of the true class: [n, classes], [n] -> [n]."""
    return scores.gather(-1, y[:, None])[:, 0]


def regularised(choose: Answers, level: int) -> Scores:
    """RAPS as its authors choose it, on rows of its own: no penalty for as many places as hold the truth of `level` percent of
    them, and of PENALTIES the one with the smallest sets."""
    p, y = choose
    u = draws("choose", p)
    place = 1 + (p.argsort(dim=-1, descending=True, stable=True) == y[:, None]).long().argmax(-1)  # 1: the most probable class
    free = int(bound(place.double(), level).clamp_max(p.shape[-1]))

    def size(penalty: float) -> float:
        scores = raps(p, u, penalty, free)
        return (scores <= bound(own(scores, y), level)).double().sum(-1).mean().item()

    best = min(PENALTIES, key=size)
    return lambda p, u: raps(p, u, best, free)


def draws(of: str, p: Tensor) -> Tensor:
    """Uniform draws [n] that settle ties of APS and RAPS, the same in each run."""
    return torch.rand(len(p), generator=generator("conformal", of), dtype=torch.float64)


def sets(choose: Answers, calibrate: Answers, test: Answers, level: int) -> dict[str, Tensor]:
    """Which classes are in the set of each test row, bool [n, classes], by score."""
    kinds: Mapping[str, Scores] = {"lac": lac, "aps": aps, "raps": regularised(choose, level)}
    p, y = calibrate
    limits = {name: bound(own(score(p, draws("calibrate", p)), y), level) for name, score in kinds.items()}
    return {name: score(test[0], draws("test", test[0])) <= limits[name] for name, score in kinds.items()}


def classes(choose: Answers, calibrate: Answers, test: Answers) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
    """(numbers, rows for the figure): of each score and level the share of test rows whose set holds their class, the mean number
    of classes in a set, the least coverage of a class, and of up to LISTED classes each one's."""
    numbers: dict[str, float | None] = {}
    rows = []
    y, count = test[1], test[0].shape[-1]
    for level in LEVELS:
        for kind, chosen in sets(choose, calibrate, test, level).items():
            held, size = own(chosen, y), chosen.sum(-1)
            by_class = [held[y == c].double().mean().item() if (y == c).any() else None for c in range(count)]
            numbers[f"conformal_coverage_{level}/{kind}"] = held.double().mean().item()
            numbers[f"conformal_size_{level}/{kind}"] = size.double().mean().item()
            numbers[f"conformal_least_{level}/{kind}"] = min(share for share in by_class if share is not None)
            if count <= LISTED:
                numbers |= {f"conformal_coverage_{level}/{kind}/{c}": share for c, share in enumerate(by_class)}
            counts = torch.bincount(size, minlength=count + 1).tolist()
            rows.append({"level": level, "score": kind, "sizes": counts, "coverage_by_class": by_class})
    return numbers, rows


def no_classes() -> dict[str, None]:
    """The numbers of `classes` where nothing is held out."""
    whats = ("conformal_coverage", "conformal_size", "conformal_least")
    return {f"{what}_{level}/{kind}": None for level in LEVELS for kind in ("lac", "aps", "raps") for what in whats}


# ---- reals

Moments = tuple[Tensor, Tensor, Tensor]  # predicted mean, predicted variance, target: each [n, folds, values]


def reals(calibrate: Moments, test: Moments) -> dict[str, float | None]:
    """Of each score and level the share of targets inside mean +- half, and the interval's mean width 2 * half, in the targets'
    units; both the mean over folds and values, each calibrated by itself.

    `absolute`: half is a number. `scaled`: half is a multiple of the predicted deviation; None where none is predicted. Widths
    are None where the rows are too few for a bound.
    """
    centre, variance, y = calibrate
    stated = bool((variance > 0).all() and (test[1] > 0).all())
    numbers = no_reals()
    for level in LEVELS:
        for kind in ("absolute", "scaled") if stated else ("absolute",):
            unit, theirs = (part.sqrt() if kind == "scaled" else torch.ones_like(part) for part in (variance, test[1]))
            half = bound((y - centre).abs() / unit, level) * theirs
            numbers[f"conformal_coverage_{level}/{kind}"] = ((test[2] - test[0]).abs() <= half).double().mean().item()
            numbers[f"conformal_width_{level}/{kind}"] = 2 * half.mean().item() if half.isfinite().all() else None
    return numbers


def no_reals() -> dict[str, float | None]:
    """The numbers of `reals` where nothing is held out."""
    whats = ("conformal_coverage", "conformal_width")
    return {f"{what}_{level}/{kind}": None for level in LEVELS for kind in ("absolute", "scaled") for what in whats}
