"""Learning-rate schedules are functions of the step alone."""

import math

import pytest

from maskbench.training import schedules


def test_constant() -> None:
    assert [schedules.constant(step, 100) for step in (0, 50, 99)] == [1.0, 1.0, 1.0]


def test_warm_up_is_linear_and_ends_at_the_full_rate() -> None:
    assert [schedules.constant(step, 100, warmup=4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [schedules.step(step, 100, milestones=[], factor=0.1, warmup=2) for step in range(3)] == [0.5, 1.0, 1.0]
    assert [schedules.cosine(step, 100, warmup=2) for step in range(3)] == [0.5, 1.0, 1.0]


def test_cosine_falls_from_one_towards_zero() -> None:
    values = [schedules.cosine(step, 100) for step in range(101)]
    assert values[0] == 1.0 and values[50] == pytest.approx(0.5) and values[100] == pytest.approx(0.0)
    assert values == sorted(values, reverse=True)
    assert values[25] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert schedules.cosine(55, 100, warmup=10) == pytest.approx(0.5)


def test_steps_fall_at_their_milestones() -> None:
    values = [schedules.step(step, 8, milestones=[0.5, 0.75], factor=0.1) for step in range(8)]
    assert values == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("total", [1, 3])
def test_a_warm_up_longer_than_the_phase_divides_by_nothing(total: int) -> None:
    assert schedules.cosine(total - 1, total, warmup=10) == total / 10


def test_cosine_in_stairs_goes_down_once_an_epoch() -> None:
    values = [schedules.cosine(step, 50, stairs=5) for step in range(50)]
    assert values == [schedules.cosine(10 * epoch, 50) for epoch in range(5) for _ in range(10)]


def test_a_warm_up_may_come_to_the_whole_rate_after_its_last_step() -> None:
    assert [schedules.cosine(step, 100, warmup=4, peak="after") for step in range(5)] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [schedules.cosine(step, 100, warmup=4, peak="within") for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_by_epoch_the_rate_changes_with_the_epoch_alone_and_warms_up_for_some() -> None:
    rates = [schedules.cosine_by_epoch(step, 30, epochs=10, warmup=4) for step in range(30)]
    assert all(len(set(rates[at : at + 3])) == 1 for at in range(0, 30, 3))
    assert rates[0:12:3] == [0.25, 0.5, 0.75, 1.0]
    assert rates[12::3] == pytest.approx([0.5 * (1 + math.cos(math.pi * e / 6)) for e in range(6)])
    assert schedules.cosine_by_epoch(29, 30, epochs=10) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.9)))
