"""What a hook finds when it is called: its place in the phase, gradients in their true size, the optimiser's memory."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.func import functional_call

from maskbench.data.stage import Stage
from maskbench.training.hooks import Hooks, WeightGradients
from maskbench.training.method import Method, Progress
from maskbench.training.optimizers import ByGroup, moments, state_of

SMALL = (
    "method=dense", "data.base=synthetic", "backbone.widths=[8]", "budget.epochs=null", "budget.steps=9", "budget.batch_size=32",
)  # fmt: skip
LAYER = "hidden.0.weight"


class Masked(Method):
    """Half of the first layer is masked."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        w = net.get_parameter(LAYER)
        self.register_buffer("mask", (torch.arange(w.numel()) % 2).view(w.shape).float())

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return {LAYER: self.net.get_parameter(LAYER) * self.mask}


class Recording(Masked):
    """Writes down what its hooks find."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.calls: list[tuple[str, int]] = []
        self.gradients: list[tuple[Tensor, Tensor]] = []

    def before_step(self, progress: Progress) -> None:
        assert progress.total == 9 and progress.phase == "train" and progress.stage.name == "synthetic"
        assert not torch.is_grad_enabled()
        self.calls.append(("before_step", progress.step))

    def wants_weight_gradients(self, progress: Progress) -> bool:
        return progress.step in (2, 5)

    def after_backward(self, progress: Progress) -> None:
        self.calls.append(("after_backward", progress.step))
        if self.weight_gradients:
            grad = self.net.get_parameter(LAYER).grad
            self.gradients.append((self.weight_gradients[LAYER], grad.clone()))
            grad.zero_()  # not the other's memory

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        self.calls.append(("after_step", progress.step))
        assert bool(self.weight_gradients) == (progress.step in (2, 5))
        assert all(m.shape == self.net.get_parameter(LAYER).shape for m in moments(optimizer, self.net.get_parameter(LAYER)))


def test_hooks_are_called_in_order_at_every_step(build: Callable) -> None:
    bench = build(*SMALL, "loop.block=4", method=Recording).go()
    names = ["before_step", "after_backward", "after_step"]
    assert bench.method.calls == [(name, step) for step in range(9) for name in names]


def test_a_phase_that_begins_later_counts_on(build: Callable) -> None:
    bench = build(*SMALL, method=Recording)
    bench.fit(bench.method, bench.stages[0], begin=6)
    assert [step for name, step in bench.method.calls if name == "after_step"] == [6, 7, 8]


def test_weight_gradients_are_dense_and_at_the_chosen_steps_only(build: Callable) -> None:
    method = build(*SMALL, method=Recording).go().method
    assert len(method.gradients) == 2
    for dense, masked in method.gradients:
        assert dense[method.mask == 0].any(), "entries that the mask holds at 0 have theirs"
        assert torch.equal(dense * method.mask, masked)


def test_weight_gradients_are_those_of_autograd(build: Callable) -> None:
    bench = build(*SMALL, method=Masked)
    method, stage = bench.method, bench.stages[0]
    x, y = stage.train.tensors(first=32)
    catch = WeightGradients(method)
    catch.loss((x, y), stage).backward()
    standing_in = (method.net.get_parameter(LAYER) * method.mask).detach().requires_grad_()
    stage.criterion(functional_call(method.net, {LAYER: standing_in}, (x,)), y).backward()
    assert torch.equal(catch.taken(lambda gradient: gradient)[LAYER], standing_in.grad)
    assert "effective_weights" not in vars(method)


class Odd(Masked):
    """Two passes; a frozen tensor in a weight's place; one that the loss does not depend on; a gradient on the way."""

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return super().effective_weights(x, stage) | {"head.bias": torch.zeros(10)}

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        x, y = batch
        x = x.clone().requires_grad_()
        torch.autograd.grad(stage.criterion(self.logits(x, stage), y), x)
        self.effective_weights(x, stage)
        return stage.criterion(self.logits(x.detach(), stage), y) + stage.criterion(self.logits(x.detach(), stage), y)


def test_calls_within_one_loss_add_up_and_frozen_tensors_have_a_gradient_too(build: Callable) -> None:
    bench = build(*SMALL, method=Masked)
    stage, batch = bench.stages[0], bench.stages[0].train.tensors(first=32)
    one, two = WeightGradients(bench.method), WeightGradients(Odd(bench.method.net))
    one.loss(batch, stage).backward()
    two.loss(batch, stage).backward()
    single, double = (catch.taken(lambda gradient: gradient) for catch in (one, two))
    torch.testing.assert_close(double[LAYER], 2 * single[LAYER])
    assert double["head.bias"].any()


class Scaled(Recording):
    """Under a scaler: what the hooks find does not show its factor."""

    def after_backward(self, progress: Progress) -> None:
        if self.weight_gradients:
            self.gradients.append((self.weight_gradients[LAYER], self.net.get_parameter(LAYER).grad.clone()))


