"""Curves of one variable, to plot: the noisy cubic of 1612.01474 (after 1502.05336), CO2 at Mauna Loa as in 1506.02142."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch

from maskbench.common import streams
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, NonNegative, Within
from maskbench.data.sources import find_tables as tables
from maskbench.data.stage import Origin, Stage
from maskbench.data.tables.regression import Fold, Part, stage_of


def cubic(
    *,
    rows: Annotated[int, Within(least=2)],
    val: Count,
    grid: Annotated[int, Within(least=2)],
    reach: NonNegative,
    noise: NonNegative,
    root: Path,
    seed: int,
) -> list[Stage]:
    """y = x^3 + noise at random x in [-4, 4]; the test split is the curve itself on a grid.

    Args:
        rows: that train (the paper has 20).
        val: rows that validate, drawn as those that train.
        grid: rows that test, evenly spaced.
        reach: the grid goes from -reach to reach.
        noise: its standard deviation (the paper has 3: a variance of 9).
        root: the data folder, which is not needed.
        seed: of the run, draws rows and noise.
    """

    def sample(name: str, n: int) -> Part:
        draw = streams.generator(seed, "cubic", name)
        x = torch.rand(n, 1, generator=draw, dtype=torch.float64).numpy() * 8 - 4
        return x, x**3 + noise * torch.randn(n, 1, generator=draw, dtype=torch.float64).numpy()

    ahead = np.linspace(-reach, reach, grid)[:, None]
    fold = Fold(sample("train", rows), sample("val", val), (ahead, ahead**3))
    return [stage_of("cubic", [fold], Origin("the noisy cubic", "synthetic", {"rows": digest(fold)}))]


def co2(
    *,
    train: Annotated[int, Within(least=2)],
    every: Annotated[int, Within(least=2)] | None,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """Monthly CO2 at Mauna Loa, 1988 to 2017 (360 rows), from the month's number; the test split is extrapolation.

    This is another stretch of the record than the paper's, which cannot be had.

    Args:
        train: the first so many months train, the rest tests.
        every: every so-many-th training month validates instead, so that validation lies inside the record; None: nothing
            is held out.
        source: where its file may come from: the `folder`, a `package` that carries it, or `auto`, both in this order.
        root: the data folder.
        seed: of the run, which changes nothing.

    Raises:
        UsageError: no month is left to test or to validate.
    """
    data = tables.find("co2", root, source)
    rows = len(data.x)
    if train >= rows:
        raise UsageError(f"data.train={train} leaves no month to extrapolate to: there are {rows}, take fewer.")
    month = np.arange(train)
    held = np.zeros(train, bool) if every is None else month % every == every - 1
    if every is not None and not held.any():
        raise UsageError(f"data.every={every} holds out none of {train} months: take fewer, or null.")

    def part(index: np.ndarray) -> Part:
        return data.x[index], data.y[index]

    fold = Fold(part(month[~held]), part(month[held]) if held.any() else None, part(np.arange(train, rows)))
    values = {name: md5 for name, md5 in data.origin.checksums.items() if name.endswith("values")}
    return [stage_of("co2", [fold], replace(data.origin, checksums=values))]


def digest(fold: Fold) -> str:
    """MD5 of a fold's values."""
    return hashlib.md5(b"".join(array.tobytes() for part in fold if part for array in part), usedforsecurity=False).hexdigest()
