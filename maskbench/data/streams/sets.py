"""A stream over several data sets of images: each of them is a stage, with all of its classes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, OpenShare, Share
from maskbench.data.episodes import glyph28
from maskbench.data.images.scale import Normalize, Scale
from maskbench.data.images.whole_sets import STANDARD, Images, divide, scaled, stage_of, to_inputs
from maskbench.data.sources import find as sources
from maskbench.data.sources.sets import Raw, shape_of
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
        sets: the data sets, in their order: those that sources/sets.py knows, and glyph28 with all its letters.
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
    made = [load(name, shape, Path(root).expanduser().absolute(), normalize, source) for name in sets]
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
    shapes = [(28, 28) if name == GLYPHS else shape_of(name) for name in sets]
    channels = max(shape[0] if len(shape) == 3 else 1 for shape in shapes)
    if size is not None:
        return channels, size, size
    sizes = {shape[-2:]: name for name, shape in zip(sets, shapes, strict=True)}
    if len(sizes) > 1:
        told = " and ".join(f"{height} x {width} ({name})" for (height, width), name in sizes.items())
        raise UsageError(f"data.sets has images of {told}: say with data.size=PIXELS to which size all are brought.")
    return channels, *shapes[0][-2:]


@lru_cache(maxsize=8)
def load(name: str, shape: tuple[int, int, int], root: Path, normalize: Normalize, source: str) -> Images:
    """The images of a set in a shape, once per process: nobody writes into these tensors."""
    raw, origin = letters(root, source) if name == GLYPHS else sources.find(name, root, source)
    raw = raw._replace(train_x=shaped(raw.train_x, shape), test_x=shaped(raw.test_x, shape))
    scale = scaled(standard(name, raw.train_x, shape[0]), normalize)
    y = {part: torch.from_numpy(getattr(raw, f"{part}_y").astype(np.int64)) for part in ("train", "test")}
    origin = replace(origin, scale=f"{normalize}, {shape[1]} x {shape[2]} pixels")
    return Images(
        train_x=to_inputs(raw.train_x, scale), train_y=y["train"], test_x=to_inputs(raw.test_x, scale), test_y=y["test"],
        blacks=scale.black, classes=int(y["train"].max()) + 1, origin=origin,
    )  # fmt: skip


def shaped(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 images [rows, height, width] or [rows, channels, height, width] -> [rows, *shape]: resized, grey repeated."""
    channels, height, width = shape
    x = x[:, None] if x.ndim == 3 else x
    if x.shape[2:] != (height, width):
        from PIL import Image

        def resized(plane: np.ndarray) -> np.ndarray:
            return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))

        planes = x.reshape(-1, *x.shape[2:])
        x = np.stack([resized(plane) for plane in planes]).reshape(*x.shape[:2], height, width)
    return np.repeat(x, channels, 1) if x.shape[1] < channels else x


def standard(name: str, train: np.ndarray, channels: int) -> Scale:
    """Mean and deviation of a set's training pixels: the published ones of its own shape, else those that are measured."""
    known = STANDARD.get(name)
    if known is not None and len(known.mean) == channels:
        return known
    if known is not None:
        return Scale(known.mean * channels, known.deviation * channels)
    return measured(torch.from_numpy(train))


def measured(x: Tensor) -> Scale:
    """Mean and deviation of each channel of uint8 images [rows, channels, height, width], on the scale 0 to 1.

    From whole numbers, so that every machine has the same bits.
    """
    counts = torch.stack([x[:, channel].flatten().bincount(minlength=256) for channel in range(x.shape[1])]).double()
    values = torch.arange(256).double() / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    deviation = ((counts * values.square()).sum(1) / counts.sum(1) - mean.square()).sqrt()
    return Scale(tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in deviation.tolist()))


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
