"""Permuted images: each stage sees all images through a pixel permutation of its own, the first stage too."""

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskbench.common import streams
from maskbench.common.knobs import Count, OpenShare, Whole
from maskbench.data.images.scale import Normalize
from maskbench.data.images.whole_sets import Splits, divide, load, stage_of
from maskbench.data.stage import Stage
from maskbench.data.streams.arrange import arranged
from maskbench.data.streams.plan import Visits


@dataclass(frozen=True, eq=False)
class Permute:
    """Pixel `order[j]` of an image moves to place j; `order` is a bijection, [pixels], int64."""

    order: Tensor
    key: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.order.numpy().tobytes()).hexdigest()
        object.__setattr__(self, "key", f"permute {digest[:16]}")

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).index_select(1, self.order.to(x.device)).view_as(x)


def permuted(
    *,
    base: str,
    stages: Count,
    legacy: bool,
    val: Whole,
    normalize: Normalize,
    source: Literal["auto", "folder", "torchvision", "package", "sample"],
    root: Path,
    seed: int,
    visits: Visits | None = None,
    blur: OpenShare | None = None,
) -> list[Stage]:
    """Stages of all classes; a stage's permutation depends on the seed and its index alone.

    Args:
        base: the data set, one that sources/sets.py knows.
        stages: how many.
        legacy: the permutation of stage i is numpy's from seed i + `seed`, as in the released SupSup code.
        val: images that validate, the same in every stage.
        normalize: `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1), `imagenet` (by the mean and
            deviation of ImageNet's, for nets that were trained so) or `net` (0 to 1; the net's recipe does the rest).
        source: where files may come from: one source, or `auto`, each in turn (sources/find.py).
        root: the data folder.
        seed: of the run, draws the permutations and the validation images.
        visits: stages that come again: how many rounds of all, or the list of which stage comes when, from 0. The training
            images of a stage are dealt to its visits.
        blur: share of a stage's training images that are exchanged with the next stage's.
    """
    images = load(base, root, normalize, source)
    plain, pixels = divide(images, val, seed), math.prod(images.shape)

    def seen(view: Permute) -> Splits:  # rows and labels are shared by all stages
        return Splits(*(replace(split, view=view) for split in (plain.train, plain.val, plain.test)))

    orders = [permutation(seed, i, legacy, pixels) for i in range(stages)]
    made = [
        stage_of(images, seen(Permute(order)), index=i, total=stages, name=f"permutation {i}") for i, order in enumerate(orders)
    ]
    return arranged(made, visits=visits, blur=blur, seed=seed)


def permutation(seed: int, index: int, legacy: bool, pixels: int = 28 * 28) -> Tensor:
    """The pixel order of stage `index`, [pixels]; the channels of a colour image count as pixels of their own."""
    if legacy:
        return torch.from_numpy(np.random.RandomState(index + seed).permutation(pixels))
    return torch.randperm(pixels, generator=streams.generator(seed, "permutation", index))
