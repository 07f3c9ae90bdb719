"""SupSup on MNIST streams: supsup.md section 8."""

import time

import pytest
import torch

from maskbench.backbones.mlp import MLP
from maskbench.methods.continual.supsup import SupSup

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def split(runs):
    return runs("method=supsup", "data=splitmnist")


@pytest.fixture(scope="module")
def permuted(runs):
    return runs("method=supsup", "data=permutedmnist", "data.stages=10")


def test_split_mnist_with_the_stage_given(split):
    assert all(abs(value - 0.99) <= 0.005 for value in split.values("average_accuracy"))
    assert {result["source"] for result in split} <= {"npm", "folder", "torchvision"}, "the full data set, not the sample"


@pytest.mark.parametrize("outputs", [2, 10])
def test_split_mnist_needs_no_superfluous_outputs(runs, outputs: int):
    done = runs("method=supsup", "data=splitmnist", f"backbone.outputs={outputs}", "method.inference=[one_shot_H]")
    assert all(abs(value - 0.99) <= 0.005 for value in done.values("average_accuracy"))


def test_split_mnist_with_labels_kept(runs):
    """Stages are found even less than with shifted labels: 32 to 38 % from one image, 40 to 55 % from 128 when first measured."""
    done = runs("method=supsup", "data=splitmnist", "data.labels=kept", "method.inference=[one_shot_H,binary_H]")
    assert all(0.2 <= value <= 0.6 for value in done.values("task_inference_accuracy/one_shot_H_1"))
    assert 0.3 <= done.mean("task_inference_accuracy/binary_H_128") <= 0.75


def test_split_mnist_stages_are_not_found_from_one_image(split):
    """A figure near 1 here means that the stage leaked."""
    assert all(0.30 <= value <= 0.60 for value in split.values("task_inference_accuracy/one_shot_H_1"))
    assert all(value <= 0.30 for value in split.values("task_inference_accuracy/one_shot_G_1"))


def test_split_mnist_brute_force_finds_stages(split):
    assert split.mean("task_inference_accuracy/brute_force_H_1") == pytest.approx(0.68, abs=0.05)
    assert all(value >= 0.98 for value in split.values("task_inference_accuracy/brute_force_H_128"))


def test_ten_permutations(permuted):
    for result in permuted:
        assert result["metrics"]["average_accuracy"] == pytest.approx(0.937, abs=0.006)
        accuracies = [row["accuracy at the end"] for row in result["table"]]
        assert max(accuracies) - min(accuracies) < 0.01


def test_permutations_are_found_from_one_image(permuted):
    for rule in ("one_shot_H_1", "one_shot_G_1"):
        assert all(value >= 0.995 for value in permuted.values(f"task_inference_accuracy/{rule}"))
    assert permuted.mean("average_accuracy_inferred") == pytest.approx(permuted.mean("average_accuracy"), abs=0.003)


def test_nothing_is_ever_forgotten(split, permuted):
    assert {*split.values("logit_drift"), *permuted.values("logit_drift")} == {0.0}
    assert {*split.values("forgetting"), *permuted.values("forgetting")} == {0.0}


def test_training_is_cheap(permuted):
    assert all(value <= 6 for value in permuted.values("train_cpu_seconds_per_stage"))


def test_fashion_permutations(runs):
    done = runs("experiment=supsup/permuted_fashion")
    assert done.mean("average_accuracy") == pytest.approx(0.84, abs=0.01)
    assert all(value >= 0.995 for value in done.values("task_inference_accuracy/one_shot_H_1"))


def test_the_bounds(runs):
    """One net per stage above, one net for all below: the stream is a real one."""
    assert runs("method=separate", "data=splitmnist").mean("average_accuracy") == pytest.approx(0.9932, abs=0.015)
    assert runs("method=finetune", "data=splitmnist").mean("average_accuracy") == pytest.approx(0.6467, abs=0.06)
    assert all(value < 0.9 for value in runs("method=finetune", "data=splitmnist").values("average_accuracy"))


