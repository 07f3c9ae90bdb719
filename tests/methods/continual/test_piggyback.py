"""Piggyback: masks by threshold on a frozen backbone, binary and ternary."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.continual.piggyback import Piggyback
from maskbench.training import evaluate

TINY = ("method=piggyback", "data.base=synthetic", "budget.steps=15", "budget.batch_size=32", "task.probe=50")
MLP_NET = ("backbone.widths=[24,12]",)


def backbone(method: Piggyback) -> dict[str, torch.Tensor]:
    """All of the net that is frozen, norm statistics included."""
    own = method.net.state_dict()
    return {n: v.detach().clone() for n, v in own.items() if not (method.private and n.startswith("head."))}


def small(**knobs) -> Piggyback:
    return Piggyback(MLP((1, 4, 4), 3, widths=[6]), **knobs)


NAME = "hidden.0.weight"


def scored(method: Piggyback, *values: float) -> torch.Tensor:
    """The scores of one layer, the first of them set to `values`."""
    score = method.scores[NAME.replace(".", "|")]
    score.data.view(-1)[: len(values)] = torch.tensor(values)
    return score


def test_a_weight_is_kept_above_the_threshold_strictly() -> None:
    method = small()
    tau = torch.tensor(5e-3)
    scored(method, tau.item(), torch.nextafter(tau, torch.tensor(1.0)).item(), 0.0, -1.0, 1.0)
    assert method.signs()[NAME].flatten()[:6].tolist() == [False, True, False, False, True, True]


def test_ternary_masks_change_the_sign_below_zero() -> None:
    method = small(ternary=True)
    scored(method, 5e-3, 4e-3, 0.0, -0.0, -1e-9, 1.0)
    drawn, w = method.signs(), method.w[NAME].flatten()[:6]
    assert method.factor(drawn, NAME).flatten()[:6].tolist() == [0, 0, 0, 0, -1, 1]
    assert torch.equal(method.masked(NAME).flatten()[:6].detach(), w * torch.tensor([0, 0, 0, 0, -1.0, 1]))


@pytest.mark.parametrize("ternary", [False, True])
def test_the_gradient_goes_straight_through_to_all_scores(ternary: bool) -> None:
    method = small(ternary=ternary)
    score = scored(method, -1.0, 0.0, 1.0).requires_grad_()
    upstream = torch.randn_like(score)
    (grad,) = torch.autograd.grad(method.masked(NAME), score, upstream)
    torch.testing.assert_close(grad, upstream * method.w[NAME])
    assert bool(grad.abs().gt(0).all())


def test_training_computes_what_is_kept(build: Callable) -> None:
    """The last step's masks and the written ones are the same function: answers do not change when a stage is finished."""
    for ternary in ("false", "true"):
        bench = build(*TINY, *MLP_NET, "optimizer=adam", f"method.ternary={ternary}", folder=ternary)
        stage, before = bench.stages[1], {}

        def fit(method: Piggyback, stage, before=before, bench=bench, **phase) -> None:
            bench.fit(method, stage, **phase)
            before[stage.index] = evaluate.logits(method, stage, stage.test, 50)

        for stage in bench.stages[:2]:
            bench.method.learn(stage, fit)
        assert all(torch.equal(before[s.index], evaluate.logits(bench.method, s, s.test, 50)) for s in bench.stages[:2])


def test_the_first_stage_keeps_all_weights_of_the_backbone_it_trains(build: Callable) -> None:
    drawn = build(*TINY, *MLP_NET, "optimizer=adam", "optimizer.lr=0.01").go().method.masks()
    assert list(drawn) == [f"{stage}/hidden.{layer}.weight" for stage in range(5) for layer in range(2)]
    assert all(bool(mask.all()) == (name[0] == "0") for name, mask in drawn.items())


def test_a_masked_head_is_shared_frozen_and_masked(build: Callable) -> None:
    method = build(*TINY, *MLP_NET, "method.head=masked", "optimizer=adam").go().method
    assert method.heads.kept.names() == [] and "4/head.weight" in method.masks()


def test_a_pretrained_backbone_is_taken_from_a_finished_run(build: Callable, tmp_path: Path) -> None:
    source = build("method=frozen_heads", "data.base=synthetic", *MLP_NET, "budget.steps=2").go()
    path = tmp_path / "weights.safetensors"
    save_file(source.state, path)
    same = ("method.start=1e-2", *MLP_NET)  # by itself, a given net's scores start in a range
    bench = build(*TINY, *same, f"method.backbone={path}", folder="taken").go()
    other = build(*TINY, *same, f"backbone.init=file:{path}", folder="given").go()
    assert other.rows == bench.rows, "two words for one run"
    assert all(torch.equal(value, source.state[f"net.{name}"]) for name, value in backbone(bench.method).items())
    assert bench.metrics["logit_drift"] == 0.0


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="method.backbone=frist must be one of first, random, given, or a word that is the path"):
        small(backbone="frist")
    path = tmp_path / "other.safetensors"
    save_file(MLP((1, 4, 4), 3, widths=[7]).state_dict(), path)
    with pytest.raises(UsageError, match="of another net than this run.s MLP: it has no fitting hidden.0.weight"):
        small(backbone=str(path))
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(UsageError, match="method.backbone=.* is damaged, or no safetensors file"):
        small(backbone=str(path))


@pytest.mark.parametrize("knobs", [{"head": "shared"}, {"tau": 0.01}, {"tau": -1.0}], ids=str)
def test_knobs_that_cannot_learn_are_refused(knobs: dict) -> None:
    with pytest.raises(UsageError, match="method.(head|tau|start)="):
        small(**knobs)


NET, HEAD, WEIGHTS = 4 * (16 * 6 + 6), 4 * (6 * 3 + 3), 16 * 6


@pytest.mark.parametrize(
    ("knobs", "shared", "stage"),
    [
        ({}, NET, WEIGHTS // 8 + HEAD),
        ({"ternary": True}, NET, 2 * WEIGHTS // 8 + HEAD),
        ({"backbone": "random"}, 8, WEIGHTS // 8 + HEAD),
        ({"head": "masked"}, NET + HEAD, WEIGHTS // 8 + 3),
    ],
    ids=["default", "ternary", "random", "masked-head"],
)
def test_bytes_are_one_net_and_bits_and_a_head_per_stage(knobs: dict, shared: int, stage: int) -> None:
    assert small(**knobs).memory() == {"shared": shared, "stage": stage}
