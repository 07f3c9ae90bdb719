"""The search for a width, and slopes whose intervals hold what they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskbench.methods.theory import certify, construct, scaling


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([1.1, 1.25, 2.0]))
def test_the_narrowest_width_is_found_from_any_start(needed: int, start: int, growth: float) -> None:
    tried = []

    def measure(width: int) -> float:
        tried.append(width)
        return 0.5 if width >= needed else 2.0

    bracket = scaling.narrowest(measure, 1.0, start, growth=growth, most=5000)
    assert bracket.width == needed and bracket.error == 0.5 and bracket.tried == len(tried)
    assert needed == 1 or needed - 1 in tried, "the next narrower one was seen to fail"


def test_a_coarse_search_ends_early_and_a_hopeless_one_with_none() -> None:
    bracket = scaling.narrowest(lambda width: 100 / width, 1.0, 7, growth=2.0, most=10**6, resolution=0.1)
    assert 100 <= bracket.width <= 111
    bracket = scaling.narrowest(lambda width: 100 / width, 1.0, 7, growth=2.0, most=10**6, floor=120)
    assert bracket.width == 121, "what is known to fail is not tried again"
    assert scaling.narrowest(lambda width: 2.0, 1.0, 7, growth=2.0, most=1000) is None


def test_slopes_and_their_interval() -> None:
    x = [0.0, 1.0, 2.0]
    bracket = scaling.slope([(x, [a + b * v for v in x]) for a, b in ((0, 1.0), (5, 2.0), (-3, 3.0))])
    assert bracket.slope == pytest.approx(2)
    assert bracket.high - 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)  # t with 2 degrees of freedom
    assert scaling.slope([(x, x)]).low == -math.inf


def test_a_random_target_has_norms_of_one() -> None:
    target = scaling.random_target([3, 5, 2], "name")
    assert [tuple(w.shape) for w in target] == [(5, 3), (2, 5)]
    assert all(certify.norm(w) == pytest.approx(1) for w in target)


def test_constructions_order_and_exponents() -> None:
    """Certificates fall as powers of the width for single pairs and exponentially for subsets."""
    rules = construct.PICKS | {"subset_sum": construct.subsets()}
    widths = {"two_coordinate": (50, 200, 800), "product": (50, 200, 800), "subset_sum": (16, 24, 32)}
    exponent, last = {}, {}
    for name, some in widths.items():
        target = scaling.random_target([4, 8, 4], 0)
        errors = np.array([[scaling.build(target, rules[name], n, seed).certificate for n in some] for seed in range(5)])
        mean = np.log(errors).mean(0)
        exponent[name], last[name] = np.polyfit(np.log(some), mean, 1)[0], mean[-1]
    assert exponent["subset_sum"] < -3 < exponent["product"] < -0.8 < exponent["two_coordinate"] < -0.35
