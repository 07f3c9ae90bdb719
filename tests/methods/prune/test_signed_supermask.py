"""Signed supermasks: weights never move but for their signs, masks are -1, 0 and 1, gradients go straight through."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskbench import masks
from maskbench.backbones import initial
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.dense import Dense
from maskbench.methods.prune.signed_supermask import SignedSupermask
from maskbench.training import evaluate

TINY = ("method=signed_supermask", "task=uncertainty", "data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=20")


def net() -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 8, 8), 10, widths=[16, 12], bias=False, activation="elu", init="elus_signed_constant")


# ---- the mask and its gradient


def test_the_mask_keeps_hides_and_inverts() -> None:
    tau = torch.tensor(0.5)
    score = torch.tensor([-2.0, -0.5, -0.1, 0.0, 0.5, 0.51])
    w = torch.tensor([1.0, 2.0, -3.0, 4.0, 5.0, -6.0])
    assert masks.signs(score, tau).tolist() == [-1, 0, 0, 0, 0, 1]
    assert masks.signed(w, score, tau).tolist() == [-1, 0, 0, 0, 0, -6]


def test_the_gradient_is_the_weights_whatever_the_mask_is() -> None:
    w, g = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    score, tau = torch.randn(7, 5, dtype=torch.float64, requires_grad=True), torch.tensor(0.6, dtype=torch.float64)
    moving = w.clone().requires_grad_()
    (masks.signed(moving, score, tau) * g).sum().backward()
    assert torch.equal(score.grad, g * w)
    assert torch.equal(moving.grad, g * masks.signs(score.detach(), tau))


def test_a_step_moves_scores_by_the_chain_rule(build: Callable) -> None:
    """dL/dscore of the last layer is dL/dlogits^T h * w, entry by entry, for hidden weights too."""
    bench = build(*TINY)
    method, stage = bench.method, bench.stages[0]
    x, y = stage.train.tensors(first=16)
    h = x.flatten(1)
    for name in ("hidden.0.weight", "hidden.1.weight"):
        h = nn.functional.elu(h @ (method.w[name] * masks.signs(method.score(name).detach(), method.tau[name])).T)
    logits = h @ (method.w["head.weight"] * masks.signs(method.score("head.weight").detach(), method.tau["head.weight"])).T
    to_logits = (logits.softmax(-1) - nn.functional.one_hot(y, 10)) / len(y)
    method.loss((x, y), stage).backward()
    wanted = (to_logits.T @ h) * method.w["head.weight"]
    torch.testing.assert_close(method.score("head.weight").grad, wanted.detach(), rtol=1e-4, atol=1e-7)


# ---- the run as a whole


def test_weights_stay_and_the_kept_mask_is_the_one_it_trained_to(build: Callable) -> None:
    bench = build(*TINY)
    method, stage = bench.method, bench.stages[0]
    before = {name: w.clone() for name, w in method.net.state_dict().items()}
    start = {name: method.score(name).detach().clone() for name in method.w}
    bench.go()
    assert all(torch.equal(w, before[name]) for name, w in method.net.state_dict().items())
    drawn, facts = method.masks(), method.extra_metrics()
    for name in method.w:
        tau = 0.4 * start[name].abs().max()
        assert torch.equal(method.tau[name], tau) and not torch.equal(method.score(name), start[name])
        assert torch.equal(drawn[f"0/{name}"], method.score(name).abs() > tau)
        assert torch.equal(drawn[f"0/{name}.negative"], method.score(name) < -tau)
    kept = [m for name, m in drawn.items() if not name.endswith(".negative")]
    assert facts["density"] == masks.density(kept)
    negative = sum(int(m.sum()) for name, m in drawn.items() if name.endswith(".negative"))
    assert facts["inverted"] == negative / sum(int(m.sum()) for m in kept)
    assert facts.keys() >= {"density/hidden.0", "density/hidden.1", "density/head"}
    stored = evaluate.logits(method, stage, stage.test)
    method.book = type(method.book)(method.book.shapes)
    assert torch.equal(evaluate.logits(method, stage, stage.test), stored)


def test_the_ticket_is_a_plain_net(build: Callable, tmp_path: Path) -> None:
    bench = build(*TINY)
    assert bench.method.ticket() == {}
    bench.go()
    stage = bench.stages[0]
    save_file(bench.method.ticket(), tmp_path / "ticket.safetensors")
    dense = Dense(build(*TINY, "seed=5", folder="other").method.net, init=f"ticket:{tmp_path / 'ticket.safetensors'}")
    assert torch.equal(evaluate.logits(dense, stage, stage.test, 100), evaluate.logits(bench.method, stage, stage.test, 100))


def test_decay_alone_empties_the_net(build: Callable) -> None:
    """At the start a share 1 - threshold is in; with gradients of nearly 0 what is left falls below the threshold."""
    method = SignedSupermask(net())
    start = masks.density(masks.signs(method.score(name).detach(), method.tau[name]) != 0 for name in method.w)
    assert start == pytest.approx(0.6, abs=0.05)
    words = ("method.threshold=0.9", "optimizer=sgd", "optimizer.lr=0.05", "optimizer.weight_decay=1.0")
    assert build(*TINY, *words).go().method.extra_metrics()["density"] == 0


def test_a_finished_model_is_a_seed_and_two_bits_a_weight() -> None:
    method = SignedSupermask(net())
    assert method.memory() == {"shared": 8, "stage": 2 * sum(-(-w.numel() // 8) for w in method.w.values())}


def test_scores_start_glorot_uniform_and_weights_as_elus() -> None:
    method = SignedSupermask(MLP((1, 28, 28), 10, widths=[300], bias=False, activation="elu", init="elus_signed_constant"))
    bound = math.sqrt(6 / (784 + 300))
    largest = method.score("hidden.0.weight").abs().max()
    assert 0.999 * bound < largest <= bound
    assert torch.equal(method.tau["hidden.0.weight"], 0.4 * largest)
    torch.testing.assert_close(method.w["hidden.0.weight"].abs(), torch.full((300, 784), math.sqrt(3 / 784)))
    torch.manual_seed(0)
    plain, scaled = torch.empty(8, 4, 3, 3), torch.empty(8, 4, 3, 3)
    initial.signed_constant(plain)
    torch.manual_seed(0)
    initial.elus_signed_constant(scaled)
    torch.testing.assert_close(scaled, plain * math.sqrt(1.5))


@pytest.mark.parametrize("knobs", [{"threshold": 0.0}, {"threshold": 1.0}, {"dense": "head"}])
def test_a_knob_out_of_range_is_refused_by_name(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        SignedSupermask(net(), **knobs)


def test_layers_left_dense_have_no_mask() -> None:
    method = SignedSupermask(net(), dense=["head"])
    assert list(method.w) == method.masked_weights() == ["hidden.0.weight", "hidden.1.weight"]
