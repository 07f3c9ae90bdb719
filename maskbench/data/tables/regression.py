"""Stages whose targets are reals: standardised by what trains, one division of a table or several side by side."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskbench.data import gaussian
from maskbench.data.stage import Origin, Split, Stage

Part = tuple[np.ndarray, np.ndarray]  # inputs [rows, features], targets [rows, values], in their own units


class Fold(NamedTuple):
    """One division of a table; `val` None: nothing is held out."""

    train: Part
    val: Part | None
    test: Part


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error; of several folds [batch, folds, values] the sum over folds, so that no fold feels another."""
    return (output - target).square().mean(0).mean(-1).sum()


def identity(output: Tensor) -> Tensor:
    """The link of regression."""
    return output


def stage_of(name: str, folds: Sequence[Fold], origin: Origin) -> Stage:
    """The one stage of these folds, all of them of equal sizes.

    Features and targets of a fold are standardised by its own training part (a deviation of 0 counts as 1). One fold
    gives inputs [rows, features] and targets [rows, values], more give [rows, folds, features] and [rows, folds,
    values]; `shape` is one row's. Where nothing is held out the validation split is the training split, so that its
    scores are those of training data.
    """
    scaled = [_standardised(fold) for fold in folds]

    def joined(parts: Sequence[np.ndarray]) -> Tensor:
        stacked = parts[0] if len(parts) == 1 else np.stack(parts, 1)
        return torch.from_numpy(stacked.astype(np.float32))

    def split(part: str) -> Split:
        x, y = zip(*(getattr(fold, part) for fold, _ in scaled), strict=True)
        return Split(joined(x), joined(y))

    train = split("train")
    mean, deviation = (
        torch.from_numpy(np.stack(values).astype(np.float32)) for values in zip(*(u for _, u in scaled), strict=True)
    )
    return Stage(
        index=0,
        total=1,
        name=name,
        train=train,
        val=train if folds[0].val is None else split("val"),
        test=split("test"),
        classes=(),
        outputs=train.y.shape[-1],
        shape=tuple(train.x.shape[1:]),
        origin=origin,
        criterion=gaussian.loss,
        link=partial(gaussian.answer, values=train.y.shape[-1]),
        folds=len(folds),
        units=(mean, deviation),
    )


def _standardised(fold: Fold) -> tuple[Fold, tuple[np.ndarray, np.ndarray]]:
    """The fold in units of its training part, and (mean, deviation) [values] of the targets there."""
    (x_mean, x_deviation), (y_mean, y_deviation) = (_moments(values) for values in fold.train)

    def part(pair: Part | None) -> Part | None:
        return pair and ((pair[0] - x_mean) / x_deviation, (pair[1] - y_mean) / y_deviation)

    return Fold(*map(part, fold)), (y_mean, y_deviation)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    deviation = values.std(0)
    return values.mean(0), np.where(deviation == 0, 1.0, deviation)
