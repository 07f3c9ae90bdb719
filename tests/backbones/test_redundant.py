"""Redundant layers: r random links in the place of each weight, counted, drawn and pruned as layers of their own."""

import torch
from torch.nn.functional import relu

from maskbench import masks
from maskbench.backbones.conv import ConvK, LeNet5
from maskbench.backbones.mlp import MLP
from maskbench.backbones.redundant import Redundant
from maskbench.methods.prune.edge_popup import EdgePopup


def test_a_redundant_layer_is_sums_over_its_links() -> None:
    layer, x = Redundant(3, 2, False, 4, between=True), torch.randn(5, 3)
    u, v = layer.links.weight.view(3, 4), layer.joins.weight.view(2, 3, 4)
    assert torch.allclose(layer(x), torch.einsum("bik,oik->bo", relu(x[:, :, None] * u), v), atol=1e-6)
    layer.between = False
    assert torch.allclose(layer(x), x @ (u * v).sum(-1).T, atol=1e-6), "without the ReLU it is a linear map"


def test_experiment_2_has_the_authors_counts_and_initial_weights() -> None:
    """784-500-10 with five links: 5 * (397,000 + 784 + 500) weights; N(0, 2) links, N(0, 2 / inputs) joins."""
    net = MLP((1, 28, 28), 10, widths=[500], bias=False, init="kaiming_normal", redundancy=5)
    w = {name: net.get_parameter(name) for name in masks.sites(net)}
    assert sum(v.numel() for v in w.values()) == 1_991_420
    assert list(w) == [f"{layer}.{part}.weight" for layer in ("hidden.0", "head") for part in ("links", "joins")]
    assert abs(w["hidden.0.links.weight"].std().item() - 2**0.5) < 0.05
    assert abs(w["hidden.0.joins.weight"].std().item() - (2 / 784) ** 0.5) < 0.001
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_lenet5_is_redundant_behind_its_convolutions_which_edge_popup_leaves_dense() -> None:
    net = LeNet5((1, 28, 28), 10, channels=[6, 16], widths=[120, 84], bias=False, redundancy=5, between=False)
    method = EdgePopup(net, keep=0.25, dense=["convs"])
    assert sum(w.numel() for w in method.w.values()) == 5 * (400 * 120 + 120 * 84 + 84 * 10 + 400 + 120 + 84)
    assert not any(name.startswith("convs") for name in method.masked_weights())


def test_conv_k_drops_in_training_alone() -> None:
    net = ConvK((1, 28, 28), 10, channels=[4, 4], widths=[16], dropout=[0.5, 0.5])
    x = torch.rand(3, 1, 28, 28)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_a_redundant_head_starts_anew_for_another_stage() -> None:
    head = Redundant(6, 3, True, 2, True)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.reset_parameters()
    assert not any(torch.equal(value, before[name]) for name, value in head.state_dict().items())
