"""Whole units in nets of several kinds: which layers follow, which vectors belong, what cannot be cut is named."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.conv import LeNet5
from maskbench.backbones.mlp import MLP
from maskbench.backbones.normed_mlp import NormedMLP
from maskbench.backbones.resnet import ResNet
from maskbench.backbones.vgg import VGG
from maskbench.common.errors import UsageError
from maskbench.masks import scopes
from maskbench.masks.units import units


def lenet5() -> nn.Module:
    return LeNet5((1, 28, 28), 10, channels=[6, 16], widths=[120, 84])


def vgg() -> nn.Module:
    return VGG((3, 8, 8), 5, blocks=[1, 2], channels=[4, 6], width=1.0)


def resnet() -> nn.Module:
    return ResNet((3, 8, 8), 10, base=4, blocks=[1, 1])


SUMMED = ["conv", "stages.0.0.conv2", "stages.1.0.conv2", "stages.1.0.shortcut.conv"]


def test_a_chain_of_layers() -> None:
    with torch.device("meta"):  # nothing is computed
        net = MLP((1, 28, 28), 10, widths=[300, 100])
    found = units(net, masks.sites(net))
    assert found.follow == {"hidden.0.weight": ["hidden.1.weight"], "hidden.1.weight": ["head.weight"], "head.weight": []}
    assert found.vectors["hidden.1.weight"] == ["hidden.1.bias"]
    assert found.whole == ["head.weight"]
    partly = units(net, masks.sites(net, skip=["hidden.1"]))  # the columns of a dense layer stay
    assert partly.follow == {"hidden.0.weight": [], "head.weight": []}


def test_norms_belong_to_the_units_before_them() -> None:
    net = vgg()
    found = units(net, masks.sites(net))
    assert found.vectors["convs.1.weight"] == ["norms.1.weight", "norms.1.bias"]
    net = NormedMLP((8,), 3, widths=[7, 6])
    found = units(net, masks.sites(net))
    assert found.whole == ["head.weight"] and all(found.follow[name] for name in masks.sites(net)[:-1])


@pytest.mark.parametrize("make", [lenet5, vgg, resnet])
@pytest.mark.parametrize("training", [True, False])
def test_what_dead_units_hold_changes_no_output(make, training: bool) -> None:
    """The net without a unit's row, vectors and column answers as the net with these set to anything before the column."""
    torch.manual_seed(0)
    net = make().train(training)
    sites = masks.sites(net, skip=SUMMED if make is resnet else [])
    found, shapes = units(net, sites), {name: net.get_parameter(name).shape for name in sites}
    counts = scopes.counts(shapes, "unit", 0.5, whole=found.whole)
    ones = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    kept = scopes.best({n: torch.rand(s) for n, s in shapes.items()}, ones, "unit", counts, found.follow)
    assert scopes.living(kept, "unit") == counts

    vectors = found.masks(kept)
    tensors = dict(net.named_parameters())
    for name in vectors:
        tensors[name] = tensors[name] + torch.randn_like(tensors[name])
    x = torch.randn(4, 1 if make is lenet5 else 3, *([28, 28] if make is lenet5 else [8, 8]))
    cut = {name: tensors[name] * kept[name] for name in sites} | {name: tensors[name] * m for name, m in vectors.items()}
    seen: dict[str, Tensor] = {}
    hooks = [watch(net, name, seen) for before in sites for name in found.follow[before]]
    answer = functional_call(net, tensors | cut, (x,))
    for hook in hooks:
        hook.remove()
    assert hooks or make is resnet
    for before in sites:
        for after in found.follow[before]:
            alive = scopes.units_of(kept[before])
            alive = alive.repeat_interleave(shapes[after][1] // len(alive))
            assert not seen[after][:, ~alive].any() and seen[after][:, alive].any(), "dead units, and they alone, say nothing"
    whatever = cut | {name: tensors[name] for name in vectors if "bias" in name}  # as the columns out of them are cut, too
    if make is not resnet:
        torch.testing.assert_close(functional_call(net, tensors | whatever, (x,)), answer, rtol=0, atol=0)


def watch(net: nn.Module, weight: str, seen: dict[str, Tensor]):
    layer = net.get_submodule(weight.rpartition(".")[0])
    return layer.register_forward_pre_hook(lambda _, args: seen.update({weight: args[0].detach()}))


# ---- what cannot be cut


def test_a_residual_sum_is_refused_by_name() -> None:
    net = resnet()
    remedy = r"method.dense=\[conv,stages.0.0.conv2,stages.1.0.conv2,stages.1.0.shortcut.conv\]"
    with pytest.raises(UsageError, match=f"across the sum .* {remedy}"):
        units(net, masks.sites(net))
    assert units(net, masks.sites(net, skip=SUMMED)).whole == ["head.weight"]


class Odd(nn.Module):
    """Two layers with something between them."""

    def __init__(self, between, inputs: int = 6) -> None:
        super().__init__()
        self.first, self.head, self.between = nn.Linear(4, 6), nn.Linear(inputs, 2), between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.first(x)))


@pytest.mark.parametrize(
    ("between", "inputs", "words"),
    [
        (lambda x: torch.cat([x, x], 1), 12, r"cannot follow the units of first through cat\(\)"),
        (lambda x: x.flip(1), 6, r"through flip\(\)"),
        (lambda x: x.reshape(-1, 12), 12, "does not find the 6 units of first among the 12 inputs of head"),
        (lambda x: x if x.sum() > 0 else -x, 6, "torch.fx cannot trace it"),
    ],
)
def test_what_moves_units_is_refused(between, inputs: int, words: str) -> None:
    net = Odd(between, inputs)
    with pytest.raises(UsageError, match=words):
        units(net, masks.sites(net))


def test_layers_of_other_kinds_are_refused() -> None:
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="1 is a convolution in groups"):
        units(grouped, masks.sites(grouped))
    assert units(grouped, ["3.weight"]).whole == ["3.weight"]
