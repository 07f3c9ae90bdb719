"""Scores for unknown classes: of logits and features against scikit-learn and plain formulas, and their curves under counts."""

import numpy as np
import pytest
import sklearn.covariance
import sklearn.metrics
import sklearn.neighbors
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.tasks import unknown_classes
from maskbench.tasks.metrics import bootstrap, detection, uncertainty
from maskbench.training.outputs import Outputs


def made(members: int = 2, n: int = 50, seed: int = 0, features: int = 6) -> Outputs:
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(members, n, 4, generator=g).double()
    return Outputs(logits.log_softmax(-1), torch.randint(4, (n,), generator=g), logits,
                   torch.randn(members, n, features, generator=g).relu())  # fmt: skip


@given(seed=st.integers(0, 99), ties=st.booleans())
def test_curves_are_scikit_learns_under_counts(seed: int, ties: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    known, unknown = torch.randn(30, generator=g).double(), torch.randn(25, generator=g).double() + 0.8
    if ties:
        known, unknown = known.round(), unknown.round()
    ours, theirs = (next(iter(bootstrap.counts(n, 2, f"{of} {seed}"))) for n, of in ((30, "known"), (25, "unknown")))
    found = detection.curve(known, unknown)(ours, theirs)
    for draw in range(2):
        score = torch.cat([known, unknown]).numpy()
        target, weight = np.r_[np.zeros(30), np.ones(25)], torch.cat([ours[:, draw], theirs[:, draw]]).numpy()
        rates, hits, _ = sklearn.metrics.roc_curve(target, score, sample_weight=weight, drop_intermediate=False)
        expected = {
            "auroc": sklearn.metrics.roc_auc_score(target, score, sample_weight=weight),
            "aupr": sklearn.metrics.average_precision_score(target, score, sample_weight=weight),
            "aupr_in": sklearn.metrics.average_precision_score(1 - target, -score, sample_weight=weight),
            "fpr95": rates[hits >= 0.95 - 1e-12].min(),
        }
        assert {name: value[draw].item() for name, value in found.items()} == pytest.approx(expected, abs=1e-12)


def test_counts_of_one_give_what_is_detected_once() -> None:
    g = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(200, generator=g).double(), torch.randn(150, generator=g).double() + 1
    found = detection.curve(known, unknown)(torch.ones(200, 1), torch.ones(150, 1))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(uncertainty.detection(known, unknown), abs=1e-6)


def test_scores_of_logits_are_means_over_members() -> None:
    seen = made()
    scores = detection.Scorer(made(seed=1))(seen)
    by_member = [(-np.log(np.exp(z).sum(-1)), -z.max(-1)) for z in seen.logits.numpy()]
    np.testing.assert_allclose(scores["energy"], np.mean([one[0] for one in by_member], 0))
    np.testing.assert_allclose(scores["maxlogit"], np.mean([one[1] for one in by_member], 0))


def test_the_distance_to_neighbours_is_scikit_learns() -> None:
    train, seen = made(1, 80, 1), made(1, 50, 2)
    normal = [torch.nn.functional.normalize(part.features[0], dim=-1).numpy() for part in (train, seen)]
    near = sklearn.neighbors.NearestNeighbors(n_neighbors=detection.K).fit(normal[0])
    expected = near.kneighbors(normal[1])[0][:, -1]
    np.testing.assert_allclose(detection.Scorer(train)(seen)["knn"], expected, atol=1e-5)


def test_of_several_members_squared_distances_are_averaged() -> None:
    train, seen = made(3, 80, 1), made(3, 50, 2)
    normal = [torch.nn.functional.normalize(part.features, dim=-1).numpy() for part in (train, seen)]
    squares = ((normal[1][:, :, None] - normal[0][:, None]) ** 2).sum(-1).mean(0)
    expected = np.sqrt(np.sort(squares, 1)[:, detection.K - 1])
    np.testing.assert_allclose(detection.Scorer(train)(seen)["knn"], expected, atol=1e-5)


def test_mahalanobis_is_scikit_learns_and_dead_units_do_not_count() -> None:
    train, seen = made(1, 200, 1), made(1, 50, 2)
    x, y = train.features[0].double().numpy(), train.y.numpy()
    means = np.stack([x[y == c].mean(0) for c in range(4)])
    shared = sklearn.covariance.EmpiricalCovariance(assume_centered=True).fit(x - means[y])
    expected = np.min([shared.mahalanobis(seen.features[0].double().numpy() - mean) for mean in means], 0)
    np.testing.assert_allclose(detection.Scorer(train)(seen)["mahalanobis"], expected, rtol=1e-8)
    dead = [torch.nn.functional.pad(part.features, (0, 3)) for part in (train, seen)]
    found = detection.Mahalanobis(dead[0][0].double(), train.y)(dead[1][0].double())
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_what_has_no_logits_or_no_features_has_no_such_scores() -> None:
    seen = made()
    bare = Outputs(seen.log_p, seen.y, None, None)
    assert set(detection.Scorer(bare)(bare).values()) == {None}
    scores = detection.Scorer(bare)(seen)
    assert scores["knn"] is None and scores["energy"] is not None
    scorer = detection.Scorer(bare)
    numbers, curves = unknown_classes.judge(unknown_classes.scores(bare, scorer), unknown_classes.scores(bare, scorer), "o", 20)
    assert numbers["auroc_energy/o"] is None and numbers["fpr95_knn_low/o"] is None
    assert numbers["auroc_entropy_low/o"] == pytest.approx(0.5, abs=0.2) and "auroc_entropy/o" not in numbers
    assert [row["metric"] for row in curves] == ["auroc_entropy/o", "auroc_mi/o", "auroc_maxprob/o"]


def test_intervals_hold_their_score() -> None:
    known, unknown = made(2, 300, 2), made(2, 300, 3)
    scorer = detection.Scorer(made(2, 100, 1))
    numbers, _ = unknown_classes.judge(*(unknown_classes.scores(part, scorer) for part in (known, unknown)), "o", 500)
    for what in ("auroc", "aupr", "aupr_in"):
        for score in detection.NAMES:
            assert numbers[f"{what}_{score}_low/o"] < numbers[f"{what}_{score}/o"] < numbers[f"{what}_{score}_high/o"]


def test_a_group_is_the_mean_over_its_sets() -> None:
    numbers = {"auroc_mi/a": 0.5, "auroc_mi/b": 0.7, "auroc_mi/c": None, "auroc_mi_low/a": 0.4, "entropy/a": 1.0}
    found = unknown_classes.grouped(numbers, {"near": ("a", "b"), "far": ("a", "c")})
    assert found == {"auroc_mi/near": pytest.approx(0.6), "auroc_mi/far": None}
