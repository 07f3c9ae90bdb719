"""Learn how to learn on episodes of training classes, then test on a list of episodes of classes never seen."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from maskbench.backbones.batch_statistics import uses_batches
from maskbench.common.knobs import Length, Whole
from maskbench.data.episodes.stages import Episodes, EpisodeStage
from maskbench.tasks.contracts import Adapts
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training.evaluate import BATCH, device_of
from maskbench.training.journal import Journal
from maskbench.training.method import Method


def run(
    method: Method,
    stages: list[EpisodeStage],
    fit: Callable,
    journal: Journal,
    *,
    steps: Annotated[Sequence[Whole], Length(least=1)],
    curve: Whole,
) -> Outcome:
    """Few-shot learning: train on episodes, then test on episodes of unseen classes after some numbers of inner steps.

    The last state of training is tested; the validation episodes choose nothing.

    Args:
        steps: inner steps after which test episodes are scored; those of the method are among them always.
        curve: and after every step up to this one, for the figure.
    """
    need("meta", Adapts, method, stages, instead="data=sinusoid or data=glyph28")
    (stage,) = stages
    steps = sorted({*steps, method.test_count})
    lists = {"": stage.test} | dict(stage.further)
    journal.expected = 1 + len(lists)
    trained = journal.part("train", partial(train, method, stage, fit))
    tested = {name: journal.part(f"test {name}".strip(), partial(test, method, stage, split, steps, curve))
              for name, split in lists.items()}  # fmt: skip
    return report(method, stage, trained, tested, steps)


def train(method: Method, stage: EpisodeStage, fit: Callable) -> dict[str, Any]:
    method.learn(stage, fit)
    metrics = method.extra_metrics()
    return {"extra_metrics": metrics, "cpu_seconds": fit.cpu_seconds, "curve": fit.curve, "headline": metrics}


def test(method: Method, stage: EpisodeStage, split: Episodes, steps: list[int], curve: int) -> dict[str, Any]:
    """Accuracy or squared error of each episode's queries: {name: {steps: [episodes]}}, name as in the record."""
    counts = sorted({*steps, *range(curve + 1)})
    measure = "mse" if stage.regression else "accuracy"
    scores = {measure: scored(method, stage, split, counts)}
    if uses_batches(method.net):
        scores[f"{measure}_inductive"] = scored(method, stage, split, sorted(steps), inductive=True)
    else:  # there is nothing that a query could learn of the others
        scores[f"{measure}_inductive"] = {count: scores[measure][count] for count in sorted(steps)}
    means = {f"{measure}/{count}": scores[measure][count].mean().item() for count in sorted(steps)}
    return {"scores": scores, "headline": means}


@torch.no_grad()
def scored(method: Method, stage: EpisodeStage, split: Episodes, counts: list[int], inductive: bool = False) -> dict[int, Tensor]:
    """Mean over its queries of each episode's accuracy or squared error, [episodes], after each count of steps."""
    method.eval()
    scores = []
    for tasks, y in split.batches(BATCH, device_of(method)):
        answers = method.after(tasks, stage, counts, inductive)  # [counts, tasks, queries, outputs]
        hit = (answers - y).square() if stage.regression else (answers.argmax(-1) == y)
        scores.append(hit.double().flatten(2).mean(2).cpu())
    return dict(zip(counts, torch.cat(scores, 1), strict=True))


# ---- the record


def report(
    method: Method, stage: EpisodeStage, trained: dict[str, Any], tested: dict[str, dict[str, Any]], steps: list[int]
) -> Outcome:
    """`<measure>/<steps>`, for a further list `<measure>/<steps>/<its name>`, each with `_ci95` beside."""
    numbers: dict[str, float | None] = {}
    table, curves = [], []
    for name, result in tested.items():
        for measure, scores in result["scores"].items():
            for count in steps:
                mean, half = interval(scores[count])
                key = "/".join(filter(None, (measure, str(count), name)))
                numbers |= {key: mean, f"{key}_ci95": half}
        table += rows(name or "test", result["scores"], steps)
        curves.append({"episodes": name or "test"} | path(result["scores"]))
    measure = "mse" if stage.regression else "accuracy"
    objective = f"{measure}/{method.test_count}"
    if stage.regression:  # sweeps look for the largest
        numbers["negative_mse"], objective = -numbers[objective], "negative_mse"
    numbers |= trained["extra_metrics"] | {"train_cpu_seconds_per_stage": trained["cpu_seconds"]}
    curves[0]["validation"] = trained["curve"]
    return Outcome(numbers, objective, table, notes=notes(method, stage), curves=curves)


def interval(scores: Tensor) -> tuple[float, float]:
    """(mean, half the width of its 95 % interval) over episodes: 1.96 deviations / sqrt(episodes)."""
    return scores.mean().item(), 1.96 * scores.std().item() / math.sqrt(len(scores))


def rows(name: str, scores: dict[str, dict[int, Tensor]], steps: list[int]) -> list[dict[str, Any]]:
    """One line for each count of inner steps."""
    lines = []
    for count in steps:
        line: dict[str, Any] = {"episodes": name, "inner steps": count}
        for measure, own in scores.items():
            word = measure.split("_")[-1]  # accuracy or mse, inductive
            line[word], line[f"{word} +-"] = interval(own[count])
        lines.append(line)
    return lines


def path(scores: dict[str, dict[int, Tensor]]) -> dict[str, Any]:
    """What the curve over inner steps is drawn from."""
    made: dict[str, Any] = {}
    for measure, own in scores.items():
        intervals = [interval(scores) for scores in own.values()]
        made[measure] = {"steps": list(own), "mean": [mean for mean, _ in intervals], "ci95": [half for _, half in intervals]}
    return made


def notes(method: Method, stage: EpisodeStage) -> list[str]:
    lines = [
        f"Intervals are over {len(stage.test)} test episodes of this one training seed. Trained with {stage.queries} queries, "
        f"tested with {stage.test.queries} (per class, where there are classes)."
    ]
    if uses_batches(method.net):
        lines.append(
            "Norms use the statistics of the query set (transductive); `inductive` numbers use those of the support set."
        )
    else:
        lines.append("The net has no norm over batches: transductive and inductive answers are the same.")
    return lines
