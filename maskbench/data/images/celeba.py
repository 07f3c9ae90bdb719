"""CelebA (Liu et al. 2015) as a transfer pair: one attribute with much data, another with little.

The layout is torchvision's: `img_align_celeba/*.jpg` and `list_attr_celeba.txt` in one folder. The images stay on disk
(streamed.py). Half of them train and half test, as in the PAC-Net paper, at random by the seed.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskbench.common import streams
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.knobs import Count, Whole
from maskbench.data.images.pairs import few
from maskbench.data.images.scale import Scale
from maskbench.data.images.streamed import Crop, Files, Streamed, worker_count
from maskbench.data.images.whole_sets import Splits, stage_of
from maskbench.data.stage import Origin, Stage

SCALE = Scale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # fixed, so that no statistics come from a target of few images
TABLE, IMAGES = "list_attr_celeba.txt", "img_align_celeba"


@dataclass(frozen=True, eq=False)
class Faces:
    """All image files and their attributes [files, attributes], bool."""

    files: Files
    names: tuple[str, ...]
    attributes: Tensor
    checksum: str

    def answers(self, key: str, name: str) -> Tensor:
        """[files], 1 where a face has the attribute, else 0."""
        if name not in self.names:
            hint = did_you_mean(name, self.names)
            raise UsageError(f"data.{key}={name} is no attribute of CelebA.{hint} Attributes: {', '.join(self.names)}.")
        return self.attributes[:, self.names.index(name)].long()


def celeba(
    *,
    folder: str,
    source_attribute: str,
    target_attribute: str,
    n_target: Count | None,
    val: Count,
    size: Count,
    resize: Count,
    workers: Whole | None,
    root: Path,
    seed: int,
) -> list[Stage]:
    """Source and target: does a face have an attribute? Both divide the faces alike.

    Args:
        folder: of the images and the table of attributes, in the data folder or anywhere.
        source_attribute, target_attribute: two of CelebA's 40 attributes.
        n_target: training images of the target with and as many without its attribute; None: all.
        val: images of the training half that validate.
        size: pixels of an input's side.
        resize: short side of an image before its middle is cut out.
        workers: processes that read; None: one per processor, 8 at most.
        root: the data folder.
        seed: of the run, divides the faces.

    Raises:
        UsageError: files are missing or damaged, an attribute is unknown, or sizes do not fit.
    """
    if resize < size:
        raise UsageError(f"data.resize={resize} is too small to cut out {size} x {size} pixels: take {size} or more.")
    faces = survey((Path(root).expanduser() / Path(folder).expanduser()).absolute())
    count = len(faces.files)
    order = torch.randperm(count, generator=streams.generator(seed, "celeba halves"))
    half = count // 2
    if val >= half:
        raise UsageError(f"data.val={val} leaves nothing to train on: {half} images are in the training half, take fewer.")
    rows = {"train": order[val:half], "val": order[:val], "test": order[half:]}
    origin = Origin("celeba", "folder", {TABLE: faces.checksum}, f"{size} of {resize} pixels")
    source = Attribute(faces, source_attribute, faces.answers("source_attribute", source_attribute), origin, size)
    target = Attribute(faces, target_attribute, faces.answers("target_attribute", target_attribute), origin, size)
    crop, readers = Crop(size, resize), worker_count(workers)
    first, second = (
        Splits(*(Streamed(faces.files, one.y[rows[part]], rows[part], crop, SCALE, None, readers, seed) for part in rows))
        for one in (source, target)
    )
    return [
        stage_of(source, first, index=0, total=2, name=source_attribute, classes=source.labels),
        stage_of(target, few(second, n_target), index=1, total=2, name=target_attribute, classes=target.labels),
    ]


@dataclass(frozen=True, eq=False)
class Attribute:
    """One attribute of all faces as a problem of two classes."""

    faces: Faces
    name: str
    y: Tensor
    origin: Origin
    size: int
    classes: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    @property
    def labels(self) -> tuple[str, str]:
        return f"not {self.name}", self.name


@lru_cache(maxsize=2)
def survey(folder: Path) -> Faces:
    """The table of attributes, read; no image is opened.

    Raises:
        UsageError: files are missing, or the table is not CelebA's.
    """
    table = folder / TABLE
    if not table.is_file() or not (folder / IMAGES).is_dir():
        raise UsageError(
            f"There is no CelebA in {folder}: put {TABLE} and the folder {IMAGES} there, as "
            "torchvision.datasets.CelebA unpacks them, or name another with data.folder=FOLDER."
        )
    content = table.read_bytes()
    try:
        count, names, *lines = content.decode().splitlines()
        cells = [line.split() for line in lines if line.strip()]
        signs = np.array([row[1:] for row in cells], dtype=np.int8)
        if len(cells) != int(count) or signs.shape[1] != len(names.split()) or not np.isin(signs, (-1, 1)).all():
            raise ValueError
    except (ValueError, IndexError):
        raise UsageError(
            f"{table} is not CelebA's table of attributes: a count, the names, then a line of 1 and -1 a face."
        ) from None
    here = set(os.listdir(folder / IMAGES))
    if lacking := next((row[0] for row in cells if row[0] not in here), None):
        raise UsageError(f"{folder / IMAGES} lacks {lacking}, which {TABLE} names: unpack img_align_celeba.zip again.")
    paths = Files(folder / IMAGES, np.array([os.fsencode(row[0]) for row in cells]))
    return Faces(
        paths, tuple(names.split()), torch.from_numpy(signs > 0), hashlib.md5(content, usedforsecurity=False).hexdigest()
    )
