"""Controls of lottery tickets: branches with other masks and other weights, masks of early steps, training that goes on."""

import copy
from types import SimpleNamespace

import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.methods.prune.lottery import Lottery

SITES = ["hidden.0.weight", "hidden.1.weight", "head.weight"]


@pytest.mark.parametrize("knobs", [{"mask": "random"}, {"mask": "one_shot"}, {"mask1": "reinit"}, {"mask0": "freeze_init"}])
def test_branches_keep_the_counts_and_leave_the_method_alone(knobs: dict, tickets: SimpleNamespace) -> None:
    method = tickets.small()
    tickets.level_down(method, 2)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    twin = copy.deepcopy(method).branch(None, **knobs)
    assert tickets.counts(twin) == tickets.counts(method)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_reinit_draws_afresh_and_keeps_the_mask(tickets: SimpleNamespace) -> None:
    method = tickets.small()
    tickets.level_down(method, 1)
    twin = copy.deepcopy(method).branch(None, mask1="reinit")
    for name in SITES:
        assert torch.equal(twin.alive[name], method.alive[name])
        assert not torch.equal(twin.net.get_parameter(name), method.begin[name])
        assert float(twin.start[name].std()) == pytest.approx(float(method.begin[name].std()), rel=0.15)


def test_one_shot_equals_the_first_level(tickets: SimpleNamespace) -> None:
    """From the same dense net, drawing level 1 at once is level 1."""
    method = tickets.small()
    tickets.level_down(method, 1)
    twin = copy.deepcopy(method).branch(None, mask="one_shot", level=1)
    assert all(torch.equal(twin.alive[name], method.alive[name]) for name in SITES)


def test_an_unknown_branch_is_refused(tickets: SimpleNamespace) -> None:
    method = tickets.small()
    tickets.level_down(method, 1)
    with pytest.raises(UsageError, match="one of same, random, .*, not other"):
        method.branch(None, mask="other")


@pytest.mark.parametrize("name", ["rewind", "signed_constant"])
def test_rescaling_makes_up_for_the_weights_that_went(name: str, tickets: SimpleNamespace) -> None:
    """Over levels n / ones of the mask, not the product of that of each level."""
    plain, scaled = tickets.small(mask1=name), tickets.small(mask1=f"{name}_rescaling")
    for method in (plain, scaled):
        tickets.level_down(method, 2)
    for site in plain.sites:
        alive = scaled.alive[site].bool()
        factor = alive.numel() / alive.sum()
        value = (
            plain.begin[site][alive] if name == "rewind" else plain.start[site][alive].abs() * scaled.begin[site][alive].sign()
        )
        assert torch.allclose(scaled.start[site][alive], value * factor, rtol=1e-3)


@pytest.mark.parametrize("mask", ["random", "random_even", "random_global"])
def test_random_masks_keep_the_count_of_a_layer_of_the_net_or_evenly(mask: str, tickets: SimpleNamespace) -> None:
    method = tickets.small(output_rate=0.05)
    tickets.level_down(method, 4)
    control = copy.deepcopy(method).branch(None, mask=mask)
    assert sum(tickets.counts(control)) == sum(tickets.counts(method)) and masks_differ(control, method)
    assert (tickets.counts(control) == tickets.counts(method)) == (mask == "random")
    shares = [m / control.alive[name].numel() for m, name in zip(tickets.counts(control), control.sites, strict=True)]
    if mask == "random_even":
        assert max(shares) - min(shares) <= 1.5 / 200  # a weight of the smallest layer
    assert max(shares) - min(shares) > 0.1 if mask == "random" else max(shares) - min(shares) < 0.1


def masks_differ(a: Lottery, b: Lottery) -> bool:
    return not all(torch.equal(a.alive[name], b.alive[name]) for name in a.sites)


@pytest.mark.parametrize("mask", ["same_sign", "diff_sign"])
def test_a_sign_alone_makes_a_mask_without_a_rate(mask: str, tickets: SimpleNamespace) -> None:
    method = tickets.small()
    tickets.level_down(method, 1)
    control = copy.deepcopy(method).branch(None, mask=mask, mask1="signed_constant")
    for name in method.sites:
        flipped = method.begin[name].sign() != method.first[name].sign()
        assert torch.equal(control.alive[name].bool(), flipped if mask == "diff_sign" else ~flipped)


def test_a_mask_from_an_early_step_is_drawn_by_the_weights_of_then(tickets: SimpleNamespace) -> None:
    class Early(tickets.Moved):
        """Looks before it moves: the weights of then are those of the start."""

        def __call__(self, method, stage, *, callbacks_at_steps=None, **phase) -> list:
            assert callbacks_at_steps[0] == [3]
            callbacks_at_steps[1]()
            return super().__call__(method, stage, **phase)

    method = tickets.small(mask_step=3)
    method.learn(None, Early())
    method.shrink(None)
    for name in method.sites:
        start, kept = method.begin[name].abs(), method.alive[name].bool()
        assert start[kept].min() >= start[~kept].max() and torch.equal(method.first[name], method.begin[name])
    with pytest.raises(UsageError, match="beyond the steps"):
        tickets.small(mask_step=3).learn(None, lambda *_, **__: [])
    with pytest.raises(UsageError, match="set one of them"):
        tickets.small(mask_step=3, rewind_step=2)


def test_training_goes_on_and_is_reset_once(tickets: SimpleNamespace) -> None:
    """resets=false: each level starts where the last one ended, biases too; a branch goes back to the first start."""
    method = tickets.small(resets=False)
    method.learn(None, tickets.Moved(1))
    ended = {name: value.clone() for name, value in method.net.state_dict().items()}
    method.shrink(None)
    assert all(torch.equal(value, ended[name]) for name, value in method.net.state_dict().items())
    control = copy.deepcopy(method).branch(None, mask="same")
    assert all(torch.equal(value, method.begin[name]) for name, value in control.net.state_dict().items())
    assert not masks_differ(control, method)
    with pytest.raises(UsageError, match="sets no weight back"):
        tickets.small(resets=False, mask1="reinit")


def test_supermasks_by_sign_have_one_row_and_those_with_a_rate_one_a_level(build, tmp_path) -> None:
    masks_of = "+task.supermasks={sign:{mask:same_sign,mask1:signed_constant},large:{criterion:large_final}}"
    words = ("method=lottery", "data.base=synthetic", "budget.epochs=1", "task.levels=0", "task.supermask_levels=2", masks_of)
    rows = [row["branch"] for row in build(*words, folder=tmp_path).go().outcome.curves]
    assert rows == ["ticket", "supermask/sign", "supermask/large", "supermask/large"]


def test_early_masks_and_training_that_goes_on_through_the_real_loop(build, tmp_path) -> None:
    """A mask of step 2 is none of the last step; with resets=false level 1 begins with what level 0 ended with."""
    words = ("method=lottery", "data.base=synthetic", "budget.epochs=null", "budget.steps=6", "task.levels=1")
    early = build(*words, "+method.mask_step=2", folder=tmp_path / "early").go().method
    plain = build(*words, folder=tmp_path / "plain").go().method
    assert all(early.alive[name].sum() == plain.alive[name].sum() for name in plain.sites) and masks_differ(early, plain)
    going = build(*words, "+method.resets=false", "+task.branches={reset:{mask:same}}", folder=tmp_path / "on").go().method
    assert not torch.equal(going.start["head.bias"], going.begin["head.bias"])
    assert torch.equal(plain.start["head.bias"], plain.begin["head.bias"])
