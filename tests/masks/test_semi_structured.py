"""The compressed form of 2:4 masks: exact, of the documented layout, and refused with the place where a mask is none."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.masks.semi_structured import compress, expand, mistake


def two_of_four(*shape: int, seed: int = 0, most: int = 2) -> torch.Tensor:
    """A random mask that keeps `most` of every four consecutive inputs, [outputs, inputs, *kernel]."""
    draw = torch.Generator().manual_seed(seed)
    outputs, inputs, *kernel = shape
    scores = torch.rand(outputs, *kernel, inputs // 4, 4, generator=draw)
    return (scores.argsort(-1).argsort(-1) < most).flatten(-2).movedim(-1, 1)


@given(st.sampled_from([(3, 8), (5, 4), (4, 12, 3, 3), (2, 4, 5)]), st.integers(0, 2), st.integers(0, 10**6))
def test_expanding_gives_the_masked_weight_back(shape: tuple[int, ...], most: int, seed: int) -> None:
    w, mask = torch.randn(shape), two_of_four(*shape, seed=seed, most=most)
    values, places = compress(w, mask)
    assert values.numel() == w.numel() // 2 and places.numel() == -(-w.numel() // 8)
    back, there = expand(values, places)
    assert torch.equal(back, w * mask) and back.shape == w.shape
    assert bool((there | ~mask).all()) and int(there.sum()) == w.numel() // 2


def test_the_layout_is_the_documented_one() -> None:
    w = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16]])
    mask = torch.tensor([[0, 1, 0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    values, places = compress(w, mask)
    assert values.tolist() == [[2, 4, 5, 6], [11, 12, 13, 0]]
    # groups: places 1 3, 0 1, 2 3, 0 1 -> first | second << 2, two groups a byte
    assert places.tolist() == [(1 | 3 << 2) | (0 | 1 << 2) << 4, (2 | 3 << 2) | (0 | 1 << 2) << 4]


def test_a_mask_that_is_none_is_told_where() -> None:
    mask = two_of_four(3, 8)
    mask[1, 4:] = True
    assert mistake(mask) == "output 1 keeps 4 of its inputs 4 to 7"
    assert mistake(torch.ones(3, 6, dtype=torch.bool)) == "4 does not divide its 6 inputs"
    with pytest.raises(ValueError, match="output 1 keeps"):
        compress(torch.ones(3, 8), mask)


def test_parts_that_do_not_fit_are_refused() -> None:
    values, places = compress(torch.ones(3, 8), two_of_four(3, 8))
    for wrong in ((values, places[1:]), (values[:, :3], places), (values.flatten(), places)):
        with pytest.raises(ValueError, match="do not fit"):
            expand(*wrong)


def test_torchs_own_conversion_takes_the_pattern() -> None:
    """What `torch.sparse.to_sparse_semi_structured` makes of a weight on a GPU, by its conversion in plain operations."""
    theirs = pytest.importorskip("torch.sparse._semi_structured_conversions")
    mask = two_of_four(32, 64)
    w, _ = expand(*compress(torch.randn(32, 64).half(), mask))
    packed, meta = theirs.sparse_semi_structured_from_dense_cutlass(w)
    assert torch.equal(theirs.sparse_semi_structured_to_dense_cutlass(packed, meta), w)
    assert torch.equal(packed.flatten(), compress(w, mask)[0].flatten())
