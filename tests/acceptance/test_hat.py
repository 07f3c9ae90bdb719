"""HAT on MNIST streams: continual_masks.md sections 9a, 9c and 11."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

UNITS = "dead_units"


@pytest.fixture(scope="module")
def split(runs):
    return runs("method=hat", "data=splitmnist")


def test_split_mnist_in_one_epoch(split):
    """98.45 to 98.55 over three seeds; no gate is left open, so that not one logit of a finished stage moves."""
    assert all(value == pytest.approx(0.985, abs=0.005) for value in split.values("average_accuracy"))
    for metric in ("forgetting", "backward_transfer", "logit_drift", "open_gates"):
        assert set(split.values(metric)) == {0.0}, metric
    assert all(0.14 <= value <= 0.26 for value in split.values(UNITS)), "77 to 84 % of the units are used"
    assert set(split.values("memory_bytes")) == {1_062_400 + 5 * (808 + 1600)}


def test_three_epochs_take_fewer_units_to_more_accuracy(runs, split):
    longer = runs("method=hat", "data=splitmnist", "budget.epochs=3", seeds=(0, 1))
    assert longer.mean("average_accuracy") == pytest.approx(0.991, abs=0.004)
    assert longer.mean("average_accuracy") > split.mean("average_accuracy")
    assert min(longer.values(UNITS)) > max(split.values(UNITS)) and set(longer.values("logit_drift")) == {0.0}


def test_momentum_that_starts_afresh_with_each_stage_moves_nothing(runs):
    done = runs("method=hat", "data=splitmnist", "optimizer.momentum=0.9", seeds=(0,))
    assert done.values("open_gates") == done.values("logit_drift") == [0.0]


@pytest.mark.parametrize("words", [("method.smax=50",), ("method.smax=10",)])
def test_stages_drift_through_open_gates(runs, split, words):
    (done,) = runs("method=hat", "data=splitmnist", *words, seeds=(0,))
    assert done["metrics"]["open_gates"] > 10 and done["metrics"]["logit_drift"] > 0.01
    assert done["metrics"]["average_accuracy"] > 0.97


def test_binary_gates_are_as_good_and_leave_none_open(runs, split):
    words = ("method=hat", "data=splitmnist", "method.smax=50", "method.binary=true")
    done = runs(*words, seeds=(0,))
    assert done.values("open_gates") == done.values("logit_drift") == [0.0]
    assert done.values("memory_bytes") == [1_062_400 + 5 * (808 + 50)]
    assert done.mean("average_accuracy") > 0.97


def test_ten_permutations_fill_the_net(runs):
    """88.97, 87.72, 87.12; the last stages find little left."""
    done = runs("method=hat", "data=permutedmnist")
    assert all(0.84 <= value <= 0.91 for value in done.values("average_accuracy"))
    assert set(done.values("logit_drift")) == {0.0}
    for result in done:
        first, *_, last = (row["accuracy at the end"] for row in result["table"])
        assert 0.75 <= last <= 0.89 and last < first


def test_the_last_stage_is_forgotten_and_all_others_answer_as_before(runs, split, build, tmp_path):
    """maskbench forget on the real data: the proof is that of the files."""
    from maskbench.runs import forgetting
    from maskbench.runs.read_back import Saved

    bench = build("method=hat", "data=splitmnist", "method.binary=true").go()
    saved = Saved(bench.method.eval(), bench.stages, bench.cfg)
    method, proof = forgetting.forget(saved, bench.stages[4])
    forgetting.write(method, proof, tmp_path / "forget")
    told = json.loads(Path(tmp_path, "forget", "forgotten.json").read_text())
    assert [row["equal"] for row in told["others"]] == [True] * 4 and sum(row["images"] for row in told["others"]) > 7_000
