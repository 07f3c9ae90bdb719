"""What of a masked net is connected: against products of zeros and ones, and against nets whose weights are moved one by one."""

import pytest
import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.conv import ConvK
from maskbench.backbones.mlp import MLP
from maskbench.backbones.norm_mlp import NormMLP
from maskbench.backbones.resnet import ResNet
from maskbench.masks.connectivity import connectivity

ROWS = (12,)


def drawn(net: nn.Module, keep: float) -> dict[str, Tensor]:
    return {name: torch.rand(net.get_parameter(name).shape) < keep for name in masks.sites(net)}


@pytest.mark.parametrize("keep", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_of_a_chain_it_is_a_product_of_zeros_and_ones(keep: float, activation: str) -> None:
    torch.manual_seed(0)
    net = MLP(ROWS, 5, widths=[20, 15], activation=activation)
    for _ in range(5):
        kept = drawn(net, keep)
        first, second, last = (m.double() for m in kept.values())
        ahead = [torch.ones(12).double(), *(x := [(first.sum(1) > 0).double()])]
        ahead.append(((second @ ahead[1]) > 0).double())
        back = [torch.ones(5).double()]
        back.insert(0, ((last.T @ back[0]) > 0).double())
        back.insert(0, ((second.T @ back[0]) > 0).double())
        back.insert(0, ((first.T @ back[0]) > 0).double())
        found = connectivity(net, kept, ROWS)
        for m, on, inputs, outputs in zip(kept.values(), found.effective.values(), ahead, back[1:], strict=True):
            assert torch.equal(on, m & (outputs[:, None] * inputs[None] > 0))
        assert found.connected == int((last @ ahead[2] > 0).sum()) and found.outputs == 5
        alive = [ahead[0] * back[0], ahead[1] * back[1], ahead[2] * back[2], (last @ ahead[2] > 0).double()]
        assert list(found.live.values()) == [int(units.sum()) for units in alive]
        assert found.live_units == sum(list(found.live.values())[1:3])
        share = sum(int(on.sum()) for on in found.effective.values()) / net_size(net)
        assert found.effective_density == share <= masks.density(kept.values())
        assert x


def net_size(net: nn.Module) -> int:
    return sum(net.get_parameter(name).numel() for name in masks.sites(net))


NETS = {
    "conv": lambda: ConvK((1, 8, 8), 3, channels=[3, 4, 4, 4], widths=[6]),  # its last feature map is 2 x 2 before the pool
    "residual": lambda: ResNet((1, 8, 8), 3, base=3, blocks=[1, 1], norm="none"),
    "residual, padded": lambda: ResNet((1, 8, 8), 3, base=3, blocks=[1, 1], shortcut="pad"),
    "no statistics": lambda: ResNet((1, 8, 8), 3, base=3, blocks=[1, 1], norm="batch_no_stats"),
}


@pytest.mark.parametrize("kind", NETS)
def test_a_whole_net_is_whole(kind: str) -> None:
    net = NETS[kind]()
    found = connectivity(net, {}, (1, 8, 8))
    assert found.effective_density == 1.0 and found.connected == 3 and not found.collapsed and found.words() == ""


@pytest.mark.parametrize("kind", ["conv", "residual"])
def test_a_weight_counts_exactly_if_moving_it_moves_an_output(kind: str) -> None:
    """Positive weights on positive inputs: nothing cancels, every ReLU is open, and the places of a pool differ."""
    torch.manual_seed(1)
    net = NETS[kind]().double()
    for parameter in net.parameters():
        parameter.data.uniform_(0.5, 1.0)
    kept = drawn(net, 0.1 if kind == "conv" else 0.15)
    for name, m in kept.items():
        net.get_parameter(name).data.mul_(m)
    found = connectivity(net, kept, (1, 8, 8))
    x = torch.rand(40, 1, 8, 8).double() + 0.1
    for name, parameter in net.named_parameters():
        parameter.data.zero_() if name.endswith("bias") else None
    before = net(x)
    moved = {name: torch.zeros_like(m) for name, m in kept.items()}
    for name, m in kept.items():
        w = net.get_parameter(name).data.view(-1)
        for place in m.flatten().nonzero().flatten().tolist():
            value, w[place] = float(w[place]), 2 * w[place]
            moved[name].view(-1)[place] = not torch.equal(net(x), before)
            w[place] = value
    assert 0 < found.effective_density < masks.density(kept.values())
    for name in kept:
        assert torch.equal(found.effective[name], moved[name]), name


def test_an_empty_layer_is_named_and_a_shortcut_goes_around_one() -> None:
    net = MLP(ROWS, 5, widths=[20, 15])
    kept = drawn(net, 1.0) | {"hidden.1.weight": torch.zeros(15, 20, dtype=torch.bool)}
    found = connectivity(net, kept, ROWS)
    assert found.empty == ["hidden.1"] and found.collapsed and found.effective_density == 0 and found.live_units == 0
    assert found.words() == "nothing is left of hidden.1; 0 of 5 outputs are reached"
    net = NETS["residual"]()
    name = "stages.0.0.conv2.weight"
    found = connectivity(net, {name: torch.zeros_like(net.get_parameter(name))}, (1, 8, 8))
    assert found.empty == ["stages.0.0.conv2"] and found.connected == 3 and found.words() == "nothing is left of stages.0.0.conv2"


def test_lost_outputs_are_counted_and_biases_carry_nothing() -> None:
    net = MLP(ROWS, 5, widths=[20, 15])
    net.head.bias.data.fill_(1.0)
    kept = drawn(net, 1.0)
    kept["head.weight"][1] = kept["head.weight"][3] = False
    found = connectivity(net, kept, ROWS)
    assert (found.connected, found.outputs, found.empty) == (3, 5, [])
    assert found.words() == "3 of 5 outputs are reached"


def test_norms_and_batches_of_one() -> None:
    found = connectivity(NormMLP(ROWS, 5, widths=[20]), {}, ROWS)
    assert found.effective_density == 1.0


def test_the_net_stays_as_it_is() -> None:
    torch.manual_seed(0)
    net = NETS["residual, padded"]()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    connectivity(net, drawn(net, 0.3), (1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training and all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_nets_with_attention_have_no_single_paths() -> None:
    assert connectivity(nn.TransformerEncoderLayer(8, 2), {}, (3, 8)) is None
