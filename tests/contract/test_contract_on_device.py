"""Every method on the device that `pytest --device` names: the CPU here, a GPU under `make gpu`.

A phase's step is made there from the same state and batch as on the CPU, and must agree within the tolerances below: the device
may round sums in another order, and that is all. Masks are drawn by comparing numbers and by exact counts, so those of one state
are the same bits on every device. Where a step draws at random, the device draws otherwise than the CPU does; how far it agrees
is then not asked. A whole run on the device must be finite, leave the facts of its method true, and keep its bits when it is
interrupted.
"""

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskbench.common.streams import seeded
from maskbench.data.stage import Stage
from maskbench.training import evaluate
from maskbench.training.hooks import Hooks, WeightGradients
from maskbench.training.method import Method, Progress

pytestmark = pytest.mark.device
LOSS = 1e-4  # relative
GRADIENTS = 1e-3  # norm of the difference over the norm, of all of them together
MOVED = 1e-4  # the same, of what the step has moved
ANSWERS = 1e-4  # of probabilities, absolute; of values, relative to the largest
BITS = 1e-3  # share of a mask in which gradients at the very cut may decide otherwise
STEPS, FIRST, RATE = 9, 50, 0.01
EXACT = ("forgetting", "logit_drift", "density", "sparsity", "memory_bytes")  # metrics in whose names they stand


@pytest.fixture(autouse=True)
def arithmetic(device: str) -> Iterator[None]:
    """Convolutions of a GPU in full precision, as elsewhere: by default cuDNN rounds their inputs to 10 bits."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


class Beside:
    """A fit that makes the first step of each phase on the device too, before the CPU trains it.

    Attributes:
        worst: by what was compared, the largest deviation of all phases.
    """

    def __init__(self, fit: Any, device: str) -> None:
        self.fit, self.device = fit, device
        self.worst = dict.fromkeys(("loss", "gradients", "moved", "bits"), 0.0)
        self.phases = self.drew = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fit, name)

    def __call__(self, method: Method, stage: Stage, **phase: Any) -> list:
        places = torch.arange(min(self.fit.budget["batch_size"], len(stage.train)))
        if phase.get("orders"):
            places = places[:, None].expand(len(places), len(phase["orders"]))
        here, there = (self.step(method, stage, places, phase.get("name", "train"), where) for where in ("cpu", self.device))
        self.phases += 1
        if here["drew"]:
            self.drew += 1
            assert math.isfinite(there["loss"])
        if not here["drew"] or self.device == "cpu":
            for what, value in deviations(here, there).items():
                self.worst[what] = max(self.worst[what], value)
        return self.fit(method, stage, **phase)

    def step(self, method: Method, stage: Stage, places: Tensor, name: str, device: str) -> dict[str, Any]:
        """A step of plain gradient descent with the method's hooks, on a copy of it."""
        copied = copy.deepcopy(method).to(device).train()
        for p in copied.parameters():
            p.requires_grad_(False)
        moving = list(copied.trainable_parameters())
        for p in moving:
            p.requires_grad_(True)
        optimizer, hooks, weight_gradients = torch.optim.SGD(moving, lr=RATE), Hooks(copied), WeightGradients(copied)
        progress = Progress(2, STEPS, name, stage, (0, "phase"), self.fit.budget["batch_size"])
        with seeded("a step beside another"):
            before = torch.get_rng_state()
            batch = self.fit.feed(stage.train, torch.device(device)).take(places.to(device))
            if hooks.before_step is not None:
                hooks.before_step(progress)
            watched = hooks.wants_weight_gradients is not None and hooks.wants_weight_gradients(progress)
            loss = weight_gradients.loss(batch, stage) if watched else copied.loss(batch, stage)
            drew = not torch.equal(before, torch.get_rng_state())
            loss.backward()
            if watched:
                copied.weight_gradients = weight_gradients.taken(lambda gradient: gradient)
            gradients = [p.grad.detach().cpu() for p in moving if p.grad is not None]
            if hooks.after_backward is not None:
                hooks.after_backward(progress)
            optimizer.step()
            if hooks.after_step is not None:
                hooks.after_step(progress, optimizer)
        assert loss.device.type == device.partition(":")[0]
        state = {key: value.detach().cpu() for key, value in copied.state_dict().items()}
        return {"loss": loss.item(), "gradients": gradients, "state": state, "drew": drew}


def deviations(here: dict[str, Any], there: dict[str, Any]) -> dict[str, float]:
    """How far a step made elsewhere is from the same step here, by what is compared."""
    assert len(here["gradients"]) == len(there["gradients"]) and here["state"].keys() == there["state"].keys()
    pairs = [(value, there["state"][name]) for name, value in here["state"].items()]
    numbers = [(a, b) for a, b in pairs if a.is_floating_point()]
    others = [(a, b) for a, b in pairs if not a.is_floating_point() and a.numel()]
    return {
        "loss": abs(here["loss"] - there["loss"]) / max(1e-12, abs(here["loss"])),
        "gradients": apart(here["gradients"], there["gradients"]),
        "moved": apart([a for a, _ in numbers], [b for _, b in numbers]),
        "bits": max(((a != b).double().mean().item() for a, b in others), default=0.0),
    }


