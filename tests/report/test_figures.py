"""Figures show the record's numbers, come out the same every time, and join only runs that differ in the seed."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from maskbench.cli import main as program
from maskbench.report import figures, figures_continual, figures_prune, style, wandb_file
from maskbench.runs.loggers import no_logger

CONTROLS = {"reinit": 1.0, "random": 1.5, "one_shot": 0.5}  # name -> points below the ticket
STEPS = (100, 200, 300)


# ---- records


def write(folder: Path, seed: int, result: dict, curves: list | None = None, config: dict | None = None) -> Path:
    """A finished run as a run leaves it, key k1 and source synthetic unless `result` says otherwise."""
    about = {"status": "finished", "objective": 0.5, "metrics": {}, "table": [], "matrices": {}, "notes": [], "seed": seed}
    about |= {"source": "synthetic", "key": "k1", "data": "toy"} | result
    run = folder / f"s{seed}-{about['key']}"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": config or {}}))
    (run / "result.json").write_text(json.dumps(about))
    if curves is not None:
        (run / "curves.json").write_text(json.dumps(curves))
    return run


def row(level: int, branch: str, accuracy: float, layers: Sequence[str] = ("hidden.0", "head"), **more: Any) -> dict:
    keep = 0.8**level
    facts = {"density": keep} | {f"density/{name}": keep for name in layers}
    return {"level": level, "branch": branch, "accuracy": accuracy, "extra_metrics": facts} | more


def trained(level: int, branch: str, accuracy: float, seed: int, fast: int | None = 100, **more: Any) -> dict:
    looks = [{"step": step, "val_loss": 1 / step, "val_accuracy": accuracy - 10 / step} for step in STEPS]
    told = {"early_stop_step": 300 - seed, "early_stop_accuracy": None, "fast_step": fast, "curve": looks}
    return row(level, branch, accuracy, **(told | more))


def curves(seed: int, levels: int = 6, controls: Sequence[int] = (3, 6), **more: Any) -> list[dict]:
    """A pruning run: the ticket at every level, three controls at some, two supermasks."""
    rows = [trained(0, "ticket", 0.97 + 0.001 * seed, seed, **more)]
    for level in range(1, levels + 1):
        accuracy = 0.97 + 0.002 * level + 0.001 * seed
        rows.append(trained(level, "ticket", accuracy, seed, **more))
        if level in controls:
            rows += [trained(level, name, accuracy - lost / 100, seed, None) for name, lost in CONTROLS.items()]
        rows += [row(level, f"supermask/{name}", 0.1 * level + 0.01 * seed, val_accuracy=0.1) for name in ("a", "a_constant")]
    return rows


def pruning(folder: Path, seed: int = 0, made: list | None = None, **result: Any) -> Path:
    config = {"task": {"name": "prune", "fast": 0.95}, "optimizer": {"lr": 0.1}, "paths": {"output": str(folder)}}
    result = {"method": "lottery", "task": "prune"} | result
    return write(folder, seed, result, curves(seed) if made is None else made, config)


def continual(folder: Path, stages: int, seed: int = 0, inferred: bool = True, rows: str = "seen", **result: Any) -> Path:
    """R[i, j] falls by a point with every stage learnt after j, or `rows="final"`: only the diagonal and the last row."""
    matrix = [
        [0.9 - 0.01 * (i - j) / stages + 0.001 * seed if j == i or j < i and rows == "seen" else None for j in range(stages)]
        for i in range(stages)
    ]
    matrix[-1] = [0.9 + 0.001 * seed] * stages
    table = [{"stage": f"t{j}", "accuracy when learnt": 0.9, "accuracy at the end": 0.9} for j in range(stages)]
    if inferred:
        table = [line | {"accuracy, stage inferred": 0.5 + 0.1 * seed} for line in table]
    made = {"method": "supsup", "task": "continual", "matrices": {"accuracy": matrix}, "table": table}
    return write(folder, seed, made | result)


def drawn(*runs: Path) -> dict[str, Any]:
    return figures.draw([figures.read(run) for run in runs])


def line(figure: Any, label: str, panel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the line of this name."""
    (found,) = [one for one in figure.axes[panel].get_lines() if one.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def bands(figure: Any, panel: int = 0) -> list[tuple[float, float]]:
    """Least and largest y of each band."""
    found = [one for one in figure.axes[panel].collections if one.get_paths()]
    return [(one.get_paths()[0].vertices[:, 1].min(), one.get_paths()[0].vertices[:, 1].max()) for one in found]


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def call(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str, str]:
    status = program.main(["figure", *map(str, words)])
    told = capsys.readouterr()
    return status, told.out, told.err


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".svg")}


