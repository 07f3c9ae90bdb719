"""Shelf and Book: tensors that are added while a run goes on, restored by load_state_dict alone; masks at one bit."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maskbench.masks import packing
from maskbench.masks.stores import MaskBank, TensorStore

SHAPES = {"conv.weight": (3, 2, 3, 3), "head.weight": (5, 7)}  # 54 and 35 weights: no multiples of 8


def drawn(seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=generator) < 0.4 for name, shape in shapes.items()}


def filled(stages: int) -> tuple[MaskBank, list[dict[str, torch.Tensor]]]:
    book, naive = MaskBank(SHAPES), [drawn(i) for i in range(stages)]
    for i, masks_of in enumerate(naive):
        book.write(i, masks_of)
    return book, naive


# ---- Shelf


@pytest.mark.parametrize("moving", [False, True])
def test_a_shelf_keeps_copies_under_names_with_dots(moving: bool) -> None:
    shelf, value = TensorStore(moving), torch.ones(3)
    shelf.put("0/net.1.weight", value)
    value.zero_()
    assert shelf["0/net.1.weight"].tolist() == [1, 1, 1]
    assert "0/net.1.weight" in shelf and "0/net.1" not in shelf
    assert shelf.names() == ["0/net.1.weight"]
    assert isinstance(shelf["0/net.1.weight"], nn.Parameter) == moving
    assert len(list(shelf.parameters())) == int(moving)
    shelf.put("0/net.1.weight", torch.zeros(2))
    assert shelf["0/net.1.weight"].shape == (2,) and len(shelf.names()) == 1


class Owner(nn.Module):
    """A module with shelves at some depth, as methods have them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"kept": TensorStore(), "moving": TensorStore(moving=True)})
        self.layer = nn.Linear(2, 2)


@pytest.mark.parametrize("there", [[], ["a.b"], ["other", "a.b"]], ids=["empty", "same names", "more names"])
def test_a_state_dict_fills_a_shelf_whatever_it_held(there: list[str]) -> None:
    full, fresh = Owner(), Owner()
    for kind, shelf in full.inner.items():
        shelf.put("a.b", torch.randn(4))
        shelf.put(f"{kind}.c", torch.arange(3, dtype=torch.float32 if kind == "moving" else torch.uint8))
    for shelf in fresh.inner.values():
        for name in there:
            shelf.put(name, torch.zeros(1))
    fresh.load_state_dict(full.state_dict())
    assert list(fresh.state_dict()) == list(full.state_dict())
    for name, value in full.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value) and fresh.state_dict()[name].dtype == value.dtype
    assert isinstance(fresh.inner["moving"]["a.b"], nn.Parameter)
    full.inner["kept"]["a.b"].zero_()
    assert fresh.inner["kept"]["a.b"].any(), "loading copies"


def test_other_modules_stay_strict() -> None:
    with pytest.raises(RuntimeError, match="unknown"):
        Owner().load_state_dict(Owner().state_dict() | {"layer.unknown": torch.zeros(1)})


def test_a_copied_shelf_is_another_shelf() -> None:
    shelf = TensorStore(moving=True)
    shelf.put("w", torch.ones(2))
    twin = copy.deepcopy(shelf)
    twin["w"].data.zero_()
    assert shelf["w"].tolist() == [1, 1]


# ---- Book


