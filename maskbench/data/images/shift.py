"""The test split under corruptions: computed here (corrupt.py), or read from a folder in the layout of CIFAR-10-C.

That layout: labels.npy, and for each type <type>.npy, uint8 [5 x images, height, width(, channels)], level after level,
the images in the order of the clean test set. Each corrupted split is made when it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from maskbench.common import streams
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.data.images.corrupt import LEVELS, TYPES, corrupted
from maskbench.data.images.scale import Scale
from maskbench.data.sources.folder import md5
from maskbench.data.stage import Split

Shifted = Mapping[str, Callable[[], Split]]


def shifted(
    wanted: bool | str | Sequence[str] | None, test: Split, labels: np.ndarray, scale: Scale, root: Path,
    most: int | None = None, seed: int = 0,
) -> tuple[Shifted, dict[str, str]]:  # fmt: skip
    """The corrupted test splits that `data.shifted` names, by `<type>/<level>`, and their checksums for the record.

    Args:
        wanted: true (every type), a type, a list of them, or a folder in the layout of CIFAR-10-C; None, false: nothing.
        test: the clean test split, whose tensor holds every test image.
        labels: of all these images, in their order.
        scale: how pixel values became inputs.
        most: so many of the test images, at random by the seed and the same for every type and level; None: all.

    Raises:
        UsageError: no such type or folder, or its files do not fit the clean ones; `most` are more than there are.
    """
    if wanted in (None, False) or wanted == []:
        if most is not None:
            raise UsageError(f"data.shifted_images={most} has no data.shifted: name corruptions, such as data.shifted=true.")
        return {}, {}
    chosen = None if most is None else drawn(most, len(test), seed)
    if isinstance(wanted, str) and wanted not in TYPES:
        return stored(wanted, test, labels, scale, Path(root).expanduser(), chosen)
    kinds = list(TYPES) if wanted is True else [wanted] if isinstance(wanted, str) else wanted
    for kind in kinds:
        if kind not in TYPES:
            raise UsageError(f"data.shifted names '{kind}': take from {', '.join(TYPES)}.{did_you_mean(kind, TYPES)}")
    if chosen is not None:
        test = Split(*test.pick(chosen))
    recipe = {f"shifted/{kind}": md5(repr((kind, TYPES[kind][1])).encode()) for kind in kinds}
    return {f"{kind}/{level}": Corrupted(test, scale, kind, level) for kind in dict.fromkeys(kinds) for level in LEVELS}, recipe


def drawn(most: int, n: int, seed: int) -> torch.Tensor:
    """Which of `n` test images are looked at, int64 [most], in their order.

    Raises:
        UsageError: there are fewer.
    """
    if most > n:
        raise UsageError(f"data.shifted_images={most} are more than the {n} test images: take fewer, or null for all.")
    return torch.randperm(n, generator=streams.generator(seed, "shifted"))[:most].sort().values


@dataclass(frozen=True)
class Corrupted:
    """The test split under one type at one level."""

    test: Split
    scale: Scale
    kind: str
    level: int

    def __call__(self) -> Split:
        pixels = self.scale.undo(self.test.x).round_().div_(255)
        return Split(self.scale.apply(corrupted(pixels, self.kind, self.level).mul_(255)), self.test.y, self.test.rows)


# ---- a folder


def stored(
    name: str, test: Split, labels: np.ndarray, scale: Scale, root: Path, chosen: torch.Tensor | None
) -> tuple[Shifted, dict[str, str]]:
    """Every type that a folder holds, in the order of their names; of the test images those `chosen`, None: all.

    Raises:
        UsageError: there is no such folder, or its files do not fit the clean images.
    """
    folder = root / Path(name).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"data.shifted={name} is neither a type ({', '.join(TYPES)}) nor a folder with labels.npy and <type>.npy in "
            f"{root}.{did_you_mean(name, TYPES)}"
        )
    files = sorted(file for file in folder.glob("*.npy") if file.name != "labels.npy")
    if not files:
        raise UsageError(f"{folder} holds no <type>.npy: unpack CIFAR-10-C there, or take data.shifted=true.")
    shape = (len(LEVELS) * len(labels), *test.x.shape[2:])
    stored_labels = opened(folder / "labels.npy", shape[:1])
    if not np.array_equal(stored_labels, np.tile(labels, len(LEVELS))):
        raise UsageError(
            f"{folder / 'labels.npy'} does not hold the labels of the clean test images: these are other images, or "
            "another order of them, as a copy by class has; such a folder goes with the published files of its set."
        )
    about = {f"{name}/labels.npy": md5(np.ascontiguousarray(stored_labels, np.uint8).tobytes())}
    for file in files:
        opened(file, shape, test.x.shape[1])
        about[f"{name}/{file.name}"] = f"{file.stat().st_size} bytes"
    if chosen is not None:
        test = replace(test, y=test.y[chosen], rows=chosen if test.rows is None else test.rows[chosen])
    splits = {f"{f.stem}/{level}": Stored(test, scale, f, shape, level) for f in files for level in LEVELS}
    return splits, about


@dataclass(frozen=True)
class Stored:
    """The test split under one level of a type that a folder holds."""

    test: Split
    scale: Scale
    file: Path
    shape: tuple[int, ...]
    level: int

    def __call__(self) -> Split:
        n, channels = self.shape[0] // len(LEVELS), self.test.x.shape[1]
        raw = opened(self.file, self.shape, channels)[(self.level - 1) * n : self.level * n]
        pixels = torch.from_numpy(raw.astype(np.float32)).view(n, *self.shape[1:], channels).movedim(-1, 1).contiguous()
        return Split(self.scale.apply(pixels), self.test.y, self.test.rows)


def opened(file: Path, shape: tuple[int, ...], channels: int = 1) -> np.ndarray:
    """The array in a file, mapped and not read; grey images may lack the dimension of their channel."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        missing = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        raise UsageError(f"{file} is {missing}: put it there as published.") from None
    fitting = {(*shape, channels)} | ({shape} if channels == 1 else set())
    if array.shape not in fitting or array.dtype.kind not in "iu":
        size = " x ".join(map(str, array.shape))
        wanted = " x ".join(map(str, (*shape, channels) if channels > 1 else shape))
        raise UsageError(f"{file} holds {size} values of type {array.dtype}, not whole numbers {wanted}: it is of another set.")
    return array
