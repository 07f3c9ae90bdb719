"""2:4 sparsity in its compressed form: of every four consecutive inputs of an output two values, and where they stood.

Of a weight [outputs, inputs, *kernel] inputs are counted last, [outputs, *kernel, inputs], and every four of them make a group.

    values  [outputs, *kernel, inputs / 2]  the two of each group, in their order
    places  uint8 [ceil(groups / 2)]        a group has four bits: the place of its first value (0 to 3) in the lower two, that
                                            of its second in the upper two; the first of two groups in the lower half of a byte

That is one byte and sixteen bytes of float32 values for eight weights, and the pattern that NVIDIA's sparse tensor cores ask for
(torch.sparse.to_sparse_semi_structured makes their own layout of the same values). A group with fewer than two ones is filled up
with zeros.
"""

import torch
from torch import Tensor

OF, MOST = 4, 2  # consecutive inputs, and ones among them


def mistake(mask: Tensor) -> str:
    """Why a mask, bool [outputs, inputs, *kernel], is no 2:4; empty where it is."""
    if mask.ndim < 2 or mask.shape[1] % OF:
        return f"{OF} does not divide its {mask.shape[1] if mask.ndim > 1 else len(mask)} inputs"
    counts = _last(mask).unflatten(-1, (-1, OF)).sum(-1)
    if int(counts.max()) <= MOST:
        return ""
    place = (counts > MOST).nonzero()[0].tolist()
    first = place[-1] * OF
    return f"output {place[0]} keeps {int(counts[tuple(place)])} of its inputs {first} to {first + OF - 1}"


def compress(w: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(values, places) of a weight under a mask that is 2:4.

    Raises:
        ValueError: it is not.
    """
    if wrong := mistake(mask):
        raise ValueError(wrong)
    kept = _last(mask).unflatten(-1, (-1, OF))
    places = kept.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :MOST].sort(-1).values
    values = _last(w * mask).unflatten(-1, (-1, OF)).gather(-1, places).flatten(-2)
    bits = (places[..., 0] | places[..., 1] << 2).flatten().to(torch.uint8)
    bits = torch.cat([bits, bits.new_zeros(len(bits) % 2)]).view(-1, 2)
    return values.contiguous(), bits[:, 0] | bits[:, 1] << 4


def expand(values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """(the weight [outputs, inputs, *kernel], which of its entries have a value, bool) of what `compress` made.

    Raises:
        ValueError: the two do not belong together.
    """
    groups = values.numel() // MOST
    if values.ndim < 2 or values.shape[-1] % MOST or len(places) != -(-groups // 2):
        raise ValueError("values and places of a 2:4 weight do not fit each other")
    bits = torch.stack([places & 15, places >> 4], 1).flatten()[:groups].long()
    index = torch.stack([bits & 3, bits >> 2], 1).view(*values.shape[:-1], -1, MOST)
    pairs = values.unflatten(-1, (-1, MOST))
    shape = (*pairs.shape[:-1], OF)
    w = values.new_zeros(shape).scatter(-1, index, pairs)
    there = torch.zeros(shape, dtype=torch.bool, device=values.device).scatter(-1, index, True)
    return _second(w.flatten(-2)), _second(there.flatten(-2))


def _last(w: Tensor) -> Tensor:
    """Inputs from the second dimension to the last."""
    return w.movedim(1, -1)


def _second(w: Tensor) -> Tensor:
    return w.movedim(-1, 1).contiguous()
