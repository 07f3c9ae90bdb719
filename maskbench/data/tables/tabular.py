"""Regression tables with the published train/test divisions: all of them side by side as one stage, or one of them."""

from pathlib import Path
from typing import Literal

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Share, Whole
from maskbench.data.sources import find_tables as tables
from maskbench.data.stage import Stage
from maskbench.data.tables.regression import Fold, Part, stage_of


def tabular(
    *,
    table: str,
    folds: Count | None,
    fold: Whole | None,
    val: Share | None,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """One stage of a table, all of its published train/test divisions as folds side by side, or one of them.

    Args:
        table: a known name, or a folder in the published layout.
        folds: the first so many divisions, side by side; None: all of them.
        fold: this one division alone, from 0; None: several.
        val: share of each training part, its last rows, that validates (the protocol of 2018 takes 0.2); None: nothing
            is held out, and the validation split is the training split.
        source: where its files may come from: the `folder`, a `package` that carries it, or `auto`, both in this order.
        root: the data folder.
        seed: of the run, which changes nothing: the divisions are the published ones.

    Raises:
        UsageError: there is no such table, division or validation share, or divisions of unequal sizes side by side.
    """
    data = tables.find(table, root, source)
    chosen = which(len(data.divisions), folds, fold)

    def rows(index: np.ndarray) -> Part:
        return data.x[index], data.y[index]

    def divided(train: np.ndarray, test: np.ndarray) -> Fold:
        if not val:
            return Fold(rows(train), None, rows(test))
        kept = int((1 - val) * len(train))
        if not 0 < kept < len(train):
            raise UsageError(f"data.val={val} does not divide {len(train)} training rows: take a share such as 0.2.")
        return Fold(rows(train[:kept]), rows(train[kept:]), rows(test))

    picked = [divided(*data.divisions[i]) for i in chosen]
    if len({(len(f.train[0]), len(f.test[0])) for f in picked}) > 1:
        raise UsageError(f"the divisions of {data.origin.name} differ in size: take one at a time with data.fold=0.")
    name = table if fold is None else f"{table} division {fold}"
    return [stage_of(name, picked, data.origin)]


def which(total: int, folds: int | None, fold: int | None) -> range:
    """The chosen divisions, of `total`.

    Raises:
        UsageError: one and several at once, or more than there are.
    """
    if fold is not None:
        if folds is not None:
            raise UsageError("data.fold takes one division and data.folds several: leave one of them null.")
        if fold >= total:
            raise UsageError(f"data.fold={fold} is not there: the divisions are 0 to {total - 1}.")
        return range(fold, fold + 1)
    if folds is not None and folds > total:
        raise UsageError(f"data.folds={folds} is too many: there are {total} divisions.")
    return range(total if folds is None else folds)
