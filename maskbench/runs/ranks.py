"""What a run of several devices says of itself."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from maskbench.backbones.batch_statistics import GroupStatistics
from maskbench.backbones.norm import BATCH_NORMS
from maskbench.backbones.norm_mlp import NormMLP
from maskbench.common import devices

BY_BATCH = (BATCH_NORMS, GroupStatistics, NormMLP)


def notes(method: nn.Module, trainer: Mapping[str, Any]) -> list[str]:
    """How the norms of a net standardised that several devices trained, as that is no rounding; nothing where none did."""
    count = devices.world()
    if count == 1 or trainer.get("sync_batchnorm") or not any(isinstance(module, BY_BATCH) for module in method.modules()):
        return []
    return [
        f"in training each of {count} devices standardised by its own rows of a batch, and running statistics are the first "
        "one's; with trainer.sync_batchnorm=true all rows count, as on one device"
    ]
