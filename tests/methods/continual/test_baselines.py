"""The baselines say what they should: fine-tuning forgets, a net per stage does not and is trained as if alone."""

from collections.abc import Callable

import torch

TINY = ("data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=40", "optimizer=adam", "task.probe=50")


def test_fine_tuning_forgets(build: Callable) -> None:
    bench = build("method=finetune", *TINY).go()
    assert bench.metrics["forgetting"] > 0.1
    assert bench.metrics["logit_drift"] > 0.1
    matrix = bench.outcome.matrices["accuracy"]
    assert min(matrix[i][i] for i in range(5)) > 0.8, "every stage was learnt"


def test_a_net_per_stage_forgets_nothing(build: Callable) -> None:
    metrics = build("method=separate", *TINY).go().metrics
    assert metrics["forgetting"] == 0.0 and metrics["logit_drift"] == 0.0


def test_each_of_them_is_trained_as_if_it_were_alone(build: Callable) -> None:
    """Learning stage 3 gives the same net whether stages were learnt before it or not."""
    nets = []
    for before in ([0, 1], []):
        bench = build("method=separate", *TINY, folder=f"after {before}")
        for index in [*before, 3]:
            bench.journal.name, bench.journal.phases = bench.stages[index].name, []
            bench.method.learn(bench.stages[index], bench.fit)
        nets.append({name: bench.method.nets[f"3/{name}"] for name in bench.method.start.names()})
    assert all(torch.equal(w, nets[1][name]) for name, w in nets[0].items())


def test_fine_tuning_may_move_the_weights_alone_that_masks_may_stand_on(build: Callable) -> None:
    """Biases end as they began; the head and the other weights do not."""
    words = ("method=finetune", "method.moves=sites", "backbone.bias=true", *TINY, "budget.steps=3")
    run = build(*words)
    start = {name: w.clone() for name, w in run.method.state_dict().items()}
    end = run.go().method.state_dict()
    moved = {"net.hidden.0.weight", "net.hidden.1.weight", "net.head.weight", "net.head.bias"}
    assert {name for name, w in end.items() if not torch.equal(w, start[name])} == moved
