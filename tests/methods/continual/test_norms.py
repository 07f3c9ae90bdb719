"""SupSup on nets with norms: by groups without statistics, and with statistics that belong to one stage."""

from collections.abc import Callable

import pytest
import torch

from maskbench.methods.continual import supsup
from maskbench.methods.continual.supsup import SupSup

GROUPED = (
    *("method=supsup", "data.base=synthetic", "data.stages=2", "backbone=resnet20", "backbone.base=4", "backbone.blocks=[1,1]"),
    *("backbone.bias=false", "backbone.outputs=8", "task.trials=3", "task.probe=40", "budget.steps=3"),
)


@pytest.mark.full
def test_without_statistics_stages_are_told_apart_by_groups_that_nobody_else_is_in(build: Callable) -> None:
    bench = build(*GROUPED, "backbone.norm=batch_no_stats", "task.group=16", "task.pooling=all").go()
    method, metrics = bench.method, bench.metrics
    assert not method.statistics.names and metrics["logit_drift"] == 0.0
    assert metrics["task_inference_accuracy"] == metrics["task_inference_accuracy/one_shot_H_16"]
    groups = bench.stages[0].test.tensors()[0][:48].reshape(3, 16, 1, 28, 28)
    for search, objective in supsup.RULES.values():
        together = search(method, groups, objective)
        alone = torch.cat([search(method, group[None], objective) for group in groups])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
        mixed = search(method, groups.transpose(0, 1).reshape(groups.shape), objective)
        assert not torch.allclose(together, mixed, rtol=1e-3, atol=0) or search is SupSup.binary


def test_asking_which_mask_is_nearest_leaves_the_statistics_of_finished_stages(build: Callable) -> None:
    """Also right after a run was taken up again, when the net is still in training mode."""
    bench = build(*GROUPED, "method.transfer=nearest", "method.density_scale=8", "method.inference=[]")
    method, (first, second) = bench.method, bench.stages
    method.learn(first, bench.fit)
    before = {name: value.clone() for name, value in method.statistics.of(0).items()}
    method.train()
    method.begin(second)
    assert before and all(torch.equal(value, method.statistics.of(0)[name]) for name, value in before.items())
