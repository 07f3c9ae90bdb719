"""What is said of metrics by their names: whether less is better, whether they are shares."""

import pytest

from maskbench.report.direction import lower, share


@pytest.mark.parametrize(
    "metric", ["accuracy", "accuracy/ticket/0.2", "auroc_mi/noise", "ece", "conformal_coverage_90/lac", "fpr95"]
)
def test_shares(metric: str) -> None:
    assert share(metric)


@pytest.mark.parametrize(
    "metric",
    ["accuracy/5_ci95", "difference/accuracy/0.1", "accuracy_gap", "transfer_gain", "nll", "conformal_size_90/lac", "rmse"],
)
def test_no_shares(metric: str) -> None:
    assert not share(metric)


def test_less_is_better() -> None:
    assert lower("ece") and lower("nll/shifted") and not lower("accuracy") and not lower("negative_nll")
