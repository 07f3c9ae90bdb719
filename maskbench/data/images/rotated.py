"""Rotated images: stage i sees all images turned by i times an angle."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, OpenShare, Whole
from maskbench.data.images.scale import Normalize
from maskbench.data.images.whole_sets import Splits, divide, load, stage_of
from maskbench.data.stage import Stage
from maskbench.data.streams.arrange import arranged
from maskbench.data.streams.plan import Visits

ROWS = 4096  # turned at a time: bounds the memory of intermediate values
Interpolation = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Rotate:
    """Turn images counter-clockwise about their centre; what comes in from outside is `black`."""

    degrees: float
    black: float
    interpolation: Interpolation = "bilinear"

    @property
    def key(self) -> str:
        rule = "" if self.interpolation == "bilinear" else f" {self.interpolation}"
        return f"rotate {self.degrees!r} over {self.black!r}{rule}"

    def __call__(self, x: Tensor) -> Tensor:
        if self.degrees % 360 == 0:
            return x
        angle = math.radians(self.degrees)
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]], dtype=x.dtype, device=x.device)
        grid = F.affine_grid(turn, [1, *x.shape[1:]], align_corners=False)
        turned = torch.empty_like(x)
        for old, new in zip(x.split(ROWS), turned.split(ROWS), strict=True):
            # relative to black, so that the zeros outside are black
            places = grid.expand(len(old), -1, -1, -1)
            sampled = F.grid_sample(old - self.black, places, mode=self.interpolation, align_corners=False)
            torch.add(sampled, self.black, out=new)
        return turned


def rotated(
    *,
    base: str,
    stages: Count,
    degrees: float,
    val: Whole,
    normalize: Normalize,
    source: Literal["auto", "folder", "torchvision", "package", "sample"],
    root: Path,
    seed: int,
    interpolation: Interpolation | None = None,
    visits: Visits | None = None,
    blur: OpenShare | None = None,
) -> list[Stage]:
    """Stages of all classes; the first one is upright.

    Args:
        base: the data set, one that sources/sets.py knows.
        stages: how many.
        degrees: counter-clockwise, from each stage to the next.
        val: images that validate, the same in every stage.
        normalize: `standard` (zero mean, unit deviation over the training images), `unit` (0 to 1), `imagenet` (by the mean and
            deviation of ImageNet's, for nets that were trained so) or `net` (0 to 1; the net's recipe does the rest).
        source: where files may come from: one source, or `auto`, each in turn (sources/find.py).
        root: the data folder.
        seed: of the run, draws the validation images.
        interpolation: what a pixel of a turned image is made of: `bilinear` (null), the four nearest ones, or `nearest`, as
            in the released SupSup code.
        visits: stages that come again: how many rounds of all, or the list of which stage comes when, from 0. The training
            images of a stage are dealt to its visits.
        blur: share of a stage's training images that are exchanged with the next stage's.

    Raises:
        UsageError: `degrees` is not finite or does not tell stages apart, or images are in colour.
    """
    if not math.isfinite(degrees):
        raise UsageError(f"data.degrees={degrees} does not work: take a finite number, the degrees between two stages.")
    names = [f"{i * degrees:g} degrees" for i in range(stages)]
    if len(set(names)) < stages:
        raise UsageError(f"data.degrees={degrees:g} does not tell {stages} stages apart: take more degrees, or data.stages=1.")
    images = load(base, root, normalize, source)
    plain = divide(images, val, seed)

    def seen(view: Rotate) -> Splits:  # rows and labels are shared by all stages
        return Splits(*(replace(split, view=view) for split in (plain.train, plain.val, plain.test)))

    views = [Rotate(i * degrees, images.black, interpolation or "bilinear") for i in range(stages)]
    made = [stage_of(images, seen(view), index=i, total=stages, name=names[i]) for i, view in enumerate(views)]
    return arranged(made, visits=visits, blur=blur, seed=seed)
