"""Strong lottery tickets against the proofs' own words, written out one weight at a time: picks, sums, what they compute."""

import itertools

import pytest
import torch
from torch import Tensor

from maskbench.methods.theory import certify, construct, neurons, subset_sums


def layer(width: int = 12) -> tuple[Tensor, construct.Pairs]:
    torch.manual_seed(0)
    w = torch.randn(3, 2, dtype=torch.float64) * 0.3
    return w, construct.draw((3, 2), width, "uniform", 7, "layer")


def by_hand(w: Tensor, pairs: construct.Pairs, rule: str) -> Tensor:
    """Which pairs stay, by looking at every candidate of every weight and side."""
    kept = torch.zeros(pairs.v.shape, dtype=torch.bool)
    for j, i in itertools.product(range(w.shape[0]), range(w.shape[1])):
        for side in (1, -1):
            usable = [k for k in range(len(pairs.u)) if float(pairs.u[k, i]) * side > 0]
            u, v = (
                [float(t) for t in some] for some in ([pairs.u[k, i].abs() for k in usable], [pairs.v[k, j, i] for k in usable])
            )
            goal = side * float(w[j, i])
            if rule == "two_coordinate":
                errors = [max(abs(a - abs(goal)), abs(b - (1 if goal > 0 else -1))) for a, b in zip(u, v, strict=True)]
            else:
                errors = [abs(a * b - goal) for a, b in zip(u, v, strict=True)]
            kept[usable[min(range(len(errors)), key=errors.__getitem__)], j, i] = True
    return kept


@pytest.mark.parametrize("rule", ["two_coordinate", "product"])
def test_single_pairs(rule: str) -> None:
    w, pairs = layer()
    assert torch.equal(construct.choose(w, pairs, True, construct.PICKS[rule], 0.0), by_hand(w, pairs, rule))


def test_subset_of_least_error() -> None:
    torch.manual_seed(1)
    values, goals = torch.rand(4, 9, dtype=torch.float64) * 2 - 1, torch.rand(4, 3, dtype=torch.float64) - 0.5
    subsets = subset_sums.meet_in_the_middle(values, goals)
    for row, goal_row, errors in zip(values.tolist(), goals.tolist(), subsets.error.tolist(), strict=True):
        sums = [sum(some) for size in range(10) for some in itertools.combinations(row, size)]
        for goal, error in zip(goal_row, errors, strict=True):
            assert error == pytest.approx(min(abs(s - goal) for s in sums), abs=1e-12)


def test_kept_pairs_compute_what_the_two_random_layers_do() -> None:
    w, pairs = layer()
    kept = construct.choose(w, pairs, True, construct.PICKS["product"], 0.0)
    x = torch.randn(20, 2, dtype=torch.float64)
    u, v = pairs.u.double(), pairs.v.double()
    hidden = (x[:, None] * u).clamp(min=0)  # [points, N, inputs]: each neuron sees one input
    direct = torch.einsum("pni,nji->pj", hidden, v * kept)
    torch.testing.assert_close(construct.effect(*pairs, kept, True)(x), direct, rtol=0, atol=1e-12)


def test_candidates_are_uniform_on_minus_one_to_one() -> None:
    pairs = construct.draw((40, 30), 50, "uniform", 3)
    for part in pairs:
        assert 0.995 < part.abs().max().item() <= 1
        assert part.double().mean().item() == pytest.approx(0, abs=0.03)
        assert part.double().var().item() == pytest.approx(1 / 3, rel=0.05)


def test_certificate_in_its_recursion() -> None:
    torch.manual_seed(2)
    target = [torch.randn(4, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)]
    off = [(0.01 * torch.randn_like(w), 0.02 * torch.randn_like(w)) for w in target]
    maps = [certify.Map(w + plus, minus - w) for w, (plus, minus) in zip(target, off, strict=True)]
    delta, reach = 0.0, 1.0
    for w, sides in zip(target, off, strict=True):
        size, error = torch.linalg.svdvals(w)[0].item(), torch.linalg.svdvals(torch.cat(sides, 1))[0].item()
        delta, reach = delta * (size + error) + error * reach, reach * size
    assert certify.certificate(target, maps) == pytest.approx(delta, rel=1e-6)


def test_gain_of_a_mask_over_neurons_is_that_of_the_best_scalar() -> None:
    torch.manual_seed(3)
    phi, v, y = (torch.randn(*shape, dtype=torch.float64) for shape in ((30, 6), (6, 2), (30, 2)))
    quadratic, m = neurons.quadratic(phi, v, y), torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.float64)
    g = (phi * m) @ v
    scalar = (g * y).sum() / (g * g).sum()
    assert quadratic.scalar(m) == pytest.approx(scalar.item(), rel=1e-10)
    assert quadratic.gain(m).item() == pytest.approx(((y**2).sum() - ((y - scalar * g) ** 2).sum()).item(), rel=1e-9)
