"""Packed-Ensembles: two executions of one thing, members that nothing connects, sizes by the rule, costs by hand."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskbench.backbones.conv import ConvK, LeNet5
from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.mlp import MLP
from maskbench.backbones.normed_mlp import NormedMLP
from maskbench.backbones.resnet import ResNet
from maskbench.backbones.vgg import VGG
from maskbench.common.errors import UsageError
from maskbench.data import gaussian
from maskbench.methods.uncertainty.packed_ensembles import PackedEnsembles, macs
from maskbench.methods.uncertainty.packed_layers import PackedLinear

GRAY, RGB = (1, 28, 28), (3, 8, 8)


class Stage:
    """All that a prediction asks of one."""

    link = staticmethod(lambda outputs: outputs.softmax(-1))
    criterion = staticmethod(cross_entropy)


@dataclass
class Case:
    shape: tuple[int, ...]
    make: Callable[[], nn.Module]


NETS = {
    "lenet_300_100": Case(GRAY, lambda: MLP(GRAY, 10, widths=[30, 20])),
    "lenet5": Case(GRAY, lambda: LeNet5(GRAY, 10, channels=[6, 16], widths=[24, 20])),
    "conv2": Case(RGB, lambda: ConvK(RGB, 10, channels=[10, 12], widths=[14, 12])),
    "resnet": Case(RGB, lambda: ResNet(RGB, 10, base=8, blocks=[1, 2])),
    "resnet, padded": Case(RGB, lambda: ResNet(RGB, 10, base=8, blocks=[1, 1], shortcut="pad")),
    "vgg": Case(RGB, lambda: VGG(RGB, 10, blocks=[1, 2], channels=[8, 16])),
    "mlp_norm": Case((20,), lambda: NormedMLP((20,), 10, widths=[12, 9])),
    "fold_mlp": Case((3, 6), lambda: FoldMLP((3, 6), 2, widths=[16, 14])),
}
nets = pytest.mark.parametrize("name", NETS)


def method(name: str, **knobs) -> PackedEnsembles:
    torch.manual_seed(0)
    return PackedEnsembles(NETS[name].make(), **knobs)


def inputs(name: str, rows: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(rows, *NETS[name].shape)


# ---- grouped and masked


@given(st.sampled_from(list(NETS)), st.integers(1, 4), st.sampled_from([1.0, 1.5, 2, 3.3]), st.integers(1, 2))
def test_grouped_and_masked_agree_in_value_and_gradient(name: str, members: int, alpha: float, gamma: int) -> None:
    knobs = {"members": members, "alpha": alpha, "gamma": gamma}
    grouped, masked = method(name, **knobs), method(name, **knobs, execution="masked")
    assert grouped.state_dict().keys() == masked.state_dict().keys()
    masked.load_state_dict(grouped.state_dict())
    x = inputs(name)
    values, grads = [], []
    for one in (grouped, masked):
        out = one.outputs(x)
        torch.manual_seed(2)
        (out * torch.randn_like(out)).sum().backward()
        values.append(out)
        grads.append([p.grad for p in one.net.parameters()])
    assert values[0].shape[0] == members and values[0].std() > 0
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.abs().max())))


def test_the_masked_weight_is_block_diagonal() -> None:
    layer = PackedLinear(3, 2, 4, bias=False, draws=3, execution="masked")
    assert torch.equal(layer.dense(), torch.block_diag(*layer.weight))
    conv = method("lenet5", members=2, gamma=2).net.convs[1]
    wide = conv.dense().detach()
    assert wide.shape == (32, 12, 5, 5)
    blocks = [torch.block_diag(*conv.weight.detach().unflatten(0, (4, -1))[..., i, j]) for i in range(5) for j in range(5)]
    assert torch.equal(wide.flatten(2), torch.stack(blocks, -1))


# ---- members


@nets
@pytest.mark.parametrize("gamma", [1, 2])
def test_a_member_is_a_thin_net_of_plain_layers(name: str, gamma: int) -> None:
    packed, x = method(name, members=2, gamma=gamma), inputs(name)
    packed.train().outputs(x)  # norms have met something
    answers = packed.eval().predict(x, Stage)
    for number in range(2):
        thin = packed.member_net(number)
        assert not any(isinstance(module, PackedLinear) for module in thin.modules())
        torch.testing.assert_close(thin(x).softmax(-1), answers[number], rtol=1e-5, atol=1e-5)


def test_without_gamma_a_member_is_the_backbone_with_less_width() -> None:
    packed = method("lenet5", members=4)
    plain = LeNet5(GRAY, 10, channels=[6, 16], widths=[24, 20], width=0.5)
    plain.load_state_dict(packed.member_net(2).state_dict())
    x = inputs("lenet5")
    torch.testing.assert_close(plain(x).softmax(-1), packed.predict(x, Stage)[2], rtol=0, atol=1e-6)


@nets
@pytest.mark.parametrize("execution", ["grouped", "masked"])
def test_no_member_feels_another(name: str, execution: str) -> None:
    """The gradient of one member's answers is 0 in the others' part of every weight, and in its own is not."""
    packed = method(name, members=2, execution=execution)
    (packed.outputs(inputs(name))[1] ** 2).sum().backward()
    for key, p in packed.net.named_parameters():
        linear = isinstance(packed.net.get_submodule(key.rpartition(".")[0]), PackedLinear)
        dim = 0 if not linear else p.ndim - 1 if key.endswith("bias") else -3 if p.shape[-3] > 1 else -2
        theirs, own = p.grad.chunk(2, dim)
        assert not theirs.any() and own.any(), key


def test_the_loss_is_the_mean_over_members_on_the_same_targets() -> None:
    packed, x, y = method("lenet5", members=3), inputs("lenet5"), torch.randint(10, (6,))
    each = [cross_entropy(packed.outputs(x)[m], y) for m in range(3)]
    torch.testing.assert_close(packed.loss((x, y), Stage), torch.stack(each).mean())


def test_numbers_in_folds_have_the_mean_of_their_likelihoods() -> None:
    class Numbers:
        criterion = staticmethod(gaussian.loss)

    packed, x, y = method("fold_mlp", members=3), inputs("fold_mlp"), torch.randn(6, 3, 1)
    each = [gaussian.loss(packed.outputs(x)[m], y) for m in range(3)]
    torch.testing.assert_close(packed.loss((x, y), Numbers), torch.stack(each).mean())


# ---- sizes, draws, costs


@pytest.mark.parametrize("members, alpha, gamma, wide", [(4, 2, 1, 12), (4, 2, 2, 16), (3, 2.5, 1, 15), (4, 1, 1, 8)])
def test_widths_are_cut_down_and_then_rounded_up(members: int, alpha: float, gamma: int, wide: int) -> None:
    packed = method("lenet5", members=members, alpha=alpha, gamma=gamma)
    first, second = packed.net.convs
    assert (first.in_channels, first.out_channels, first.groups) == (1, wide, 1)
    assert (second.in_channels, second.groups) == (wide, members * gamma)
    assert packed.net.head.weight.shape[-3:-1] == (members, 10)  # gamma does not cut the last


def test_weights_are_drawn_as_those_of_thin_nets() -> None:
    """N(0, 2 / (fan_in + fan_out)) of each block, not of the wide layer; biases at 0; members differ."""
    torch.manual_seed(0)
    packed = PackedEnsembles(MLP((400,), 10, widths=[400, 400]), members=4, alpha=2.0)
    for layer, fans in zip(packed.net.hidden, (400 + 200, 200 + 200), strict=True):
        assert layer.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.02)
        assert not layer.bias.any()
    one, other = packed.member(0), packed.member(1)
    assert all(not torch.equal(w, other[name]) for name, w in one.items() if name.endswith("weight"))


def test_costs_by_hand() -> None:
    """LeNet-5 at M = 4, alpha = 2: beside 4 and 4 of a deep ensemble, and 1 and 4 of four passes through one net of this size."""
    torch.manual_seed(0)
    packed = PackedEnsembles(LeNet5(GRAY, 10, channels=[6, 16], widths=[120, 84]), members=4)
    weights = 12 * 25 + 32 * 3 * 25 + 240 * 800 // 4 + 168 * 240 // 4 + 4 * 10 * 168 // 4
    plain = 6 * 25 + 16 * 6 * 25 + 120 * 400 + 84 * 120 + 10 * 84
    facts = packed.extra_metrics()
    assert facts["weights"] == weights + 12 + 32 + 240 + 168 + 40
    assert facts["weights_over_plain"] == (weights + 492) / (plain + 236)
    per_example = weights + 12 * 25 * (28 * 28 - 1) + 32 * 3 * 25 * 99
    per_plain = plain + 6 * 25 * (28 * 28 - 1) + 16 * 6 * 25 * 99
    assert macs(packed.net, packed.plain[0], GRAY) == {"macs": per_example, "macs_over_plain": per_example / per_plain}
    assert packed.memory()["shared"] == 4 * facts["weights"]


def test_a_run_records_its_costs(build: Callable) -> None:
    words = ("method=packed_ensembles", "data.base=synthetic", "budget.steps=2", "budget.epochs=null", "data.ood=[]")
    metrics = build(*words, "backbone.channels=[4,6]", "backbone.widths=[8,8]").go().metrics
    assert metrics["macs_over_plain"] > 1 and metrics["members"] == 4 and metrics["weights_over_plain"] > 1


# ---- refusals


@pytest.mark.parametrize(
    "knobs, words",
    [
        ({"members": 0}, "method.members="),
        ({"alpha": 0}, "method.alpha="),
        ({"gamma": 0}, "method.gamma="),
        ({"execution": "fast"}, "method.execution="),
        ({"gamma": 4}, "method.members=4 times method.gamma=4 makes 16 groups, more than the 12 units .* convs.0"),
        ({"members": 13}, "makes 13 groups, more than the 12 units"),
    ],
)
def test_wrong_knobs_are_refused_in_words(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        method("lenet5", **knobs)


class Mixed(nn.Module):
    """Something of its own between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.scale, self.head = nn.Linear(6, 8), nn.Parameter(torch.ones(8)), nn.Linear(8, 2)


@pytest.mark.parametrize(
    "net, words",
    [
        (Mixed, "Mixed"),
        (lambda: MLP((6,), 2, widths=[]), "a hidden layer or more"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), "head"),
        (lambda: MLP((6,), 2, widths=[8], redundancy=2), "MLP"),
    ],
)
def test_nets_that_cannot_be_cut_are_refused(net: Callable, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        PackedEnsembles(net())
    assert "backbone=lenet5" in str(refusal.value)
