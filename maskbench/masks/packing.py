"""Masks in memory and in files: 8 weights a byte, first weight in the lowest bit; and how many bytes that takes."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maskbench.common import mask_header
from maskbench.common.errors import UsageError


def pack(mask: Tensor) -> Tensor:
    """A bool mask of any shape as ceil(numel / 8) bytes; the padding bits are 0."""
    return torch.from_numpy(np.packbits(mask.detach().cpu().numpy().ravel(), bitorder="little"))


def unpack(bits: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Bits of one mask [bytes], or of several [masks, bytes], as bool [*shape] or [masks, *shape]."""
    count = int(np.prod(shape))
    flat = np.unpackbits(bits.cpu().numpy(), axis=-1, count=count, bitorder="little")
    return torch.from_numpy(flat.view(bool)).reshape((*bits.shape[:-1], *shape)).to(bits.device)


@lru_cache
def _entries(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The 8 entries of every byte, [256, 8]."""
    return unpack(torch.arange(256, dtype=torch.uint8)[:, None], (8,)).to(device, dtype)


def unpack_into(out: Tensor, bits: Tensor) -> Tensor:
    """Bits of several masks [masks, bytes] as numbers 0 and 1, padding included, [masks, 8 bytes], at the beginning of a buffer
    `out`: fresh memory would cost more than what is done with them."""
    held = out[: 8 * bits.numel()].view(-1, 8)
    torch.index_select(_entries(bits.device, out.dtype), 0, bits.flatten().int(), out=held)
    return held.view(len(bits), 8 * bits.shape[1])


def count(bits: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """How many of several masks [masks, bytes] keep each weight, int32 [*shape]: eight weights at a time, as the eight bytes of
    one number."""
    eights = _entries(bits.device, torch.uint8).view(torch.int64).flatten()
    total = torch.zeros(8 * bits.shape[1], dtype=torch.int32, device=bits.device)
    row = torch.empty(bits.shape[1], dtype=torch.int64, device=bits.device)
    for some in bits.split(255):  # what a byte can count
        added = torch.zeros_like(row)
        for mask in some:
            added += torch.index_select(eights, 0, mask.int(), out=row)
        total += added.view(torch.uint8)
    return total[: int(np.prod(shape))].reshape(shape)


def packed_bytes(w: Tensor) -> int:
    """Bytes that a mask of w takes at one bit a weight."""
    return -(-w.numel() // 8)


def sparse_bytes(w: Tensor, ones: int) -> int:
    """Bytes that a mask of w [outputs, ...] with so many ones takes in compressed sparse columns.

    16-bit row numbers and 32-bit column pointers, as the SupSup paper counts; the values are implied.
    """
    return 2 * ones + 4 * (w[0].numel() + 1)


def save(path: Path, masks: dict[str, Tensor]) -> None:
    """Write masks to a safetensors file, one bit a weight; shapes and bit order stand in its metadata."""
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    about = {"format": 1, "bitorder": "little", "shapes": shapes}
    # one entry: safetensors writes several in an order that differs from call to call
    path.write_bytes(safetensors.torch.save({name: pack(m) for name, m in masks.items()}, {"masks": json.dumps(about)}))


def load(path: Path) -> dict[str, Tensor]:
    """Read masks written by `save` as bool tensors of their own shapes.

    Raises:
        UsageError: the file is none of ours, or declares more weights than it holds.
    """
    try:
        shapes = mask_header.shapes(path)
        with safe_open(path, "pt") as file:
            return {name: unpack(file.get_tensor(name), shape) for name, shape in shapes.items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f"{path} is no file of masks: {error}.") from error
