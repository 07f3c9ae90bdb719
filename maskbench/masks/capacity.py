"""How full a net is under the masks of its stages: what they use, what is still free, what stages have in common."""

import torch

from maskbench.masks import coding
from maskbench.masks.stores import MaskBank


def capacity(bank: MaskBank) -> dict[str, float]:
    """Of a bank's weights, by the names of the record: docs/metrics.md says what each is."""
    used = {name: bank.store[f"count/{name}"] > 0 for name in bank.shapes}
    units = torch.cat([m.flatten(1).any(1) for m in used.values()])
    share = float(torch.cat([m.flatten() for m in used.values()]).double().mean())
    sizes = coding.mask_bytes({n: bank.store[f"bits/{n}"] for n in bank.shapes}, {n: m.numel() for n, m in used.items()})
    numbers = {"used": share, "free": 1 - share, "reuse": reuse(bank), "dead_units": 1 - float(units.double().mean())}
    return numbers | {f"mask_bytes/{code}": float(size) for code, size in sizes._asdict().items()}


def reuse(bank: MaskBank) -> float:
    """The share of the last mask that earlier masks use too."""
    if not bank.stages:
        return 0.0
    last = bank.read(bank.stages[-1])
    earlier = sum(int((m & (bank.store[f"count/{name}"] > 1)).sum()) for name, m in last.items())
    return earlier / sum(int(m.sum()) for m in last.values())
