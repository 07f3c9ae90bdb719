"""A source and a target of images: another data set, other classes of one, or the same images turned; few target images.

The target's training images are the first `n_target` of each class in a random order: every method gets the same ones,
and a smaller sample is part of a larger one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Whole
from maskbench.data.images.rotated import Rotate
from maskbench.data.images.scale import Normalize, Scale
from maskbench.data.images.split import narrow
from maskbench.data.images.whole_sets import STANDARD, Images, Splits, divide, load, scaled, stage_of
from maskbench.data.sources.sets import require
from maskbench.data.stage import Stage, View


@dataclass(frozen=True)
class Rescale:
    """Inputs between 0 and 1 as another data set's scale sees them."""

    scale: Scale

    @property
    def key(self) -> str:
        return f"scale {self.scale.mean} {self.scale.deviation}"

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale.apply(x * 255)


def pair(
    *,
    base: str,
    target_base: str | None,
    source_classes: Sequence[Whole] | None,
    target_classes: Sequence[Whole] | None,
    degrees: float,
    n_target: Count | None,
    val: Whole,
    normalize: Normalize,
    source: Literal["auto", "folder", "torchvision", "package", "sample"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """Source and target, each with all its test images; the target validates on what it has left of `val` images.

    Args:
        base: the source's data set, one that sources/sets.py knows.
        target_base: the target's data set, seen on the source's scale; None: the same.
        source_classes, target_classes: their labels in the data set, which become 0, 1, ...; None: all of them.
        degrees: by which the target's images are turned.
        n_target: training images of each target class; None: all.
        val: training images that validate, of source and target each.
        normalize: `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1), `imagenet` (by the mean and
            deviation of ImageNet's, for nets that were trained so) or `net` (0 to 1; the net's recipe does the rest).
        source: where files may come from: one source, or `auto`, each in turn (sources/find.py).
        root: the data folder.
        seed: of the run, draws the validation images and the order of all.

    Raises:
        UsageError: the two do not fit each other, or classes are none of the data set.
    """
    if target_base not in (None, base):
        require(target_base, "data.target_base")
    images = load(base, root, normalize, source)
    other, view = images, None
    if target_base not in (None, base):
        other = load(target_base, root, "unit", source)
        view = Rescale(scaled(STANDARD[base], normalize)) if normalize != "unit" else None
        images = replace(images, origin=images.origin.beside(other.origin))
        if other.shape != images.shape:
            raise UsageError(
                f"data.target_base={target_base} has images of {other.shape} and data.base={base} of {images.shape}."
            )
    if degrees:
        if view is not None:
            raise UsageError("data.degrees turns images of one data set: take data.target_base=null.")
        view = Rotate(degrees, images.black)
    first, second = known("source_classes", source_classes, images), known("target_classes", target_classes, other)
    source_splits = narrow(divide(images, val, seed), first, "shifted", images.classes)
    target_splits = narrow(divide(other, val, seed), second, "shifted", other.classes)
    if len(second) > len(first):
        raise UsageError(f"the target has {len(second)} classes and the source {len(first)}: give the source as many.")
    title = f"{base} turned by {degrees:g}" if degrees else f"{target_base or base}"
    return [
        stage_of(images, source_splits, index=0, total=2, name=f"{base}{listed(source_classes)}", classes=labels(base, first),
                 outputs=len(first)),
        stage_of(other, seen(few(target_splits, n_target), view), index=1, total=2, name=f"{title}{listed(target_classes)}",
                 classes=labels(target_base or base, second), outputs=len(first)),
    ]  # fmt: skip


def known(key: str, classes: Sequence[int] | None, images: Images) -> tuple[int, ...]:
    """The classes that a knob names, or all.

    Raises:
        UsageError: fewer than two, one twice, or one that is not there.
    """
    if classes is None:
        return tuple(range(images.classes))
    if len(set(classes)) < len(classes) or len(classes) < 2 or not all(c in range(images.classes) for c in classes):
        raise UsageError(f"data.{key}={list(classes)} must be two or more different classes of 0 to {images.classes - 1}.")
    return tuple(classes)


def listed(classes: Sequence[int] | None) -> str:
    """Classes that were named, for the title of a stage."""
    return "" if classes is None else f" {'/'.join(map(str, classes))}"


def labels(base: str, classes: Sequence[int]) -> tuple[str, ...]:
    """Names that tell apart equal numbers of different data sets."""
    return tuple(f"{base} {c}" for c in classes)


def few(splits: Splits, n_target: int | None) -> Splits:
    """With the first `n_target` training rows of each class; rows are in a random order already.

    Raises:
        UsageError: a class has fewer.
    """
    if n_target is None:
        return splits
    y = splits.train.y
    counted = torch.nn.functional.one_hot(y).cumsum(0).gather(1, y[:, None]).squeeze(1)  # place among those of its class
    if (short := int(y.bincount().min())) < n_target:
        raise UsageError(f"data.n_target={n_target} is more than a class has: take {short} or fewer.")
    here = counted <= n_target
    train = replace(splits.train, y=y[here], rows=splits.train.rows[here])
    return Splits(train, splits.val, splits.test)


def seen(splits: Splits, view: View | None) -> Splits:
    """The same rows through a view."""
    return Splits(*(replace(split, view=view) for split in (splits.train, splits.val, splits.test)))
