"""Backbones of few-shot learning: the papers' weight counts, and a meta-gradient through each, side by side or not."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from maskbench import masks
from maskbench.backbones import few_shot, initial
from maskbench.backbones.batch_statistics import BatchStatistics, uses_batches
from maskbench.common.errors import UsageError
from maskbench.data.episodes.stages import Tasks
from maskbench.methods.meta.episodic import Episodic
from maskbench.runs.nets import make_net

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
    return make_net(OmegaConf.create(keys), shape, outputs)


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


# ---- starts of the papers


@pytest.mark.parametrize(("name", "width"), [("resnet12", 0.0625), ("wrn28_10", 0.02), ("few_shot_conv4", 0.25)])
def test_the_head_may_start_by_a_rule_of_its_own_and_the_body_as_without(name: str, width: float, compose: Callable) -> None:
    def states(*words: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        return net_of(compose, name, (3, 16, 16), f"backbone.width={width}", "backbone.init=kaiming_normal", *words).state_dict()

    plain, own = states(), states("backbone.head_init=torch")
    assert [n for n in plain if not torch.equal(plain[n], own[n])] == ["head.weight", "head.bias"]
    assert not plain["head.bias"].any() and own["head.bias"].all()


def test_resnet12_starts_as_metatickets_authors_have_it(compose: Callable) -> None:
    """Their head is torch's Linear: U(-a, a), a = 1 / sqrt(512), biases too; MAML's convolutions are N(0, 2 / fan_out)."""
    torch.manual_seed(0)
    net = net_of(compose, "resnet12", (3, 84, 84), "backbone.init=kaiming_normal_fan_out", "backbone.head_init=torch", outputs=64)
    w, b = net.head.weight, net.head.bias
    assert w.std().item() == pytest.approx(0.0255, rel=0.02) and 0.0437 < w.abs().max() <= 512**-0.5
    assert b.abs().max() <= 512**-0.5 and b.std().item() == pytest.approx(0.0255, rel=0.3)
    for block in net.blocks:
        for conv in (*block.convs, block.shortcut):
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_new_initial_values_keep_the_rule_of_the_head(compose: Callable) -> None:
    torch.manual_seed(0)
    net = net_of(compose, "few_shot_conv4", (1, 16, 16), "backbone.init=kaiming_normal", "backbone.head_init=standard_normal",
                 outputs=64)  # fmt: skip
    again = initial.fresh(net)
    assert again["head.weight"].std().item() == pytest.approx(1, rel=0.1)
    assert not torch.equal(again["head.weight"], net.head.weight)
    assert again["convs.1.weight"].std().item() == pytest.approx((2 / 576) ** 0.5, rel=0.1)


# ---- MAML's net on Omniglot: strides, and a mean over what is left of the image


STRIDED = ("backbone.halving=stride", "backbone.average=true")


@pytest.mark.parametrize(("side", "left"), [(28, 2), (84, 6), (17, 2), (5, 1)])
def test_strides_halve_and_round_up(side: int, left: int, compose: Callable) -> None:
    flat = net_of(compose, "few_shot_conv4", (1, side, side), "backbone.halving=stride")
    assert flat.head.in_features == 64 * left**2
    mean = net_of(compose, "few_shot_conv4", (1, side, side), *STRIDED)
    assert mean.head.in_features == 64
    assert flat(torch.rand(3, 1, side, side)).shape == mean(torch.rand(3, 1, side, side)).shape == (3, 5)


@pytest.mark.parametrize("shape", [(6, 6), (7, 7), (6, 9)])
def test_strided_convolutions_pad_as_same_does(shape: tuple[int, int]) -> None:
    """Output i reads 2 i + k - before, with before = (3 - 1) // 2 for odd sides and (3 - 2) // 2 for even ones."""
    torch.manual_seed(0)
    x, w = torch.randn(1, 1, *shape, dtype=torch.float64), torch.randn(1, 1, 3, 3, dtype=torch.float64)
    ours = F.conv2d(few_shot.padded(x), w, stride=2)[0, 0]
    assert ours.shape == tuple(-(-n // 2) for n in shape)
    before = [(max((-(-n // 2) - 1) * 2 + 3 - n, 0)) // 2 for n in shape]
    for i in range(ours.shape[0]):
        for j in range(ours.shape[1]):
            total = 0.0
            for a in range(3):
                for b in range(3):
                    row, column = 2 * i + a - before[0], 2 * j + b - before[1]
                    if 0 <= row < shape[0] and 0 <= column < shape[1]:
                        total += (x[0, 0, row, column] * w[0, 0, a, b]).item()
            assert ours[i, j].item() == pytest.approx(total, abs=1e-12)


def test_the_strided_net_layer_by_layer(compose: Callable) -> None:
    torch.manual_seed(0)
    net = net_of(compose, "few_shot_conv4", (1, 28, 28), *STRIDED).double()
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64)
    h = x
    for conv, norm in zip(net.convs, net.norms, strict=True):
        odd = h.shape[-1] % 2
        h = F.conv2d(F.pad(h, (odd, 1, odd, 1)), conv.weight, conv.bias, stride=2)
        mean, var = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), unbiased=False, keepdim=True)
        h = ((h - mean) / (var + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
    assert torch.allclose(net(x), h.mean((2, 3)) @ net.head.weight.T + net.head.bias, rtol=1e-10)
