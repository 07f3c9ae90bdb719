"""Re-drawing of pruned weights, cut gradients, rates chosen for testing, and training without an inner loop."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskbench.backbones.few_shot import BatchMLP
from maskbench.backbones.initial import RULES
from maskbench.common.errors import UsageError
from maskbench.data.episodes.stages import Tasks
from maskbench.methods.meta.episodic import Episodic
from maskbench.training.method import Progress

TICKET = {"outer": [], "adapted": ["*"], "masked": ["*", "!head.*"], "rate": 0.1, "steps": 1, "test_steps": 1}
PLAIN = {"outer": ["*"], "adapted": ["*"], "masked": [], "rate": 0.1, "steps": 1, "test_steps": 1}


def ticket(**knobs) -> Episodic:
    torch.manual_seed(0)
    return Episodic(BatchMLP((300,), 5, widths=[200, 100], init="kaiming_normal"), **(TICKET | {"dropped": 0.4} | knobs))


def at(step: int, *words: object) -> Progress:
    return Progress(step, 10_000, "train", None, (0, "train", *words))


@torch.no_grad()
def after(method: Episodic, step: int, *words: object) -> dict[str, torch.Tensor]:
    method.after_step(at(step, *words), torch.optim.SGD(method.trainable_parameters(), lr=1.0))
    return {name: method.net.get_parameter(name).detach().clone() for name in method.masked}


# ---- which weights are drawn anew, and how


def test_what_is_off_is_drawn_anew_and_what_is_on_stays() -> None:
    method = ticket(redraw_every=1000)
    before = after(method, 998)
    x = torch.rand(20, 300)
    answer = method.output(method.start(), method.binary_masks(), x)
    now = after(method, 999)
    for name, mask in ((n, method.masks()[f"0/{n}"]) for n in method.masked):
        assert 0.3 < (~mask).float().mean() < 0.5
        assert torch.equal(now[name][mask], before[name][mask])
        fresh, old = now[name][~mask], before[name][~mask]
        assert (fresh != old).all()
        assert fresh.std().item() == pytest.approx((2 / before[name].shape[1]) ** 0.5, rel=0.03)
        assert abs(torch.corrcoef(torch.stack([fresh, old]))[0, 1]) < 0.05
    assert torch.equal(method.output(method.start(), method.binary_masks(), x), answer), "the masked net is the same"


@pytest.mark.parametrize(("every", "times"), [(None, []), (3, [2, 5, 8]), (1, list(range(10)))])
def test_after_every_so_many_steps(every: int | None, times: list[int]) -> None:
    method, moved = ticket(redraw_every=every), []
    last = {name: method.net.get_parameter(name).detach().clone() for name in method.masked}
    for step in range(10):
        now = after(method, step)
        if any(not torch.equal(now[name], last[name]) for name in now):
            moved.append(step)
        last = now
    assert moved == times


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_each_is_drawn_with_a_chance(share: float) -> None:
    method = ticket(redraw_every=1, redraw_share=share)
    before = {name: method.net.get_parameter(name).detach().clone() for name in method.masked}
    now = after(method, 0)
    off = torch.cat([~method.masks()[f"0/{name}"].flatten() for name in now])
    moved = torch.cat([(now[name] != before[name]).flatten() for name in now])
    assert not (moved & ~off).any()
    assert moved[off].float().mean().item() == pytest.approx(share, abs=0.02)


def test_draws_are_named_and_leave_the_global_stream_alone() -> None:
    state = torch.get_rng_state()
    first, again = ticket(redraw_every=1), ticket(redraw_every=1)
    torch.set_rng_state(state)
    one, same = after(first, 7), after(again, 7)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (after(again, 8), after(again, 7, "another")):
        assert not any(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_new_values_follow_the_rule_of_the_first(rule: str) -> None:
    method = ticket(weights=rule, redraw_every=1)
    first = {name: method.net.get_parameter(name).detach().clone() for name in method.masked}
    for name, w in after(method, 0).items():
        off = ~method.masks()[f"0/{name}"]
        assert w[off].std().item() == pytest.approx(first[name].std().item(), rel=0.05, abs=1e-6)
        assert w[off].abs().max().item() == pytest.approx(first[name].abs().max().item(), rel=0.3)


# ---- in runs


RUN = ("method=meta_ticket", "data.base=synthetic", "backbone.widths=[16,8]", "data.test=16", "data.val=4", "task.curve=0",
       "task.steps=[0]", "schedule=constant", "method.dropped=0.3")  # fmt: skip
AGAIN = (*RUN, "budget.steps=14", "method.redraw_every=4", "method.redraw_share=0.5")


@pytest.mark.full
def test_runs_with_new_draws_have_equal_bits_at_every_block_size(build: Callable, same: Callable) -> None:
    one, *others = (build(*AGAIN, f"loop.block={n}", folder=str(n)).go() for n in (1, 3, 14))
    for other in others:
        same(one, other)
    fixed = build(*AGAIN, "method.redraw_every=null", "method.redraw_share=null", folder="fixed").go()
    assert not torch.equal(one.state["net.hidden.0.weight"], fixed.state["net.hidden.0.weight"])
    assert not torch.equal(one.state["scores.hidden|0|weight"], fixed.state["scores.hidden|0|weight"])


@pytest.mark.full
@pytest.mark.parametrize("every", [0, 1e9], ids=["saved-always", "saved-never"])
def test_an_interrupted_run_with_new_draws_goes_on_bit_for_bit(
    every: float, build: Callable, relay: Callable, same: Callable
) -> None:
    """Attempts end before, in and after the blocks in which weights are drawn anew."""
    words = (*AGAIN, "loop.block=3", f"loop.checkpoint_seconds={every}")
    calm = build(*words, folder="calm").go()
    same(calm, relay(*words, folder="resumed", halts=[1, 1, 2] if every == 0 else [2, 4]))


# ---- cut gradients


def test_entries_of_the_outer_gradient_are_cut() -> None:
    torch.manual_seed(0)
    method = Episodic(BatchMLP((9,), 5, widths=[8]), **PLAIN, clip=0.5)
    raw = {}
    for name, p in method.net.named_parameters():
        raw[name] = p.grad = torch.randn_like(p)
    method.net.head.bias.grad = None
    raw = {name: grad.clone() for name, grad in raw.items() if name != "head.bias"}
    method.after_backward(at(0))
    for name, grad in raw.items():
        assert torch.equal(method.net.get_parameter(name).grad, grad.clamp(-0.5, 0.5))
    assert method.net.head.bias.grad is None


def test_a_step_of_training_is_of_cut_gradients(build: Callable) -> None:
    """SGD moves no weight by more than rate times the bound, and by exactly that where the gradient is larger."""
    words = ("method=maml", "data.base=synthetic", "backbone.widths=[16]", "data.test=16", "task.curve=0", "task.steps=[0]",
             "optimizer=sgd", "optimizer.lr=1.0", "optimizer.momentum=0", "budget.steps=1")  # fmt: skip
    moves = []
    for clip, folder in ((1e-3, "cut"), ("null", "whole")):
        bench = build(*words, f"method.clip={clip}", folder=folder)
        before = bench.state
        bench.go()
        moves.append({n: (bench.state[n] - before[n]).double() for n in before})
    cut, whole = moves
    for name, move in cut.items():
        assert torch.allclose(move, whole[name].clamp(-1e-3, 1e-3), atol=1e-7)
    assert any((whole[name].abs() > 2e-3).any() for name in whole)


# ---- no inner loop in training, a rate chosen for testing


class Waves:
    criterion = staticmethod(F.mse_loss)


def test_without_inner_steps_the_loss_is_that_of_all_tasks_at_once() -> None:
    torch.manual_seed(0)
    net = nn.Sequential()
    net.head = nn.Linear(1, 1)
    net.forward = net.head.forward
    method = Episodic(net, **(PLAIN | {"steps": 0})).double()
    x, y = torch.randn(4, 9, 1, dtype=torch.float64), torch.randn(4, 9, 1, dtype=torch.float64)
    loss = method.loss((Tasks(x, y[:, :5]), y[:, 5:]), Waves)
    assert loss.item() == pytest.approx(F.mse_loss(net.head(x[:, 5:]), y[:, 5:]).item(), abs=1e-14)
    other = method.loss((Tasks(torch.cat([x[:, :5] + 1, x[:, 5:]], 1), -y[:, :5]), y[:, 5:]), Waves)
    assert torch.equal(loss, other), "the support set tells nothing"


PRETRAINED = ("method=pretrained", "data=sinusoid", "backbone=sinusoid_mlp", "optimizer=adam", "budget.steps=60", "data.test=40",
              "data.val=20", "data.test_shots=[]", "task.curve=0", "task.steps=[1]", "method.test_steps=3",
              "method.test_rates=[0.3,1e-4,0.02]")  # fmt: skip


def test_the_rate_of_testing_has_the_least_loss_on_validation_episodes(build: Callable, relay: Callable, same: Callable) -> None:
    bench = build(*PRETRAINED).go()
    (stage,) = bench.stages
    tasks, y = stage.val.tensors()
    losses = {}
    for rate in (0.3, 1e-4, 0.02):
        plain = Episodic(bench.method.net, **(PLAIN | {"rate": rate, "steps": 0, "test_steps": 3}))
        losses[rate] = F.mse_loss(plain.logits(tasks, stage).detach(), y).item()
        if rate == bench.metrics["test_rate"]:
            answers = plain.after(tasks, stage, [0, 1, 3])
            assert torch.equal(answers, bench.method.after(tasks, stage, [0, 1, 3]))
    assert bench.metrics["test_rate"] == min(losses, key=losses.get) and len(set(losses.values())) == 3
    twin = build(*PRETRAINED, folder="twin").method
    twin.load_state_dict(bench.method.state_dict())
    assert torch.equal(twin.logits(tasks, stage), bench.method.logits(tasks, stage)), "the choice is part of the state"
    words = (*PRETRAINED, "loop.block=20", "loop.checkpoint_seconds=0")
    same(bench, relay(*words, folder="resumed", halts=[1, 1]))


def test_an_oracle_learns_from_three_inputs(build: Callable) -> None:
    words = (*PRETRAINED, "task.steps=[0]", "budget.steps=300", "optimizer.lr=0.01")
    told, blind = (build(*words, f"data.oracle={value}", folder=value).go() for value in ("true", "null"))
    assert (told.method.net.hidden[0].in_features, blind.method.net.hidden[0].in_features) == (3, 1)
    assert told.metrics["mse/0"] < 0.6 * blind.metrics["mse/0"], "blind, nothing is better than the mean of all waves"


@pytest.mark.parametrize(
    ("knobs", "hint"),
    [
        ({"clip": 0.0}, "method.clip=0.* above 0"),
        ({"redraw_every": 0}, "method.redraw_every=0"),
        ({"redraw_share": 0.5}, "goes with method.redraw_every"),
        ({"redraw_share": 1.5}, "method.redraw_share=1.5"),
        ({"test_rates": []}, "test_rates"),
        ({"test_rates": [0.1, -1.0]}, "test_rates"),
    ],
)
def test_wrong_knobs_are_refused(knobs: dict, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        ticket(**knobs)
