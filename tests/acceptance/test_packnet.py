"""PackNet on MNIST streams: packnet.md section 8."""

import pytest

pytestmark = pytest.mark.slow


def test_split_mnist(runs):
    done = runs("method=packnet", "data=splitmnist")
    assert all(value >= 0.99 for value in done.values("average_accuracy"))
    assert set(done.values("logit_drift")) == {0.0}, "with weight decay on, not one logit of a finished stage moves"
    assert set(done.values("forgetting")) == set(done.values("backward_transfer")) == {0.0}


def test_ten_permutations_with_equal_shares(runs):
    done = runs("method=packnet", "data=permutedmnist", seeds=(0,))
    (result,) = done
    accuracies = [row["accuracy at the end"] for row in result["table"]]
    assert done.mean("average_accuracy") == pytest.approx(0.955, abs=0.007)
    assert done.values("logit_drift") == [0.0]
    assert min(accuracies) == accuracies[-1], "the last stage has the least left to itself"


def test_one_packed_output_layer(runs):
    done = runs("experiment=packnet/split_mnist_packed")
    assert all(value >= 0.988 for value in done.values("average_accuracy"))
    assert set(done.values("logit_drift")) == {0.0}
