"""MIMO: who meets which example, members as plain nets, what is shared."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from maskbench.backbones.conv import LeNet5
from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.common.errors import UsageError
from maskbench.methods.uncertainty.mimo import MIMO

NETS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "mlp": ((1, 8, 8), lambda: MLP((1, 8, 8), 10, widths=[12])),
    "lenet5": ((3, 28, 28), lambda: LeNet5((3, 28, 28), 10, channels=[4, 6], widths=[12])),
    "resnet": ((3, 8, 8), lambda: ResNet((3, 8, 8), 10, base=4, blocks=[1, 1])),
    "fold_mlp": ((2, 6), lambda: FoldMLP((2, 6), 2, widths=[5])),
    "one table": ((6,), lambda: FoldMLP((6,), 2, widths=[5])),
}


class Stage:
    """All that a prediction asks of one."""

    link = staticmethod(lambda outputs: outputs.softmax(-1))
    criterion = staticmethod(cross_entropy)


def mimo(name: str, **knobs) -> MIMO:
    torch.manual_seed(0)
    return MIMO(NETS[name][1](), **knobs)


@pytest.mark.parametrize("name", NETS)
def test_a_member_is_a_plain_net_where_all_inputs_are_alike(name: str) -> None:
    method, x = mimo(name).eval(), torch.randn(5, *NETS[name][0])
    answers = method.predict(x, Stage)
    assert len(answers) == 3 and not torch.allclose(answers[0], answers[1])
    for number in range(3):
        one = method.member_net(number)
        assert [p.shape for p in one.parameters()] == [p.shape for p in NETS[name][1]().parameters()]
        torch.testing.assert_close(one(x).softmax(-1), answers[number], rtol=1e-5, atol=1e-5)


def test_each_member_answers_for_its_own_example() -> None:
    """The loss is the sum over members of the criterion on what each met; the input of another one moves an answer, too."""
    method, x, y = mimo("mlp"), torch.randn(7, 1, 8, 8), torch.randint(10, (7,))
    torch.manual_seed(3)
    orders = [method.order(7, x.device) for _ in range(3)]
    assert all(sorted(order.tolist()) == list(range(7)) for order in orders) and not torch.equal(orders[0], orders[1])
    outputs = method.net(torch.cat([x[order] for order in orders], 1)).view(7, 3, 10)
    wanted = sum(cross_entropy(outputs[:, m], y[order]) for m, order in enumerate(orders))
    torch.manual_seed(3)
    torch.testing.assert_close(method.loss((x, y), Stage), wanted)


@pytest.mark.parametrize("repeat, kept", [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_a_share_of_the_examples_is_met_by_all_alike(repeat: float, kept: int) -> None:
    orders = torch.stack([mimo("mlp", repeat=repeat).order(8, torch.device("cpu")) for _ in range(3)])
    assert (orders[:, :kept] == torch.arange(kept)).all()
    assert (orders.sort(1).values == torch.arange(8)).all()


def test_all_but_the_ends_is_shared() -> None:
    facts = mimo("lenet5", members=4).extra_metrics()
    plain = sum(p.numel() for p in NETS["lenet5"][1]().parameters())
    more = 3 * (4 * 3 * 25) + 3 * (12 * 10 + 10)  # first convolution, head
    assert facts["weights_over_plain"] == (plain + more) / plain


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: mimo("mlp", members=0), "method.members="),
        (lambda: mimo("mlp", repeat=1.5), "method.repeat="),
        (lambda: MIMO(MLP((6,), 2, widths=[])), "needs hidden layers"),
        (lambda: MIMO(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))), "backbone=lenet5"),
    ],
)
def test_wrong_knobs_and_nets_are_refused_in_words(make: Callable, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
