"""Two masked random layers compute what the kept pairs add up to, for every storage, side and rule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import functional_call

from maskbench.common.streams import generator
from maskbench.methods.theory import certify, construct

RULES = {**construct.PICKS, "subset_sum": construct.subsets(), "min_size": construct.subsets("min_size")}


def target(seed: int, d_out: int, d_in: int) -> torch.Tensor:
    w = torch.randn(d_out, d_in, dtype=torch.float64, generator=generator(seed, "w"))
    return w / certify.norm(w)


def built(w: torch.Tensor, rule: construct.Rule, storage: str, both: bool, width: int = 12, distribution: str = "uniform"):
    """(plan, net, masks, kept, what was drawn) of one target layer."""
    plan = construct.TwoLayers(rule, distribution, storage)
    net, drawn = plan.net(1), plan.draw([w], 0, width, "test")
    kept = plan.choose(w, drawn, both, 0.05)
    dense = plan.dense([tuple(w.shape)], width)
    masks = dict(zip(plan.names(0), plan.masks(kept, dense), strict=True))
    for layer, weight in zip(net.layers, plan.tensors(drawn, dense, "test"), strict=True):
        layer.weight = weight
    return plan, net, masks, kept, drawn


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("storage", ["dense", "block"])
def test_the_masked_net_is_what_its_matrices_say(name: str, both: bool, storage: str) -> None:
    w = target(1, 5, 3)
    plan, net, masks, kept, drawn = built(w, RULES[name], storage, both)
    x = torch.randn(20, 3, dtype=torch.float64, generator=generator("x"))
    x = x if both else x.abs()
    weights = {key: net.get_buffer(key).double() * mask for key, mask in masks.items()}
    assert all(mask.dtype == torch.bool and mask.shape == net.get_buffer(key).shape for key, mask in masks.items())
    answer = functional_call(net, weights, (x,))
    claimed, read = plan.effect(drawn, kept, both), plan.read([net.get_buffer(k) for k in masks], list(masks.values()), both)
    assert torch.allclose(answer, claimed(x), atol=1e-12) and torch.allclose(answer, read(x), atol=1e-12)
    reach = certify.layer_error(w, claimed)
    assert ((answer - x @ w.T).norm(dim=1) <= reach * x.norm(dim=1) * certify.SAFE).all()


def test_dense_and_block_are_the_same_net() -> None:
    w = target(2, 4, 6)
    nets = [built(w, RULES["subset_sum"], storage, True) for storage in ("dense", "block")]
    (_, dense, masks, kept, _), (_, block, block_masks, other, _) = nets
    assert torch.equal(kept, other)
    first, small = dense.layers[0].weight.view(12, 6, 6), block.layers[0].weight[..., 0]
    assert torch.equal(first.diagonal(dim1=1, dim2=2), small) and torch.equal(dense.layers[1].weight, block.layers[1].weight)
    assert (dense.layers[0].weight != 0).all(), "the rest of the dense matrix is drawn too"
    assert masks["layers.0.weight"].sum() == block_masks["layers.0.weight"].sum()


def test_only_pairs_of_the_right_sign_are_kept() -> None:
    w = target(3, 4, 6)
    for both in (True, False):
        *_, kept, drawn = built(w, RULES["product"], "block", both)
        positive = (drawn.u > 0)[:, None].expand_as(kept)
        assert (kept & positive).sum() == w.numel(), "one pair a weight and side"
        assert (kept & ~positive).sum() == (w.numel() if both else 0)


@given(st.integers(0, 1000), st.sampled_from(["uniform", "normal"]))
def test_a_wider_draw_begins_with_a_narrower_one(seed: int, distribution: str) -> None:
    narrow, wide = (construct.draw((3, 5), width, distribution, seed) for width in (7, 23))
    assert torch.equal(wide.u[:7], narrow.u) and torch.equal(wide.v[:7], narrow.v)


def test_laws() -> None:
    for distribution, deviation in (("uniform", 3**-0.5), ("normal", 1.0)):
        v = construct.draw((50, 40), 50, distribution, 1).v
        assert v.mean().abs() < 0.02 and v.std().item() == pytest.approx(deviation, rel=0.02)


def test_t7_errors_by_rule_for_equal_candidates() -> None:
    w, errors = target(5, 6, 4), {}
    for name in ("subset_sum", "product", "two_coordinate"):
        plan, *_, kept, drawn = built(w, RULES[name], "block", True, width=20)
        stand_in = plan.effect(drawn, kept, True)
        errors[name] = torch.cat([(stand_in.plus - w).abs(), (stand_in.minus + w).abs()])
    assert (errors["subset_sum"] <= errors["product"] + 1e-15).all()
    assert (errors["product"] <= errors["two_coordinate"] + 1e-15).all()


def test_beyond_24_candidates_the_largest_u_count() -> None:
    u, v = torch.rand(3, 40, dtype=torch.float64), torch.rand(3, 40, dtype=torch.float64) - 0.5
    kept = construct.subsets().choose(u, v, torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64), 0.0)
    low = u.sort(1, descending=True).values[:, 23:24]
    assert kept.any() and not (kept & (u < low)).any()


def test_the_faithful_code_shares_its_numbers_within_an_output() -> None:
    w = target(6, 3, 5)
    plan = construct.SharedSums(construct.subsets())
    drawn = plan.draw([w], 0, 21, "test")
    assert torch.equal(drawn[:, :1].expand_as(drawn), drawn) and drawn.min() >= w.min() - 1e-6 and drawn.max() <= w.max() + 1e-6
    kept = plan.choose(w, drawn, False, 0.0)
    net = plan.net(1)
    net.layers[0].weight = plan.tensors(drawn, True)[0]
    x = torch.rand(4, 5, dtype=torch.float64)
    answer = functional_call(net, {"layers.0.weight": drawn.double() * kept}, (x,))
    assert torch.allclose(answer, plan.effect(drawn, kept, False)(x)) and torch.allclose(answer, x @ w.T, atol=0.03)


@pytest.mark.parametrize("layer", [0, 1])
def test_the_faithful_code_draws_over_the_range_of_the_whole_net_and_zero(layer: int) -> None:
    """As the authors' code: from the least to the largest weight of all layers, not of the layer in hand; 0 lies within."""
    goals = [torch.tensor([[0.1, 0.2], [0.3, 0.2]]).double(), torch.tensor([[0.5, 0.7]]).double()]
    drawn = construct.SharedSums(construct.subsets()).draw(goals, layer, 4000, "range")
    assert 0 <= drawn.min() < 0.01 and 0.69 < drawn.max() <= 0.7
