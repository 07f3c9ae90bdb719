"""Runs of episodic learners: adaptation from chance, the control of a fixed mask, two optimisers at once."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskbench.common.errors import UsageError


def test_a_small_run_is_at_chance_before_it_adapts_and_above_after(build: Callable) -> None:
    bench = build("method=meta_ticket", "data.base=synthetic", "budget.steps=40", "backbone.widths=[32,16]", "data.test=200",
                  "schedule.warmup=5", "task.curve=2", "task.steps=[0,1]").go()  # fmt: skip
    numbers = bench.metrics
    assert abs(numbers["accuracy/0"] - 0.2) < 3 * max(numbers["accuracy/0_ci95"], 0.01)
    assert numbers["accuracy/3"] > 0.4
    assert numbers.keys() >= {"accuracy/1", "accuracy_inductive/3", "accuracy_inductive/3_ci95", "density"}
    assert bench.outcome.objective == "accuracy/3"
    (curve,) = bench.outcome.curves
    assert curve["accuracy"]["steps"] == [0, 1, 2, 3] and len(curve["accuracy"]["ci95"]) == 4
    assert all(not n.startswith("accuracy/10") for n in numbers)


def test_under_a_fixed_mask_nothing_is_learnt(build: Callable) -> None:
    """The control of a random mask over constant weights: an episode's inner loop is all there is."""
    control = (
        "method.scores=fixed",
        "method.dropped=0.5",
        "method.weights=unsigned_constant",
        "task.steps=[0,1]",
        "task.curve=0",
    )
    bench = build("method=meta_ticket", "data.base=synthetic", "data.test=60", "backbone.widths=[32,16]", *control)
    before = bench.state
    bench.go()
    assert all(torch.equal(value, before[name]) for name, value in bench.state.items())
    assert bench.metrics["density"] == pytest.approx(0.5, abs=0.01)
    assert "accuracy/3" in bench.metrics


def test_two_optimisers_move_two_kinds_of_weights(build: Callable) -> None:
    words = ("method=meta_ticket", "data=sinusoid", "backbone=sinusoid_mlp", "optimizer=meta_ticket_sinusoid", "method.rate=0.01",
             'method.outer=["*"]', "method.masked=[hidden.1.weight]", "budget.steps=30", "data.test=40")  # fmt: skip
    bench = build(*words)
    before = bench.state
    bench.go()
    moved = {n for n, value in bench.state.items() if not torch.equal(value, before[n])}
    frozen = {n for n in before if n.startswith("thresholds") or n == "net.hidden.1.weight"}
    assert moved == set(before) - frozen
    assert bench.metrics["mse/0"] > bench.metrics["mse/1"] > 0
    assert bench.metrics["negative_mse"] == -bench.metrics["mse/3"]
    assert {"mse/1/5shot", "mse/1/20shot_ci95"} <= bench.metrics.keys()
    optimizer = bench.fit.optimizer([{"name": n, "params": p} for n, p in bench.method.groups().items()])
    assert [type(part).__name__ for part in optimizer.parts] == ["SGD", "AdamW"]
    with pytest.raises(UsageError, match="moves other too"):
        bench.fit.optimizer([{"name": "other", "params": [nn.Parameter(torch.zeros(1))]}])
