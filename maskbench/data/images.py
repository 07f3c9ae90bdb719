"""Images as one tensor shared by all stages, and the plainest data set of all: every class in one stage."""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskbench import streams
from maskbench.data import sources
from maskbench.data.stage import Origin, Split, Stage
from maskbench.errors import UsageError, did_you_mean

log = logging.getLogger("maskbench")

CLASSES = 10
# mean and deviation of the training images, on the scale 0 to 1
STANDARD = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530), "synthetic": (0.2704, 0.2696)}


@dataclass(frozen=True, eq=False)
class Images:
    """A whole data set, normalised.

    Attributes:
        train_x, test_x: [rows, 1, 28, 28], float32.
        train_y, test_y: [rows], int64, 0 to 9.
        black: the value a black pixel has after normalisation.
        origin: where the files came from.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    black: float
    origin: Origin


def load(base: str, root: Path, normalize: str = "standard", source: str = "auto") -> Images:
    """The images of `base`, loaded once per process however many runs ask; nobody writes into these tensors.

    `normalize` is `standard` (zero mean, unit deviation over the training images) or `unit` (0 to 1).
    """
    if normalize not in ("standard", "unit"):
        hint = did_you_mean(str(normalize), ("standard", "unit"))
        raise UsageError(f"data.normalize={normalize} is not known: take standard or unit.{hint}")
    return _load(base, Path(root).expanduser().absolute(), normalize, source)


@lru_cache(maxsize=2)
def _load(base: str, root: Path, normalize: str, source: str) -> Images:
    raw, origin = sources.find(base, root, source)
    mean, deviation = STANDARD[base] if normalize == "standard" else (0.0, 1.0)

    def inputs(x: np.ndarray) -> Tensor:  # in place: 60,000 images are 188 MB
        return torch.from_numpy(x.astype(np.float32)).unsqueeze(1).div_(255).sub_(mean).div_(deviation)

    def targets(y: np.ndarray) -> Tensor:
        return torch.from_numpy(y.astype(np.int64))

    black = torch.zeros(1).sub_(mean).div_(deviation).item()  # in float32, as the pixels are
    return Images(inputs(raw.train_x), targets(raw.train_y), inputs(raw.test_x), targets(raw.test_y), black, replace(origin, scale=normalize))


@dataclass(frozen=True)
class Splits:
    """The three splits of a stage."""

    train: Split
    val: Split
    test: Split


def divide(images: Images, val: int, seed: int) -> Splits:
    """All images, once each: `val` of the training images validate, by a draw of the seed; test rows in a drawn order.

    Rows of each split are in random order, so its first rows are a fair sample.
    """
    order = torch.randperm(len(images.train_y), generator=streams.generator(seed, "val split"))
    val = validation(len(order), val, images.origin.source)
    tested = torch.randperm(len(images.test_y), generator=streams.generator(seed, "test order"))
    return Splits(
        train=Split(images.train_x, images.train_y[order[val:]], order[val:]),
        val=Split(images.train_x, images.train_y[order[:val]], order[:val]),
        test=Split(images.test_x, images.test_y[tested], tested),
    )


def validation(rows: int, val: int, source: str) -> int:
    """How many of `rows` training images validate: `val`, or on a small stand-in that has too few, the same share."""
    val = whole_number("data.val", val, least=0)
    if val < rows:
        return val
    share = rows * val // 60_000
    if source not in ("sample", "synthetic") or share >= rows:
        raise UsageError(f"data.val={val} leaves nothing to train on: there are {rows} training images, take fewer.")
    log.info(f"Only {rows} training images: {share} of them validate, the share that {val} has of 60,000.")
    return share


def whole_number(key: str, value: int, least: int) -> int:
    """`value`, if it is an integer of at least `least`; else one sentence that names the key."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{key}={value} does not work: take a whole number of at least {least}.")
    return value


def stage_of(images: Images, splits: Splits, *, index: int, total: int, name: str, classes: tuple[int, ...] = (),
          outputs: int = CLASSES) -> Stage:  # fmt: skip
    """One stage of these images; by default it asks for all classes under their own labels."""
    return Stage(
        index=index,
        total=total,
        name=name,
        train=splits.train,
        val=splits.val,
        test=splits.test,
        classes=classes or tuple(range(CLASSES)),
        outputs=outputs,
        shape=tuple(images.train_x.shape[1:]),
        origin=images.origin,
    )


def whole(*, base: str, val: int, normalize: str, source: str, root: Path, seed: int) -> list[Stage]:
    """One stage with every class."""
    images = load(base, root, normalize, source)
    return [stage_of(images, divide(images, val, seed), index=0, total=1, name=base)]
