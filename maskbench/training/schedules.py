"""Learning-rate schedules as functions of the step alone: nothing to save, nothing to restore.

Each returns the factor on the learning rate for optimiser step `step` (from 0) of `total`.
"""

import math
from collections.abc import Sequence
from typing import Literal

from maskbench.common.knobs import Count, Whole

Peak = Literal["within", "after"]


def constant(step: int, total: int, *, warmup: Whole = 0) -> float:
    return _warm(step, warmup)


def cosine(step: int, total: int, *, warmup: Whole = 0, stairs: Count | None = None, peak: Peak | None = None) -> float:
    """Half a cosine from 1 to 0 over the steps after the warm-up; with `stairs`, in that many steps down of equal length
    (one an epoch, as much of the older code has it).

    Args:
        peak: where a warm-up of W steps comes to the whole rate: `within` it (null), (t + 1) / W, or `after` it,
            (t + 1) / (W + 1), as Meta-ticket's code.
    """
    if step < warmup:
        return _warm(step, warmup + (peak == "after"))
    done, length = step - warmup, max(1, total - warmup)
    progress = done / length if stairs is None else done * stairs // length / stairs
    return 0.5 * (1 + math.cos(math.pi * progress))


def cosine_by_epoch(step: int, total: int, *, epochs: Count, warmup: Whole = 0) -> float:
    """Half a cosine after a linear warm-up, the rate the same throughout an epoch: what the code of edge-popup and SupSup has on
    ImageNet.

    Args:
        epochs: of the phase. warmup: epochs among them, e of which has (e + 1) / warmup of the rate.
    """
    epoch = step * epochs // total
    if epoch < warmup:
        return (epoch + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(1, epochs - warmup)))


def step(step: int, total: int, *, milestones: Sequence[float], factor: float, warmup: Whole = 0) -> float:
    """Times `factor` at each milestone passed; milestones are shares of `total`."""
    return _warm(step, warmup) * factor ** sum(step >= share * total for share in milestones)


def _warm(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0