# ---- numbers


def test_accuracy_is_the_records_in_percent_against_what_remains(tmp_path: Path) -> None:
    figure = drawn(pruning(tmp_path))["accuracy"]
    x, y = line(figure, "ticket")
    assert np.allclose(x, [100 * 0.8**n for n in range(7)]) and np.allclose(y, [97 + 0.2 * n for n in range(7)])
    x, y = line(figure, "one shot")
    assert np.allclose(x, [51.2, 26.2144]) and np.allclose(y, [97.1, 97.7])
    assert np.allclose(line(figure, "dense")[1], 97.0)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] > 100 > axes.get_xlim()[1]
    assert axes.get_xlabel() == "weights remaining (%)" and axes.get_ylabel() == "test accuracy (%)"
    told = texts(figure)
    assert "lottery on toy" in told and "seed 0, data source synthetic" in told and "k1" not in told and "of 3 seeds" not in told


def test_early_stop_accuracy_has_a_panel_where_it_was_recorded(tmp_path: Path) -> None:
    assert len(drawn(pruning(tmp_path / "a"))["accuracy"].axes) == 1
    figure = drawn(pruning(tmp_path / "b", made=curves(0, controls=(), early_stop_accuracy=0.5)))["accuracy"]
    assert np.allclose(line(figure, "ticket", 1)[1], 50)


def test_speed_leaves_a_gap_where_the_goal_was_not_reached(tmp_path: Path) -> None:
    made = curves(0)
    made[3]["fast_step"] = None  # of level 1, after its two supermasks
    assert (made[3]["level"], made[3]["branch"]) == (1, "supermask/a_constant")
    made[1]["fast_step"] = None
    figure = drawn(pruning(tmp_path, made=made))["speed"]
    assert np.array_equal(line(figure, "ticket", 0)[1], [300] * 7)
    assert np.array_equal(line(figure, "ticket", 1)[1], [100, np.nan, *[100] * 5], equal_nan=True)
    assert figure.axes[1].get_ylabel() == "steps to 95 % validation accuracy" and "not reached" in texts(figure)


def test_several_seeds_are_a_mean_and_the_band_between_least_and_largest(tmp_path: Path) -> None:
    runs = [pruning(tmp_path, seed, made=curves(seed, controls=())) for seed in range(3)]
    made = drawn(*runs)
    assert np.allclose(line(made["accuracy"], "ticket")[1], [97.1 + 0.2 * n for n in range(7)])
    assert np.allclose(bands(made["accuracy"]), [(97.0, 98.4)])
    assert np.allclose(line(made["speed"], "ticket")[1], 299) and np.allclose(bands(made["speed"])[0], (298, 300))
    assert np.allclose(bands(made["supermasks"]), [(10, 62), (10, 62)])
    for name in ("accuracy", "speed", "learning_curves", "supermasks"):
        told = texts(made[name])
        assert "min-max range of 3 seeds" in told and "3 seeds (0, 1, 2)" in told


def test_only_levels_that_all_seeds_reached_are_drawn(tmp_path: Path) -> None:
    runs = [pruning(tmp_path, seed, made=curves(seed, levels=6 - 2 * seed)) for seed in range(2)]
    assert len(line(drawn(*runs)["accuracy"], "ticket")[0]) == 5


def test_accuracy_against_multiplications_where_they_are_not_the_share_of_weights(tmp_path: Path) -> None:
    def with_macs(power: float) -> list[dict]:
        rows = curves(0)
        for one in rows:
            one["savings"] = {"macs_dense": 1000, "macs_sparse": 1000 * one["extra_metrics"]["density"] ** power}
        return rows

    made = drawn(pruning(tmp_path / "conv", made=with_macs(0.5)))
    assert np.allclose(line(made["multiplications"], "ticket")[0], [100 * 0.8 ** (n / 2) for n in range(7)])
    assert np.allclose(line(made["multiplications"], "ticket")[1], line(made["accuracy"], "ticket")[1])
    assert "multiplications" not in drawn(pruning(tmp_path / "mlp", made=with_macs(1.0)))
    assert "multiplications" not in drawn(pruning(tmp_path / "old"))


