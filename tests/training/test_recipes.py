"""Presets that cannot be trained here: each composes the authors' recipe and takes two steps on made-up images, small."""

from collections.abc import Callable

import pytest
import torch

SPLIT = ("data.base=synthetic_cifar100", "data.stages=2", "backbone.base=2", "task.probe=8")
IMAGENET = (*SPLIT, "data=splitcifar100", "backbone=resnet20")
SMALL = {  # preset and its variant -> words that make it small
    "baselines/split_cifar100": SPLIT,
    "baselines/split_cifar100 method=separate": SPLIT,
    "baselines/split_cifar100_batch_ensemble": SPLIT,
    "baselines/split_cifar100_batch_ensemble method.trunk=random": SPLIT,
    "baselines/split_cifar100_frozen_heads": SPLIT,
    "baselines/split_cifar100_frozen_heads method.trunk=random": SPLIT,
    "baselines/split_imagenet_piggyback": IMAGENET,
    "packnet/split_imagenet": IMAGENET,
    "supsup/split_cifar100": SPLIT,
    "supsup/split_imagenet": IMAGENET,
    "edge_popup/cifar10": ("data.base=synthetic_cifar10", "backbone.width=0.125"),
    "edge_popup/resnet50": ("data=cifar10", "data.base=synthetic_cifar10", "backbone=resnet20", "backbone.base=2"),
    "edge_popup/conv_example_quick": ("data.base=synthetic", "backbone.channels=[4,6]", "backbone.widths=[8]"),
}
RECIPES = {  # preset and its variant -> what its source says
    "baselines/split_cifar100": {"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-4, "data.val": 0, "budget.epochs": 250},
    "baselines/split_cifar100 method=separate": {"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-4, "backbone.affine": True},
    "baselines/split_cifar100_batch_ensemble": {"optimizer.lr": 0.1, "optimizer.weight_decay": 1e-4, "method.weights_lr": 0.01},
    "baselines/split_cifar100_frozen_heads": {
        "optimizer.lr": 1e-2, "optimizer.weight_decay": 1e-4, "method.trunk_lr": 0.1, "method.statistics": "per_stage",
        "backbone.norm": "batch", "backbone.affine": False, "data.val": 0,
    },
    "baselines/split_imagenet_piggyback": {"optimizer.lr": 1e-4, "schedule.milestones": [0.5], "budget.epochs": 30},
    "packnet/split_imagenet": {"optimizer.lr": 1e-3, "schedule.milestones": [0.5], "schedule.factor": 0.1, "budget.epochs": 20},
    "supsup/split_cifar100": {"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-4, "data.val": 0},
    "supsup/split_imagenet": {"schedule.warmup": 5, "schedule.epochs": 100, "optimizer.weight_decay": 0.0},
    "edge_popup/cifar10": {"data.val": 0, "optimizer.weight_decay": 1e-4, "budget.epochs": 100},
    "edge_popup/cifar10 backbone=conv8": {"data.val": 0, "backbone.name": "conv8"},
    "edge_popup/resnet50": {"loss.smoothing": 0.1, "schedule.warmup": 5, "optimizer.momentum": 0.875},
    "edge_popup/conv_example_quick": {"backbone.init": "kaiming_normal", "backbone.drop_channels": True, "data.val": 0},
    "meta_ticket/omniglot": {"schedule.warmup": 1000, "schedule.peak": "after"},
    "supsup/rotated_mnist_fc1024": {"data.interpolation": "nearest", "task.pooling": "all", "backbone.outputs": 200},
}  # fmt: skip


@pytest.mark.sample(4)
@pytest.mark.parametrize("preset", RECIPES)
def test_a_preset_has_the_recipe_of_its_source(preset: str, compose: Callable) -> None:
    from omegaconf import OmegaConf

    cfg = compose(*f"experiment={preset}".split())
    told = {key: OmegaConf.select(cfg, key) for key in RECIPES[preset]}
    assert told == RECIPES[preset]


@pytest.mark.parametrize("preset", [pytest.param(one, marks=() if "conv_example" in one else pytest.mark.full) for one in SMALL])
def test_it_takes_two_steps(preset: str, build: Callable) -> None:
    words = [*f"experiment={preset}".split(), *SMALL[preset]]
    bench = build(*words, "budget.epochs=1", "budget.steps=2", "budget.batch_size=4", "loop.block=1").go()
    values = [value for value in bench.metrics.values() if isinstance(value, float)]
    assert values and torch.tensor(values).isfinite().all()
    if "logit_drift" in bench.metrics and preset != "baselines/split_cifar100":  # whose trunk moves on
        assert bench.metrics["logit_drift"] == 0.0
    if preset == "edge_popup/resnet50":
        stage = bench.stages[0]
        x, y = stage.train.tensors(first=4)
        assert bench.method.loss((x, y), stage) != torch.nn.functional.cross_entropy(bench.method.logits(x, stage), y)
