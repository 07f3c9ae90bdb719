"""Compaction: exact sizes, equal outputs for whatever mask, constants in biases, what stays and why."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from maskbench.backbones.compact.smaller import Compacted, compact, largest_difference
from maskbench.backbones.compact.source import read, source
from maskbench.backbones.conv import ConvNet
from maskbench.backbones.few_shot import Conv4
from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.mlp import MLP
from maskbench.backbones.normed_mlp import NormedMLP
from maskbench.backbones.resnet import ResNet
from maskbench.backbones.torchvision_nets import ImageNetResNet
from maskbench.backbones.vgg import VGG
from maskbench.common.errors import UsageError


def lenet() -> MLP:
    torch.manual_seed(0)
    return MLP((1, 28, 28), 10, widths=[300, 100])


def conv(padding: int = 1, pool_after: tuple[int, ...] = (1,)) -> ConvNet:
    return ConvNet(
        (2, 6, 6), 5, channels=[4, 5], pool_after=pool_after, kernel=3, padding=[padding] * 2, widths=[6], bias=True,
        init="kaiming_normal",
    )  # fmt: skip


@torch.no_grad()
def thin(net: nn.Module, keep: float, seed: int) -> nn.Module:
    """A random mask over every matrix; biases, norms and their statistics drawn, some of a norm's gains 0."""
    draw = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.copy_(torch.randn(p.shape, generator=draw) * (torch.rand(p.shape, generator=draw) < (keep if p.ndim > 1 else 0.8)))
    for name, value in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
    return net.eval()


@torch.no_grad()
def held(net: nn.Module, shape: tuple[int, ...]) -> Compacted:
    """The smaller net: outputs equal to 1e-5 of the largest and every arg-max the same, its source too; nothing is left to do."""
    x = torch.randn(20, *shape, generator=torch.Generator().manual_seed(1))
    small, wanted = compact(net, x), net(x)
    for got in (small.net(x), read(source(small.net, "A net."), small.net.state_dict())(x)):
        assert largest_difference(got, wanted) <= 1e-5 * max(1.0, float(wanted.abs().max()))
        # where two classes are as good as equal, rounding chooses
        top = wanted.gather(1, got.argmax(1, keepdim=True)).squeeze(1)
        assert largest_difference(top, wanted.amax(1)) <= 1e-5 * max(1.0, float(wanted.abs().max()))
    again = compact(small.net, x)
    assert again.weights[0] == again.weights[1] and again.biases[0] == again.biases[1]
    return small


# ---- sizes


@pytest.mark.parametrize(
    ("units", "weights", "biases"), [((150, 50), 125_600, 210), ((60, 20), 48_440, 90), ((30, 10), 23_920, 50)]
)
def test_whole_units_of_lenet_leave_a_net_of_the_specified_size(units: tuple[int, int], weights: int, biases: int) -> None:
    net = lenet()
    for layer, after, keep in zip([*net.hidden], [net.hidden[1], net.head], units, strict=True):
        dead = torch.randperm(layer.out_features)[keep:]
        with torch.no_grad():
            layer.bias.normal_()
            layer.weight[dead], layer.bias[dead], after.weight[:, dead] = 0, 0, 0
    small = held(net, (1, 28, 28))
    assert (small.weights, small.biases) == ((266_200, weights), (410, biases))
    plain = MLP((1, 28, 28), 10, widths=units)  # the same names: it is the plain backbone of those widths
    plain.load_state_dict(small.net.state_dict())


def test_a_dense_net_stays_as_it_is() -> None:
    small = held(lenet(), (1, 28, 28))
    assert small.weights == (266_200, 266_200) and small.whole == []


# ---- equal outputs, whatever the mask


@given(keep=st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.8]), seed=st.integers(0, 10**6), tanh=st.booleans())
def test_mlps_under_random_masks(keep: float, seed: int, tanh: bool) -> None:
    held(thin(MLP((1, 4, 4), 5, widths=[9, 7, 6], activation="tanh" if tanh else "relu"), keep, seed), (1, 4, 4))


@given(
    keep=st.sampled_from([0.01, 0.05, 0.15, 0.5]),
    seed=st.integers(0, 10**6),
    padding=st.integers(0, 1),
    pool=st.sampled_from([(), (1,)]),
)
def test_convolutions_under_random_masks(keep: float, seed: int, padding: int, pool: tuple[int, ...]) -> None:
    held(thin(conv(padding, pool), keep, seed), (2, 6, 6))


@pytest.mark.sample(2)
@pytest.mark.parametrize("keep", [0.02, 0.1, 0.4])
@pytest.mark.parametrize(
    "make",
    [
        lambda: NormedMLP((1, 6, 6), 5, widths=[12, 9]),
        lambda: VGG((3, 8, 8), 5, blocks=[2, 1], channels=[6, 8]),
        lambda: VGG((3, 8, 8), 5, blocks=[2, 1], channels=[6, 8], affine=False),
        lambda: ResNet((3, 8, 8), 5, base=4, blocks=[1, 1]),
        lambda: ResNet((3, 8, 8), 5, base=4, blocks=[1, 1], shortcut="pad"),
    ],
    ids=["normed_mlp", "vgg", "vgg, no affine", "resnet", "resnet, pad"],
)
def test_nets_with_norms(make: Callable, keep: float) -> None:
    net = make()
    shape = (1, 6, 6) if isinstance(net, NormedMLP) else (3, 8, 8)
    for seed in range(3):
        small = held(thin(net, keep, seed), shape)
    if keep < 0.05:
        assert small.weights[1] < small.weights[0]


