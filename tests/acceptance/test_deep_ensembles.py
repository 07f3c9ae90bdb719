"""Deep ensembles on UCI tables, a toy curve and MNIST with unknown classes: deep_ensembles.md section 8."""

import pytest

pytestmark = pytest.mark.slow

BOSTON = ("experiment=deep_ensembles/uci", "data=boston")


@pytest.fixture(scope="module")
def mnist(runs):
    return runs("experiment=deep_ensembles/mnist")


@pytest.mark.parametrize("data, rmse, near, nll", [("boston", 3.20, 0.3, 2.35), ("concrete", 5.84, 0.35, 3.09)])
def test_table(data, rmse, near, nll, runs):
    done = runs("experiment=deep_ensembles/uci", f"data={data}")
    assert all(len(result["table"]) == 20 for result in done)
    assert done.mean("rmse") == pytest.approx(rmse, abs=near)
    assert done.mean("nll") == pytest.approx(nll, abs=0.08)


def test_five_nets_beat_one_and_adversarial_training_helps_one(runs):
    five, one = runs(*BOSTON), runs(*BOSTON, "method.members=1")
    plain = runs(*BOSTON, "method.members=1", "method.adversarial=none")
    assert five.mean("nll") < one.mean("nll") < plain.mean("nll")


def test_an_ensemble_of_one_is_its_member(runs):
    for result in runs(*BOSTON, "method.members=1"):
        told = result["metrics"]
        assert told["nll"] == pytest.approx(told["member_nll"], abs=1e-6)
        assert told["rmse"] == pytest.approx(told["member_rmse"], abs=1e-6)


def test_uncertainty_grows_away_from_the_data(runs):
    for result in runs("experiment=deep_ensembles/toy", seeds=(0, 1, 2, 3, 4)):
        assert result["metrics"]["sd_ends_over_inside"] > 1.5


def test_four_nets_against_their_mean_member(mnist):
    for result in mnist:
        told = result["metrics"]
        assert told["nll"] <= 0.85 * told["member_nll"]
        assert told["accuracy"] >= told["member_accuracy"]
        assert told["auroc_entropy/fashion_mnist"] >= told["member_auroc_entropy/fashion_mnist"]
        assert told["auroc_entropy/glyphs_aj"] >= told["member_auroc_entropy/glyphs_aj"] + 0.01
