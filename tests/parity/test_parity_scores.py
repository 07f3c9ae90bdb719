"""SNIP, GraSP, SynFlow and Wanda against restatements of their authors' steps: the same masks, bit for bit."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.masks import criteria, scopes
from maskbench.methods.prune import scoring

KEEPS = [0.05, 0.01]


@pytest.fixture(scope="module")
def net() -> MLP:
    torch.manual_seed(0)
    return MLP((784,), 10, widths=[300, 100])


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.rand(100, 784, generator=g), torch.arange(100) % 10


def ours(net: nn.Module, batch: tuple[Tensor, Tensor], name: str, scope: str, keep: float, rounds: int = 1) -> dict[str, Tensor]:
    w = {name: net.get_parameter(name).detach() for name in masks.sites(net)}
    shapes, alive = {n: v.shape for n, v in w.items()}, {n: torch.ones_like(v, dtype=torch.bool) for n, v in w.items()}
    for share in scoring.shares(keep, rounds):
        scores = scoring.Scores(net, w, w, alive, batch=lambda: batch, loss=F.cross_entropy, shape=(784,), under=True)
        alive = scoring.draw(getattr(criteria, name), scores, scope, scopes.counts(shapes, scope, share))
    return alive


def highest(scores: list[Tensor], count: int) -> list[Tensor]:
    """The masks of the highest scores of all layers, by a full sort."""
    flat = torch.cat([s.flatten() for s in scores])
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[flat.argsort(descending=True)[:count]] = True
    return [m.reshape(s.shape) for m, s in zip(mask.split([s.numel() for s in scores]), scores, strict=True)]


@pytest.mark.parametrize("keep", KEEPS)
def test_snip_is_the_gradient_of_connections_at_one(net: MLP, batch: tuple, keep: float) -> None:
    """Section 3 of 1810.02340: c = 1 beside each weight, the normalised |dL/dc| ranks."""
    x, y = batch
    c = [torch.ones_like(layer.weight, requires_grad=True) for layer in (*net.hidden, net.head)]
    for layer, one in zip((*net.hidden, net.head), c, strict=True):
        x = F.linear(x, layer.weight.detach() * one, layer.bias.detach())
        x = x if layer is net.head else x.relu()
    slopes = [g.abs() for g in torch.autograd.grad(F.cross_entropy(x, y), c)]
    everything = sum(g.sum() for g in slopes)
    for mask, theirs in zip(
        ours(net, batch, "snip", "global", keep).values(), highest(slopes, masks.kept_count(keep, 266_200)), strict=True
    ):
        assert torch.equal(mask, theirs)
    assert everything > 0  # dividing by it changes no order


@pytest.mark.parametrize("keep", KEEPS)
def test_grasp_removes_the_largest_of_minus_w_times_hg(net: MLP, batch: tuple, keep: float) -> None:
    """Algorithm 2 of 2002.07376: two passes over one batch at temperature 200; what is removed has the largest -w * Hg."""
    twin = copy.deepcopy(net)
    layers = [*twin.hidden, twin.head]
    w = [layer.weight for layer in layers]
    first = torch.autograd.grad(F.cross_entropy(twin(batch[0]) / 200, batch[1]), w)
    second = torch.autograd.grad(F.cross_entropy(twin(batch[0]) / 200, batch[1]), w, create_graph=True)
    z = sum((a * b).sum() for a, b in zip(first, second, strict=True))
    z.backward()
    scores = torch.cat([(-layer.weight.data * layer.weight.grad).flatten() for layer in layers])
    kept = torch.ones(266_200, dtype=torch.bool)
    kept[scores.argsort(descending=True)[: 266_200 - masks.kept_count(keep, 266_200)]] = False
    mine = torch.cat([m.flatten() for m in ours(net, batch, "grasp", "global", keep).values()])
    assert torch.equal(mine, kept)


@pytest.mark.parametrize(("keep", "rounds"), [(0.05, 1), (0.01, 8), pytest.param(0.01, 100, marks=pytest.mark.full)])
def test_synflow_of_magnitudes_round_by_round(net: MLP, batch: tuple, keep: float, rounds: int) -> None:
    """Algorithm 1 of 2006.05467: f(|w * m|) of ones, scores (dR/dw) * w, after round k the best keep^(k/n) stay."""
    twin = copy.deepcopy(net).double()
    layers = [*twin.hidden, twin.head]
    with torch.no_grad():
        for p in twin.parameters():
            p.abs_()
    full = [layer.weight.detach().clone() for layer in layers]
    mask = [torch.ones_like(w) for w in full]
    for k in range(1, rounds + 1):
        for layer, w, m in zip(layers, full, mask, strict=True):
            layer.weight.data = w * m
            layer.weight.grad = None
        twin(torch.ones(1, 784).double()).sum().backward()
        scores = [(layer.weight.grad * layer.weight).abs().detach() for layer in layers]
        dead = [s.masked_fill(m == 0, -1.0) for s, m in zip(scores, mask, strict=True)]
        share = keep if k == rounds else keep ** (k / rounds)
        mask = [m.double() for m in highest(dead, masks.kept_count(share, 266_200))]
    for mine, theirs in zip(ours(net, batch, "synflow", "global", keep, rounds).values(), mask, strict=True):
        assert torch.equal(mine, theirs.bool())


@pytest.mark.parametrize(("scope", "keep"), [("row", 0.5), ("row", 0.2), ("row", 0.05), ("2:4", 0.5)])
def test_wanda_prunes_row_by_row_and_layer_by_layer(net: MLP, batch: tuple, scope: str, keep: float) -> None:
    """Section 3 of 2306.11695: |W| * ||X||; in each row the lowest int(in * (1 - keep)) go, or of each four inputs two."""
    x, mine = batch[0], ours(net, batch, "wanda", scope, keep)
    for name, layer in zip(mine, (*net.hidden, net.head), strict=True):
        metric = layer.weight.detach().abs() * (x.norm(p=2, dim=0) ** 2).sqrt().reshape(1, -1)
        gone = torch.zeros_like(metric) == 1
        if scope == "row":
            order = metric.sort(dim=-1, stable=True).indices
            gone.scatter_(1, order[:, : int(metric.shape[1] * (1 - keep))], True)
        else:
            for i in range(0, metric.shape[1], 4):
                block = metric[:, i : i + 4]
                gone.scatter_(1, i + block.topk(2, dim=1, largest=False).indices, True)
        assert torch.equal(mine[name], ~gone)
        x = F.linear(x, layer.weight.detach() * ~gone, layer.bias.detach()).relu()
