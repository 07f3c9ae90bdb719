"""Points of the unit ball: uniform, apart between splits and seeds, and refused where they make no sense."""

from pathlib import Path

import pytest
import torch

from maskbench.data.tables import ball


def points(**changes) -> list:
    keys = {"dimension": 3, "outputs": 2, "rows": 4000, "domain": "ball", "seed": 0} | changes
    return ball.points(root=Path("none"), **keys)


def test_points_are_uniform_in_the_ball() -> None:
    (stage,) = points()
    x = stage.train.tensors()[0]
    radius = x.norm(dim=1)
    assert radius.max() <= 1 + 1e-6 and x.mean(0).abs().max() < 0.03
    assert (radius < 0.5).double().mean().item() == pytest.approx(0.5**3, abs=0.02)
    assert stage.regression and stage.outputs == 2 and stage.shape == (3,)
    assert not torch.equal(x, stage.test.tensors()[0]) and not torch.equal(x, points(seed=1)[0].train.tensors()[0])
    assert stage.fingerprint == points()[0].fingerprint != points(seed=1)[0].fingerprint


def test_the_nonnegative_part() -> None:
    x = points(domain="nonnegative")[0].train.tensors()[0]
    assert (x >= 0).all() and x.norm(dim=1).max() <= 1 + 1e-6
