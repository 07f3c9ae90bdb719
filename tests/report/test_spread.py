"""Intervals over seeds: what they are, and that those of shares never leave 0 to 1."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from maskbench.report.look import INTERVALS, Look
from maskbench.report.spread import spread
from maskbench.report.statistics import bounded

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=8)
TINY = st.floats(0, 1e-6).flatmap(lambda gap: st.lists(st.sampled_from([1.0, 1.0 - gap, gap, 0.0]), min_size=2, max_size=6))


def ends(values: list[float], interval: str, most: float | None) -> tuple[float, float]:
    with Look(interval=interval).used():
        low, high = spread(np.array(values)[:, None], most)
    return float(low[0]), float(high[0])


@given(SHARES | TINY, st.sampled_from(list(INTERVALS)), st.sampled_from([1.0, 100.0]))
def test_no_interval_of_shares_leaves_them_and_each_holds_its_mean(values: list[float], interval: str, most: float) -> None:
    low, high = ends([most * value for value in values], interval, most)
    mean = np.mean([most * value for value in values])
    assert 0 <= low <= high <= most
    assert low <= mean * (1 + 1e-12) + 1e-12 and mean <= high * (1 + 1e-12) + 1e-12


@given(st.floats(0, 1), st.floats(0, 1e6))
def test_a_bounded_interval_grows_with_its_half_and_turns_with_its_mean(mean: float, half: float) -> None:
    low, high = bounded(mean, half)
    assert 0 <= low <= mean <= high <= 1
    wider = bounded(mean, 2 * half)
    assert wider[0] <= low + 1e-12 and high <= wider[1] + 1e-12
    if not 1e-3 < mean < 1 - 1e-3:
        return  # one less so little is one
    turned = bounded(1 - mean, half)  # 1 - share is a share too
    assert turned[0] == pytest.approx(1 - high, abs=1e-9) and turned[1] == pytest.approx(1 - low, abs=1e-9)


def test_the_bounded_interval_is_students_t_on_angles_to_first_order() -> None:
    values = np.array([0.90, 0.94, 0.92, 0.95])
    mean, error = values.mean(), scipy.stats.sem(values)
    away = scipy.stats.t.ppf(0.975, 3) * error / (2 * np.sqrt(mean * (1 - mean)))
    expected = np.sin(np.arcsin(np.sqrt(mean)) + np.array([-away, away])) ** 2
    assert ends(list(values), "t", 1.0) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    narrow = ends([0.500, 0.501, 0.499], "t", 1.0)
    assert narrow == pytest.approx(ends([0.500, 0.501, 0.499], "t", None), abs=1e-6), "far from the ends it is the table's"


def test_what_is_no_share_has_the_intervals_of_the_tables() -> None:
    values = [1.0, 2.0, 4.5]
    assert ends(values, "t", None) == pytest.approx(scipy.stats.t.interval(0.95, 2, 2.5, scipy.stats.sem(values)))
    assert ends(values, "sd", None) == pytest.approx((2.5 - np.std(values, ddof=1), 2.5 + np.std(values, ddof=1)))
    assert ends(values, "minmax", None) == (1.0, 4.5)


def test_one_seed_spreads_over_nothing_and_what_is_not_there_stays_so() -> None:
    assert spread(np.array([[0.5, 0.6]])) is None
    with Look(interval="t").used():
        low, high = spread(np.array([[0.5, np.nan], [0.6, 0.7]]), 1.0)
    assert np.isfinite(low[0]) and np.isnan(low[1]) and np.isnan(high[1])
