"""Backbones of few-shot learning: the papers' weight counts, and a meta-gradient through each, side by side or not."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from maskbench import masks
from maskbench.backbones.batch_statistics import BatchStatistics, uses_batches
from maskbench.common.errors import UsageError
from maskbench.data.episodes.stages import Tasks
from maskbench.methods.meta.episodic import Episodic
from maskbench.runs.build import make

COUNTS = {  # of Linear and Conv weights, 5 outputs
    ("few_shot_mlp", (1, 28, 28)): 784 * 256 + 256 * 128 + 128 * 64 + 64 * 64 + 64 * 5,
    ("few_shot_mlp_wide", (3, 32, 32)): 3072 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 5,
    ("few_shot_conv4", (1, 28, 28)): 9 * (64 + 3 * 64 * 64) + 64 * 5,
    ("few_shot_conv4", (3, 84, 84)): 9 * (3 * 64 + 3 * 64 * 64) + 5 * 5 * 64 * 5,
    ("resnet12", (3, 84, 84)): 7_991_680,
    ("wrn28_10", (3, 84, 84)): 36_454_832 + 640 * 5,
    ("sinusoid_mlp", (1,)): 40 + 40 * 40 + 40 * 5,
}


def net_of(compose: Callable, name: str, shape: tuple[int, ...], *more: str, outputs: int = 5) -> nn.Module:
    keys = OmegaConf.to_container(compose("method=maml", f"backbone={name}", *more).backbone)
    keys.pop("outputs")
    return make(OmegaConf.create(keys), shape=shape, outputs=outputs)


@pytest.mark.parametrize(("name", "shape"), COUNTS)
def test_weights_are_as_many_as_in_the_papers(name: str, shape: tuple[int, ...], compose: Callable) -> None:
    with torch.device("meta"):
        net = net_of(compose, name, shape, "backbone.init=torch")
    assert sum(net.get_parameter(site).numel() for site in masks.sites(net)) == COUNTS[name, shape]
    assert masks.sites(net)[-1] == "head.weight"
    assert uses_batches(net) == (name != "sinusoid_mlp")
    running = [n for n, _ in net.named_buffers() if "running" in n]
    assert running == [], "no averages over batches are kept"


@pytest.mark.parametrize(
    ("name", "width", "size"), [("few_shot_conv4", 0.0625, 16), ("resnet12", 0.0625, 16), ("wrn28_10", 0.02, 8)]
)
def test_a_meta_step_through_each_net_side_by_side_and_not(name: str, width: float, size: int, compose: Callable) -> None:
    torch.manual_seed(0)
    net = net_of(compose, name, (3, size, size), f"backbone.width={width}", outputs=2).double()
    method = Episodic(net, outer=["*"], adapted=["*"], masked=[], rate=0.1, steps=2, test_steps=1).double()
    assert not method.side_by_side(), "convolutions on a CPU: one task after another"
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(2, 6, 3, size, size, generator=draw, dtype=torch.float64)
    labels = torch.tensor([0, 1]).repeat(2, 3)

    class Question:
        criterion = staticmethod(F.cross_entropy)

    found = []
    for batched in (True, False):
        method.batched = batched
        loss = method.loss((Tasks(x, labels[:, :4]), labels[:, 4:]), Question)
        found.append(torch.autograd.grad(loss, list(net.parameters())))
    assert all(g.isfinite().all() for g in found[0])
    scale = max(float(g.abs().max()) for g in found[0])
    assert max(float((a - b).abs().max()) for a, b in zip(*found, strict=True)) < 1e-9 * scale


def test_norms_stand_after_every_hidden_layer_and_widths_multiply(compose: Callable) -> None:
    net = net_of(compose, "few_shot_mlp", (1, 28, 28), "backbone.width=0.25")
    assert [layer.out_features for layer in net.hidden] == [64, 32, 16, 16]
    norms = [m for m in net.modules() if isinstance(m, BatchStatistics)]
    assert len(norms) == 4 and {norm.eps for norm in norms} == {1e-3}


def test_images_that_are_too_small_are_refused(compose: Callable) -> None:
    with pytest.raises(UsageError, match="at least 16 x 16"):
        net_of(compose, "few_shot_conv4", (1, 8, 8))
