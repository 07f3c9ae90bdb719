"""Calibration errors under counts of the inputs: against metrics/uncertainty.py, plain numpy, and frozen numbers of netcal 1.4.0
(ECE) and uncertainty-calibration 0.1.4, the authors' program of Kumar et al. 2019; their intervals."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.tasks.metrics import bootstrap, calibration_errors, uncertainty

NETCAL_ECE = 0.15228614408397317  # 15 bins of equal width
KUMAR = {"ece_debiased": 0.16345271176504583, "ece_adaptive": 0.1502205700098564, "auarc": 0.6842891893949143}


def frozen() -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities, labels) of 400 inputs and 6 classes, from a stream of numpy's that is frozen."""
    random = np.random.RandomState(7)
    z = 2 * random.randn(400, 6)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return torch.from_numpy(p), torch.from_numpy(np.where(random.rand(400) < 0.6, p.argmax(1), random.randint(6, size=400)))


def drawn(seed: int, n: int, classes: int, ties: bool) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    z = (2 * torch.randn(n, classes, generator=g)).double()
    log_p = (z.round() if ties else z).log_softmax(-1)
    return log_p, torch.where(torch.rand(n, generator=g) < 0.6, log_p.argmax(-1), torch.randint(classes, (n,), generator=g))


def once(log_p: torch.Tensor, y: torch.Tensor, bins: int = 15) -> dict[str, float]:
    found = calibration_errors.errors(log_p, y, bins)(torch.ones(len(y), 1, dtype=torch.float64))
    return {name: value.item() for name, value in found.items()}


def test_errors_are_those_of_netcal_and_of_kumars_program() -> None:
    p, y = frozen()
    found = once(p.log(), y)
    assert found["ece"] == pytest.approx(NETCAL_ECE, abs=1e-12)
    for name, value in KUMAR.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@given(seed=st.integers(0, 99), n=st.integers(2, 80), classes=st.integers(2, 5), ties=st.booleans(), bins=st.integers(1, 20))
def test_counts_of_one_give_what_is_counted_once(seed: int, n: int, classes: int, ties: bool, bins: int) -> None:
    log_p, y = drawn(seed, n, classes, ties)
    sure, guess = uncertainty.confidence(log_p)
    expected = uncertainty.calibration(log_p[None], y, bins) | uncertainty.selective(sure, guess == y)
    found = once(log_p, y, bins)
    assert {name: found[name] for name in expected if name in found} == pytest.approx(
        {name: value for name, value in expected.items() if name in found}, abs=1e-10
    )
    assert found["ece_classwise"] == pytest.approx(calibration_errors.classwise(log_p, y, bins), abs=1e-12)


@given(seed=st.integers(0, 99), ties=st.booleans(), bins=st.integers(1, 12))
def test_counts_stand_for_rows_that_come_so_often(seed: int, ties: bool, bins: int) -> None:
    log_p, y = drawn(seed, 40, 3, ties)
    (counts,) = bootstrap.counts(40, 3, f"test {seed}")
    found = calibration_errors.errors(log_p, y, bins)(counts)
    for draw in range(3):
        rows = torch.arange(40).repeat_interleave(counts[:, draw].long())
        expected = once(log_p[rows], y[rows], bins)
        assert {name: value[draw].item() for name, value in found.items()} == pytest.approx(expected, abs=1e-10)


def test_new_errors_by_plain_numpy() -> None:
    log_p, y = drawn(3, 200, 4, ties=False)
    p, truth = log_p.exp().numpy(), y.numpy()
    found = once(log_p, y, 10)
    sure, right = p.max(1), p.argmax(1) == truth
    order = sure.argsort()
    assert found["ks_error"] == pytest.approx(np.abs(np.cumsum(right[order] - sure[order])).max() / 200)
    gaps = []
    for c in range(4):
        place = np.clip(np.ceil(p[:, c] * 10) - 1, 0, 9)
        gaps.append(sum(abs(((truth == c) - p[:, c])[place == b].sum()) for b in range(10)) / 200)
    assert found["ece_classwise"] == pytest.approx(np.mean(gaps))
    risk = np.cumsum(~right[order[::-1]]) / np.arange(1, 201)
    best = np.cumsum(np.sort(~right)) / np.arange(1, 201)
    assert found["e_aurc"] == pytest.approx(risk.mean() - best.mean()) and found["auarc"] == pytest.approx(1 - risk.mean())
    parts = [part for part in np.array_split(order, 10)]
    squares = [len(i) * ((sure[i].mean() - right[i].mean()) ** 2 - right[i].mean() * (1 - right[i].mean()) / (len(i) - 1))
               for i in parts]  # fmt: skip
    assert found["ece_debiased"] == pytest.approx(max(0, sum(squares) / 200) ** 0.5)


