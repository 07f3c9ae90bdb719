"""biprop: every layer keeps its exact count of signs, all of one size; gradients go straight through both."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskbench import masks
from maskbench.backbones.activations import sign
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.dense import Dense
from maskbench.methods.prune.biprop import Biprop
from maskbench.training import evaluate

TINY = ("method=biprop", "task=uncertainty", "data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=20")
LAYERS = (24 * 784, 12 * 24, 10 * 12)


def net(**knobs) -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 8, 8), 10, widths=[16, 12], **{"bias": False, "init": "kaiming_normal"} | knobs)


# ---- binary weights and activations


def test_binary_weights_have_the_mean_magnitude_of_what_is_kept() -> None:
    w = torch.tensor([3.0, 0.0, -1.0, 0.0, 2.0])
    assert masks.binary(w, 3).tolist() == [2, 0, -2, 0, 2]
    errors = [(w - size * w.sign()).square().sum() for size in (1.9, 2.0, 2.1)]
    assert errors[1] == min(errors), "no other size is nearer"


def test_a_binary_activation_is_a_sign_whose_gradient_is_a_tent() -> None:
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0], requires_grad=True)
    y = sign(x)
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 2, 1.5, 0, 0]
    assert torch.equal(torch.vmap(sign)(x.detach()[:, None])[:, 0], y)


# ---- the step


def test_a_step_is_the_papers_update(build: Callable) -> None:
    """dL/dscore = dL/dw_eff * w * sign(score), whether or not the weight is in; w_eff = gain * sign(w) * m."""
    bench = build(*TINY)
    method, stage = bench.method, bench.stages[0]
    x, y = stage.train.tensors(first=16)
    h, used = x.flatten(1), {}
    for name, w in method.w.items():
        score = method.score(name).detach()
        order = score.abs().flatten().argsort(stable=True)
        m = torch.zeros(w.numel())
        m[order[len(order) - method.count[name] :]] = 1
        m = m.reshape(w.shape)
        used[name] = (w * m).abs().sum() / m.sum() * w.sign() * m
        torch.testing.assert_close(method.selected()[name], used[name], rtol=1e-6, atol=0)
        if name != "head.weight":
            h = (h @ used[name].T).relu()
    logits = h @ used["head.weight"].T
    to_logits = (logits.softmax(-1) - nn.functional.one_hot(y, 10)) / len(y)
    method.loss((x, y), stage).backward()
    wanted = (to_logits.T @ h) * method.w["head.weight"] * method.score("head.weight").sign()
    torch.testing.assert_close(method.score("head.weight").grad, wanted.detach(), rtol=1e-4, atol=1e-7)
    live = (h > 0).any(0)
    assert (method.score("head.weight").grad[:, live] != 0).all(), "what is out learns too"


# ---- the run as a whole


@pytest.mark.parametrize("keep", [0.07, 0.5, 1.0])
def test_every_layer_keeps_its_count_and_no_weight_moves(keep: float, build: Callable) -> None:
    bench = build(*TINY, f"method.keep={keep}")
    method = bench.method
    before = {name: w.clone() for name, w in method.net.state_dict().items()}
    bench.go()
    assert all(torch.equal(w, before[name]) for name, w in method.net.state_dict().items())
    drawn, facts = method.masks(), method.extra_metrics()
    counts = [masks.kept_count(keep, n) for n in LAYERS]
    assert [int(m.sum()) for m in drawn.values()] == counts
    assert facts["density"] == sum(counts) / sum(LAYERS)
    x, _ = bench.stages[0].test.tensors(first=2)
    for (name, w), count in zip(method.effective_weights(x, bench.stages[0]).items(), counts, strict=True):
        kept = method.w[name][drawn[f"0/{name}"]]
        assert int((w != 0).sum()) == count and len(w[w != 0].abs().unique()) == 1
        assert torch.equal(w.sign(), method.w[name].sign() * drawn[f"0/{name}"])
        assert facts[f"gain/{name.removesuffix('.weight')}"] == pytest.approx(kept.abs().mean().item(), rel=1e-5)


def test_the_kept_mask_is_the_one_it_trained_to(build: Callable) -> None:
    bench = build(*TINY, "backbone.activation=sign").go()
    stage = bench.stages[0]
    stored = evaluate.logits(bench.method, stage, stage.test)
    bench.method.book = type(bench.method.book)(bench.method.book.shapes)
    assert torch.equal(evaluate.logits(bench.method, stage, stage.test), stored)


def test_the_ticket_is_a_plain_net(build: Callable, tmp_path: Path) -> None:
    bench = build(*TINY)
    assert bench.method.ticket() == {}
    bench.go()
    stage = bench.stages[0]
    save_file(bench.method.ticket(), tmp_path / "ticket.safetensors")
    dense = Dense(build(*TINY, "seed=5", folder="other").method.net, init=f"ticket:{tmp_path / 'ticket.safetensors'}")
    assert torch.equal(evaluate.logits(dense, stage, stage.test, 100), evaluate.logits(bench.method, stage, stage.test, 100))


def test_a_finished_model_is_a_seed_a_bit_a_weight_and_a_gain_a_layer() -> None:
    method = Biprop(net())
    assert method.memory() == {"shared": 8, "stage": sum(-(-w.numel() // 8) for w in method.w.values()) + 4 * 3}


@pytest.mark.parametrize(("rule", "share"), [(True, 0.3), ("authors", 0.7)])
def test_weights_and_gain_stand_for_the_fan_that_is_left(rule: bool | str, share: float) -> None:
    plain, scaled = Biprop(net(), keep=0.3, scale_fan=False), Biprop(net(), keep=0.3, scale_fan=rule)
    for name, w in plain.w.items():
        torch.testing.assert_close(scaled.w[name], w * math.sqrt(1 / share))


@pytest.mark.parametrize("knobs", [{"keep": 0.0}, {"keep": 1.5}, {"scale_fan": "paper"}])
def test_a_knob_out_of_range_is_refused_by_name(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        Biprop(net(), **knobs)
