"""Training kept values alone: the same masks and counts as w * m, weights to 1e-5; the optimiser's past is carried over."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskbench.common.streams import generator
from maskbench.methods.prune.kernel import Kernel
from maskbench.methods.prune.sparse import SparseNet
from maskbench.training.optimizers import ByGroup, moments
from maskbench.training.stand_in import call

SMALL = (
    "data.base=synthetic",
    "backbone.widths=[40,20]",
    "budget.epochs=null",
    "budget.steps=60",
    "budget.batch_size=32",
    "loop.block=7",
)
MOVES = ("method.keep=0.2", "method.every=10")
METHODS = {
    "static_sparse": ("method.keep=0.2",),
    "snip": ("method.keep=0.2",),
    "set": MOVES,
    "rigl": MOVES,
    "gradual": MOVES,
    "one_shot": ("method.keep=0.2", "method.finetune=0.5"),
    "lottery": ("method.rate=0.6", "task.levels=2"),
}
OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "by group": lambda p: ByGroup([{"name": "", "params": list(p)}], recipes={"": lambda q: torch.optim.Adam(q, lr=0.01)}),
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))


def masks(sparse: SparseNet, number: int) -> dict[str, torch.Tensor]:
    return {name: torch.rand(s, generator=generator(name, number)) < 0.3 for name, s in sparse.shapes().items()}


def trained(kernel: str, optimizer: Callable) -> tuple[nn.Module, SparseNet, torch.optim.Optimizer]:
    """Steps under masks that change thrice."""
    backbone = net()
    sparse = SparseNet(backbone, kernel=kernel)
    sparse.put(backbone, masks(sparse, 0))
    sparse.kernel.compact(backbone, sparse.kept())
    moved = optimizer(list(sparse.trainable_parameters(backbone)))
    x, y = torch.randn(20, 12, generator=generator("x")), torch.arange(20) % 5
    for step in range(20):
        moved.zero_grad()
        nn.functional.cross_entropy(call(backbone, sparse.effective_weights(backbone), x), y).backward()
        moved.step()
        if step % 5 == 4:
            with sparse.whole(backbone, moved):
                sparse.put(backbone, masks(sparse, step), moved)
    sparse.kernel.expand(backbone, moved)
    return backbone, sparse, moved


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_moments_are_those_of_the_dense_execution(name: str) -> None:
    (a, one, dense), (b, two, csr) = trained("dense", OPTIMIZERS[name]), trained("csr", OPTIMIZERS[name])
    for (site, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-5, atol=1e-6)
        for m, n in zip(moments(dense, p), moments(csr, q), strict=True):
            torch.testing.assert_close(n, m, rtol=1e-5, atol=1e-6)
            assert site not in two.sites or not n[~two[site]].any()
        assert site not in two.sites or (torch.equal(one[site], two[site]) and not q[~two[site]].any())


def test_carrying_over_is_exact_and_a_state_brings_its_places() -> None:
    backbone, sparse, optimizer = trained("csr", OPTIMIZERS["adam"])
    before = copy.deepcopy(backbone.state_dict())
    past = [m.clone() for name in sparse.sites for m in moments(optimizer, backbone.get_parameter(name))]
    sparse.kernel.compact(backbone, sparse.kept(), optimizer)
    assert sparse.kernel.names() == sparse.sites and all(p.ndim == 1 for p in sparse.trainable_parameters(backbone))
    twin = SparseNet(net(), kernel="csr")
    twin.load_state_dict(sparse.state_dict())
    x, other = torch.randn(3, 12), net()
    other.load_state_dict({name: value for name, value in before.items()})
    for store, model in ((sparse, backbone), (twin, other), (copy.deepcopy(sparse), backbone)):
        torch.testing.assert_close(
            call(model, store.effective_weights(model), x), call(model, {}, x) if model is other else other(x)
        )
    twin.kernel.expand(other)
    with sparse.whole(backbone, optimizer):
        assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
        now = [m for name in sparse.sites for m in moments(optimizer, backbone.get_parameter(name))]
        assert all(torch.equal(m, n) for m, n in zip(past, now, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_one_parameter_stays_while_counts_do() -> None:
    """Devices average gradients of the parameters that were there when training began."""
    backbone, sparse, optimizer = trained("csr", OPTIMIZERS["adam"])
    sparse.kernel.compact(backbone, sparse.kept(), optimizer)
    before = [id(p) for p in sparse.trainable_parameters(backbone)]
    with sparse.whole(backbone, optimizer):
        rolled = {name: m.flatten().roll(3).view(m.shape) for name, m in sparse.kept().items()}
        sparse.put(backbone, rolled, optimizer)
    assert [id(p) for p in sparse.trainable_parameters(backbone)] == before
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == set(before)


def test_only_linear_layers_that_pay_are_compact() -> None:
    backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 300), nn.Linear(300, 4))
    kept = {name: torch.rand(p.shape) < 0.05 for name, p in backbone.named_parameters() if p.ndim > 1}
    found = {choice: Kernel(choice).chosen(backbone, kept) for choice in ("dense", "auto", "csr")}
    assert found == {"dense": [], "auto": ["2.weight"], "csr": ["2.weight", "3.weight"]}
    assert Kernel("auto").fingerprints(backbone, kept)["kernel"] == {"0.weight": "dense", "2.weight": "csr", "3.weight": "dense"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "lottery" else pytest.mark.full) for name in METHODS])
def test_a_run_is_that_of_the_dense_execution(name: str, build: Callable) -> None:
    """Equal masks and counts, weights to 1e-5; the record says which kernel ran."""
    words = (f"method={name}", *SMALL, *METHODS[name])
    runs = {k: build(*words, f"method.kernel={k}", folder=k).go() for k in ("dense", "csr")}
    dense, csr = (run.method for run in runs.values())
    assert set(csr.fingerprints()["kernel"].values()) == {"csr"}
    assert set(dense.fingerprints().get("kernel", {}).values()) <= {"dense"}
    masks = csr.masks()
    assert all(torch.equal(m, masks[key]) for key, m in dense.masks().items())
    for (site, p), q in zip(dense.net.named_parameters(), csr.net.named_parameters(), strict=True):
        torch.testing.assert_close(q[1], p, rtol=1e-5, atol=1e-5, msg=site)
    same = {n for n in runs["dense"].metrics if "density" in n}
    assert all(runs["dense"].metrics[n] == runs["csr"].metrics[n] for n in same)


@pytest.mark.parametrize("name", ["rigl", pytest.param("gradual", marks=pytest.mark.full)])
def test_an_interrupted_run_goes_on_bit_for_bit(name: str, build: Callable, relay: Callable) -> None:
    """Also between two moves of the mask, where the state holds kept values."""
    words = (f"method={name}", *SMALL, *METHODS[name], "method.kernel=csr", "loop.checkpoint_seconds=0")
    whole, pieces = build(*words, folder="whole").go(), relay(*words, folder="pieces", halts=[3, 4])
    assert all(torch.equal(value, pieces.state[key]) for key, value in whole.state.items())
    assert whole.rows == pieces.rows
