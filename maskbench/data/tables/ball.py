"""Points of the unit ball, without labels: the domain on which theorems compare nets."""

import hashlib
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from maskbench.common.knobs import Count
from maskbench.common.streams import generator
from maskbench.data.stage import Origin, Split, Stage


def identity(x: Tensor) -> Tensor:
    """The link of regression."""
    return x


def points(
    *, dimension: Count, outputs: Count, rows: Count, domain: Literal["ball", "nonnegative"], root: Path, seed: int
) -> list[Stage]:
    """One stage of uniform points. There is nothing to learn: targets of the splits are zeros.

    Args:
        dimension: of the ball.
        outputs: of the target net.
        rows: points in each split.
        domain: the unit `ball`, or the part of it without negative coordinates (`nonnegative`).
        root: the data folder, which is not needed.
        seed: of the run, draws the points.
    """

    def split(name: str) -> Split:
        source = generator(seed, "ball", name)
        x = torch.randn(rows, dimension, generator=source)
        x = x.abs() if domain == "nonnegative" else x
        radius = torch.rand(rows, 1, generator=source) ** (1 / dimension)
        return Split(x / x.norm(dim=1, keepdim=True) * radius, torch.zeros(rows, outputs))

    splits = {name: split(name) for name in ("train", "val", "test")}
    checksums = {name: hashlib.md5(one.x.numpy().tobytes()).hexdigest() for name, one in splits.items()}
    return [
        Stage(
            index=0,
            total=1,
            name=domain,
            **splits,
            classes=(),
            outputs=outputs,
            shape=(dimension,),
            origin=Origin("ball", "synthetic", checksums, scale=domain),
            criterion=torch.nn.functional.mse_loss,
            link=identity,
        )
    ]