@pytest.mark.sample(1)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])  # a fused one takes the scaler's factor out by itself
def test_gradients_of_scaled_losses_have_their_true_size(optimizer: str, build: Callable, same: Callable) -> None:
    benches = {}
    for block in (1, 4):
        bench = build(*SMALL, f"optimizer={optimizer}", f"loop.block={block}", method=Scaled, folder=str(block))
        scaler = torch.amp.GradScaler("cpu", init_scale=4096.0, growth_interval=3)
        bench.fit.trainer = {key: value for key, value in bench.fit.trainer.items() if key != "precision"}
        bench.fit.trainer["plugins"] = [MixedPrecision("16-mixed", "cpu", scaler=scaler)]
        benches[block] = bench.go()
        assert scaler.get_scale() == 4096.0 * 2**3
    same(benches[1], benches[4])
    plain = build(*SMALL, f"optimizer={optimizer}", method=Scaled, folder="plain").go().method
    for (dense, own), (wanted, _) in zip(benches[1].method.gradients, plain.gradients, strict=True):
        torch.testing.assert_close(dense, wanted, atol=0.05 * float(wanted.abs().max()), rtol=0.2)
        torch.testing.assert_close(dense * plain.mask, own, atol=1e-3 * float(wanted.abs().max()), rtol=1e-2)


def test_what_a_method_does_not_override_is_not_called(build: Callable) -> None:
    method = build(*SMALL).method
    hooks = Hooks(method)
    assert not hooks.any
    assert (hooks.before_step, hooks.wants_weight_gradients, hooks.after_backward, hooks.after_step) == (None,) * 4
    assert Hooks(Recording(method.net)).any


def test_progress_runs_from_0_to_1() -> None:
    place = partial(Progress, phase="train", stage=None, stream=("s",))
    assert [place(step, 5).fraction for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert place(0, 1).fraction == 0


def test_what_a_hook_draws_depends_on_its_step_and_names_alone() -> None:
    place = partial(Progress, total=5, phase="train", stage=None, stream=("s",))

    def draw(step: int, *names: str) -> list[float]:
        return torch.rand(4, generator=place(step).generator(*names)).tolist()

    before = torch.get_rng_state()
    assert draw(1) == draw(1) and draw(1) != draw(2) and draw(1) != draw(1, "a")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_method_with_hooks_shares_no_phase_of_a_net_that_others_train_without(build: Callable) -> None:
    class Halved(Method):
        def learn(self, stage: Stage, fit: Callable) -> None:
            fit(self, stage, shared=self.net)

        def after_backward(self, progress: Progress) -> None:
            for p in self.net.parameters():
                p.grad /= 2

    class Unhooked(Method):
        learn = Halved.learn

    first = build(*SMALL, "optimizer=sgd", method=Unhooked, folder="a").go()
    second = build(*SMALL, "optimizer=sgd", method=Halved, folder="b").go()
    assert "shared" in first.journal.tally and "shared" not in second.journal.tally
    assert not torch.equal(first.state[f"net.{LAYER}"], second.state[f"net.{LAYER}"])


# ---- what an optimiser remembers


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (torch.optim.Adam, {"exp_avg", "exp_avg_sq", "step"}),
        (partial(torch.optim.Adam, fused=True), {"exp_avg", "exp_avg_sq", "step"}),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), {"momentum_buffer"}),
        (partial(torch.optim.RMSprop, lr=0.1), {"square_avg", "step"}),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_moments_are_what_is_kept_entry_by_entry(make: Callable, names: set[str], grouped: bool) -> None:
    w, scalar = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.tensor(1.0))
    groups = [{"name": "a", "params": [w]}, {"name": "b", "params": [scalar]}]
    optimizer = ByGroup(groups, recipes={"a": make, "b": make}) if grouped else make([w, scalar])
    assert state_of(optimizer, w) == {} and list(moments(optimizer, w)) == []
    (w.sum() + scalar).backward()
    optimizer.step()
    assert set(state_of(optimizer, w)) == names
    count = len(names - {"step"})
    assert [m.shape for m in moments(optimizer, w)] == [w.shape] * count
    assert len(list(moments(optimizer, scalar))) == count, "the number of steps is none of them, whatever its shape"
    for m in moments(optimizer, w):
        m[0] = 0.0
    assert all(not state_of(optimizer, w)[name][0].any() for name in names - {"step"})


def test_parts_of_an_optimiser_step_after_one_evaluation_of_the_closure() -> None:
    w, v = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups = [{"name": "a", "params": [w]}, {"name": "b", "params": [v]}]
    optimizer = ByGroup(groups, recipes={"a": partial(torch.optim.SGD, lr=1.0), "b": partial(torch.optim.SGD, lr=0.5)})
    calls = []

    def closure() -> None:
        calls.append(1)
        (w.sum() + v.sum()).backward()

    with torch.no_grad():
        optimizer.step(closure)
    assert calls == [1] and w.tolist() == [0, 0] and v.tolist() == [0.5, 0.5]
