"""edge-popup: edge_popup.md section 4, rows A1 to A11 (A11, the exact invariants, is tests/test_edge_popup.py)."""

import pytest

pytestmark = pytest.mark.slow

QUICK = "experiment=edge_popup/mnist_quick"


@pytest.fixture(scope="module")
def percent(runs):
    """percent(overrides...): test accuracy of each seed in percent."""
    return lambda *words, **seeds: [100 * value for value in runs(*words, **seeds).values("accuracy")]


def mean(values):
    return sum(values) / len(values)


def test_a1_signed_constant(percent):
    assert mean(percent(QUICK)) == pytest.approx(96.6, abs=0.3)


def test_a2_a_higher_rate(percent):
    assert mean(percent(QUICK, "optimizer=edge_popup_short")) == pytest.approx(97.4, abs=0.4)


def test_a3_kaiming_normal(percent):
    assert mean(percent(QUICK, "backbone.init=kaiming_normal")) == pytest.approx(96.2, abs=0.3)


def test_a4_the_convolutional_example(percent):
    assert mean(percent("experiment=edge_popup/conv_example_quick")) >= 97.6


def test_a5_signed_constant_beats_kaiming_normal(percent):
    pairs = zip(percent(QUICK), percent(QUICK, "backbone.init=kaiming_normal"), strict=True)
    gaps = [constant - normal for constant, normal in pairs]
    assert all(gap > 0 for gap in gaps)
    assert 0.1 <= mean(gaps) <= 0.8


def test_a6_shape_over_the_kept_share(percent):
    at = {keep: mean(percent(QUICK, f"method.keep={keep}")) for keep in (0.1, 0.7, 0.9)}
    assert at[0.1] <= mean(percent(QUICK)) - 3
    assert at[0.9] < at[0.7]


def test_a7_scaling_rescues_small_shares(percent):
    plain = percent(QUICK, "method.keep=0.1")
    assert mean(percent(QUICK, "method.keep=0.1", "method.scale_fan=true")) >= mean(plain) + 5


def test_a8_ranking_by_magnitude_beats_ranking_by_score(percent):
    assert 0.3 <= mean(percent(QUICK)) - mean(percent(QUICK, "method.score_map=identity")) <= 1.5


def test_a9_close_to_the_dense_net_after_15_epochs(percent):
    """Both at the better of the rates measured for them: 0.3 for scores, 0.1 for weights."""
    scores = percent(QUICK, "optimizer=edge_popup_short", "budget.epochs=15")
    dense = percent(
        "method=dense", "task=prune", "optimizer=sgd", "optimizer.lr=0.1", "optimizer.weight_decay=1e-4",
        "schedule=cosine_epochs", "backbone.bias=false", "data.val=0", "budget.epochs=15",
    )  # fmt: skip
    assert mean(dense) - mean(scores) <= 0.8


def test_a10_fashion_mnist(percent):
    assert mean(percent(QUICK, "data=fashion_mnist")) == pytest.approx(86.9, abs=0.6)
