"""Continual learning: stages one after another, old ones tested again after each and never trained again."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch

from maskbench.backbones.batch_statistics import answers_in_groups
from maskbench.common.knobs import Count
from maskbench.data.stage import Stage
from maskbench.tasks import readings, samples
from maskbench.tasks.contracts import Continual, InfersStage, Recalls
from maskbench.tasks.metrics import continual as metrics
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate
from maskbench.training.journal import Journal
from maskbench.training.method import Method

ASKED = 30  # stages up to which every stage's masks are asked about every test set unless the run says otherwise

Which = Literal["seen", "full", "final"]
Unknown = Literal["final", "seen", "none"]
Pooling = Literal["first", "all"]


def run(
    method: Method,
    stages: list[Stage],
    fit: Callable,
    journal: Journal,
    *,
    matrix: Which,
    probe: Count,
    trials: Count,
    group: Count | None = None,
    pooling: Pooling | None = None,
    unknown: Unknown | None = None,
    alone: bool | None = None,
) -> Outcome:
    """Continual learning: learn every stage in order; after each, test those seen.

    Args:
        matrix: entries of the accuracy matrix R[i, j] after stage i that are measured: `seen`: j <= i; `full`: every j whose
            answer is defined; `final`: only the last row.
        probe: test inputs of each stage whose logits are kept, to measure drift bit for bit.
        trials: single images per stage and rule by which task inference is measured.
        group: test images of a stage that share one inference of their stage, and one answer where the net standardises by
            the images at hand; null: 128.
        pooling: which images of a group the stage is inferred from: `first`, the first one alone (null), or `all`.
        unknown: when a net that answers by stage is also asked without it (class-IL, inferred), which takes a pass over a test
            set for each stage's masks: `final`, at the end; `seen`, after every stage; `none`; null: at the end of up to 30
            stages. Other nets are asked whenever they are tested, at no cost.
        alone: each stage is also learnt by itself, by a copy of the untrained method: what transfer gain compares with. One
            more training a stage.
    """
    group, pooling = group or evaluate.GROUP, pooling or "first"
    unknown = unknown or ("final" if len(stages) <= ASKED else "none")
    need("continual", Continual, method, stages, instead="data=splitmnist")
    infers = bool(rules_of(method))
    recalls = isinstance(method, Recalls)
    journal.expected = len(stages) * (1 + bool(alone) + infers + recalls) + (matrix == "full")
    start: list[float | None] = [None] * len(stages)
    if matrix == "full":
        start = journal.part("untrained", partial(untrained, method, stages, group))["accuracy"]
    by_itself = [
        journal.part(f"alone {stage.name}", partial(learn_alone, method, stage, fit, group))["accuracy"] if alone else None
        for stage in stages
    ]
    test = partial(readings.row, method, stages, labels=readings.labels_of(judged(stages)), group=group, pooling=pooling)
    lessons: list[dict[str, Any]] = []
    for stage in stages:
        asks = unknown == "seen" or (unknown == "final" and stage.last)
        work = partial(learn, method, stages, stage, lessons, fit, matrix, probe, group, partial(test, unknown=asks))
        lessons.append(journal.part(stage.name, work))
    inferred = [
        journal.part(f"infer {stage.name}", partial(infer, method, stages, stage, trials, group, pooling))
        for stage in stages
        if infers
    ]
    recalled = [journal.part(f"recall {stage.name}", partial(recall, method, stages, stage)) for stage in stages if recalls]
    outcome = report(method, stages, lessons, inferred, recalled, start, by_itself)
    if unknown == "none" and "accuracy_class_il" not in outcome.matrices and readings.by_stage(method, stages, group):
        outcome.notes.append(
            "What it answers when the stage is not given takes a pass over every test set for each stage's masks, and was left "
            f"out (of more than {ASKED} stages unless asked for): task.unknown=final measures it."
        )
    return outcome


def judged(stages: Sequence[Stage]) -> list[Stage]:
    """The stages of which an accuracy is stated: those with a test set."""
    return [stage for stage in stages if not stage.samples]


def rules_of(method: Method) -> tuple[str, ...]:
    """The rules by which a method finds the stage of unlabelled inputs, the one that counts first; none: it has to be told."""
    return method.inference_rules if isinstance(method, InfersStage) else ()


def untrained(method: Method, stages: list[Stage], group: int) -> dict[str, Any]:
    """Test accuracy on each stage before anything is learnt: what forward transfer compares with. None where the method
    has no answer yet."""
    known = [method.has_learned(stage) and not stage.samples for stage in stages]
    return {"accuracy": [evaluate.accuracy(method, s, s.test, group) if k else None for s, k in zip(stages, known, strict=True)]}


def learn_alone(method: Method, stage: Stage, fit: Callable, group: int) -> dict[str, Any]:
    """Test accuracy of a copy of the untrained method that learns this stage and no other."""
    if stage.samples:
        return {"accuracy": None}
    twin, only = copy.deepcopy(method), replace(stage, index=0, total=1, earlier=())
    twin.learn(only, fit)
    accuracy = evaluate.accuracy(twin, only, only.test, group)
    return {"accuracy": accuracy, "headline": {"accuracy alone": accuracy}}


def learn(
    method: Method,
    stages: list[Stage],
    stage: Stage,
    before: list[dict],
    fit: Callable,
    matrix: Which,
    probe: int,
    group: int,
    test: Callable[..., dict[str, list]],
) -> dict[str, Any]:
    """One lesson: learn the stage, then test it and the others: the row R[stage, :] of every reading, the largest logit
    change so far, and the bytes that must be stored now."""
    seconds = fit.cpu_seconds
    came = samples.as_it_came(method, stage) if stage.samples else None
    method.learn(stage, fit)
    drift, kept, tested = 0.0, {}, []

    def outputs(one: Stage) -> torch.Tensor:
        return evaluate.logits(method, one, one.test, None if one.samples else probe, group).cpu()

    for other in stages:
        seen = other.index <= stage.index
        wanted = {"seen": seen, "full": True, "final": stage.last or other is stage}[matrix]
        if wanted and method.has_learned(other):
            tested.append(other)
            if other.index < stage.index:
                now, then = outputs(other), before[other.index]
                drift = max(drift, (now - then["logits"]).abs().max().item())
                if other.samples:
                    kept[other.index] = samples.reading(other, then["came"], then["logits"], now)
    rows, logits = test(stage, judged(tested)), outputs(stage)
    headline = {"accuracy": rows["accuracy"][stage.index]}
    if came is not None:
        rows, kept[stage.index] = rows | {"came": came}, samples.reading(stage, came, logits, logits)
        headline = {"answers as the net came": kept[stage.index]["same"]}
    return rows | {
        "drift": drift,
        "samples": kept,
        "logits": logits,
        "extra_metrics": method.extra_metrics(),
        "memory": method.memory_after(stage),
        "cpu_seconds": fit.cpu_seconds - seconds,
        "headline": headline,
    }


def infer(method: Method, stages: list[Stage], stage: Stage, trials: int, group: int, pooling: Pooling) -> dict[str, Any]:
    """How well the method finds the stage of test images, per rule from one image and from a group; and how well it
    classifies when the first rule names the stage of a group, from its first image (the SupSup paper's protocol on
    permutations) or from all of it (on rotations): `unshared` counts a group under the wrong stage as wrong (GNu), `shared`
    asks for the class alone (GNs).
    """
    method.eval()
    x, y = stage.test.tensors(evaluate.device_of(method))
    singles = x[:: max(1, len(x) // trials)][:trials, None]
    whole = len(x) // group * group
    groups = x[:whole].reshape(-1, group, *x.shape[1:]) if whole else x[None]
    first, *_ = method.inference_rules
    visits = torch.tensor([other.first_visit for other in stages], device=x.device)  # any visit of the same images is right
    rates, found = {}, {}
    for rule in method.inference_rules:
        for images, kind in ((singles, "first"), (groups, "all")):
            answers = method.infer(images, rule)
            rates[f"{rule}_{images.shape[1]}"] = (visits[answers] == stage.first_visit).double().mean().item()
            found.setdefault(kind, answers)  # by the first rule
    if pooling == "first":
        named = method.infer(x[::group, None], first)
    elif whole == len(x) or not whole:
        named = found["all"]
    else:  # the last group is filled up with rows from the start
        named = torch.cat([found["all"], method.infer(torch.cat([x[whole:], x])[None, :group], first)])
    answered = named.repeat_interleave(group)[: len(x)]
    right = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    with torch.no_grad():
        for other in answered.unique().tolist():
            rows = (answered == other).nonzero().squeeze(1)
            size = group if answers_in_groups(method.net) else evaluate.rows_at_once(method, stage)
            answers = evaluate.answers(method, partial(method.predict, stage=stages[other]), x[rows].split(size), group)
            right[rows] = evaluate.chosen(torch.cat([p.mean(0) for p in answers]), stages[other].own) == y[rows]
    return {
        "unshared": (right & (visits[answered] == stage.first_visit)).double().mean().item(),
        "shared": right.double().mean().item(),
        "rates": rates,
        "images": 1 if pooling == "first" else groups.shape[1],
        "confusion": [(found[pooling] == other.index).sum().item() for other in stages],
        "headline": {"stage found": rates[f"{first}_{1 if pooling == 'first' else groups.shape[1]}"]},
    }


def recall(method: Method, stages: list[Stage], stage: Stage) -> dict[str, Any]:
    """How well the method answers the test set of a stage that is not named to it, by the mask it recalls from that test set
    without labels; and in how many bits that mask differs from each stage's own, and from the true one on the way.
    """
    method.eval()
    x, y = stage.test.tensors(evaluate.device_of(method))
    path, answer = method.recall(x)
    own = method.masks()

    def distance(masks: dict[str, torch.Tensor], other: Stage) -> int:
        return sum(int((mask != own[f"{other.index}/{name}"]).sum()) for name, mask in masks.items())

    with torch.no_grad():
        outputs = torch.cat([answer(part) for part in x.split(evaluate.rows_at_once(method, stage))])
    accuracy, curve = (outputs.argmax(-1) == y).double().mean().item(), [distance(masks, stage) for masks in path]
    return {
        "accuracy": accuracy,
        "distances": [distance(path[-1], other) for other in stages],
        "curve": curve,
        "headline": {"accuracy": accuracy, "bits off": curve[-1]},
    }


def report(
    method: Method,
    stages: list[Stage],
    lessons: list[dict],
    inferred: list[dict],
    recalled: list[dict],
    start: list[float | None],
    by_itself: list[float | None],
) -> Outcome:
    told, notes = samples.numbers(stages, lessons), samples.note(stages, lessons)
    drifts = [lesson["drift"] for lesson in lessons]
    stages, lessons = judged(stages), [lessons[stage.index] for stage in judged(stages)]

    def own(row: list) -> list:
        """Of a row over all stages the entries of those with a test set."""
        return [row[stage.index] for stage in stages]

    untold: list[float | None] = [None] * len(stages)
    # by the rule that every net with masks or heads has
    asked = [own(lesson["inferred"]) if lesson.get("inferred") else untold for lesson in lessons]
    finds, rule = inferred, next(iter(rules_of(method)), readings.RULE)
    if not inferred and None not in asked[-1]:
        finds = asked[-1]
    matrices = {
        name: [own(lesson[key]) if lesson.get(key) else untold for lesson in lessons]
        for name, key in (("accuracy", "accuracy"), ("accuracy_class_il", "class_il"), ("accuracy_domain_il", "domain_il"))
    }
    matrices["accuracy_inferred"] = [[one and one["unshared"] for one in row] for row in asked]
    if inferred:
        matrices["accuracy_inferred"] = [*[untold] * (len(stages) - 1), [row["unshared"] for row in inferred]]
    numbers = protocols(matrices, [len(stage.test) for stage in stages], own(start), own(by_itself))
    memory, stored = method.memory(), [lesson.get("memory") for lesson in lessons]  # a part of before does not say it
    numbers |= {
        "task_inference_accuracy": None,
        "intransigence": None,  # takes a run of joint training: tables state the difference in learning_accuracy
        "logit_drift": max(drifts) if len(drifts) > 1 else None,
        "memory_bytes": memory["shared"] + len(stages) * memory["stage"] if stored[-1] is None else stored[-1],
        "memory_bytes_shared": memory["shared"],
        "memory_bytes_per_stage": memory["stage"],
        "train_cpu_seconds_per_stage": _mean([lesson["cpu_seconds"] for lesson in lessons]),
    }
    numbers |= lessons[-1]["extra_metrics"] | told
    if len({len(stage.own) for stage in stages}) > 1:  # an average over unlike problems does not say it all
        numbers |= {f"stage_accuracy/{stage.name}": matrices["accuracy"][-1][i] for i, stage in enumerate(stages)}
    if finds:
        rates = _rates(asked[-1]) | _rates(finds)
        images = max(row.get("images", 1) for row in finds)  # a part of before does not say it
        first = _mean([row["rates"][f"{rule}_{row.get('images', 1)}"] for row in finds])
        numbers["average_accuracy_inferred_shared"] = _mean([row["shared"] for row in finds])
        numbers["task_inference_accuracy"] = first
        numbers |= {f"task_inference_accuracy/{rule}": rate for rule, rate in rates.items()}
        matrices["stages_inferred"] = [own(row["confusion"]) for row in finds]  # counts of images or groups, [true, inferred]
        if first < 0.9:
            notes.append(
                f"The stage is found from {'one image' if images == 1 else f'{images} images'} in {first:.1%} of trials "
                f"(chance {1 / len(stages):.0%}): these "
                "stages are not separable that way, and the figure is reported as it is."
            )
    if recalled:
        off = [r["curve"][-1] for r in recalled]
        numbers |= {
            "recall_accuracy": _mean([r["accuracy"] for r in recalled]),
            "recall_distance_mean": _mean(off),  # bits, over all masked layers together
            "recall_distance_max": max(off),
        }
        matrices["recall_distance"] = [r["distances"] for r in recalled]  # bits, [true, other]
        matrices["recall_distance_curve"] = [r["curve"] for r in recalled]  # bits, [true, step]; as long as its test set
        notes.append("A mask is recalled from the whole test set of a stage at once, without labels: that is transductive.")
    matrices = {n: cells for n, cells in matrices.items() if n == "accuracy" or any(cell is not None for cell in cells[-1])}
    columns = {
        "accuracy when learnt": [row[j] for j, row in enumerate(matrices["accuracy"])],
        "accuracy at the end": matrices["accuracy"][-1],
        "accuracy, class-IL": matrices.get("accuracy_class_il", [None])[-1],
        "accuracy, stage inferred": matrices.get("accuracy_inferred", [None])[-1],
        "accuracy, mask recalled": [r["accuracy"] for r in recalled],
        "bits off": [r["curve"][-1] for r in recalled],
        "bytes stored": stored if None not in stored else None,
    }
    table = [{"stage": stage.name} | {n: values[i] for n, values in columns.items() if values} for i, stage in enumerate(stages)]
    return Outcome(numbers, "average_accuracy", table, matrices, notes)


def protocols(matrices: dict[str, list], sizes: list[int], start: list, by_itself: list) -> dict[str, float | None]:
    """The numbers of each accuracy matrix: `_class_il`, `_domain_il` and `_inferred` behind their names where the stage is not
    given. Of these only averages are stated where they are undefined."""
    told = metrics.summary(matrices["accuracy"], sizes, start, by_itself)
    numbers, further = {"average_accuracy": told.pop("average_accuracy")}, told
    for suffix in ("_class_il", "_domain_il", "_inferred"):
        before = start if suffix == "_domain_il" else [None] * len(sizes)
        found = metrics.summary(matrices[f"accuracy{suffix}"], sizes, before, by_itself)
        numbers[f"average_accuracy{suffix}"] = found.pop("average_accuracy")
        further = further | {f"{name}{suffix}": value for name, value in found.items() if value is not None}
    return numbers | further


def _rates(found: list[dict | None]) -> dict[str, float]:
    """How often each rule finds the stage, over all stages; of groups of a size, over those with as many test images."""
    rows = [row["rates"] for row in found if row]
    return {rule: _mean([row[rule] for row in rows if rule in row]) for rule in dict.fromkeys(r for row in rows for r in row)}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
