"""Capacity of a net under its masks, by hand."""

import torch

from maskbench.masks import capacity, coding, pack
from maskbench.masks.stores import MaskBank


def bank(*stages: list[int]) -> MaskBank:
    """Masks over a layer of three units with two inputs each."""
    made = MaskBank({"a": torch.Size([3, 2])})
    for number, stage in enumerate(stages):
        made.write(number, {"a": torch.tensor(stage, dtype=torch.bool).view(3, 2)})
    return made


def test_what_is_used_free_reused_and_dead() -> None:
    numbers = capacity.capacity(bank([1, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 1, 1]))
    assert numbers["used"] == 4 / 6 and numbers["free"] == 1 - 4 / 6
    assert numbers["reuse"] == 2 / 3, "of the last mask, the first and the fifth weight"
    assert numbers["dead_units"] == 1 - 2 / 3


def test_the_first_mask_reuses_nothing_and_no_mask_is_no_error() -> None:
    assert capacity.capacity(bank([1, 1, 0, 0, 0, 0]))["reuse"] == 0.0
    numbers = capacity.capacity(bank())
    assert numbers["free"] == numbers["dead_units"] == 1.0 and numbers["mask_bytes/huffman"] == 0.0


def test_bytes_are_those_of_the_codes() -> None:
    drawn = [[1, 0, 0, 0, 1, 0]] * 4
    sizes = capacity.bytes_of(bank(*drawn))
    assert sizes == coding.mask_bytes({"a": torch.stack([pack(torch.tensor(m, dtype=torch.bool)) for m in drawn])}, {"a": 6})
    assert capacity.stored_bytes(bank(*drawn)) == min(sizes.packed, sizes.huffman) == 4
