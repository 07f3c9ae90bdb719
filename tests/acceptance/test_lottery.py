"""Lottery tickets, quick budget: lottery_ticket.md section 6."""

import pytest

pytestmark = pytest.mark.slow

DENSE, HALF, FIFTH, EIGHTH, ELEVENTH, LAST = "1.0000", "0.5128", "0.2107", "0.1352", "0.0868", "0.0358"


@pytest.fixture(scope="module")
def mnist(runs):
    return runs("experiment=lottery/mnist_quick")


@pytest.fixture(scope="module")
def fashion(runs):
    return runs("experiment=lottery/mnist_quick", "data=fashion_mnist")


def accuracy(done, branch, density):
    return 100 * done.mean(f"accuracy/{branch}/{density}")


def test_dense(mnist):
    assert 97.2 <= accuracy(mnist, "ticket", DENSE) <= 98.0


@pytest.mark.parametrize("density, least", [(FIFTH, 0.2), (EIGHTH, 0.3), (ELEVENTH, 0.2)])
def test_tickets_beat_the_dense_net(mnist, density, least):
    assert accuracy(mnist, "ticket", density) >= accuracy(mnist, "ticket", DENSE) + least


def test_ticket_at_half(mnist):
    assert accuracy(mnist, "ticket", HALF) >= 97.5


def test_ticket_at_the_last_level(mnist):
    assert -0.2 <= accuracy(mnist, "ticket", LAST) - accuracy(mnist, "ticket", DENSE) <= 0.6


@pytest.mark.parametrize(
    "branch, density, least, most",
    [("reinit", FIFTH, 0.6, 1.5), ("random", FIFTH, 1.0, 100), ("reinit", LAST, 1.5, 3.5), ("random", LAST, 4.0, 5.3)],
)
def test_controls_fall_behind(mnist, branch, density, least, most):
    assert least <= accuracy(mnist, "ticket", density) - accuracy(mnist, branch, density) <= most


def test_order_at_the_last_level_on_every_seed(mnist, fashion):
    for result in [*mnist, *fashion]:
        ticket, one_shot, reinit, random = (
            result["metrics"][f"accuracy/{branch}/{LAST}"] for branch in ("ticket", "one_shot", "reinit", "random")
        )
        assert ticket > one_shot > reinit > random


def test_tickets_learn_at_least_twice_as_fast(mnist):
    for result in mnist:
        assert 2 * result["metrics"][f"fast_step/ticket/{FIFTH}"] <= result["metrics"][f"fast_step/ticket/{DENSE}"]


def test_fashion_tickets_beat_the_dense_net(fashion):
    for density in (HALF, FIFTH, EIGHTH, ELEVENTH):
        assert accuracy(fashion, "ticket", density) > accuracy(fashion, "ticket", DENSE)
    for branch in ("reinit", "random"):
        assert accuracy(fashion, branch, FIFTH) < accuracy(fashion, "ticket", FIFTH)
