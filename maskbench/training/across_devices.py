"""Layers that look beyond a row, on several devices: dropout draws what one device would draw, and where it is asked for, batch
norms standardise by the rows of all devices.

What a method itself draws for each row, or makes of the batch, it takes from maskbench/common/devices.py.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from maskbench.common import devices

DROPS = {
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
}  # fmt: skip


class AcrossDevices(TorchFunctionMode):
    """Inside, and inside a batch of `devices`, torch's own layers know of the rows on the other devices."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in DROPS:
            return dropped(func, *args, **kwargs)
        if func is F.batch_norm and devices.by_whole_batch():
            return batch_norm(*args, **kwargs)
        if func is torch.batch_norm and devices.by_whole_batch():
            x, weight, bias, *rest, _ = args
            return batch_norm(x, *rest[:2], weight, bias, *rest[2:])
        return func(*args, **kwargs)


def dropped(func: Callable, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """What one of torch's kinds of dropout leaves of these rows, drawn for the whole batch."""
    if not training or p == 0:
        return input
    return devices.own(func(devices.placed(input), p, training))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch's batch norm of [rows, units, ...], by the rows of all devices. (torch.nn.SyncBatchNorm is for GPUs alone, and would
    take the place of the net's own layers.)"""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = input.float()
    mean, variance, values = devices.mean_and_variance(x)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * values / (values - 1)).to(running_var), momentum)
    place = (1, -1, *[1] * (x.ndim - 2))
    gain = torch.rsqrt(variance + eps) * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * gain
    return torch.addcmul(shift.view(place), x, gain.view(place)).to(input.dtype)
