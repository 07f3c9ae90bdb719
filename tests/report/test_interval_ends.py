"""Intervals stand beside what they are of, on the terminal; the page does not take their ends for results."""

import pytest

from maskbench.report.interval_ends import ends, is_end
from maskbench.runs.console import beside_intervals

METRICS = {"ece": 0.02, "ece_low": 0.01, "ece_high": 0.03, "auroc_mi/noise": 0.9, "auroc_mi_low/noise": 0.8,
           "auroc_mi_high/noise": 0.95, "mi": None, "mi_low": None, "mi_high": None, "gap_ci95_low": 1.0}  # fmt: skip


def test_ends_are_told_by_the_metric_they_belong_to() -> None:
    assert ends("auroc_mi/noise") == ("auroc_mi_low/noise", "auroc_mi_high/noise")
    assert [name for name in METRICS if not is_end(name, METRICS)] == ["ece", "auroc_mi/noise", "mi", "gap_ci95_low"]


def test_the_terminal_shows_them_in_one_row() -> None:
    rows = beside_intervals(METRICS | {"accuracy/a/b": 1.0})
    assert [row["metric"] for row in rows] == ["ece", "auroc_mi/noise", "mi", "gap_ci95_low"]
    assert [row["95 % interval"] for row in rows] == ["0.0100 to 0.0300", "0.8000 to 0.9500", "", ""]
    assert beside_intervals({"accuracy": 0.5}) == [{"metric": "accuracy", "value": 0.5}]


@pytest.mark.parametrize("name", ["low", "ece_lower", "ece_low"])
def test_a_metric_by_such_a_name_alone_is_no_end(name: str) -> None:
    assert not is_end(name, {name: 1.0})
