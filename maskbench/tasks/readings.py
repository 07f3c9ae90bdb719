"""What a net answers to test images whose stage it is told, and to those whose stage it is not: every reading of one pass.

    reading      the stage is   chosen among                                       defined where
    accuracy     given          the outputs of that stage (task-IL)                always
    class_il     not given      all classes seen so far; where the net answers     classes differ between stages, or masks,
                                by stage, (stage, class) under each one's masks    heads or norms do
    domain_il    not given      the outputs that all stages share                  they share them
    inferred     inferred       the outputs of the stage of least entropy          masks, heads or norms differ

A net whose answers do not depend on the stage named is asked once a test set. One that answers by stage gives `accuracy`
with one pass a test set, and the others when every stage's masks are asked about every test set: T passes a test set.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskbench.backbones.batch_statistics import uses_batches
from maskbench.data.stage import Stage
from maskbench.training import evaluate
from maskbench.training.method import Method

PROBED = 64  # images by which it is seen whether answers depend on the stage named
RULE = "brute_force_H"  # the stage under whose masks the answers have the least entropy


class Labels(NamedTuple):
    """What the outputs of a run's stages stand for.

    Attributes:
        distinct: an output is one class of the run, and stages differ in their classes: the class says it all.
        shared: all stages have the same outputs. same: and the same classes.
    """

    distinct: bool
    shared: bool
    same: bool


def labels_of(stages: Sequence[Stage]) -> Labels:
    """What the outputs stand for, by the classes that each stage is tested on: those it has from its neighbours do not count."""
    meant: dict[int, Any] = {}
    named = [[(stage.origin.name, name) for name in stage.classes] for stage in stages]
    tested = [stage.test.y.unique().tolist() for stage in stages]
    pairs = [pair for own, names in zip(tested, named, strict=True) for pair in zip(own, names, strict=False)]
    once = all(meant.setdefault(output, name) == name for output, name in pairs)
    shared = all(stage.own == stages[0].own for stage in stages)
    return Labels(distinct=once and not shared, shared=shared, same=shared and all(own == named[0] for own in named))


def by_stage(method: Method, stages: Sequence[Stage], group: int) -> bool:
    """Whether the answer to an image depends on which stage is named: on masks, a head or norms of its own."""
    known = [stage for stage in stages if method.has_learned(stage) and not stage.samples]
    if len(known) == 1 < len(stages):
        return True  # other stages have no answer yet, so there is something of their own to come
    first, last = (evaluate.members(method, stage, known[0].test, PROBED, group=group)[0] for stage in (known[0], known[-1]))
    return not torch.equal(first, last)


def row(
    method: Method,
    stages: Sequence[Stage],
    learnt: Stage,
    tested: Sequence[Stage],
    *,
    labels: Labels,
    group: int,
    pooling: str,
    unknown: bool,
) -> dict[str, Any]:
    """Every reading of the test sets of `tested` once `learnt` has been learnt; by reading, a value or None for each stage.

    labels: of these stages. group, pooling: how many images share one inference of their stage, and which of them say it.
    unknown: whether a net that answers by stage is also asked without it, that is under every stage's masks.
    """
    if not tested:  # of samples no reading is taken
        return {"accuracy": spread({}, stages)}
    if not by_stage(method, stages, group):
        return one_answer(method, stages, learnt, tested, labels, group)
    if not unknown:
        told = {stage.index: evaluate.accuracy(method, stage, stage.test, group) for stage in tested}
        return {"accuracy": spread(told, stages)}
    seen = [stage for stage in tested if stage.index <= learnt.index]
    tallies = {stage.index: Tally(stage, labels, group, pooling, alone=not uses_batches(method.net)) for stage in seen}
    told = {s.index: evaluate.accuracy(method, s, s.test, group) for s in tested if s.index > learnt.index}
    known = [one for one in stages[: learnt.index + 1] if method.has_learned(one) and not one.samples]
    for asked in known:  # one stage's masks are at hand at a time
        for stage in seen:
            tallies[stage.index].offer(asked, *evaluate.log_mean(method, asked, stage.test, group))
    made = {index: tally.readings() for index, tally in tallies.items()}
    return {"accuracy": spread(told | {i: one["accuracy"] for i, one in made.items()}, stages)} | {
        reading: spread({i: one[reading] for i, one in made.items()}, stages) for reading in ("class_il", "domain_il", "inferred")
    }


def one_answer(
    method: Method, stages: Sequence[Stage], learnt: Stage, tested: Sequence[Stage], labels: Labels, group: int
) -> dict[str, list[float | None]]:
    """The readings of a net that answers alike whichever stage is named."""
    told: dict[int, float] = {}
    class_il: dict[int, float] = {}
    for stage in tested:
        log_p, y = evaluate.log_mean(method, stage, stage.test, group)
        told[stage.index] = evaluate.share(evaluate.chosen(log_p, stage.own) == y)
        if labels.distinct and stage.index <= learnt.index:
            class_il[stage.index] = evaluate.share(evaluate.chosen(log_p, seen(stages, learnt)) == y)
    domain_il = told if labels.shared else {}
    return {"accuracy": spread(told, stages), "class_il": spread(class_il, stages), "domain_il": spread(domain_il, stages)}


def seen(stages: Sequence[Stage], learnt: Stage) -> list[int]:
    """The outputs of `learnt` and all stages before it, ascending."""
    return sorted({output for stage in stages[: learnt.index + 1] if not stage.samples for output in stage.own})


def spread(values: dict[int, Any], stages: Sequence[Stage]) -> list[Any]:
    return [values.get(stage.index) for stage in stages]


class Tally:
    """How one test set is answered, under one stage's masks after the other: what is largest, and least in doubt, so far.

    alone: whether an answer to an image is its own, so that one image may say the stage.
    """

    def __init__(self, stage: Stage, labels: Labels, group: int, pooling: str, alone: bool) -> None:
        self.stage, self.labels, self.group, self.alone = stage, labels, group, alone
        self.first = alone and pooling == "first"
        self.surest = Least()  # over (stage, class): class-IL
        self.image, self.pooled = Least(), Least()  # over stages: of one image, and of its whole group
        self.named = Least()  # that of the group's first image, or of all of it
        self.accuracy: float | None = None

    def offer(self, asked: Stage, log_p: Tensor, y: Tensor) -> None:
        """Log-probabilities [images, outputs] under the masks of `asked`, and the targets."""
        own = log_p[:, torch.tensor(asked.own, device=y.device)]
        label = evaluate.chosen(log_p, asked.own)
        right = label == y
        if asked.index == self.stage.index:
            self.accuracy = evaluate.share(right)
        whole = right if self.labels.distinct or asked.first_visit == self.stage.first_visit else torch.zeros_like(right)
        self.surest.offer(-own.amax(-1), right=right, whole=whole)
        doubt = torch.special.entr(log_p.exp()).sum(-1)
        found = {"stage": torch.full_like(y, asked.first_visit), "right": right}
        pooled = of_groups(doubt, self.group)
        self.image.offer(doubt, **found)
        self.pooled.offer(pooled, **found)
        self.named.offer(doubt[:: self.group].repeat_interleave(self.group)[: len(y)] if self.first else pooled, **found)

    def readings(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy,
            "class_il": evaluate.share(self.surest["whole"]),
            "domain_il": evaluate.share(self.surest["right"]) if self.labels.same else None,
            "inferred": self.inferred(),
        }

    def inferred(self) -> dict[str, Any]:
        """As of continual.infer: accuracy where a group under a wrong stage is wrong, and of the class alone; how often the
        stage is found, and which one instead. Any visit of the same images is the right stage."""
        found = {name: one["stage"] == self.stage.first_visit for name, one in (("image", self.image), ("pooled", self.pooled))}
        rows = len(found["image"])
        whole = rows // self.group * self.group or rows
        rates = {f"{RULE}_1": evaluate.share(found["image"])} if self.alone else {}
        rates[f"{RULE}_{min(self.group, rows)}"] = evaluate.share(found["pooled"][:whole])
        counted = self.image["stage"] if self.first else self.pooled["stage"][: whole : self.group]
        return {
            "unshared": evaluate.share(self.named["right"] & (self.named["stage"] == self.stage.first_visit)),
            "shared": evaluate.share(self.named["right"]),
            "rates": rates,
            "images": 1 if self.first else min(self.group, rows),
            "confusion": torch.bincount(counted, minlength=self.stage.total).tolist(),
        }


class Least:
    """Of values [n] offered one after another the least in each place, with what came beside it; of equal ones the first."""

    def __init__(self) -> None:
        self.value: Tensor | None = None
        self.beside: dict[str, Tensor] = {}

    def offer(self, value: Tensor, **beside: Tensor) -> None:
        if self.value is None:
            self.value, self.beside = value, beside
            return
        less = value < self.value
        self.value = torch.where(less, value, self.value)
        self.beside = {name: torch.where(less, new, self.beside[name]) for name, new in beside.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.beside[name]


def of_groups(values: Tensor, size: int) -> Tensor:
    """The mean over each value's group of `size` [n]; the last group is filled up with values from the start."""
    rows = len(values)
    if rows <= size:
        return values.mean().expand(rows)
    filled = torch.cat([values, values[: -rows % size]])
    return filled.unflatten(0, (-1, size)).mean(1).repeat_interleave(size)[:rows]
