"""Regression: losses, mixtures of Gaussians and their scores, against scipy and against numerical integration."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from maskbench.common.errors import UsageError
from maskbench.data import gaussian

M, N, FOLDS, VALUES = 3, 40, 4, 2


def drawn(values: int = VALUES, folds: int | None = FOLDS) -> tuple[torch.Tensor, torch.Tensor]:
    """(members [M, N, (folds,) 2 * values], targets [N, (folds,) values])."""
    g = torch.Generator().manual_seed(0)
    shape = (N, values) if folds is None else (N, folds, values)
    mean = torch.randn(M, *shape, generator=g, dtype=torch.float64)
    variance = 0.2 + torch.rand(M, *shape, generator=g, dtype=torch.float64)
    return torch.cat([mean, variance], -1), torch.randn(shape, generator=g, dtype=torch.float64)


def units(folds: int, values: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(folds, values, generator=g), 0.5 + 3 * torch.rand(folds, values, generator=g)


# ---- losses


def test_outputs_are_means_or_means_and_variances() -> None:
    with pytest.raises(UsageError, match="backbone.outputs=3 must be 1"):
        gaussian.split(torch.zeros(4, 3), 1)


def test_the_loss_with_a_variance_is_the_gaussian_likelihood_without_its_constant() -> None:
    outputs, y = torch.randn(N, 2 * VALUES, dtype=torch.float64), torch.randn(N, VALUES, dtype=torch.float64)
    mean, variance = outputs[:, :VALUES], torch.nn.functional.softplus(outputs[:, VALUES:]) + 1e-6
    wanted = torch.nn.functional.gaussian_nll_loss(mean, y, variance, eps=0, reduction="sum") / N
    torch.testing.assert_close(gaussian.loss(outputs, y), wanted)


def test_the_loss_without_a_variance_is_the_squared_error() -> None:
    outputs, y = torch.randn(N, VALUES), torch.randn(N, VALUES)
    torch.testing.assert_close(gaussian.loss(outputs, y), torch.nn.functional.mse_loss(outputs, y))


@pytest.mark.parametrize("outputs", [1, 2])
def test_folds_add_up(outputs: int) -> None:
    out, y = torch.randn(N, FOLDS, outputs, dtype=torch.float64), torch.randn(N, FOLDS, 1, dtype=torch.float64)
    alone = sum(gaussian.loss(out[:, fold], y[:, fold]) for fold in range(FOLDS))
    torch.testing.assert_close(gaussian.loss(out, y), alone)


def test_links() -> None:
    out = torch.randn(5, 2)
    assert torch.equal(gaussian.answer(out, 2), out), "values are what they are"
    answer = gaussian.answer(out, 1)
    assert torch.equal(answer[:, 0], out[:, 0]) and (answer[:, 1] > 1e-6).all()
    assert torch.equal(gaussian.moments(out, 2), torch.cat([out, torch.zeros(5, 2)], -1))


# ---- scores


@pytest.mark.parametrize("folds", [None, FOLDS])
def test_scores_against_scipy(folds: int | None) -> None:
    members, y = drawn(folds=folds)
    shift, scale = units(folds or 1, VALUES)
    scores = gaussian.scores(members, y, (shift, scale))
    if folds is None:
        members, y = members[:, :, None], y[:, None]
    shift, scale = shift.double().numpy(), scale.double().numpy()
    mean, deviation = members[..., :VALUES].numpy() * scale + shift, members[..., VALUES:].sqrt().numpy() * scale
    truth = y.numpy() * scale + shift
    density = stats.norm(mean, deviation).pdf(truth).prod(-1).mean(0)  # of the mixture, both values together
    centre = mean.mean(0)
    spread = np.sqrt((deviation**2 + mean**2).mean(0) - centre**2)
    one = stats.norm(centre, spread)
    close = {"rel": 1e-5}
    assert scores["rmse"].numpy() == pytest.approx(np.sqrt(((truth - centre) ** 2).mean((0, 2))), **close)
    assert scores["log_likelihood"].numpy() == pytest.approx(np.log(density).mean(0), **close)
    assert torch.equal(scores["nll_mixture"], -scores["log_likelihood"])
    assert scores["nll"].numpy() == pytest.approx(-one.logpdf(truth).sum(-1).mean(0), **close)
    for level in (50, 90, 95):
        low, high = one.interval(level / 100)
        assert scores[f"coverage_{level}"].numpy() == pytest.approx(((truth >= low) & (truth <= high)).mean((0, 2)))
        assert scores[f"width_{level}"].numpy() == pytest.approx((high - low).mean((0, 2)), **close)


@pytest.mark.parametrize("y", [-2.0, 0.3, 4.0])
def test_crps_is_its_integral(y: float) -> None:
    mean, deviation = 0.5, 1.7
    cdf = stats.norm(mean, deviation).cdf
    below = integrate.quad(lambda t: cdf(t) ** 2, -30, y)[0]
    above = integrate.quad(lambda t: (1 - cdf(t)) ** 2, y, 30)[0]
    scores = gaussian.crps(*(torch.tensor(v, dtype=torch.float64) for v in (mean, deviation, y)))
    assert scores.item() == pytest.approx(below + above, rel=1e-6)


def test_a_mixture_of_one_is_its_gaussian() -> None:
    members, y = drawn()
    scores = gaussian.scores(members[:1], y)
    torch.testing.assert_close(scores["nll"], scores["nll_mixture"], rtol=0, atol=1e-12)
    mean, variance = gaussian.mixture_moments(*members[:1].split(VALUES, -1))
    assert torch.equal(mean, members[0, ..., :VALUES]) and torch.equal(variance, members[0, ..., VALUES:])


def test_units_move_the_likelihood_by_the_log_of_the_scale() -> None:
    members, y = drawn(values=1)
    plain, scaled = gaussian.scores(members, y), gaussian.scores(members, y, units(FOLDS, 1))
    torch.testing.assert_close(scaled["log_likelihood"], plain["log_likelihood"] - units(FOLDS, 1)[1][:, 0].double().log())
    torch.testing.assert_close(scaled["coverage_90"], plain["coverage_90"])


def test_what_no_stated_variance_defines_is_none() -> None:
    members, y = drawn()
    members[..., VALUES:] = 0
    several, single = gaussian.scores(members, y), gaussian.scores(members[:1], y)
    assert several["log_likelihood"] is None and several["nll"] is not None, "the variance between members is one"
    assert all(single[name] is None for name in ("log_likelihood", "nll", "crps", "coverage_90")) and single["rmse"] is not None


def test_quantiles_of_a_true_model_are_the_diagonal() -> None:
    y = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    members = torch.cat([torch.zeros_like(y), torch.ones_like(y)], -1)[None]
    levels = [0.1, 0.5, 0.9]
    assert gaussian.quantile_curve(members, y, levels) == pytest.approx(levels, abs=0.01)
    assert gaussian.scores(members, y)["nll"].item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.02)
