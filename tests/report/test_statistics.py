"""Means, paired differences and interquartile means against scipy, rliable's numbers and a bootstrap by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from maskbench.report import statistics

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)


@given(NUMBERS)
def test_the_interval_of_a_mean_is_students_t(values: list[float]) -> None:
    found = statistics.mean(values)
    error = scipy.stats.sem(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9) and found.n == len(values)
    low, high = (found.mean, found.mean) if error == 0 else scipy.stats.t.interval(0.95, len(values) - 1, found.mean, error)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_one_number_has_no_interval_and_none_no_mean() -> None:
    assert statistics.mean([0.5]) == statistics.Mean(1, 0.5, None, None)
    with pytest.raises(ValueError):
        statistics.mean([])


def test_a_known_interval() -> None:
    """Three seeds, by the tables: t(0.975, 2) = 4.3027, standard error 1 / sqrt(3)."""
    found = statistics.mean([1.0, 2.0, 3.0])
    assert found.high - 2 == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)


@pytest.mark.parametrize("most", [1.0, 100.0])
def test_the_interval_of_shares_ends_where_shares_do(most: float) -> None:
    """Student's t where it stays inside; else as wide on the scale of the arcsine, so further on the side that has room."""
    inside, near = [most * share for share in (0.5, 0.6, 0.7)], [most * share for share in (0.97, 0.999, 1.0)]
    assert statistics.mean(inside, most=most) == statistics.mean(inside)
    plain, one = statistics.mean(near), statistics.mean(near, most=most)
    assert plain.high > most >= one.high > one.mean == plain.mean > plain.low > one.low > 0
    angle = [np.arcsin(np.sqrt(value / most)) for value in (one.low, one.mean, one.high)]
    half = (plain.high - plain.mean) / most / np.sin(2 * angle[1])  # the delta method: d share = sin(2 angle) d angle
    np.testing.assert_allclose([angle[1] - angle[0], min(np.pi / 2 - angle[1], half)], [half, angle[2] - angle[1]])
    few = statistics.mean([most - value for value in near], most=most)
    assert (few.low, few.high) == (pytest.approx(most - one.high), pytest.approx(most - one.low)) and few.low >= 0


def test_numbers_that_are_no_shares_keep_students_t() -> None:
    values = [-0.1, 0.9, 1.0]
    assert statistics.mean(values, most=1.0) == statistics.mean(values)


def test_paired_differences_against_scipy() -> None:
    a, b = [0.91, 0.93, 0.95, 0.90], [0.90, 0.94, 0.91, 0.90]
    found = statistics.paired(a, b)
    test = scipy.stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == (pytest.approx(low), pytest.approx(high))
    assert found.effect == pytest.approx(test.statistic / math.sqrt(4))  # d_z = t / sqrt(n)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.sign_p == pytest.approx(scipy.stats.binomtest(2, 3).pvalue)


def test_what_is_undefined_of_pairs_is_none() -> None:
    assert statistics.paired([1.0], [0.5]).effect is None
    assert statistics.paired([1.0, 2.0], [0.5, 1.5]).effect is None, "all differences are equal"
    assert statistics.paired([1.0, 1.0], [1.0, 1.0]).sign_p is None, "all are ties"
    with pytest.raises(ValueError):
        statistics.paired([1.0, 2.0], [1.0])


@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_the_interquartile_mean_is_the_mean_of_the_middle_half(strata: list[list[float]]) -> None:
    values = sorted(value for stratum in strata for value in stratum)
    cut = len(values) // 4
    assert statistics.iqm(strata) == pytest.approx(np.mean(values[cut : len(values) - cut]), abs=1e-9)
    assert statistics.iqm(strata) == pytest.approx(scipy.stats.trim_mean(values, 0.25), abs=1e-9)


# Scores [runs, tasks], and what rliable 1.2.0 says of them (pandas 2.3.3, arch 7.2.0): aggregate_iqm, and
# get_interval_estimates with reps=50000 and random_state=RandomState(0).
RLIABLE = [
    (
        [[0.857, 0.847, 0.87, 0.675], [0.945, 0.773, 0.851, 0.805], [0.828, 0.89, 0.601, 0.858],
         [0.689, 0.758, 0.978, 0.73], [0.761, 0.927, 0.614, 0.584]],
        0.8068, 0.7458, 0.8529,
    ),
    (
        [[0.902, 0.915, 0.87, 0.921, 0.887, 0.852], [0.881, 0.918, 0.91, 0.866, 0.919, 0.897],
         [0.913, 0.91, 0.865, 0.911, 0.882, 0.946]],
        0.90075, 0.8875, 0.9114,
    ),
]  # fmt: skip


@pytest.mark.parametrize("scores, iqm, low, high", RLIABLE)
def test_interquartile_means_and_intervals_are_rliables(scores: list, iqm: float, low: float, high: float) -> None:
    strata = [list(task) for task in zip(*scores, strict=True)]
    assert statistics.iqm(strata) == pytest.approx(iqm, abs=1e-4)
    found = statistics.bootstrap(strata, draws=50_000)
    assert found == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_the_bootstrap_draws_within_strata() -> None:
    """By hand, one draw at a time; and two strata without spread inside give an interval without width."""
    strata, generator = [[0.1, 0.2, 0.4], [0.7, 0.9, 0.8, 0.6]], np.random.default_rng(7)
    by_hand = [
        scipy.stats.trim_mean(np.concatenate([generator.choice(stratum, len(stratum)) for stratum in strata]), 0.25)
        for _ in range(5_000)
    ]
    low, high = np.quantile(by_hand, [0.025, 0.975])
    assert statistics.bootstrap(strata, draws=20_000) == (pytest.approx(low, abs=1e-2), pytest.approx(high, abs=1e-2))
    assert statistics.bootstrap([[1.0, 1.0], [3.0, 3.0]]) == (2.0, 2.0)


def test_the_bootstrap_is_the_same_every_time() -> None:
    strata = [[0.11, 0.23, 0.41, 0.37], [0.73, 0.97, 0.83]]
    once, again, other = (statistics.bootstrap(strata, draws=40, seed=seed) for seed in (0, 0, 1))
    assert once == again != other
    mean = statistics.bootstrap(strata, lambda x: x.mean(axis=1))
    assert mean[0] < np.mean(np.concatenate(strata)) < mean[1]
