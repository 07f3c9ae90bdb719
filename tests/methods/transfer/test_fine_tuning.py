"""Fine-tuning and its rivals: what moves, where it starts, and what penalties do at their ends."""

from collections.abc import Callable

import pytest
import torch
from torch.func import functional_call

from maskbench.backbones.features import layers, tapped
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.dense import Dense
from maskbench.methods.transfer.fine_tuning import FineTuning

TINY = (
    "data.n_source=200", "data.n_target=12", "data.val=20", "data.test=60", "backbone.widths=[24,16]",
    "budget.steps=20", "budget.batch_size=50",
)  # fmt: skip
SPLIT = ("data=digits_split", "data.base=synthetic", "data.n_target=3", "budget.steps=6", "budget.batch_size=32")


def run(build: Callable, *words: str, **how):
    """(bench, weights after the source, weights after the target)."""
    bench, states = build(*words, **how), []
    bench.journal.on_part = lambda *_: states.append(
        {name: value.clone() for name, value in bench.method.net.state_dict().items()}
    )
    bench.go()
    return bench, *states


def test_plain_fine_tuning_is_training_on(build: Callable, same: Callable) -> None:
    """Bit for bit what one dense net does that is trained on the source and then on the target."""
    ours = run(build, "method=transfer_finetune", *TINY, folder="ours")
    dense = run(build, "method=transfer_finetune", *TINY, folder="dense", method=Dense)
    for mine, theirs in zip(ours[1:], dense[1:], strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert ours[0].metrics["target_rmse"] == dense[0].metrics["target_rmse"]


def test_the_last_layer_alone_moves(build: Callable) -> None:
    _, before, after = run(build, "method=transfer_last_layer", *TINY, "optimizer.weight_decay=0.1")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


def test_features_stay_with_their_statistics(build: Callable) -> None:
    words = ("method=transfer_last_layer", *SPLIT, "backbone=resnet20", "backbone.width=0.25")
    _, before, after = run(build, *words)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("bn, moved", [("train", True), ("freeze", False)])
def test_norm_statistics_follow_their_policy(build: Callable, bn: str, moved: bool) -> None:
    words = ("method=transfer_finetune", *SPLIT, "backbone=resnet20", "backbone.width=0.25", f"method.bn={bn}")
    _, before, after = run(build, *words)
    assert torch.equal(before["norm.running_mean"], after["norm.running_mean"]) != moved


def test_scratch_owes_nothing_to_the_source(build: Callable) -> None:
    bench = build("method=transfer_scratch", *TINY)
    start = {name: value.clone() for name, value in bench.method.net.state_dict().items()}
    bench.method.learn(bench.stages[0], bench.fit)
    seen = []

    def fit(method, stage, **phase) -> None:
        seen.append({name: value.clone() for name, value in method.net.state_dict().items()})

    bench.method.learn(bench.stages[1], fit)
    assert all(torch.equal(seen[0][name], value) for name, value in start.items())


def test_a_target_of_other_classes_gets_a_fresh_head(build: Callable) -> None:
    bench, before, after = run(build, "method=transfer_l2_sp", *SPLIT, "backbone=lenet_300_100", "backbone.widths=[24,12]")
    source, target = bench.stages
    assert bench.method.fresh(target) and not bench.method.has_learned(source) and bench.method.has_learned(target)
    assert bench.metrics["source_accuracy_unloaded"] is None and bench.metrics["unload_drift"] is None
    gap = sum((after[name] - before[name]).square().sum() for name in after if not name.startswith("head"))
    head = sum(after[name].square().sum() for name in after if name.startswith("head"))
    assert bench.method.penalty(target).item() == pytest.approx((0.01 * gap + 0.005 * head).item(), rel=1e-5)


def test_l2_sp_holds_the_net_at_the_source_and_l2_at_zero(build: Callable) -> None:
    def size(method: str, strength: str, folder: str) -> tuple[float, float]:
        words = (f"method={method}", *TINY, f"method.{strength}", "budget.steps=400", "optimizer.lr=0.01")
        _, before, after = run(build, *words, folder=folder)
        moved = sum((after[n] - before[n]).square().sum().item() for n in after)
        return moved, sum(value.square().sum().item() for value in after.values())

    free, held = size("transfer_l2_sp", "l2_sp=1e-6", "free"), size("transfer_l2_sp", "l2_sp=10", "held")
    assert held[0] < 0.1 * free[0]
    assert size("transfer_l2", "l2=10", "zero")[1] < 0.1 * free[1]


def test_without_strength_each_penalty_is_plain_fine_tuning(build: Callable) -> None:
    plain = run(build, "method=transfer_finetune", *TINY)[2]
    for name, key in (("l2", "l2"), ("l2_sp", "l2_sp"), ("delta", "delta"), ("bss", "bss")):
        words = (f"method=transfer_{name}", *TINY, f"method.{key}=0", "method.head_l2=0")
        other = run(build, *words, folder=name)[2]
        assert all(torch.equal(plain[n], other[n]) for n in plain), name


def test_penalties_add_up(build: Callable) -> None:
    """The loss with all of them is the plain loss plus each of them alone."""
    keys = {"l2": 0.3, "l2_sp": 0.2, "delta": 0.5, "bss": 0.7}
    bench = build("method=transfer_finetune", *TINY)
    stage = bench.stages[1]
    batch = stage.train.tensors()

    def loss(**strengths: float) -> float:
        torch.manual_seed(0)
        method = FineTuning(MLP((10,), 1, widths=[24, 16], init="torch"), **strengths)
        method.stage = 1
        if method.source is not None:
            for p in method.source.parameters():
                p.data.add_(0.05)
        for name in layers(method.net) if strengths.get("delta") else []:
            method.attention.put(name, torch.linspace(0, 1, 24 if name == "gates.0" else 16))
        return method.loss(batch, stage).item()

    plain = loss()
    alone = sum(loss(**{key: value}) - plain for key, value in keys.items())
    assert loss(**keys) - plain == pytest.approx(alone, rel=1e-4)


def test_attention_switches_channels_off(build: Callable) -> None:
    """By hand on the source's net: the loss with one unit's output at 0, for every unit."""
    bench = build("method=transfer_delta", *TINY)
    source, target = bench.stages
    bench.method.learn(source, bench.fit)
    bench.method.attend(target, bench.fit)
    x, y = target.train.tensors()
    with torch.no_grad():
        plain = target.criterion(bench.method.net(x), y)
        costs = []
        for j in range(16):
            gain = torch.ones(16)
            gain[j] = 0
            costs.append(target.criterion(functional_call(bench.method.net, {"gates.1.gain": gain}, (x,)), y) - plain)
    assert torch.allclose(bench.method.attention["gates.1"], torch.stack(costs).softmax(0))


def test_delta_trains_a_fresh_head_before_it_judges_channels(build: Callable) -> None:
    words = ("method=transfer_delta", *SPLIT, "backbone=lenet_300_100", "backbone.widths=[24,12]")
    bench, phases = build(*words), []

    class Watched:
        def __getattr__(self, name: str):
            return getattr(bench.fit, name)

        def __call__(self, method, stage, **phase):
            before = {n: v.clone() for n, v in method.net.state_dict().items()}
            result = bench.fit(method, stage, **phase)
            phases.append((phase["name"], {n for n, v in method.net.state_dict().items() if not torch.equal(v, before[n])}))
            return result

    bench.go(learner=Watched())
    assert [name for name, _ in phases] == ["train", "head", "train"]
    assert phases[1][1] == {"head.weight", "head.bias"}


def test_taps_see_layers_and_the_heads_input_and_leave_no_hooks() -> None:
    net = MLP((5,), 2, widths=[4, 3])
    x = torch.randn(6, 5)
    assert layers(net) == ["gates.0", "gates.1"]
    with tapped(net, layers(net), head=True) as seen:
        net(x)
    assert {name: f.shape for name, f in seen.items()} == {"gates.0": (6, 4), "gates.1": (6, 3), "head": (6, 3)}
    assert torch.equal(seen["head"], seen["gates.1"])
    seen.clear()
    net(x)
    assert not seen


@pytest.mark.parametrize(
    "knobs", [{"start": "zero"}, {"moves": "trunk"}, {"bn": "free"}, {"l2": -1}, {"bss": -0.1}, {"bss_k": 0}]
)
def test_a_knob_that_does_not_work_is_refused(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        FineTuning(MLP((5,), 2, widths=[4]), **knobs)
