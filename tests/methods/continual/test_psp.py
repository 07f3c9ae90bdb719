"""PSP: rotations are orthogonal, of their own for each stage and layer, and rebuilt from a seed."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call

from maskbench.backbones.mlp import MLP
from maskbench.methods.continual.psp import PSP, rotation

TINY = ("method=psp", "data.base=synthetic", "budget.batch_size=32", "task.probe=50")


def test_rotations_are_orthogonal_and_named() -> None:
    r = rotation(50, (3, "rotation", 0, "w"))
    torch.testing.assert_close(r @ r.T, torch.eye(50), atol=1e-5, rtol=0)
    assert torch.equal(r, rotation(50, (3, "rotation", 0, "w")))
    others = [rotation(50, name) for name in ((4, "rotation", 0, "w"), (3, "rotation", 1, "w"), (3, "rotation", 0, "v"))]
    assert all((r - other).abs().max() > 0.1 for other in others)


def test_rotations_are_uniform() -> None:
    """Entries of a uniformly random rotation have mean 0 and variance 1 / n; without the fixed signs the diagonal has not."""
    drawn = torch.stack([rotation(4, (n, "test")) for n in range(2000)])
    assert drawn.mean(0).abs().max() < 0.05
    torch.testing.assert_close(drawn.var(0), torch.full((4, 4), 0.25), atol=0.03, rtol=0)


def test_a_stage_sees_its_inputs_rotated(build: Callable) -> None:
    """f(x; W R) is f(R x; W), layer by layer; for a convolution the channels of each pixel are rotated."""
    net = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    method, stage = PSP(net), build(*TINY).stages[1]
    rotations = method.rotations(stage.index)
    x = torch.randn(6, 3, 3, 3)
    hidden = net[0](torch.einsum("ij,bj...->bi...", rotations["0.weight"], x)).relu().flatten(1)
    expected = net[3](hidden @ rotations["3.weight"].T)
    torch.testing.assert_close(functional_call(net, method.effective_weights(x, stage), (x,)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.full
def test_stages_disturb_each_other_less_than_without_rotations(build: Callable) -> None:
    tiny = ("data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=40", "optimizer=adam", "task.probe=50")
    plain = build("method=finetune", *tiny, folder="plain").go().metrics
    rotated = build("method=psp", *tiny, folder="rotated").go().metrics
    assert rotated["average_accuracy"] > plain["average_accuracy"]
    assert rotated["logit_drift"] > 0, "the weights are shared, so there is some"


def test_rotations_are_not_part_of_the_state() -> None:
    method = PSP(MLP((1, 4, 4), 3, widths=[6]))
    own = {name: r.clone() for name, r in method.rotations(2).items()}
    twin = PSP(MLP((1, 4, 4), 3, widths=[6]))
    assert set(method.state_dict()) == {"stream", *(f"net.{name}" for name in method.net.state_dict())}
    assert any(not torch.equal(r, twin.rotations(2)[name]) for name, r in own.items())
    twin.load_state_dict(method.state_dict())
    twin.held = (-1, {})  # what another process starts with
    assert all(torch.equal(r, twin.rotations(2)[name]) for name, r in own.items())


def test_running_norm_statistics_are_kept_per_stage(build: Callable) -> None:
    bench = build(*TINY, "backbone=resnet20", "backbone.base=8", "backbone.blocks=[1,1]", "budget.steps=3").go()
    method = bench.method
    means = {method.statistics.kept[f"{stage}/norm.running_mean"].numpy().tobytes() for stage in range(5)}
    assert len(means) == 5
    tensors = method.effective_weights(torch.zeros(1), bench.stages[1])
    assert torch.equal(tensors["norm.running_mean"], method.statistics.kept["1/norm.running_mean"])


def test_bytes_are_one_net_and_a_seed() -> None:
    assert PSP(MLP((1, 4, 4), 3, widths=[6])).memory() == {"shared": 4 * (16 * 6 + 6 + 6 * 3 + 3) + 8, "stage": 0}
