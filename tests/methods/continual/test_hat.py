"""HAT: annealing, what gradients become, what is kept, open gates and drift."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskbench.backbones.few_shot import WideResNet
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data.stage import Origin, Split, Stage, in_order
from maskbench.methods.continual.hat import HAT
from maskbench.training import evaluate
from maskbench.training.method import Progress

TINY = ("method=hat", "data.base=synthetic", "backbone.widths=[24,12]", "budget.batch_size=32", "task.probe=50")
DECAY = ("optimizer=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9", "optimizer.weight_decay=0.01")
ADAM = ("optimizer=adam", "optimizer.lr=0.01", "optimizer.weight_decay=0.01")
NORM_NET = ("backbone=resnet20", "backbone.base=2", "backbone.blocks=[1,1]", "budget.batch_size=128", "backbone.widths=null")


def stages(rows: int = 20, count: int = 2) -> list[Stage]:
    made = []
    for index in range(count):
        x = torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(index))
        split = Split(x, (x.flatten(1)[:, index] > 0).long())
        made.append(
            Stage(index=index, total=count, name=str(index), train=split, val=split, test=split, classes=(0, 1), outputs=2,
                  shape=(1, 4, 4), origin=Origin("made", "synthetic"))
        )  # fmt: skip
    return in_order(made)


def small(**knobs: object) -> HAT:
    torch.manual_seed(0)
    return HAT(MLP((1, 4, 4), 2, widths=[8, 6]), **knobs)


def at(step: int, stage: Stage, total: int = 10, batch: int = 4) -> Progress:
    return Progress(step, total, "train", stage, ("train",), batch)


# ---- annealing


def test_s_rises_from_the_inverse_of_smax_within_every_epoch_by_the_rows_before_the_batch() -> None:
    method, (stage, _) = small(smax=100.0), stages(rows=18)  # five steps of 4, the last of 2
    seen = []
    for step in range(10):
        method.before_step(at(step, stage))
        seen.append(method.s)
    assert seen[:5] == seen[5:]
    assert seen[:5] == pytest.approx([0.01 + (100 - 0.01) * row / 18 for row in (0, 4, 8, 12, 16)])


def test_a_training_shorter_than_an_epoch_is_refused() -> None:
    method, (stage, _) = small(), stages()
    method.before_step(at(0, stage, total=5))
    with pytest.raises(UsageError, match=r"4 steps are less than one of stage 0 \(5 steps of 4\).*budget.epochs=1"):
        method.before_step(at(0, stage, total=4))


def test_so_it_is_of_a_run(build: Callable) -> None:
    with pytest.raises(UsageError, match=r"3 steps are less than one of stage 0/1"):
        build(*TINY, "budget.epochs=null", "budget.steps=3").go()


def test_the_loop_says_how_many_rows_a_batch_has(build: Callable) -> None:
    bench, seen = build(*TINY, "budget.epochs=2"), []
    before = bench.method.before_step

    def look(progress: Progress) -> None:
        seen.append((progress.stage.index, progress.row, progress.steps_per_epoch))
        before(progress)

    bench.method.before_step = look
    bench.go()
    rows = len(bench.stages[0].train)
    own = [row for stage, row, _ in seen if stage == 0]
    assert own == 2 * list(range(0, rows, 32)) and {n for stage, _, n in seen if stage == 0} == {math.ceil(rows / 32)}


# ---- gradients


def compensated(e: float, s: float, smax: float = 400.0) -> float:
    """The gradient of an embedding, where that of its gate is 1."""
    method, (stage, _) = small(smax=smax), stages()
    name = next(iter(method.gates))
    method.embeddings[name].data.fill_(e)
    method.s = s
    method.train()
    (method.gating(stage)[name].sum() + 0 * sum(method.embeddings[n].sum() for n in method.gates)).backward()
    with torch.no_grad():
        method.after_backward(at(0, stage))
    return float(method.embeddings[name].grad[0])


@given(st.floats(-0.4, 0.4), st.floats(0.1, 400.0))
def test_the_compensated_gradient_is_that_of_the_gate_itself_at_steepness_smax(e: float, s: float) -> None:
    """smax sigmoid'(e), whatever s; where s e is above -50 and what float32 rounds sigmoid to is not yet near 1."""
    if not -50 < s * e < 10:
        return
    wanted = 400.0 * math.exp(-e) / (1 + math.exp(-e)) ** 2
    assert compensated(e, s) == pytest.approx(wanted, rel=5e-3)


