"""Judging predictions: numbers against independent references (numpy, scipy, scikit-learn) and against facts that must hold."""

import itertools

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from maskbench.data.stage import log_probabilities
from maskbench.tasks.metrics import uncertainty


def drawn(
    seed: int = 0, members: int = 4, n: int = 300, classes: int = 6, sharp: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities [members, n, classes], labels [n]) that agree about half of the time."""
    g = torch.Generator().manual_seed(seed)
    logs = (sharp * torch.randn(members, n, classes, generator=g)).double().log_softmax(-1)
    lot = torch.randint(classes, (n,), generator=g)
    return logs, torch.where(torch.rand(n, generator=g) < 0.5, logs.exp().mean(0).argmax(-1), lot)


def log(p: torch.Tensor) -> torch.Tensor:
    """Logarithms of probabilities, that of 0 the one of the smallest float."""
    return p.double().clamp_min(1e-300).log()


# ---- calibration


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("members", [1, 4])
def test_calibration_against_plain_numpy(bins: int, members: int) -> None:
    torch.manual_seed(0)
    n, classes = 500, 7
    p = (3 * torch.randn(members, n, classes)).double().softmax(-1)
    y = torch.where(torch.rand(n) < 0.6, p.mean(0).argmax(-1), torch.randint(classes, (n,)))
    found = uncertainty.calibration(p.log(), y, bins)

    mean, truth = p.double().numpy().mean(0), y.numpy()
    top, right = mean.max(1), mean.argmax(1) == truth
    own = mean[np.arange(n), truth]
    ece = 0.0
    for low in np.arange(bins) / bins:
        inside = (top > low) & (top <= low + 1 / bins)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["nll"] == pytest.approx(-np.log(own).mean(), rel=1e-6)
    assert found["brier"] == pytest.approx(((mean - np.eye(classes)[truth]) ** 2).sum(1).mean(), rel=1e-6)
    assert found["ece"] == pytest.approx(ece, abs=1e-12)


def test_calibration_at_its_ends() -> None:
    sure = log(torch.eye(3)[None])  # three examples, each certain of its class
    right, wrong = torch.arange(3), torch.tensor([1, 2, 0])
    good, bad = uncertainty.calibration(sure, right, 15), uncertainty.calibration(sure, wrong, 15)
    assert good == dict(accuracy=1.0, nll=0.0, brier=0.0, ece=0.0, ece_adaptive=0.0)
    assert bad == dict(accuracy=0.0, nll=pytest.approx(300 * np.log(10)), brier=2.0, ece=1.0, ece_adaptive=1.0)


def test_saturated_answers_share_the_last_bin_with_those_just_below() -> None:
    """Ten sure and wrong, ten nearly sure and right: in one bin they make up for each other."""
    p = torch.tensor([[1.0, 0.0]] * 10 + [[0.97, 0.03]] * 10)[None]
    y = torch.tensor([1] * 10 + [0] * 10)
    assert uncertainty.calibration(log(p), y, 15)["ece"] == pytest.approx(abs(0.5 - 0.985), abs=1e-6)
    rows = uncertainty.reliability(p[0].amax(-1), p[0].argmax(-1) == y, 15)
    assert [row["count"] for row in rows] == [0] * 14 + [20]


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_adaptive_ece_by_hand(bins: int) -> None:
    p, y = drawn()
    sure, guess = p.exp().mean(0).max(-1)
    order = np.argsort(sure.numpy(), kind="stable")
    parts = np.array_split(order, bins)
    right = (guess == y).numpy()
    wanted = sum(len(i) / len(y) * abs(right[i].mean() - sure.double().numpy()[i].mean()) for i in parts)
    assert uncertainty.adaptive_ece(sure, guess == y, bins) == pytest.approx(wanted, abs=1e-11)


def test_reliability_holds_every_input_once_and_adds_up_to_the_ece() -> None:
    p, y = drawn()
    sure, guess = p.exp().mean(0).max(-1)
    rows = uncertainty.reliability(sure, guess == y, 15)
    assert sum(row["count"] for row in rows) == len(y) and len(rows) == 15
    known = [row for row in rows if row["count"]]
    assert all((row["confidence"] is None) == (row["count"] == 0) for row in rows)
    assert all(row["bin"] / 15 < row["confidence"] <= (row["bin"] + 1) / 15 for row in known)
    ece = sum(row["count"] / len(y) * abs(row["accuracy"] - row["confidence"]) for row in known)
    assert uncertainty.calibration(p, y, 15)["ece"] == pytest.approx(ece, abs=1e-12)


# ---- members


def test_information_against_scipy() -> None:
    p, y = drawn()
    found = uncertainty.diversity(p, y)
    p = p.exp()
    total = stats.entropy(p.mean(0).numpy(), axis=-1).mean()
    each = stats.entropy(p.numpy(), axis=-1).mean()
    assert found["entropy"] == pytest.approx(total) and found["expected_entropy"] == pytest.approx(each)
    assert found["mutual_information"] == pytest.approx(total - each)
    kl = sum(stats.entropy(one.numpy(), p.mean(0).numpy(), axis=-1).mean() for one in p)
    assert found["kl_from_mean"] == pytest.approx(kl)


def test_votes_against_plain_counting() -> None:
    p, y = drawn()
    votes = p.argmax(-1).numpy()
    pairs = [(a != b).mean() for i, a in enumerate(votes) for b in votes[i + 1 :]]
    ratio = [1 - np.bincount(column).max() / len(votes) for column in votes.T]
    found = uncertainty.diversity(p, y)
    assert found["disagreement"] == pytest.approx(np.mean(pairs)) and found["variation_ratio"] == pytest.approx(np.mean(ratio))
    assert found["member_accuracy"] == pytest.approx((votes == y.numpy()).mean())
    losses = [sklearn.metrics.log_loss(y, one, labels=range(6)) for one in p.exp()]
    assert found["member_nll"] == pytest.approx(np.mean(losses))


def test_what_needs_two_members_is_undefined_for_one() -> None:
    p, y = drawn(members=1)
    found = uncertainty.diversity(p, y)
    names = ("mutual_information", "variation_ratio", "disagreement", "kl_from_mean")
    assert all(found[name] is None for name in names) and found["entropy"] == pytest.approx(found["expected_entropy"])
    told = uncertainty.outside(p, drawn(1, members=1)[0])
    assert told["auroc_mi"] is None and told["auroc_entropy"] == pytest.approx(told["member_auroc_entropy"])


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.1, 5))
def test_facts_of_every_set_of_members(seed: int, members: int, sharp: float) -> None:
    p, y = drawn(seed, members, n=40, sharp=sharp)
    found, mean = uncertainty.diversity(p, y), uncertainty.calibration(p, y, 15)
    assert mean["nll"] <= found["member_nll"] + 1e-9, "the mean is no worse than the mean member (Jensen)"
    assert -1e-9 <= found["mutual_information"] <= np.log(members) + 1e-9
    assert 0 <= found["entropy"] <= np.log(6) + 1e-6 and 0 <= mean["brier"] <= 2 and 0 <= mean["ece"] <= 1
    same = uncertainty.diversity(p[:1].repeat(members, 1, 1), y)
    assert same["disagreement"] == 0 and same["mutual_information"] == pytest.approx(0, abs=1e-9)


def test_the_first_members_are_judged_as_if_there_were_no_more() -> None:
    p, y = drawn(members=12)
    rows = uncertainty.by_members(p, y, 15)
    assert [row["members"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    for row in rows:
        assert {k: v for k, v in row.items() if k != "members"} == uncertainty.calibration(p[: row["members"]], y, 15)
    assert uncertainty.counts_of(1) == [1] and uncertainty.counts_of(100)[-4:] == [10, 20, 50, 100]


# ---- unknown classes


def scores(seed: int, ties: bool) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    known, unknown = 3 * torch.rand(200, generator=g), 1 + 4 * torch.rand(150, generator=g)  # beyond [0, 1], as entropies are
    return ((known * 3).round() / 3, (unknown * 3).round() / 3) if ties else (known, unknown)


@pytest.mark.parametrize("ties", [False, True])
def test_detection_against_scikit_learn(ties: bool) -> None:
    known, unknown = scores(0, ties)
    target, score = np.r_[np.zeros(200), np.ones(150)], np.r_[known.numpy(), unknown.numpy()]
    found = uncertainty.detection(known, unknown)
    assert found["auroc"] == pytest.approx(sklearn.metrics.roc_auc_score(target, score), abs=1e-6)
    assert found["aupr"] == pytest.approx(sklearn.metrics.average_precision_score(target, score), abs=1e-6)
    assert found["aupr_in"] == pytest.approx(sklearn.metrics.average_precision_score(1 - target, -score), abs=1e-6)
    thresholds = [t for t in np.unique(score) if (unknown.numpy() >= t).mean() >= 0.95]
    assert found["fpr95"] == pytest.approx((known.numpy() >= max(thresholds)).mean(), abs=1e-6)


def test_detection_at_its_ends() -> None:
    low, high = torch.rand(50), 1 + torch.rand(50)
    assert uncertainty.detection(low, high) == dict(auroc=1.0, aupr=1.0, aupr_in=1.0, fpr95=0.0)
    assert uncertainty.detection(high, low)["auroc"] == 0.0 and uncertainty.detection(high, low)["fpr95"] == 1.0
    assert uncertainty.detection(torch.ones(50), torch.ones(50))["auroc"] == 0.5


# ---- answering only when sure


def test_risk_and_coverage_by_brute_force() -> None:
    p, y = drawn(n=50)
    sure, guess = p.exp().mean(0).max(-1)
    wrong = (guess != y)[sure.argsort(descending=True)].double().numpy()
    found = uncertainty.selective(sure, guess == y)
    assert found["aurc"] == pytest.approx(np.mean([wrong[:k].mean() for k in range(1, 51)]))
    assert found["risk_80"] == pytest.approx(wrong[:40].mean())


def test_accuracy_by_confidence() -> None:
    sure, right = torch.tensor([0.3, 0.6, 0.6, 0.95]), torch.tensor([False, True, False, True])
    rows = uncertainty.by_confidence(sure, right, [0.0, 0.6, 0.9, 0.99])
    assert [row["accuracy"] for row in rows] == [0.5, pytest.approx(2 / 3), 1.0, None]
    assert [row["kept"] for row in rows] == [1.0, 0.75, 0.25, 0.0]


# ---- temperature


@pytest.mark.parametrize("sharp", [0.5, 2.0, 6.0])
def test_the_temperature_is_where_scipy_finds_the_least_nll(sharp: float) -> None:
    p, y = drawn(sharp=sharp)
    mean = p[0]
    t = uncertainty.temperature(mean, y)
    best = optimize.minimize_scalar(
        lambda u: uncertainty.nll(uncertainty.tempered(mean, np.exp(u)), y), bounds=(-4, 4), method="bounded"
    )
    assert np.log(t) == pytest.approx(best.x, abs=1e-3)
    assert uncertainty.nll(uncertainty.tempered(mean, t), y) <= uncertainty.nll(mean, y) + 1e-9


def test_temperature_one_changes_nothing_and_none_changes_the_answer() -> None:
    p, _ = drawn()
    torch.testing.assert_close(uncertainty.tempered(p[0], 1.0), p[0])
    assert torch.equal(uncertainty.tempered(p[0], 3.0).argmax(-1), p[0].argmax(-1))


@given(st.integers(0, 10_000), st.floats(-2, 2.5))
def test_the_temperature_of_scaled_logits_scales_along(seed: int, scale: float) -> None:
    """Logits 300 times as large are no reason to stop at 100."""
    p, y = drawn(seed, 1, n=200)
    t = uncertainty.temperature(p[0], y)
    scaled = uncertainty.temperature((10**scale * p[0]).log_softmax(-1), y)
    assert scaled == pytest.approx(10**scale * t, rel=1e-6)


def test_there_is_no_best_temperature_where_all_is_right_or_worse_than_chance() -> None:
    p, _ = drawn()
    assert uncertainty.temperature(p[0], p[0].argmax(-1)) is None
    assert uncertainty.temperature(p[0], p[0].argmin(-1)) is None


# ---- numbers that floats cannot hold, and rows in any order


@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(-2, 4.5))
def test_scores_are_those_of_float64_logits_however_large(seed: int, members: int, scale: float) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = 10**scale * torch.randn(members, 50, 7, generator=g)
    y = torch.randint(7, (50,), generator=g)
    exact = logits.double().numpy()
    exact = exact - special.logsumexp(exact, axis=-1, keepdims=True)
    mean = special.logsumexp(exact, axis=0) - np.log(members)
    own = np.arange(50), y.numpy()
    logs = log_probabilities(logits)
    assert uncertainty.calibration(logs, y, 15)["nll"] == pytest.approx(-mean[own].mean(), rel=1e-12)
    nll = np.mean([-one[own].mean() for one in exact])
    assert uncertainty.diversity(logs, y)["member_nll"] == pytest.approx(nll, rel=1e-12)


def test_ten_equal_confidences_have_one_score_whoever_comes_first() -> None:
    sure, right = torch.full((10,), 0.7), torch.tensor([True] * 7 + [False] * 3)
    for order in (right, right.flip(0)):
        assert uncertainty.selective(sure, order) == dict(aurc=pytest.approx(0.3), risk_80=pytest.approx(0.3))
        assert uncertainty.adaptive_ece(sure, order, 5) == pytest.approx(0, abs=1e-6)


def test_tied_rows_count_as_the_mean_over_all_their_orders() -> None:
    sure, right = torch.tensor([0.9, 0.6, 0.6, 0.6, 0.3]), torch.tensor([True, True, False, False, True])
    values = []
    for middle in itertools.permutations([0, 1, 1]):
        wrong = np.array([0, *middle, 0])
        values.append((wrong.cumsum() / np.arange(1, 6)).mean())
    assert uncertainty.selective(sure, right)["aurc"] == pytest.approx(np.mean(values))


@given(st.integers(0, 10_000), st.sampled_from([2, 3, 15]), st.booleans())
def test_no_number_depends_on_the_order_of_the_rows(seed: int, classes: int, coarse: bool) -> None:
    """Coarse members are each certain of a class, so that their means are k / members: ties and edges of bins."""
    p, y = drawn(seed, 5, n=45, classes=classes)
    if coarse:
        p = log(torch.nn.functional.one_hot(p.argmax(-1), classes))
    order = torch.randperm(45, generator=torch.Generator().manual_seed(seed))

    def numbers(p: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        sure, guess = uncertainty.confidence(uncertainty.mixture(p))
        return uncertainty.calibration(p, y, 15) | uncertainty.selective(sure, guess == y) | uncertainty.diversity(p, y)

    assert numbers(p[:, order], y[order]) == pytest.approx(numbers(p, y), rel=1e-12, abs=1e-12)


@given(st.integers(1, 40), st.data())
def test_a_confidence_at_an_edge_is_in_the_bin_below(bins: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, bins))
    members = log(torch.cat([torch.ones(k), torch.zeros(bins - k)])[:, None, None])  # of `bins` members k are certain
    sure = uncertainty.mixture(members)[0].exp()
    assert uncertainty.bin_of(sure, bins).item() == k - 1
    above, below = (torch.tensor([k / bins + by], dtype=torch.float64) for by in (1e-9, -1e-9))
    assert uncertainty.bin_of(above, bins).item() == min(k, bins - 1) and uncertainty.bin_of(below, bins).item() == k - 1


# ---- what is undefined


def test_detection_of_nothing_is_undefined() -> None:
    none = dict.fromkeys(("auroc", "aupr", "aupr_in", "fpr95"))
    some, empty = torch.rand(5), torch.rand(0)
    assert uncertainty.detection(some, empty) == uncertainty.detection(empty, some) == none
    p, _ = drawn()
    assert set(uncertainty.outside(p, p[:, :0]).values()) == {None}


def test_one_class_has_scores() -> None:
    p, y = torch.zeros(3, 20, 1), torch.zeros(20).long()
    assert uncertainty.calibration(p, y, 15) == dict(accuracy=1, nll=0, brier=0, ece=0, ece_adaptive=0)
    assert uncertainty.outside(p, p)["auroc_entropy"] == 0.5 and uncertainty.diversity(p, y)["disagreement"] == 0
    assert uncertainty.temperature(p[0], y) is None
