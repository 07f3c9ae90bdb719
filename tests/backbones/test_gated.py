"""What stands between gates: whatever no used unit reads or holds may change, and no bit of the answer does."""

import pytest
import torch
from torch import nn

from maskbench.backbones.conv import ConvK, LeNet5
from maskbench.backbones.few_shot import Conv4, ResNet12, WideResNet
from maskbench.backbones.gate import Gate, gates_of
from maskbench.backbones.gated import between
from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.backbones.vgg import VGG
from maskbench.common.errors import UsageError
from maskbench.training.stand_in import call

NETS = {
    "mlp": lambda: MLP((1, 4, 4), 3, widths=[9, 7, 5]),
    "tanh": lambda: MLP((1, 4, 4), 3, widths=[9, 7], activation="tanh"),
    "lenet5": lambda: LeNet5((3, 8, 8), 3, channels=[4, 6], widths=[9, 7], keep_size=True),
    "conv4": lambda: ConvK((3, 8, 8), 3, channels=[4, 5, 6, 7], widths=[8], dropout=[0.2, 0.5]),
    "vgg": lambda: VGG((3, 8, 8), 3, blocks=[2, 1], channels=[4, 6], norm="batch"),
    "resnet": lambda: ResNet((3, 8, 8), 3, base=4, blocks=[2, 2], norm="batch"),
    "resnet-pad": lambda: ResNet((3, 8, 8), 3, base=4, blocks=[1, 2], shortcut="pad", norm="none"),
    "few-shot": lambda: Conv4((3, 8, 8), 3, channels=[4, 5]),
}
SHAPES = {"MLP": (1, 4, 4)}


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return NETS[request.param]().eval()


def pattern(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: (torch.rand(gate.shape) < 0.5).float() for name, gate in gates_of(net).items()}


def test_all_but_the_head_is_between_gates(net: nn.Module) -> None:
    found = between(net)
    assert [name for name, _ in net.named_parameters() if name not in found] == ["head.weight", "head.bias"]
    assert all(isinstance(net.get_submodule(gate.removesuffix(".gain")), Gate) for b in found.values() for gate in b.behind)
    for name, b in found.items():
        mask, p = b.both(pattern(net), net.get_parameter(name).ndim), net.get_parameter(name)
        assert mask.ndim == p.ndim and mask.expand_as(p).shape == p.shape


def test_what_no_used_unit_needs_changes_no_bit_and_what_it_needs_does(net: nn.Module) -> None:
    gates, x = pattern(net), torch.randn(6, *SHAPES.get(type(net).__name__, (3, 8, 8)))
    used = {name: b.both(gates, net.get_parameter(name).ndim) for name, b in between(net).items()}
    own = {name: net.get_parameter(name).detach() for name in used}
    answer = call(net, gates, x)
    noise = {name: torch.where(used[name] == 0, torch.randn_like(w), w) for name, w in own.items()}
    assert sum(int((noise[name] != own[name]).sum()) for name in own) > 50
    assert torch.equal(call(net, noise | gates, x), answer)
    needed = {name: torch.where(used[name] == 1, torch.randn_like(w), w) for name, w in own.items()}
    assert not torch.equal(call(net, needed | gates, x), answer)


def test_a_convolution_is_read_by_channels() -> None:
    net = LeNet5((1, 28, 28), 3, channels=[2, 3], widths=[4])
    found = between(net)
    assert found["hidden.0.weight"].places == net.hidden[0].in_features // 3
    gates = {"conv_gates.0.gain": torch.tensor([1.0, 0]), "conv_gates.1.gain": torch.tensor([0, 0.5, 1])}
    gates |= {"gates.0.gain": torch.ones(4)}
    assert found["convs.0.weight"].both(gates, 4).flatten().tolist() == [1, 0]
    assert found["convs.1.weight"].both(gates, 4).squeeze().tolist() == [[0, 0], [0.5, 0], [1, 0]]
    assert found["hidden.0.weight"].both(gates, 2)[0].tolist() == [*[0] * 25, *[0.5] * 25, *[1.0] * 25]
    assert found["convs.1.bias"].both(gates, 1).tolist() == [0, 0.5, 1]


class Late(nn.Module):
    """Two layers before the first gate."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.gate, self.head = nn.Linear(4, 5), nn.Linear(5, 5), Gate(5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gate(self.two(self.one(x).relu()).relu()))


class Mixed(Late):
    """Units that a softmax mixes before their gate."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gate(self.two(x).softmax(1)))


class Idle(Late):
    """A layer that nothing uses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gate(self.two(x)))


class Sliced(Late):
    """Inputs of a layer that its gates' units are not."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.gate1, self.two = nn.Linear(4, 5), Gate(5), nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gate(self.two(self.gate1(self.one(x)).flatten(1))))


@pytest.mark.parametrize(
    "net, said",
    [
        (Late, "units of one are read by two before"),
        (Mixed, r"mixed by softmax\(\)"),
        (Idle, "one.weight is in no layer that a gate follows"),
        (Sliced, "not found among the 7 inputs of two.weight"),
        (lambda: ResNet12((3, 16, 16), 3, channels=[4, 4]), "are read by"),
        (lambda: WideResNet((3, 8, 8), 3, depth=10, widen=1, width=0.25), "are read by"),
    ],
)
def test_nets_whose_gates_do_not_part_their_layers_are_refused(net, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        between(net())


def test_what_a_gated_unit_becomes_where_nothing_is_learnt_is_on() -> None:
    """A sigmoid makes one half of what is shut: the layer after it reads it in every stage."""

    class Lifted(Late):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.gate(self.two(self.gate1(self.one(x)).sigmoid())))

        def __init__(self) -> None:
            super().__init__()
            self.gate1 = Gate(5)

    assert between(Lifted())["two.weight"].before == ()
