"""Circle, ReLU and helix: problems whose sparse solution is known (Fischer & Burkholz 2022, arXiv 2111.11153).

Inputs are uniform on [-1, 1]. Noise is on what trains and validates; test targets are free of it. Nothing is standardised, so
that the ticket that backbone=planted hides is a solution as it stands.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from maskbench.common.knobs import Count, NonNegative, Probability
from maskbench.common.streams import generator
from maskbench.data.stage import Origin, Split, Stage, probabilities
from maskbench.data.tables.regression import identity, squared_error

BOUNDS = (0.2, 0.5, 0.7)  # squared radii between the classes of the circle


def circle(*, train: Count, val: Count, test: Count, noise: Probability, root: Path, seed: int) -> list[Stage]:
    """Points of the plane, whose class is the ring they lie in: squared radii up to 0.2, 0.5, 0.7 and beyond.

    Args:
        train, val, test: points of each split.
        noise: share of the points whose label is that of the ring which comes second (`second`).
        root: the data folder, which is not needed.
        seed: of the run, draws points and noise.
    """

    def split(name: str, rows: int, noise: float) -> Split:
        x, draw = points(rows, 2, seed, "circle", name)
        radius = x.square().sum(1)
        moved = torch.rand(rows, generator=draw) < noise
        return Split(x, torch.where(moved, second(radius), ring(radius)))

    return stages("circle", split, {"train": train, "val": val, "test": test}, noise, inputs=2, classes=len(BOUNDS) + 1)


def relu(*, train: Count, val: Count, test: Count, noise: NonNegative, root: Path, seed: int) -> list[Stage]:
    """y = max(0, x).

    Args:
        train, val, test: rows of each split.
        noise: its standard deviation.
        root: the data folder, which is not needed.
        seed: of the run, draws rows and noise.
    """
    return curve("relu", torch.relu, {"train": train, "val": val, "test": test}, noise, seed)


def helix(*, train: Count, val: Count, test: Count, noise: NonNegative, root: Path, seed: int) -> list[Stage]:
    """y = (t cos t, t sin t, t) / 8 pi with t = 5 pi + 3 pi x: three turns from one number.

    Args:
        train, val, test: rows of each split.
        noise: its standard deviation, in each value.
        root: the data folder, which is not needed.
        seed: of the run, draws rows and noise.
    """

    def turns(x: Tensor) -> Tensor:
        t = math.pi * (5 + 3 * x)
        return torch.cat([t * t.cos(), t * t.sin(), t], 1) / (8 * math.pi)

    return curve("helix", turns, {"train": train, "val": val, "test": test}, noise, seed)


# ---- their parts


def ring(radius: Tensor) -> Tensor:
    """The class of squared radii."""
    return torch.bucketize(radius, torch.tensor(BOUNDS))


def second(radius: Tensor) -> Tensor:
    """The class that comes second: of lines in the squared radius whose highest is the ring's own and whose slopes double
    from ring to ring, that of the second highest (the authors' files)."""
    slope, offset = [1.0], [0.0]
    for bound in BOUNDS:
        offset.append(offset[-1] - slope[-1] * bound)
        slope.append(2 * slope[-1])
    return (radius[:, None] * torch.tensor(slope) + torch.tensor(offset)).topk(2).indices[:, 1]


def points(rows: int, inputs: int, seed: int, *names: str) -> tuple[Tensor, torch.Generator]:
    """(uniform points of [-1, 1]^inputs, the generator that goes on with their noise)."""
    draw = generator(seed, "planted", *names)
    return 2 * torch.rand(rows, inputs, generator=draw) - 1, draw


def curve(name: str, f: Callable[[Tensor], Tensor], sizes: dict[str, int], noise: float, seed: int) -> list[Stage]:
    """One stage of y = f(x) + noise for single numbers x."""

    def split(part: str, rows: int, noise: float) -> Split:
        x, draw = points(rows, 1, seed, name, part)
        y = f(x)
        return Split(x, y + noise * torch.randn(y.shape, generator=draw))

    return stages(name, split, sizes, noise, inputs=1, classes=0)


def stages(
    name: str, split: Callable[[str, int, float], Split], sizes: dict[str, int], noise: float, *, inputs: int, classes: int
) -> list[Stage]:
    """The one stage of a problem; `split(part, rows, noise)` draws a part, and there is none on the test split."""
    parts = {part: split(part, rows, 0.0 if part == "test" else noise) for part, rows in sizes.items()}
    sums = {part: hashlib.md5(one.x.numpy().tobytes() + one.y.numpy().tobytes()).hexdigest() for part, one in parts.items()}
    return [
        Stage(
            index=0,
            total=1,
            name=f"planted_{name}",
            **parts,
            classes=tuple(range(classes)),
            outputs=classes or parts["train"].y.shape[1],
            shape=(inputs,),
            origin=Origin(f"planted {name}", "generated", sums),
            criterion=cross_entropy if classes else squared_error,
            link=probabilities if classes else identity,
        )
    ]
