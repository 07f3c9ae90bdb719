"""Nets side by side, one per fold: each is the net it would be alone, drawn and trained apart from the others."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from maskbench.backbones.fold import FoldLinear, FoldMLP
from maskbench.backbones.gate import gates_of
from maskbench.backbones.initial import fresh
from maskbench.backbones.normed_mlp import NormedMLP
from maskbench.common.errors import UsageError


def net(**keys: object) -> FoldMLP:
    torch.manual_seed(0)
    return FoldMLP((3, 5), 2, widths=[8, 6], **keys)


@pytest.mark.parametrize("bias", [True, False])
def test_a_fold_is_a_plain_net(bias: bool) -> None:
    many, x = net(bias=bias), torch.randn(7, 3, 5)
    for fold in range(3):
        h = x[:, fold]
        for layer in (*many.hidden, many.head):
            h = nn.functional.linear(h, layer.weight[fold], layer.bias[fold] if bias else None)
            h = h if layer is many.head else h.relu()
        torch.testing.assert_close(many(x)[:, fold], h)


def test_a_folds_gradient_is_its_own() -> None:
    many = net()
    many(torch.randn(7, 3, 5))[:, 1].square().sum().backward()
    for p in many.parameters():
        assert not p.grad[0].any() and not p.grad[2].any() and p.grad[1].any()


def test_one_fold_needs_no_dimension() -> None:
    torch.manual_seed(0)
    plain, x = FoldMLP((5,), 2, widths=[8]), torch.randn(7, 5)
    assert plain(x).shape == (7, 2)
    assert functional_call(plain, {"gates.0.gain": torch.zeros(7, 8)}, (x,)).equal(plain.head.bias[0].expand(7, 2))


def test_gates_stand_before_every_layer() -> None:
    assert {name: gate.shape for name, gate in gates_of(net(), inlets=True).items()} == {
        "inlet.gain": (3, 5),
        "gates.0.gain": (3, 8),
        "gates.1.gain": (3, 6),
    }
    many, x = net(), torch.randn(4, 3, 5)
    ones = {name: torch.ones(4, *gate.shape) for name, gate in gates_of(many, inlets=True).items()}
    assert torch.equal(functional_call(many, ones, (x,)), many(x))
    shut = functional_call(many, {"inlet.gain": torch.zeros(3, 5)}, (x,))
    torch.testing.assert_close(shut, many(torch.zeros_like(x)))


def test_every_fold_is_drawn_by_the_rule_of_a_layer() -> None:
    torch.manual_seed(0)
    many = FoldMLP((20, 200), 1, widths=[300], init="glorot_uniform")
    w = many.hidden[0].weight
    bound = (6 / 500) ** 0.5
    assert w.abs().max() <= bound and w.abs().amax((1, 2)).min() > 0.99 * bound, "fans are a fold's, not the whole tensor's"
    assert not any(layer.bias.any() for layer in (*many.hidden, many.head)) and not torch.equal(w[0], w[1])
    torch.manual_seed(0)
    layer = FoldLinear(20, 100, 50)
    assert layer.weight.abs().max() <= 0.1 and layer.bias.abs().max() <= 0.1, "torch's own rule: 1 / sqrt(inputs)"


def test_a_fresh_draw_has_other_values() -> None:
    many = net()
    drawn = fresh(many)
    assert drawn.keys() == many.state_dict().keys() and not torch.equal(drawn["head.weight"], many.head.weight)


def test_width_multiplies_and_images_are_refused() -> None:
    assert net(width=2.0).hidden[0].weight.shape == (3, 16, 5)
    with pytest.raises(UsageError, match="table"):
        FoldMLP((1, 28, 28), 10, widths=[8])


def test_a_net_with_norms_answers_by_its_running_statistics() -> None:
    torch.manual_seed(0)
    plain, x = NormedMLP((1, 4, 4), 3, widths=[8, 6]), 3 + torch.randn(40, 1, 4, 4)
    for _ in range(200):
        trained = plain(x)
    torch.testing.assert_close(plain.eval()(x), trained, rtol=0.1, atol=0.05)
    assert [gate.shape for gate in gates_of(plain).values()] == [(8,), (6,)]
    shut = functional_call(plain, {"gates.1.gain": torch.zeros(6)}, (x,))
    assert torch.equal(shut, plain.head.bias.expand(40, 3))
