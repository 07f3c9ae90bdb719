"""Inductive transfer: learn a source with much data, then a target with little; what the target gains, what the source loses.

Numbers are test accuracies of classes, and of reals root mean squared errors in their own units. A method that keeps the
source apart answers it even after the target is learnt (`unloaded`); what the target's own net makes of the source's data
is recorded beside it (`after`).

A source that the net came trained on has samples and no test set (Stage.samples): of it no accuracy is stated, but what the
net, the target unloaded, still answers as it came.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from maskbench.common.knobs import Count, Positive
from maskbench.data.stage import Split, Stage
from maskbench.tasks import samples
from maskbench.tasks.contracts import Penalises, Transfers
from maskbench.tasks.metrics import continual as metrics
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate
from maskbench.training.journal import Journal
from maskbench.training.method import Method


def run(method: Method, stages: list[Stage], fit: Callable, journal: Journal, *, target_share: Positive, probe: Count) -> Outcome:
    """Inductive transfer: learn the source and test on both, learn the target and test on both.

    Args:
        target_share: of the budget's steps, for the target.
        probe: test inputs of the source whose logits are kept, to measure whether unloading the target brings them back.
    """
    need("transfer", Transfers, method, stages, instead="data=mnist2fashion")
    source, target = stages
    journal.expected = 2
    first = journal.part("source", partial(learn_source, method, source, target, fit, probe))
    second = journal.part("target", partial(learn_target, method, source, target, fit, target_share, first))
    return report(stages, first, second)


class Lesson:
    """Fit as a method sees it in one lesson: `share` times as long; after each phase the stage's test score is noted.

    `curve` are the evaluations during the last phase.
    """

    def __init__(self, fit: Callable, share: float = 1.0) -> None:
        self.fit, self.share = fit, share
        self.scores: dict[str, float] = {}
        self.curve: list[dict[str, float]] = []
        self.before = fit.cpu_seconds

    def __call__(self, method: Method, stage: Stage, *, name: str = "train", share: float = 1.0, **phase: Any) -> list:
        self.curve = self.fit(method, stage, name=name, share=share * self.share, **phase)
        if not stage.samples:
            self.scores[name] = score(method, stage, stage.test)
        return self.curve

    @property
    def cpu_seconds(self) -> float:
        return self.fit.cpu_seconds - self.before


def learn_source(method: Method, source: Stage, target: Stage, fit: Callable, probe: int) -> dict[str, Any]:
    lesson = Lesson(fit)
    came = samples.as_it_came(method, source) if source.samples else None
    method.learn(source, lesson)
    own = None if source.samples else score(method, source, source.test)
    return {
        "score": own,
        "came": came,
        "phases": lesson.scores,
        "on_target": score(method, source, target.test) if comparable(source, target) else None,
        "measures": measured(method, source),
        "logits": evaluate.logits(method, source, source.test, probe).cpu(),
        "extra_metrics": method.extra_metrics(),
        "curve": lesson.curve,
        "cpu_seconds": lesson.cpu_seconds,
        "headline": {} if own is None else {kind(source): own},
    }


def learn_target(
    method: Method, source: Stage, target: Stage, fit: Callable, share: float, first: dict[str, Any]
) -> dict[str, Any]:
    lesson, asks_alike, before = Lesson(fit, share), comparable(source, target), first["logits"]
    method.learn(target, lesson)
    own = score(method, target, target.test)
    facts = method.extra_metrics()
    if isinstance(method, Penalises):
        with torch.no_grad():
            facts["weight_penalty"] = method.penalty(target).item()
    knows = method.has_learned(source)
    still = {}
    if source.samples and knows:
        now = evaluate.logits(method, source, source.test, len(before)).cpu()
        still = {source.index: samples.reading(source, first["came"], before, now)}
    return {
        "score": own,
        "phases": lesson.scores,
        "best": best_point(lesson.curve, target),
        "on_source": score(method, target, source.test) if asks_alike else None,
        "unloaded": score(method, source, source.test) if knows and not source.samples else None,
        "drift": drift(method, source, before) if knows else None,
        "samples": still,
        "measures": measured(method, target),
        "extra_metrics": facts,
        "curve": lesson.curve,
        "cpu_seconds": lesson.cpu_seconds,
        "headline": {f"target {kind(target)}": own},
    }


# ---- scores


def kind(stage: Stage) -> str:
    return "rmse" if stage.regression else "accuracy"


def comparable(source: Stage, target: Stage) -> bool:
    """Whether a net for one of them can be tested on the other."""
    return source.label_space == target.label_space


def score(method: Method, stage: Stage, split: Split) -> float:
    """What the method's answer under `stage` is worth on a split."""
    p, y = evaluate.members(method, stage, split)
    if stage.regression:
        return metrics.rmse(p, y, stage.units)
    return (p.mean(0).argmax(-1) == y).double().mean().item()


