"""Multiplications, parameters and cost, against exact counts of the specification's nets."""

from math import prod

import pytest
import torch
from torch import nn

from maskbench import masks
from maskbench.backbones.conv import ConvK, LeNet5
from maskbench.backbones.mlp import MLP
from maskbench.backbones.redundant import Redundant
from maskbench.backbones.resnet import ResNet
from maskbench.masks.distributions import layer_counts
from maskbench.masks.places import positions
from maskbench.tasks.metrics import accounting

IMAGE = (1, 28, 28)
NETS = {
    "lenet_300_100": (lambda: MLP(IMAGE, 10, widths=[300, 100]), 266_200),
    "lenet5": (lambda: LeNet5(IMAGE, 10, channels=[6, 16], widths=[120, 84]), 416_520),
    "conv6": (lambda: ConvK(IMAGE, 10, channels=[64, 64, 128, 128, 256, 256], widths=[256, 256]), 116_715_008),
}


def saved(net: nn.Module, kept: dict[str, int]) -> dict[str, float | None]:
    shapes = {name: tuple(net.get_parameter(name).shape) for name in masks.maskable(net)}
    return accounting.savings(shapes, sum(p.numel() for p in net.parameters()), positions(net, IMAGE), kept)


@pytest.mark.parametrize("name", NETS)
def test_macs_of_the_dense_nets(name: str) -> None:
    make, macs = NETS[name]
    numbers = saved(make(), {})
    assert numbers["macs_dense"] == numbers["macs_sparse"] == macs
    assert numbers["speedup_theoretical"] == numbers["compression"] == numbers["compression_weights"] == 1.0


@pytest.mark.parametrize(("keep", "weights", "all_of_it"), [(0.05, 20.0, 19.43), (0.005, 200.0, 153.1)])
def test_compression_of_lenet(keep: float, weights: float, all_of_it: float) -> None:
    net = NETS["lenet_300_100"][0]()
    count = masks.kept_count(keep, 266_200)
    kept = {"hidden.0.weight": count - 60, "hidden.1.weight": 50, "head.weight": 10}  # in a linear net any share-out does
    numbers = saved(net, kept)
    assert numbers["compression_weights"] == weights == numbers["speedup_theoretical"]
    assert round(numbers["compression"], 1 if keep < 0.05 else 2) == all_of_it


@pytest.mark.parametrize(
    ("name", "rule", "speedup"),
    [
        ("lenet5", "uniform", 10.0), ("lenet5", "erk", 3.4), ("lenet5", "er", 1.15),
        ("conv6", "uniform", 10.0), ("conv6", "erk", 11.9), ("conv6", "er", 5.0),
    ],
)  # fmt: skip
def test_equal_density_is_not_equal_cost(name: str, rule: str, speedup: float) -> None:
    net = NETS[name][0]()
    shapes = {site: net.get_parameter(site).shape for site in masks.sites(net)}
    kept = layer_counts(shapes, 0.1, rule)
    assert saved(net, kept)["speedup_theoretical"] == pytest.approx(speedup, abs=0.05 if speedup > 2 else 0.005)
    assert sum(kept.values()) == masks.kept_count(0.1, sum(map(prod, shapes.values())))


def test_what_is_not_masked_stays_whole_and_nothing_left_is_undefined() -> None:
    net = NETS["lenet_300_100"][0]()
    numbers = saved(net, {"hidden.0.weight": 23_520})
    assert numbers["macs_sparse"] == 23_520 + 30_000 + 1_000 and numbers["compression_weights"] == 10.0
    empty = saved(net, {"hidden.0.weight": 0, "hidden.1.weight": 0, "head.weight": 0})
    assert empty["speedup_theoretical"] is None and empty["compression_weights"] is None
    assert empty["compression"] == 266_610 / 410


def test_a_convolution_counts_its_places() -> None:
    """Residual nets: every place of a convolution's output, strides and shortcuts included; against sums by hand."""
    net = ResNet((3, 32, 32), 10, base=16, blocks=[3, 3, 3], shortcut="pad")
    places = positions(net, (3, 32, 32))
    macs = sum(net.get_parameter(name).numel() * places[name] for name in places)
    block = [6 * 9 * 16 * 16 * 32 * 32, 9 * 32 * (16 + 5 * 32) * 16 * 16, 9 * 64 * (32 + 5 * 64) * 8 * 8]
    assert macs == 9 * 3 * 16 * 32 * 32 + sum(block) + 640 == 40_551_040
    assert all(p.device.type == "cpu" for p in net.parameters()) and net.training


def test_other_layers() -> None:
    up = nn.Sequential(nn.ConvTranspose2d(3, 5, 2, stride=2), nn.Conv2d(5, 4, 3, groups=1), nn.Flatten(), nn.Linear(4 * 36, 2))
    assert list(positions(up, (3, 4, 4)).values()) == [16, 36, 1]
    twice = nn.Linear(4, 4)
    assert list(positions(nn.Sequential(twice, nn.ReLU(), twice), (4,)).values()) == [2]
    rows = positions(nn.Linear(4, 3), (7, 4))  # a layer over a sequence of 7
    assert list(rows.values()) == [7]
    assert set(positions(Redundant(6, 3, True, 2, True), (6,)).values()) == {1}
    assert positions(nn.LSTM(4, 3), (7, 4)) is None
    assert accounting.savings({"w": (3, 4)}, 12, None, {"w": 6})["speedup_theoretical"] is None


def test_the_cost_of_a_step() -> None:
    assert accounting.step_cost(0.05, fixed=True) == 0.05
    assert accounting.step_cost(0.05, fixed=False) == pytest.approx(1.1 / 3)


def test_positions_hold_for_inputs_of_the_nets() -> None:
    net = NETS["conv6"][0]()
    places = positions(net, IMAGE)
    assert list(places.values()) == [784, 784, 196, 196, 49, 49, 1, 1, 1]
    assert prod(net(torch.zeros(1, *IMAGE)).shape) == 10
