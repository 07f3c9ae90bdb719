"""A stream over several data sets of images: each of them is a stage, with all of its classes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, OpenShare, Share
from maskbench.data.episodes import glyph28
from maskbench.data.images import small
from maskbench.data.images.scale import Normalize
from maskbench.data.images.whole_sets import Images, divide, stage_of
from maskbench.data.sources import find as sources
from maskbench.data.sources.sets import Raw, shape_of
from maskbench.data.sources.small_sets import SMALL
from maskbench.data.stage import Origin, Stage
from maskbench.data.streams.arrange import arranged, in_a_row
from maskbench.data.streams.plan import GLYPHS, Visits, sets_mistake

TESTED = 6  # of the 20 instances of a letter


def stream(
    *,
    sets: Sequence[str],
    labels: Literal["shifted", "kept"],
    size: Count | None,
    val: Share,
    normalize: Normalize,
    source: Literal["auto", "folder", "torchvision", "package", "sample"],
    root: Path,
    seed: int,
    visits: Visits | None = None,
    blur: OpenShare | None = None,
) -> list[Stage]:
    """A stage for each data set; grey images are repeated over three channels where any of the sets is in colour.

    Args:
        sets: the data sets, in their order: those that sources/sets.py and sources/small_sets.py know, and glyph28 with
            all its letters.
        labels: `shifted` gives the classes of every set the labels 0 to k - 1, under a head as wide as the largest set asks;
            `kept` gives every class of every set an output of its own.
        size: pixels of an input's side, to which images of another size are resized (bicubic); null: the sets have one size.
        val: share of each set's training images that validate.
        normalize: `standard` (zero mean, unit deviation over the training images of each set), `unit` (0 to 1) or `imagenet`
            (by the mean and deviation of ImageNet's, for nets that were trained so).
        source: where files may come from: one source, or `auto`, each in turn (sources/find.py).
        root: the data folder.
        seed: of the run, draws the validation images.
        visits: sets that come again: how many rounds of all, or the list of which set comes when, from 0. The training images
            of a set are dealt to its visits.
        blur: share of a set's training images that are exchanged with the next one's.

    Raises:
        UsageError: a set is not there, or the sets have images of several sizes.
    """
    if wrong := sets_mistake(sets):
        raise UsageError(wrong)
    shape = common_shape(sets, size)
    made = [load(name, shape, Path(root).expanduser().absolute(), normalize, source, seed) for name in sets]
    everything = joined([images.origin for images in made])
    stages = [
        stage_of(images, divide(images, round(val * len(images.train_y)), seed), index=i, total=len(sets), name=name)
        for i, (name, images) in enumerate(zip(sets, made, strict=True))
    ]
    stages = [replace(s, classes=tuple(f"{s.name} {c}" for c in s.classes), origin=everything) for s in stages]
    return arranged(in_a_row(stages, labels), visits=visits, blur=blur, seed=seed, labels=labels)


def common_shape(sets: Sequence[str], size: int | None) -> tuple[int, int, int]:
    """The shape that an input of each set gets.

    Raises:
        UsageError: the sets have several sizes, and none is asked for.
    """
    shapes = [(28, 28) if name == GLYPHS else SMALL[name].shape if name in SMALL else shape_of(name) for name in sets]
    channels = max(shape[0] if len(shape) == 3 else 1 for shape in shapes)
    if size is not None:
        return channels, size, size
    sizes = {shape[-2:]: name for name, shape in zip(sets, shapes, strict=True)}
    if len(sizes) > 1:
        told = " and ".join(f"{height} x {width} ({name})" for (height, width), name in sizes.items())
        raise UsageError(f"data.sets has images of {told}: say with data.size=PIXELS to which size all are brought.")
    return channels, *shapes[0][-2:]


def load(name: str, shape: tuple[int, int, int], root: Path, normalize: Normalize, source: str, seed: int) -> Images:
    """The images of a set in a shape; a large set once per process, and nobody writes into its tensors."""
    if name not in SMALL:
        return _load(name, shape, root, normalize, source)
    raw, origin, _ = small.drawn(name, *small.DIVISION[name], root, source, seed)
    return small.normalised(raw, origin, shape, normalize)


@lru_cache(maxsize=8)
def _load(name: str, shape: tuple[int, int, int], root: Path, normalize: Normalize, source: str) -> Images:
    raw, origin = letters(root, source) if name == GLYPHS else sources.find(name, root, source)
    return small.normalised(raw, origin, shape, normalize)


def letters(root: Path, source: str) -> tuple[Raw, Origin]:
    """All letters of glyph28, each a class: of its instances the first in a fixed random order test."""
    by_split, where, md5 = glyph28.load(root, source)
    classes = [images for own in by_split.values() for images in own.values()]
    draw = np.random.RandomState(0)  # its stream is frozen across versions of numpy
    dealt = [images[draw.permutation(len(images))] for images in classes]
    tested, trained = [images[:TESTED] for images in dealt], [images[TESTED:] for images in dealt]

    def together(groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(groups), np.repeat(np.arange(len(groups)), [len(group) for group in groups])

    return Raw(*together(trained), *together(tested)), Origin(GLYPHS, where, {GLYPHS: md5})


def joined(origins: Sequence[Origin]) -> Origin:
    """Where the files of all sets came from, in one."""
    return Origin(
        name=" + ".join(origin.name for origin in origins),
        source=" + ".join(dict.fromkeys(origin.source for origin in origins)),
        checksums={f"{origin.name}/{file}": md5 for origin in origins for file, md5 in origin.checksums.items()},
        scale=" + ".join(dict.fromkeys(origin.scale for origin in origins)),
    )
