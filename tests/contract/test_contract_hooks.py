"""The hooks into a training step, held to the contract by three small methods: one anneals, one edits gradients unit by unit,
one moves its mask by dense gradients. Also imported, as an outside method's module, by the run on two devices."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from maskbench.common.streams import generator
from maskbench.data.stage import Stage
from maskbench.training.method import Method, Progress
from maskbench.training.optimizers import moments

STEPS = 61  # no multiple of a block, and the mask moves in three of them
SMALL = (
    "method=dense", "data.base=synthetic", "backbone.widths=[16,12]", "budget.epochs=null", f"budget.steps={STEPS}",
    "budget.batch_size=32", "loop.log_every=30",
)  # fmt: skip


def layers(net: nn.Module) -> dict[str, nn.Parameter]:
    return {name: w for name, w in net.named_parameters() if w.ndim == 2}


class Annealed(Method):
    """Each weight passes a gate that hardens over the phase: w * sigmoid(s |w|), s from 1 to 50."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.register_buffer("s", torch.tensor(1.0))

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return {name: w * torch.sigmoid(self.s * w.abs()) for name, w in layers(self.net).items()}

    def before_step(self, progress: Progress) -> None:
        self.s.fill_(1 + 49 * progress.fraction)


class Tiring(Method):
    """A unit learns the slower, the more gradient has come to it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        for name, w in layers(net).items():
            self.register_buffer(f"come_{name.replace('.', '_')}", torch.zeros(len(w)))

    def after_backward(self, progress: Progress) -> None:
        for name, w in layers(self.net).items():
            come = self.get_buffer(f"come_{name.replace('.', '_')}")
            come += w.grad.abs().sum(1)
            w.grad /= 1 + come[:, None]


class Moving(Method):
    """A sparse net whose mask moves every 20 steps: of the weights it keeps, the 30 % smallest are exchanged for those it drops
    whose gradient would be largest; newborn weights are 0, and the optimiser has no past of them."""

    def __init__(self, net: nn.Module, *, every: int = 20) -> None:
        super().__init__(net)
        self.every = every
        for name, w in layers(net).items():
            kept = torch.rand(w.shape, generator=generator("mask", name)) < 0.4
            self.register_buffer(f"mask_{name.replace('.', '_')}", kept.float())

    def mask(self, name: str) -> Tensor:
        return self.get_buffer(f"mask_{name.replace('.', '_')}")

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return {name: w * self.mask(name) for name, w in layers(self.net).items()}

    def wants_weight_gradients(self, progress: Progress) -> bool:
        return progress.step % self.every == self.every - 1

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        for name, gradient in self.weight_gradients.items():
            w, mask = self.net.get_parameter(name), self.mask(name).view(-1)
            alive, dropped = mask.nonzero()[:, 0], (mask == 0).nonzero()[:, 0]
            count = round(0.3 * len(alive))
            leaving = alive[w.view(-1)[alive].abs().argsort(stable=True)[:count]]
            newborn = dropped[gradient.view(-1)[dropped].abs().argsort(stable=True, descending=True)[:count]]
            mask[leaving], mask[newborn] = 0.0, 1.0
            for tensor in (w, *moments(optimizer, w)):
                tensor.view(-1)[newborn] = 0.0


class Watching(Method):
    """All hooks, and the weight gradients at every step, without any effect."""

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return {name: w * torch.ones_like(w) for name, w in layers(self.net).items()}

    def before_step(self, progress: Progress) -> None:
        torch.rand(3, generator=progress.generator("mask"))

    def wants_weight_gradients(self, progress: Progress) -> bool:
        return True

    def after_backward(self, progress: Progress) -> None:
        assert all(torch.equal(gradient, self.net.get_parameter(name).grad) for name, gradient in self.weight_gradients.items())

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        assert self.weight_gradients.keys() == layers(self.net).keys()


class Unwatched(Method):
    """The same without hooks."""

    effective_weights = Watching.effective_weights


METHODS = [Annealed, Tiring, Moving]
SETTINGS = {
    "adam": ("optimizer=adam",),
    "momentum, half precision": ("optimizer=sgd", "optimizer.momentum=0.9", "schedule=cosine", "+trainer.precision=bf16-mixed"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", [pytest.param(one, marks=pytest.mark.full if at else ()) for at, one in enumerate(SETTINGS)])
def test_block_size_leaves_the_bits_alone(method: type[Method], setting: str, build: Callable, same: Callable) -> None:
    words = (*SMALL, *SETTINGS[setting])
    single, *others = (build(*words, f"loop.block={n}", method=method, folder=str(n)).go() for n in (1, 7, 25))
    for other in others:
        same(single, other)
    plain = build(*words, method=Method, folder="plain").go()
    assert any(not torch.equal(w, plain.state[name]) for name, w in single.state.items() if name in plain.state), "no effect"


@pytest.mark.sample(3)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "every", [pytest.param(0, id="saved-always"), pytest.param(1e9, id="saved-never", marks=pytest.mark.full)]
)
def test_an_interrupted_run_goes_on_bit_for_bit(
    method: type[Method], every: float, build: Callable, relay: Callable, same: Callable
) -> None:
    """Attempts end between moves of the mask, in the block of one, and just after one; what was not saved is lost."""
    words = (*SMALL, "loop.block=5", f"loop.checkpoint_seconds={every}")
    calm = build(*words, method=method, folder="calm").go()
    same(calm, relay(*words, method=method, folder="resumed", halts=[3, 3, 1, 2, 4] if every == 0 else [3, 5]))


@pytest.mark.parametrize("block", [1, 25])
def test_hooks_that_change_nothing_leave_the_bits_alone(block: int, build: Callable, same: Callable) -> None:
    calm = build(*SMALL, method=Unwatched, folder="calm").go()
    watched = build(*SMALL, f"loop.block={block}", method=Watching, folder="watched").go()
    same(calm, watched)
    assert watched.method.weight_gradients == {}, "they are not kept"


def test_what_is_annealed_ends_where_it_should(build: Callable) -> None:
    assert build(*SMALL, method=Annealed).go().method.s == 50


def test_a_mask_that_moved_in_the_last_step(build: Callable) -> None:
    """Its counts are exact, and the newborn are still 0."""
    bench = build(*SMALL, "budget.steps=20", method=Moving)
    before = {name: bench.method.mask(name).clone() for name in layers(bench.method.net)}
    bench.go()
    for name, mask in before.items():
        now, alive = bench.method.mask(name), int(mask.sum())
        newborn = (now > mask).flatten()
        assert now.sum() == alive and newborn.sum() == round(0.3 * alive)
        assert (bench.method.net.get_parameter(name).flatten()[newborn] == 0).all()


HOOKED = """# @package _global_
# A method of this file, as one from outside the package.
defaults: [override /task: uncertainty, override /data: mnist, override /backbone: lenet_300_100, override /optimizer: sgd]
method: {{_target_: test_contract_hooks.{name}, name: hooked, about: has hooks, tasks: [uncertainty]}}
"""


@pytest.mark.full
@pytest.mark.parametrize("method", METHODS)
def test_two_devices_give_what_one_gives(method: type[Method], interpreter: Callable, tmp_path: Path) -> None:
    """Each of two processes takes half of every batch; what the hooks see is averaged."""
    choice = tmp_path / "conf" / "method" / "hooked.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(HOOKED.format(name=method.__name__))
    path = f"{Path(__file__).parents[2]}:{Path(__file__).parent}"
    words = ("--config-dir", str(tmp_path / "conf"), "method=hooked", *SMALL[1:], "logger=none")
    words += ("budget.batch_size=30", "optimizer.lr=0.01")  # halves of equal size; the rounding of a hard gate stays small
    states = []
    for trainer in ("cpu", "ddp"):
        done = interpreter(*words, f"trainer={trainer}", f"paths.output={tmp_path / trainer}", PYTHONPATH=path)
        assert done.returncode == 0, done.stderr
        (weights,) = (tmp_path / trainer).glob("*/s*/weights.safetensors")
        states.append(load_file(weights))
    one, two = states
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=1e-6)
