"""What task=prune says about layers that pruning leaves nearly empty."""

import pytest

from maskbench.tasks.prune import TICKET, starved


def rows(*accuracies: float) -> list[dict]:
    metrics = {"density": 0.05, "density/first": 0.06, "density/head": 0.002}
    return [{"level": n, "branch": TICKET, "accuracy": a, "extra_metrics": metrics} for n, a in enumerate(accuracies)]


def test_the_level_that_falls_to_chance_says_so_and_names_the_thinnest_layer() -> None:
    (note,) = starved(rows(0.97, 0.9, 0.11), 10)
    assert note.startswith("Level 2 falls to chance (accuracy 0.110): of head 0.002 ")


@pytest.mark.parametrize("accuracies", [(0.1,), (0.97, 0.9), (0.97, 0.1, 0.1), (0.1, 0.1)])
def test_nothing_is_said_before_or_again_or_of_a_net_that_never_learnt(accuracies: tuple[float, ...]) -> None:
    assert starved(rows(*accuracies), 10) == []


def test_a_run_says_it_at_that_level(build) -> None:
    words = ("data.base=synthetic", "backbone=lenet_300_100", "backbone.widths=[16]", "budget.steps=60", "budget.epochs=null")
    bench = build("method=lottery", "method.scope=global", "method.rate=0.93", "task.levels=2", *words).go()
    ticket = [row["accuracy"] for row in bench.outcome.curves if row["branch"] == TICKET]
    level = next(n for n, accuracy in enumerate(ticket) if accuracy <= 0.15)
    assert any(note.startswith(f"Level {level} falls to chance") for note in bench.outcome.notes)
