"""A training step waits for no accelerator and mixes no devices: shown without one.

Every phase of a method is handed to a stand-in for the loop. It copies the method with all its tensors onto a CUDA device that
only exists in torch's bookkeeping (FakeTensorMode): a number asked from a tensor, a shape that depends on values, and tensors of
two devices in one operation raise there. Such tensors have no backward without a driver, so the step itself, with hooks and
optimiser, is made on the `meta` device, which has no values to ask for either.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from maskbench.methods.continual.outputs import tables
from maskbench.training.hooks import Hooks
from maskbench.training.method import Method, Progress

ROWS = 12


def keeps_book() -> bool:
    """Whether this torch has CUDA tensors in its bookkeeping where there is no driver; 2.6 asks one for each.

    Autograd starts a thread for every accelerator it knows at its first backward, and a process with such threads cannot
    fork into one that trains, as other tests do: so the first is before CUDA is known.
    """
    torch.zeros(1, requires_grad=True).sum().backward()
    mode = FakeTensorMode()
    fake = mode.from_tensor(torch.zeros(1))
    try:
        with mode:
            return fake.to("cuda").device.type == "cuda"
    except RuntimeError:
        return False


BOOK = keeps_book()


class Copying(TorchFunctionMode):
    """Inside, `copy.deepcopy` makes copies of tensors by `convert`."""

    def __init__(self, convert: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.convert = convert

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = self.convert(tensor.detach())
        return memo[id(tensor)]


def copied(method: Method, convert: Callable[[Tensor], Tensor]) -> Method:
    """The method with a converted copy of each of its tensors, one however many names it has."""
    memo = {id(p): nn.Parameter(convert(p.detach()), p.requires_grad) for p in method.parameters()}  # torch copies them itself
    with Copying(convert):
        there = copy.deepcopy(method, memo).train()
    for module in there.modules():  # numbers that were asked for are known there as well
        known = module.__dict__.get("_numbers", {})
        known.update({name: (tensor, tensor._version, value) for name, (tensor, _, value) in known.items()})
    return there


class Stepping:
    """Stands in for the loop: one step of every phase on copies elsewhere; the method itself is not trained."""

    def __init__(self, fit: Any, inner: bool) -> None:
        self.fit, self.phases, self.inner = fit, 0, inner  # inner: its loss takes gradients itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fit, name)

    def __call__(self, method: Method, stage: Any, **phase: Any) -> list:
        places = torch.arange(ROWS)
        if phase.get("orders"):
            places = places[:, None].expand(ROWS, len(phase["orders"]))
        batch = self.fit.feed(stage.train, torch.device("cpu")).take(places)
        self.phases += 1
        method.train().loss(batch, stage)  # what is asked for once, and known from then on
        if not self.inner and BOOK:
            self.forward(method, stage, batch)
        self.step(method, stage, batch, phase.get("name", "train"))
        return []

    def forward(self, method: Method, stage: Any, batch: Any) -> None:
        tables.cache_clear()  # made on the device once
        mode = FakeTensorMode()

        def convert(x: Tensor) -> Tensor:
            fake = mode.from_tensor(x)
            with mode:
                return fake.to("cuda")

        there = copied(method, convert)
        moved = tree_map(lambda x: convert(x) if isinstance(x, Tensor) else x, batch)
        with mode:
            loss = there.loss(moved, stage)
        assert loss.device.type == "cuda" and loss.shape == ()

    def step(self, method: Method, stage: Any, batch: Any, name: str) -> None:
        there = copied(method, lambda x: x.to("meta"))
        moved = tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, batch)
        optimizer = torch.optim.Adam(there.trainable_parameters(), lr=1e-3)
        progress = Progress(1, 999, name, stage, (0, "phase"), ROWS)
        hooks = Hooks(there)
        if hooks.before_step is not None:
            hooks.before_step(progress)
        loss = there.loss(moved, stage)
        loss.backward()
        if hooks.after_backward is not None:
            hooks.after_backward(progress)
        optimizer.step()
        if hooks.after_step is not None:
            hooks.after_step(progress, optimizer)
        assert loss.device.type == "meta"


@pytest.mark.skipif(
    not BOOK, reason=f"torch {torch.__version__} keeps no book of CUDA without a driver: steps are tried on meta alone"
)
def test_a_device_that_only_exists_in_bookkeeping_has_no_numbers() -> None:
    mode = FakeTensorMode()
    fake = mode.from_tensor(torch.ones(3))
    with mode:
        there = fake.to("cuda")
        with pytest.raises(RuntimeError, match="local_scalar_dense"):
            there.sum().item()
        with pytest.raises(RuntimeError, match="device"):
            there + fake


def test_a_step_asks_the_device_for_nothing(tiny: tuple[str, ...], build: Callable, compose: Callable) -> None:
    dense = ["method.kernel=dense"] if "kernel" in compose(tiny[0]).method else []  # kept values alone are for the CPU
    seldom = ["method.every=4"] if "every" in compose(tiny[0]).method else []  # a move may ask: it is no step like the others
    bench = build(*tiny, *dense, *seldom)
    stepping = Stepping(bench.fit, inner=bench.cfg.task.name == "meta")
    for stage in bench.stages:
        bench.method.learn(stage, stepping)
    trains = any(True for _ in bench.method.trainable_parameters())
    assert stepping.phases >= len(bench.stages) if trains else stepping.phases == 0
