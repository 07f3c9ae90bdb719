"""Masks as pure functions on tensors: where they stand, how they are drawn, pruned, counted and stored.

A mask stands beside a named weight of the backbone. `keep` is the share that stays (density), `share` the share that goes.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

# ---- where


def sites(net: nn.Module, skip: Iterable[str] = ()) -> list[str]:
    """Names of the maskable tensors: every Linear and Conv weight, in the order of the forward pass; biases and norms never.

    `skip` names modules left out (`["head"]`).
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, kinds) and name not in set(skip)]


# ---- drawn


class _Threshold(torch.autograd.Function):
    """w * [score >= tau], with the gradient to the score as if the mask were the score itself (straight through)."""

    @staticmethod
    def forward(ctx, w: Tensor, score: Tensor, tau: float) -> Tensor:
        ctx.save_for_backward(w, score)
        ctx.tau = tau
        kept = torch.empty_like(w)
        torch.ge(score, tau, out=kept)  # into floats at once: a bool mask costs a second pass
        return kept.mul_(w)

    @staticmethod
    def backward(ctx, grad: Tensor):
        w, score = ctx.saved_tensors
        to_w = grad * (score >= ctx.tau) if ctx.needs_input_grad[0] else None
        return to_w, grad * w, None


def threshold(w: Tensor, score: Tensor, tau: float = 0.0) -> Tensor:
    """w * [score >= tau]; d/dscore = w * d/d(w * m). Equality counts as kept (SupSup section 3b, Piggyback)."""
    return _Threshold.apply(w, score, tau)


# ---- pruned


def prune(w: Tensor, alive: Tensor, share: float) -> Tensor:
    """The mask after `share` of the `alive` weights with smallest magnitude went.

    k = round(share * alive) weights go, and with them every tie at the k-th smallest magnitude (PackNet's rule: `<=`).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is the part that goes, 0 <= share < 1, not {share}")
    magnitudes = w.detach()[alive].abs()
    k = round(share * magnitudes.numel())
    if k == 0:
        return alive.clone()
    return alive & (w.detach().abs() > smallest(magnitudes, k))


def keep_best(score: Tensor, alive: Tensor, keep: int) -> Tensor:
    """The mask of the `keep` highest-scoring weights among the `alive`: an exact count, ties at the cut by lot.

    Raises:
        ValueError: fewer than `keep` are alive.
    """
    values = score[alive]
    drop = values.numel() - keep
    if not 0 <= keep <= values.numel():
        raise ValueError(f"cannot keep {keep} of {values.numel()} weights")
    if drop == 0:
        return alive.clone()
    cut = smallest(values, drop)
    kept = alive & (score > cut)
    ties = (alive & (score == cut)).flatten().nonzero().squeeze(1)
    chosen = ties[torch.randperm(len(ties), device=ties.device)[: keep - int(kept.sum())]]
    kept.view(-1)[chosen] = True
    return kept


def smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest value (k from 1), by selection: a full sort costs some fifty times as much on a CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.partition(values.numpy().ravel(), k - 1)[k - 1 : k]).squeeze()
    return values.flatten().kthvalue(k).values


# ---- counted


def density(masks: Iterable[Tensor]) -> float:
    """Share of ones over all masks together."""
    masks = list(masks)
    return sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


# ---- stored: 8 weights a byte, first weight in the lowest bit


def pack(mask: Tensor) -> Tensor:
    """A bool mask of any shape as ceil(numel / 8) bytes; the padding bits are 0."""
    return torch.from_numpy(np.packbits(mask.detach().cpu().numpy().ravel(), bitorder="little"))


def unpack(bits: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Bits of one mask [bytes], or of several [masks, bytes], as bool [*shape] or [masks, *shape]."""
    count = int(np.prod(shape))
    flat = np.unpackbits(bits.cpu().numpy(), axis=-1, count=count, bitorder="little")
    return torch.from_numpy(flat.view(bool)).reshape((*bits.shape[:-1], *shape)).to(bits.device)


def save(path: Path, masks: dict[str, Tensor]) -> None:
    """Write masks to a safetensors file, one bit a weight; shapes and bit order stand in its metadata."""
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    about = {"format": 1, "bitorder": "little", "shapes": shapes}
    # one entry: safetensors writes several in an order that differs from call to call
    path.write_bytes(safetensors.torch.save({name: pack(m) for name, m in masks.items()}, {"masks": json.dumps(about)}))


def load(path: Path) -> dict[str, Tensor]:
    """Read masks written by `save` as bool tensors of their own shapes."""
    with safe_open(path, "pt") as file:
        shapes = json.loads(file.metadata()["masks"])["shapes"]
        return {name: unpack(file.get_tensor(name), tuple(shapes[name])) for name in file.keys()}  # noqa: SIM118
