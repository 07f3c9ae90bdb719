"""Learning-rate schedules as functions of the step alone: nothing to save, nothing to restore.

Each returns the factor on the learning rate for optimiser step `step` (from 0) of `total`.
"""

import math
from collections.abc import Sequence


def constant(step: int, total: int, *, warmup: int = 0) -> float:
    return _warm(step, warmup)


def cosine(step: int, total: int, *, warmup: int = 0, stairs: int | None = None) -> float:
    """Half a cosine from 1 to 0 over the steps after the warm-up; with `stairs`, in that many steps down of equal length
    (one an epoch, as much of the older code has it)."""
    if step < warmup:
        return _warm(step, warmup)
    done, length = step - warmup, max(1, total - warmup)
    progress = done / length if stairs is None else done * stairs // length / stairs
    return 0.5 * (1 + math.cos(math.pi * progress))


def step(step: int, total: int, *, milestones: Sequence[float], factor: float, warmup: int = 0) -> float:
    """Times `factor` at each milestone passed; milestones are shares of `total`."""
    return _warm(step, warmup) * factor ** sum(step >= share * total for share in milestones)


def _warm(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0
