"""Curves to look at: the noisy cubic of 1612.01474 (after 1502.05336), and the CO2 record at Mauna Loa of 1506.02142."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from maskbench.common import streams
from maskbench.common.errors import UsageError
from maskbench.data.images.whole_sets import whole_number
from maskbench.data.sources import find_tables as tables
from maskbench.data.stage import Origin, Stage
from maskbench.data.tables.regression import Fold, Part, stage_of


def cubic(*, rows: int, val: int, grid: int, reach: float, noise: float, root: Path, seed: int) -> list[Stage]:
    """y = x^3 + noise at `rows` drawn places in [-4, 4]; the test split is the curve itself on a grid to +-`reach`.

    Args:
        rows: that train (the paper has 20). val: that validate, drawn as those are. grid: of test rows.
        noise: its standard deviation (the paper has 3: a variance of 9).
    """
    whole_number("data.rows", rows, least=2)
    whole_number("data.val", val, least=1)
    whole_number("data.grid", grid, least=2)
    for key, value in (("reach", reach), ("noise", noise)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            raise UsageError(f"data.{key}={value} does not work: take a number of at least 0.")

    def sample(name: str, n: int) -> Part:
        draw = streams.generator(seed, "cubic", name)
        x = torch.rand(n, 1, generator=draw, dtype=torch.float64).numpy() * 8 - 4
        return x, x**3 + noise * torch.randn(n, 1, generator=draw, dtype=torch.float64).numpy()

    ahead = np.linspace(-reach, reach, grid)[:, None]
    fold = Fold(sample("train", rows), sample("val", val), (ahead, ahead**3))
    return [stage_of("cubic", [fold], Origin("the noisy cubic", "synthetic", {"rows": digest(fold)}))]


def co2(*, train: int, every: int | None, source: str, root: Path, seed: int) -> list[Stage]:
    """Monthly CO2 at Mauna Loa, 1988 to 2017 (360 rows): the first `train` months train, the rest is extrapolation.

    Every `every`-th training month validates instead, so that validation lies inside the record; None: nothing is held
    out. There is one feature, the month's number; another stretch of the record than the paper's, which cannot be had.
    """
    found = tables.find("co2", root, source)
    rows = len(found.x)
    if not 1 < whole_number("data.train", train, least=2) < rows:
        raise UsageError(f"data.train={train} leaves nothing to look ahead to: there are {rows} months.")
    if every is not None:
        whole_number("data.every", every, least=2)
    month = np.arange(train)
    held = np.zeros(train, bool) if every is None else month % every == every - 1
    if every is not None and not held.any():
        raise UsageError(f"data.every={every} holds out none of {train} months: take fewer, or null.")

    def part(index: np.ndarray) -> Part:
        return found.x[index], found.y[index]

    fold = Fold(part(month[~held]), part(month[held]) if held.any() else None, part(np.arange(train, rows)))
    values = {name: md5 for name, md5 in found.origin.checksums.items() if name.endswith("values")}
    return [stage_of("co2", [fold], replace(found.origin, checksums=values))]


def digest(fold: Fold) -> str:
    return hashlib.md5(b"".join(array.tobytes() for part in fold if part for array in part), usedforsecurity=False).hexdigest()
