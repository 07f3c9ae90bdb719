"""Knobs of sparse training that cannot be, refused with their mend."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskbench.backbones.mlp import MLP
from maskbench.cli import preflight
from maskbench.common.errors import UsageError
from maskbench.methods.prune.dynamic import SET, RigL, StaticSparse
from maskbench.methods.prune.gradual import Gradual
from maskbench.methods.prune.one_shot import OneShot

SMALL = (
    "data.base=synthetic", "backbone.widths=[16,12]", "budget.epochs=null", "budget.steps=60", "budget.batch_size=32",
    "loop.log_every=30", "method.keep=0.2",
)  # fmt: skip


def lenet() -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 28, 28), 10, widths=[300, 100])


REFUSED = {
    "method.keep=0": "method.keep=0 must be a number above 0 and at most 1",
    "method.keep=1.5": "method.keep=1.5 must be",
    "method.alpha=0": "method.alpha=0 must be",
    "method.alpha=1.1": "method.alpha=1.1 must be",
    "method.end=0": "method.end=0 must be",
    "method.end=2": "method.end=2 must be",
    "method.every=0": "method.every=0 must be",
    "method.scope=2:4": "method.scope=2:4 must be",
    "method.distribution=erq": "Did you mean 'er'",
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("word", REFUSED)
def test_wrong_knobs_are_one_sentence_before_anything_starts(word: str) -> None:
    with pytest.raises(UsageError, match="^[^\n]*$") as refused:
        preflight.check(["method=rigl", word])
    assert REFUSED[word] in str(refused.value)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["rigl", "set", "gradual"])
def test_a_mask_that_would_never_move_is_refused_with_the_mend(name: str, build: Callable) -> None:
    words = [f"method={name}", "budget.steps=100", "budget.epochs=null"]
    with pytest.raises(UsageError, match=r"method\.every=100 and budget\.steps=100: .*smaller method\.every"):
        preflight.check(words)
    assert preflight.check([*words, "method.every=74"])
    bench = build(f"method={name}", *SMALL, "method.every=45")
    with pytest.raises(UsageError, match=r"method\.every=45: the mask would never move within method\.end=0\.75 of 60 steps"):
        bench.go()


@pytest.mark.parametrize("method", [StaticSparse, SET, RigL, Gradual, OneShot])
def test_fewer_ones_than_layers_are_refused(method: type) -> None:
    with pytest.raises(UsageError, match=r"method\.keep=7e-06 leaves 2 of 266200 weights, fewer than the 3 masked layers"):
        method(lenet(), keep=7e-6)
