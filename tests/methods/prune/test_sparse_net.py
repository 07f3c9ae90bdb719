"""What methods of sparse training share: dead weights and their moments are exactly 0, and stay so under every optimiser."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.common.streams import generator
from maskbench.methods.prune.at_init import AtInit
from maskbench.methods.prune.dynamic import StaticSparse
from maskbench.methods.prune.gradual import Gradual
from maskbench.methods.prune.one_shot import OneShot
from maskbench.methods.prune.sparse import SparseNet
from maskbench.training.optimizers import moments

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def net(**knobs) -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 4, 4), 10, **{"widths": [8, 6]} | knobs)


def random_masks(sparse: SparseNet, number: int = 0) -> dict[str, torch.Tensor]:
    return {n: torch.rand(s, generator=generator("mask", n, number)) < 0.3 for n, s in sparse.shapes().items()}


def steps(net: nn.Module, sparse: SparseNet, optimizer: torch.optim.Optimizer, count: int) -> None:
    x, y = torch.randn(20, 1, 4, 4, generator=generator("x")), torch.arange(20) % 10
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(functional_call(net, sparse.effective_weights(net), (x,)), y).backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_dead_are_zero_and_so_is_what_is_remembered_of_them(name: str) -> None:
    backbone = net()
    sparse, optimizer = SparseNet(backbone), OPTIMIZERS[name](backbone.parameters())
    for number in range(3):
        steps(backbone, sparse, optimizer, 4)
        sparse.put(backbone, random_masks(sparse, number), optimizer)
        for _ in range(2):
            for site in sparse.sites:
                w, dead = backbone.get_parameter(site), ~sparse[site]
                of_it = [*moments(optimizer, w)]
                assert of_it and 0 < dead.sum() < dead.numel()
                assert all(not tensor[dead].any() for tensor in (w, *of_it))
            steps(backbone, sparse, optimizer, 3)


def test_masks_are_those_that_were_put_and_weights_are_as_they_stood() -> None:
    backbone = net()
    before, sparse = copy.deepcopy(backbone), SparseNet(backbone)
    assert all(sparse[name].all() for name in sparse.sites)
    kept = random_masks(sparse)
    sparse.put(backbone, {"head.weight": kept["head.weight"]})
    assert sparse["hidden.0.weight"].all() and torch.equal(sparse["head.weight"], kept["head.weight"])
    sparse.put(backbone, kept)
    for name in sparse.sites:
        expected = before.get_parameter(name) * kept[name]
        assert torch.equal(backbone.get_parameter(name), expected) and torch.equal(sparse[name], kept[name])
        assert torch.equal(sparse.effective_weights(backbone)[name], expected)
    assert sparse.counts() == {name: int(mask.sum()) for name, mask in kept.items()}


def test_rewound_it_is_the_first_state_under_the_present_mask() -> None:
    backbone = net()
    first, sparse = copy.deepcopy(backbone.state_dict()), SparseNet(backbone)
    kept = random_masks(sparse)
    sparse.put(backbone, kept)
    steps(backbone, sparse, torch.optim.SGD(backbone.parameters(), lr=0.1), 3)
    sparse.rewind(backbone)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, first[name] * kept[name] if name in kept else first[name])
    ticket = sparse.ticket()
    assert ticket.keys() == first.keys() | {f"mask|{name}" for name in kept}
    assert all(torch.equal(ticket[name], value) for name, value in first.items())
    assert all(torch.equal(ticket[f"mask|{name}"], mask.to(torch.uint8)) for name, mask in kept.items())


def test_its_state_is_all_it_remembers_and_holds_no_net() -> None:
    backbone = net()
    sparse = SparseNet(backbone)
    sparse.put(backbone, random_masks(sparse))
    twin = SparseNet(net())
    twin.load_state_dict(sparse.state_dict())
    assert all(torch.equal(twin[name], sparse[name]) for name in sparse.sites)
    assert not list(sparse.parameters())


def test_bytes_counts_and_names() -> None:
    backbone = MLP((1, 28, 28), 10, widths=[300, 100])
    sparse = SparseNet(backbone)
    assert sparse.memory(backbone) == {"shared": 4 * 266_610, "stage": 33_275}
    sparse.put(backbone, random_masks(sparse))
    kept = sum(sparse.counts().values())
    assert sparse.memory(backbone) == {"shared": 4 * (kept + 410), "stage": 33_275}
    assert sparse.densities(backbone)["density"] == kept / 266_200
    assert sparse.masks().keys() == {"0/hidden.0.weight", "0/hidden.1.weight", "0/head.weight"}
    without = SparseNet(backbone, dense=["head"])
    assert without.sites == ["hidden.0.weight", "hidden.1.weight"] and without.densities(backbone)["density/head"] == 1
    with pytest.raises(UsageError, match="method.dense"):
        SparseNet(backbone, dense=["heed"])


def test_with_a_unit_goes_what_belongs_to_it() -> None:
    """Its bias, too, is 0 and stays so, also where the layer after it has no mask."""
    backbone = net()
    for bias in (backbone.hidden[0].bias, backbone.hidden[1].bias):
        bias.data.fill_(0.5)
    sparse, optimizer = SparseNet(backbone, ["head"], "unit"), torch.optim.Adam(backbone.parameters(), lr=0.01)
    steps(backbone, sparse, optimizer, 3)
    kept = sparse.kept()
    kept["hidden.0.weight"][2:] = False
    kept["hidden.1.weight"][:, 2:] = False
    sparse.put(backbone, kept, optimizer)
    for _ in range(2):
        bias = backbone.hidden[0].bias
        assert not any(tensor[2:].any() for tensor in (bias, *moments(optimizer, bias))) and bias[:2].all()
        assert backbone.hidden[1].bias.all()
        steps(backbone, sparse, optimizer, 3)
    assert SparseNet(backbone).follow is None and sparse.follow == {"hidden.0.weight": ["hidden.1.weight"], "hidden.1.weight": []}


@pytest.mark.parametrize(
    ("make", "counts"),
    [
        (AtInit, lambda method: method.counts(0.5)),
        (Gradual, lambda method: method.last),
        (OneShot, lambda method: method.count),
        (StaticSparse, lambda method: {name: int(m.any(1).sum()) for name, m in method.sparse.kept().items()}),
    ],
)
def test_under_units_every_masked_layer_is_cut_but_the_nets_outputs(make: type, counts: Callable) -> None:
    """With a dense head the last hidden layer is no output."""
    assert counts(make(net(), scope="unit", keep=0.5, dense=["head"])) == {"hidden.0.weight": 4, "hidden.1.weight": 3}
