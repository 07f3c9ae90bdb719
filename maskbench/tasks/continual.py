"""Continual learning: stages one after another, old ones looked at again and never trained again."""

from collections.abc import Callable
from typing import Any

from maskbench import evaluate, metrics
from maskbench.data.stage import Stage
from maskbench.journal import Journal
from maskbench.method import Method
from maskbench.tasks.outcome import Outcome

GROUP = 128  # images that share one inference of their stage (the SupSup paper's protocol)


def run(
    method: Method, stages: list[Stage], fit: Callable, journal: Journal, *, matrix: str, probe: int, trials: int
) -> Outcome:
    """Learn every stage in order; after each, test the stages seen (`matrix`: seen | full | final).

    `probe` test inputs of each stage keep their logits to measure drift; `trials` single images per stage and rule
    measure task inference.
    """
    journal.expected = len(stages) * (2 if method.inference_rules else 1)
    lessons: list[dict[str, Any]] = []
    for stage in stages:
        lessons.append(journal.step(stage.name, lambda s=stage: learn(method, stages, s, lessons, fit, matrix, probe)))
    found = [journal.step(f"infer {s.name}", lambda s=s: infer(method, s, trials)) for s in stages if method.inference_rules]
    return report(method, stages, lessons, found)


def learn(
    method: Method, stages: list[Stage], stage: Stage, before: list[dict], fit: Callable, matrix: str, probe: int
) -> dict[str, Any]:
    """One lesson: learn the stage, then test it and the others; the row R[stage, :] and the largest logit change so far."""
    seconds = fit.cpu_seconds
    method.learn(stage, fit)
    row: list[float | None] = [None] * len(stages)
    drift = 0.0
    for other in stages:
        seen = other.index <= stage.index
        wanted = {"seen": seen, "full": True, "final": stage.last or other is stage}[matrix]
        if wanted and method.knows(other):
            row[other.index] = evaluate.accuracy(method, other, other.test)
            if other.index < stage.index:
                now = evaluate.logits(method, other, other.test, probe)
                drift = max(drift, (now.cpu() - before[other.index]["logits"]).abs().max().item())
    return {
        "accuracy": row,
        "drift": drift,
        "logits": evaluate.logits(method, stage, stage.test, probe).cpu(),
        "facts": method.facts(),
        "cpu_seconds": fit.cpu_seconds - seconds,
        "headline": {"accuracy": row[stage.index]},
    }


def infer(method: Method, stage: Stage, trials: int) -> dict[str, Any]:
    """How well the method finds the stage of test images: per rule from one image and from a group of GROUP.

    `accuracy` is the paper's GNu score of the first rule: one image names the stage of its whole group, and a group under
    the wrong stage scores 0.
    """
    method.eval()
    x, y = stage.test.tensors(evaluate.device_of(method))
    singles = x[:: max(1, len(x) // trials)][:trials, None]
    whole = len(x) // GROUP * GROUP
    groups = x[:whole].reshape(-1, GROUP, *x.shape[1:]) if whole else x[None]
    rates = {}
    for rule in method.inference_rules:
        for images in (singles, groups):
            rates[f"{rule}_{images.shape[1]}"] = (method.infer(images, rule) == stage.index).double().mean().item()
    first, *_ = method.inference_rules
    p, _ = evaluate.members(method, stage, stage.test)
    right = p.mean(0).argmax(-1) == y
    found = method.infer(x[::GROUP, None], first) == stage.index
    right &= found.repeat_interleave(GROUP)[: len(right)]
    return {"accuracy": right.double().mean().item(), "rates": rates, "headline": {"stage found": rates[f"{first}_1"]}}


def report(method: Method, stages: list[Stage], lessons: list[dict], found: list[dict]) -> Outcome:
    matrix = [lesson["accuracy"] for lesson in lessons]
    numbers = {
        "average_accuracy": metrics.average_accuracy(matrix),
        "average_accuracy_inferred": None,
        "task_inference_accuracy": None,
        "forgetting": metrics.forgetting(matrix),
        "backward_transfer": metrics.backward_transfer(matrix),
        "logit_drift": max(lesson["drift"] for lesson in lessons) if len(lessons) > 1 else None,
        "train_cpu_seconds_per_stage": _mean([lesson["cpu_seconds"] for lesson in lessons]),
    }
    numbers |= lessons[-1]["facts"]
    notes = []
    if found:
        rates = {rule: _mean([f["rates"][rule] for f in found]) for rule in found[0]["rates"]}
        first = f"{method.inference_rules[0]}_1"
        numbers["average_accuracy_inferred"] = _mean([f["accuracy"] for f in found])
        numbers["task_inference_accuracy"] = rates[first]
        numbers |= {f"task_inference_accuracy/{rule}": rate for rule, rate in rates.items()}
        if rates[first] < 0.9:
            notes.append(
                f"The stage is found from one image in {rates[first]:.1%} of trials (chance {1 / len(stages):.0%}): these "
                "stages are not separable that way, and the figure is reported as it is."
            )
    table = [
        {
            "stage": stage.name,
            "accuracy when learnt": matrix[stage.index][stage.index],
            "accuracy at the end": matrix[-1][stage.index],
        }
        | ({"accuracy, stage inferred": found[stage.index]["accuracy"]} if found else {})
        for stage in stages
    ]
    return Outcome(numbers, "average_accuracy", table, {"accuracy": matrix}, notes)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