def test_learning_curves_of_levels_and_of_controls(tmp_path: Path) -> None:
    figure = drawn(pruning(tmp_path))["learning_curves"]
    x, y = line(figure, "100 %")
    assert np.array_equal(x, STEPS) and np.allclose(y, [100 * (0.97 - 10 / step) for step in STEPS])
    assert [one.get_label() for one in figure.axes[0].get_lines()] == ["100 %", "64 %", "51.2 %", "41 %", "26.2 %"]
    assert [one.get_label() for one in figure.axes[1].get_lines()] == ["ticket", "reinit", "random", "one shot"]
    assert np.allclose(line(figure, "random", 1)[1], [100 * (0.982 - 0.015 - 10 / step) for step in STEPS])
    assert figure.axes[0].get_ylabel() == "validation accuracy (%)"


def test_layers_are_lines_a_map_or_dots(tmp_path: Path) -> None:
    few, many = ["conv", "head"], [f"layer{i}.conv" for i in range(54)]
    made = [row(level, "ticket", 0.9, few) for level in range(4)]
    made[3]["extra_metrics"]["density/conv"] = 0.0
    figure = drawn(pruning(tmp_path / "few", made=made))["density"]
    x, y = line(figure, "head")
    assert np.allclose(x, y) and np.allclose(x, [100, 80, 64, 51.2])
    assert np.isnan(line(figure, "conv (empty at 51.2 %)")[1][3])
    figure = drawn(pruning(tmp_path / "many", made=[row(level, "ticket", 0.9, many) for level in range(4)]))["density"]
    shown = figure.axes[0].get_images()[0].get_array()
    assert shown.shape == (54, 4) and np.allclose(shown, [[100, 80, 64, 51.2]] * 54)
    made = drawn(pruning(tmp_path / "one", made=[row(3, "ticket", 0.9, few)]))
    assert list(made) == ["density"], "one level makes no line"
    assert np.allclose(made["density"].axes[0].get_lines()[0].get_xdata(), 51.2)


def test_many_controls_of_one_level_are_ranked_beside_the_lines(tmp_path: Path) -> None:
    made = curves(0, controls=())
    made += [trained(6, f"action_{i}", 0.9 + 0.001 * i, 0) for i in range(13)]
    figure = drawn(pruning(tmp_path, made=made))["accuracy"]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == [f"action {i}" for i in range(13)]
    dots = [one.get_xdata()[0] for one in figure.axes[1].get_lines() if one.get_marker() == "o"]
    assert np.allclose(dots, [90 + 0.1 * i for i in range(13)])
    assert {one.get_label() for one in figure.axes[0].get_lines()} == {"ticket", "dense"}


def test_a_net_of_which_nothing_is_left_ends_the_lines(tmp_path: Path) -> None:
    made = [trained(level, "ticket", 0.9, 0) for level in range(4)]
    made[3]["extra_metrics"] = dict.fromkeys(made[3]["extra_metrics"], 0.0)
    run = pruning(tmp_path, made=made)
    figure = drawn(run)["accuracy"]
    assert figure.axes[0].get_xlim()[1] > 0 and np.allclose(line(figure, "ticket")[0], [100, 80, 64, 0])
    assert figures.save([figures.read(run)], tmp_path / "out")


def test_many_supermasks_have_a_panel_for_each_criterion_best_first(tmp_path: Path) -> None:
    made = [row(0, "ticket", 0.97)]
    for i in range(5):
        for level in range(1, 4):
            made.append(row(level, f"supermask/c{i}", 0.1 * i + 0.1))
            made.append(row(level, f"supermask/c{i}_constant", 0.1 * i + 0.05))
    figure = drawn(pruning(tmp_path, made=made))["supermasks"]
    shown = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in shown] == ["c4", "c3", "c2", "c1", "c0"]
    assert np.allclose(line(figure, "initial values", 0)[1], 50) and np.allclose(line(figure, "signed constant", 4)[1], 5)


