"""Conformal sets and intervals: coverage as the theory has it, and numbers of TorchCP 1.2.1 and MAPIE 1.6.0 (frozen: they are not
installed here; TorchCP's own imports need torch_geometric, transformers and torchsort)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskbench.tasks.metrics import conformal

# (level, score): sum of the sizes of 200 sets, how many hold the truth; APS and RAPS with u = 0, penalty .1 beyond 2 places
TORCHCP = {
    (90, "lac"): (914, 182), (95, "lac"): (1011, 191), (90, "aps"): (908, 181), (95, "aps"): (1070, 190),
    (90, "raps"): (914, 182), (95, "raps"): (1175, 197),
}  # fmt: skip
MAPIE_LAC = {90: (914, 182), 95: (1011, 191)}
MAPIE_ABSOLUTE = {90: (1.9989033372336686, 134), 95: (2.6225083057453333, 144)}  # mean width of 150 intervals, truths inside


def drawn(seed: int = 7, n: int = 400, classes: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities, labels) from a stream of numpy's that is frozen."""
    random = np.random.RandomState(seed)
    z = 2 * random.randn(n, classes)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return torch.from_numpy(p), torch.from_numpy(np.where(random.rand(n) < 0.6, p.argmax(1), random.randint(classes, size=n)))


@pytest.mark.parametrize(("level", "kind"), TORCHCP)
def test_sets_are_those_of_torchcp_and_mapie(level: int, kind: str) -> None:
    p, y = drawn()
    u = torch.zeros(200, dtype=torch.float64)
    score = {"lac": conformal.lac, "aps": conformal.aps, "raps": lambda p, u: conformal.raps(p, u, 0.1, 2)}[kind]
    limit = conformal.bound(conformal.own(score(p[:200], u), y[:200]), level)
    chosen = score(p[200:], u) <= limit
    found = int(chosen.sum()), int(conformal.own(chosen, y[200:]).sum())
    assert found == TORCHCP[level, kind]
    assert kind != "lac" or found == MAPIE_LAC[level]


@pytest.mark.parametrize("level", conformal.LEVELS)
def test_intervals_are_those_of_mapie(level: int) -> None:
    random = np.random.RandomState(3)
    x = torch.from_numpy(random.randn(300, 1))[:, :, None]
    y = x + 0.5 * torch.from_numpy(random.standard_t(4, size=300))[:, None, None]
    none = torch.zeros_like(x)
    numbers = conformal.reals((x[:150], none[:150], y[:150]), (x[150:], none[150:], y[150:]))
    width, inside = MAPIE_ABSOLUTE[level]
    assert numbers[f"conformal_width_{level}/absolute"] == pytest.approx(width, rel=1e-9)
    assert numbers[f"conformal_coverage_{level}/absolute"] == pytest.approx(inside / 150)
    assert numbers[f"conformal_width_{level}/scaled"] is None, "no deviation is predicted"


@given(n=st.integers(1, 60), level=st.sampled_from(conformal.LEVELS), seed=st.integers(0, 99))
def test_the_bound_is_the_score_of_that_rank_or_infinite(n: int, level: int, seed: int) -> None:
    scores = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    rank = next(k for k in range(n + 2) if 100 * k >= (n + 1) * level)
    assert conformal.bound(scores, level) == (scores.sort().values[rank - 1] if rank <= n else torch.inf)


