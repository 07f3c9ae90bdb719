"""PAC-Net and its rivals on Friedman #1 and the damped pendulum, five paired seeds: pac_net.md section 6.

Gates 1, 2 and 7 are exact and stand in tests/test_pac_net.py; here they are seen again at full size.
"""

from statistics import fmean

import pytest

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2, 3, 4)


@pytest.fixture
def friedman(runs):
    return lambda method: runs("experiment=pac_net/friedman", f"method={method}", seeds=SEEDS)


@pytest.fixture
def pendulum(runs):
    return lambda method: runs("experiment=pac_net/pendulum", f"method={method}", seeds=SEEDS)


def gaps(done, other) -> list[float]:
    """Differences of the target's error, seed by seed."""
    return [a - b for a, b in zip(done.values("target_rmse"), other.values("target_rmse"), strict=True)]


def test_one_seed_has_one_source(friedman):
    sources = [friedman(method).values("source_rmse/train") for method in ("transfer_finetune", "pac_net", "transfer_scratch")]
    assert sources[0] == sources[1] == sources[2]


@pytest.mark.parametrize("problem", ["friedman", "pendulum"])
def test_the_target_unloads_bit_for_bit(problem, request):
    done = request.getfixturevalue(problem)("pac_net")
    assert set(done.values("unload_drift")) == {0.0}
    assert done.values("source_rmse_unloaded") == done.values("source_rmse")
    assert all(density == pytest.approx(0.2, abs=1e-4) for density in done.values("density"))


@pytest.mark.parametrize("problem", ["friedman", "pendulum"])
def test_the_survivors_recover_the_source(problem, request):
    done = request.getfixturevalue(problem)("pac_net")
    assert done.mean("source_rmse") <= 1.1 * done.mean("source_rmse/train")


def test_friedman_pac_net_beats_fine_tuning(friedman):
    pac, tuned = friedman("pac_net"), friedman("transfer_finetune")
    found = gaps(pac, tuned)
    assert sum(gap < 0 for gap in found) >= 4
    assert fmean(found) <= -0.12
    assert pac.mean("target_rmse") == pytest.approx(1.07, abs=0.35)
    assert pac.mean("target_rmse") < friedman("pac_net_no_allocate").mean("target_rmse")


def test_friedman_the_source_is_worth_something(friedman):
    assert fmean(gaps(friedman("transfer_scratch"), friedman("transfer_finetune"))) > 0.8


def test_pendulum_every_part_of_pac_net_counts(pendulum):
    pac = pendulum("pac_net")
    assert sum(gap < 0 for gap in gaps(pac, pendulum("transfer_finetune"))) >= 4
    assert pac.mean("target_rmse") <= 0.035
    assert fmean(gaps(pendulum("pac_net_no_allocate"), pac)) > 0.02