@pytest.mark.full
def test_nets_of_torchvision() -> None:
    net = thin(ImageNetResNet((3, 32, 32), 5, block="basic", layers=[1, 1, 1, 1]), 0.01, 0)
    small = held(net, (3, 32, 32))
    assert small.weights[1] < small.weights[0] and small.whole[0] == "add"


# ---- constants


def test_a_unit_without_inputs_is_a_constant_in_the_next_bias() -> None:
    net = thin(MLP((3,), 2, widths=[4]), 1.0, 0)
    with torch.no_grad():
        net.hidden[0].weight[:] = torch.randn(4, 3)
        net.hidden[0].weight[1:3] = 0
        net.hidden[0].bias[:] = torch.tensor([0.1, 0.7, -0.4, 0.2])
        before = net.head.bias + 0.7 * net.head.weight[:, 1]
    small = held(net, (3,))
    assert small.layers[0].after == (2, 3) and torch.allclose(small.net.get_parameter("head.bias"), before)


def test_a_bias_is_made_where_there_was_none() -> None:
    net = thin(NormedMLP((5,), 3, widths=[6, 4], bias=False), 1.0, 3)
    with torch.no_grad():
        net.hidden[0].weight[2:] = 0
        net.norms[0].bias[2:], net.norms[0].weight[:] = 1, 1
    small = held(net, (5,))
    assert small.layers[0].after == (2, 5) and small.net.get_submodule("hidden.1").bias is not None


def test_constants_before_a_padded_convolution_become_one_unit() -> None:
    net = thin(conv(padding=1), 1.0, 0)
    with torch.no_grad():
        net.convs[0].weight[1:] = 0
        net.convs[0].bias[:] = torch.tensor([0.1, 0.5, 0.9, -0.3])  # after ReLU: one that moves, .5, .9 and 0
    assert held(net, (2, 6, 6)).layers[0].after == (2, 2)
    net.convs[1].padding = (0, 0)
    net.hidden[0] = nn.Linear(5 * 2 * 2, 6)
    assert held(net, (2, 6, 6)).layers[0].after == (1, 2)


def test_gains_of_0_cut_units_off_and_others_stay_as_a_product() -> None:
    net = lenet()
    net.gates[0].gain = (torch.arange(300) % 2).float()
    net.gates[1].gain = (torch.arange(100) % 2).float() * 1.5
    small = held(net, (1, 28, 28))
    assert [layer.after[0] for layer in small.layers] == [150, 50, 10]
    assert [name for name, _ in small.net.named_buffers()] == ["gates_1_gain"]


def test_a_net_that_no_input_reaches_is_its_constants() -> None:
    net = thin(MLP((3,), 4, widths=[5, 4]), 0.0, 0)
    small = held(net, (3,))
    assert [layer.after for layer in small.layers] == [(1, 1), (1, 1), (4, 1)]


def test_pixels_and_places_that_no_weight_stands_on_are_left_out() -> None:
    net = lenet()
    with torch.no_grad():
        net.hidden[0].weight[:, ::2] = 0
    small = held(net, (1, 28, 28))
    assert small.layers[0].after == (300, 392) and dict(small.net.named_buffers())["hidden_0_inputs"].tolist()[:2] == [1, 3]


# ---- what stays


def test_channels_of_a_residual_sum_stay_and_are_named() -> None:
    net = thin(ResNet((3, 8, 8), 5, base=4, blocks=[2]), 1.0, 0)
    with torch.no_grad():
        for name in ("conv", "stages.0.0.conv1", "stages.0.0.conv2"):
            net.get_submodule(name).weight[2:] = 0
        net.stages[0][0].norm1.bias[2:] = 0
    layers = {layer.name: layer for layer in held(net, (3, 8, 8)).layers}
    assert layers["stages.0.0.conv1"].after == (2, 4) and not layers["stages.0.0.conv1"].mixed
    assert layers["conv"].after == (4, 3) and layers["conv"].mixed == layers["stages.0.0.conv2"].mixed == "add"


class Odd(nn.Module):
    """A net whose parts are called twice, shared, grouped, or mixed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Linear(6, 6), nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.tensor([2.0]))
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x.view(x.size(0), -1)))
        x = F.relu(self.twice(F.relu(self.twice(x))))
        return self.head(self.drop(x.softmax(-1) * self.scale))


def test_what_is_called_twice_or_mixes_units_keeps_them_all() -> None:
    small = held(thin(Odd(), 0.3, 0), (2, 3))
    assert [layer.after[0] for layer in small.layers] == [6, 3]  # `twice` is none of the layers that can be cut
    assert small.whole == ["Linear twice", "softmax", "mul"]


def test_layers_of_another_kind_stay_as_they_are() -> None:
    for shape in ((7,), (3, 7)):
        small = held(thin(FoldMLP(shape, 2, widths=[5]), 0.3, 0), shape)
        assert small.layers == [] and "baddbmm" in small.whole


class Branching(Odd):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else self.head(x)


def test_a_net_that_branches_on_its_inputs_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="Branching cannot be followed"):
        compact(Branching(), torch.randn(4, 2, 3))


def test_a_norm_by_the_rows_at_hand_is_refused() -> None:
    for net in (Conv4((1, 8, 8), 3, channels=[4, 4]), VGG((3, 8, 8), 5, blocks=[1], channels=[4], norm="batch_no_stats")):
        with pytest.raises(UsageError, match=f"{type(net).__name__} answers by the statistics of the rows at hand"):
            compact(net, torch.randn(4, *((1, 8, 8) if isinstance(net, Conv4) else (3, 8, 8))))
