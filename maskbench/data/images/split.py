"""Split images: the classes are divided among the stages, and each stage has the images of its own classes only."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from maskbench.common import streams
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Whole
from maskbench.data.images.scale import Normalize
from maskbench.data.images.whole_sets import Source, Splits, divide, load, stage_of
from maskbench.data.stage import Split, Stage


def split(
    *,
    base: str,
    stages: Count,
    labels: Literal["shifted", "kept"],
    order: Literal["consecutive", "random"],
    val: Whole,
    normalize: Normalize,
    source: Literal["auto", "folder", "torchvision", "package", "sample"],
    root: Path,
    seed: int,
    augment: bool = False,
) -> list[Stage]:
    """Stages of equally many classes.

    Args:
        base: the data set, one that sources/sets.py knows.
        stages: how many; they have to divide the classes evenly.
        labels: `shifted` gives the classes of every stage the labels 0 to k - 1, so that all stages can share a small
            head; `kept` leaves them as they are and asks for an output for each class of the data set.
        order: of the classes: `consecutive` (0, 1, ...), or `random` by the seed.
        val: training images of all stages together that validate.
        normalize: `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1), `imagenet` (by the mean and
            deviation of ImageNet's, for nets that were trained so) or `net` (0 to 1; the net's recipe does the rest).
        source: where files may come from: one source, or `auto`, each in turn (sources/find.py).
        root: the data folder.
        seed: of the run, draws the validation images and a random order.
        augment: training images are cropped and mirrored at random.
    """
    return dealt(load(base, root, normalize, source), stages, labels, order, val, seed, augment)


def dealt(images: Source, stages: int, labels: str, order: str, val: int, seed: int, augment: bool) -> list[Stage]:
    """The stages of `split`, of any data set."""
    groups = deal(stages, order, seed, images.classes)
    everything = divide(images, val, seed, augment)
    outputs = len(groups[0]) if labels == "shifted" else images.classes
    return [
        stage_of(
            images, narrow(everything, classes, labels, images.classes), index=i, total=len(groups),
            name="/".join(map(str, classes)), classes=classes, outputs=outputs,
            labels=tuple(range(len(classes))) if labels == "shifted" else classes,
        )
        for i, classes in enumerate(groups)
    ]  # fmt: skip


def deal(stages: int, order: str, seed: int, total: int = 10) -> list[tuple[int, ...]]:
    """The classes of each stage, ascending inside a stage: every one of `total` once, equally many to each.

    Raises:
        UsageError: the stages do not divide the classes evenly.
    """
    if total % stages:
        *fitting, last = [n for n in range(1, total + 1) if total % n == 0]
        raise UsageError(
            f"data.stages={stages} does not divide the {total} classes evenly: take {', '.join(map(str, fitting))} or {last}."
        )
    classes = torch.arange(total)
    if order == "random":
        classes = torch.randperm(total, generator=streams.generator(seed, "class order"))
    return [tuple(sorted(group)) for group in classes.view(stages, -1).tolist()]


def narrow(splits: Splits, classes: tuple[int, ...], labels: str, total: int) -> Splits:
    """The rows of these of `total` classes, in the order they have."""
    label = torch.full((total,), -1)  # of each class in this stage; -1: not here
    label[list(classes)] = torch.arange(len(classes)) if labels == "shifted" else torch.tensor(classes)

    def own(whole: Split) -> Split:
        y = label[whole.y]
        here = y >= 0
        return replace(whole, y=y[here], rows=whole.rows[here])

    return Splits(own(splits.train), own(splits.val), own(splits.test))
