"""Masksembles against its authors' package: layers, the number of ones, and the overlap of the masks."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.gate import Gate
from maskbench.methods.uncertainty import masksembles, overlap
from maskbench.methods.uncertainty.masksembles import Masksembles

STATISTICS = json.loads(Path(__file__).with_name("masksembles.json").read_text())


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_layers_give_the_package_outputs(frozen, kind: str) -> None:
    """A batch in training, in consecutive parts: exactly the package's layer, on whose masks nothing is rescaled."""
    x, drawn = frozen[f"x_{kind}"], frozen[f"masks_{kind}"].bool()
    method = Masksembles(nn.Sequential(Gate(drawn.shape[1])), members=4)
    name = next(iter(method.gates))
    method.drawn.put(name, drawn)
    seen: list[Tensor] = []

    def criterion(outputs: Tensor, y: Tensor) -> Tensor:
        seen.append(outputs)
        return outputs.sum()

    method.loss((x, torch.zeros(len(x))), SimpleNamespace(criterion=criterion))
    assert torch.equal(seen[0], frozen[f"y_{kind}"])


def test_prediction_meets_every_mask(frozen) -> None:
    x, drawn = frozen["x_1d"], frozen["masks_1d"].bool()
    method = Masksembles(nn.Sequential(Gate(16)), members=4)
    method.drawn.put(next(iter(method.gates)), drawn)
    answers = method.predict(x, SimpleNamespace(link=lambda y: y))
    assert torch.equal(answers, torch.stack([x * mask for mask in drawn]))


@pytest.mark.parametrize("given", STATISTICS["ones"])
def test_number_of_ones(given: str) -> None:
    columns, members, scale = (float(part) if "." in part else int(part) for part in given.split())
    authors = STATISTICS["ones"][given]
    assert int(columns / overlap.spread(members, scale)) == authors
    assert abs(overlap.ones_of(columns, members, scale) - authors) <= 1, "rounded, where theirs is cut off"


@pytest.mark.parametrize("generator", ["repaired", "original"])
@pytest.mark.parametrize(("scale", "printed"), [(1.1, 0.830), (2.0, 0.332), (3.0, 0.200), (6.0, 0.089)])
def test_overlap_of_the_masks(generator: str, scale: float, printed: float) -> None:
    authors, spread, _ = STATISTICS["iou"][str(scale)]
    assert authors == pytest.approx(printed, abs=0.002)
    draw = masksembles.GENERATORS[generator]
    ours = [overlap.mean_iou(draw(500, 4, scale, np.random.default_rng(seed))) for seed in range(6)]
    assert np.mean(ours) == pytest.approx(authors, abs=max(0.006, 3 * spread))


def test_the_least_and_the_most_overlap() -> None:
    one, ten = overlap.repaired(40, 4, 1.0, np.random.default_rng(0)), overlap.repaired(40, 4, 1000.0, np.random.default_rng(0))
    assert one.all() and overlap.mean_iou(ten) < 0.02
