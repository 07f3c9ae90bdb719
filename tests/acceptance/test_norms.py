"""Norms when the stage is not given (the specification of the continual family, section 8): ResNet-20 on three permutations of
synthetic images, by groups without statistics and by running statistics of each mask's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskbench.training import evaluate

pytestmark = pytest.mark.slow

WORDS = (
    *("method=supsup", "data=permutedmnist", "data.base=synthetic", "data.stages=3", "backbone=resnet20", "backbone.bias=false"),
    *(
        "backbone.outputs=100",
        "budget.steps=40",
        "budget.batch_size=64",
        "optimizer.lr=1e-3",
        "task.pooling=all",
        "task.trials=20",
    ),
)


@pytest.fixture
def grouped(build: Callable) -> Any:
    rules = "method.inference=[one_shot_H,binary_H,brute_force_H]"
    return build(*WORDS, "backbone.norm=batch_no_stats", rules).go()


def test_stages_are_found_from_128_images_whatever_the_evaluations_batch(grouped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = grouped.metrics
    for rule in ("one_shot_H", "brute_force_H"):
        assert found[f"task_inference_accuracy/{rule}_128"] >= 0.95, rule
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
