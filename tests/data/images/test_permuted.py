"""Permuted images: bijections that depend on seed and stage alone, and base images that are never copied."""

import pickle

import numpy as np
import pytest
import torch

from maskbench.data.images.permuted import Permute, permutation, permuted
from maskbench.data.images.whole_sets import load


def build(**changes):
    return permuted(
        **{
            "base": "synthetic", "stages": 4, "legacy": False, "val": 200, "normalize": "standard", "source": "auto",
            "root": "nowhere", "seed": 0, **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
def test_a_permutation_is_a_bijection_of_its_own(legacy):
    orders = [tuple(permutation(seed, i, legacy).tolist()) for seed in (0, 1000) for i in range(20)]
    assert all(sorted(order) == list(range(784)) for order in orders)
    assert len(set(orders)) == 40
    assert tuple(range(784)) not in orders  # the first stage is permuted too


def test_a_stage_keeps_its_permutation_however_many_there_are():
    few, many = build(stages=2), build(stages=30)
    assert [stage.fingerprint for stage in few] == [stage.fingerprint for stage in many[:2]]


def test_legacy_permutations_are_numpys():
    for seed, index in ((0, 0), (0, 7), (3, 2)):
        assert permutation(seed, index, True).tolist() == np.random.RandomState(index + seed).permutation(784).tolist()
    assert torch.equal(build(legacy=True, seed=3)[2].train.view.order, permutation(3, 2, True))


def test_the_view_permutes_pixels_and_nothing_else():
    stage = build()[1]
    x, y = stage.test.tensors()
    plain = load("synthetic", "nowhere").test_x[stage.test.rows]
    order = stage.test.view.order
    assert x.shape == plain.shape and torch.equal(x.flatten(1), plain.flatten(1)[:, order])
    assert torch.equal(x.flatten(1)[:, order.argsort()].view_as(plain), plain)
    assert torch.equal(stage.test.tensors(first=7)[0], x[:7])
    assert torch.equal(y, load("synthetic", "nowhere").test_y[stage.test.rows])


def test_300_stages_copy_no_images():
    made = build(stages=300)
    everything = load("synthetic", "nowhere")
    splits = [split for stage in made for split in (stage.train, stage.val, stage.test)]
    assert {split.x.data_ptr() for split in splits} == {everything.train_x.data_ptr(), everything.test_x.data_ptr()}
    assert len({split.y.data_ptr() for split in splits}) == len({split.rows.data_ptr() for split in splits}) == 3
    own = {stage.train.view.order.data_ptr(): stage.train.view.order.nbytes for stage in made}
    assert len(own) == 300 and sum(own.values()) == 300 * 784 * 8


def test_fingerprints_and_keys_tell_permutations_apart():
    prints = [stage.fingerprint for seed in (0, 1) for stage in build(seed=seed)]
    assert len(set(prints)) == 8 and prints[:4] == [stage.fingerprint for stage in build()]
    order = permutation(0, 0, False)
    assert Permute(order).key == Permute(order.clone()).key != Permute(order.flip(0)).key


def test_stages_can_be_pickled():
    stage = build()[3]
    back = pickle.loads(pickle.dumps(stage))
    assert back.fingerprint == stage.fingerprint and torch.equal(back.val.tensors()[0], stage.val.tensors()[0])
