"""What an answer costs, counted as it is carried out: the table of docs/metrics.md from runs."""

from collections.abc import Callable

import pytest
import torch

from maskbench.tasks import answering

LENET = 416_520  # multiply-adds of one image of 28 x 28
WEIGHTS = 61_706
SMALL = ("data.base=synthetic", "data.ood=null", "backbone=lenet5", "budget.steps=2", "budget.epochs=null", "task.draws=0")
ROWS = {  # multiples of one net's: multiply-adds, and bytes
    "method=dense": (1, 1),
    "method=deep_ensembles method.members=3": (3, 3),
    "method=masksembles method.members=3": (3, 1),
    "method=mc_dropout method.passes=3": (3, 1),
    "method=swag method.members=3": (3, 2),
    "method=batch_ensemble_members method.members=3": (3, None),
    "method=packed_ensembles": (534_960 / LENET, 62_952 / WEIGHTS),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("row", ROWS)
def test_an_answer_of_lenet(row: str, build: Callable) -> None:
    macs, kept = ROWS[row]
    metrics = build(*row.split(), *SMALL).go().outcome.metrics
    assert metrics["answer_macs"] == macs * LENET
    assert kept is None or metrics["memory_bytes"] == pytest.approx(4 * kept * WEIGHTS)
    assert metrics["answer_cpu_seconds"] > 0


def test_counting_leaves_random_streams_alone(build: Callable) -> None:
    bench = build("method=mc_dropout", *SMALL)
    before = torch.get_rng_state()
    answering.cost(bench.method, bench.stages[0])
    assert torch.equal(before, torch.get_rng_state())


def test_a_net_that_answers_in_groups_has_no_cost_of_one_input(build: Callable) -> None:
    net = ("backbone=resnet20", "backbone.width=0.25", "backbone.norm=batch_no_stats")
    bench = build("method=dense", *net, *SMALL[:2])
    numbers = answering.cost(bench.method, bench.stages[0])
    assert numbers["answer_macs"] is None and numbers["memory_bytes"] > 0