def test_a_gate_that_is_on_is_locked_and_one_that_is_off_is_not() -> None:
    """float32 rounds sigmoid(20) to 1, so that y (1 - y) is 0; sigmoid(-20) is not rounded to 0."""
    assert compensated(0.05, 400.0) == 0.0
    assert compensated(-0.05, 400.0) == pytest.approx(400 * 0.25, rel=0.01)
    assert 0 < compensated(-0.15, 400.0) < 1e-2, "further off than -50 it is moved less and less"


def test_embeddings_stay_within_six() -> None:
    method, (stage, _) = small(), stages()
    for name in method.gates:
        method.embeddings[name].data.mul_(100)
    with torch.no_grad():
        method.after_step(at(0, stage), torch.optim.SGD(method.embeddings.parameters(), lr=0.1))
    assert all(method.embeddings[name].abs().max().item() == 6.0 for name in method.gates)


def test_the_regulariser_is_the_mean_gate_and_then_that_over_what_is_left() -> None:
    method = small()
    gates = {name: torch.rand(gate.shape) for name, gate in method.gates.items()}
    a = torch.cat(list(gates.values()))
    assert float(method.regulariser(gates)) == pytest.approx(float(a.mean()))
    for name, gate in method.gates.items():
        method.used.put(name, torch.rand(gate.shape))
    left = 1 - torch.cat([method.used[name] for name in method.gates])
    assert float(method.regulariser(gates)) == pytest.approx(float((a * left).sum() / left.sum()))
    for name, gate in method.gates.items():
        method.used.put(name, torch.ones(gate.shape))
    assert float(method.regulariser(gates)) == 0.0, "a full net has nothing left to save"


def test_weights_move_by_what_is_left_of_the_two_units_they_join() -> None:
    method, (_, later) = small(), stages()
    one, two = (torch.rand(gate.shape) for gate in method.gates.values())
    for name, values in zip(method.gates, (one, two), strict=True):
        method.used.put(name, values)
    for w in [*method.trunk.values(), *(method.embeddings[name] for name in method.gates)]:
        w.grad = torch.ones_like(w)
    with torch.no_grad():
        method.after_backward(at(0, later))
    net = method.net
    assert torch.equal(net.hidden[0].weight.grad, (1 - one)[:, None].expand(8, 16))
    assert torch.equal(net.hidden[0].bias.grad, 1 - one) and torch.equal(net.hidden[1].bias.grad, 1 - two)
    wanted = torch.tensor([[1 - min(float(i), float(j)) for j in one] for i in two])
    assert torch.allclose(net.hidden[1].weight.grad, wanted, atol=1e-7)


# ---- what a finished stage keeps


def test_a_stage_has_gates_of_its_own_and_use_never_falls(build: Callable) -> None:
    bench, used = build(*TINY), []
    bench.journal.on_part = lambda name, value: used.append({n: bench.method.used[n].clone() for n in bench.method.gates})
    method = bench.go().method
    for earlier, now in zip(used, used[1:], strict=False):
        assert all((now[name] >= earlier[name]).all() for name in now)
    for name in method.gates:
        every = torch.stack([method.finished[f"{t}/{name}"] for t in range(5)])
        assert torch.equal(every.amax(0), method.used[name]) and len(every.unique(dim=0)) == 5
    assert set(method.masks()) == {f"{t}/{name}" for t in range(5) for name in method.gates}


def test_weights_between_units_used_for_good_are_kept(build: Callable) -> None:
    bench, kept = build(*TINY, *DECAY), []

    def look(name: str, value: dict) -> None:
        method = bench.method
        now = {n: method.owners.present(method.trunk)[n].detach().clone() for n in method.trunk}
        for frozen, values in kept:
            assert all(torch.equal(now[n][frozen[n]], values[n][frozen[n]]) for n in now)
        frozen = {n: (method.between[n].both(method.used, w.ndim) == 1).expand_as(w) for n, w in method.trunk.items()}
        assert all(torch.equal(frozen[n], ~method.owners.free(n)) for n in frozen)
        kept.append((frozen, now))

    bench.journal.on_part = look
    assert bench.go().metrics["free"] < 1
    assert any(not torch.equal(now[n], bench.method.trunk[n]) for _, now in kept for n in now), "decay moved what is not read"


