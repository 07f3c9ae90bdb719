"""The continual baselines of the SupSup paper on MNIST streams: supsup.md section 8."""

import pytest

pytestmark = pytest.mark.slow

PERMUTED = {  # ten permutations, 1,000 steps a stage: percent, tolerance
    "separate": (95.42, 1.5),
    "psp": (94.76, 1.5),
    "batch_ensemble": (88.59, 1.5),
    "batch_ensemble method.trunk=random": (88.08, 1.5),
    "frozen_heads": (83.85, 1.5),
    "frozen_heads method.trunk=random": (81.72, 1.5),
    "finetune": (74.35, 6),
}
SPLIT = {  # five stages, 200 steps each
    "separate": (99.32, 1.5),
    "psp": (99.28, 1.5),
    "batch_ensemble": (98.60, 1.5),
    "batch_ensemble method.trunk=random": (98.55, 1.5),
    "frozen_heads": (94.82, 1.5),
    "frozen_heads method.trunk=random": (94.64, 1.5),
    "finetune": (64.67, 6),
}
FROZEN = ("batch_ensemble", "batch_ensemble method.trunk=random", "frozen_heads", "frozen_heads method.trunk=random", "separate")


def baseline(runs, preset: str, row: str):
    """The runs of a preset with the method, and what else makes the row, chosen in words."""
    return runs(*f"experiment=baselines/{preset} method={row}".split())


@pytest.mark.parametrize("row", PERMUTED)
def test_ten_permutations(runs, row: str) -> None:
    value, tolerance = PERMUTED[row]
    assert 100 * baseline(runs, "permuted_mnist", row).mean("average_accuracy") == pytest.approx(value, abs=tolerance)


@pytest.mark.parametrize("row", SPLIT)
def test_split_mnist(runs, row: str) -> None:
    value, tolerance = SPLIT[row]
    assert 100 * baseline(runs, "split_mnist", row).mean("average_accuracy") == pytest.approx(value, abs=tolerance)


def test_a_trunk_that_is_trained_on_forgets_more_or_less_by_seed(runs) -> None:
    """The specification has 93.33 % from one seed; seeds 0 to 3 gave 97.7, 93.5, 98.1 and 98.5 %, so a range is what can be
    held: below the bound of a net per stage, and far above fine-tuning with one head."""
    done = baseline(runs, "split_mnist", "heads")
    assert all(0.92 <= value <= 0.99 for value in done.values("average_accuracy"))
    assert all(value > 0 for value in [*done.values("forgetting"), *done.values("logit_drift")])


@pytest.mark.parametrize("row", ["piggyback", "piggyback method.backbone=random"])
def test_piggyback(runs, row: str) -> None:
    """No number in the specification; what its masks reach lies where SupSup's do, 99.0 +- 0.5."""
    done = baseline(runs, "split_mnist", row)
    assert all(abs(value - 0.99) <= 0.005 for value in done.values("average_accuracy"))
    assert set(done.values("logit_drift")) == {0.0}


@pytest.mark.parametrize("row", FROZEN)
def test_what_is_frozen_forgets_nothing(runs, row: str) -> None:
    for data in ("permuted_mnist", "split_mnist"):
        done = baseline(runs, data, row)
        assert set(done.values("logit_drift")) == set(done.values("forgetting")) == {0.0}


def test_what_is_shared_forgets(runs) -> None:
    """PSP little and the oldest stage most; fine-tuning so much that a stream that shows less is broken."""
    for result in baseline(runs, "permuted_mnist", "psp"):
        accuracies = [row["accuracy at the end"] for row in result["table"]]
        assert accuracies[0] < accuracies[-1] and result["metrics"]["forgetting"] > 0.005
    for data in ("permuted_mnist", "split_mnist"):
        assert all(value < 0.9 for value in baseline(runs, data, "finetune").values("average_accuracy"))
