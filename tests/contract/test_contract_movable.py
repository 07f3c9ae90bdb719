"""Training moves what `trainable_parameters()` yields and nothing else, under momentum, under Adam and under weight decay; but
for the memory of a method that acts at every step, which is in buffers of its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskbench.training.hooks import Hooks
from maskbench.training.journal import snapshot

OPTIMIZERS = {
    "momentum": ("optimizer=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9", "optimizer.weight_decay=0.01"),
    "adam": ("optimizer=adam", "optimizer.lr=0.01", "optimizer.weight_decay=0.01"),
}


class Watched:
    """A fit that looks at the method's state before and after every phase."""

    def __init__(self, fit: Callable) -> None:
        self.fit, self.phases = fit, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fit, name)

    def __call__(self, method, stage, **phase: Any) -> list:
        free = {id(p) for p in method.trainable_parameters()}
        trainable_parameters = {name for name, tensor in method.state_dict(keep_vars=True).items() if id(tensor) in free}
        assert len(trainable_parameters) == len(free), "what moves must be part of the state"
        before = snapshot(method)
        curve = self.fit(method, stage, **phase)
        after = snapshot(method)
        assert before.keys() == after.keys()
        self.phases.append((trainable_parameters, {name for name in after if not torch.equal(before[name], after[name])}))
        return curve


@pytest.mark.parametrize("optimizer", ["momentum", pytest.param("adam", marks=pytest.mark.full)])
def test_only_what_is_movable_moves(tiny: tuple[str, ...], optimizer: str, build: Callable, compose: Callable) -> None:
    # kept values take turns with the weights that they are of, where a mask moves: tests/methods/prune/test_kernel.py
    plain = ["method.kernel=dense"] if "kernel" in compose(tiny[0]).method else []
    bench = build(*tiny, *plain, *OPTIMIZERS[optimizer])
    watched = Watched(bench.fit)
    bench.go(learner=watched)
    trains = any(True for _ in bench.method.trainable_parameters())  # a method that only draws and chooses has no phases
    assert len(watched.phases) >= len(bench.stages) if trains else watched.phases == []
    buffers = {name for name, _ in bench.method.named_buffers() if not name.startswith("net.")}
    remembered = buffers if Hooks(bench.method).any else set()
    for trainable_parameters, moved in watched.phases:
        assert moved, "a phase of training moved nothing"
        assert moved <= trainable_parameters | remembered


def test_a_phase_leaves_no_gradients_behind(calm) -> None:
    assert all(p.grad is None for p in calm.method.parameters())
