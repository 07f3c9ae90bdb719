"""Small sets of real images (sources/small_sets.py): faces, animals, emoji; every class has as many rows, drawn by the seed.

What tests is drawn first. An image that nearly equals one of these, as it is or mirrored, does not train.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Share
from maskbench.data.images.scale import Normalize
from maskbench.data.images.shaping import measured, shaped
from maskbench.data.images.whole_sets import Images, divide, scaled, stage_of, to_inputs
from maskbench.data.sources import small_sets
from maskbench.data.sources.folder import md5
from maskbench.data.sources.sets import Raw
from maskbench.data.sources.small_sets import Pool
from maskbench.data.stage import Origin, Stage

NUMBER = {"faces": 0, "animals": 1, "fashion_mnist": 2, "mnist": 3, "emoji": 4}  # of a set's own draw, beside the seed
DIVISION = {"faces": (5, 5), "animals": (None, 50), "emoji": (50, 30)}  # images of each class that train (None: all) and test
# grey levels below which two images nearly equal, by the root of their mean squared difference; faces of one person all would
NEAR = {"animals": 25.0, "emoji": 25.0}


def small(
    *,
    base: Literal["faces", "animals", "emoji"],
    train: Count | None,
    test: Count,
    val: Share,
    size: Count | None,
    normalize: Normalize,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """One stage with every class.

    Args:
        base: the set.
        train: images of each class that train; null: all that neither test nor nearly equal one that does.
        test: images of each class that test.
        val: share of the training images that validate.
        size: pixels of an input's side, to which images are resized (bicubic); null: as they are.
        normalize: `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1) or `imagenet` (by the mean
            and deviation of ImageNet's, for nets that were trained so).
        source: where files may come from: one source, or `auto`, the folder and then a package.
        root: the data folder.
        seed: of the run, draws which images train, validate and test.
    """
    raw, origin, classes = drawn(base, train, test, Path(root), source, seed)
    plain = raw.train_x.shape[1:] if raw.train_x.ndim == 4 else (1, *raw.train_x.shape[1:])
    images = normalised(raw, origin, (plain[0], size, size) if size else plain, normalize)
    splits = divide(images, round(val * len(images.train_y)), seed)
    return [stage_of(images, splits, index=0, total=1, name=base, classes=classes)]


def drawn(
    base: str, train: int | None, test: int, root: Path, source: str, seed: int, key: str = "data.train"
) -> tuple[Raw, Origin, tuple[str, ...]]:
    """(images of a set that train and test, where they came from, names of the classes); `key` as of `balanced`."""
    pool, origin = pool_of(base, root.expanduser().absolute(), source)
    trained, tested = balanced(pool, train, test, np.random.default_rng([seed, NUMBER[base]]), NEAR.get(base), key)
    raw = Raw(pool.x[trained], pool.y[trained], pool.x[tested], pool.y[tested])
    return raw, with_rows(origin, trained, tested), pool.classes


def with_rows(origin: Origin, trained: np.ndarray, tested: np.ndarray) -> Origin:
    """The origin that also tells which rows were drawn."""
    rows = md5(np.concatenate([[len(trained)], trained, tested]).astype("<i8").tobytes())
    return replace(origin, checksums=origin.checksums | {"rows": rows})


@lru_cache(maxsize=3)
def pool_of(base: str, root: Path, source: str) -> tuple[Pool, Origin]:
    """A set's files, read once per process."""
    return small_sets.find(base, root, source)


def balanced(
    pool: Pool, train: int | None, test: int, draw: np.random.Generator, near: float | None, key: str = "data.train"
) -> tuple[np.ndarray, np.ndarray]:
    """(rows that train, rows that test): as many of each class; none that trains is `near` one that tests.

    key: the one that says how many train, for refusals.

    Raises:
        UsageError: a class has too few.
    """
    orders = [draw.permutation(np.flatnonzero(pool.y == label)) for label in range(len(pool.classes))]
    tested = np.concatenate([order[:test] for order in orders])
    apart = np.ones(len(pool.y), bool) if near is None else distances(pool.x, pool.x[tested]) >= near
    trained = [order[test:][apart[order[test:]]] for order in orders]
    least = min(map(len, trained))
    if (short := train or 1) > least:
        raise UsageError(
            f"{key}={short} asks for more images than each class has: beside {test} that test, {least} are left to train."
        )
    return np.concatenate([rows[:train] for rows in trained]), tested


def distances(x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far each of these images [rows, ...] is from the nearest of others [.., ...] and of their mirror images, in grey
    levels: the root of the mean squared difference."""
    flat = torch.from_numpy(x.reshape(len(x), -1)).float()
    nearest = torch.full((len(x),), torch.inf)
    for some in (others, others[..., ::-1].copy()):
        theirs = torch.from_numpy(some.reshape(len(some), -1)).float()
        for part, row in zip(flat.split(2048), nearest.split(2048), strict=True):
            squares = part.square().sum(1, keepdim=True) + theirs.square().sum(1) - 2 * part @ theirs.T
            torch.minimum(row, squares.amin(1), out=row)
    return (nearest.clamp_min(0) / flat.shape[1]).sqrt().numpy()


def normalised(raw: Raw, origin: Origin, shape: tuple[int, int, int], normalize: Normalize) -> Images:
    """The images as a set in memory, in a shape."""
    train_x, test_x = shaped(raw.train_x, shape), shaped(raw.test_x, shape)
    scale = scaled(measured(torch.from_numpy(train_x)), normalize)
    y = [torch.from_numpy(labels.astype(np.int64)) for labels in (raw.train_y, raw.test_y)]
    told = f"{normalize}, {shape[1]} x {shape[2]} pixels"
    return Images(
        train_x=to_inputs(train_x, scale), train_y=y[0], test_x=to_inputs(test_x, scale), test_y=y[1],
        blacks=scale.black, classes=int(y[0].max()) + 1, origin=replace(origin, scale=told),
    )  # fmt: skip
