"""Numbers from accuracy matrices, against definitions written out by hand; undefined is None."""

import pytest

from maskbench.tasks.metrics import continual as metrics

R = [
    [0.9, None, None],
    [0.7, 0.8, None],
    [0.8, 0.6, 0.5],
]


def test_continual_numbers_by_hand() -> None:
    assert metrics.average_accuracy(R) == pytest.approx((0.8 + 0.6 + 0.5) / 3)
    assert metrics.forgetting(R) == pytest.approx(((0.9 - 0.8) + (0.8 - 0.6)) / 2)
    assert metrics.backward_transfer(R) == pytest.approx(((0.8 - 0.9) + (0.6 - 0.8)) / 2)


def test_forgetting_is_from_the_best_it_ever_was_and_transfer_from_when_it_was_learnt() -> None:
    rising = [[0.5, None, None], [0.9, 0.7, None], [0.6, 0.8, 0.9]]
    assert metrics.forgetting(rising) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.8)) / 2)
    assert metrics.backward_transfer(rising) == pytest.approx(((0.6 - 0.5) + (0.8 - 0.7)) / 2)
    full = [[0.9, 0.95], [0.8, 0.7]]  # stage 1 was answered better before it was learnt
    assert metrics.forgetting([*full, [0.8, 0.7, 0.9]]) == pytest.approx(((0.9 - 0.8) + (0.95 - 0.7)) / 2)


def test_nothing_forgotten_is_exactly_zero() -> None:
    flat = [[0.91, None], [0.91, 0.83]]
    assert metrics.forgetting(flat) == 0.0 and metrics.backward_transfer(flat) == 0.0


def test_one_stage_has_no_forgetting() -> None:
    assert metrics.average_accuracy([[0.9]]) == 0.9
    assert metrics.forgetting([[0.9]]) is None and metrics.backward_transfer([[0.9]]) is None


def test_what_is_not_known_is_left_out() -> None:
    final = [[0.9, None, None], [None, 0.8, None], [0.8, 0.6, 0.5]]  # task.matrix=final
    assert metrics.forgetting(final) == pytest.approx(((0.9 - 0.8) + (0.8 - 0.6)) / 2)
    holes = [[0.9, None, None], [None, None, None], [0.8, 0.6, None]]
    assert metrics.average_accuracy(holes) == pytest.approx(0.7)
    assert metrics.forgetting(holes) == pytest.approx(0.1)
    assert metrics.backward_transfer(holes) == pytest.approx(-0.1)
    assert metrics.average_accuracy([[None]]) is None


def test_what_is_learnt_and_what_others_lent_to_it() -> None:
    assert metrics.learning_accuracy(R) == pytest.approx((0.9 + 0.8 + 0.5) / 3)
    assert metrics.transfer_gain(R, [0.7, 0.9, 0.4]) == pytest.approx(((0.8 - 0.9) + (0.5 - 0.4)) / 2)
    assert metrics.transfer_gain(R, [None] * 3) is None
    last = [[None, None], [0.8, 0.6]]  # only the end was asked: no mean over the one stage that was known when learnt
    assert metrics.learning_accuracy(last) is None and metrics.transfer_gain(last, [0.5, 0.5]) is None


def test_images_count_where_stages_are_unequal() -> None:
    assert metrics.accuracy_all_images(R, [100, 100, 200]) == pytest.approx((80 + 60 + 100) / 400)
    assert metrics.accuracy_all_images([[None, 0.5]], [3, 4]) == 0.5 and metrics.accuracy_all_images([[None]], [3]) is None


def test_intransigence_is_a_difference_of_two_runs_in_what_was_learnt() -> None:
    joint = [[0.95, None, None], [0.9, 0.85, None], [0.9, 0.8, 0.7]]
    by_definition = ((0.95 - 0.9) + (0.85 - 0.8) + (0.7 - 0.5)) / 3
    assert metrics.learning_accuracy(joint) - metrics.learning_accuracy(R) == pytest.approx(by_definition)
