"""ImageNet, or any images in its layout (train/CLASS/*.JPEG, val/CLASS/*.JPEG): one stage, or classes divided
among stages.

The images stay on disk (streamed.py). The official validation images are the test split; what validates is taken from
the training images.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, OpenShare, Whole
from maskbench.data.images.scale import IMAGENET as STANDARD
from maskbench.data.images.scale import Normalize, Scale
from maskbench.data.images.split import dealt
from maskbench.data.images.streamed import Crop, Files, Streamed, worker_count
from maskbench.data.images.whole_sets import divide, scaled, stage_of
from maskbench.data.stage import Origin, Stage
from maskbench.data.streams.arrange import arranged
from maskbench.data.streams.plan import Deal, Lists, Order, Rest, Sizes, Visits

ENDINGS = (".jpeg", ".jpg", ".png", ".bmp", ".webp")


@dataclass(frozen=True, eq=False)
class Library:
    """All image files of a folder, and how they are read.

    Attributes:
        train_x, test_x: the files. train_y, test_y: [files], int64: places of the class folders in alphabetical order.
        names: the class folders.
        plain: what is seen of an image in evaluation; the other fields are `Streamed`'s.
    """

    train_x: Files
    train_y: Tensor
    test_x: Files
    test_y: Tensor
    names: tuple[str, ...]
    origin: Origin
    plain: Crop
    scale: Scale
    workers: int
    seed: int

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.plain.size, self.plain.size)

    def part(self, name: str, rows: Tensor, augment: bool = False) -> Streamed:
        x, y = (self.train_x, self.train_y) if name == "train" else (self.test_x, self.test_y)
        random = replace(self.plain, random=True) if augment else None
        return Streamed(x, y[rows], rows, self.plain, self.scale, random, self.workers, self.seed)


def whole(
    *,
    folder: str,
    val: Whole,
    augment: bool,
    size: Count,
    resize: Count,
    normalize: Normalize,
    workers: Whole | None,
    root: Path,
    seed: int,
) -> list[Stage]:
    """One stage with every class.

    Args:
        folder: of the images, in the data folder or anywhere.
        val: training images that validate.
        augment: train on random crops, mirrored at random.
        size: pixels of an input's side.
        resize: short side of an image before its middle is cut out.
        normalize: `standard` or `imagenet` (zero mean, unit deviation of each channel) or `unit` (0 to 1).
        workers: processes that read; None: one per processor, 8 at most.
        root: the data folder.
        seed: of the run, draws the validation images and the augmentation.
    """
    images = library(folder, size, resize, normalize, workers, root, seed)
    return [stage_of(images, divide(images, val, seed, augment), index=0, total=1, name=Path(folder).name)]


def split(
    *,
    folder: str,
    labels: Literal["shifted", "kept"],
    val: Whole,
    augment: bool,
    size: Count,
    resize: Count,
    normalize: Normalize,
    workers: Whole | None,
    root: Path,
    seed: int,
    stages: Count | None = None,
    order: Order | None = None,
    sizes: Sizes | None = None,
    split: Lists | None = None,
    rest: Rest | None = None,
    visits: Visits | None = None,
    blur: OpenShare | None = None,
) -> list[Stage]:
    """Stages of equally many classes, of given sizes, or of the classes that are listed.

    Args:
        folder: of the images, in the data folder or anywhere.
        labels: `shifted` gives the classes of every stage the labels 0 to k - 1; `kept` leaves them as they are.
        val: training images of all classes together that validate.
        augment: train on random crops, mirrored at random.
        size: pixels of an input's side.
        resize: short side of an image before its middle is cut out.
        normalize: `standard` or `imagenet` (zero mean, unit deviation of each channel) or `unit` (0 to 1).
        workers: processes that read; None: one per processor, 8 at most.
        root: the data folder.
        seed: of the run, draws the validation images, the augmentation and a random order.
        stages: how many; they have to divide the classes evenly.
        order: in which the classes are dealt to the stages: `consecutive` (0, 1, ...), `random` by the seed of the run, a number
            (random by that seed, whatever the run's), or the classes themselves, listed.
        sizes: how many classes each stage has, in the place of `stages`.
        split: the classes of each stage, in the order of their labels, in the place of `stages`, `order` and `sizes`.
        rest: `drop` leaves out classes that no stage has; null refuses to.
        visits: stages that come again: how many rounds of all, or the list of which stage comes when, from 0. The training
            images of a stage are dealt to its visits.
        blur: share of a stage's training images that are exchanged with the next stage's.
    """
    images, deal = library(folder, size, resize, normalize, workers, root, seed), Deal(stages, order, sizes, split, rest)
    return arranged(dealt(images, deal, labels, val, seed, augment), visits=visits, blur=blur, seed=seed, labels=labels)


def library(
    folder: str, size: int, resize: int, normalize: Normalize, workers: int | None, root: Path, seed: int,
    tests: tuple[str, ...] = ("val",),
) -> Library:  # fmt: skip
    """The images of a folder, listed once per process; those of the first of the folders `tests` that is there test.

    Raises:
        UsageError: no such folder, not in this layout, or sizes that do not fit.
    """
    if resize < size:
        raise UsageError(f"data.resize={resize} is too small to cut out {size} x {size} pixels: take {size} or more.")
    place = (Path(root).expanduser() / Path(folder).expanduser()).absolute()
    names, parts, checksums = survey(place, next((name for name in tests if (place / name).is_dir()), tests[0]))
    (train_x, train_y), (test_x, test_y) = parts
    origin = Origin(place.name, "folder", checksums, f"{normalize}, {size} of {resize} pixels")
    scale = scaled(STANDARD, normalize)
    crop, workers = Crop(size, resize), worker_count(workers)
    return Library(train_x, train_y, test_x, test_y, names, origin, crop, scale, workers, seed)


@lru_cache(maxsize=2)
def survey(folder: Path, test: str = "val") -> tuple[tuple[str, ...], list[tuple[Files, Tensor]], dict[str, str]]:
    """(class names, (files, labels) of train and `test`, MD5 of each part's names and sizes): no image is opened."""
    for part in ("train", test):
        if not classes_of(folder / part):
            raise UsageError(
                f"There are no class folders in {folder / part}: put train/CLASS/*.JPEG and {test}/CLASS/*.JPEG into "
                f"{folder} (torchvision.datasets.ImageNet unpacks the official archives so), or name another with "
                "data.folder=FOLDER."
            )
    names = classes_of(folder / "train")
    if strange := sorted(set(classes_of(folder / test)) ^ set(names)):
        raise UsageError(f"Class folder {strange[0]} is in only one of train and {test} of {folder}: give both the same classes.")
    parts, checksums = [], {}
    for part in ("train", test):
        files, labels, checksums[part] = listing(folder / part, names)
        parts.append((files, labels))
    return names, parts, checksums


def classes_of(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, in order."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith(".")))


def listing(folder: Path, classes: tuple[str, ...]) -> tuple[Files, Tensor, str]:
    """(files by class and name, their classes, MD5 of names and sizes) of one part.

    Raises:
        UsageError: a class without images.
    """
    names, labels, digest = [], [], hashlib.md5(usedforsecurity=False)
    for label, name in enumerate(classes):
        images = (e for e in os.scandir(folder / name) if e.name.lower().endswith(ENDINGS) and e.name[0] != ".")
        files = sorted((image.name, image.stat().st_size) for image in images)
        if not files:
            raise UsageError(f"There is no image in {folder / name}: fill the folder, or delete it in both parts.")
        digest.update("".join(f"{name}/{file} {size}\n" for file, size in files).encode(errors="surrogateescape"))
        names += [os.fsencode(f"{name}/{file}") for file, _ in files]
        labels.append(torch.full((len(files),), label))
    return Files(folder, np.array(names)), torch.cat(labels), digest.hexdigest()
