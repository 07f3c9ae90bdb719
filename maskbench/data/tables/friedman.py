"""Friedman #1 as a transfer problem (Pardoe & Stone 2010): the source is the target with its coefficients disturbed."""

import math
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from maskbench.common.knobs import Count, NonNegative, Within
from maskbench.common.streams import generator
from maskbench.data.stage import Stage
from maskbench.data.tables.generated import Truth, pair


def friedman1(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """10 a1 sin(pi (b1 x1 + c1)(b2 x2 + c2)) + 20 a2 (b3 x3 + c3 - 1/2)^2 + 10 a3 (b4 x4 + c4) + 5 a4 (b5 x5 + c5).

    x: [rows, 10], of which five are noise; a: [4]; b, c: [5]. Returns [rows, 1].
    """
    z = b * x[:, :5] + c
    return (
        10 * a[0] * torch.sin(math.pi * z[:, 0] * z[:, 1])
        + 20 * a[1] * (z[:, 2] - 0.5).square()
        + 10 * a[2] * z[:, 3]
        + 5 * a[3] * z[:, 4]
    )[:, None]


def coefficients(distance: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The source's a_i, b_i ~ N(1, 0.1 d) and c_i ~ N(0, 0.05 d) by their deviations, float64."""
    draw = torch.randn(14, generator=generator(seed, "friedman coefficients"), dtype=torch.float64)
    return 1 + 0.1 * distance * draw[:4], 1 + 0.1 * distance * draw[4:9], 0.05 * distance * draw[9:]


def friedman1_transfer(
    *,
    distance: NonNegative,
    n_source: Annotated[int, Within(least=2)],
    n_target: Count,
    val: Count,
    test: Count,
    noise: NonNegative,
    root: Path,
    seed: int,
) -> list[Stage]:
    """Source and target on x in U[0, 1]^10. The seed draws the source's coefficients and all samples.

    Args:
        distance: d, how far the source's coefficients are from the target's; 0: the same function.
        n_source: training samples of the source.
        n_target: training samples of the target; those of a smaller target are among those of a larger one.
        val: noisy samples that validate, of source and target each.
        test: samples without noise that test, of each.
        noise: standard deviation of what is added to training and validation targets.
        root: the data folder, which is not needed.
        seed: of the run.
    """
    plain = torch.ones(4, dtype=torch.float64), torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    disturbed = coefficients(distance, seed)
    return pair(
        "friedman1",
        Truth("source", lambda x: friedman1(x, *disturbed)),
        Truth("target", lambda x: friedman1(x, *plain)),
        lambda rows, draw: torch.rand(rows, 10, generator=draw, dtype=torch.float64),
        n_source=n_source, n_target=n_target, val=val, test=test, noise=noise, seed=seed,
    )  # fmt: skip
