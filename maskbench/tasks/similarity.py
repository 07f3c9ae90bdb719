"""A net that came trained, as a method leaves it without training (pruned, quantised, ...), beside the net itself: how far the
similarities of inputs moved.

The similarity of two inputs is the cosine of the vectors that the net's head is given, or would be. What counts is the order of
all pairs: Spearman's rank correlation of the similarities now with those of the net as it came.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from maskbench.backbones.features import tapped
from maskbench.data.stage import Stage
from maskbench.tasks.contracts import Resembles
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate
from maskbench.training.journal import Journal
from maskbench.training.method import Method


def run(method: Method, stages: list[Stage], fit: Callable, journal: Journal) -> Outcome:
    """Similarity: how alike inputs were to the net as it came, and are under the method's masks."""
    need("similarity", Resembles, method, stages, instead="data=fortunes_samples")
    (stage,) = stages
    journal.expected = 1
    told = journal.part(stage.name, partial(compare, method, stage, fit))
    count = len(stage.test)
    note = f"Of {count} inputs {round(told['nearest'] * count)} have the nearest other one that they had for the net as it came."
    return Outcome(told["numbers"] | told["extra_metrics"] | {"samples": count}, "spearman", notes=[note])


def compare(method: Method, stage: Stage, fit: Callable) -> dict[str, Any]:
    """What `moved` tells, before and after the method has learnt."""
    came = vectors(method, method.net, stage)
    method.learn(stage, fit)
    numbers = moved(came, vectors(method, partial(method.logits, stage=stage), stage), stage.test.y.cpu())
    return {
        "numbers": numbers,
        "nearest": numbers["nearest"],
        "extra_metrics": method.extra_metrics(),
        "headline": {"Spearman": numbers["spearman"], "nearest": numbers["nearest"]},
    }


@torch.no_grad()
def vectors(method: Method, answer: Callable[[Tensor], Tensor], stage: Stage) -> Tensor:
    """What the head is given where the net makes this answer to the test inputs, [inputs, width]."""
    method.eval()
    made = []
    with tapped(method.net, [], head=True) as at:
        for x, _ in stage.test.batches(evaluate.rows_at_once(method, stage), evaluate.device_of(method)):
            answer(x)
            made.append(at["head"].cpu())
    return torch.cat(made)


def moved(came: Tensor, now: Tensor, y: Tensor) -> dict[str, float | None]:
    """How vectors [inputs, width] of inputs of classes y [inputs] moved.

    Returns:
        `spearman`: rank correlation of the cosines of all pairs; None where one side's are all equal. `cosine`: of an input's
        two vectors, mean. `cosine_change`: of a pair's cosine, mean magnitude. `nearest`: share of inputs whose nearest other
        one is the one it was. `nearest_of_class`, `nearest_of_class_came`: share whose nearest other one is of their class.
    """
    before, after = (torch.nn.functional.normalize(v.double(), dim=1) for v in (came, now))
    pairs = torch.ones(len(y), len(y), dtype=torch.bool).triu(1)
    alike = [v @ v.T for v in (before, after)]
    first, second = (one[pairs] for one in alike)
    nearest = [one.fill_diagonal_(-torch.inf).argmax(1) for one in alike]
    flat = any(bool((one == one[0]).all()) for one in (first, second))
    return {
        "spearman": None if flat else float(spearmanr(first.numpy(), second.numpy()).statistic),
        "cosine": (before * after).sum(1).mean().item(),
        "cosine_change": (first - second).abs().mean().item(),
        "nearest": evaluate.share(nearest[0] == nearest[1]),
        "nearest_of_class": evaluate.share(y[nearest[1]] == y),
        "nearest_of_class_came": evaluate.share(y[nearest[0]] == y),
    }