@settings(max_examples=12)
@given(stages=st.integers(1, 40), chunk=st.integers(1, 5000), seed=st.integers(0, 1000))
def test_a_book_computes_what_dense_masks_would(stages: int, chunk: int, seed: int) -> None:
    book, naive = filled(stages)
    dense = {name: torch.stack([m[name] for m in naive]).double() for name in SHAPES}  # [stages, *shape]
    for name in SHAPES:
        assert torch.equal(book.store[f"count/{name}"].double(), dense[name].sum(0))
        torch.testing.assert_close(book.mean()[name].double(), dense[name].mean(0), rtol=1e-7, atol=0)
    for t in range(stages):
        assert all(torch.equal(m, naive[t][name]) and m.dtype == torch.bool for name, m in book.read(t).items())

    generator = torch.Generator().manual_seed(seed)
    a = {name: torch.randn(6, *shape, dtype=torch.float64, generator=generator) for name, shape in SHAPES.items()}
    wanted = sum(torch.einsum("r...,t...->rt", a[name].flatten(1), dense[name].flatten(1)) for name in SHAPES)
    torch.testing.assert_close(book.dot(a, chunk=chunk), wanted, rtol=1e-12, atol=1e-12)

    some = torch.randperm(stages, generator=generator)[: 1 + stages // 2]
    torch.testing.assert_close(book.dot(a, some, chunk=chunk), wanted[:, some], rtol=1e-12, atol=1e-12)
    for name, mean in book.mean(some).items():
        torch.testing.assert_close(mean.double(), dense[name][some].mean(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("masks", [0, 1, 255, 300])
def test_counting_is_that_of_the_unpacked_masks_however_many_there_are(masks: int) -> None:
    shape = (3, 7)  # its last byte is padded
    bits = torch.randint(0, 256, (masks, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(masks))
    bits[:, -1] &= 31
    bits[:, 0] |= 128  # the highest of eight counts stays apart, too
    assert torch.equal(packing.count(bits, shape), packing.unpack(bits, shape).int().sum(0).int())
    entries = packing.unpack_into(torch.full((24 * masks + 5,), 7.0, dtype=torch.float64), bits)
    assert torch.equal(entries[:, :21].view(masks, *shape), packing.unpack(bits, shape).double()) and not entries[:, 21:].any()


def test_stages_are_found_by_index_in_whatever_order_they_were_written() -> None:
    book = MaskBank(SHAPES)
    for stage in (4, 0, 2):
        book.write(stage, drawn(stage))
    assert book.stages == [4, 0, 2]
    assert 2 in book and 1 not in book
    assert all(torch.equal(book.read(0)[name], m) for name, m in drawn(0).items())


def test_a_stage_is_written_once() -> None:
    book, _ = filled(2)
    before = {name: value.clone() for name, value in book.state_dict().items()}
    with pytest.raises(ValueError, match="stage 1"):
        book.write(1, drawn(9))
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())


def test_a_book_is_restored_into_an_empty_one() -> None:
    book, naive = filled(11)
    fresh = MaskBank(SHAPES)
    fresh.load_state_dict(book.state_dict())
    assert fresh.stages == list(range(11))
    assert all(torch.equal(fresh.read(7)[name], naive[7][name]) for name in SHAPES)
    fresh.write(11, drawn(11))
    assert fresh.stages == list(range(12)) and len(book.stages) == 11


def test_memory_is_an_eighth_of_a_byte_a_weight_and_stage_and_one_count() -> None:
    def size(book: MaskBank) -> int:
        return sum(t.numel() * t.element_size() for t in book.state_dict().values())

    assert size(filled(30)[0]) - size(filled(10)[0]) == 20 * (7 + 5 + 8)  # 54 and 35 bits, and a stage's index
    assert size(MaskBank(SHAPES)) == 4 * (54 + 35)
    assert MaskBank(SHAPES).bytes() == 7 + 5


def test_rewriting_a_page_leaves_the_book_as_if_it_had_been_written_so() -> None:
    shapes = {"a.weight": torch.Size([3, 5])}
    drawn = [{"a.weight": torch.rand(3, 5) < 0.5} for _ in range(4)]
    rewritten, written = MaskBank(shapes), MaskBank(shapes)
    for stage in range(3):
        rewritten.write(stage, drawn[stage])
        written.write(stage, drawn[3] if stage == 1 else drawn[stage])
    rewritten.rewrite(1, drawn[3])
    assert all(torch.equal(value, written.state_dict()[name]) for name, value in rewritten.state_dict().items())
    with pytest.raises(ValueError, match="written already"):
        rewritten.write(1, drawn[0])
