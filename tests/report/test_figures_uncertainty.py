"""Figures of uncertainty runs show the record's numbers, of one experiment and of several."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskbench.report import figures, figures_uncertainty, style

pytestmark = pytest.mark.full  # whole runs: make test-full

Row = dict[str, Any]


def classes(seed: int) -> list[Row]:
    """Curves of a classifier of four members with one set of unknown classes and two types of shift."""
    told = [{"kind": "members", "members": m, "accuracy": 0.9 + 0.01 * m + 0.001 * seed, "nll": 1 / m, "ece": 0.01,
             "auroc_entropy/other": 0.8 + 0.01 * m} for m in range(1, 5)]  # fmt: skip
    told += [{"kind": "reliability", "bin": b, "confidence": (b + 0.5) / 5 if b else None, "accuracy": b / 5 if b else None,
              "count": 10 * b} for b in range(5)]  # fmt: skip
    for data, loss in (("toy", 0.0), ("toy + other", 0.4)):
        told += [{"kind": "confidence", "data": data, "threshold": t, "accuracy": 0.9 - loss + t / 10, "kept": 1 - t}
                 for t in (0.0, 0.5, 0.9)]  # fmt: skip
    told += [{"kind": "entropy", "data": data, "counts": [8, 1, 1], "top": 2.3} for data in ("toy", "other")]
    told += [{"kind": "shifted", "type": kind, "level": level, "accuracy": 0.9 - 0.1 * level, "nll": 0.1 * level, "ece": 0.01}
             for kind in ("noise", "blur") for level in (1, 2, 3)]  # fmt: skip
    return told


def reals(seed: int) -> list[Row]:
    told = [{"kind": "members", "members": m, "rmse": 3 - 0.1 * m, "log_likelihood": -2.5, "nll": None} for m in (1, 2, 50)]
    told += [{"kind": "quantile", "level": q, "below": q + 0.01} for q in (0.1, 0.5, 0.9)]
    told += [{"kind": "fold", "fold": f, "rmse": 2.0 + f + seed, "log_likelihood": -2.0 - f, "nll": 2.0} for f in range(3)]
    told += [{"kind": "line", "x": x, "mean": x**3, "sd": 1.0 + abs(x)} for x in (-1.0, 0.0, 1.0)]
    return told + [{"kind": "point", "data": data, "x": 0.5, "y": 1.0} for data in ("train", "test")]


def finished(folder: Path, curves: list[Row], seed: int = 0, key: str = "k1", config: Row | None = None, **metrics: float) -> Any:
    result = {"metrics": metrics, "table": [], "matrices": {}, "notes": [], "seed": seed, "source": "synthetic", "key": key,
              "method": "masksembles", "data": "toy", "status": "finished"}  # fmt: skip
    run = folder / f"s{seed}-{key}"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": config or {}}))
    (run / "result.json").write_text(json.dumps(result))
    (run / "curves.json").write_text(json.dumps(curves))
    return figures.read(run)


def drawn(*runs: Any) -> dict[str, Any]:
    with style.styled():
        return figures_uncertainty.draw(runs, "title")


def line(figure: Any, label: str, panel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [one for one in figure.axes[panel].get_lines() if one.get_label() == label]
    return found.get_xdata(), found.get_ydata()


def test_a_classifier_has_its_figures_and_they_show_its_numbers(tmp_path: Path) -> None:
    made = drawn(*[finished(tmp_path, classes(seed), seed) for seed in range(3)])
    assert set(made) == {"reliability", "confidence", "members", "entropy", "shifted"}
    x, y = line(made["members"], "masksembles")
    assert np.array_equal(x, [1, 2, 3, 4]) and np.allclose(y, [91.1, 92.1, 93.1, 94.1]), "the mean of the seeds"
    assert [panel.get_ylabel() for panel in made["members"].axes][-1] == "AUROC, other (%)"
    x, y = line(made["reliability"], "mean prediction")
    assert np.allclose(x[1:], [30, 50, 70, 90]) and np.allclose(y[1:], [20, 40, 60, 80]) and np.isnan(x[0])
    assert [bar.get_height() for bar in made["reliability"].axes[1].patches] == [0, 10, 20, 30, 40]
    assert np.allclose(line(made["confidence"], "toy + other")[1], [50, 55, 59])
    assert np.allclose(line(made["confidence"], "toy", 1)[1], [100, 50, 10])
    assert np.allclose(line(made["entropy"], "other")[1], [80, 10, 10])
    assert np.allclose(line(made["shifted"], "mean of 2 types")[1], [80, 70, 60])


def test_a_regression_has_its_figures_and_they_show_its_numbers(tmp_path: Path) -> None:
    made = drawn(*[finished(tmp_path, reals(seed), seed) for seed in range(2)])
    assert set(made) == {"members", "quantiles", "folds", "curve"}
    assert np.allclose(line(made["folds"], "division, mean of seeds")[1], [2.5, 3.5, 4.5])
    assert np.allclose(line(made["quantiles"], "all divisions together")[1], [0.11, 0.51, 0.91])
    assert made["members"].axes[0].get_xscale() == "log"
    assert np.allclose(line(made["curve"], "mean")[1], [-1, 0, 1])
    assert [one.get_label() for one in made["curve"].axes[0].collections] == ["3 deviations", "1 deviation"]


def test_other_records_have_none(tmp_path: Path) -> None:
    assert drawn(finished(tmp_path, [{"branch": "ticket", "level": 0}])) == {}
    assert drawn(finished(tmp_path / "b", [])) == {}


def compared(*groups: Any) -> dict[str, Any]:
    with style.styled():
        return figures_uncertainty.compare(groups, "title")


def test_one_setting_that_differs_is_a_transition(tmp_path: Path) -> None:
    groups = [
        [finished(tmp_path / str(scale), classes(seed), seed, f"k{scale}", {"method": {"scale": scale, "name": "m"}},
                  accuracy=0.9 - 0.01 * scale, mask_iou=1 / (2 * scale - 1)) for seed in range(2)]
        for scale in (4.0, 1.0, 2.0)
    ]  # fmt: skip
    (figure,) = compared(*groups).values()
    shown = {panel.get_ylabel(): panel.get_lines()[0] for panel in figure.axes if panel.get_visible()}
    assert set(shown) == {"accuracy (%)", "mean IoU of masks"}
    assert np.array_equal(shown["accuracy (%)"].get_xdata(), [1, 2, 4]), "in order"
    assert np.allclose(shown["accuracy (%)"].get_ydata(), [89, 88, 86])
    assert np.allclose(shown["mean IoU of masks"].get_ydata(), [1, 1 / 3, 1 / 7])


def test_many_panels_stand_in_rows(tmp_path: Path) -> None:
    rows = [row | {f"auroc_entropy/{n}": 0.5 for n in "abc"} if row["kind"] == "members" else row for row in classes(0)]
    panels = drawn(finished(tmp_path, rows))["members"].axes
    assert len(panels) == 7 and max(panel.get_subplotspec().colspan.start for panel in panels) == 2


def test_methods_are_compared_by_members_and_confidence(tmp_path: Path) -> None:
    groups = [[finished(tmp_path / name, classes(0), 0, name, {"method": {"name": name, "a": name}})] for name in ("x", "y")]
    made = compared(*groups)
    assert set(made) == {"methods_members", "methods_confidence"}
    assert [panel.get_title(loc="left") for panel in made["methods_confidence"].axes] == ["toy", "toy + other"]
    assert compared(groups[0], [finished(tmp_path / "z", [])]) == {}


@pytest.mark.parametrize("curves", [classes, reals])
def test_files_are_written_and_the_same_every_time(tmp_path: Path, curves: Any) -> None:
    run = finished(tmp_path, curves(0))
    first = {path.name: path.read_bytes() for path in figures.save([run], tmp_path / "a")}
    second = {path.name: path.read_bytes() for path in figures.save([run], tmp_path / "b")}
    assert first == second and first
