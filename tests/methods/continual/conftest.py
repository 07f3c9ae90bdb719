"""Streams of made-up rows, and a training loop written out, for methods with one head over all classes."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch

from maskbench.data.stage import Origin, Split, Stage, in_order
from maskbench.training.hooks import Hooks
from maskbench.training.method import Method, Progress

OUTPUTS, ROWS = 6, 48


@pytest.fixture
def stream() -> Callable[..., list[Stage]]:
    """`stream((0, 1), (2, 3, 4), ...)`: a stage of normal rows [48, *shape] for each group of the six classes."""

    def make(*groups: tuple[int, ...], shape: Sequence[int] = (5,), outputs: int = OUTPUTS) -> list[Stage]:
        stages = []
        for index, own in enumerate(groups):
            draw = torch.Generator().manual_seed(index)
            y = torch.tensor(own)[torch.randint(len(own), (ROWS,), generator=draw)]
            split = Split(torch.randn(ROWS, *shape, generator=draw), y)
            stages.append(
                Stage(
                    index=index, total=len(groups), name="/".join(map(str, own)), train=split, val=split, test=split, classes=own,
                    outputs=outputs, shape=tuple(shape), origin=Origin("made up", "synthetic"), labels=own,
                )
            )  # fmt: skip
        return in_order(stages)

    return make


class HandFit:
    """Phases as loop.py trains them, written out: consecutive batches, a fresh optimiser each, every hook in its place."""

    def __init__(self, steps: int, size: int, optimizer: Callable) -> None:
        self.steps, self.size, self.optimizer = steps, size, optimizer
        self.phases: list[SimpleNamespace] = []  # stage and number of steps of each

    def length(self, rows: int, share: float, stage: int = 0) -> int:
        return round(share * self.steps)

    def __call__(self, method: Method, stage: Stage, *, name: str = "train", share: float = 1.0) -> None:
        hooks, total = Hooks(method), self.length(len(stage.train), share)
        optimizer = self.optimizer(list(method.trainable_parameters()))
        self.phases.append(SimpleNamespace(stage=stage, total=total))
        method.train()
        for step in range(total):
            progress = Progress(step, total, name, stage, ("hand", stage.index))
            if hooks.before_step:
                hooks.before_step(progress)
            loss = method.loss(batch(stage, step, self.size), stage)
            optimizer.zero_grad()
            loss.backward()
            if hooks.after_backward:
                hooks.after_backward(progress)
            optimizer.step()
            if hooks.after_step:
                hooks.after_step(progress, optimizer)


def batch(stage: Stage, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return stage.train.pick((torch.arange(size) + step * size) % len(stage.train))


@pytest.fixture
def hand_fit() -> Callable[..., HandFit]:
    """`hand_fit(steps=, size=, optimizer=)`."""

    def make(steps: int = 5, size: int = 16, optimizer: Callable = lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)) -> HandFit:
        return HandFit(steps, size, optimizer)

    return make


@pytest.fixture
def batches() -> Callable:
    """The batches that a `HandFit` takes: `batches(stage, step, size)`."""
    return batch
