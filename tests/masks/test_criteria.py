"""Criteria by their formulas."""

import pytest
import torch

from maskbench import masks
from maskbench.masks import criteria


def weights(seed: int = 0) -> criteria.Weights:
    torch.manual_seed(seed)
    init, final = torch.randn(30, 20, dtype=torch.float64), torch.randn(30, 20, dtype=torch.float64)
    return criteria.Weights(init, final, torch.ones(30, 20).bool(), 100, lambda: torch.ones(30, 20))


def test_same_sign_criterion_is_the_papers_formula() -> None:
    w = weights()
    formula = torch.clamp(w.final * w.init / w.init.abs(), min=0)
    assert torch.allclose(criteria.large_final_same_sign(w), formula)
    assert torch.allclose(criteria.large_final_diff_sign(w), torch.clamp(-w.final * w.init / w.init.abs(), min=0))


def test_large_at_both_ends_is_one_common_quantile() -> None:
    """The kept weights are those above the same rank in both orders, for the rank that keeps the count."""
    w = weights()
    kept = masks.keep_best(criteria.large_init_large_final(w), w.alive, w.keep)
    places = [criteria._rank(value.abs(), w.alive) for value in (w.init, w.final)]
    for cut in range(600):
        both = (places[0] >= cut) & (places[1] >= cut)
        if int(both.sum()) == w.keep:
            assert torch.equal(both, kept)
            return
    pytest.fail("no cut keeps the count")