def test_the_debiased_error_of_calibrated_answers_is_about_zero() -> None:
    """Where the plain one grows with the number of bins: 2,000 inputs, 100 bins. Its estimate falls below 0, and is said to be 0,
    about as often as not; three deviations of 40 draws."""
    debiased, plain = [], []
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        log_p = (2 * torch.randn(2000, 4, generator=g)).double().log_softmax(-1)
        found = once(log_p, torch.multinomial(log_p.exp(), 1, generator=g)[:, 0], 100)
        debiased.append(found["ece_debiased"])
        plain.append(found["ece_adaptive"])
    assert 0.26 <= np.mean(np.equal(debiased, 0)) <= 0.74 and min(plain) > 0.05
    assert np.mean(np.square(debiased)) < 0.15 * np.mean(np.square(plain))


def test_a_perfect_order_has_no_excess_risk() -> None:
    log_p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]).double().log()
    found = once(log_p, torch.tensor([0, 0, 1, 1]))
    assert found["e_aurc"] == pytest.approx(0, abs=1e-12) and found["aurc"] == pytest.approx((1 / 3 + 1 / 2) / 4)


# ---- intervals


def test_draws_are_resamples_that_stay_the_same() -> None:
    blocks = list(bootstrap.counts(30, 50, "test"))
    counts = torch.cat(blocks, 1)
    assert counts.shape == (30, 50) and (counts.sum(0) == 30).all() and counts.min() == 0
    assert torch.equal(torch.cat(list(bootstrap.counts(30, 45, "test")), 1), counts[:, :45]), "more draws leave the first ones"
    assert not torch.equal(torch.cat(list(bootstrap.counts(30, 50, "other")), 1), counts)
    assert list(bootstrap.counts(30, 0, "test")) == [] and bootstrap.drawn(lambda counts: {}, []) == {}


def test_intervals_of_accuracy_are_those_of_the_binomial() -> None:
    log_p, y = drawn(0, 2000, 4, ties=False)
    draws = bootstrap.drawn(calibration_errors.errors(log_p, y, 15), bootstrap.counts(2000, 1000, "test"))
    low, high = bootstrap.interval(draws["accuracy"])
    share = (log_p.argmax(-1) == y).double().mean().item()
    half = 1.96 * (share * (1 - share) / 2000) ** 0.5
    assert low == pytest.approx(share - half, abs=0.15 * half) and high == pytest.approx(share + half, abs=0.15 * half)
    ends = bootstrap.ends(draws)
    assert (ends["accuracy_low"], ends["accuracy_high"]) == (low, high)


def test_the_difference_of_two_methods_is_paired() -> None:
    """A method that is right on one input in fifty more: the difference is told apart, the two intervals overlap."""
    log_p, y = drawn(0, 1000, 4, ties=False)
    wrong = (log_p.argmax(-1) != y).nonzero()[:20, 0]
    better = log_p.clone()
    better[wrong] = torch.nn.functional.one_hot(y[wrong], 4).double().mul(5).log_softmax(-1)
    ours, theirs = (
        bootstrap.drawn(calibration_errors.errors(p, y, 15), bootstrap.counts(1000, 400, "test"))["accuracy"].tolist()
        for p in (better, log_p)
    )
    low, high = bootstrap.difference(ours, theirs)
    assert 0 < low < 0.02 < high
    assert min(ours) < max(theirs)
    with pytest.raises(ValueError, match="draws"):
        bootstrap.difference(ours, theirs[:10])
    assert bootstrap.interval(torch.tensor([0.1, torch.nan])) is None
