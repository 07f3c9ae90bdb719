"""Figures of conformal sets, recalibration and scores for unknown classes show the record's numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskbench.report import figures_held_out, style
from maskbench.report.finished import Finished

BINS = [
    {"bin": b, "confidence": (b + 0.5) / 3 if b else None, "accuracy": b / 3 if b else None, "count": 10 * b} for b in range(3)
]


def run(seed: int = 0) -> Finished:
    """A classifier of three classes with one set of unknown ones."""
    curves: list[dict[str, Any]] = [{"kind": "reliability"} | row for row in BINS]
    curves += [{"kind": "conformal", "level": level, "score": score, "sizes": [1, 8 + seed, 1 - seed, 0],
                "coverage_by_class": [0.9, None, 0.8]} for level in (90, 95) for score in ("lac", "aps", "raps")]  # fmt: skip
    curves += [{"kind": "recalibrated", "map": "vector"} | row for row in BINS]
    curves += [{"kind": "entropy", "data": data, "counts": [8, 1, 1], "top": 2.3} for data in ("toy", "other")]
    metrics = {f"auroc_{score}/other": 0.8 for score in figures_held_out.SCORES}
    metrics |= {"auroc_mi/other": None, "auroc_knn_low/other": 0.7, "auroc_knn_high/other": 0.9}
    return Finished(Path("run"), {"metrics": metrics, "seed": seed, "method": "dense"}, curves, {})


def drawn(*runs: Finished) -> dict[str, Any]:
    with style.styled():
        return figures_held_out.draw(runs, "title")


def test_sizes_of_sets_and_coverage_by_class() -> None:
    left, right = drawn(run(), run(1))["conformal"].axes
    heights = [round(bar.get_height(), 6) for bar in left.containers[0]]
    assert heights == [10.0, 85.0, 5.0], "means over seeds, sizes that no set has left out"
    (lac,) = [line for line in right.get_lines() if line.get_label() == "lac"]
    np.testing.assert_allclose(lac.get_ydata(), [90, np.nan, 80])


def test_before_and_after_stand_in_one_panel_with_wilsons_intervals() -> None:
    (panel,) = drawn(run())["recalibrated"].axes
    assert [line.get_label() for line in panel.get_lines()] == ["perfectly calibrated", "before", "vector"]
    n, share, z = 20, 2 / 3, 1.96
    low, high = panel.collections[0].get_segments()[-1][:, 1]
    for end in (low / 100, high / 100):  # where the share is z standard errors of the end away
        assert abs(share - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5, rel=1e-6)


def test_scores_that_are_null_are_left_out_of_the_aurocs() -> None:
    (panel,) = drawn(run())["unknown"].axes
    dots = {tuple(line.get_ydata()): tuple(line.get_xdata()) for line in panel.get_lines()}
    place = figures_held_out.SCORES.index("knn")
    assert dots[(place,)] == (80.0,) and dots[(place, place)] == pytest.approx((70.0, 90.0))
    assert (figures_held_out.SCORES.index("mi"),) not in dots


def test_runs_without_such_rows_have_no_such_figures() -> None:
    bare = Finished(Path("run"), {"metrics": {"accuracy": 1.0}, "seed": 0}, [], {})
    assert drawn(bare) == {}