def test_nobody_says_where_a_stage_begins(runs):
    """NNs: exactly one mask for each of six permutations."""
    done = runs("experiment=supsup/permuted_mnist_nns")
    assert set(done.values("masks_found")) == {6}
    assert 100 * done.mean("average_accuracy_inferred_shared") == pytest.approx(93.5, abs=0.7)


def test_fifty_permutations(runs):
    done = runs("experiment=supsup/permuted_mnist_50")
    assert 100 * done.mean("average_accuracy") == pytest.approx(93.7, abs=0.6)
    for rule in ("one_shot_H_1", "one_shot_G_1"):
        assert all(value >= 0.995 for value in done.values(f"task_inference_accuracy/{rule}"))


def test_binary_search_on_split_mnist_from_128_images(split):
    """Reported, not tuned: 80 to 97.5 % with shifted labels where it was measured first."""
    assert 0.6 <= split.mean("task_inference_accuracy/binary_H_128") <= 1.0


def test_finding_one_of_fifty_stages_takes_milliseconds():
    """CPU time of one One-Shot inference from one image, LeNet-300-100 with 100 outputs, masks at one bit a weight."""
    method = SupSup(MLP((1, 28, 28), 100, widths=[300, 100], bias=False, init="signed_constant"))
    method.classes.fill_(10)
    for stage in range(50):
        method.book.write(stage, {name: torch.rand(w.shape) < 0.5 for name, w in method.w.items()})
    groups, seconds = torch.randn(20, 1, 1, 28, 28), []
    for rule in ("one_shot_H", "one_shot_G") * 5:
        start = time.process_time()
        for group in groups:
            method.infer(group[None], rule)
        seconds.append((time.process_time() - start) / len(groups))
    assert min(seconds) < 0.015


# ---- HopSupSup

MANY = tuple(range(10))


@pytest.fixture(scope="module")
def recalled(runs):
    return runs("experiment=supsup/hopsupsup_splitmnist", seeds=MANY)


def test_hopsupsup_with_the_stage_given(recalled):
    assert all(value >= 0.97 for value in recalled.values("average_accuracy"))
    assert set(recalled.values("logit_drift")) == {0.0}


def exact(done) -> list[list[bool]]:
    """Whether each mask was recalled bit for bit, by seed."""
    return [[curve[-1] == 0 for curve in result["matrices"]["recall_distance_curve"]] for result in done]


def test_hopsupsup_recalls_most_masks_exactly(recalled):
    """The specification's "distance 0 for all five" is one run's. The recipe itself, stated anew line by line from the released
    code with its own random numbers, recalled 74 of 80 masks in 16 runs and all five in 10 of these: entropy leads to a wrong
    valley, or the last step ends short of one. At that rate fewer than 40 of 50 masks have a probability below 1 %."""
    seeds = exact(recalled)
    assert sum(map(sum, seeds)) >= 40
    assert sum(map(all, seeds)) >= 3
    for result, masks in zip(recalled, seeds, strict=True):
        if all(masks):
            assert result["metrics"]["recall_distance_max"] == 0 and result["metrics"]["recall_accuracy"] >= 0.97


def test_hopsupsup_recalls_all_masks_by_the_surest_of_several_descents(runs):
    """The specification's gate, distance 0 for all five, on every seed. Which valley a descent ends in depends on the order of
    the images; under the right mask the answers' entropy is half of that under any other, which needs no label to see."""
    done = runs("experiment=supsup/hopsupsup_splitmnist_sure")
    assert set(done.values("recall_distance_max")) == {0}
    assert all(value >= 0.97 for value in done.values("recall_accuracy"))


def test_rotations_at_the_scale_of_a_lenet(runs):
    """36 stages: the stage given works; neighbours ten degrees apart are not told apart by one gradient, and that is reported.
    (Binary search over 128 images found 19 % in the specification's one run and 50 % in ours: nothing is held to it.)"""
    done = runs("experiment=supsup/rotated_mnist", seeds=(0,))
    assert 100 * done.mean("average_accuracy") == pytest.approx(91.8, abs=1)
    assert 100 * done.mean("task_inference_accuracy/one_shot_H_1") == pytest.approx(9, abs=5)
    assert 100 * done.mean("task_inference_accuracy/one_shot_H_128") == pytest.approx(20, abs=8)
