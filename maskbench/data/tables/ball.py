"""Points of the unit ball, without labels: the domain on which theorems compare nets."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.streams import generator
from maskbench.data.images.whole_sets import whole_number
from maskbench.data.stage import Origin, Split, Stage


def identity(x: Tensor) -> Tensor:
    return x


def points(*, dimension: int, outputs: int, rows: int, domain: str, root: Path, seed: int) -> list[Stage]:
    """One stage of uniform points, `rows` in each split, of the `ball` or of its `nonnegative` part.

    `outputs` is how many a target net has. There is nothing to learn here: targets of the splits are zeros.
    """
    dimension, outputs = whole_number("data.dimension", dimension, 1), whole_number("data.outputs", outputs, 1)
    rows = whole_number("data.rows", rows, 1)
    if domain not in ("ball", "nonnegative"):
        raise UsageError(f"data.domain={domain} must be ball or nonnegative")

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
