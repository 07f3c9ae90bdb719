"""Learning curves as a line of bars."""

from pathlib import Path

from maskbench.report import spark

ROWS = [("0/1", "train", 1, "loss", 2.0), ("0/1", "train", 2, "loss", 1.0), ("0/1", "train", 2, "val_accuracy", 0.5)]
ROWS += [("2/3", "train", step, "loss", 8.0 - step) for step in range(1, 9)]


def history(folder: Path, end: str = "") -> None:
    lines = ["stage,phase,step,metric,value", *(",".join(map(str, row)) for row in ROWS)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n" + end)


def test_bars_go_from_the_least_to_the_most_and_are_means_of_their_share() -> None:
    assert spark.spark(range(8)) == "▁▂▃▄▅▆▇█"
    assert spark.spark([0, 2, 9, 11, 4, 6], width=3) == "▁█▄"
    assert spark.spark([3.0, 3.0]) == "▁▁" and spark.spark([]) == ""
    assert spark.spark([0.0, float("nan"), 1.0, float("inf")]) == "▁ █ "


def test_curves_are_read_by_stage_phase_and_metric_up_to_a_row_that_is_being_written(tmp_path: Path) -> None:
    assert spark.series(tmp_path) == {}
    history(tmp_path, end="2/3,train,9,lo")
    found = spark.series(tmp_path)
    assert list(found) == [("0/1", "train", "loss"), ("0/1", "train", "val_accuracy"), ("2/3", "train", "loss")]
    assert found["0/1", "train", "loss"] == [(1, 2.0), (2, 1.0)] and len(found["2/3", "train", "loss"]) == 8


def test_the_latest_loss_is_that_of_the_part_under_way(tmp_path: Path) -> None:
    assert spark.latest(tmp_path) is None
    history(tmp_path)
    assert spark.latest(tmp_path) == (0.0, "█▇▆▅▄▃▂▁")
