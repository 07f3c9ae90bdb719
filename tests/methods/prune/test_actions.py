"""What becomes of kept and pruned weights, one layer at a time."""

import pytest
import torch

from maskbench.methods.prune import actions


def layer(seed: int = 0) -> actions.Layer:
    torch.manual_seed(seed)
    init, final = torch.randn(40, 30), torch.randn(40, 30)
    return actions.Layer(init, final, torch.rand(40, 30) < 0.5, lambda: torch.randn(40, 30))


ON_KEPT = ["reinit", "permute", "reshuffle", "constant"]


@pytest.mark.parametrize("name", ON_KEPT)
def test_signed_actions_keep_signs_and_free_ones_do_not(name: str) -> None:
    one = layer()
    signed, free = (actions.mask1(n)(one)[one.mask] for n in (f"signed_{name}", name))
    assert torch.equal(signed.sign(), one.init[one.mask].sign())
    assert not torch.equal(free.sign(), one.init[one.mask].sign())


def test_permutations_keep_the_values() -> None:
    one = layer()
    assert torch.equal(actions.permute(one).flatten().sort().values, one.init.flatten().sort().values)
    assert torch.equal(actions.reshuffle(one)[one.mask].sort().values, one.init[one.mask].sort().values)
    assert torch.equal(actions.reshuffle(one)[~one.mask], one.init[~one.mask])


def test_the_constant_is_the_std_of_the_whole_layer() -> None:
    one = layer()
    assert torch.allclose(actions.constant(one).abs(), one.init.std(correction=0).expand(40, 30))


def test_freezing_what_did_not_move_toward_zero() -> None:
    one = layer()
    toward = one.final.abs() < one.init.abs()
    variant, reverse = actions.freeze_init_zero_mask(one), actions.freeze_init_zero_rev(one)
    assert torch.equal(variant, torch.where(toward, 0.0, one.init))
    assert torch.equal(reverse, torch.where(toward, one.init, 0.0))
    shuffled = actions.freeze_init_zero_reshuffle(one)
    pruned = ~one.mask
    assert int((shuffled[pruned] == 0).sum()) == int((variant[pruned] == 0).sum())
