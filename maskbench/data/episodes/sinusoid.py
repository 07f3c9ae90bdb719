"""Sine waves, each to be regressed from a few points: the regression tasks of MAML (Finn et al. 2017, section 5.1).

A task is y = A sin(x - phase) with A in U[0.1, 5] and phase in U[0, pi]; its points are x in U[-5, 5].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskbench.common.knobs import Count, Within
from maskbench.data.episodes.stages import ENDLESS, Episodes, EpisodeStage
from maskbench.data.stage import Origin

AMPLITUDE, PHASE, REACH = (0.1, 5.0), (0.0, math.pi), (-5.0, 5.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Waves(Episodes):
    """Episodes of sine waves: inputs [tasks, points, 1] and values [tasks, points, 1]."""

    def draw(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        points = self.shots + self.queries
        u = self.uniform(index, 2 + points, "wave")
        amplitude, phase = within(u[:, :1], *AMPLITUDE), within(u[:, 1:2], *PHASE)
        x = within(u[:, 2:], *REACH)
        y = amplitude * np.sin(x - phase)
        told = (x, *self.told(amplitude, phase, x))
        return torch.from_numpy(np.stack(told, -1)).float(), torch.from_numpy(y).float()[..., None]

    def told(self, amplitude: np.ndarray, phase: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
        """Further inputs of each point, each of the shape of x."""
        return []

    @property
    def support(self) -> int:
        return self.shots


class ToldWaves(Waves):
    """Waves whose inputs [tasks, points, 3] tell the task: x, amplitude, phase."""

    def told(self, amplitude: np.ndarray, phase: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
        return [np.broadcast_to(amplitude, x.shape), np.broadcast_to(phase, x.shape)]


def within(u: np.ndarray, low: float, high: float) -> np.ndarray:
    """From uniform on [0, 1) to uniform on [low, high)."""
    return low + (high - low) * u


def identity(values: Tensor) -> Tensor:
    """The link of regression."""
    return values


def sinusoid(
    *,
    shots: Count,
    queries: Count | None,
    test_queries: Count | None,
    test_shots: Sequence[Count],
    val: Count,
    test: Annotated[int, Within(least=2)],
    oracle: bool | None = None,
    root: Path,
    seed: int,
) -> list[EpisodeStage]:
    """One stage of episodes of one wave each.

    Args:
        shots: K, support points.
        queries: query points in training; None: as many as shots.
        test_queries: query points in validation and testing; None: as many as shots.
        test_shots: further test lists of other shots.
        val: validation episodes.
        test: test episodes.
        oracle: whether inputs are (x, amplitude, phase), so that the task need not be learnt from points: a bound.
        root: the data folder, which is not needed.
        seed: of the run, draws all episodes.
    """

    def waves(name: str, count: int, shots: int, queries: int | None) -> Waves:
        queries = shots if queries is None else queries
        return (ToldWaves if oracle else Waves)(
            count=count, shots=shots, queries=queries, stream=(seed, "episodes", "sinusoid", name)
        )

    train = waves("train", ENDLESS, shots, queries)
    return [
        EpisodeStage(
            index=0,
            total=1,
            name="sinusoid",
            train=train,
            val=waves("val", val, shots, test_queries),
            test=waves("test", test, shots, test_queries),
            further={f"{k}shot": waves(f"test {k}", test, k, test_queries) for k in test_shots},
            classes=(),
            outputs=1,
            shape=(3,) if oracle else (1,),
            origin=Origin("sinusoid", "synthetic"),
            criterion=F.mse_loss,
            link=identity,
            ways=1,
            shots=shots,
            queries=train.queries,
        )
    ]
