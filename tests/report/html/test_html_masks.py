"""Masks are counted as they lie on disk, packed, and the counts are those of the masks that were saved."""

import base64
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench import masks
from maskbench.report.html import mask_file


@given(
    stages=st.integers(1, 5),
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_counts_of_packed_masks_are_those_of_the_masks(tmp_path_factory, stages: int, shapes: list, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    made = {f"{s}/layer{i}": torch.rand(shape, generator=draw) < 0.4 for s in range(stages) for i, shape in enumerate(shapes)}
    path = tmp_path_factory.mktemp("masks") / "masks.safetensors"
    masks.save(path, made)
    found = mask_file.counts(path)
    assert found["stages"] == [str(s) for s in range(stages)] and found["sizes"] == [a * b for a, b in shapes]
    assert found["kept"] == [[int(made[f"{s}/layer{i}"].sum()) for i in range(len(shapes))] for s in range(stages)]
    flat = [torch.cat([made[f"{s}/layer{i}"].flatten() for i in range(len(shapes))]) for s in range(stages)]
    assert found["both"] == [[int((flat[i] & flat[j]).sum()) for j in range(i + 1)] for i in range(stages)]


def test_counting_needs_no_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    words = torch.arange(64, dtype=torch.int64).numpy().view("uint64")
    expected = sum(bin(i).count("1") for i in range(64))
    assert mask_file.popcount(words) == expected
    monkeypatch.delattr("numpy.bitwise_count", raising=False)
    assert mask_file.popcount(words) == expected


def test_stages_are_compared_over_the_layers_all_have_and_level_10_follows_9(tmp_path: Path) -> None:
    made = {f"{s}/shared": torch.ones(3, 5, dtype=torch.bool) for s in range(11)} | {"0/own": torch.ones(4, dtype=torch.bool)}
    masks.save(tmp_path / "m", made)
    found = mask_file.counts(tmp_path / "m")
    assert found["stages"][-2:] == ["9", "10"] and [found["layers"][i] for i in found["compared"]] == ["shared"]
    assert found["kept"][1] == [None, 15]


def test_the_picture_of_the_input_counts_connections_of_each_pixel(tmp_path: Path) -> None:
    kept = torch.zeros(20, 64, dtype=torch.bool)
    kept[:10, 9] = True
    kept[:5, 63] = True
    masks.save(tmp_path / "m", {"0/hidden.weight": kept, "0/head.weight": torch.ones(10, 20, dtype=torch.bool)})
    found = mask_file.counts(tmp_path / "m")["input"]
    share = base64.b64decode(found["share"])
    assert (found["layer"], found["side"], found["most"]) == ("hidden.weight", 8, 10)
    assert (share[9], share[63], sum(share)) == (255, 128, 255 + 128)


def test_a_damaged_mask_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"no masks here at all")
    assert mask_file.counts(tmp_path / "m") is None and mask_file.counts(tmp_path / "none") is None
