"""Masksembles on MNIST, three epochs, two widths; its masks and its two ends: masksembles.md section 9."""

import numpy as np
import pytest
import torch

from maskbench.backbones.conv import LeNet5
from maskbench.methods.uncertainty import overlap
from maskbench.methods.uncertainty.masksembles import Masksembles

pytestmark = pytest.mark.slow

OOD = "fashion_mnist"


@pytest.fixture(scope="module")
def same(runs):
    return runs("experiment=masksembles/mnist")


@pytest.fixture(scope="module")
def wide(runs):
    return runs("experiment=masksembles/mnist_wide")


@pytest.mark.parametrize("scale", [1.1, 1.5, 2, 3, 4, 6])
@pytest.mark.parametrize("members", [4, 8])
@pytest.mark.parametrize("columns, tolerance", [(50, 0.03), (100, 0.03), (500, 0.02), (800, 0.02)])
def test_masks_have_the_formulas_width_and_overlap(columns, tolerance, members, scale):
    ones = overlap.ones_of(columns, members, scale)
    line = overlap.positions(columns, members, ones)
    expected = line * (1 - (1 - ones / line) ** members)  # E[C] = K S (1 - (1 - 1/S)^M), K S = line
    assert expected == pytest.approx(columns, abs=1)
    widths = [overlap.scattered(members, ones, line, np.random.default_rng(seed)).shape[1] for seed in range(300)]
    assert np.mean(widths) == pytest.approx(expected, abs=0.01 + 4 * np.std(widths) / 300**0.5)  # as drawn, before any repair
    drawn = [overlap.repaired(columns, members, scale, np.random.default_rng(seed)) for seed in range(5)]
    assert all(masks.shape == (members, columns) and masks.any(0).all() for masks in drawn)
    assert np.mean([overlap.mean_iou(masks) for masks in drawn]) == pytest.approx(1 / (2 * scale - 1), abs=tolerance)


def test_same_width(same):
    assert 100 * same.mean("accuracy") == pytest.approx(98.41, abs=0.3)
    assert same.mean("nll") == pytest.approx(0.0519, abs=0.008)
    assert 100 * same.mean(f"auroc_entropy/{OOD}") == pytest.approx(98.1, abs=0.8)


def test_twice_as_wide(wide):
    assert 100 * wide.mean("accuracy") == pytest.approx(99.00, abs=0.3)
    assert wide.mean("nll") == pytest.approx(0.0332, abs=0.005)
    assert 100 * wide.mean(f"auroc_entropy/{OOD}") == pytest.approx(99.28, abs=0.5)


def test_wider_is_better(same, wide):
    assert wide.mean("nll") < same.mean("nll")
    assert wide.mean(f"auroc_entropy/{OOD}") > same.mean(f"auroc_entropy/{OOD}")


def test_the_mean_prediction_beats_the_mean_member_on_every_seed(same, wide):
    for result in [*same, *wide]:
        assert result["metrics"]["accuracy"] > result["metrics"]["member_accuracy"]
        assert result["metrics"]["nll"] < result["metrics"]["member_nll"]


def test_one_end_is_the_plain_net():
    torch.manual_seed(0)
    net, x = LeNet5((1, 28, 28), 10, channels=[16, 32], widths=[128], init="torch", keep_size=True), torch.randn(7, 1, 28, 28)
    plain = net(x)
    method = Masksembles(net, members=4, scale=1.0)
    assert all(torch.equal(method.net(x), plain) for _ in range(2))
    for number in range(4):
        assert torch.equal(torch.func.functional_call(net, method.member(number), (x,)), plain)


def test_the_other_end_is_thin_nets_side_by_side():
    torch.manual_seed(0)
    net, x = LeNet5((1, 28, 28), 10, channels=[16, 32], widths=[128], init="torch", keep_size=True), torch.randn(7, 1, 28, 28)
    method = Masksembles(net, members=4, scale=float("inf"))
    assert method.extra_metrics()["mask_iou"] == 0
    for number in range(4):
        thin = LeNet5((1, 28, 28), 10, channels=[4, 8], widths=[32], init="torch", keep_size=True)
        thin.load_state_dict(method.subnetwork(number))
        whole = torch.func.functional_call(net, method.member(number), (x,))
        torch.testing.assert_close(thin(x), whole, rtol=0, atol=1e-5)
