"""task=prune on reals: scored by the error in the targets' own units; on a planted net also by what is found of its ticket."""

import math
from collections.abc import Callable

import pytest
import torch

from maskbench.tasks.prune import TICKET, error, report
from maskbench.training import evaluate

SMALL = ("budget.steps=12", "budget.epochs=null", "budget.batch_size=32", "data.train=200", "data.val=40", "data.test=60")
HELIX = ("method=lottery", "data=planted_helix", "task.levels=5", "method.rate=0.551", *SMALL)
COUNTS = [5200, 2335, 1048, 471, 211, 95]  # to the planted count


def test_levels_branches_and_supermasks_of_reals(build: Callable) -> None:
    looks = ("budget.validate_every=6", "budget.test_curve=true", "task.branch_levels=[5]")
    controls = ("+task.branches={even:{mask:random_even}}", "+task.supermasks={a:{mask1:rewind},b:{mask1:reinit}}")
    bench = build(*HELIX, *looks, *controls).go()
    metrics, rows = bench.outcome.metrics, bench.outcome.curves
    ticket = [row for row in rows if row["branch"] == TICKET]
    x, y = bench.stages[0].test.tensors()
    own = (bench.method.predict(x, bench.stages[0])[0] - y).square().mean().sqrt().item()
    assert metrics["rmse"] == ticket[-1]["rmse"] == pytest.approx(own, rel=1e-5)
    assert bench.outcome.objective == "negative_rmse" and metrics["negative_rmse"] == -metrics["rmse"]
    assert metrics["dense_rmse"] == ticket[0]["rmse"] == metrics["rmse/ticket/1.0000"]
    assert not any("accuracy" in name for name in metrics)
    assert [round(row["extra_metrics"]["density"] * 5200) for row in ticket] == COUNTS
    for row in ticket:
        look = min(row["curve"], key=lambda point: point["val_loss"])
        assert row["early_stop_rmse"] == math.sqrt(look["test_loss"]) and row["fast_step"] is None
    assert bench.outcome.table[-1].keys() >= {"level", "density", "ticket", "even", "ticket_recall", "ticket_precision"}
    untrained = [row for row in rows if row["branch"] == "supermask/a"]
    best = min(untrained, key=lambda row: row["val_rmse"])
    assert metrics["supermask/a"] == best["rmse"] and metrics["supermask/a/density"] == best["extra_metrics"]["density"]
    assert all("has collapsed" in note for note in bench.outcome.notes), "chance is of classes"


def test_recall_is_that_of_the_masks_in_use(build: Callable) -> None:
    controls = "+task.branches={other:{mask:random_global},same:{mask:same}}"
    bench = build(*HELIX, "method.criterion=large_init", controls, "task.branch_levels=[5]").go()
    planted, metrics = bench.method.net.planted, bench.outcome.metrics
    assert sum(int(m.sum()) for m in planted.values()) == COUNTS[-1]
    for level, row in enumerate(row for row in bench.outcome.curves if row["branch"] == TICKET):
        both = sum(int((bench.method.masks()[f"{level}/{name}"] & mask).sum()) for name, mask in planted.items())
        assert row["ticket_recall"] == both / 95 and row["ticket_precision"] == both / COUNTS[level]
    last = {row["branch"]: row["ticket_recall"] for row in bench.outcome.curves if row["level"] == 5}
    assert last["same"] == last[TICKET] == metrics["ticket_recall"] == metrics["ticket_precision"], "at equal counts"
    assert metrics["ticket_recall/other/0.0183"] == last["other"]
    assert last["other"] < 0.2, "a draw finds what chance gives, about 0.02"


def test_the_planted_mask_itself_is_found_whole(build: Callable) -> None:
    bench = build("method=lottery", "data=planted_circle", *SMALL)
    method, stage = bench.method, bench.stages[0]
    truth = {name: mask.float() for name, mask in method.net.planted.items()}
    method.draw = lambda *_: {name: mask.bool() for name, mask in truth.items()}
    metrics = bench.go().outcome.metrics
    assert metrics["ticket_recall"] == metrics["ticket_precision"] == 1 and round(metrics["density"] * 5300) == 108
    method.rewind()
    x, y = stage.test.tensors()
    untrained = (method.logits(x, stage).argmax(1) == y).double().mean().item()
    assert untrained > 0.97, "it solves the problem as it was planted"
    assert bench.outcome.objective == "accuracy" and "rmse" not in metrics


@pytest.mark.parametrize(("name", "count", "rate"), [("circle", 108, 0.541), ("relu", 4, 0.76), ("helix", 95, 0.551)])
def test_one_pruning_and_five_end_at_the_planted_count(name: str, count: int, rate: float, build: Callable) -> None:
    for levels, words in {1: (), 5: (f"method.rate={rate}", "task.levels=5")}.items():
        bench = build("method=lottery", f"data=planted_{name}", *SMALL, *words, folder=f"{levels}")
        method = bench.method
        left = method.counts({n: method.alive[n] for n in method.sites})
        for _ in range(bench.cfg.task.levels):
            left = method.fewer(left)
        assert bench.cfg.task.levels == levels and left == {"": count}
        assert sum(int(m.sum()) for m in method.net.planted.values()) == count


def test_a_dense_net_is_the_whole_ticket(build: Callable) -> None:
    metrics = build("method=dense", "task=prune", "data=planted_relu", *SMALL).go().metrics
    assert metrics["ticket_recall"] == 1 and metrics["ticket_precision"] == 4 / 5100


def test_reals_of_a_table_are_in_their_own_units(build: Callable) -> None:
    bench = build("method=lottery", "data=cubic", "task.levels=1", "backbone.widths=[8,6]", "budget.steps=5").go()
    stage = bench.stages[0]
    p, y = evaluate.members(bench.method, stage, stage.test)
    mean, deviation = (unit[0] for unit in stage.units)
    wanted = ((mean + deviation * p[0].double()) - (mean + deviation * y.double())).square().mean().sqrt().item()
    assert bench.outcome.metrics["rmse"] == pytest.approx(wanted, rel=1e-5)
    assert error({"test_loss": 4.0}, stage) == pytest.approx(2 * float(deviation)) and error({}, stage) is None
    assert "ticket_recall" not in bench.outcome.metrics


def test_names_of_classes_stay() -> None:
    rows = [{"level": 0, "branch": TICKET, "accuracy": 0.5, "accuracy_vote": 0.6, "extra_metrics": {}, "cpu_seconds": 1.0}]
    outcome = report(rows, [])
    named = {"accuracy": 0.5, "accuracy_vote": 0.6, "dense_accuracy": 0.5, "accuracy/ticket/1.0000": 0.5}
    assert outcome.objective == "accuracy" and outcome.metrics == named | {"train_cpu_seconds_per_stage": 1.0}


def test_torch_sees_no_ticket_in_the_state() -> None:
    """The truth is drawn with the net and is no part of what a method remembers."""
    from maskbench.backbones.planted import Planted

    assert not any("planted" in name for name in Planted((1,), 1, widths=[8]).state_dict())
    assert torch.is_tensor(next(iter(Planted((1,), 1, widths=[8]).planted.values())))