@pytest.mark.sample(1)
@pytest.mark.parametrize("recipe", [DECAY, ADAM], ids=["momentum", "adam"])
@pytest.mark.parametrize("net", [pytest.param((), id="mlp", marks=pytest.mark.full), pytest.param(NORM_NET, id="norms")])
def test_with_binary_gates_no_logit_of_a_finished_stage_moves(build: Callable, net: tuple, recipe: tuple) -> None:
    words = [word for word in (*TINY, *net, *recipe) if not net or "widths" not in word]
    bench, heard = build(*words, "method.binary=true"), []

    def listen(name: str, value: dict) -> None:
        now = [evaluate.logits(bench.method, s, s.test, 100) for s in bench.stages if bench.method.has_learned(s)]
        assert all(torch.equal(a, b) for a, b in zip(heard, now, strict=False))
        heard[:] = now

    bench.journal.on_part = listen
    metrics = bench.go().metrics
    assert len(heard) == 5 and metrics["logit_drift"] == 0.0 and metrics["open_gates"] == 0.0


@pytest.mark.parametrize("smax", [20.0, 4000.0])
def test_a_stage_drifts_through_open_gates_alone(build: Callable, smax: float) -> None:
    metrics = build(*TINY, *DECAY, f"method.smax={smax}").go().metrics
    soft = smax == 20.0
    assert (metrics["open_gates"] > 0) == soft and (metrics["logit_drift"] > 0) == soft


def test_nor_across_interruptions(relay: Callable) -> None:
    words = (*TINY, *DECAY, "method.binary=true", "loop.block=1")
    bench = relay(*words, folder="resumed", halts=[5, 13, 3])
    assert len(bench.journal.done) == 5 and bench.metrics["logit_drift"] == 0.0


def filled(method: HAT, gates: dict[str, Tensor], stage: Stage) -> HAT:
    """A method that has learnt a stage with these gates."""
    method.heads.open(stage.index, method.net.head)
    for name, gate in gates.items():
        method.embeddings[name].data.copy_(gate)
    method.finish(stage)
    return method


def test_open_gates_are_counted_where_earlier_stages_have_not_closed_them() -> None:
    """A unit that an earlier stage uses for good has its weights kept: a later stage's half-open gate on it opens nothing."""
    method, (first, second) = small(), stages()
    on, off, between = 1.0, -1.0, 0.01
    gates = {name: torch.full(gate.shape, off) for name, gate in method.gates.items()}
    one, two = gates.values()
    one[0], one[1] = on, between
    filled(method, gates, first)
    assert method.extra_metrics()["open_gates"] == 1
    one[0], one[1], two[0] = between, on, on
    filled(method, gates, second)
    kept = 37 / 190  # two rows of 16 and their biases in layer 1, a row's two weights and its bias in layer 2
    wanted = {"open_gates": 1, "gates_on": 3 / 14, "dead_units": 11 / 14, "used": kept, "free": 1 - kept}
    assert method.extra_metrics() == pytest.approx(wanted)


# ---- size, refusals


def test_what_is_stored_of_lenet() -> None:
    """spec: 1,062,400 bytes, and a stage 808 of a head of two with 50 (bits) or 1,600 (floats) of gates."""
    for binary, gates in ((True, 50), (False, 1600)):
        method = HAT(MLP((1, 28, 28), 2, widths=[300, 100]), binary=binary)
        assert method.memory() == {"shared": 1_062_400, "stage": 808 + gates}


def test_nets_without_gates_that_part_their_layers_are_refused() -> None:
    with pytest.raises(UsageError, match="method=hat needs a backbone with gates"):
        HAT(torch.nn.Sequential(torch.nn.Linear(4, 2)))
    with pytest.raises(UsageError, match="a gate must stand behind every hidden layer"):
        HAT(WideResNet((3, 8, 8), 2, depth=10, widen=1, width=0.25))


@pytest.mark.parametrize("knob, value", [("smax", 1.0), ("smax", -3.0), ("lam", -0.1), ("binary", "yes")])
def test_knobs_out_of_range_are_refused(knob: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"method.{knob}="):
        small(**{knob: value})
