"""Lottery tickets on a small net, moved instead of trained."""

from types import SimpleNamespace

import pytest
import torch

from maskbench.backbones.mlp import MLP
from maskbench.methods.prune.lottery import Lottery

SHAPE = (1, 28, 28)


class Moved:
    """A fit that moves every weight a little, as training would, with the stage's data left alone."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, method, stage, *, callbacks_at_steps=None, **phase) -> list:
        torch.manual_seed(self.seed)
        with torch.no_grad():
            for p in method.trainable_parameters():
                p.add_(0.1 * torch.randn_like(p))
        if callbacks_at_steps is not None:
            callbacks_at_steps[1]()
        return []


def small(seed: int = 0, **knobs) -> Lottery:
    torch.manual_seed(seed)
    return Lottery(MLP(SHAPE, 10, widths=[30, 20]), **knobs)


def counts(method: Lottery) -> list[int]:
    return [int(method.alive[name].sum()) for name in method.sites]


def level_down(method: Lottery, levels: int, seed: int = 0) -> None:
    method.learn(None, Moved(seed))
    for level in range(levels):
        method.shrink(None)
        method.learn(None, Moved(seed + level + 1))


@pytest.fixture
def tickets() -> SimpleNamespace:
    """What tests of lottery tickets begin with: `small(**knobs)`, `level_down(method, levels)`, `counts(method)`, `Moved()`."""
    return SimpleNamespace(small=small, level_down=level_down, counts=counts, Moved=Moved)
