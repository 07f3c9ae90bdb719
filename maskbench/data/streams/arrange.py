"""In which order the stages of a stream come, how often, and how their training images mix where one follows another."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from maskbench.common import streams
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.data.streams.mixed import join, take
from maskbench.data.streams.plan import blur_mistake, visits_mistake


def arranged(
    stages: list[Stage], *, visits: int | Sequence[int] | None, blur: float | None, seed: int, labels: str = "shared"
) -> list[Stage]:
    """The stages as they come: each of them once, in order, unless `visits` or `blur` say otherwise.

    Args:
        labels: what the labels of different stages mean: the same (shared), or as in `split` (images/split.py).

    Raises:
        UsageError: what `visited` and `blurred` refuse; or stages mix whose labels mean different classes.
    """
    if wrong := blur_mistake(blur, labels):
        raise UsageError(wrong)
    stages = stages if visits is None else visited(stages, visits)
    return stages if blur is None else blurred(stages, blur, seed)


def in_a_row(stages: Sequence[Stage], labels: str) -> list[Stage]:
    """Stages of their own, with every class each, as one stream: `labels` as in `split` (images/split.py).

    `shifted` leaves the labels 0 to k - 1 and makes the head as wide as the largest stage asks; `kept` gives every class of
    every stage an output of its own.
    """
    widths = [stage.outputs for stage in stages]
    outputs = max(widths) if labels == "shifted" else sum(widths)
    row = []
    for i, stage in enumerate(stages):
        before = sum(widths[:i]) if labels == "kept" else 0
        parts = {part: getattr(stage, part) for part in ("train", "val", "test")}
        parts = {part: replace(split, y=split.y + before) for part, split in parts.items()}
        own = tuple(range(before, before + widths[i]))
        row.append(replace(stage, **parts, index=i, total=len(stages), outputs=outputs, labels=own))
    return row


def visited(stages: list[Stage], visits: int | Sequence[int]) -> list[Stage]:
    """Stages that come again, in `visits` rounds or in the order listed.

    Its training images are dealt to the visits of a stage, so that none is trained in two of them; it validates and is tested
    on the same images each time.

    Raises:
        UsageError: a stage is not there, never comes, or has fewer images than visits.
    """
    if wrong := visits_mistake(visits, len(stages)):
        raise UsageError(wrong)
    order = list(range(len(stages))) * visits if isinstance(visits, int) else list(visits)
    first: dict[int, int] = {}
    come = []
    for place, number in enumerate(order):
        stage, times, before = stages[number], order.count(number), order[:place].count(number)
        if len(stage.train) < times:
            raise UsageError(f"data.visits has stage {number} {times} times, and it has {len(stage.train)} training images.")
        own = stage.train if times == 1 else take(stage.train, torch.arange(before, len(stage.train), times))
        name = f"{stage.name}, visit {before + 1}" if before else stage.name
        come.append(replace(stage, index=place, total=len(order), name=name, train=own, repeats=first.get(number)))
        first.setdefault(number, place)
    return come


def blurred(stages: list[Stage], share: float, seed: int) -> list[Stage]:
    """Stages that mix: a share of the training images of each (of the smaller of two) is exchanged with the next one's.

    Every image is trained in one stage, as before. A stage's own outputs are those of all its images; it validates and is
    tested on those of its own classes alone.

    Raises:
        UsageError: the share leaves no image to a stage in the middle, or exchanges none.
    """
    trains = [stage.train for stage in stages]
    exchanged = [int(share * min(len(one), len(other))) for one, other in zip(trains, trains[1:], strict=False)]
    before, after = [0, *exchanged], [*exchanged, 0]  # of each stage: rows that go to the one before, and to the next
    if not any(exchanged):
        raise UsageError(f"data.blur={share} exchanges no image between stages: take more, or more stages than one.")
    if any(b + a > len(train) for b, a, train in zip(before, after, trains, strict=True)):
        raise UsageError(f"data.blur={share} takes more images from a stage than it has: take 0.5 or less.")
    mixed = []
    for stage, b, a in zip(stages, before, after, strict=True):
        i, rows = stage.index, len(stage.train)
        parts = [take(stage.train, torch.arange(b, rows - a))]  # rows are in a random order already
        parts += [take(trains[i - 1], torch.arange(len(trains[i - 1]) - b, len(trains[i - 1])))] if b else []
        parts += [take(trains[i + 1], torch.arange(a))] if a else []
        order = torch.randperm(sum(map(len, parts)), generator=streams.generator(seed, "blur", i))
        train = join(tuple(parts), order)
        labels = tuple(sorted({*stage.labels, *train.y.tolist()})) if stage.labels else ()
        mixed.append(replace(stage, train=train, labels=labels))
    return mixed
