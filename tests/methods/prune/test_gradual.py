"""Gradual and one-shot magnitude pruning: nested masks along the cubic, one exact cut, what both cost."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.masks.cuts import kept_count
from maskbench.methods.prune.gradual import Gradual
from maskbench.methods.prune.one_shot import OneShot
from maskbench.training import evaluate
from maskbench.training.method import Progress
from maskbench.training.optimizers import moments

SMALL = (
    "data.base=synthetic", "backbone.widths=[16,12]", "budget.epochs=null", "budget.steps=60", "budget.batch_size=32",
    "loop.log_every=30",
)  # fmt: skip
N = 784 * 16 + 16 * 12 + 12 * 10


def lenet() -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 28, 28), 10, widths=[300, 100])


def walk(method: Gradual, total: int, optimizer: torch.optim.Optimizer | None = None) -> list[tuple[int, dict[str, Tensor]]]:
    """(steps that are done, masks) at first and after each change, without training."""
    optimizer = optimizer or torch.optim.SGD(method.parameters(), lr=0.1)
    seen = [(0, method.sparse.kept())]
    for step in range(total):
        method.after_step(Progress(step, total, "train", None, ("s",)), optimizer)
        now = method.sparse.kept()
        if any(not torch.equal(mask, now[name]) for name, mask in seen[-1][1].items()):
            seen.append((step + 1, now))
    return seen


def total(kept: dict[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in kept.values())


def nested(seen: list[tuple[int, dict[str, Tensor]]]) -> bool:
    return all(not (b[name] & ~a[name]).any() for (_, a), (_, b) in zip(seen, seen[1:], strict=False) for name in a)


# ---- gradual


@pytest.mark.sample(1)
@pytest.mark.parametrize(("keep", "cost"), [(0.05, 0.246), (0.01, 0.214)])
def test_masks_are_nested_along_the_cubic_and_exact_from_its_end(keep: float, cost: float) -> None:
    method = Gradual(lenet(), keep=keep)
    seen = walk(method, 2748)
    assert [done for done, _ in seen] == [0, *range(100, 2101, 100)] and nested(seen)
    for done, kept in seen:
        share = keep + (1 - keep) * (1 - min(1, done / 2061)) ** 3
        assert total(kept) == (kept_count(keep, 266_200) if done > 2061 else math.ceil(share * 266_200))
    assert round(method.training_cost(keep, 2748), 3) == cost


@pytest.mark.parametrize(
    ("steps", "every", "end", "changes"),
    [
        (100, 10, 0.3, [10, 20, 30]),
        (100, 30, 0.75, [30, 60, 90]),
        (100, 30, 1.0, [30, 60, 90, 100]),
        (180, 100, 0.75, [100, 180]),
    ],
)
def test_the_last_pruning_comes_at_or_after_the_end_or_with_the_last_step(
    steps: int, every: int, end: float, changes: list[int]
) -> None:
    method = Gradual(lenet(), keep=0.05, every=every, end=end)
    seen = walk(method, steps)
    assert [done for done, _ in seen[1:]] == changes and total(seen[-1][1]) == 13_310


@pytest.mark.parametrize(
    ("knobs", "counts"),
    [
        ({"scope": "layer", "keep": 0.05}, [9051, 3340, 919]),
        ({"scope": "layer", "keep": 0.1, "distribution": "uniform"}, [23520, 3000, 100]),
        ({"scope": "row", "keep": 0.05}, [300 * 40, 100 * 15, 10 * 5]),
        ({"scope": "1:4"}, [58_800, 7_500, 250]),
        ({"scope": "layer", "keep": 0.05, "dense": ["head"]}, None),
    ],
)
def test_every_scope_ends_with_its_exact_counts(knobs: dict, counts: list[int] | None) -> None:
    method = Gradual(lenet(), every=20, **knobs)
    seen = walk(method, 260)
    assert nested(seen) and len(seen) > 3
    if counts is None:
        assert total(seen[-1][1]) == kept_count(0.05, 265_200) and method.extra_metrics()["density/head"] == 1
    else:
        assert [int(mask.sum()) for mask in seen[-1][1].values()] == counts


def test_whole_units_go_with_their_biases() -> None:
    method = Gradual(lenet(), every=20, scope="unit", keep=0.1)
    for bias in (method.net.hidden[0].bias, method.net.hidden[1].bias):
        bias.data.fill_(1.0)
    seen = walk(method, 100)
    assert nested(seen)
    assert [int(m.any(1).sum()) for m in seen[-1][1].values()] == [30, 10, 10]
    assert [int(layer.bias.sum()) for layer in method.net.hidden] == [30, 10]


@pytest.mark.parametrize("optimizer", ["adam", "sgd optimizer.momentum=0.9"])
def test_the_smallest_go_and_nothing_of_them_is_left(optimizer: str, build: Callable) -> None:
    bench = build("method=gradual", *SMALL, "method.keep=0.2", "method.every=10", *f"optimizer={optimizer}".split())
    method, after_step, changes = bench.method, bench.method.after_step, []

    def look(progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        before = method.sparse.kept()
        w = {name: method.net.get_parameter(name).clone() for name in before}
        after_step(progress, optimizer)
        now = method.sparse.kept()
        for name, mask in now.items():
            after = method.net.get_parameter(name)
            past = list(moments(optimizer, after))
            assert past and not any(tensor[~mask].any() for tensor in (after, *past))
            assert torch.equal(after[mask], w[name][mask]) and not (mask & ~before[name]).any()
        if total(now) < total(before):
            gone = torch.cat([w[name][before[name] & ~now[name]] for name in now]).abs()
            left = torch.cat([w[name][now[name]] for name in now]).abs()
            assert gone.max() <= left.min()
            changes.append(progress.step + 1)

    method.after_step = look
    bench.go()
    assert changes == [10, 20, 30, 40, 50]
    assert total(method.sparse.kept()) == kept_count(0.2, N)
    assert bench.metrics["density"] == kept_count(0.2, N) / N


# ---- one shot


def test_cut_once_by_magnitude_after_a_dense_training_that_all_share(build: Callable) -> None:
    """The dense training is method=dense's own, bit for bit, and done once for two cuts."""
    words = (*SMALL, "method.finetune=0")
    dense = build("method=dense", *SMALL, "data.normalize=unit", "optimizer=lottery", folder="dense", method=None)
    first = build("method=one_shot", *words, "method.keep=0.1", folder="first").go()
    second = build("method=one_shot", *words, "method.keep=0.3", folder="second").go()
    assert [bench.journal.tally["shared"][0]["key"] for bench in (first, second)] == [first.journal.tally["shared"][0]["key"]] * 2
    assert second.journal.tally["shared"][0]["trained_by"]
    dense.cfg.task = first.cfg.task
    trained = dense.go().method.net.state_dict()
    for bench, keep in ((first, 0.1), (second, 0.3)):
        kept, net = bench.method.sparse.kept(), bench.method.net.state_dict()
        assert total(kept) == kept_count(keep, N)
        assert all(
            torch.equal(value, trained[name] * kept[name] if name in kept else trained[name]) for name, value in net.items()
        )
        left = torch.cat([trained[name][mask] for name, mask in kept.items()]).abs()
        gone = torch.cat([trained[name][~mask] for name, mask in kept.items()]).abs()
        assert gone.max() <= left.min()
        assert bench.metrics["training_cost"] == 1 and bench.metrics["budgets"] == 1


