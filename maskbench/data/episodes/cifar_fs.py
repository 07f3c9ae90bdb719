"""CIFAR-FS made of CIFAR-100 (Bertinetto et al. 2019): its 100 classes as 64, 16 and 20, with all 600 images of each.

Classes of a split are in alphabetical order and images of a class in that of their hashes, so that the published files and
every copy of CIFAR-100 give the same bits.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.data.sources import find as sources
from maskbench.data.sources.known_copies import CIFAR100

if TYPE_CHECKING:
    from maskbench.data.stage import Origin

# the published lists; what neither names trains
VAL = (
    "beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea shark television tractor"
).split()
TEST = (
    "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail sweet_pepper table telephone "
    "wardrobe whale woman worm"
).split()
CLASSES = {"train": [name for name in CIFAR100.classes if name not in {*VAL, *TEST}], "val": VAL, "test": TEST}


def made(size: int, root: Path, source: str) -> tuple[dict[str, dict[str, np.ndarray]], "Origin"]:
    """(split -> class -> uint8 [600, size, size, 3], where CIFAR-100 came from).

    Raises:
        UsageError: CIFAR-100 cannot be had.
    """
    try:
        raw, origin = sources.find("cifar100", root, source)
    except UsageError as error:
        raise UsageError(f"CIFAR-FS is not in {root / 'cifar100' / 'data'} and is made of CIFAR-100 else: {error}") from None
    x = np.concatenate([raw.train_x, raw.test_x]).transpose(0, 2, 3, 1)
    y = np.concatenate([raw.train_y, raw.test_y])
    of = {name: label for label, name in enumerate(CIFAR100.classes)}
    return {
        split: {name: resized(ordered(x[y == of[name]]), size) for name in names} for split, names in CLASSES.items()
    }, origin  # fmt: skip


def status(root: Path, cifar100: dict) -> list[dict]:
    """A row like those of sources.status, where `cifar100` is that of CIFAR-100; images are not read."""
    folder = Path(root).expanduser() / "cifar100" / "data"
    row = {"name": "cifar_fs", "present": True, "source": "folder", "bytes": 0, "folder": str(folder), "damaged": []}
    if folder.is_dir():
        return [row]
    source = f"cifar100 ({cifar100['source']})" if cifar100["present"] else None
    return [row | {"present": cifar100["present"], "source": source, "folder": cifar100["folder"]}]


def ordered(images: np.ndarray) -> np.ndarray:
    """The images of a class by their hashes."""
    images = np.ascontiguousarray(images)
    hashes = [hashlib.sha256(image).digest() for image in images]
    return images[sorted(range(len(images)), key=hashes.__getitem__)]


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """With `size` pixels a side, by the mean of what falls into each."""
    if images.shape[1] == size:
        return images
    from PIL import Image

    small = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX)) for image in images]
    return np.stack(small)
