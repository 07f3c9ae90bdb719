"""The figure of which weights each task took counts, layer by layer, what the masks on disk hold."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maskbench import masks
from maskbench.report import figures, figures_capacity, figures_taken

LAYERS = {"blocks.2.weight": (6, 5), "blocks.10.weight": (4, 3, 3, 3)}


def run(folder: Path, drawn: dict[str, torch.Tensor], stages: int, seed: int = 0, **metrics: float):
    """A finished continual run with these masks, of so many stages that have a test set."""
    told = {"status": "finished", "objective": 0.9, "metrics": {"average_accuracy": 0.9, "memory_bytes": 10} | metrics,
            "table": [{"stage": f"t{j}"} for j in range(stages)], "method": "packnet", "data": "toy", "task": "continual",
            "matrices": {"accuracy": [[0.9 if j <= i else None for j in range(stages)] for i in range(stages)]},
            "seed": seed, "source": "synthetic", "key": "k", "notes": []}  # fmt: skip
    made = folder / "packnet-toy" / f"s{seed}-k"
    made.mkdir(parents=True)
    (made / "result.json").write_text(json.dumps(told))
    (made / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": {"method": {"name": "packnet"}}}))
    masks.save(made / "masks.safetensors", drawn)
    return figures.read(made)


def nested(stages: range, seed: int = 0) -> dict[str, torch.Tensor]:
    """Masks of which each holds those before it, as PackNet's do."""
    draw, made = torch.Generator().manual_seed(seed), {}
    for name, shape in LAYERS.items():
        so_far = torch.zeros(shape, dtype=torch.bool)
        for t in stages:
            so_far = so_far | (torch.rand(shape, generator=draw) < 0.3)
            made[f"{t}/{name}"] = so_far
    return made


def test_shares_are_those_of_the_masks(tmp_path: Path) -> None:
    drawn = nested(range(3))
    found = figures_capacity.read(run(tmp_path, drawn, 3))
    shares = figures_taken.shares(found, list(LAYERS))
    for i, layer in enumerate(LAYERS):
        kept = [drawn[f"{t}/{layer}"].double().mean().item() for t in range(3)]
        assert shares[0, i] == pytest.approx([100 * share for share in kept])
        assert shares[1, i] == pytest.approx([100 * share for share in np.diff([0, *kept])])


@pytest.mark.parametrize(("stages", "names"), [(range(3), ["given net", "t0", "t1"]), (range(1, 3), ["t0", "t1"])])
def test_the_stage_of_a_given_net_has_a_column_where_it_has_a_mask(stages: range, names: list, tmp_path: Path) -> None:
    made = run(tmp_path, nested(stages), 2, **{"given_net/same": 1.0})
    drawn = figures.draw([made])
    left, right, *_ = drawn["taken"].axes
    assert [tick.get_text() for tick in left.get_xticklabels()] == names == [t.get_text() for t in right.get_xticklabels()]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["blocks.2.weight", "blocks.10.weight"]
    assert "capacity" in drawn


def test_cells_are_means_over_seeds(tmp_path: Path) -> None:
    runs = [run(tmp_path, nested(range(2), seed), 2, seed) for seed in range(3)]
    wanted = np.mean([figures_taken.shares(figures_capacity.read(one), list(LAYERS)) for one in runs], 0)
    for panel, values in zip(figures.draw(runs)["taken"].axes[:2], wanted, strict=True):
        assert np.allclose(panel.get_images()[0].get_array(), values)


def test_there_is_none_without_a_mask_a_stage(tmp_path: Path) -> None:
    assert "taken" not in figures.draw([run(tmp_path, nested(range(1, 3)), 3)])


def test_there_is_one_panel_where_the_first_stage_has_all_there_is(tmp_path: Path) -> None:
    whole = {f"0/{name}": torch.ones(shape, dtype=torch.bool) for name, shape in LAYERS.items()}
    figure = figures.draw([run(tmp_path, nested(range(1, 3)) | whole, 2, **{"given_net/same": 1.0})])["taken"]
    assert [panel.get_title(loc="left") for panel in figure.axes if panel.get_images()] == ["Computes with"]
