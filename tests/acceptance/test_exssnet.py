"""ExSSNeT on MNIST streams: continual_masks.md section 9."""

import pytest

pytestmark = pytest.mark.slow
SPLIT = ("method=exssnet", "data=splitmnist")


@pytest.fixture(scope="module")
def split(runs):
    return runs(*SPLIT)


def test_split_mnist(split):
    assert all(value == pytest.approx(0.9955, abs=0.002) for value in split.values("average_accuracy"))
    assert set(split.values("logit_drift")) == set(split.values("forgetting")) == {0.0}
    assert all(value == pytest.approx(0.395, abs=0.01) for value in split.values("used"))
    assert all(1 - value == pytest.approx(0.60, abs=0.03) for value in split.values("reuse")), (
        "what the last stage trains of its mask"
    )
    assert set(split.values("memory_bytes_per_stage")) == {33_175}


def test_training_weights_helps_on_every_seed(runs, split):
    masks = runs(*SPLIT, "method.weights_share=0")
    assert all(value == pytest.approx(0.993, abs=0.0025) for value in masks.values("average_accuracy"))
    pairs = zip(masks.values("average_accuracy"), split.values("average_accuracy"), strict=True)
    assert all(without < with_weights for without, with_weights in pairs)


def test_ssnet_forgets(runs):
    (done,) = runs(*SPLIT, "method.exclusive=false", seeds=(0,))
    assert done["metrics"]["average_accuracy"] == pytest.approx(0.9962, abs=0.002)
    assert done["metrics"]["logit_drift"] > 0.5 and done["metrics"]["forgetting"] < 0.003


@pytest.mark.parametrize(
    ("words", "accuracy", "tolerance"),
    [
        (("method.keep=0.02",), 0.985, 0.004),
        (("method.keep=0.02", "method.weights_share=0"), 0.9789, 0.005),
        (("method.keep=0.5",), 0.9968, 0.002),
    ],
)
def test_other_shares(runs, words: tuple[str, ...], accuracy: float, tolerance: float):
    (done,) = runs(*SPLIT, *words, seeds=(0,))
    assert done["metrics"]["average_accuracy"] == pytest.approx(accuracy, abs=tolerance) and done["metrics"]["logit_drift"] == 0.0


def test_scores_of_the_nearest_stage_share_more_of_the_net(runs, split):
    (done,) = runs(*SPLIT, "method.transfer=kkt", seeds=(0,))
    assert done["metrics"]["average_accuracy"] == pytest.approx(0.9955, abs=0.0025) and done["metrics"]["logit_drift"] == 0.0
    assert done["metrics"]["used"] < split.values("used")[0] - 0.1
    assert done["metrics"]["memory_bytes_per_stage"] == 33_175 + 4 * 265_400


def test_ten_permutations(runs):
    (done,) = runs("method=exssnet", "data=permutedmnist", seeds=(0,))
    assert done["metrics"]["average_accuracy"] == pytest.approx(0.933, abs=0.006) and done["metrics"]["logit_drift"] == 0.0
    assert 1 - done["metrics"]["reuse"] == pytest.approx(0.38, abs=0.04)
