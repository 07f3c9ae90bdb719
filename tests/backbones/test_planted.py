"""Planted tickets: they solve their problem, they are in the net at sizes like those of others, and nothing else is changed."""

import copy
import math

import pytest
import torch
from torch import Tensor

from maskbench.backbones import tickets
from maskbench.backbones.mlp import MLP
from maskbench.backbones.planted import KNOTS, SIZES, TICKETS, Planted, draw_biases, linears
from maskbench.common.errors import UsageError

WIDTHS = {"narrow": [50], "mother": [50, 50, 50], "deep": [60] * 6}


def inputs(name: str, rows: int = 400) -> Tensor:
    return 2 * torch.rand(rows, SIZES[name][0], generator=torch.Generator().manual_seed(0)) - 1


def net(name: str, widths: list[int], seed: int = 0, **knobs) -> MLP:
    torch.manual_seed(seed)
    return Planted((SIZES[name][0],), SIZES[name][1], widths=widths, **knobs)


# ---- tickets by hand


@pytest.mark.parametrize("knots", [2, 5, 8])
def test_straight_lines_meet_the_function_at_the_knots(knots: int) -> None:
    at = torch.linspace(-1, 3, knots + 1, dtype=torch.float64)[:, None]
    ends = tickets.interpolated(lambda x: torch.stack([x**3, x.cos(), 2 * x + 1], -1), -1.0, 3.0, knots)
    wanted = torch.cat([at**3, at.cos(), 2 * at + 1], 1)
    torch.testing.assert_close(tickets.run(ends, at), wanted, rtol=1e-12, atol=1e-12)
    middle = (at[1:] + at[:-1]) / 2
    torch.testing.assert_close(tickets.run(ends, middle), (wanted[1:] + wanted[:-1]) / 2, rtol=1e-12, atol=1e-12)
    assert (ends.outer.weight[2] != 0).sum() == 1, "a straight line needs one unit"
    assert len(ends.inner.bias) == knots and ends.inner.weight.abs().unique().tolist() == [1]


@pytest.mark.parametrize("hidden", [1, 2, 3, 4, 7])
def test_the_circle_knows_its_rings(hidden: int) -> None:
    x = inputs("circle", 5000)
    radius = x.double().square().sum(1)
    ring = sum((radius > bound).long() for bound in tickets.BOUNDS)
    ticket = tickets.circle(hidden, 40)
    assert len(ticket) == hidden + 1
    answer = tickets.run(ticket, x).argmax(1)
    near = torch.stack([(radius - bound).abs() for bound in tickets.BOUNDS]).min(0).values < 2e-3
    assert torch.equal(answer[~near], ring[~near])


@pytest.mark.parametrize("hidden", [1, 2, 3, 6])
def test_the_helix_and_relu_follow_their_curves(hidden: int) -> None:
    x = inputs("helix").double()
    errors = ((tickets.run(tickets.helix(hidden, k), x) - tickets.spiral(x[:, 0])).abs().max().item() for k in (30, 120))
    coarse, fine = errors
    assert coarse < 0.05 and fine == pytest.approx(coarse / 16, rel=0.2), "of second order"
    assert torch.equal(tickets.run(tickets.relu(hidden), x), x.relu())


def test_counts_of_the_mother_nets() -> None:
    for name, count in {"circle": 108, "relu": 4, "helix": 95}.items():
        planted = net(name, WIDTHS["mother"]).planted
        assert sum(int(m.sum()) for m in planted.values()) == count
        assert sum(m.numel() for m in planted.values()) == sum(
            i * o for i, o in zip([SIZES[name][0], 50, 50, 50], [50, 50, 50, SIZES[name][1]], strict=True)
        )


# ---- the plant


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("name", SIZES)
def test_what_is_planted_alone_computes_the_ticket(name: str, widths: str) -> None:
    mother = net(name, WIDTHS[widths])
    alone = copy.deepcopy(mother).double()
    for key, layer in linears(alone):
        layer.weight.data.mul_(mother.planted[key])
    with torch.no_grad():
        answer = alone(inputs(name).double()) / mother.ticket_scale
    wanted = tickets.run(TICKETS[name](len(WIDTHS[widths]), KNOTS[name]), inputs(name))
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)  # weights are float32
    assert mother.ticket_scale > 0


@pytest.mark.parametrize("name", SIZES)
def test_planting_changes_nothing_else(name: str) -> None:
    mother = net(name, WIDTHS["mother"])
    torch.manual_seed(0)
    plain = MLP((SIZES[name][0],), SIZES[name][1], widths=WIDTHS["mother"], init="kaiming_normal")
    draw_biases(plain)
    for key, layer in linears(mother):
        was = plain.get_parameter(key)
        assert torch.equal(layer.weight[~mother.planted[key]], was[~mother.planted[key]])
        rows = mother.planted[key].any(1)
        assert torch.equal(layer.bias[~rows], plain.get_parameter(key.replace("weight", "bias"))[~rows])
        size = layer.weight[mother.planted[key]].abs().mean() / was.abs().mean()
        assert 0.1 < size < 5, "hidden among weights of its size"


def test_signs_are_kept_where_a_unit_has_them() -> None:
    mother = net("relu", [200, 200])
    torch.manual_seed(0)
    plain = MLP((1,), 1, widths=[200, 200], init="kaiming_normal")
    for key, layer in linears(mother):
        at = mother.planted[key]
        assert (layer.weight[at] > 0).all()
        if layer is not mother.head:
            assert (plain.get_parameter(key)[at] > 0).all()


def test_biases_have_the_size_of_what_reaches_their_units() -> None:
    torch.manual_seed(0)
    plain = MLP((2,), 4, widths=[4000, 3000])
    draw_biases(plain)
    assert plain.hidden[0].bias.std().item() == pytest.approx(1.0, rel=0.05)
    assert plain.hidden[1].bias.std().item() == pytest.approx(math.sqrt(2 / 4000), rel=0.05)


def test_the_seed_decides_and_copies_keep_the_truth() -> None:
    a, b, other = net("helix", [40, 40]), net("helix", [40, 40]), net("helix", [40, 40], seed=1)
    assert all(torch.equal(a.planted[n], b.planted[n]) for n in a.planted)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert any(not torch.equal(a.planted[n], other.planted[n]) for n in a.planted)
    assert set(copy.deepcopy(a).planted) == set(a.planted) == {"hidden.0.weight", "hidden.1.weight", "head.weight"}
    assert a.state_dict().keys() == MLP((1,), 3, widths=[40, 40]).state_dict().keys()


# ---- refusals


@pytest.mark.parametrize(
    ("shape", "outputs", "knobs", "sentence"),
    [
        ((2,), 4, {"widths": [50, 10]}, r"backbone.widths=\[50, 10\]: hidden layer 1 of the ticket has 20 units"),
        ((1,), 3, {"widths": [20], "knots": 30}, "fewer backbone.knots"),
        ((3,), 1, {"widths": [50]}, "no ticket has as many: take data=planted_circle"),
        ((1,), 1, {"widths": [50], "ticket": "helix"}, "backbone.ticket=helix has 1 and 3: take data=planted_helix"),
    ],
)
def test_nets_and_data_without_a_ticket_are_refused(shape: tuple, outputs: int, knobs: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Planted(shape, outputs, **knobs)
