"""Data sets of images in memory, one tensor for all stages; and the plainest of them: every class in one stage."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from maskbench.common import streams
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Whole
from maskbench.data.images import ood as unknowns
from maskbench.data.images import shift
from maskbench.data.images.augment import CropFlip
from maskbench.data.images.scale import IMAGENET, Normalize, Scale
from maskbench.data.sources import find as sources
from maskbench.data.sources.class_counts import CLASSES
from maskbench.data.stage import Origin, Split, Stage

log = logging.getLogger("maskbench")


# mean and deviation of the training images, on the scale 0 to 1
STANDARD = {
    "mnist": Scale((0.1307,), (0.3081,)),
    "fashion_mnist": Scale((0.2860,), (0.3530,)),
    "cifar10": Scale((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Scale((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": Scale((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "synthetic": Scale((0.2704,), (0.2696,)),
    "synthetic_other": Scale((0.2740,), (0.2700,)),
    "synthetic_cifar10": Scale((0.2749, 0.2768, 0.2729), (0.2731, 0.2747, 0.2695)),
    "synthetic_cifar100": Scale((0.2734, 0.2735, 0.2751), (0.2711, 0.2713, 0.2710)),
}
PAD = 4  # pixels by which an augmented image moves at most: what CIFAR's recipes have


class Source(Protocol):
    """A whole data set whose rows are divided into splits; in memory (Images) or on disk."""

    train_y: Tensor  # [rows], int64
    test_y: Tensor
    classes: int
    shape: tuple[int, ...]
    origin: Origin

    def part(self, name: str, rows: Tensor, augment: bool = False) -> Split:
        """These rows, [rows of the split], of `train` or `test`; with `augment` training batches change at random."""


@dataclass(frozen=True, eq=False)
class Images:
    """A whole data set in memory, normalised.

    Attributes:
        train_x, test_x: [rows, channels, height, width], float32.
        train_y, test_y: [rows], int64, from 0 to `classes` - 1.
        blacks: the value a black pixel has after normalisation, per channel.
        origin: where the files came from.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    blacks: tuple[float, ...]
    classes: int
    origin: Origin

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train_x.shape[1:])

    @property
    def black(self) -> float:
        """The value of a black pixel of grey images."""
        if len(self.blacks) > 1:
            raise UsageError(f"{self.origin.name} is in colour: take grey images here, such as data.base=mnist.")
        return self.blacks[0]

    def part(self, name: str, rows: Tensor, augment: bool = False) -> Split:
        x, y = (self.train_x, self.train_y) if name == "train" else (self.test_x, self.test_y)
        return Split(x, y[rows], rows, augment=CropFlip(PAD, self.blacks) if augment else None)


def load(base: str, root: Path, normalize: Normalize = "standard", source: str = "auto") -> Images:
    """The images of `base`, loaded once per process and shared by its runs: nobody writes into these tensors.

    `normalize` is `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1) or `imagenet` (by the mean and
    deviation of ImageNet's).
    """
    return _load(base, Path(root).expanduser().absolute(), normalize, source)


@lru_cache(maxsize=2)
def _load(base: str, root: Path, normalize: Normalize, source: str) -> Images:
    raw, origin = sources.find(base, root, source)
    scale = scaled(STANDARD[base], normalize)

    def inputs(x: np.ndarray) -> Tensor:
        return to_inputs(x, scale)

    def targets(y: np.ndarray) -> Tensor:
        return torch.from_numpy(y.astype(np.int64))

    return Images(
        train_x=inputs(raw.train_x),
        train_y=targets(raw.train_y),
        test_x=inputs(raw.test_x),
        test_y=targets(raw.test_y),
        blacks=scale.black,
        classes=CLASSES[base],
        origin=replace(origin, scale=normalize),
    )


def to_inputs(x: np.ndarray, scale: Scale) -> Tensor:
    """uint8 images [rows, height, width] or [rows, channels, height, width] -> [rows, channels, height, width], float32."""
    # in place: 60,000 images of MNIST are 188 MB
    return scale.apply(torch.from_numpy(x.astype(np.float32)).view(len(x), -1, *x.shape[-2:]))


