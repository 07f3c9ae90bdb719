"""The devices that train one net together, for methods that look at a batch: each has every `world`-th row of it."""

import torch
import torch.distributed
from torch import Tensor


def several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def rank() -> int:
    """This device's number among them, from 0."""
    return torch.distributed.get_rank() if several() else 0


def whole_batch(part: Tensor) -> Tensor:
    """The rows [batch, ...] of all devices in the batch's own order, from this device's part of them."""
    if not several():
        return part
    world = torch.distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.long, device=part.device) for _ in range(world)]
    torch.distributed.all_gather(counts, torch.tensor([len(part)], device=part.device))
    rows = int(torch.stack(counts).sum())
    most = -(-rows // world)
    padded = torch.cat([part, part.new_zeros(most - len(part), *part.shape[1:])]).contiguous()  # the last ranks may have one less
    parts = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(parts, padded)
    return torch.stack(parts, 1).flatten(0, 1)[:rows]
