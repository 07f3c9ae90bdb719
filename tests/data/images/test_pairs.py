"""Image pairs: few target images by a seeded draw that all methods share, on the source's scale, under names of their own."""

import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.images import pairs
from maskbench.data.images.whole_sets import STANDARD, load

KEYS = {
    "base": "synthetic", "target_base": None, "source_classes": None, "target_classes": None, "degrees": 0.0, "n_target": 5,
    "val": 100, "normalize": "standard", "source": "auto", "root": "nowhere", "seed": 0,
}  # fmt: skip


def pair(**changes):
    return pairs.pair(**KEYS | changes)


@pytest.mark.parametrize("n", [1, 5, 20])
def test_as_many_of_each_class_and_smaller_ones_are_parts(n: int) -> None:
    _, few = pair(n_target=n)
    _, many = pair(n_target=50)
    assert few.train.y.bincount().tolist() == [n] * 10
    assert set(few.train.rows.tolist()) <= set(many.train.rows.tolist())


def test_the_source_does_not_depend_on_the_targets_size() -> None:
    assert pair(n_target=1)[0].fingerprint == pair(n_target=50)[0].fingerprint
    assert pair(n_target=1)[1].fingerprint != pair(n_target=50)[1].fingerprint
    assert torch.equal(pair()[1].train.rows, pair()[1].train.rows)
    assert not torch.equal(pair()[1].train.rows, pair(seed=1)[1].train.rows)


def test_no_target_image_validates_or_tests() -> None:
    _, target = pair(n_target=20)
    assert not set(target.train.rows.tolist()) & set(target.val.rows.tolist())


def test_classes_are_dealt_and_numbered_anew() -> None:
    source, target = pair(source_classes=[0, 1, 2, 3, 4], target_classes=[9, 5, 6, 7, 8])
    assert source.classes[0] == "synthetic 0" and target.classes[0] == "synthetic 9"
    assert source.outputs == target.outputs == 5 and source.label_space != target.label_space
    labels = load("synthetic", "nowhere").train_y[target.train.rows]
    assert all([9, 5, 6, 7, 8][y] == label for y, label in zip(target.train.y.tolist(), labels.tolist(), strict=True))
    assert set(source.test.y.unique().tolist()) == set(range(5))


def test_the_same_images_turned_ask_for_the_same() -> None:
    source, target = pair(degrees=90.0)
    assert source.label_space == target.label_space
    upright = load("synthetic", "nowhere").train_x[target.train.rows[:3]]
    assert torch.allclose(target.train.tensors(first=3)[0], upright.rot90(1, (2, 3)), atol=1e-4)


def test_another_data_set_is_seen_on_the_sources_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's own mean and deviation play no part."""
    monkeypatch.setattr(pairs, "load", lambda base, *how: load("synthetic", *how))
    _, target = pair(target_base="synthetic_other")
    x, _ = target.train.tensors(first=3)
    own = load("synthetic", "nowhere", "unit").train_x[target.train.rows[:3]]
    scale = STANDARD["synthetic"]
    assert torch.allclose(x, (own - scale.mean[0]) / scale.deviation[0], atol=1e-6)
    assert target.classes[0] == "synthetic_other 0"


@pytest.mark.parametrize(
    "changes",
    [{"source_classes": [0, 0]}, {"source_classes": [3]}, {"target_classes": [0, 10]}, {"n_target": 1000}],
)
def test_what_does_not_work_is_refused(changes: dict) -> None:
    with pytest.raises(UsageError, match=f"data.{next(iter(changes))}="):
        pair(**changes)


def test_a_source_needs_as_many_outputs_as_the_target() -> None:
    with pytest.raises(UsageError, match="give the source as many"):
        pair(source_classes=[0, 1], target_classes=[2, 3, 4])


def test_images_of_other_shapes_make_no_pair() -> None:
    with pytest.raises(UsageError, match="target_base=synthetic_cifar10"):
        pair(target_base="synthetic_cifar10")


def test_a_target_that_is_no_data_set_is_refused_by_its_key() -> None:
    with pytest.raises(UsageError, match="data.target_base: there is no data set 'nothing'"):
        pair(target_base="nothing")