def test_the_accuracy_matrix_is_the_records(tmp_path: Path) -> None:
    run = continual(tmp_path, 5)
    made = drawn(run)
    r = 100 * np.array(json.loads((run / "result.json").read_text())["matrices"]["accuracy"], dtype=float)
    shown = made["matrix"].axes[0].get_images()[0].get_array()
    assert np.allclose(shown.filled(np.nan), r, equal_nan=True)
    assert [t.get_text() for t in made["matrix"].axes[0].texts] == [f"{v:.1f}" for v in r[np.isfinite(r)]]
    x, y = line(made["stages"], "average of stages seen")
    assert np.array_equal(x, [1, 2, 3, 4, 5]) and np.allclose(y, [r[i, : i + 1].mean() for i in range(5)])
    for j in range(5):
        x, y = line(made["stages"], f"_stage {j + 1}")
        assert np.array_equal(x, range(j + 1, 6)) and np.allclose(y, r[j:, j])
    heights = [bar.get_height() for bar in made["per_stage"].axes[0].patches]
    assert np.allclose(heights, [90] * 5 + [50] * 5)
    assert "stage inferred (mean 50.0 %)" in texts(made["per_stage"])


def test_inferred_stages_are_shares_of_the_true_ones(tmp_path: Path) -> None:
    run = continual(tmp_path, 2)
    assert "confusion" not in drawn(run)
    told = json.loads((run / "result.json").read_text())
    told["matrices"]["stages_inferred"] = [[3, 1], [0, 5]]
    (run / "result.json").write_text(json.dumps(told))
    figure = drawn(run)["confusion"]
    assert np.allclose(figure.axes[0].get_images()[0].get_array(), [[75, 25], [0, 100]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25", "0", "100"]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("inferred stage", "true stage")


def test_recalled_masks_are_lines_down_to_what_is_left(tmp_path: Path) -> None:
    runs = []
    for seed, end in ((0, 0), (1, 40)):
        curves = [[100, 50, 10, end], [100, 60, 0], [90, 20, 4, 0]]  # as long as each stage's test set
        runs.append(continual(tmp_path, 3, seed))
        told = json.loads((runs[-1] / "result.json").read_text())
        told["matrices"]["recall_distance_curve"] = curves
        (runs[-1] / "result.json").write_text(json.dumps(told))
    assert "recall" not in drawn(continual(tmp_path / "other", 3))
    figure = drawn(*runs)["recall"]
    assert line(figure, "t0")[1].tolist() == [100, 50, 10, 20] and line(figure, "t1")[1].tolist() == [100, 60, 0]
    assert "5 of 6 masks exact" in texts(figure)


def test_seeds_of_a_continual_run(tmp_path: Path) -> None:
    made = drawn(*[continual(tmp_path, 4, seed) for seed in range(3)])
    assert np.allclose(line(made["stages"], "average of stages seen")[1][-1], 90.1)
    assert np.allclose(bands(made["stages"])[0][1], 90.2)
    assert np.allclose([bar.get_height() for bar in made["per_stage"].axes[0].patches][4:], 60)
    assert "mean of 3 seeds" in texts(made["matrix"])


@pytest.mark.sample(2)
@pytest.mark.parametrize("rows", ["seen", "final"])
@pytest.mark.parametrize("stages", [1, 5, *(pytest.param(n, marks=pytest.mark.full) for n in (2, 10, 36, 250))])
def test_any_number_of_stages(tmp_path: Path, stages: int, rows: str) -> None:
    runs = [continual(tmp_path, stages, seed, inferred=rows == "seen" or stages == 250, rows=rows) for seed in range(2)]
    written = figures.save([figures.read(run) for run in runs], tmp_path / "out")
    expected = {"per_stage"} | ({"stages"} if stages > 1 else set())
    expected |= {"matrix"} if 1 < stages <= 12 or stages > 1 and rows == "seen" else set()  # else a map of two lines
    assert {path.stem for path in written} == expected
    assert all(path.stat().st_size < 2e6 for path in written)


def test_without_the_whole_matrix_means_over_the_first_stages(tmp_path: Path) -> None:
    figure = drawn(continual(tmp_path, 50, rows="final"))["stages"]
    assert np.allclose(line(figure, "tested at the end")[1], 90) and np.allclose(line(figure, "tested when learnt")[1], 90)
    assert np.allclose(line(figure, "tested at the end, inferred")[1], 50)


def test_seeds_with_other_class_orders_have_numbers_for_names(tmp_path: Path) -> None:
    runs = [continual(tmp_path, 2, seed) for seed in range(2)]
    assert figures_continual.names([figures.read(run) for run in runs]) == ["t0", "t1"]
    changed = json.loads((runs[1] / "result.json").read_text())
    changed["table"][0]["stage"] = "other"
    (runs[1] / "result.json").write_text(json.dumps(changed))
    assert figures_continual.names([figures.read(run) for run in runs]) == ["1", "2"]


# ---- files


def test_files_are_valid_and_text_is_text(tmp_path: Path) -> None:
    from PIL import Image

    for run in (pruning(tmp_path / "a"), continual(tmp_path / "b", 5)):
        named = figures.of_run(run, json.loads((run / "result.json").read_text()))
        assert named and all(path == run / f"{name}.png" for name, path in named.items())
        for path in named.values():
            with Image.open(path) as image:
                assert image.format == "PNG" and image.width >= 600
                assert np.asarray(image.convert("RGB"))[0, 0].tolist() == [255, 255, 255]
            root = ElementTree.parse(path.with_suffix(".svg")).getroot()
            words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
            assert root.tag.endswith("svg") and any("data source synthetic" in (word or "") for word in words)
        assert not list(run.glob(".*.png*"))


@pytest.mark.full
def test_the_bytes_are_the_same_every_time_and_whatever_the_users_style(tmp_path: Path) -> None:
    import matplotlib

    runs = {"a": pruning(tmp_path / "a"), "b": continual(tmp_path / "b", 60)}
    for name, run in runs.items():
        figures.save([figures.read(run)], tmp_path / name / "first")
        with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "lines.linewidth": 9}):
            figures.save([figures.read(run)], tmp_path / name / "second")
            assert matplotlib.rcParams["font.size"] == 20, "the user's own comes back"
        assert files(tmp_path / name / "first") == files(tmp_path / name / "second") != {}


