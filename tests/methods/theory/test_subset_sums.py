"""Subset sums: exact solvers are exact, the heuristic is not, and errors fall by the bits that theory says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskbench.methods.theory import subset_sums
from maskbench.methods.theory.construct import PICKS, typical_error


def case(seed: int, rows: int, n: int, goals: int = 1) -> tuple[Tensor, Tensor]:
    """Values uniform on [-1, 1], goals uniform on [-1/2, 1/2]."""
    source = torch.Generator().manual_seed(seed)
    values = 2 * torch.rand(rows, n, dtype=torch.float64, generator=source) - 1
    return values, torch.rand(rows, goals, dtype=torch.float64, generator=source) - 0.5


def products(seed: int, rows: int, n: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    u, v = torch.rand(2, rows, n, dtype=torch.float64, generator=source)
    return u, 2 * v - 1


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3))
def test_meet_in_the_middle_equals_brute_force(seed: int, n: int, goals: int) -> None:
    values, goal = case(seed, 5, n, goals)
    subsets, best = subset_sums.meet_in_the_middle(values, goal), subset_sums.brute_force(values, goal)
    assert torch.allclose(subsets.error, best.error, rtol=0, atol=1e-15)
    assert torch.equal(subsets.error, ((values[:, None] * subsets.kept).sum(-1) - goal).abs())


@given(st.integers(0, 10**6), st.integers(1, 11), st.sampled_from([0.2, 0.02, 0.002]))
def test_smallest_is_smallest_and_best_where_nothing_is_within_the_tolerance(seed: int, n: int, eps: float) -> None:
    values, goal = case(seed, 5, n, 2)
    sums, sizes = subset_sums.subset_sums(values), subset_sums.members(torch.arange(2**n), n).sum(-1)
    within = (sums[:, None] - goal[..., None]).abs() <= eps
    least = torch.where(within, sizes, n + 1).amin(-1)
    subsets, possible = subset_sums.smallest(values, goal, eps), within.any(-1)
    assert torch.equal(subsets.kept.sum(-1)[possible], least[possible])
    assert (subsets.error[possible] <= eps * (1 + 1e-9)).all()
    best = subset_sums.brute_force(values, goal)
    assert torch.allclose(subsets.error[~possible], best.error[~possible], rtol=0, atol=1e-15)


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, goal = case(1, 40, 13, 7)
    whole = [subset_sums.meet_in_the_middle(values, goal), subset_sums.smallest(values, goal, 1e-3)]
    monkeypatch.setattr(subset_sums, "BLOCK", 300)
    parts = [subset_sums.meet_in_the_middle(values, goal), subset_sums.smallest(values, goal, 1e-3)]
    assert all(torch.equal(a.kept, b.kept) for a, b in zip(whole, parts, strict=True))


def test_no_candidate_or_too_many() -> None:
    values, goal = torch.zeros(2, 0, dtype=torch.float64), torch.tensor([[0.5], [-0.25]], dtype=torch.float64)
    assert torch.equal(subset_sums.meet_in_the_middle(values, goal).error, goal.abs())
    assert torch.equal(subset_sums.smallest(values, goal, 0.1).error, goal.abs())
    with pytest.raises(ValueError, match="cut them to 24"):
        subset_sums.meet_in_the_middle(*case(0, 1, 25))


def test_t8_programming_agrees_within_its_gap() -> None:
    values, goal = case(3, 20, 12)
    exact, program = subset_sums.meet_in_the_middle(values, goal), subset_sums.milp(values, goal)
    assert (program.error >= exact.error - 1e-12).all()
    assert torch.allclose(program.error, exact.error, rtol=0.01, atol=1e-5)
    fewest, program = subset_sums.smallest(values, goal, 0.05), subset_sums.milp(values, goal, 0.05)
    reached = fewest.error[:, 0] <= 0.05
    assert reached.sum() >= 15 and torch.equal(fewest.kept.sum(-1)[reached], program.kept.sum(-1)[reached])
    assert not program.kept[~reached].any(), "nothing is within reach, so nothing is kept"


def test_greedy_is_a_heuristic_far_from_the_best() -> None:
    """Specification section 4: median .038 at n = 14, against 9e-5."""
    values, goal = case(4, 1000, 14)
    subsets = subset_sums.greedy(values, goal)
    assert (subsets.error >= subset_sums.meet_in_the_middle(values, goal).error - 1e-15).all()
    assert 0.02 <= subsets.error.median() <= 0.06


def test_t1_errors_fall_by_a_bit_a_candidate() -> None:
    sizes = np.arange(8, 21, 2)
    medians = [subset_sums.meet_in_the_middle(*case(int(n), 1000, int(n))).error.median().item() for n in sizes]
    assert -1.05 <= np.polyfit(sizes, np.log2(medians), 1)[0] <= -0.85
    ratios = [median / typical_error(int(n), 1 / 12) for n, median in zip(sizes, medians, strict=True)]
    assert all(1 <= ratio <= 2.5 for ratio in ratios)


def test_t2_slopes_of_single_picks() -> None:
    """One pick for goals on [-1, 1] from N pairs, of which those with u > 0 are usable."""
    sizes = [100, 316, 1000, 3162, 10000]
    source = torch.Generator().manual_seed(0)
    goal = 2 * torch.rand(400, dtype=torch.float64, generator=source) - 1
    for name, expected, slack in (("two_coordinate", -0.5, 0.05), ("product", -1.0, 0.1)):
        medians = []
        for size in sizes:
            errors = []
            for row, z in enumerate(goal[:, None]):
                u, v = 2 * torch.rand(2, 1, size, dtype=torch.float64, generator=source) - 1
                usable = u[0] > 0
                u, v = u[:, usable], v[:, usable]
                kept = PICKS[name].choose(u, v, z, 0.0)
                if name == "product":
                    errors.append((u * v)[kept].sub(z).abs().item())
                else:
                    errors.append(torch.maximum((u[kept] - z.abs()).abs(), (v[kept] - z.sign()).abs()).item())
                assert kept.sum() == 1, row
            medians.append(np.median(errors))
        assert np.polyfit(np.log(sizes), np.log(medians), 1)[0] == pytest.approx(expected, abs=slack)


def test_t3_share_of_goals_within_a_hundredth() -> None:
    u, v = products(0, 4000, 14)
    goal = case(5, 4000, 1)[1]
    error = subset_sums.meet_in_the_middle(u * v, goal).error
    assert (error <= 0.01).double().mean().item() == pytest.approx(0.990, abs=0.005)


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_t7_a_single_pick_is_a_subset(seed: int, n: int) -> None:
    u, v = products(seed, 20, n)
    goal = case(seed, 20, 1)[1][:, 0]

    def error(kept: Tensor) -> Tensor:
        return ((u * v * kept).sum(1) - goal).abs()

    subset = subset_sums.meet_in_the_middle(u * v, goal[:, None]).error[:, 0]
    product, proof = (error(PICKS[name].choose(u, v, goal, 0.0)) for name in ("product", "two_coordinate"))
    assert (subset <= product + 1e-15).all() and (product <= proof + 1e-15).all()


def test_the_formula_is_the_specifications() -> None:
    assert typical_error(14, 1 / 12) == pytest.approx(math.log(2) * math.sqrt(2 * math.pi * 14 / 12) / 2**15)
