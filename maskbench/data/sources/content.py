"""What a set of images holds, whatever file it lies in and in whatever order: a hash of each image, and one of them all.

The hash of an image is the SHA-256 of `<part>/<class>/` and its bytes (height, width, channel); that of a part is the
SHA-256 of the images' hashes in hexadecimal, sorted, one a line. Two copies of a set have the same, one with a changed
pixel has not. Imports no torch.
"""

import hashlib
import lzma
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

Digests = list[bytes]  # the SHA-256 of each image, in the order of its rows
PREFIX = 3  # bytes of every image's hash that are kept: 0.3 % of changed images pass for unchanged, and the part's hash tells


@dataclass(frozen=True)
class Facts:
    """What is known of a published set of images.

    Attributes:
        title: of the set, for messages.
        classes: their names, in the order of the labels.
        counts: part -> images of each class.
        places: folders below the data folder in which a copy may lie.
        content: part -> the hash of its content; empty where none is known.
        hashes: the file, beside this one, with the first bytes of every image's hash; empty where there is none.
        also: further names of classes -> their labels.
    """

    title: str
    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    places: tuple[str, ...]
    content: Mapping[str, str] = field(default_factory=dict)
    hashes: str | Path = ""
    also: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def labels(self) -> dict[str, int]:
        """Every spelling of a class -> its label: the name, and the label itself as a number."""
        numbers = {f"{i:0{width}d}": i for i in range(len(self.classes)) for width in range(1, 6)}
        return {spelt(name): label for name, label in [*numbers.items(), *self.also.items()]} | {
            spelt(name): label for label, name in enumerate(self.classes)
        }

    @property
    def images(self) -> int:
        """How many there are in all."""
        return sum(map(sum, self.counts.values()))

    def known(self) -> np.ndarray:
        """The first bytes of every image's hash as numbers, sorted."""
        return unpacked((Path(__file__).parent / self.hashes).read_bytes())


def spelt(name: str) -> str:
    """A class's name without what differs between copies: capitals, blanks and dashes."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def digests(part: str, classes: Sequence[str], x: np.ndarray, y: np.ndarray) -> Digests:
    """The hash of each image of a part: x uint8 [rows, height, width, channels], y [rows]."""
    heads = [hashlib.sha256(f"{part}/{name}/".encode()) for name in classes]
    hashed = []
    for image, label in zip(np.ascontiguousarray(x), y.tolist(), strict=True):
        digest = heads[label].copy()
        digest.update(image)
        hashed.append(digest.digest())
    return hashed


def content(hashed: Digests) -> str:
    """The hash of a part: the same for every order of its images."""
    return hashlib.sha256("\n".join(sorted(digest.hex() for digest in hashed)).encode()).hexdigest()


def order(y: np.ndarray, hashed: Digests) -> np.ndarray:
    """Rows by class and, in a class, by hash: an order that every copy of the set has, [rows]."""
    return np.array(sorted(range(len(hashed)), key=lambda row: (y[row], hashed[row])), np.int64)


# ---- what differs from the published set


def changed(hashed: Mapping[str, Digests], known: np.ndarray) -> dict[str, list[int]]:
    """part -> the rows whose images are not of the published set; an image that comes too often counts each time."""
    left = Counter(known.tolist())
    rows: dict[str, list[int]] = {}
    for part, own in hashed.items():
        rows[part] = []
        for row, number in enumerate(prefixes(own).tolist()):
            if left[number] > 0:
                left[number] -= 1
            else:
                rows[part].append(row)
    return rows


def prefixes(hashed: Digests) -> np.ndarray:
    """The first bytes of each hash as a number, [rows]."""
    first = np.frombuffer(b"".join(digest[:PREFIX] for digest in hashed), np.uint8).reshape(-1, PREFIX)
    return first.astype(np.int64) @ (256 ** np.arange(PREFIX)[::-1])


def packed(hashed: Iterable[Digests]) -> bytes:
    """A file for `Facts.hashes`: the differences of the sorted numbers, byte by byte of all of them, compressed."""
    numbers = np.sort(np.concatenate([prefixes(own) for own in hashed]))
    steps = np.diff(numbers, prepend=0)
    planes = [(steps >> 8 * place & 255).astype(np.uint8).tobytes() for place in range(PREFIX)]
    return lzma.compress(b"".join(planes))


def unpacked(file: bytes) -> np.ndarray:
    """The sorted numbers out of what `packed` wrote."""
    planes = np.frombuffer(lzma.decompress(file), np.uint8).reshape(PREFIX, -1).astype(np.int64)
    return np.cumsum((planes << 8 * np.arange(PREFIX)[:, None]).sum(0))
