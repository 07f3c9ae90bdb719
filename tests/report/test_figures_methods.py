"""Figures that compare experiments show the records' numbers, name what differs, and join the same data only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskbench.cli import main as program
from maskbench.report import figures

pytestmark = pytest.mark.full  # whole runs: make test-full

RULE = "task_inference_accuracy/one_shot_H_1"


def run(folder: Path, method: str, seed: int = 0, *, accuracy: float = 0.9, size: int = 1000, key: str = "",
        config: dict | None = None, stages: int = 3, found: float | None = None, matrix: bool = True) -> Path:  # fmt: skip
    """A finished run of `method` that stores `size` bytes, every cell of R and the average `accuracy` + a point a seed.

    With `found` it infers stages, that often, and answers 55 % then. Its config differs from others in what `config` says.
    """
    accuracy, key = accuracy + 0.01 * seed, key or method
    metrics = {"average_accuracy": accuracy, "memory_bytes": size, "average_accuracy_inferred": found and 0.55}
    metrics |= {} if found is None else {RULE: found}
    r = [[accuracy if j <= i else None for j in range(stages)] for i in range(stages)]
    table = [{"stage": f"t{j}"} | ({"accuracy, stage inferred": 0.55} if found else {}) for j in range(stages)]
    told = {"status": "finished", "seed": seed, "source": "synthetic", "data": "toy", "task": "continual", "notes": []}
    told |= {"method": method, "key": key, "metrics": metrics, "table": table, "matrices": {"accuracy": r} if matrix else {}}
    config = {"method": {"name": method}, "data": {"name": "toy", "stages": stages}} | (config or {})
    made = folder / f"{method}-toy" / f"s{seed}-{key}"
    made.mkdir(parents=True)
    (made / "result.json").write_text(json.dumps(told))
    (made / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": config}))
    return made


def line(figure: Any, label: str, panel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the line of this name."""
    (found,) = [one for one in figure.axes[panel].get_lines() if one.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def call(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str, str]:
    status = program.main(["figure", *map(str, words)])
    told = capsys.readouterr()
    return status, told.out, told.err


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def compared(*groups: list[Path]) -> dict[str, Any]:
    return figures.compare([[figures.read(one) for one in group] for group in groups])


def dots(figure: Any) -> dict[str, tuple[float, float]]:
    """x and y of each labelled dot."""
    found = {}
    for one in figure.axes[0].containers:
        found[one.get_label()] = (float(one[0].get_xdata()[0]), float(one[0].get_ydata()[0]))
    return found


def test_accuracy_against_bytes_is_the_records(tmp_path: Path) -> None:
    groups = [
        [run(tmp_path, "psp", seed, accuracy=0.95, size=10_000) for seed in range(3)],
        [run(tmp_path, "supsup", seed, accuracy=0.93, size=200) for seed in range(3)],
    ]
    figure = compared(*groups)["methods_bytes"]
    assert dots(figure) == {"psp": (10_000, pytest.approx(96)), "supsup": (200, pytest.approx(94))}
    assert figure.axes[0].get_xscale() == "log" and "bytes" in figure.axes[0].get_xlabel()
    assert figure.get_suptitle() == "2 experiments on toy\n3 seeds each, data source synthetic"


def with_protocol(made: Path, suffix: str, accuracy: float, stored: list[int]) -> Path:
    """The record says another protocol's average too, its matrix, and the bytes after every stage."""
    result = json.loads((made / "result.json").read_text())
    result["metrics"][f"average_accuracy{suffix}"] = accuracy
    cells = [[accuracy if j <= i else None for j in range(len(stored))] for i in range(len(stored))]
    result["matrices"][f"accuracy{suffix}"] = cells
    for row, size in zip(result["table"], stored, strict=True):
        row["bytes stored"] = size
    (made / "result.json").write_text(json.dumps(result))
    return made


def test_every_protocol_that_somebody_answers_has_a_panel_and_a_way_from_the_first_stage_on(tmp_path: Path) -> None:
    replay = with_protocol(run(tmp_path, "replay", size=900), "_class_il", 0.7, [400, 600, 900])
    figure = compared([replay], [run(tmp_path, "psp", size=300)])["methods_bytes"]
    told, class_il = figure.axes
    assert "stage given" in told.get_ylabel() and "class-IL" in class_il.get_ylabel()
    assert {one.get_label() for one in told.containers} == {"psp", "replay"}
    assert [one.get_label() for one in class_il.containers] == ["replay"], "psp's record does not answer it"
    x, y = line(figure, "_grown", 1)
    assert x.tolist() == [400, 600, 900] and np.allclose(y, 70)
    assert np.allclose(line(figure, "_grown", 0)[1], 90), "of psp the bytes on the way are not known"


def test_labels_of_the_same_images_may_differ(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for method, labels in (("replay", "kept"), ("psp", "shifted")):
        run(tmp_path, method, config={"data": {"name": "toy", "stages": 3, "labels": labels}})
    assert call(capsys, tmp_path)[0] == 0


def test_experiments_of_one_method_are_named_by_what_differs_and_joined(tmp_path: Path) -> None:
    made = [
        [run(tmp_path, "supsup", key=f"k{c}", size=100 * c, accuracy=0.9 + c / 100, config={"method": {"density_scale": c}})]
        for c in (4, 1)
    ]
    figure = compared(*made, [run(tmp_path, "psp")])["methods_bytes"]
    assert set(dots(figure)) == {"supsup density_scale=4", "supsup density_scale=1", "psp"}
    ((x, y),) = joined(figure)
    assert x.tolist() == [100, 400] and np.allclose(y, [91, 94])


def joined(figure: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    lines = [one for one in figure.axes[0].get_lines() if one.get_label() == "_joined" and len(one.get_xdata()) > 1]
    return [(np.asarray(one.get_xdata()), np.asarray(one.get_ydata())) for one in lines]


def test_accuracy_against_stages_has_a_line_a_method_and_one_with_the_stage_inferred(tmp_path: Path) -> None:
    groups = [[run(tmp_path, "psp", seed) for seed in (0, 1)], [run(tmp_path, "supsup", seed, found=0.5) for seed in (0, 1)]]
    figure = compared(*groups)["methods_stages"]
    x, y = line(figure, "psp")
    assert x.tolist() == [1, 2, 3] and np.allclose(y, 90.5), "their mean"
    assert np.allclose(line(figure, "supsup, inferred at the end")[1], 55) and len(figure.axes[0].collections) == 3
    assert not [one for one in figure.axes[0].get_lines() if one.get_label() == "psp, inferred at the end"]


def test_one_numeric_setting_has_a_figure_of_its_own(tmp_path: Path) -> None:
    groups = []
    for s in (100, 25, 200):
        more = {"key": f"k{s}", "accuracy": 0.9 + s / 10_000, "config": {"backbone": {"outputs": s}}, "found": s / 200}
        groups.append([run(tmp_path, "supsup", seed, **more) for seed in (0, 1)])
    figure = compared(*groups)["setting"]
    x, y = line(figure, "stage given")
    assert x.tolist() == [25, 100, 200] and np.allclose(y, [90.75, 91.5, 92.5])
    assert np.allclose(line(figure, "one_shot_H_1", 1)[1], [12.5, 50, 100])
    assert figure.axes[0].get_xlabel() == "backbone.outputs"
    assert "setting" not in compared(*groups, [run(tmp_path, "psp")]), "a method is no setting"


def test_the_command_puts_them_beside_the_experiments(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for method in ("psp", "supsup"):
        for seed in (0, 1):
            run(tmp_path, method, seed)
    status, out, _ = call(capsys, tmp_path / "*-toy")
    folder = tmp_path / "figures-toy"
    assert status == 0 and str(folder / "methods_bytes.png") in out.splitlines()
    assert set(files(folder)) == {f"{name}.{kind}" for name in ("methods_bytes", "methods_stages") for kind in ("png", "svg")}
    before = files(folder)
    assert call(capsys, tmp_path)[0] == 0 and files(folder) == before, "a folder above them means the same"


def test_other_data_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path, "psp")
    run(tmp_path, "supsup", config={"data": {"name": "toy", "stages": 5}})
    status, _, err = call(capsys, tmp_path)
    assert status == 2 and "data.stages is 3 and 5" in err and err.count("\n") == 1
    others = run(tmp_path / "p", "a", matrix=False), run(tmp_path / "p", "b", matrix=False)
    status, _, err = call(capsys, *others)
    assert status == 2 and "method.name is a and b" in err, "no family compares these"


def test_runs_of_other_lengths_have_no_comparison(tmp_path: Path) -> None:
    assert compared([run(tmp_path, "psp")], [run(tmp_path, "supsup", stages=4)]) == {}