def test_other_tasks_leave_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = write(tmp_path, 0, {"method": "dense", "task": "uncertainty"})
    assert drawn(run) == {} and figures.of_run(run, json.loads((run / "result.json").read_text())) == {}
    status, out, err = call(capsys, run)
    assert status == 0 and "nothing to draw" in out and err == ""


def test_drawing_needs_no_torch_no_pyplot_and_matplotlib_only_when_it_draws(tmp_path: Path) -> None:
    run = pruning(tmp_path)
    code = (
        "import sys; from pathlib import Path; from maskbench.cli.commands import figure; from maskbench.report import figures\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)\n"
        f"assert figure.main([{str(run)!r}]) == 0\n"
        "assert 'matplotlib' in sys.modules and not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
    assert len(files(run)) == 10


# ---- the command


@pytest.mark.full
def test_figures_of_one_run_go_into_it_and_of_seeds_beside_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = [pruning(tmp_path, seed) for seed in (2, 10)]
    status, out, _ = call(capsys, runs[0])
    assert status == 0 and str(runs[0] / "accuracy.svg") in out.splitlines()
    assert call(capsys, *runs)[0] == 0 and set(files(tmp_path / "figures-k1")) == set(files(runs[0]))
    assert call(capsys, tmp_path, "--output", tmp_path / "all")[0] == 0
    assert call(capsys, tmp_path / "s*-k1", tmp_path, "--output", tmp_path / "star")[0] == 0
    assert files(tmp_path / "all") == files(tmp_path / "figures-k1") == files(tmp_path / "star")
    assert "2 seeds (2, 10)" in (tmp_path / "all" / "accuracy.svg").read_text()


def test_refusals_say_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dense = [row for row in curves(0) if row["level"] == 0]  # there is no density to compare over
    runs = [pruning(tmp_path / "a", seed, dense) for seed in range(2)]
    other = pruning(tmp_path / "a", 2, dense, key="k2")
    about = json.loads((other / "run.json").read_text())
    about["config"] |= {"optimizer": {"lr": 0.5}, "paths": {"output": "elsewhere"}}
    (other / "run.json").write_text(json.dumps(about))
    status, _, err = call(capsys, runs[0], other)
    assert status == 2 and "a/s0-k1 and a/s2-k2 differ" in err and err.count("\n") == 1
    assert "optimizer.lr is 0.1 and 0.5." in err and "paths" not in err
    status, _, err = call(capsys, tmp_path / "a")
    assert status == 2 and "a/*-k1 (2)" in err and "a/*-k2 (1)" in err and err.count("\n") == 1

    sample = pruning(tmp_path / "b", 7, source="sample")
    status, _, err = call(capsys, *runs, sample)
    assert status == 2 and "synthetic and sample" in err and err.count("\n") == 1
    status, _, err = call(capsys, *runs, pruning(tmp_path / "c", 1))
    assert status == 2 and "seed 1 is there twice" in err

    (runs[0] / "result.json").unlink()
    (runs[0] / "run.json").write_text(json.dumps({"status": "failed"}))
    assert "is failed" in call(capsys, runs[0])[2]
    (tmp_path / "empty").mkdir()
    assert "holds no finished run" in call(capsys, tmp_path / "empty")[2]
    assert call(capsys, tmp_path / "nowhere")[0] == 2 and call(capsys)[0] == 2
    assert not list(tmp_path.rglob("*.png"))


# ---- families


def test_a_module_is_a_family_where_it_says_so_and_has_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that has a function of such a name is none."""
    helper = ModuleType("maskbench.report.figures_helper")
    helper.draw = lambda runs, title: {}
    monkeypatch.setitem(sys.modules, helper.__name__, helper)
    there = [SimpleNamespace(name=path.stem) for path in Path(figures.__file__).parent.glob("*.py")]
    monkeypatch.setattr(figures.pkgutil, "iter_modules", lambda _: [*there, SimpleNamespace(name="figures_helper")])
    found = {verb: figures.families(verb) for verb in ("draw", "compare")}
    assert helper not in found["draw"]
    helper.FAMILY = ("draw",)
    assert helper in figures.families("draw") and helper not in figures.families("compare")
    for verb, modules in found.items():
        assert modules and all(callable(getattr(module, verb)) for module in modules)


def test_no_module_of_figures_is_forgotten() -> None:
    names = {path.stem for path in Path(figures.__file__).parent.glob("figures_*.py")}
    said = {module.__name__.rpartition(".")[2] for verb in ("draw", "compare") for module in figures.families(verb)}
    assert said == names


# ---- in a run


def test_failing_to_draw_is_a_warning(tmp_path: Path, compose: Callable, monkeypatch, caplog) -> None:
    from maskbench.runs.assemble import Run

    def broken(*_: Any) -> dict:
        raise ValueError("no ink")

    monkeypatch.setattr(figures_prune, "draw", broken)
    run = pruning(tmp_path)
    caplog.set_level("WARNING", "maskbench")
    Run(compose("method=lottery"), run).draw(json.loads((run / "result.json").read_text()), no_logger())
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "ValueError: no ink" in caplog.text


@pytest.mark.full
def test_a_run_leaves_its_figures_and_logs_them(cli: Callable, tmp_path: Path) -> None:
    words = ["method=lottery", "data.base=synthetic", "budget.epochs=null", "budget.steps=20", "task.levels=2"]
    done = cli(*words, "budget.validate_every=10", "backbone.widths=[16]", "logger=wandb")
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/result.json"))
    names = {"accuracy", "speed", "learning_curves", "density"}
    assert names <= {path.stem for path in run.glob("*.svg")} and "no figures" not in done.stderr + done.stdout
    images = wandb_file.read(run).images
    assert {f"figure/{name}" for name in names} <= set(images) and all((run / path).is_file() for path in images.values())
    told = wandb_file.read(run).summary
    assert told["accuracy"] == json.loads((run / "result.json").read_text())["metrics"]["accuracy"]


def test_what_remains_is_read_under_the_name_of_before_too() -> None:
    levels = [[{name: {"density": share}} for share in (0.25, 0.75)] for name in ("extra_metrics", "facts")]
    assert [figures_prune.remaining(level) for level in levels] == [50.0, 50.0]


def test_a_title_is_never_wider_than_its_figure_nor_over_its_panel() -> None:
    with style.styled():
        told = "batch_ensemble_members on kuzushiji_mnist\n5 seeds (10, 11, 12, 13, 14), data source npm, torchvision, key MMMMMM"
        figure, (panel,) = style.canvas(told, width=style.COLUMN, height=2.5)
        figure.draw_without_rendering()
        title = figure._suptitle.get_window_extent()
    assert title.x1 <= figure.bbox.x1 and title.y0 >= panel.get_window_extent().y1
    assert figure.get_suptitle().replace("\n", " ") == told.replace("\n", " ")
