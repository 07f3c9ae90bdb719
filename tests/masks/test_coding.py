"""The coding of masks: decoded as they were, in exactly the bytes that are stated, and by the specification's formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench import masks
from maskbench.masks import coding
from maskbench.masks.stores import MaskBank


def sizes(drawn: torch.Tensor) -> coding.MaskBytes:
    """Of masks [stages, n] of one layer."""
    return coding.mask_bytes({"w": torch.stack([masks.pack(m) for m in drawn])}, {"w": drawn[0].numel()})


def alike(stages: int, n: int, density: float, change: float, seed: int) -> torch.Tensor:
    """Masks that go from one to the next by redrawing a share of their entries."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.rand(n, generator=generator) < density]
    for _ in range(stages - 1):
        fresh = torch.rand(n, generator=generator) < density
        drawn.append(torch.where(torch.rand(n, generator=generator) < change, fresh, drawn[-1]))
    return torch.stack(drawn)


LAWS = st.tuples(
    st.integers(1, coding.GROUP), st.integers(0, 300), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31)
)  # fmt: skip


@given(LAWS)
def test_what_is_encoded_is_decoded_and_takes_the_bytes_that_are_stated(law: tuple) -> None:
    drawn = alike(*law)
    code = coding.encode(drawn)
    assert torch.equal(coding.decode(code, len(drawn), drawn.shape[1:]), drawn)
    if drawn.shape[1]:
        packed, huffman, entropy = sizes(drawn)
        assert len(code) == huffman and packed == len(drawn) * -(-drawn.shape[1] // 8)
        assert entropy <= huffman


@given(LAWS)
def test_code_words_are_huffmans(law: tuple) -> None:
    """Within a bit a weight of the entropy, and none could be shorter: Kraft's sum is 1."""
    _, n, *_ = law
    if not n:
        return
    drawn = alike(*law)
    f = torch.bincount((drawn.long() * 2 ** torch.arange(len(drawn))[:, None]).sum(0), minlength=2 ** len(drawn)).numpy()
    lengths = coding.code_lengths(f)
    bits, h = sum(int(f[v]) * length for v, length in lengths.items()), sum(x * math.log2(n / x) for x in f[f > 0].tolist())
    assert set(lengths) == set(f.nonzero()[0])
    if len(lengths) > 1:
        assert h - 1e-6 <= bits < h + n and sum(2.0**-length for length in lengths.values()) == 1


def test_by_hand() -> None:
    """Symbols 0 (five times), 3, 1 (once each): words of 1, 2 and 2 bits, 9 bits, so 2 bytes, and a table of 2 + 3 * 2."""
    drawn = torch.zeros(2, 7, dtype=torch.bool)
    drawn[:, 2], drawn[0, 4] = True, True
    assert sizes(drawn) == (2, 2 + 8, math.ceil((5 * math.log2(7 / 5) + 2 * math.log2(7)) / 8))
    assert coding.encode(drawn) == bytes([3, 0, 0, 1, 1, 2, 3, 2]) + bytes([0b00110100, 0b00000000])


def test_one_mask_alone_saves_nothing_and_equal_ones_take_one() -> None:
    n = 4000
    for density in (0.5, 0.1, 0.01):
        alone = alike(1, n, density, 0, seed=0)
        assert sizes(alone).huffman == n // 8 + 2 + 2 * 2
        same = alone.repeat(5, 1)
        assert sizes(same).huffman == n // 8 + 2 + 2 * 2 and sizes(same).packed == 5 * n // 8


def test_more_than_eight_masks_are_coded_by_groups_the_last_of_them_whole() -> None:
    drawn = alike(11, 500, 0.3, 0.2, seed=1)
    parts = [sizes(part) for part in (drawn[:3], drawn[3:])]
    assert sizes(drawn) == tuple(map(sum, zip(*parts, strict=True)))
    with pytest.raises(ValueError, match="1 to 8 masks"):
        coding.encode(drawn)


def test_a_bank_is_measured_as_it_lies() -> None:
    bank, drawn = MaskBank({"a": torch.Size([3, 5]), "b": torch.Size([11])}), alike(3, 26, 0.4, 0.3, seed=2)
    for stage, m in enumerate(drawn):
        bank.write(stage, {"a": m[:15].view(3, 5), "b": m[15:]})
    of_bank = coding.mask_bytes({name: bank.store[f"bits/{name}"] for name in "ab"}, {"a": 15, "b": 11})
    assert of_bank.packed == 3 * (2 + 2) == 3 * bank.bytes()
    assert of_bank.huffman == len(coding.encode(drawn[:, :15])) + len(coding.encode(drawn[:, 15:]))


def test_a_long_code_is_decoded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "CHUNK", 7)
    drawn = alike(5, 400, 0.2, 0.5, seed=3)
    assert torch.equal(coding.decode(coding.encode(drawn), 5, (20, 20)), drawn.view(5, 20, 20))


@given(st.binary(max_size=60), st.integers(1, 8), st.integers(0, 60))
def test_bytes_that_are_no_code_are_refused_or_decode_to_something(code: bytes, stages: int, n: int) -> None:
    try:
        assert coding.decode(code, stages, (n,)).shape == (stages, n)
    except ValueError as error:
        assert "these bytes are" in str(error)


def test_a_damaged_code_is_refused() -> None:
    code = coding.encode(alike(4, 100, 0.3, 0.3, seed=4))
    for wrong in (code[:-1], code + b"\0", b"", code[:3], code[:2] + b"\0\xff" + code[4:]):
        with pytest.raises(ValueError, match="these bytes are no code of masks"):
            coding.decode(wrong, 4, (100,))
    with pytest.raises(ValueError, match="a code of more than 2 masks"):
        coding.decode(code, 2, (100,))