@pytest.mark.parametrize("level", conformal.LEVELS)
@pytest.mark.parametrize("kind", ["lac", "aps", "raps", "absolute", "scaled"])
def test_coverage_over_500_draws_lies_in_its_beta_binomial_band(kind: str, level: int) -> None:
    """Of continuous scores the truths inside, of m test rows, are beta-binomial (m, k, n + 1 - k), whatever is predicted."""
    n, m, draws = 60, 50, 500
    g = torch.Generator().manual_seed(level)
    k = -(-(n + 1) * level // 100)
    inside = np.array([covered(kind, level, n, m, g) for _ in range(draws)])
    law = stats.betabinom(m, k, n + 1 - k)
    low, high = law.ppf(0.005), law.ppf(0.995)
    outside = int(((inside < low) | (inside > high)).sum())
    share = 1 - (law.cdf(high) - law.cdf(low - 1))
    assert outside <= stats.binom(draws, share).ppf(0.999)
    assert abs(inside.mean() - law.mean()) < 3.5 * law.std() / draws**0.5
    assert law.mean() / m >= level / 100


def covered(kind: str, level: int, n: int, m: int, g: torch.Generator) -> int:
    """How many of m test truths the sets hold that n rows calibrate, of predictions that are wrong."""
    if kind in ("absolute", "scaled"):
        centre, deviation = (torch.randn(n + m, 1, 1, generator=g, dtype=torch.float64) for _ in range(2))
        variance = 0.1 + deviation.square()
        y = 2 * centre + torch.randn(n + m, 1, 1, generator=g, dtype=torch.float64).abs()
        parts = [(centre[rows], variance[rows], y[rows]) for rows in (slice(n), slice(n, None))]
        return round(m * conformal.reals(*parts)[f"conformal_coverage_{level}/{kind}"])
    p = (2 * torch.randn(n + m, 5, generator=g)).double().softmax(-1)
    y, u = torch.randint(5, (n + m,), generator=g), torch.rand(n + m, generator=g, dtype=torch.float64)
    score = {"lac": conformal.lac, "aps": conformal.aps, "raps": lambda p, u: conformal.raps(p, u, 0.1, 1)}[kind](p, u)
    return int((conformal.own(score, y)[n:] <= conformal.bound(conformal.own(score, y)[:n], level)).sum())


def test_a_wrong_rank_would_leave_the_band() -> None:
    """Without its correction, the level's quantile of n scores, coverage falls short: the test above can tell."""
    n, level, draws = 60, 90, 500
    g = torch.Generator().manual_seed(0)
    scores = torch.rand(draws, n + 1, generator=g)
    short = (scores[:, n] <= scores[:, :n].sort(1).values[:, n * level // 100 - 1]).double().mean().item()
    k = -(-(n + 1) * level // 100)
    assert short < k / (n + 1)


def test_numbers_of_classes_are_those_of_their_sets() -> None:
    p, y = drawn(n=900)
    parts = [(p[i : i + 300], y[i : i + 300]) for i in (0, 300, 600)]
    numbers, rows = conformal.classes(*parts)
    assert set(conformal.no_classes()) <= set(numbers) and len(rows) == 6
    for row in rows:
        name = f"{row['level']}/{row['score']}"
        chosen = conformal.sets(*parts, row["level"])[row["score"]]
        assert sum(row["sizes"]) == 300 and numbers[f"conformal_size_{name}"] == pytest.approx(chosen.sum().item() / 300)
        shares = [numbers[f"conformal_coverage_{name}/{c}"] for c in range(6)]
        assert shares == row["coverage_by_class"] and min(shares) == numbers[f"conformal_least_{name}"]
        counts = torch.bincount(y[600:], minlength=6).tolist()
        assert sum(s * c for s, c in zip(shares, counts, strict=True)) / 300 == pytest.approx(
            numbers[f"conformal_coverage_{name}"]
        )


def test_too_few_rows_bound_nothing() -> None:
    p, y = drawn(n=40)
    numbers, _ = conformal.classes((p[:5], y[:5]), (p[5:15], y[5:15]), (p[15:], y[15:]))
    assert numbers["conformal_coverage_95/lac"] == 1 and numbers["conformal_size_95/lac"] == 6, "ten rows bear 90 %, not 95 %"
    assert numbers["conformal_size_90/lac"] < 6
    one = torch.zeros(10, 1, 1)
    found = conformal.reals((one, one + 1, one), (one, one + 1, one))
    assert found["conformal_coverage_95/absolute"] == 1 and found["conformal_width_95/scaled"] is None


def test_raps_keeps_its_sets_smaller_than_aps_where_many_classes_are_unlikely() -> None:
    p = (3 * torch.randn(3000, 50, generator=torch.Generator().manual_seed(1))).double().softmax(-1)
    y = torch.multinomial((p + 0.002) / (p + 0.002).sum(-1, keepdim=True), 1, generator=torch.Generator().manual_seed(2))[:, 0]
    numbers, rows = conformal.classes(*((p[i : i + 1000], y[i : i + 1000]) for i in (0, 1000, 2000)))
    assert numbers["conformal_size_90/lac"] <= numbers["conformal_size_90/raps"] < numbers["conformal_size_90/aps"]
    assert not any(name.startswith("conformal_coverage_90/lac/") for name in numbers) and len(rows[0]["coverage_by_class"]) == 50


def test_halves_hold_each_row_once() -> None:
    choose, calibrate = conformal.halves(101)
    assert sorted([*choose.tolist(), *calibrate.tolist()]) == list(range(101)) and len(choose) == 50
    assert torch.equal(conformal.halves(101)[0], choose)
