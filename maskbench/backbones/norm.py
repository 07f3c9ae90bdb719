"""Normalisation by name, what residual nets and VGG share; and refusals of data that a backbone cannot take."""

from collections.abc import Callable
from typing import Literal

from torch import nn

from maskbench.backbones.batch_statistics import GroupStatistics
from maskbench.common.errors import UsageError

Norm = Literal["batch", "batch_no_stats", "none"]


def norm_of(kind: Norm, affine: bool) -> Callable[[int], nn.Module]:
    """The norm layer of that name, to be made for a number of units.

    `batch` keeps running statistics as buffers, and a gain and a shift if `affine`; `batch_no_stats` keeps and learns nothing
    and takes the statistics of the rows at hand, in testing too; `none` leaves its input as it is.
    """
    norms: dict[str, Callable[[int], nn.Module]] = {
        "batch": lambda units: nn.BatchNorm2d(units, affine=affine),
        "batch_no_stats": lambda units: GroupStatistics(),
        "none": lambda units: nn.Identity(),
    }
    return norms[kind]


BATCH_NORMS = nn.modules.batchnorm._BatchNorm  # what keeps running statistics


def freeze_batchnorm(net: nn.Module) -> None:
    """Put the net's batch norms in evaluation mode, so that training uses their statistics and leaves them as they are."""
    for module in net.modules():
        if isinstance(module, BATCH_NORMS):
            module.eval()


def hold_still(net: nn.Module) -> None:
    """Let the batch norms of `net` stay as they are, gains and shifts too: no parameters, and never in training mode."""
    for module in net.modules():
        if isinstance(module, BATCH_NORMS):
            module.still = True
            for name in ("weight", "bias"):
                if (value := getattr(module, name)) is not None:
                    delattr(module, name)
                    module.register_buffer(name, value.detach())


def keep_still(part: nn.Module) -> None:
    """Put the batch norms inside `part` that stay as they are in evaluation mode."""
    for module in part.modules():
        if isinstance(module, BATCH_NORMS) and getattr(module, "still", False):
            module.eval()


def need_one(shape: tuple[int, ...]) -> None:
    """Refuse tables that stand side by side, [folds, features], for nets that would take them for one.

    Raises:
        UsageError: the inputs are such tables.
    """
    if len(shape) == 2:
        raise UsageError(
            f"this data is {shape[0]} divisions of a table side by side, which train {shape[0]} nets: take backbone=fold_mlp, "
            "or one division with data.fold=0"
        )


def need_images(shape: tuple[int, ...], least: int) -> None:
    """Refuse inputs that are no images, or images too small for a net that halves them several times.

    Raises:
        UsageError: the inputs are no images [channels, height, width], or smaller than `least` pixels on a side.
    """
    if len(shape) != 3:
        raise UsageError(
            f"this backbone needs images [channels, height, width], not inputs of shape {list(shape)}: for the rows of a table "
            "take backbone=fold_mlp or mlp_100x3"
        )
    if min(shape[1:]) < least:
        raise UsageError(f"this backbone needs images of at least {least} x {least}, not {shape[1]} x {shape[2]}")