def apart(here: list[Tensor], there: list[Tensor]) -> float:
    """Norm of the difference over the norm, of all tensors as one vector."""
    difference = sum((a.double() - b.double()).square().sum().item() for a, b in zip(here, there, strict=True))
    return math.sqrt(difference / max(1e-30, sum(a.double().square().sum().item() for a in here)))


def answers(method: Method, stage: Stage, device: str) -> tuple[Tensor, bool]:
    """(what members answer on a stage's first test rows, computed on the device; whether they drew at random)."""
    copied = copy.deepcopy(method).to(device)
    with seeded("answers"):
        before = torch.get_rng_state()
        told, _ = evaluate.members(copied, stage, stage.test, FIRST)
        return told.cpu(), not torch.equal(before, torch.get_rng_state())


def test_a_step_agrees_with_the_cpu(
    tiny: tuple[str, ...], build: Callable, device: str, record_property: Callable[[str, object], None]
) -> None:
    bench = build(*tiny)
    beside = Beside(bench.fit, device)
    bench.go(learner=beside)
    masks, there = bench.method.masks(), copy.deepcopy(bench.method).to(device).masks()
    assert masks.keys() == there.keys()
    assert [name for name, mask in masks.items() if not torch.equal(mask, there[name].cpu())] == []
    furthest = 0.0
    for stage in filter(bench.method.has_learned, bench.stages):
        (told, drew), (elsewhere, _) = answers(bench.method, stage, "cpu"), answers(bench.method, stage, device)
        assert told.shape == elsewhere.shape and bool(elsewhere.isfinite().all()) == bool(told.isfinite().all())
        if not drew or device == "cpu":
            furthest = max(furthest, ((told - elsewhere).abs().max() / max(1.0, told.abs().max().item())).item())
    record_property("deviations", beside.worst | {"answers": furthest, "phases": beside.phases, "drew": beside.drew})
    within = {"loss": LOSS, "gradients": GRADIENTS, "moved": MOVED, "bits": BITS}
    assert {what: value for what, value in beside.worst.items() if not value <= within[what]} == {}
    assert furthest <= ANSWERS
    trains = any(True for _ in bench.method.trainable_parameters())
    assert beside.phases >= len(bench.stages) if trains else beside.phases == 0


def test_a_run_there_keeps_its_facts_and_its_bits(
    tiny: tuple[str, ...], calm: Any, build: Callable, relay: Callable, same: Callable, on_device: tuple[str, ...], tmp_path: Path
) -> None:
    there = build(*tiny, *on_device, folder="there").go()
    # only a method that draws on the device may differ in how many stay, and none does in what it forgets
    exact = {name: value for name, value in calm.metrics.items() if any(word in name for word in EXACT) and value == 0}
    assert {name: there.metrics[name] for name in exact} == exact
    assert {name for name, value in there.metrics.items() if value is None} == {
        name for name, value in calm.metrics.items() if value is None
    }
    assert {name: m.shape for name, m in there.method.masks().items()} == {n: m.shape for n, m in calm.method.masks().items()}
    words = (*tiny, *on_device, "loop.block=3", "loop.checkpoint_seconds=0", f"paths.shared={tmp_path / 'shared again'}")
    same(there, relay(*words, folder="resumed", halts=[1, 2]))


def test_a_method_that_moves_leaves_nothing_behind(calm: Any) -> None:
    """Module.to puts other tensors in the place of buffers, so one that a method also holds under another name would stay where
    it was. Here all are exchanged as by a move, and those of before are spoilt: answers and masks stay."""
    twin, known = copy.deepcopy(calm.method), [stage for stage in calm.stages if calm.method.has_learned(stage)]
    told = [answers(twin, stage, "cpu")[0] for stage in known]
    old = [*(p.data for p in twin.parameters()), *twin.buffers()]
    twin._apply(torch.clone)
    for tensor in old:
        tensor.fill_(True if tensor.dtype == torch.bool else math.nan if tensor.is_floating_point() else 77)
    with_old = {id(tensor) for tensor in old}
    assert not any(id(tensor) in with_old for tensor in twin.buffers())
    for stage, before in zip(known, told, strict=True):
        assert torch.equal(answers(twin, stage, "cpu")[0], before)
    masks = twin.masks()
    assert all(torch.equal(mask, masks[name]) for name, mask in calm.method.masks().items())


def test_a_step_that_is_wrong_is_seen() -> None:
    """The comparison itself: what is equal deviates by nothing, and a gradient, a weight or a bit that is off is found."""
    here = {"loss": 1.0, "gradients": [torch.ones(4)], "state": {"w": torch.ones(4), "m": torch.ones(8, dtype=torch.bool)}}
    assert set(deviations(here, here).values()) == {0.0}
    mask = torch.ones(8, dtype=torch.bool)
    mask[3] = False
    there = {"loss": 1.01, "gradients": [torch.tensor([1.0, 1, 1, 1.1])], "state": {"w": torch.full((4,), 1.001), "m": mask}}
    found = deviations(here, there)
    assert found == pytest.approx({"loss": 0.01, "gradients": 0.05, "moved": 0.001, "bits": 0.125}, rel=1e-4)
    assert found["loss"] > LOSS and found["gradients"] > GRADIENTS and found["moved"] > MOVED and found["bits"] > BITS
