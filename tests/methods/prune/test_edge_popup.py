"""edge-popup: weights never move, every layer keeps its exact count, a finished model is its weights and its mask."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from maskbench import masks
from maskbench.backbones import initial
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.dense import Dense
from maskbench.methods.prune.edge_popup import EdgePopup
from maskbench.training import evaluate

TINY = ("method=edge_popup", "task=uncertainty", "data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=30")
LAYERS = (24 * 784, 12 * 24, 10 * 12)


def net(**knobs) -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 8, 8), 10, widths=[16, 12], **{"bias": False, "init": "signed_constant"} | knobs)


def counts(method: EdgePopup) -> list[int]:
    return [int(m.sum()) for m in method.masks_of({name: method.score(name) for name in method.w}).values()]


# ---- the run as a whole


@pytest.mark.parametrize("keep", [0.07, 0.5, 1.0])
def test_every_layer_keeps_its_count_and_no_weight_moves(keep: float, build: Callable) -> None:
    bench = build(*TINY, f"method.keep={keep}", "optimizer.weight_decay=0.01")
    before = {name: w.clone() for name, w in bench.method.net.state_dict().items()}
    bench.go()
    after = bench.method.net.state_dict()
    assert all(torch.equal(w, after[name]) for name, w in before.items())
    drawn = bench.method.masks()
    assert [int(m.sum()) for m in drawn.values()] == [masks.kept_count(keep, n) for n in LAYERS]
    facts = bench.method.extra_metrics()
    assert facts["density"] == sum(masks.kept_count(keep, n) for n in LAYERS) / sum(LAYERS)
    assert (facts["mask_flipped"] > 0) == (keep < 1)
    assert facts.keys() >= {"density/hidden.0", "density/hidden.1", "density/head"}


def test_the_finished_mask_is_the_one_it_trained_to(build: Callable) -> None:
    """The stored mask answers like the selection it was stored from, bit for bit."""
    bench = build(*TINY).go()
    stage = bench.stages[0]
    stored = evaluate.logits(bench.method, stage, stage.test)
    bench.method.book = type(bench.method.book)(bench.method.book.shapes)
    assert torch.equal(evaluate.logits(bench.method, stage, stage.test), stored)


def test_weights_and_packed_mask_alone_give_the_logits_bit_for_bit(build: Callable, tmp_path: Path) -> None:
    bench = build(*TINY).go()
    stage = bench.stages[0]
    masks.save(tmp_path / "masks.safetensors", bench.method.masks())
    again = build(*TINY, folder="again").method.net  # from the seed
    for name, mask in masks.load(tmp_path / "masks.safetensors").items():
        again.get_parameter(name.split("/")[1]).data.mul_(mask)
    x, _ = stage.test.tensors(first=100)
    assert torch.equal(again(x), evaluate.logits(bench.method, stage, stage.test, 100))


def test_the_ticket_is_a_plain_net(build: Callable, tmp_path: Path) -> None:
    bench = build(*TINY)
    assert bench.method.ticket() == {}
    bench.go()
    stage = bench.stages[0]
    save_file(bench.method.ticket(), tmp_path / "ticket.safetensors")
    fresh = build(*TINY, "seed=5", folder="other").method.net
    dense = Dense(fresh, init=f"ticket:{tmp_path / 'ticket.safetensors'}")
    assert torch.equal(evaluate.logits(dense, stage, stage.test, 100), evaluate.logits(bench.method, stage, stage.test, 100))
    assert load_file(tmp_path / "ticket.safetensors").keys() >= {"head.weight", "mask|head.weight"}


# ---- one step, by hand


@pytest.mark.parametrize("score_map", ["abs", "identity"])
def test_a_step_is_the_papers_update(score_map: str, build: Callable) -> None:
    """s <- s - lr * dL/dI_v * Z_u * w_uv, with the sign of s where |s| ranks; for every edge of the last layer."""
    bench = build(*TINY, f"method.score_map={score_map}")
    method, stage = bench.method, bench.stages[0]
    x, y = stage.train.tensors(first=16)
    before = {name: method.score(name).detach().clone() for name in method.w}
    drawn = method.masks_of(before)
    z = x.flatten(1)
    for name in ("hidden.0.weight", "hidden.1.weight"):
        z = (z @ (method.w[name] * drawn[name]).T).relu()
    logits = z @ (method.w["head.weight"] * drawn["head.weight"]).T
    to_input = (logits.softmax(-1) - nn.functional.one_hot(y, 10)) / len(y)  # dL/dI

    method.loss((x, y), stage).backward()
    torch.optim.SGD(method.trainable_parameters(), lr=0.1).step()
    sign = before["head.weight"].sign() if score_map == "abs" else 1.0
    step = -0.1 * (to_input.T @ z) * method.w["head.weight"] * sign
    torch.testing.assert_close(method.score("head.weight") - before["head.weight"], step.detach(), rtol=1e-4, atol=1e-7)
    live = (z > 0).any(0) & (step != 0).any(0)
    assert live.any() and (step[:, live] != 0).all(), "masked-out edges learn too"


# ---- knobs


def test_one_ranking_over_all_layers() -> None:
    method = EdgePopup(net(), keep=0.3, scope="global")
    total = sum(w.numel() for w in method.w.values())
    drawn = method.masks_of({name: method.score(name) for name in method.w})
    assert sum(counts(method)) == masks.kept_count(0.3, total)
    kept = torch.cat([method.score(n).abs()[m] for n, m in drawn.items()])
    gone = torch.cat([method.score(n).abs()[~m] for n, m in drawn.items()])
    assert kept.min() > gone.max()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_no_layer_falls_below_the_least(scope: str) -> None:
    method = EdgePopup(net(), keep=0.05, scope=scope, min_keep=60)
    for score in method.scores.values():
        nn.init.uniform_(score, 0.0, 1e-3 if score.shape[0] == 10 else 1.0)  # globally, the head has no chance
    total = sum(w.numel() for w in method.w.values())
    if scope == "layer":
        assert counts(method) == [max(60, masks.kept_count(0.05, w.numel())) for w in method.w.values()]
    else:
        assert counts(method)[-1] == 60 and sum(counts(method)) == max(180, masks.kept_count(0.05, total))


def test_the_share_warms_up_in_a_line(build: Callable) -> None:
    bench = build(*TINY, "method.keep=0.2", "method.keep_warmup=4")
    stage, seen = bench.stages[0], []
    batch = stage.train.tensors(first=8)
    for _ in range(6):
        seen.append(counts(bench.method)[0] / LAYERS[0])
        bench.method.loss(batch, stage)
    assert seen == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2], abs=1 / LAYERS[0])


def test_a_warm_up_survives_an_interruption(build: Callable, relay: Callable, same: Callable) -> None:
    words = (*TINY, "method.keep=0.2", "method.keep_warmup=20", "loop.block=3", "loop.checkpoint_seconds=0")
    same(build(*words, folder="calm").go(), relay(*words, folder="resumed", halts=[2, 3]))


def test_scaled_weights_stand_for_the_fan_that_is_left() -> None:
    plain, scaled = EdgePopup(net(), keep=0.3), EdgePopup(net(), keep=0.3, scale_fan=True)
    for name, w in plain.w.items():
        torch.testing.assert_close(scaled.w[name], w * math.sqrt(1 / 0.3))
        fan = 0.3 * w[0].numel()
        assert scaled.w[name].square().mean().item() == pytest.approx(2 / fan, rel=1e-5)


def test_scores_start_in_the_papers_range_and_signs_are_drawn_apart_from_them() -> None:
    method = EdgePopup(MLP((1, 28, 28), 10, widths=[300], bias=False, init="signed_constant"))
    score, w = method.score("hidden.0.weight").detach(), method.w["hidden.0.weight"].detach()
    assert 0.99 / 28 < score.abs().max() <= 1 / 28
    agree = (score.sign() == w.sign()).double().mean().item()
    assert abs(agree - 0.5) < 0.01


@pytest.mark.parametrize(
    "knobs",
    [
        {"keep": 0.0},
        {"keep": 1.5},
        {"scope": "net"},
        {"score_map": "square"},
        {"score_init": "kaiming"},
        {"min_keep": -1},
        {"keep_warmup": 0},
    ],
)
def test_a_knob_out_of_range_is_refused_by_name(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        EdgePopup(net(), **knobs)


# ---- weight distributions


@pytest.mark.parametrize("shape", [(300, 784), (64, 32, 3, 3)])
def test_constants_have_the_sizes_of_their_names(shape: tuple[int, ...]) -> None:
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    w = torch.empty(shape)
    initial.unsigned_constant(w)
    torch.testing.assert_close(w, torch.full(shape, math.sqrt(2 / fan_in)))
    torch.manual_seed(0)
    initial.glorot_signed_constant(w)
    torch.testing.assert_close(w.abs(), torch.full(shape, math.sqrt(2 / (fan_in + fan_out))))
    assert abs((w > 0).double().mean().item() - 0.5) < 0.02
    initial.signed_constant(w)
    torch.testing.assert_close(w.abs(), torch.full(shape, math.sqrt(2 / fan_in)))
