"""The small decathlon: a net that was trained on ImageNet, then five small sets of real images, each a stage.

Stage 0 is what the net came with: 20 samples of ImageNet (sources/small_sets.py), which nothing is trained on and which tell
whether its answers stay as they were. Then faces, animals, Fashion-MNIST, MNIST and emoji, all in colour and of one size,
with as many images of each class. Every stage has as many outputs as classes. `imagenet_pair` is
two of them, for transfer to few rows.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count
from maskbench.data.images.scale import Normalize
from maskbench.data.images.small import NUMBER, balanced, drawn, normalised, pool_of, with_rows
from maskbench.data.images.whole_sets import divide, stage_of
from maskbench.data.sources import find as sources
from maskbench.data.sources.sets import Raw
from maskbench.data.sources.small_sets import Pool
from maskbench.data.stage import Origin, Split, Stage
from maskbench.data.streams.sets import joined

ROWS = {"faces": (5, 5), "animals": (40, 50), "fashion_mnist": (40, 100), "mnist": (40, 100), "emoji": (50, 30)}  # of each class
COLOURS, IMAGENET = 3, 1000
Set = Literal["faces", "animals", "fashion_mnist", "mnist", "emoji"]


def decathlon5(
    *,
    sets: Sequence[Set],
    given: bool,
    size: Count,
    normalize: Normalize,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """The net's own stage and one for each set.

    Args:
        sets: in their order.
        given: whether stage 0 is that of the net that is given; false: the sets alone.
        size: pixels of an input's side, but for the samples of ImageNet, which have 224.
        normalize: `unit` (0 to 1), `standard` (zero mean, unit deviation over the training images of each set) or `imagenet` (by
            the mean and deviation of ImageNet's).
        source: where files may come from: one source, or `auto`, the folder and then a package.
        root: the data folder.
        seed: of the run, draws the rows of each set.

    Raises:
        UsageError: a set is named twice, or its files cannot be had.
    """
    if not sets or len(set(sets)) < len(sets):
        raise UsageError(f"data.sets lists some of {', '.join(ROWS)}, each once; a set that cannot be had is left out there.")
    root, count = Path(root).expanduser().absolute(), len(sets) + given
    stages = [probe(normalize, root, source, count)] if given else []
    for name in sets:
        raw, origin = rows_of(name, root, source, seed)
        images = normalised(raw, origin, (COLOURS, size, size), normalize)
        stage = stage_of(images, divide(images, 0, seed), index=len(stages), total=count, name=name)
        stages.append(replace(stage, classes=tuple(f"{name} {c}" for c in stage.classes)))
    everything = joined([stage.origin for stage in stages])
    return [replace(stage, origin=everything) for stage in stages]


def probe(normalize: Normalize, root: Path, source: str, count: int) -> Stage:
    """The stage of the net that is given: samples of ImageNet, none of which trains."""
    pool, origin = pool_of("imagenet_samples", root, source)
    images = normalised(Raw(pool.x, pool.y, pool.x, pool.y), origin, pool.x.shape[1:], normalize)
    tested = Split(images.test_x, images.test_y)
    none = Split(images.train_x[:0], images.train_y[:0])
    return Stage(
        index=0, total=count, name="imagenet", train=none, val=none, test=tested, outputs=IMAGENET,
        classes=tuple(f"imagenet {c}" for c in pool.classes), shape=images.shape, origin=images.origin, given=True,
        samples=True,
    )  # fmt: skip


def imagenet_samples(
    *,
    held_out: bool,
    normalize: Normalize,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """The samples of ImageNet as the one stage of a net that is given: what a method may look at, and what its answers are
    compared on. Nothing trains.

    Args:
        held_out: half of them, drawn by the seed, is looked at and the other half compared; else all are both, which flatters.
        normalize, source, root, seed: as of `decathlon5`.
    """
    stage = probe(normalize, Path(root).expanduser().absolute(), source, 1)
    split = stage.test
    if not held_out:
        return [replace(stage, train=split, val=split)]
    order = np.random.default_rng(seed).permutation(len(split))
    seen, compared = (torch.from_numpy(np.sort(rows)) for rows in np.array_split(order, 2))
    seen, compared = (replace(split, y=split.y[rows], rows=rows) for rows in (seen, compared))
    return [replace(stage, train=seen, val=seen, test=compared)]


def imagenet_pair(
    *,
    base: Set,
    n_target: Count | None,
    size: Count,
    normalize: Normalize,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """The net's own stage as a source, and one of the decathlon's sets as a target with few rows, on the rows that test it there.

    Args:
        base: the target's set.
        n_target: images of each class that train, fewer being part of more; null: as many as in the decathlon.
        size, normalize, source, root, seed: as of `decathlon5`.

    Raises:
        UsageError: a class has fewer images, or files cannot be had.
    """
    root = Path(root).expanduser().absolute()
    raw, origin = rows_of(base, root, source, seed, n_target)
    images = normalised(raw, origin, (COLOURS, size, size), normalize)
    target = stage_of(images, divide(images, 0, seed), index=1, total=2, name=base)
    stages = [probe(normalize, root, source, 2), replace(target, classes=tuple(f"{base} {c}" for c in target.classes))]
    everything = joined([stage.origin for stage in stages])
    return [replace(stage, origin=everything) for stage in stages]


def rows_of(name: str, root: Path, source: str, seed: int, few: int | None = None) -> tuple[Raw, Origin]:
    """The rows of a set that train and test, as many of each class; of the sets with a test file, those that test from there.

    few: of each class that train; None: as many as in the decathlon.
    """
    train, test = few or ROWS[name][0], ROWS[name][1]
    if name in ("faces", "animals", "emoji"):
        return drawn(name, train, test, root, source, seed, "data.n_target")[:2]
    raw, origin = sources.find(name, root, source)
    draw, classes = np.random.default_rng([seed, NUMBER[name]]), tuple(map(str, range(10)))
    trained, _ = balanced(Pool(raw.train_x, raw.train_y, classes), train, 0, draw, None, "data.n_target")
    tested, _ = balanced(Pool(raw.test_x, raw.test_y, classes), test, 0, draw, None)
    few = Raw(raw.train_x[trained], raw.train_y[trained], raw.test_x[tested], raw.test_y[tested])
    return few, with_rows(origin, trained, tested)
