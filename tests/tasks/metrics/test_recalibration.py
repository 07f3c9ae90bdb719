"""Recalibrating maps against scikit-learn, scipy, uncertainty-toolbox 0.1.1 (frozen) and facts that must hold."""

import numpy as np
import pytest
import torch
from scipy import optimize, special
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from maskbench.common.errors import UsageError
from maskbench.tasks.metrics import recalibration, uncertainty


def drawn(n: int = 600, classes: int = 4, sharp: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities, labels) that are surer than they are right, by class unlike."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, classes, generator=g).double()
    y = torch.multinomial(z.softmax(-1), 1, generator=g)[:, 0]
    return (sharp * z + torch.arange(classes) / 2).log_softmax(-1), y


def test_vector_scaling_is_where_scipy_finds_the_least_nll() -> None:
    log_p, y = drawn()
    z, labels = log_p.numpy(), y.numpy()

    def nll(v: np.ndarray) -> float:
        return -special.log_softmax(v[:4] * z + v[4:], 1)[np.arange(len(labels)), labels].mean()

    best = optimize.minimize(nll, np.r_[np.ones(4), np.zeros(4)], method="BFGS", tol=1e-10)
    mapped = recalibration.vector(log_p, y)(log_p)
    expected = special.log_softmax(best.x[:4] * z + best.x[4:], 1)
    np.testing.assert_allclose(mapped.numpy(), expected, atol=1e-4)
    assert (
        uncertainty.nll(mapped, y) <= uncertainty.nll(recalibration.temperature(log_p, y)(log_p), y) < uncertainty.nll(log_p, y)
    )


def test_platt_scaling_is_scikit_learns() -> None:
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        def fit(self, x: np.ndarray, y: np.ndarray):
            self.classes_, self.n_features_in_ = np.arange(4), 4
            return self

        def decision_function(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(1)

    log_p, y = drawn()
    odds = recalibration.log_odds(log_p).numpy()
    reference = CalibratedClassifierCV(FrozenEstimator(Given().fit(odds, y.numpy())), method="sigmoid").fit(odds, y.numpy())
    (one,) = reference.calibrated_classifiers_
    mapped = recalibration.platt(log_p, y)(log_p).exp().numpy()
    np.testing.assert_allclose(mapped, one.predict_proba(odds), atol=1e-4)


def test_log_odds_are_finite_and_exact_where_a_float_is_one() -> None:
    log_p = torch.tensor([[0.0, -60.0, -61.0], [-700.0, 0.0, -710.0]]).double().log_softmax(-1)
    rest = torch.tensor([[-60.0, -61.0], [-700.0, -710.0]]).double().logsumexp(-1)
    found = recalibration.log_odds(log_p)
    assert found[0, 0] == pytest.approx(-rest[0].item()) and found[1, 1] == pytest.approx(-rest[1].item(), rel=0.02)
    torch.testing.assert_close(recalibration.log_odds(drawn()[0]), torch.logit(drawn()[0].exp()))


@pytest.mark.parametrize("kind", recalibration.CLASSES)
def test_maps_give_distributions_that_are_better_calibrated(kind: str) -> None:
    log_p, y = drawn(n=2000)
    mapped = recalibration.MAPS[kind](log_p[:1000], y[:1000])(log_p[1000:])
    torch.testing.assert_close(mapped.logsumexp(-1), torch.zeros(1000, dtype=torch.float64))
    before, after = (uncertainty.calibration(p[None], y[1000:], 15) for p in (log_p[1000:], mapped))
    assert after["nll"] < before["nll"] and after["ece"] < before["ece"] / 2


def test_there_is_no_best_map_where_all_is_right() -> None:
    y = torch.arange(3).repeat(20)
    log_p = 4.0 * torch.nn.functional.one_hot(y) + 0.1 * torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    log_p = log_p.double().log_softmax(-1)
    assert recalibration.temperature(log_p, y) is None and recalibration.vector(log_p, y) is None
    assert recalibration.platt(log_p, y) is not None, "its targets are inside 0 and 1"


# ---- reals


def test_the_isotonic_map_is_scikit_learns_on_the_shares_of_kuleshov() -> None:
    levels = torch.rand(80, generator=torch.Generator().manual_seed(0), dtype=torch.float64).square()
    at = levels.numpy()
    shares = (at[None] <= at[:, None]).mean(1)
    reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(np.r_[0, at, 1], np.r_[0, shares, 1])
    asked = torch.linspace(0, 1, 57, dtype=torch.float64)
    mapped = recalibration.Isotonic(levels)
    np.testing.assert_allclose(mapped(asked).numpy(), reference.predict(asked.numpy()), atol=1e-12)
    for share in (0.05, 0.5, 0.9):
        assert mapped(torch.tensor([mapped.inverse(share)], dtype=torch.float64)).item() == pytest.approx(share, abs=1e-9)


def test_shares_below_quantiles_are_those_of_uncertainty_toolbox() -> None:
    random = np.random.RandomState(5)
    mean = random.randn(300)
    deviation = 0.3 + random.rand(300)
    y = mean + 2 * deviation * random.randn(300)
    parts = [torch.from_numpy(part[:150])[:, None, None] for part in (mean, deviation**2, y)]
    levels = recalibration.standing(*parts).flatten()
    # 100 levels from 0 to 1; it counts predictions minus targets
    shares = [(1 - levels <= asked / 99).double().mean().item() for asked in (10, 25, 50, 75, 90)]
    assert shares == pytest.approx([0.26, 0.38, 0.5266666666666666, 0.6333333333333333, 0.7666666666666667])


def test_recalibrated_intervals_hold_what_they_promise() -> None:
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(4000, 1, 2, generator=g, dtype=torch.float64)
    y = mean + 2 * torch.randn(4000, 1, 2, generator=g, dtype=torch.float64) + 0.5
    variance = torch.ones_like(mean)
    before, after = recalibration.reals(*((mean[rows], variance[rows], y[rows]) for rows in (slice(2000), slice(2000, None))))
    assert before["quantile_error"] > 0.1 and after["quantile_error"] < 0.02
    assert before["coverage_90"] < 0.65 and after["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert after["width_90"] == pytest.approx(2 * 1.645 * 2, rel=0.05)
    none, nothing = recalibration.reals(None, (mean, 0 * variance, y))
    assert set(none.values()) == set(nothing.values()) == {None}


@pytest.mark.parametrize(("kinds", "regression"), [(["vector", "isotonic"], False), (["temperature"], True)])
def test_maps_for_other_targets_are_refused(kinds: list[str], regression: bool) -> None:
    with pytest.raises(UsageError, match=r"task.recalibrate=\w+ is for (reals|classes).*take") as error:
        recalibration.check(kinds, regression)
    assert str(error.value).count(". ") == 0