def test_fine_tuning_goes_on_from_the_trained_values_under_the_mask(build: Callable) -> None:
    words = ("method=one_shot", *SMALL, "method.keep=0.1")
    bench = build(*words, "method.finetune=0.5").go()
    method, cut = bench.method, build(*words, "method.finetune=0", folder="cut").go().method
    assert bench.journal.tally["steps"] == 90
    for name, mask in method.sparse.kept().items():
        w, before = method.net.get_parameter(name), cut.net.get_parameter(name)
        assert torch.equal(mask, cut.sparse[name]) and not w[~mask].any()
        assert 0 < float((w - before).detach().norm()) < float(before.detach().norm())
    assert bench.metrics["training_cost"] == pytest.approx(1 + 0.5 * kept_count(0.1, N) / N)
    assert bench.metrics["budgets"] == 1.5


@pytest.mark.parametrize("criterion", ["wanda", "snip", "random", "synflow", "grasp"])
def test_any_criterion_cuts_under_any_scope(criterion: str, build: Callable) -> None:
    words = (*SMALL, "budget.steps=10", "method.scope=2:4", f"method.criterion={criterion}", "method.finetune=0")
    bench = build("method=one_shot", *words).go()
    for mask in bench.method.masks().values():
        assert (mask.unflatten(1, (-1, 4)).sum(-1) == 2).all()
    assert evaluate.accuracy(bench.method, bench.stages[0], bench.stages[0].test) == bench.metrics["accuracy"]


def test_a_share_that_contradicts_the_pattern_is_refused() -> None:
    assert OneShot(lenet(), scope="2:4", keep=0.5).count == {
        "hidden.0.weight": 117_600,
        "hidden.1.weight": 15_000,
        "head.weight": 500,
    }
    for method in (OneShot, Gradual):
        with pytest.raises(UsageError, match="method.keep=0.2 contradicts method.scope=2:4"):
            method(lenet(), scope="2:4", keep=0.2)
