"""Joined splits give the rows, targets and batches that a copy of all of them would give, and copy nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.common.errors import UsageError
from maskbench.data.images import permuted, split
from maskbench.data.images.streamed import Crop, Files, Streamed
from maskbench.data.joined import Joined, joined
from maskbench.data.stage import Split

MADE = {"base": "synthetic", "val": 20, "normalize": "standard", "source": "auto", "seed": 0}


def test_rows_of_the_same_images_are_one_split_of_them(tmp_path: Path) -> None:
    stages = split.split(**MADE, stages=5, labels="kept", order="random", root=tmp_path)
    parts = [stage.train for stage in stages[:3]]
    whole = joined(parts)
    assert type(whole) is Split and whole.x is parts[0].x
    x, y = (parts[0] + parts[1] + parts[2]).tensors()
    assert torch.equal(whole.tensors()[0], x) and torch.equal(whole.y, y)


def test_views_of_the_same_images_are_held_once(tmp_path: Path) -> None:
    stages = permuted.permuted(**MADE, stages=3, legacy=False, root=tmp_path)
    parts = [stage.train for stage in stages]
    whole, copied = joined(parts), parts[0] + parts[1] + parts[2]
    assert isinstance(whole, Joined) and len(whole) == len(copied)
    feed = whole.feed()
    assert {id(part.x) for part in feed.parts} == {id(parts[0].x)}
    index = torch.randperm(len(whole))[:50]
    for found, wanted in zip(feed.take(index), copied.feed().take(index), strict=True):
        assert torch.equal(found, wanted)
    assert torch.equal(torch.cat([x for x, _ in whole.batches(7, first=40)]), copied.tensors(first=40)[0])


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4), index=st.lists(st.integers(0, 99), min_size=1, max_size=12)
)  # fmt: skip
def test_any_rows_come_in_the_order_they_were_asked_for(sizes: list[int], index: list[int]) -> None:
    parts = [Split(torch.randn(n, 2), torch.arange(n) + 10 * i) for i, n in enumerate(sizes)]
    rows = torch.tensor(index) % sum(sizes)
    whole, x, y = joined(parts), torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts])
    for found in (whole.pick(rows), whole.feed().take(rows)):
        assert torch.equal(found[0], x[rows]) and torch.equal(found[1], y[rows])


def test_each_part_is_augmented_as_it_is_alone() -> None:
    class Plus:
        key = "plus"

        def __init__(self, amount: float) -> None:
            self.amount = amount

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.amount

    parts = [Split(torch.zeros(2, 1), torch.zeros(2).long(), augment=Plus(amount)) for amount in (1.0, 5.0)]
    whole = joined(parts)
    assert whole.feed().take(torch.tensor([3, 0]))[0].flatten().tolist() == [5.0, 1.0]
    assert not whole.tensors()[0].any(), "what is evaluated is not"


def test_one_alone_is_itself() -> None:
    alone = Split(torch.zeros(2, 1), torch.zeros(2).long())
    assert joined([alone]) is alone


def test_a_part_may_be_of_another_kind() -> None:
    class Turned:
        """Rows of a split in another order."""

        augment = None

        def __init__(self, split: Split) -> None:
            self.split, self.y = split, split.y.flip(0)

        def __len__(self) -> int:
            return len(self.y)

        def pick(self, index: torch.Tensor, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
            return self.split.pick(len(self) - 1 - index, device)

    plain = Split(torch.randn(4, 2), torch.arange(4))
    whole, rows = joined([plain, Turned(plain)]), torch.tensor([7, 0, 4, 3])
    for x, y in (whole.pick(rows), whole.feed().take(rows)):
        assert y.tolist() == [0, 0, 3, 3] and torch.equal(x, plain.x[y])


def test_files_of_one_folder_are_one_split_and_those_of_two_are_refused(tmp_path: Path) -> None:
    def streamed(files: Files, *rows: int) -> Streamed:
        return Streamed(x=files, y=torch.tensor(rows), rows=torch.tensor(rows), crop=Crop(8, 8), scale=None)

    one, other = (Files(tmp_path / name, np.array([b"a", b"b", b"c"])) for name in ("one", "other"))
    whole = joined([streamed(one, 2, 0), streamed(one, 1)])
    assert type(whole) is Streamed and whole.rows.tolist() == whole.y.tolist() == [2, 0, 1]
    with pytest.raises(UsageError, match="fit in memory"):
        joined([streamed(one, 0), streamed(other, 0)])
