"""Losses that a config may choose in the place of the data's own (`loss=NAME`): (outputs, targets) -> scalar."""

import torch.nn.functional as F
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Probability


def label_smoothing(outputs: Tensor, targets: Tensor, *, smoothing: Probability) -> Tensor:
    """Cross-entropy with targets that are spread: 1 - `smoothing` on the class itself, and `smoothing` over all outputs alike.

    Args:
        smoothing: the part that is spread; 0 is plain cross-entropy.

    Raises:
        UsageError: the targets are numbers.
    """
    if targets.is_floating_point():
        raise UsageError("loss=label_smoothing spreads the targets of classes, and those of this data are numbers")
    return F.cross_entropy(outputs, targets, label_smoothing=smoothing)
