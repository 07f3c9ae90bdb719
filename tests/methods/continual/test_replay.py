"""Replay: a fair reservoir of what the net saw, trained on beside each batch, exact in bytes."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.common.streams import generator
from maskbench.data.images.permuted import Permute
from maskbench.data.stage import Split
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.replay import Replay
from maskbench.training.method import Progress

GROUPS = ((0, 1), (2, 3), (4, 5))


def net() -> nn.Module:
    torch.manual_seed(3)
    return MLP((5,), 6, widths=[7])


def filled(slots: int, offered: int, size: int, draws: torch.Generator, dtype: torch.dtype = torch.float32) -> Replay:
    """A memory that was offered rows 0, 1, 2, ..., each of its own number."""
    method = Replay(MLP((1,), 6, widths=[2]), memory=slots)
    method.kept.put("images", torch.full((slots, 1), -1.0, dtype=dtype))
    method.kept.put("labels", torch.full((slots,), -1))
    for rows in torch.arange(offered).split(size):
        method.offer(rows[:, None].to(dtype), rows, draws)
    return method


def test_each_image_is_kept_with_the_same_probability() -> None:
    """Chi-square over 60 images in 500 reservoirs of 10, in batches that do not divide anything."""
    kept = Counter()
    for trial in range(500):
        kept.update(filled(10, 60, 7, torch.Generator().manual_seed(trial)).kept["labels"].tolist())
    wanted = 500 * 10 / 60
    assert sum(kept.values()) == 5000 and set(kept) == set(range(60))
    # the counts of one reservoir sum to 10, so that variances are those of draws without replacement: times 50 / 59
    statistic = sum((kept[image] - wanted) ** 2 for image in range(60)) / (wanted * 50 / 59)
    assert statistic < 98.3, "the 99.9th percentile of chi-square with 59 degrees of freedom"
    first = sum(kept[image] for image in range(10))
    assert abs(first - 10 * wanted) < 4 * (10 * wanted) ** 0.5, "who came first stays no longer"


def test_a_reservoir_is_filled_image_by_image() -> None:
    """The same as one image at a time: later images of a batch stand where earlier ones of it stood."""
    slots, size, found = 4, 9, filled(4, 36, 9, torch.Generator().manual_seed(5))
    draws, memory = torch.Generator().manual_seed(5), [-1] * slots
    for start in range(0, 36, size):
        for row, u in enumerate(torch.rand(size, dtype=torch.float64, generator=draws).tolist()):
            n = start + row + 1
            slot = n - 1 if n <= slots else int(u * n)
            if slot < slots:
                memory[slot] = n - 1
    assert found.kept["labels"].tolist() == memory == found.kept["images"][:, 0].long().tolist()
    assert int(found.offered) == 36


def test_the_memory_holds_what_the_net_saw(stream: Callable, hand_fit: Callable) -> None:
    """Views and augmentations included; and of the batch of a step, once the step is done."""
    stages, method = stream(*GROUPS), Replay(net(), memory=12)
    turned = Split(stages[0].train.x, stages[0].train.y, view=Permute(torch.tensor([4, 2, 0, 1, 3])))
    object.__setattr__(stages[0], "train", turned)
    method.learn(stages[0], hand_fit(steps=4))
    saw, y = turned.tensors()
    for image, label in zip(method.kept["images"], method.kept["labels"].tolist(), strict=True):
        rows = (saw == image).all(1).nonzero().squeeze(1)
        assert len(rows) == 1 and y[rows] == label


def test_a_step_trains_on_the_batch_and_as_many_rows_of_the_memory(stream: Callable, batches: Callable) -> None:
    stage, method = stream(*GROUPS)[1], Replay(net(), memory=8)
    x, y = batches(stage, 0, 16)
    method.learn(stage, lambda *_: None)
    assert torch.equal(method.loss((x, y), stage), over.loss(method.net(x), y, stage, "seen")), "there is no memory yet"
    old = torch.randn(8, 5), torch.tensor([0, 1] * 4)
    method.offer(*old, torch.Generator())
    progress = Progress(3, 9, "train", stage, ("s",))
    method.before_step(progress)
    rows = torch.randint(8, (16,), generator=generator("s", "hook", 3, "rows", 0))
    both = torch.cat([x, method.kept["images"][rows]]), torch.cat([y, method.kept["labels"][rows]])
    for kind in ("seen", "stage", "all"):
        method.outputs = kind
        method.before_step(progress)
        torch.testing.assert_close(method.loss((x, y), stage), over.loss(method.net(both[0]), both[1], stage, kind))


def test_it_remembers_more_than_fine_tuning(build: Callable) -> None:
    words = ("data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=40", "optimizer=adam", "task.probe=50")
    kept = build("method=replay", "method.memory=100", *words, folder="replay").go().metrics
    none = build("method=finetune", "method.outputs=seen", *words, folder="finetune").go().metrics
    assert kept["average_accuracy"] > none["average_accuracy"] + 0.1


def test_bytes_are_exact(build: Callable) -> None:
    words = ("data.base=synthetic", "backbone.widths=[8]", "budget.steps=2", "budget.batch_size=16", "task.probe=5")
    bench = build("method=replay", "method.memory=50", *words).go()
    values = bench.stages[0].shape.numel() if hasattr(bench.stages[0].shape, "numel") else 28 * 28
    weights = sum(p.numel() for p in bench.method.net.parameters())
    assert bench.method.memory() == {"shared": 4 * weights + 50 * (4 * values + 8), "stage": 0}
    assert sum(t.numel() * t.element_size() for t in bench.method.kept.buffers()) == 50 * (4 * values + 8)


@pytest.mark.parametrize("memory", [0, -1, 1.5])
def test_a_memory_of_none_is_refused(memory: float) -> None:
    with pytest.raises(UsageError, match="method.memory"):
        Replay(net(), memory=memory)
