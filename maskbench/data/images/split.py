"""Split images: the classes are dealt to the stages, and each stage sees the images of its own classes only."""

from dataclasses import replace
from pathlib import Path

import torch

from maskbench.common import streams
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.data.images.whole_sets import Source, Splits, divide, load, stage_of, whole_number
from maskbench.data.stage import Split, Stage


def split(*, base: str, stages: int, labels: str, order: str, val: int, normalize: str, source: str, root: Path,
          seed: int, augment: bool = False) -> list[Stage]:  # fmt: skip
    """`stages` stages of equally many classes; `val` images of all stages together validate.

    Args:
        labels: `shifted` gives the classes of every stage the labels 0 to k - 1, so that all stages can share a small
            head; `kept` leaves them as they are and asks for an output for each class of the data set.
        order: `consecutive` deals 0, 1, ... to the stages in turn; `random` deals by a draw of the seed.
        augment: training images are cropped and mirrored at random.
    """
    return dealt(load(base, root, normalize, source), stages, labels, order, val, seed, augment)


def dealt(images: Source, stages: int, labels: str, order: str, val: int, seed: int, augment: bool) -> list[Stage]:
    """The stages that `split` promises, of any data set."""
    choice("labels", labels, ("shifted", "kept"))
    groups = deal(stages, order, seed, images.classes)
    everything = divide(images, val, seed, augment)
    outputs = len(groups[0]) if labels == "shifted" else images.classes
    return [
        stage_of(
            images, narrow(everything, classes, labels, images.classes), index=i, total=len(groups),
            name="/".join(map(str, classes)), classes=classes, outputs=outputs,
        )
        for i, classes in enumerate(groups)
    ]  # fmt: skip


def deal(stages: int, order: str, seed: int, total: int = 10) -> list[tuple[int, ...]]:
    """The classes of each stage, ascending inside a stage: every one of `total` once, equally many to each."""
    choice("order", order, ("consecutive", "random"))
    if total % whole_number("data.stages", stages, least=1):
        *fitting, last = [n for n in range(1, total + 1) if total % n == 0]
        raise UsageError(
            f"data.stages={stages} does not divide the {total} classes evenly: take {', '.join(map(str, fitting))} or {last}."
        )
    classes = torch.arange(total)
    if order == "random":
        classes = torch.randperm(total, generator=streams.generator(seed, "class order"))
    return [tuple(sorted(group)) for group in classes.view(stages, -1).tolist()]


def narrow(splits: Splits, classes: tuple[int, ...], labels: str, total: int) -> Splits:
    """What belongs to these of `total` classes, in the order it has."""
    label = torch.full((total,), -1)  # of each class in this stage; -1: not here
    label[list(classes)] = torch.arange(len(classes)) if labels == "shifted" else torch.tensor(classes)

    def own(whole: Split) -> Split:
        y = label[whole.y]
        here = y >= 0
        return replace(whole, y=y[here], rows=whole.rows[here])

    return Splits(own(splits.train), own(splits.val), own(splits.test))


def choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise UsageError(f"data.{key}={value} is not known: take {' or '.join(choices)}.{hint}")
