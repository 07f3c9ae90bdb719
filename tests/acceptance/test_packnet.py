"""PackNet on MNIST streams: packnet.md section 8."""

import pytest

from maskbench.training import evaluate

pytestmark = pytest.mark.slow


def test_split_mnist(runs):
    done = runs("method=packnet", "data=splitmnist")
    assert all(value >= 0.99 for value in done.values("average_accuracy"))
    assert set(done.values("logit_drift")) == {0.0}, "with weight decay on, not one logit of a finished stage moves"
    assert set(done.values("forgetting")) == set(done.values("backward_transfer")) == {0.0}


@pytest.fixture(scope="module")
def permuted(runs):
    return runs("experiment=packnet/permuted_mnist")


def test_ten_permutations_with_equal_shares(permuted):
    assert permuted.mean("average_accuracy") == pytest.approx(0.955, abs=0.007)
    assert set(permuted.values("logit_drift")) == {0.0}
    for result in permuted:
        accuracies = [row["accuracy at the end"] for row in result["table"]]
        assert min(accuracies) == accuracies[-1], "the last stage has the least left to itself"
        assert accuracies[0] >= accuracies[-1] + 0.015
        assert result["metrics"]["free"] == 0.0


def test_retraining_brings_back_what_pruning_took(build):
    """Validation accuracy of the first of ten permutations, and the share of weights that is free after every stage."""
    bench = build("experiment=packnet/permuted_mnist")
    assert len(bench.stages[0].train) == 55_000, "the full data set"
    looks, free = [], []

    def fit(method, stage, **phase):
        looks.append(evaluate.accuracy(method, stage, stage.val))  # before the phase: as initialised, then just pruned
        bench.fit(method, stage, **(phase if stage.index == 0 else phase | {"share": 0.05}))  # later ones for their counts
        looks.append(evaluate.accuracy(method, stage, stage.val))

    for stage in bench.stages:
        bench.method.learn(stage, fit)
        free.append(bench.method.ledger.share_free())
    _, trained, pruned, retrained = looks[:4]
    assert pruned < trained and pruned < retrained
    wanted = [0.900, 0.801, 0.697, 0.599, 0.497, 0.398, 0.298, 0.200, 0.100, 0.000]
    assert all(abs(a - b) <= 0.005 for a, b in zip(free, wanted, strict=True))


def test_fashion_keeps_the_same_exact_zero(runs, permuted):
    done = runs("experiment=packnet/permuted_mnist", "data=permutedfashion")
    assert set(done.values("logit_drift")) == {0.0}
    assert done.mean("average_accuracy") < permuted.mean("average_accuracy")


def test_one_packed_output_layer(runs):
    done = runs("experiment=packnet/split_mnist_packed")
    assert all(value >= 0.988 for value in done.values("average_accuracy"))
    assert set(done.values("logit_drift")) == {0.0}
