"""Widths that are proved to do, held against simulation; and the typical width, which is no bound."""

import math

import pytest
import torch

from maskbench.common.streams import generator
from maskbench.methods.theory import construct, widths


def test_typical_widths() -> None:
    """Section 2, and their scaling: two coordinates 1/e^2, products 1/e, subsets two for each halving."""
    typical = widths.typical_width
    assert typical("two_coordinate", 0.1, 1, miss=0.5) == pytest.approx(2 * 0.6931 / 0.01, rel=1e-3)
    ratio = {name: typical(name, 0.01, 10) / typical(name, 0.02, 10) for name in construct.PICKS}
    assert ratio == {"two_coordinate": pytest.approx(4), "product": pytest.approx(2)}
    assert typical("subset_sum", 0.01, 10) - typical("subset_sum", 0.02, 10) == pytest.approx(2)


def candidates(law: str, n: int, *stream: object) -> torch.Tensor:
    """[n] candidates |u| v of one weight, nan where u has the wrong sign."""
    pairs = construct.draw((1, 1), n, law, "widths", *stream)
    return torch.where(pairs.u > 0, pairs.u * pairs.v[:, 0], torch.nan)[:, 0].double()


@pytest.mark.parametrize("law", widths.LAWS)
def test_the_laws_are_those_of_what_is_drawn(law: str) -> None:
    x, of = candidates(law, 200_000), widths.LAWS[law]
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.5)):
        share = ((x > low) & (x <= high)).double().mean().item()
        assert share == pytest.approx(of.between(low, high), abs=0.003)
    assert of.density(0.3) == pytest.approx(of.between(0.299, 0.301) / 0.002, rel=1e-3)
    u = construct.draw((1, 1), 200_000, law, "widths").u[:, 0]
    assert ((u - 0.5).abs() <= 0.2).double().mean().item() == pytest.approx(of.near(0.5, 0.2), abs=0.004)


@pytest.mark.parametrize("law", widths.LAWS)
@pytest.mark.parametrize("c", [0.05, 0.4])
def test_one_more_candidate_covers_what_the_proof_says(law: str, c: float) -> None:
    """On average f grows by rho f (1 - f) or more, whatever is covered; and where c is small by hardly more than that."""
    b, x = c / 2, candidates(law, 20_000, "growth").nan_to_num(10.0)
    z = torch.linspace(-b, b, 401, dtype=torch.float64)
    for low, high in ((-1.0, -0.9), (-0.3, 0.3), (-1.0, 0.5)):  # in units of b: what is covered
        before = (z >= low * b) & (z <= high * b)
        shifted = (z >= low * b + x[:, None]) & (z <= high * b + x[:, None])
        f = before.double().mean().item()
        growth = (shifted & ~before).double().mean(1)
        least = c * widths.LAWS[law].density(c) * f * (1 - f)
        error = growth.std().item() / math.sqrt(len(x))
        assert growth.mean().item() > least - 3 * error
        assert c > 0.1 or growth.mean().item() < 1.8 * least
        ratio = (1 - f - growth) / (f + growth) / ((1 - f) / f)
        assert ratio.mean().item() < widths.left(c, widths.LAWS[law]) + 3 * ratio.std().item() / math.sqrt(len(x))


def test_single_pairs_fail_as_often_as_was_allowed() -> None:
    """Of the nearest product the width is exact; two coordinates within e are within eps."""
    w, eps = 0.3, 0.05
    n = widths.sufficient_width("product", eps, 1, w, miss=0.3)
    missed = [not ((candidates("uniform", n, i) - w).abs() <= eps).any() for i in range(1000)]
    assert 0.24 < sum(missed) / 1000 < 0.35
    for law in widths.LAWS:
        n = widths.sufficient_width("two_coordinate", 0.3, 1, w, law, miss=0.3)
        u = construct.draw((1, 1), n * 300, law, "two").u.view(300, n).double()
        v = construct.draw((1, 1), n * 300, law, "two").v.view(300, n).double()
        goal, usable = torch.full((300,), w).double(), torch.where(u > 0, u, torch.inf)
        error = ((u * v - w).abs() * construct.two_coordinate(usable, v, goal, 0.0)).sum(1)
        assert (error > 0.3).double().mean().item() < 0.35


@pytest.mark.parametrize("law", widths.LAWS)
def test_at_the_sufficient_width_all_weights_are_within_eps_and_at_the_typical_one_they_are_not(law: str) -> None:
    """256 weights at eps .01: the typical width misses one in most draws, the sufficient one in none."""
    w = torch.empty(16, 16, dtype=torch.float64).uniform_(-0.3, 0.3, generator=generator("weights"))
    rule, eps = construct.subsets(), 0.01

    def missed(width: int, draws: int) -> int:
        count = 0
        for draw in range(draws):
            pairs = construct.draw((16, 16), width, law, "whole", draw)
            kept = construct.choose(w, pairs, False, rule, eps)
            count += bool(((construct.effect(*pairs, kept, False).plus - w).abs() > eps).any())
        return count

    assert missed(round(widths.typical_width("subset_sum", eps, 256)), draws=8) >= 4
    assert missed(widths.sufficient_width("subset_sum", eps, 256, 0.3, law), draws=3) == 0


def test_more_weights_surer_and_larger_ones_need_more() -> None:
    base = widths.sufficient_width("subset_sum", 0.01, 256, 0.3)
    assert widths.sufficient_width("subset_sum", 0.01, 2560, 0.3) > base
    assert widths.sufficient_width("subset_sum", 0.01, 256, 0.3, miss=0.001) > base
    assert widths.sufficient_width("subset_sum", 0.01, 256, 0.9) > base
    halving = [widths.sufficient_width("subset_sum", 0.01 / 2**i, 256, 0.3) for i in range(4)]
    steps = [b - a for a, b in zip(halving, halving[1:], strict=False)]
    assert max(steps) - min(steps) <= 1, "a logarithm of 1 / eps"
