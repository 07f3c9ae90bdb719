"""Losses that a config may choose: label smoothing is the definition's, and the default changes neither loss nor run key."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from maskbench.cli import preflight
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.training.losses import label_smoothing

TINY = (
    "method=dense",
    "task=prune",
    "data.base=synthetic",
    "budget.steps=2",
    "budget.epochs=null",
    "backbone.widths=[8,6]",
    "task.levels=0",
)


def test_smoothed_targets_are_a_mixture_with_all_outputs_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(9, 5, generator=draw, dtype=torch.float64), torch.arange(9) % 5
    wanted = 0.9 * F.one_hot(y, 5) + 0.1 / 5
    torch.testing.assert_close(label_smoothing(outputs, y, smoothing=0.1), -(wanted * outputs.log_softmax(-1)).sum(-1).mean())
    assert torch.equal(label_smoothing(outputs, y, smoothing=0.0), F.cross_entropy(outputs, y))


def test_numbers_have_no_classes_to_smooth_over() -> None:
    with pytest.raises(UsageError, match="loss=label_smoothing"):
        label_smoothing(torch.zeros(3, 2), torch.zeros(3, 2), smoothing=0.1)


def test_a_run_learns_by_the_loss_it_names(build: Callable) -> None:
    plain, smooth = build(*TINY, folder="plain"), build(*TINY, "loss=label_smoothing", "loss.smoothing=0.2", folder="smooth")
    stage, batch = smooth.stages[0], smooth.stages[0].train.tensors(first=16)
    assert torch.equal(plain.method.loss(batch, plain.stages[0]), F.cross_entropy(plain.method.net(batch[0]), batch[1]))
    wanted = label_smoothing(smooth.method.net(batch[0]), batch[1], smoothing=0.2)
    assert torch.equal(smooth.method.loss(batch, stage), wanted)
    smooth.go()
    assert smooth.outcome.metrics["dense_accuracy"] >= 0


def test_the_default_leaves_keys_alone_and_a_choice_is_part_of_them(compose: Callable) -> None:
    words = ((), ("loss=label_smoothing",), ("loss=label_smoothing", "loss.smoothing=0.2"))
    plain, smooth, other = (compose("method=dense", "task=prune", "data=mnist", *more) for more in words)
    assert "loss" not in identity.spelling(identity.plain(plain, without=identity.ELSEWHERE))
    assert len({identity.key(cfg) for cfg in (plain, smooth, other)}) == 3
    assert identity.question(identity.plain(plain, without=set())).get("loss.smoothing") is None
    assert identity.question(identity.plain(smooth, without=set()))["loss.smoothing"] == 0.1


@pytest.mark.parametrize(
    "words, said",
    {
        "loss=label_smoothing loss.smoothing=2": "loss.smoothing=2 must be a number at least 0 and at most 1",
        "loss=label_smoothing loss.smoothing=much": "loss.smoothing=much must be a number",
        "loss=label_smothing": "Did you mean 'label_smoothing'",
        "loss=label_smoothing loss.amount=0.1": "loss.amount",
        "loss.smoothing=0.1": "loss.smoothing",
        "loss=label_smoothing method=mc_dropout data=boston": "loss=label_smoothing needs targets that are classes, and data=",
    }.items(),
)
def test_what_cannot_be_is_said_before_anything_starts(words: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        preflight.check([*words.split(), "logger=none"], starts=False)
    assert said in str(refused.value)
