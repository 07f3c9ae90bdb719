"""Regression tables with the published train/test divisions: all of them side by side as one stage, or one of them."""

from pathlib import Path

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.data.images.whole_sets import whole_number
from maskbench.data.sources import find_tables as tables
from maskbench.data.stage import Stage
from maskbench.data.tables.regression import Fold, Part, stage_of


def tabular(*, table: str, folds: int | None, fold: int | None, val: float | None, source: str, root: Path,
            seed: int) -> list[Stage]:  # fmt: skip
    """One stage. The divisions are the published ones whatever the seed.

    Args:
        table: a known name, or a folder in the published layout.
        folds: the first so many divisions, side by side; None: all of them.
        fold: this one division alone, from 0.
        val: share of each training part, its last rows, that validates (the protocol of 2018 takes 0.2); None: nothing
            is held out, and the validation split is the training split.
    """
    found = tables.find(str(table), root, source)
    chosen = which(len(found.divisions), folds, fold)
    held = held_out(val)

    def rows(index: np.ndarray) -> Part:
        return found.x[index], found.y[index]

    def divided(train: np.ndarray, test: np.ndarray) -> Fold:
        if not held:
            return Fold(rows(train), None, rows(test))
        kept = int((1 - held) * len(train))
        if not 0 < kept < len(train):
            raise UsageError(f"data.val={val} does not divide {len(train)} training rows: take a share such as 0.2.")
        return Fold(rows(train[:kept]), rows(train[kept:]), rows(test))

    picked = [divided(*found.divisions[i]) for i in chosen]
    if len({(len(f.train[0]), len(f.test[0])) for f in picked}) > 1:
        raise UsageError(f"the divisions of {found.origin.name} differ in size: take one at a time with data.fold=0.")
    name = str(table) if fold is None else f"{table} division {fold}"
    return [stage_of(name, picked, found.origin)]


def which(total: int, folds: int | None, fold: int | None) -> range:
    """The divisions that are asked for, of `total`."""
    if fold is not None:
        if folds is not None:
            raise UsageError("data.fold asks for one division and data.folds for several: leave one of them null.")
        if whole_number("data.fold", fold, least=0) >= total:
            raise UsageError(f"data.fold={fold} is not there: the divisions are 0 to {total - 1}.")
        return range(fold, fold + 1)
    if folds is not None and whole_number("data.folds", folds, least=1) > total:
        raise UsageError(f"data.folds={folds} is too many: there are {total} divisions.")
    return range(total if folds is None else folds)


def held_out(val: float | None) -> float:
    if val is None:
        return 0.0
    if isinstance(val, bool) or not isinstance(val, int | float) or not 0 <= val < 1:
        raise UsageError(f"data.val={val} does not work: take a share of the training rows, such as 0.2, or null.")
    return val
