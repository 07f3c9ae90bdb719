"""How full a net is under the masks of its stages: what they use, what is still free, what stages have in common, and the bytes
that the masks take."""

import torch

from maskbench.masks.coding import MaskBytes, mask_bytes
from maskbench.masks.pruning import density
from maskbench.masks.stores import MaskBank


def capacity(bank: MaskBank) -> dict[str, float]:
    """Of a bank's weights, by the names of the record: docs/metrics.md says what each is."""
    units = torch.cat([(bank.store[f"count/{name}"] > 0).flatten(1).any(1) for name in bank.shapes])
    numbers = {"used": used(bank), "free": 1 - used(bank), "reuse": reuse(bank), "dead_units": 1 - float(units.double().mean())}
    return numbers | {f"mask_bytes/{code}": float(size) for code, size in bytes_of(bank)._asdict().items()}


def used(bank: MaskBank) -> float:
    """The share of the weights that the mask of some stage uses."""
    return density(bank.store[f"count/{name}"] > 0 for name in bank.shapes)


def reuse(bank: MaskBank) -> float:
    """The share of the last mask that earlier masks use too."""
    if not bank.stages:
        return 0.0
    last = bank.read(bank.stages[-1])
    earlier = sum(int((m & (bank.store[f"count/{name}"] > 1)).sum()) for name, m in last.items())
    return earlier / sum(int(m.sum()) for m in last.values())


def bytes_of(bank: MaskBank) -> MaskBytes:
    """What a bank's masks take by each code."""
    return mask_bytes(
        {n: bank.store[f"bits/{n}"] for n in bank.shapes}, {n: bank.store[f"count/{n}"].numel() for n in bank.shapes}
    )


def stored_bytes(bank: MaskBank) -> int:
    """What a bank's masks take by the shorter of the two codes that can be decoded."""
    sizes = bytes_of(bank)
    return min(sizes.packed, sizes.huffman)