def scaled(standard: Scale, normalize: Normalize) -> Scale:
    """The scale that `data.normalize` names, where `standard` is that of the data set.

    Raises:
        UsageError: the images have other channels than ImageNet's.
    """
    channels = len(standard.mean)
    if normalize == "imagenet":
        if channels != len(IMAGENET.mean):
            raise UsageError("data.normalize=imagenet is for images in colour, and these are grey: take standard or unit.")
        return IMAGENET
    return standard if normalize == "standard" else Scale((0.0,) * channels, (1.0,) * channels)


@dataclass(frozen=True)
class Splits:
    """The three splits of a stage."""

    train: Split
    val: Split
    test: Split


def divide(images: Source, val: int, seed: int, augment: bool = False) -> Splits:
    """Every image in one split: `val` of the training images validate, at random by the seed; test rows in random order.

    Rows of each split are in random order, so its first rows are a fair sample. With `augment` training batches change
    at random.
    """
    order = torch.randperm(len(images.train_y), generator=streams.generator(seed, "val split"))
    val = validation(len(order), val, images.origin.source)
    tested = torch.randperm(len(images.test_y), generator=streams.generator(seed, "test order"))
    return Splits(
        train=images.part("train", order[val:], augment),
        val=images.part("train", order[:val]),
        test=images.part("test", tested),
    )


def validation(rows: int, val: int, source: str) -> int:
    """How many of `rows` training images validate: `val`, or on a small stand-in that has too few, the same share.

    Raises:
        UsageError: none is left to train on.
    """
    if val < rows:
        return val
    share = rows * val // 60_000
    if source not in ("sample", "synthetic") or share >= rows:
        raise UsageError(f"data.val={val} leaves nothing to train on: there are {rows} training images, take fewer.")
    log.info(f"Only {rows} training images: {share} of them validate, the share that {val} has of 60,000.")
    return share


def stage_of(images: Source, splits: Splits, *, index: int, total: int, name: str, classes: tuple[int, ...] = (),
          outputs: int | None = None, labels: tuple[int, ...] = ()) -> Stage:  # fmt: skip
    """One stage of these images; by default with all classes, under their own labels."""
    return Stage(
        index=index,
        total=total,
        name=name,
        train=splits.train,
        val=splits.val,
        test=splits.test,
        classes=classes or tuple(range(images.classes)),
        outputs=images.classes if outputs is None else outputs,
        shape=images.shape,
        origin=images.origin,
        labels=labels,
    )


def whole(
    *,
    base: str,
    val: Whole,
    normalize: Normalize,
    source: Literal["auto", "folder", "torchvision", "package", "sample"],
    root: Path,
    seed: int,
    augment: bool = False,
    ood: Literal[False] | str | Sequence[str] | None = None,
    shifted: bool | str | Sequence[str] | None = None,
    shifted_images: Count | None = None,
) -> list[Stage]:
    """One stage with every class.

    Args:
        base: the data set, one that sources/sets.py knows.
        val: training images that validate.
        normalize: `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1), `imagenet` (by the mean and
            deviation of ImageNet's, for nets that were trained so) or `net` (0 to 1; the net's recipe does the rest).
        source: where files may come from: one source, or `auto`, each in turn (sources/find.py).
        root: the data folder.
        seed: of the run, draws the validation images.
        augment: training images are cropped and mirrored at random.
        ood: sets whose test images are unknown classes (ood.py); `auto`: those that go with `base`; `near_far`: and far ones.
        shifted: corruptions of the test images (shift.py): true (every type), a type, a list of them, or a folder.
        shifted_images: how many of the test images are corrupted, drawn by the seed; None: all.
    """
    images, names = load(base, root, normalize, source), unknowns.requested(ood, base)
    scale = scaled(STANDARD[base], normalize)
    stage = stage_of(images, divide(images, val, seed, augment), index=0, total=1, name=base)
    corrupted, sums = shift.shifted(shifted, stage.test, images.test_y.numpy(), scale, root, shifted_images, seed)
    unknown: Mapping[str, Split] = {}
    if names:
        unknown, theirs = unknowns.unknown(
            names, base=base, known=(images.train_x, images.test_x), inputs=partial(to_inputs, scale=scale),
            most=len(stage.test), root=root, source=source, seed=seed, of=images.origin.source,
        )  # fmt: skip
        sums |= theirs
    origin = replace(stage.origin, checksums=stage.origin.checksums | sums)
    groups = unknowns.groups(ood, base)
    return [replace(stage, ood=unknown, ood_groups=groups, shifted=corrupted, origin=origin)]
