"""The figure of capacity counts the masks on disk as they are counted one by one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maskbench import masks
from maskbench.report import figures, figures_capacity

STAGES = 4


def run(folder: Path, method: str, drawn: dict[str, torch.Tensor] | None, seed: int = 0, stages: int = STAGES) -> Path:
    """A finished continual run with these masks."""
    told = {"status": "finished", "objective": 0.9, "metrics": {"average_accuracy": 0.9, "memory_bytes": 10}, "notes": [],
            "table": [{"stage": f"t{j}"} for j in range(stages)], "method": method, "data": "toy", "task": "continual",
            "matrices": {"accuracy": [[0.9 if j <= i else None for j in range(stages)] for i in range(stages)]},
            "seed": seed, "source": "synthetic", "key": method}  # fmt: skip
    made = folder / f"{method}-toy" / f"s{seed}-{method}"
    made.mkdir(parents=True)
    (made / "result.json").write_text(json.dumps(told))
    (made / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": {"method": {"name": method}}}))
    if drawn is not None:
        masks.save(made / "masks.safetensors", drawn)
    return made


def over_weights(seed: int = 0, stages: int = STAGES) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"hidden.0.weight": (6, 5), "conv.weight": (4, 3, 3, 3)}
    return {f"{t}/{name}": torch.rand(shape, generator=draw) < 0.1 for t in range(stages) for name, shape in shapes.items()}


def over_units(stages: int = STAGES) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    return {f"{t}/gates.{i}.gain": torch.rand(n, generator=draw) < 0.3 for t in range(stages) for i, n in enumerate((11, 7))}


def filling(folder: Path) -> figures_capacity.Filling | None:
    return figures_capacity.filling(figures.read(folder))


def test_shares_are_those_of_the_masks(tmp_path: Path) -> None:
    drawn = over_weights()
    found = filling(run(tmp_path, "wsn", drawn))
    assert 0 < found.shares["dead units"][0] < 100 and not np.array_equal(*found.shares["dead units"][[0, -1], None])
    layers = [name.removeprefix("0/") for name in drawn if name.startswith("0/")]
    flat = torch.stack([torch.cat([drawn[f"{t}/{layer}"].flatten() for layer in layers]) for t in range(STAGES)])
    for t in range(STAGES):
        before, so_far = flat[:t].any(0), flat[: t + 1].any(0)
        unions = [torch.stack([drawn[f"{j}/{layer}"] for j in range(t + 1)]).any(0) for layer in layers]
        dead = [~union.flatten(1).any(1) for union in unions]
        wanted = {
            "mask of the stage": flat[t].double().mean(),
            "of it, used before": (flat[t] & before).sum() / flat[t].sum(),
            "used so far": so_far.double().mean(),
            "dead units": torch.cat(dead).double().mean(),
        }
        assert found.over == "weights" and list(found.shares) == list(wanted)
        for name, value in wanted.items():
            assert found.shares[name][t] == pytest.approx(100 * float(value)), (name, t)


def test_of_masks_over_units_dead_ones_are_those_that_are_not_used(tmp_path: Path) -> None:
    found = filling(run(tmp_path, "hat", drawn := over_units()))
    union = torch.stack([torch.cat([drawn[f"{t}/gates.{i}.gain"] for i in range(2)]) for t in range(STAGES)]).any(0)
    assert found.over == "units" and "dead units" not in found.shares
    assert found.shares["used so far"][-1] == pytest.approx(100 * float(union.double().mean()))


def test_signs_of_masks_of_three_values_are_no_masks(tmp_path: Path) -> None:
    drawn = over_weights()
    signs = {f"{name}.negative": torch.zeros_like(mask) for name, mask in drawn.items()}
    plain, signed = filling(run(tmp_path, "plain", drawn)), filling(run(tmp_path, "signed", drawn | signs))
    assert all(np.array_equal(plain.shares[name], values) for name, values in signed.shares.items())


@pytest.mark.parametrize(
    "drawn, stages",
    [
        (None, STAGES),
        (over_weights(stages=3), STAGES),  # one stage has no mask
        (over_weights(stages=5), STAGES),  # or there are more masks than stages
        (over_weights(stages=1), 1),
    ],
)
def test_there_is_none_without_a_mask_a_stage(drawn: dict | None, stages: int, tmp_path: Path) -> None:
    assert "capacity" not in figures.draw([figures.read(run(tmp_path, "other", drawn, stages=stages))])


def test_a_file_that_is_none_of_ours_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = run(tmp_path, "wsn", None)
    (folder / "masks.safetensors").write_bytes(b"no masks")
    assert filling(folder) is None
    assert "is left out" in capsys.readouterr().err


def test_lines_are_means_over_seeds_and_bands_their_range(tmp_path: Path) -> None:
    folders = [run(tmp_path, "wsn", over_weights(seed), seed) for seed in range(3)]
    (panel,) = figures.draw([figures.read(folder) for folder in folders])["capacity"].axes
    (drawn,) = [one for one in panel.get_lines() if one.get_label() == "used so far"]
    wanted = np.mean([filling(folder).shares["used so far"] for folder in folders], 0)
    assert drawn.get_ydata().tolist() == wanted.tolist() and drawn.get_xdata().tolist() == [1, 2, 3, 4]
    assert len(panel.collections) == 4 and panel.get_ylabel() == "share of weights (%)"


def test_experiments_stand_side_by_side_where_they_have_masks(tmp_path: Path) -> None:
    made = {"wsn": over_weights(), "hat": over_units(), "finetune": None}
    groups = [[figures.read(run(tmp_path, method, drawn))] for method, drawn in made.items()]
    (panel,) = figures.compare(groups)["methods_capacity"].axes
    assert [one.get_label() for one in panel.get_lines()] == ["wsn", "hat"]
    assert "methods_capacity" not in figures.compare(groups[1:])
