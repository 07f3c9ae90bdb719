"""Hopfield memory: both rules and the energy against loops in float64, and patterns that are found again."""

import math

import pytest
import torch
from torch import Tensor

from maskbench.methods.continual import hopfield


def patterns(count: int, units: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random patterns of +1 and -1, [count, units]."""
    return (torch.rand(count, units, generator=torch.Generator().manual_seed(count)) < 0.5).to(dtype) * 2 - 1


def stored(rule: str, z: Tensor) -> Tensor:
    psi = torch.zeros(z.shape[1], z.shape[1], dtype=z.dtype)
    for pattern in z:
        psi = hopfield.RULES[rule](psi, pattern)
    return psi


def naive(rule: str, z: Tensor) -> list[list[float]]:
    """Entry by entry, in Python's own floats."""
    d = z.shape[1]
    psi = [[0.0] * d for _ in range(d)]
    for pattern in z.tolist():
        h = [sum(psi[i][k] * pattern[k] for k in range(d)) for i in range(d)]
        step = [[pattern[i] * pattern[j] for j in range(d)] for i in range(d)]
        if rule == "storkey":
            step = [
                [step[i][j] - (i == j) - pattern[i] * h[j] - h[i] * pattern[j] for j in range(d)]
                for i in range(d)
            ]  # fmt: skip
        psi = [[psi[i][j] + step[i][j] / d for j in range(d)] for i in range(d)]
    return psi


@pytest.mark.parametrize("rule", hopfield.RULES)
@pytest.mark.parametrize("count", [1, 2, 6])
def test_rules_agree_with_loops(rule: str, count: int) -> None:
    z = patterns(count, 17)
    wanted = torch.tensor(naive(rule, z), dtype=torch.float64)
    assert (stored(rule, z) - wanted).abs().max() < 1e-13


@pytest.mark.parametrize("rule", hopfield.RULES)
def test_float32_is_as_good_as_its_precision(rule: str) -> None:
    z = patterns(5, 64)
    assert (stored(rule, z.float()) - stored(rule, z)).abs().max() < 1e-6


@pytest.mark.parametrize("rule", hopfield.RULES)
def test_the_memory_is_symmetric_and_of_one_size(rule: str) -> None:
    psi = stored(rule, patterns(9, 40))
    assert psi.shape == (40, 40) and torch.equal(psi, psi.T)


@pytest.mark.parametrize("rule", hopfield.RULES)
def test_a_rule_leaves_the_memory_it_is_given_alone(rule: str) -> None:
    psi, (z,) = stored(rule, patterns(3, 10)), patterns(1, 10)
    before = psi.clone()
    hopfield.RULES[rule](psi, z)
    assert torch.equal(psi, before)


def test_hebb_is_the_sum_of_the_outer_products() -> None:
    z = patterns(4, 12)
    torch.testing.assert_close(stored("hebb", z), z.T @ z / 12)


def test_storkey_has_no_diagonal_after_the_first_pattern() -> None:
    assert not stored("storkey", patterns(1, 12)).diagonal().any()


def test_energy_is_half_the_negative_quadratic_form() -> None:
    psi = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (z,) = patterns(1, 7)
    loop = -0.5 * sum(z[i] * psi[i, j] * z[j] for i in range(7) for j in range(7))
    assert hopfield.energy(psi, z).item() == pytest.approx(loop.item(), abs=1e-12)
    assert hopfield.energy(psi, z).shape == ()


def test_one_pattern_has_the_energy_of_the_formula() -> None:
    """E(z) = -d/2 by Hebb, and half a bit less deep without the diagonal, by Storkey: -(d - 1) / 2."""
    (z,) = patterns(1, 30)
    assert hopfield.energy(stored("hebb", z[None]), z).item() == pytest.approx(-15)
    assert hopfield.energy(stored("storkey", z[None]), z).item() == pytest.approx(-14.5)


@pytest.mark.parametrize("rule", hopfield.RULES)
def test_the_gradient_of_the_energy_is_minus_psi_z(rule: str) -> None:
    psi = stored(rule, patterns(3, 11))
    z = patterns(8, 11)[7].requires_grad_()
    (grad,) = torch.autograd.grad(hopfield.energy(psi, z), z)
    torch.testing.assert_close(grad, -(psi @ z.detach()))


@pytest.mark.parametrize("rule", hopfield.RULES)
def test_few_patterns_are_fixed_points(rule: str) -> None:
    z = patterns(5, 256)
    assert torch.equal((stored(rule, z) @ z.T).sign().T, z)


@pytest.mark.parametrize("rule", hopfield.RULES)
def test_a_damaged_pattern_is_mended(rule: str) -> None:
    z = patterns(5, 256)
    psi, damaged = stored(rule, z), z.clone()
    damaged[:, :30] *= -1
    for _ in range(5):
        damaged = (damaged @ psi).sign()
    assert torch.equal(damaged, z)


def test_storkey_loses_less_of_correlated_patterns_than_hebb() -> None:
    """Masks of one net have bits in common; that is why the rule matters."""
    (base,), z = patterns(1, 256), patterns(12, 256)
    z[:, :80] = base[:80]
    lost = {rule: int(((stored(rule, z) @ z.T).sign().T != z).sum()) for rule in hopfield.RULES}
    assert 5 * lost["storkey"] < lost["hebb"]


def test_capacity_is_storkeys() -> None:
    assert hopfield.capacity(2048) == pytest.approx(2048 / math.sqrt(2 * math.log(2048)))
    assert 524 < hopfield.capacity(2048) < 525
