"""Deconstructing lottery tickets, quick budgets: deconstructing.md section 9."""

import pytest

pytestmark = pytest.mark.slow

LAST = "0.0358"
CONTROLS = ["large_init", "small_init", "small_final", "small_init_small_final", "random", "movement", "large_final_diff_sign"]


@pytest.fixture(scope="module")
def supermasks(runs):
    return runs("experiment=deconstructing/supermasks_quick")


@pytest.fixture(scope="module")
def retrained(runs):
    return runs("experiment=deconstructing/retrain_quick")


def accuracy(done, branch):
    return 100 * done.mean(f"accuracy/{branch}/{LAST}")


def test_same_sign_supermasks(supermasks):
    assert 100 * supermasks.mean("supermask/large_final_same_sign") >= 80
    assert 100 * supermasks.mean("supermask/large_final_same_sign_constant") >= 88


@pytest.mark.parametrize("criterion", CONTROLS)
def test_controls_are_no_supermasks(supermasks, criterion):
    assert 100 * supermasks.mean(f"supermask/{criterion}") <= 25


def test_the_best_density_lies_in_the_middle(supermasks):
    for name in ("large_final_same_sign", "large_final_same_sign_constant"):
        assert all(0.16 <= value <= 0.65 for value in supermasks.values(f"supermask/{name}/density"))


def test_longer_training_makes_worse_supermasks(runs, supermasks):
    longer = runs("experiment=deconstructing/supermasks_quick", "budget.epochs=30")
    assert 65 <= 100 * longer.mean("supermask/large_final_same_sign") <= 85
    assert 83 <= 100 * longer.mean("supermask/large_final_same_sign_constant") <= 90
    assert longer.mean("supermask/large_final") < supermasks.mean("supermask/large_final")


def test_rewinding(retrained):
    assert 97.3 <= accuracy(retrained, "ticket") <= 98.2


@pytest.mark.parametrize("action", ["signed_reinit", "signed_permute", "signed_reshuffle", "signed_constant"])
def test_the_signs_are_what_matters(retrained, action):
    assert accuracy(retrained, action) >= accuracy(retrained, "ticket") - 0.4


@pytest.mark.parametrize("action", ["reinit", "permute", "reshuffle", "constant"])
def test_free_signs_fall_behind(retrained, action):
    assert 1.5 <= accuracy(retrained, "ticket") - accuracy(retrained, action) <= 3.5


def test_freezing_pruned_weights_at_their_start(retrained):
    assert 0.3 <= accuracy(retrained, "ticket") - accuracy(retrained, "freeze_init") <= 1.0


def test_zeroing_what_moved_toward_zero_recovers(retrained):
    assert accuracy(retrained, "freeze_init_zero_mask") >= accuracy(retrained, "ticket") - 0.3


# ---- learned supermasks


LEARNED = {  # constants, rescaled: percent
    ("false", "false"): 91.5,
    ("true", "false"): 92.5,
    ("false", "true"): 95.5,
    ("true", "true"): 95.7,
}


def learned(runs, constant, rescale):
    done = runs("experiment=deconstructing/learned_quick", f"method.constant={constant}", f"method.rescale={rescale}")
    return 100 * done.mean("accuracy")


@pytest.mark.parametrize(("constant", "rescale"), LEARNED)
def test_learned_supermasks(runs, constant, rescale):
    assert learned(runs, constant, rescale) >= LEARNED[constant, rescale]


def test_learned_supermasks_by_adam(runs):
    done = runs("experiment=deconstructing/learned_quick", "optimizer=supermask_quick")
    assert 100 * done.mean("accuracy") >= 96.5


def test_rescaling_and_constants_help_learned_supermasks(runs):
    init, constant, both = (learned(runs, *words) for words in (("false", "false"), ("true", "false"), ("true", "true")))
    assert both >= constant + 2
    assert constant >= init - 0.3
