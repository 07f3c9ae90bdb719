"""What members compute on the way: log-probabilities to the bit, logits they are made of, features that the head answers from."""

from collections.abc import Callable

import pytest
import torch

from maskbench.training import evaluate
from maskbench.training.outputs import FIRST, at_head, outputs, side_by_side

IMAGES = ("data.base=synthetic", "backbone=lenet_300_100", "backbone.widths=[16]", "budget.steps=2", "budget.epochs=null")


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("method", "members"),
    [("dense", 1), ("masksembles", 4), ("deep_ensembles", 5), ("mc_dropout", 4), ("masksembles_ensemble", 4),
     ("batch_ensemble_members", 4)],
)  # fmt: skip
def test_one_pass_gives_what_each_alone_would(method: str, members: int, build: Callable) -> None:
    more = ("task=uncertainty",) if method == "dense" else ()
    bench = build(f"method={method}", *more, *IMAGES)
    bench.go()
    stage = bench.stages[0]
    made = outputs(bench.method, stage, stage.test)
    log_p, y = evaluate.log_members(bench.method, stage, stage.test)
    assert torch.equal(made.log_p, log_p) and torch.equal(made.y, y)
    assert torch.equal(made.logits.double().log_softmax(-1), log_p)
    assert made.features.shape == (min(members, FIRST), len(y), 16)
    few = outputs(bench.method, stage, stage.test, first=7)
    torch.testing.assert_close(few.log_p, log_p[:, :7], rtol=1e-4, atol=1e-4)


def test_the_head_answers_from_the_features(build: Callable) -> None:
    bench = build("method=masksembles", *IMAGES)
    bench.go()
    stage, net = bench.stages[0], bench.method.net
    made = outputs(bench.method, stage, stage.test)
    torch.testing.assert_close(net.head(made.features), made.logits, rtol=1e-5, atol=1e-5)


def test_answers_that_are_not_made_of_logits_have_none(build: Callable) -> None:
    bench = build("method=masksembles", *IMAGES)
    bench.go()
    stage, predict = bench.stages[0], bench.method.predict
    bench.method.predict = lambda x, stage: 0.9 * predict(x, stage) + 0.01
    made = outputs(bench.method, stage, stage.test)
    assert made.logits is None and torch.equal(made.log_p, evaluate.log_members(bench.method, stage, stage.test)[0])


def test_a_net_without_a_head_has_no_features() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with at_head(net) as given:
        net(torch.zeros(3, 2))
    assert given == []


def test_squared_distances_side_by_side_are_the_mean_over_members() -> None:
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    flat = side_by_side(x)
    assert flat.shape == (5, 12)
    torch.testing.assert_close((flat[0] - flat[1]).square().sum(), (x[:, 0] - x[:, 1]).square().sum(-1).mean())


@pytest.mark.full
def test_nets_that_are_answered_in_groups_have_logits_and_no_features(build: Callable) -> None:
    bench = build("method=dense", "task=uncertainty", "data.base=synthetic", "backbone=resnet18", "backbone.norm=batch_no_stats",
                  "backbone.base=4", "task.draws=0", "budget.steps=2", "budget.epochs=null")  # fmt: skip
    bench.go()
    stage = bench.stages[0]
    made = outputs(bench.method, stage, stage.test)
    log_p, y = evaluate.log_members(bench.method, stage, stage.test)
    assert torch.equal(made.log_p, log_p) and torch.equal(made.y, y)
    assert made.logits is not None and made.features is None
    assert bench.metrics["auroc_knn/synthetic_other"] is None and bench.metrics["auroc_energy/synthetic_other"] is not None
