"""Norms when the stage is not given (the specification of the continual family, section 8): ResNet-20, half as wide, on three
rotations of synthetic images, by groups without statistics and by running statistics of each mask's own.

Brute force finds the stage. Of One-Shot and Binary the specification has nothing on residual nets (its small net reaches 49 to
84 % on SplitMNIST); here they stay at chance, so that nothing is held of them.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskbench.training import evaluate

pytestmark = pytest.mark.slow

DATA = ("data=rotatedmnist", "data.base=synthetic", "data.stages=3")
NET = (
    "backbone=resnet20",
    "backbone.base=8",
    "backbone.bias=false",
    "budget.steps=80",
    "budget.batch_size=64",
    "optimizer.lr=1e-3",
)
WORDS = ("method=supsup", *DATA, *NET, "task.pooling=all", "task.trials=20")


@pytest.fixture
def grouped(build: Callable) -> Any:
    rules = "method.inference=[one_shot_H,binary_H,brute_force_H]"
    return build(*WORDS, "backbone.norm=batch_no_stats", rules).go()


def test_stages_are_found_from_128_images_whatever_the_evaluations_batch(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = grouped.metrics
    assert found["task_inference_accuracy/brute_force_H_128"] >= 0.95
    assert found["average_accuracy"] >= 0.8, "nets that have learnt their stages"
    assert found["logit_drift"] == 0.0
    method, stage = grouped.method, grouped.stages[1]
    groups = stage.test.tensors()[0][:256].unflatten(0, (2, 128))
    answers: dict[int, list[torch.Tensor]] = {}
    for batch in (10, 100, 1000):
        monkeypatch.setattr(evaluate, "BATCH", batch)
        answers[batch] = [
            evaluate.logits(method, stage, stage.test, 300),
            *(method.infer(groups, r) for r in method.inference_rules),
        ]
    for batch in (10, 100):
        assert all(torch.equal(one, other) for one, other in zip(answers[batch], answers[1000], strict=True))
