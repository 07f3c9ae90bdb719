"""A stream over folders of images, each in the layout of PackNet's and Piggyback's data: train/CLASS/*.jpg, test/CLASS/*.jpg.

The images stay on disk (images/streamed.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Share, Whole
from maskbench.data.images.imagenet import library
from maskbench.data.images.scale import Normalize
from maskbench.data.images.whole_sets import divide, stage_of
from maskbench.data.stage import Stage
from maskbench.data.streams.arrange import arranged, in_a_row
from maskbench.data.streams.plan import Visits
from maskbench.data.streams.sets import joined

TESTS = ("test", "val")  # what the part that tests is called; ImageNet's is val


def folders(
    *,
    folders: Sequence[str],
    labels: Literal["shifted", "kept"],
    val: Share,
    augment: bool,
    size: Count,
    resize: Count,
    normalize: Normalize,
    workers: Whole | None,
    root: Path,
    seed: int,
    visits: Visits | None = None,
) -> list[Stage]:
    """A stage for each folder, with all of its classes; they are the class folders in alphabetical order.

    Args:
        folders: in their order, each in the data folder or anywhere.
        labels: `shifted` gives the classes of every folder the labels 0 to k - 1, under a head as wide as the largest asks;
            `kept` gives every class of every folder an output of its own.
        val: share of each folder's training images that validate.
        augment: train on random crops, mirrored at random.
        size: pixels of an input's side.
        resize: short side of an image before its middle is cut out.
        normalize: `standard` or `imagenet` (zero mean, unit deviation of each channel) or `unit` (0 to 1).
        workers: processes that read; None: one per processor, 8 at most.
        root: the data folder.
        seed: of the run, draws the validation images and the augmentation.
        visits: folders that come again: how many rounds of all, or the list of which comes when, from 0. The training images
            of a folder are dealt to its visits.

    Raises:
        UsageError: no folder is named, one is named twice, or is not in this layout.
    """
    if not folders or len(set(folders)) < len(folders):
        raise UsageError("data.folders lists folders of images, each once; one that comes again is asked for with data.visits.")
    libraries = [library(folder, size, resize, normalize, workers, root, seed, TESTS) for folder in folders]
    origin = joined([replace(images.origin, name=name) for images, name in zip(libraries, names(folders), strict=True)])
    stages = []
    for i, (images, name) in enumerate(zip(libraries, names(folders), strict=True)):
        splits = divide(images, round(val * len(images.train_y)), seed, augment)
        classes = tuple(f"{name} {c}" for c in images.names)
        stages.append(replace(stage_of(images, splits, index=i, total=len(folders), name=name, classes=classes), origin=origin))
    return arranged(in_a_row(stages, labels), visits=visits, blur=None, seed=seed)


def names(folders: Sequence[str]) -> list[str]:
    """The last word of each path; its whole text, where two end alike."""
    last = [Path(folder).name for folder in folders]
    return [word if Counter(last)[word] == 1 else folder for word, folder in zip(last, folders, strict=True)]
