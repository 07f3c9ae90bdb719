"""EWC and SI against their formulas written out: terms by autograd, importances by a loop over the steps."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.mlp import MLP
from maskbench.data.stage import Stage
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.ewc import EWC
from maskbench.methods.continual.si import SI
from maskbench.methods.dense import Dense
from maskbench.training.method import Progress

OPTIMIZERS = {
    "momentum and decay": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
}
GROUPS = ((0, 1), (2, 3), (4, 5))


def net() -> nn.Module:
    torch.manual_seed(3)
    return MLP((5,), 6, widths=[7]).double()


@pytest.fixture
def stages(stream: Callable) -> list[Stage]:
    stages = stream(*GROUPS)
    for stage in stages:
        object.__setattr__(stage.train, "x", stage.train.x.double())
    return stages


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def gradient_of_terms(method: EWC | SI) -> dict[str, Tensor]:
    """What the method adds to gradients of zero."""
    for p in method.net.parameters():
        p.grad = torch.zeros_like(p)
    method.anchors.pull(method.net, method.lam if isinstance(method, EWC) else 2 * method.c)
    return {name: p.grad for name, p in method.net.named_parameters()}


# ---- EWC


@pytest.mark.parametrize("gamma", [1.0, 0.7])
@pytest.mark.parametrize("mode", ["separate", "online"])
def test_the_terms_of_ewc_are_those_of_the_papers(mode: str, gamma: float, stages: list[Stage], hand_fit: Callable) -> None:
    """`separate`: one term a stage. `online`: one term, F = gamma F + F of the stage, around the latest solution."""
    method = EWC(net(), mode=mode, lam=30.0, gamma=gamma)
    fits, solutions, own = hand_fit(), [], []
    for stage in stages:
        before = {name: method.anchors.importance[name].clone() for name in method.anchors.names}
        method.learn(stage, fits)
        solutions.append(tensors(method.net))
        kept = gamma if mode == "online" else 1.0
        own.append({name: method.anchors.importance[name] - kept * before[name] for name in before})
    for p in method.net.parameters():
        p.data.add_(torch.randn_like(p), alpha=0.3)  # anywhere else
    w, terms = dict(method.net.named_parameters()), []
    for f, anchor, power in zip(own, solutions, (2, 1, 0), strict=True):
        around = anchor if mode == "separate" else solutions[-1]
        kept = 1.0 if mode == "separate" else gamma**power
        terms += [15.0 * kept * (f[name] * (w[name] - around[name]).square()).sum() for name in w]
    wanted = torch.autograd.grad(sum(terms), list(w.values()))
    for (name, found), value in zip(gradient_of_terms(method).items(), wanted, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-10, msg=name)


def test_the_gradient_of_the_terms_is_that_of_the_penalty(stages: list[Stage], hand_fit: Callable) -> None:
    method = EWC(net(), lam=4.0)
    method.learn(stages[0], hand_fit())
    for p in method.net.parameters():
        p.data.add_(0.1)
    wanted = torch.autograd.grad(2.0 * method.anchors.penalty(method.net), list(method.net.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(gradient_of_terms(method).values(), wanted, strict=True))


@pytest.mark.parametrize("make", [EWC, SI])
def test_the_first_stage_is_plain_training(make: type, stages: list[Stage], hand_fit: Callable) -> None:
    plain, method = Dense(net(), outputs="seen"), make(net())
    for one in (plain, method):
        one.learn(stages[0], hand_fit())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), method.net.parameters(), strict=True))


@pytest.mark.parametrize("make", [lambda n: EWC(n, lam=0.0), lambda n: SI(n, c=0.0)], ids=["ewc", "si"])
def test_without_strength_all_stages_are(make: Callable, stages: list[Stage], hand_fit: Callable) -> None:
    plain, method = Dense(net(), outputs="seen"), make(net())
    for one in (plain, method):
        fit = hand_fit()
        for stage in stages:
            one.learn(stage, fit)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), method.net.parameters(), strict=True))


def test_what_mattered_moves_less_the_stronger_the_term(stages: list[Stage], hand_fit: Callable) -> None:
    moved = []
    for lam in (0.0, 20.0, 80.0):
        method = EWC(net(), lam=lam)
        method.learn(stages[0], hand_fit())
        f = {name: method.anchors.importance[name].clone() for name in method.anchors.names}
        before = tensors(method.net)
        hand_fit(steps=30, optimizer=lambda p: torch.optim.SGD(p, lr=0.02))(method, stages[1])
        moved.append(sum(float((f[name] * (p - before[name]).square()).sum()) for name, p in tensors(method.net).items()))
    assert moved[0] > moved[1] > moved[2] > 0 and moved[0] > 2 * moved[2]


# ---- SI


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_si_is_a_loop_over_the_steps(optimizer: str, stages: list[Stage], hand_fit: Callable, batches: Callable) -> None:
    """omega, Omega and the weights of three stages, with the term in the loss and autograd to differentiate it."""
    method, own, c, xi = SI(net(), c=0.8, xi=0.05), net(), 0.8, 0.05
    fit = hand_fit(steps=9, optimizer=OPTIMIZERS[optimizer])
    big = {name: torch.zeros_like(p) for name, p in own.named_parameters()}
    anchor, uphill = tensors(own), False
    for stage in stages:
        method.learn(stage, fit)
        w, small = dict(own.named_parameters()), {name: torch.zeros_like(p) for name, p in own.named_parameters()}
        rule = OPTIMIZERS[optimizer](list(w.values()))
        for step in range(9):
            x, y = batches(stage, step, 16)
            data = over.loss(own(x), y, stage, "seen")
            g = dict(zip(w, torch.autograd.grad(data, list(w.values()), retain_graph=True), strict=True))
            term = sum((big[name] * (w[name] - anchor[name]).square()).sum() for name in w)
            rule.zero_grad()
            (data + c * term).backward()
            before = tensors(own)
            rule.step()
            for name in w:
                small[name] -= g[name] * (w[name].detach() - before[name])
        for name in w:
            torch.testing.assert_close(method.path[name], small[name], rtol=1e-7, atol=1e-12)
            uphill |= bool((small[name] < 0).any())
            big[name] += small[name].clamp_min(0) / ((w[name].detach() - anchor[name]).square() + xi)
            torch.testing.assert_close(method.anchors.importance[name], big[name], rtol=1e-7, atol=1e-12)
            torch.testing.assert_close(method.net.get_parameter(name), w[name], rtol=1e-7, atol=1e-10)
        anchor = tensors(own)
    assert uphill and any(value.any() for value in big.values()), "what made the loss worse counts as 0"


def test_a_step_that_mixed_precision_skips_leaves_the_path_alone(stages: list[Stage]) -> None:
    method = SI(net())
    progress, optimizer = Progress(0, 9, "train", stages[0], ("s",)), torch.optim.SGD(method.net.parameters(), lr=0.1)
    for p in method.net.parameters():
        p.grad = torch.full_like(p, torch.inf)
    with torch.no_grad():
        method.after_backward(progress)
        assert all(p.grad.isinf().all() for p in method.net.parameters()), "the scaler still has to see them"
        method.after_step(progress, optimizer)  # nothing moved
    assert not any(method.path[name].any() for name in method.path.names())


# ---- both


@pytest.mark.parametrize("make", [EWC, SI])
def test_they_store_two_numbers_a_weight_beside_the_net(make: type, stages: list[Stage], hand_fit: Callable) -> None:
    method = make(net().float())
    weights = sum(p.numel() for p in method.net.parameters())
    assert method.memory() == {"shared": 3 * 4 * weights, "stage": 0}


@pytest.mark.parametrize("make", [EWC, SI])
def test_a_weight_that_no_gradient_reaches_is_held_too(make: type, stages: list[Stage], hand_fit: Callable) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.idle = nn.Linear(5, 6), nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    method = make(Idle().double())
    if make is SI:
        for stage in stages[:2]:
            method.learn(stage, hand_fit())
        assert torch.equal(method.net.idle, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["ewc", "si"])
def test_weight_decay_is_warned_of_once(name: str, build: Callable, caplog: pytest.LogCaptureFixture) -> None:
    words = (f"method={name}", "data.base=synthetic", "backbone.widths=[4]", "budget.steps=3", "task.probe=5")
    build(*words, folder="none").go()
    assert not [r for r in caplog.records if "weight_decay" in r.message]
    build(*words, "optimizer.weight_decay=1e-4", folder="some").go()
    assert len([r for r in caplog.records if "weight_decay" in r.message]) == 1


def test_a_copy_under_way_is_no_part_of_the_state(stages: list[Stage], hand_fit: Callable) -> None:
    method = SI(net())
    method.learn(stages[0], hand_fit())
    assert method.under_way == ([], []) and len(copy.deepcopy(method).state_dict()) == len(method.state_dict())
