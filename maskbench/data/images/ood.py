"""Unknown classes: test images of other data sets, seen as the known ones are, never part of training.

Leakage is refused: a set whose classes have a name of the known ones, or that holds images of them; of one in a thousand or fewer
the set is taken without these.

All images are scaled by the known set's mean and deviation, as a net in use would. By its own, Fashion-MNIST is easier to
tell from MNIST: 0.4 to 1.5 points of AUROC (1,500 images, five nets); mind this when comparing with other benches.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskbench.common import streams
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.data.images import letters
from maskbench.data.images.labels import names
from maskbench.data.sources import find as sources
from maskbench.data.sources import small_sets
from maskbench.data.sources.copies import LOSSY
from maskbench.data.sources.sets import SETS, SYNTHETIC, shape_of
from maskbench.data.stage import Split

log = logging.getLogger("maskbench")

PARTNERS = {  # what `auto` takes: sets of the same shape that can be had without anybody's files
    "mnist": ("fashion_mnist", letters.NAME),
    "fashion_mnist": ("mnist", letters.NAME),
    "synthetic": ("synthetic_other",),
    "synthetic_other": ("synthetic",),
    "synthetic_cifar10": ("synthetic_cifar100",),
    "synthetic_cifar100": ("synthetic_cifar10",),
}
NOISE = "noise"  # pixels of all grey levels alike, each by itself: images of no class at all
ANIMALS = "animals"  # silhouettes, 28 x 28
NEAR_FAR = "near_far"
GROUPS = {  # what `near_far` takes, after OpenOOD (Yang et al. 2022, arXiv 2210.07242): near sets look alike, far ones do not
    "mnist": {"near": ("fashion_mnist", letters.NAME), "far": (ANIMALS, NOISE)},
    "fashion_mnist": {"near": ("mnist", letters.NAME), "far": (ANIMALS, NOISE)},
    "synthetic": {"near": ("synthetic_other",), "far": (NOISE,)},
}
SHARED = 1e-3  # of a set may be images of the known one, which are left out: two photographs are in CIFAR-10 and in CIFAR-100
UNKNOWN = -1  # the label of every image of an unknown class


def requested(ood: bool | str | Sequence[str] | None, base: str) -> tuple[str, ...]:
    """The names of the sets in `data.ood`, which are unknown classes to `base`.

    Raises:
        UsageError: there is no such set, its shape differs, or it has classes of `base`.
    """
    if ood in (None, False):
        return ()
    if ood == "auto":
        return PARTNERS.get(base, ())
    if ood == NEAR_FAR:
        if base not in GROUPS:
            raise UsageError(f"data.ood={NEAR_FAR} is for {' and '.join(list(GROUPS)[:2])}, not for {base}: take a list of sets.")
        return tuple(name for group in GROUPS[base].values() for name in group)
    listed = [ood] if isinstance(ood, str) else list(ood)
    for name in listed:
        choices = [letters.NAME, ANIMALS, NOISE, *SETS, *SYNTHETIC]
        if name not in choices:
            hint = did_you_mean(name, choices)
            raise UsageError(f"data.ood names '{name}': take auto, {NEAR_FAR} or a list of {', '.join(choices)}.{hint}")
        if name == base:
            raise UsageError(f"data.ood names {name}, which is what is learnt here: its classes are known, so take another set.")
        shape = shape_of(base)
        theirs = shape if name == NOISE else letters.SHAPE if name in (letters.NAME, ANIMALS) else shape_of(name)
        if theirs != shape:
            sizes = " and not ".join(" x ".join(map(str, pixels)) for pixels in (theirs, shape))
            raise UsageError(f"data.ood names {name}, whose images are {sizes}: take a set of the shape of {base}.")
        if shared := [c for c in names(name) if c in names(base)]:
            raise UsageError(
                f"data.ood names {name}, which shares {shared[0]} and others with {base}: take a set of other classes."
            )
    return tuple(dict.fromkeys(listed))


def groups(ood: bool | str | Sequence[str] | None, base: str) -> dict[str, tuple[str, ...]]:
    """The sets of `near` and of `far`, where that is what `data.ood` asks for."""
    return GROUPS.get(base, {}) if ood == NEAR_FAR else {}


def unknown(
    sets: Sequence[str], *, base: str, known: Sequence[Tensor], inputs: Callable[[np.ndarray], Tensor], most: int,
    root: Path, source: str, seed: int, of: str = "",
) -> tuple[Mapping[str, Split], dict[str, str]]:  # fmt: skip
    """Test images of each set, and the checksums of its files by `<set>/<file>`.

    Args:
        known: all images of `base`, tensors [rows, *shape]; a few of them among the unknown are left out, more are refused.
        inputs: raw images -> inputs, on the scale of `base`.
        of: where the known images came from: images that lose tell themselves apart from ones that do not.
        most: images of a set: as many as the test split has, at random by the seed, so that shares mean the same everywhere.

    Raises:
        UsageError: files cannot be had, or more than a few images are known.
    """
    splits, checksums, known_images = {}, {}, set(marks(known))
    for name in sets:
        raw, sums = test_images(name, base, root, source, of)
        x = inputs(raw)
        new = torch.tensor([mark not in known_images for mark in marks([x])])
        both = int((~new).sum())
        if both > SHARED * len(x):
            raise UsageError(f"data.ood names {name}, which holds {both} of the images of {base}: take another set.")
        if both:
            log.info(f"{name} as unknown classes: without {both} of its {len(x):,} images, which {base} has too")
        rows = torch.randperm(len(x), generator=streams.generator(seed, "unknown", name))
        rows = rows[new[rows]][:most]
        splits[name] = Split(x, torch.full((len(rows),), UNKNOWN), rows)
        checksums |= {f"{name}/{file}": md5 for file, md5 in sums.items()}
    return splits, checksums


def test_images(name: str, base: str, root: Path, source: str, of: str = "") -> tuple[np.ndarray, dict[str, str]]:
    """Raw test images of a set and the checksums of its files."""
    if name == letters.NAME:
        x, _, sums = letters.glyphs(root)
        return x, sums
    if name == NOISE:
        draw = np.random.RandomState(letters.SEED)  # its stream is frozen across versions of numpy
        return draw.randint(0, 256, (letters.COUNT, *shape_of(base)), np.uint8), {}
    if name == ANIMALS:
        pool, origin = small_sets.find(ANIMALS, root, "folder" if source == "folder" else "auto")
        return pool.x, origin.checksums
    try:
        raw, origin = sources.find(name, root, "folder" if source == "folder" else "auto")
    except UsageError as error:
        raise UsageError(f"{str(error).rstrip('.')}; or leave {name} out of data.ood.") from None
    if origin.source == "sample" and source != "sample":
        raise UsageError(f"data.ood names {name}, of which only a small sample is here: leave it out, as {base} is whole.")
    if (origin.source == LOSSY) != (of == LOSSY):
        lossy, whole = (name, base) if origin.source == LOSSY else (base, name)
        raise UsageError(
            f"data.ood names {name}: images of {lossy} are compressed with loss here and those of {whole} are not, which alone "
            f"tells them apart; take a lossless copy of {lossy}."
        )
    return raw.test_x, origin.checksums


def marks(images: Sequence[Tensor]) -> list[int]:
    """A number for each image, equal for equal images."""
    return [hash(row.tobytes()) for part in images for row in part.numpy()]
