"""Deconstructing lottery tickets against its authors' mask script: criteria, signed constants, learned supermasks."""

import pytest
import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.masks import criteria
from maskbench.methods.prune import actions
from maskbench.methods.prune.actions import Layer
from maskbench.methods.prune.supermask import Supermask

EXACT = ("large_final", "small_final", "large_init", "small_init", "magnitude_increase", "movement")


def mask(frozen: dict[str, Tensor], criterion: str, keep: int, alive: Tensor) -> Tensor:
    w = criteria.Weights(frozen["init"], frozen["final"], alive, keep, lambda: frozen["init"])
    return masks.keep_best(getattr(criteria, criterion)(w), alive, keep)


@pytest.mark.parametrize("percent", [30, 60])
@pytest.mark.parametrize("criterion", EXACT)
def test_criteria_draw_the_authors_masks(frozen, criterion: str, percent: int) -> None:
    theirs = frozen[f"{criterion}/{percent}"].bool()
    assert torch.equal(mask(frozen, criterion, int(theirs.sum()), frozen["alive"].bool()), theirs)


@pytest.mark.parametrize("criterion", ["large_final_same_sign", "large_final_diff_sign"])
def test_sign_criteria_draw_the_authors_masks_but_for_ties_at_zero(frozen, criterion: str) -> None:
    fits = (frozen["init"] * frozen["final"] > 0) == (criterion == "large_final_same_sign")
    for percent in (30, 60):
        theirs = frozen[f"{criterion}/{percent}"].bool()
        ours = mask(frozen, criterion, int(theirs.sum()), frozen["alive"].bool())
        assert torch.equal(ours & fits, theirs & fits) and int(ours.sum()) == int(theirs.sum())


@pytest.mark.parametrize("percent", [30, 60])
@pytest.mark.parametrize("criterion", ["large_init_large_final", "small_init_small_final"])
def test_two_sided_criteria_keep_what_passes_one_common_quantile(frozen, criterion: str, percent: int) -> None:
    """The bisection ends within a rank or two of the count: all of one mask lies in the other."""
    theirs = frozen[f"{criterion}/{percent}"].bool()
    everywhere = torch.ones_like(theirs)
    keep = int(theirs.sum())
    smaller, larger = (mask(frozen, criterion, keep + by, everywhere) for by in (-3, 3))
    assert abs(keep - (1 - percent / 100) * theirs.numel()) <= 3
    assert bool((smaller <= theirs).all()) and bool((theirs <= larger).all())


def test_flipped_weights_rank_below_all_others_where_the_authors_give_them_zero(frozen) -> None:
    theirs = frozen["magnitude_increase_same_sign/30"].bool()
    ours = mask(frozen, "magnitude_increase_same_sign", int(theirs.sum()), frozen["alive"].bool())
    same = frozen["init"] * frozen["final"] > 0
    assert int((ours & same).sum()) >= int((theirs & same).sum()) and bool((theirs & ~same).any())
    grown = same & (frozen["final"].abs() > frozen["init"].abs()) & frozen["alive"].bool()
    assert torch.equal(ours & grown, theirs & grown), "what grew and kept its sign stays under both rules"


def test_signed_constants_are_the_authors(frozen) -> None:
    init = frozen["init"]
    layer = Layer(init, frozen["final"], frozen["alive"].bool(), lambda: init)
    ticket = actions.mask1("signed_constant")(layer).double()
    torch.testing.assert_close(ticket, frozen["signed_constant"], rtol=1e-5, atol=0)
    net = nn.Sequential(nn.Linear(15, 20, bias=False))
    net[0].weight.data.copy_(init)
    torch.testing.assert_close(Supermask(net, constant=True).w["0.weight"].double(), frozen["signed_constant"], rtol=1e-5, atol=0)


def test_what_pruned_weights_are_frozen_at(frozen) -> None:
    init, final, kept = frozen["init"], frozen["final"], frozen["alive"].bool()
    layer = Layer(init, final, kept, lambda: init)
    shrank = final.abs() < init.abs()
    expected = {
        "zero": 0 * init,
        "freeze_init": init,
        "freeze_init_zero_mask": init * ~shrank,
        "freeze_init_zero_rev": init * shrank,
    }
    for name, values in expected.items():
        assert torch.equal(actions.mask0(name)(layer), values), name


@pytest.mark.parametrize("rescale", [False, True])
def test_gradient_of_a_learned_supermask_in_closed_form(rescale: bool) -> None:
    """dL/ds = dL/dm p (1 - p); rescaled, w' = w m n / sum m, so dL/dm_i = r (G_i w_i - sum(G w m) / sum m)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 4, bias=False)).double()
    method = Supermask(net, rescale=rescale).double()
    method.logit("0.weight").data.normal_()
    logit, w, noise = method.logit("0.weight"), net[0].weight.detach(), torch.rand(4, 6, dtype=torch.float64)
    slope = torch.randn(4, 6, dtype=torch.float64)
    drawn = masks.bernoulli(logit, noise)
    assert torch.equal(drawn.detach(), (noise < 1 / (1 + (-logit.detach()).exp())).double())
    (method.masked({"0.weight": drawn})["0.weight"] * slope).sum().backward()
    m, p = drawn.detach(), 1 / (1 + (-logit.detach()).exp())
    ratio = m.numel() / m.sum() if rescale else 1.0
    to_mask = slope * w * ratio - (ratio * (slope * w * m).sum() / m.sum() if rescale else 0.0)
    torch.testing.assert_close(logit.grad, to_mask * p * (1 - p), rtol=0, atol=1e-12)
