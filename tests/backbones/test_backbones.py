"""Backbones: the papers' weight counts, initial values by name, and gates."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones import initial
from maskbench.backbones.conv import ConvK
from maskbench.backbones.gate import gates_of
from maskbench.backbones.mlp import MLP
from maskbench.backbones.normed_mlp import NormedMLP
from maskbench.common.errors import UsageError
from maskbench.runs.assemble import Run
from maskbench.runs.nets import make_net

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
COUNTS = {  # (weights without biases, with)
    ("lenet_300_100", MNIST): (266_200, 266_610),
    ("lenet5", MNIST): (61_470, 61_706),
    ("fc1024", MNIST): (1_861_632, 1_863_690),
    ("conv2", MNIST): (3_316_800, 3_317_450),
    ("conv4", MNIST): (1_932_352, 1_933_258),
    ("conv6", MNIST): (1_801_280, 1_802_698),
    ("conv2", CIFAR): (4_300_992, 4_301_642),
    ("conv4", CIFAR): (2_425_024, 2_425_930),
    ("conv6", CIFAR): (2_261_184, 2_262_602),
}


def net_of(compose: Callable, name: str, shape: tuple[int, ...], *more: str) -> nn.Module:
    return make_net(compose("method=dense", f"backbone={name}", *more).backbone, shape, 10)


@pytest.mark.parametrize(("name", "shape"), COUNTS)
def test_weights_are_as_many_as_in_the_papers(name: str, shape: tuple[int, ...], compose: Callable) -> None:
    net = net_of(compose, name, shape, "backbone.init=torch")
    weights = sum(net.get_parameter(site).numel() for site in masks.sites(net))
    assert (weights, sum(p.numel() for p in net.parameters())) == COUNTS[name, shape]
    assert net(torch.zeros(2, *shape)).shape == (2, 10)
    assert masks.sites(net)[-1] == "head.weight"


def test_supsups_net_has_its_superfluous_outputs_and_no_biases(build: Callable) -> None:
    net = build("method=supsup", "data.base=synthetic").method.net
    assert sum(p.numel() for p in net.parameters()) == 275_200
    assert all(p.ndim == 2 for p in net.parameters())


def test_width_multiplies_every_hidden_layer(compose: Callable) -> None:
    net = net_of(compose, "conv4", MNIST, "backbone.width=0.125")
    assert [conv.out_channels for conv in net.convs] == [8, 8, 16, 16]
    assert [layer.out_features for layer in net.hidden] == [32, 32] and net.head.out_features == 10


@pytest.mark.parametrize("name", ["conv2", "conv5_16_32", "fc2048_norm", "mlp_200x3_norm", "resnet20"])
def test_however_narrow_a_layer_keeps_one_unit(name: str, compose: Callable) -> None:
    net = net_of(compose, name, MNIST, "backbone.width=0.0001")
    assert all(p.numel() for p in net.parameters())


# ---- initial values


def drawn(init: str, module: nn.Module) -> torch.Tensor:
    torch.manual_seed(0)
    initial.initialise(module, init)
    return module.weight.detach()


LAYERS = {"linear": lambda: nn.Linear(400, 300), "conv": lambda: nn.Conv2d(40, 60, 3)}
FANS = {"linear": (400, 300), "conv": (40 * 9, 60 * 9)}


@pytest.mark.parametrize("layer", LAYERS)
def test_rules_have_the_spread_of_their_formula(layer: str) -> None:
    fan_in, fan_out = FANS[layer]
    deviations = {
        "glorot_normal": math.sqrt(2 / (fan_in + fan_out)),
        "glorot_truncated_normal": math.sqrt(2 / (fan_in + fan_out)),
        "glorot_uniform": math.sqrt(2 / (fan_in + fan_out)),
        "kaiming_normal": math.sqrt(2 / fan_in),
        "kaiming_normal_fan_out": math.sqrt(2 / fan_out),
        "kaiming_uniform": math.sqrt(2 / fan_in),
        "signed_constant": math.sqrt(2 / fan_in),
        "elus_signed_constant": math.sqrt(3 / fan_in),
        "standard_normal": 1.0,
        "glorot_signed_constant": math.sqrt(2 / (fan_in + fan_out)),
    }
    assert initial.RULES.keys() == deviations.keys() | {"unsigned_constant"}
    for init, deviation in deviations.items():
        w = drawn(init, LAYERS[layer]())
        assert w.std().item() == pytest.approx(deviation, rel=0.03), init
        assert abs(w.mean().item()) < 4 * deviation / math.sqrt(w.numel())
        if init.endswith("uniform"):
            bound = math.sqrt(3) * deviation
            assert 0.99 * bound < w.abs().max() <= bound + 1e-6


@pytest.mark.parametrize("layer", LAYERS)
def test_the_truncated_normal_law_has_the_moments_of_its_formula(layer: str) -> None:
    """Of N(0, s^2) within two deviations, Var = s^2 (1 - 4 phi(2) / (2 Phi(2) - 1)), and the fourth moment by parts."""
    w = drawn("glorot_truncated_normal", LAYERS[layer]()).double()
    inside, edge = math.erf(math.sqrt(2)), 4 * math.exp(-2) / math.sqrt(2 * math.pi)  # 2 Phi(2) - 1; 4 phi(2)
    share = 1 - edge / inside
    s = math.sqrt(2 / sum(FANS[layer]) / share)
    assert w.square().mean().item() == pytest.approx(s**2 * share, rel=0.02)
    assert w.pow(4).mean().item() == pytest.approx(s**4 * (3 * share - 4 * edge / inside), rel=0.03)
    assert 1.99 * s < w.abs().max() <= 2 * s * (1 + 1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_signed_constants_are_two_values_half_of_each(layer: str) -> None:
    w = drawn("signed_constant", LAYERS[layer]())
    value = torch.tensor(math.sqrt(2 / FANS[layer][0]))
    assert torch.equal(w.abs(), value.expand_as(w))
    assert (w > 0).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_unsigned_constants_are_one_value() -> None:
    assert torch.equal(drawn("unsigned_constant", nn.Linear(8, 3)), torch.full((3, 8), 0.5))


def test_biases_start_at_zero_except_under_torch() -> None:
    net = MLP(MNIST, 10, widths=[8])
    assert not any(p.any() for n, p in net.named_parameters() if n.endswith("bias"))
    assert all(p.any() for n, p in MLP(MNIST, 10, widths=[8], init="torch").named_parameters() if n.endswith("bias"))


def test_the_same_stream_draws_the_same_net() -> None:
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(MLP(MNIST, 10, widths=[8]).state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_the_rules_that_a_net_accepts_are_those_that_draw() -> None:
    assert set(get_args(initial.Init)) == {*initial.RULES, "torch"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("init=kaiming_norml", "backbone.init=kaiming_norml .*Did you mean 'kaiming_normal'"),
        ("widths=[8,0]", r"backbone.widths=\[8,0\] .*at least 1"),
        ("width=0", "backbone.width=0.* must be a number above 0"),
        ("activation=swish", "backbone.activation=swish must be one of relu, tanh, elu, sign"),
        ("bias=maybe", "backbone.bias=maybe must be true or false"),
    ],
)
def test_a_wrong_knob_is_refused_by_its_key(word: str, message: str, compose: Callable) -> None:
    cfg = compose("method=dense", "backbone=lenet_300_100", f"++backbone.{word}")
    with pytest.raises(UsageError, match=message):
        make_net(cfg.backbone, MNIST, 10)


@pytest.mark.parametrize("net", [MLP, NormedMLP])
def test_tables_side_by_side_are_no_single_table(net: type) -> None:
    with pytest.raises(UsageError, match="backbone=fold_mlp"):
        net((20, 13), 1, widths=[8])


def test_a_conv_net_needs_images() -> None:
    with pytest.raises(UsageError, match="images"):
        ConvK((784,), 10, channels=[4, 4], widths=[8])


# ---- gates

NETS = {"dense": lambda: MLP(MNIST, 10, widths=[8, 6]), "conv": lambda: ConvK(MNIST, 10, channels=[4, 6], widths=[8])}


def gates(net: nn.Module) -> list[str]:
    return list(gates_of(net))


@pytest.mark.parametrize("kind", NETS)
def test_a_gate_stands_after_each_hidden_layer_and_leaves_no_trace_in_the_state(kind: str) -> None:
    net = NETS[kind]()
    assert len(gates(net)) == len(masks.sites(net)) - 1
    assert not any("gain" in name for name in net.state_dict())


@pytest.mark.parametrize("kind", NETS)
def test_ones_change_nothing(kind: str) -> None:
    net, x = NETS[kind](), torch.randn(3, *MNIST)
    layers = zip(ordered(net), masks.sites(net), strict=False)
    units = {site: net.get_parameter(weight).shape[0] for site, weight in layers}
    for gains in ({s: torch.ones(n) for s, n in units.items()}, {s: torch.ones(3, n) for s, n in units.items()}):
        assert torch.equal(functional_call(net, gains, (x,)), net(x))


@pytest.mark.parametrize("kind", NETS)
def test_a_closed_gate_is_a_unit_cut_off(kind: str) -> None:
    """Gain 0 on a unit answers as the net whose next layer ignores it; per example, each gets the gate of its own."""
    net, x = NETS[kind](), torch.randn(2, *MNIST)
    site, weight = ordered(net)[0], masks.sites(net)[0]
    gain = torch.ones(net.get_parameter(weight).shape[0])
    gain[1] = 0
    closed = functional_call(net, {site: gain}, (x,))
    bias = weight.replace("weight", "bias")
    cut = {weight: net.get_parameter(weight).clone(), bias: net.get_parameter(bias).clone()}
    cut[weight][1], cut[bias][1] = 0, -1  # relu gives 0
    torch.testing.assert_close(closed, functional_call(net, cut, (x,)))
    assert not torch.allclose(closed, net(x))
    each = functional_call(net, {site: torch.stack([gain, torch.ones_like(gain)])}, (x,))
    torch.testing.assert_close(each, torch.stack([closed[0], net(x)[1]]))


def ordered(net: nn.Module) -> list[str]:
    """Gates in the order of the layers they follow."""
    return sorted(gates(net), key=lambda name: not name.startswith("conv"))


def test_the_example_net_drops_units_in_training_only() -> None:
    from maskbench.backbones.conv import ConvExample

    net = ConvExample((1, 28, 28), 10, channels=[32, 64], widths=[128], dropout=[0.25, 0.5])
    assert sum(p.numel() for p in net.parameters()) == 1_199_882  # as PyTorch's example
    x = torch.randn(4, 1, 28, 28)
    assert torch.equal(net.eval()(x), net(x))
    assert not torch.equal(net.train()(x), net(x))


def test_the_example_net_may_drop_whole_channels_after_its_convolutions() -> None:
    from maskbench.backbones.conv import ConvExample

    net = ConvExample((1, 28, 28), 10, channels=[4, 6], widths=[8], dropout=[0.5, 0.0], drop_channels=True).train()
    seen = []
    net.hidden[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(64, 1, 28, 28)
    net(x)
    whole, kept = net.features(x).unflatten(1, (6, -1)), seen[0].unflatten(1, (6, -1))
    gone = (kept == 0).all(-1)
    assert 0.3 < gone.double().mean() < 0.7
    torch.testing.assert_close(kept, torch.where(gone[..., None], 0, 2 * whole))
    assert torch.equal(net.eval()(x), net(x)) and torch.equal(seen[-1], net.features(x))


def test_a_table_is_refused_by_a_net_for_images_with_nets_that_take_it(compose: Callable, tmp_path: Path) -> None:
    bench = Run(compose("method=dense", "backbone=lenet5", "data=cubic"), tmp_path)
    with pytest.raises(UsageError, match="take backbone=fold_mlp or mlp_100x3"):
        bench.method(bench.stages())
