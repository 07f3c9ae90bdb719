"""How much of a ticket whose mask is known a pruner has found (Plant 'n' Seek, Fischer & Burkholz 2022, arXiv 2111.11153)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from maskbench.training.method import Method

NAMES = ("ticket_recall", "ticket_precision")


def of(method: Method) -> dict[str, float | None]:
    """`recovery` of the method's present masks; nothing where its net hides no ticket, or a file gave the net other weights."""
    planted = getattr(method.net, "planted", None)
    if planted is None or hasattr(method.net, "given"):
        return {}
    return recovery(latest(method.masks()), planted)


def recovery(found: Mapping[str, Tensor], planted: Mapping[str, Tensor]) -> dict[str, float | None]:
    """Over all layers together: `ticket_recall`, the share of the planted weights that masks keep, and `ticket_precision`, the
    share of the kept weights that are planted; None where nothing is kept. At equal counts both are one number, and of a mask
    drawn at random it is about its density.

    found, planted: bool masks by weight; a layer without a mask is kept whole.
    """
    kept = {name: found[name].cpu() if name in found else torch.ones_like(mask) for name, mask in planted.items()}
    both = sum(int((kept[name] & mask).sum()) for name, mask in planted.items())
    wanted, count = (sum(int(mask.sum()) for mask in masks.values()) for masks in (planted, kept))
    return dict(zip(NAMES, (both / wanted, both / count if count else None), strict=True))


def latest(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of masks named `<level>/<weight>` those of the last level, by weight."""
    last = max((int(name.partition("/")[0]) for name in masks), default=0)
    return {name.partition("/")[2]: mask for name, mask in masks.items() if int(name.partition("/")[0]) == last}
