"""The figure of masks that move while a net trains: what metrics.csv says of each layer, from before the first step on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from maskbench.report import figures, figures_moving

REPLACED = {"replaced": [0.0, 0.2, 0.4], "replaced/hidden.0": [0.0, 0.3, 0.6], "replaced/head": [0.0, 0.1, 0.1]}


@pytest.fixture
def run(tmp_path: Path) -> Callable:
    """`run(values, seed)`: a finished run whose first phase has these numbers at steps 10, 20, 30, and a second with others."""

    def make(values: Mapping[str, list[float]], seed: int = 0, steps: tuple = (10, 20, 30)) -> figures.Finished:
        folder = tmp_path / f"rigl-toy/s{seed}-k"
        folder.mkdir(parents=True)
        told = {"status": "finished", "objective": 0.9, "metrics": {"accuracy": 0.9}, "method": "rigl", "data": "toy",
                "task": "prune", "seed": seed, "source": "synthetic", "key": "k", "notes": []}  # fmt: skip
        (folder / "result.json").write_text(json.dumps(told))
        (folder / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": {"method": {"name": "rigl"}}}))
        rows = [f"level 0,train,{step},{name},{own[i]}" for i, step in enumerate(steps) for name, own in values.items()]
        rows += [f"level 1,train,{step},{name},0.99" for step in steps for name in values]
        (folder / "metrics.csv").write_text("\n".join(["stage,phase,step,metric,value", *rows]) + "\n")
        return figures.read(folder)

    return make


def lines(drawn: dict) -> dict[str, list[tuple[float, float]]]:
    (panel,) = drawn["moving"].axes
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in panel.get_lines()}


def test_lines_begin_before_the_first_step_and_are_those_of_the_first_phase(run: Callable) -> None:
    drawn = figures_moving.draw([run(REPLACED)], "title")
    assert lines(drawn) == {
        "hidden.0": [(0, 0), (10, 0), (20, 30), (30, 60)],
        "head": [(0, 0), (10, 0), (20, 10), (30, 10)],
        "whole net": [(0, 0), (10, 0), (20, 20), (30, 40)],
    }
    assert drawn["moving"].axes[0].get_ylabel() == "gone of the first mask (%)"


def test_seeds_are_a_mean_at_the_steps_all_have(run: Callable) -> None:
    other = {name: [value + 0.1 for value in values] for name, values in REPLACED.items()}
    drawn = figures_moving.draw([run(REPLACED), run(other, 1, (10, 20, 31))], "title")
    assert np.allclose(lines(drawn)["hidden.0"], [(0, 0), (10, 5), (20, 35)])


def test_a_mask_that_shrinks_begins_whole(run: Callable) -> None:
    density = {"density": [0.8, 0.4, 0.1], "density/hidden.0": [0.7, 0.3, 0.05], "density/head": [0.9, 0.8, 0.5]}
    drawn = figures_moving.draw([run({"loss": [3.0, 2.0, 1.0]} | density)], "title")
    assert np.allclose(lines(drawn)["head"], [(0, 100), (10, 90), (20, 80), (30, 50)])


def test_many_layers_are_colours_from_the_input_down(run: Callable) -> None:
    names = [f"blocks.{i}" for i in range(12)]
    values = {"replaced": [0.1] * 3} | {f"replaced/{name}": [0.01 * i, 0.02 * i, 0.03 * i] for i, name in enumerate(names)}
    panel = figures_moving.draw([run(values)], "title")["moving"].axes[0]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == names
    assert np.allclose(np.asarray(panel.images[0].get_array())[:, -1], [3 * i for i in range(12)])


@pytest.mark.parametrize(
    "values",
    [
        {"loss": [3.0, 2.0, 1.0]},
        {"density": [0.2] * 3, "density/head": [0.2] * 3},  # it stands still
        {"density/head": [0.9, 0.5, 0.2]},  # nothing of the whole net
    ],
)
def test_where_nothing_moves_there_is_no_figure(run: Callable, values: dict) -> None:
    assert figures_moving.draw([run(values)], "title") == {}


def test_runs_of_other_layers_make_no_figure(run: Callable) -> None:
    other = {name.replace("hidden", "conv"): values for name, values in REPLACED.items()}
    assert figures_moving.draw([run(REPLACED), run(other, 1)], "title") == {}
