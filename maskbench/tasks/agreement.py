"""A net that came trained, as a method leaves it without training (pruned, quantised, ...), beside the net itself: how far its
answers moved, on samples that are too few for an accuracy.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from maskbench.data.stage import Stage
from maskbench.tasks import samples
from maskbench.tasks.contracts import Agrees
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate
from maskbench.training.journal import Journal
from maskbench.training.method import Method


def run(method: Method, stages: list[Stage], fit: Callable, journal: Journal) -> Outcome:
    """Agreement: what the net answered as it came, and what it answers under the method's masks."""
    need("agreement", Agrees, method, stages, instead="data=imagenet_samples")
    (stage,) = stages
    journal.expected = 1
    told = journal.part(stage.name, partial(compare, method, stage, fit))
    count = len(stage.test)
    note = f"Of {count} samples {round(told['same'] * count)} have the answer that the net came with; they are no test set."
    numbers = {name: told[name] for name in ("same", "kl", "drift", "top_1", "top_5")} | told["extra_metrics"]
    return Outcome(numbers | {"samples": count, "negative_kl": -told["kl"]}, "negative_kl", notes=[note])


def compare(method: Method, stage: Stage, fit: Callable) -> dict[str, Any]:
    """As of `samples.reading`, and `kl`."""
    came = samples.as_it_came(method, stage)
    method.learn(stage, fit)
    now = evaluate.logits(method, stage, stage.test).cpu()
    told = samples.reading(stage, came, came, now) | {"kl": divergence(came, now)}
    return told | {
        "extra_metrics": method.extra_metrics(),
        "headline": {"answers as the net came": told["same"], "KL": told["kl"]},
    }


def divergence(before: Tensor, after: Tensor) -> float:
    """KL(before || after) in nats of the classes' probabilities by logits [images, classes], mean over images."""
    p, q = (logits.double().log_softmax(1) for logits in (before, after))
    return F.kl_div(q, p, log_target=True, reduction="batchmean").item()
