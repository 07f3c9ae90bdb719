"""Pictures of masks show what the masks on disk hold, counted here one by one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskbench import masks
from maskbench.cli import main as program
from maskbench.report import figures, figures_learnt

SIDE, HIDDEN = 8, 5
LAYERS = {"hidden.0.weight": (HIDDEN, SIDE * SIDE), "head.weight": (3, HIDDEN)}


def run(folder: Path, drawn: dict[str, torch.Tensor] | None, task: str = "continual", seed: int = 0, **result: Any) -> Path:
    """A finished run with these masks."""
    told = {
        "status": "finished",
        "objective": 0.9,
        "objective_name": "a",
        "metrics": {"a": 0.9},
        "notes": [],
        "table": [],
        "method": "m",
        "data": "toy",
        "task": task,
        "matrices": {},
        "seed": seed,
        "source": "synthetic",
        "key": "k1",
    } | result
    made = folder / "m-toy" / f"s{seed}-k1"
    made.mkdir(parents=True)
    (made / "result.json").write_text(json.dumps(told))
    (made / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "config": {"method": {"name": "m"}}}))
    if drawn is not None:
        masks.save(made / "masks.safetensors", drawn)
    return made


def some(stages: int, share: float = 0.3, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {f"{t}/{name}": torch.rand(shape, generator=draw) < share for t in range(stages) for name, shape in LAYERS.items()}


def drawn(*folders: Path) -> dict:
    return figures.draw([figures.read(folder) for folder in folders])


def images(figure: Any) -> list[np.ndarray]:
    return [np.asarray(panel.images[0].get_array()) for panel in figure.axes if panel.images]


def iou(kept: dict[str, torch.Tensor], a: int, b: int) -> float:
    both = sum((kept[f"{a}/{layer}"] & kept[f"{b}/{layer}"]).sum().item() for layer in LAYERS)
    return 100 * both / sum((kept[f"{a}/{layer}"] | kept[f"{b}/{layer}"]).sum().item() for layer in LAYERS)


def test_inputs_are_the_connections_of_each_pixel_over_their_mean(tmp_path: Path) -> None:
    kept = some(3)
    figure = drawn(run(tmp_path, kept, "prune"))["inputs"]
    shown = images(figure)
    assert len(shown) == 3
    for level, image in enumerate(shown):
        count = kept[f"{level}/hidden.0.weight"].sum(0).double()
        assert np.allclose(image, (count / count.mean()).reshape(SIDE, SIDE))
    density = 100 * kept["2/hidden.0.weight"].double().mean().item()
    assert figure.axes[2].get_title(loc="left") == f"level 2\nkeeps {density:.3g} %"


def test_of_many_levels_evenly_spread_ones_are_shown_and_none_that_keeps_all_or_nothing(tmp_path: Path) -> None:
    kept = some(20)
    kept["0/hidden.0.weight"][:], kept["19/hidden.0.weight"][:] = True, False
    titles = [panel.get_title(loc="left").split("\n")[0] for panel in drawn(run(tmp_path, kept, "prune"))["inputs"].axes[:-1]]
    assert titles == [f"level {i}" for i in (1, 4, 8, 11, 15, 18)]
    dense = {name: torch.ones_like(mask) for name, mask in some(2).items()}
    assert "inputs" not in drawn(run(tmp_path / "dense", dense, "prune"))


def test_seeds_are_averaged(tmp_path: Path) -> None:
    kept = [some(2, seed=seed) for seed in (0, 1)]
    made = drawn(*(run(tmp_path, own, seed=seed) for seed, own in enumerate(kept)))
    counts = [own["1/hidden.0.weight"].sum(0).double() for own in kept]
    mean = sum(count / count.mean() for count in counts) / 2
    assert np.allclose(images(made["inputs"])[1].ravel(), mean)
    assert images(made["overlap"])[0][0, 1] == pytest.approx(np.mean([iou(own, 0, 1) for own in kept]))


def test_overlap_is_the_intersection_over_the_union_of_each_pair(tmp_path: Path) -> None:
    kept = some(4)
    figure = drawn(run(tmp_path, kept))["overlap"]
    wanted = [[iou(kept, i, j) for j in range(4)] for i in range(4)]
    assert np.allclose(images(figure)[0], wanted) and np.allclose(np.diag(wanted), 100)


def test_what_independent_masks_share_is_what_such_masks_do(tmp_path: Path) -> None:
    """Layers of unlike density, large enough that draws come close to their expectation."""
    draw = torch.Generator().manual_seed(3)
    shares = {"a": 0.1, "b": 0.7}
    kept = {f"{t}/{name}": torch.rand(300, 400, generator=draw) < share for t in range(3) for name, share in shares.items()}
    found = figures_learnt.read(figures.read(run(tmp_path, kept)))
    overlap, chance = figures_learnt.same(found, ["0", "1", "2"], {name: (300, 400) for name in shares})
    apart = overlap[~np.eye(3, dtype=bool)]
    assert chance == pytest.approx(apart.mean(), rel=0.01) and 0.4 < chance < 0.5


def test_members_overlap_in_units_and_levels_of_pruning_not_at_all(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(5)
    gates = {f"{m}/gate{i}": torch.rand(n, generator=draw) < 0.5 for m in range(4) for i, n in enumerate((11, 7))}
    made = drawn(run(tmp_path / "a", gates, "uncertainty"))
    assert "inputs" not in made and made["overlap"].axes[0].get_xlabel() == "member"
    assert made["overlap"].axes[-1].get_ylabel() == "units of both, of those of either (%)"
    assert "overlap" not in drawn(run(tmp_path / "b", some(3), "prune"))


def test_no_pictures_without_masks_or_of_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert drawn(run(tmp_path / "a", None)) == {}
    folder = run(tmp_path / "b", some(2))
    (folder / "masks.safetensors").write_bytes(b"no masks")
    assert figures_learnt.draw([figures.read(folder)], "title") == {}
    assert "masks.safetensors is left out" in "".join(capsys.readouterr())


def test_the_command_writes_them_at_a_printed_width(tmp_path: Path) -> None:
    folder = run(tmp_path, some(6), table=[{"stage": f"t{t}"} for t in range(6)])
    words = ["figure", str(folder), "--style", "paper", "--width", "column", "--format", "pdf", "--no-title"]
    assert program.main([*words, "--output", str(tmp_path / "made")]) == 0
    assert {"inputs.pdf", "overlap.pdf"} <= {path.name for path in (tmp_path / "made").iterdir()}
