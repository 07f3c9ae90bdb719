"""WSN on MNIST streams: continual_masks.md section 9."""

import pytest

pytestmark = pytest.mark.slow


def test_split_mnist(runs):
    done = runs("method=wsn", "data=splitmnist")
    assert all(value == pytest.approx(0.9935, abs=0.0025) for value in done.values("average_accuracy"))
    assert set(done.values("logit_drift")) == set(done.values("forgetting")) == set(done.values("backward_transfer")) == {0.0}
    assert all(0.73 < value < 0.79 for value in done.values("used"))
    assert set(done.values("mask_bytes/packed")) == {165_750} and set(done.values("memory_bytes_shared")) == {1_060_800}
    assert all(huffman == pytest.approx(126_500, rel=0.03) for huffman in done.values("mask_bytes/huffman"))
    assert all(entropy == pytest.approx(124_600, rel=0.03) for entropy in done.values("mask_bytes/entropy"))


@pytest.mark.parametrize(
    ("keep", "accuracy", "tolerance", "used", "huffman", "entropy"),
    [
        (0.3, 0.9944, 0.0025, 0.54, 109e3, 107.7e3),
        (0.1, 0.9934, 0.0025, 0.23, 66.5e3, 57.7e3),
        (0.03, 0.9882, 0.004, 0.08, 44e3, 23.7e3),
    ],
)
def test_sparser_masks(runs, keep: float, accuracy: float, tolerance: float, used: float, huffman: float, entropy: float):
    (done,) = runs("method=wsn", f"method.keep={keep}", "data=splitmnist", seeds=(0,))
    metrics = done["metrics"]
    assert metrics["average_accuracy"] == pytest.approx(accuracy, abs=tolerance) and metrics["logit_drift"] == 0.0
    assert metrics["used"] == pytest.approx(used, abs=0.02)
    assert metrics["mask_bytes/huffman"] == pytest.approx(huffman, rel=0.04)
    assert metrics["mask_bytes/entropy"] == pytest.approx(entropy, rel=0.05)
    assert metrics["mask_bytes/huffman"] > metrics["mask_bytes/packed"] / 5, "no code of whole bits does better"


def test_scores_drawn_anew_use_the_net_up_sooner(runs):
    (done,) = runs("method=wsn", "method.scores=redrawn", "data=splitmnist", seeds=(0,))
    assert done["metrics"]["average_accuracy"] == pytest.approx(0.9945, abs=0.0025)
    assert done["metrics"]["used"] == pytest.approx(0.948, abs=0.01) and done["metrics"]["logit_drift"] == 0.0


def test_decay_reaches_nothing_that_is_kept(runs):
    (done,) = runs(
        "method=wsn", "data=splitmnist", "optimizer._target_=torch.optim.AdamW", "optimizer.weight_decay=0.01", seeds=(0,)
    )
    assert done["metrics"]["average_accuracy"] > 0.99 and done["metrics"]["logit_drift"] == 0.0


def test_ten_permutations(runs):
    (done,) = runs("experiment=wsn/permuted_mnist", seeds=(0,))
    metrics, accuracies = done["metrics"], [row["accuracy at the end"] for row in done["table"]]
    assert metrics["average_accuracy"] == pytest.approx(0.929, abs=0.005) and metrics["logit_drift"] == 0.0
    assert metrics["used"] == pytest.approx(0.916, abs=0.02) and metrics["mask_bytes/packed"] == 331_500
    # all ten as one symbol (of two bytes) would take 253.8k and 247.2k
    assert 253_800 < metrics["mask_bytes/huffman"] == pytest.approx(259_400, rel=0.02)
    assert 247_200 < metrics["mask_bytes/entropy"] == pytest.approx(255_100, rel=0.02)
    assert accuracies[0] > accuracies[-1], "the last stage has the least left to itself"