def drift(method: Method, source: Stage, before: Tensor) -> float:
    """The largest change of a logit of the source's first test inputs."""
    return (evaluate.logits(method, source, source.test, len(before)).cpu() - before).abs().max().item()


def measured(method: Method, stage: Stage) -> dict[str, float]:
    """The measures that the stage brings with it, of the method's answer in the targets' own units."""
    device = evaluate.device_of(method)
    mean, deviation = stage.units or (torch.zeros(()), torch.ones(()))

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        values = method.predict(x.to(device), stage).mean(0).cpu()[..., : stage.outputs]
        return mean + deviation * values

    method.eval()
    return {name: measure(answer) for name, measure in stage.measures.items()}


def best_point(curve: Sequence[dict[str, float]], stage: Stage) -> float | None:
    """The test score at the evaluation that validated best; None without evaluations on both (validate_every, test_curve)."""
    points = [point for point in curve if "test_loss" in point]
    if not points:
        return None
    if not stage.regression:
        return max(points, key=lambda point: point["val_accuracy"])["test_accuracy"]
    loss = min(points, key=lambda point: point["val_loss"])["test_loss"]
    deviations = [1.0] if stage.units is None else stage.units[1].unique().tolist()
    return loss**0.5 * deviations[0] if len(deviations) == 1 else None  # over values of several units a loss has none


# ---- report


def report(stages: list[Stage], first: dict[str, Any], second: dict[str, Any]) -> Outcome:
    source, target = stages
    k, sign = kind(target), -1 if target.regression else 1
    after = second["on_source"]
    numbers: dict[str, float | None] = {
        f"target_{k}": second["score"],
        f"target_{k}_source_model": first["on_target"],
        f"target_{k}_best": second["best"],
        f"source_{k}": first["score"],
        f"source_{k}_after": after,
        f"source_{k}_unloaded": second["unloaded"],
        "source_forgetting": None if after is None else sign * (first["score"] - after),
        "unload_drift": second["drift"],
        "n_target": len(target.train),
        "train_cpu_seconds_per_stage": (first["cpu_seconds"] + second["cpu_seconds"]) / 2,
    }
    if target.regression:
        numbers["negative_target_rmse"] = -second["score"]  # what a sweep maximises
    numbers |= {f"source_{k}/{phase}": value for phase, value in first["phases"].items()}
    numbers |= {f"target_{k}/{phase}": value for phase, value in second["phases"].items()}
    numbers |= {f"source_{name}": value for name, value in first["measures"].items()}
    numbers |= {f"target_{name}": value for name, value in second["measures"].items()}
    numbers |= second["extra_metrics"]
    notes = []
    if second["samples"]:
        numbers, notes = numbers | samples.numbers(stages, [second]), samples.note(stages, [second])
    table = [
        {
            "stage": source.name,
            f"{k}, source learnt": first["score"],
            f"{k}, target learnt": after,
            f"{k}, target unloaded": second["unloaded"],
        },
        {
            "stage": target.name,
            f"{k}, source learnt": first["on_target"],
            f"{k}, target learnt": second["score"],
            f"{k}, target unloaded": None,
        },
    ]
    curves = [{"stage": name, "curve": part["curve"]} for name, part in (("source", first), ("target", second))]
    objective = "negative_target_rmse" if target.regression else "target_accuracy"
    kept = curves if any(c["curve"] for c in curves) else []
    return Outcome(numbers, objective, table, curves=kept, notes=notes, chosen_on=[target.index])
