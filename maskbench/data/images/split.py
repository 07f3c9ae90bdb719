"""Split images: the classes are divided among the stages, and each stage has the images of its own classes only."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from maskbench.common import streams
from maskbench.common.knobs import Count, OpenShare, Whole
from maskbench.data.images.scale import Normalize
from maskbench.data.images.whole_sets import Source, Splits, divide, load, stage_of
from maskbench.data.stage import Split, Stage
from maskbench.data.streams.arrange import arranged
from maskbench.data.streams.plan import Deal, Lists, Order, Rest, Sizes, Visits


def split(
    *,
    base: str,
    labels: Literal["shifted", "kept"],
    val: Whole,
    normalize: Normalize,
    source: Literal["auto", "folder", "torchvision", "package", "sample"],
    root: Path,
    seed: int,
    stages: Count | None = None,
    order: Order | None = None,
    sizes: Sizes | None = None,
    split: Lists | None = None,
    rest: Rest | None = None,
    visits: Visits | None = None,
    blur: OpenShare | None = None,
    augment: bool = False,
) -> list[Stage]:
    """Stages of equally many classes, of given sizes, or of the classes that are listed.

    Args:
        base: the data set, one that sources/sets.py knows.
        labels: `shifted` gives the classes of every stage the labels 0 to k - 1, so that all stages can share a small
            head, as wide as the largest stage; `kept` leaves them as they are and asks for an output for each class of the
            data set.
        val: training images of all classes together that validate.
        normalize: `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1), `imagenet` (by the mean and
            deviation of ImageNet's, for nets that were trained so) or `net` (0 to 1; the net's recipe does the rest).
        source: where files may come from: one source, or `auto`, each in turn (sources/find.py).
        root: the data folder.
        seed: of the run, draws the validation images and a random order.
        stages: how many; they have to divide the classes evenly.
        order: in which the classes are dealt to the stages: `consecutive` (0, 1, ...), `random` by the seed of the run, a number
            (random by that seed, whatever the run's), or the classes themselves, listed.
        sizes: how many classes each stage has, in the place of `stages`.
        split: the classes of each stage, in the order of their labels, in the place of `stages`, `order` and `sizes`.
        rest: `drop` leaves out classes that no stage has; null refuses to.
        visits: stages that come again: how many rounds of all, or the list of which stage comes when, from 0. The training
            images of a stage are dealt to its visits.
        blur: share of a stage's training images that are exchanged with the next stage's.
        augment: training images are cropped and mirrored at random.
    """
    images, deal = load(base, root, normalize, source), Deal(stages, order, sizes, split, rest)
    return arranged(dealt(images, deal, labels, val, seed, augment), visits=visits, blur=blur, seed=seed, labels=labels)


def dealt(images: Source, deal: Deal, labels: str, val: int, seed: int, augment: bool) -> list[Stage]:
    """The stages of `split`, of any data set; each once, before they come again or mix."""
    groups = deal.groups(images.classes, drawing(images.classes, seed))
    everything = divide(images, val, seed, augment)
    outputs = max(map(len, groups)) if labels == "shifted" else images.classes
    return [
        stage_of(
            images, narrow(everything, classes, labels, images.classes), index=i, total=len(groups),
            name="/".join(map(str, classes)), classes=classes, outputs=outputs,
            labels=tuple(range(len(classes)) if labels == "shifted" else sorted(classes)),
        )
        for i, classes in enumerate(groups)
    ]  # fmt: skip


def drawing(total: int, seed: int) -> Callable[[int | None], list[int]]:
    """A seed (None: that of the run) -> all classes in the order it draws."""
    return lambda own: torch.randperm(total, generator=streams.generator(seed if own is None else own, "class order")).tolist()


def narrow(splits: Splits, classes: tuple[int, ...], labels: str, total: int) -> Splits:
    """The rows of these of `total` classes, in the order they have."""
    label = torch.full((total,), -1)  # of each class in this stage; -1: not here
    label[list(classes)] = torch.arange(len(classes)) if labels == "shifted" else torch.tensor(classes)

    def own(whole: Split) -> Split:
        y = label[whole.y]
        here = y >= 0
        return replace(whole, y=y[here], rows=whole.rows[here])

    return Splits(own(splits.train), own(splits.val), own(splits.test))
