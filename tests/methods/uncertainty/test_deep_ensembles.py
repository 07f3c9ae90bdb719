"""Deep ensembles: members with starts and orders of their own, alike together and apart; adversaries; one member is itself."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.conv import LeNet5
from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data import gaussian
from maskbench.data.stage import Origin, Split, Stage
from maskbench.methods.uncertainty.deep_ensembles import DeepEnsembles
from maskbench.training import evaluate

TINY = ("method=deep_ensembles", "data.base=synthetic", "backbone.widths=[12]", "budget.steps=12", "budget.epochs=null")


def table(folds: int = 3, rows: int = 40) -> Stage:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, folds, 4, generator=g)
    split = Split(x, x.sum(-1, keepdim=True) + 0.1 * torch.randn(rows, folds, 1, generator=g))
    return Stage(
        index=0, total=1, name="table", train=split, val=split, test=split, classes=(), outputs=1, shape=(folds, 4),
        origin=Origin("table", "synthetic"), criterion=gaussian.loss, link=partial(gaussian.answer, values=1), folds=folds,
    )  # fmt: skip


def ensemble(**knobs: object) -> DeepEnsembles:
    torch.manual_seed(0)
    return DeepEnsembles(FoldMLP((3, 4), 2, widths=[8], init="torch"), **({"members": 3} | knobs))


def side_by_side(stage: Stage, members: int, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A batch as a fit with so many data orders gives it: member m sees the rows rolled by m."""
    index = torch.stack([rows.roll(m) for m in range(members)], 1)
    return stage.train.x[index], stage.train.y[index]


# ---- members


def test_members_differ_in_their_start_and_their_seeds_are_told() -> None:
    one, again = ensemble(), ensemble()
    first, second = (one.w["head|weight"][m] for m in range(2))
    assert not torch.equal(first, second)
    assert all(torch.equal(value, again.stacked()[name]) for name, value in one.stacked().items())
    seeds = [*one.fingerprints()["seeds_init"], *one.fingerprints()["seeds_order"]]
    assert len(set(seeds)) == 6 and all(seed == int(float(seed)) for seed in seeds)
    start = one.start(1)
    assert all(torch.equal(start[name], value) for name, value in one.member(1).items()), "its seed alone decides"


def test_members_of_a_larger_ensemble_are_those_of_a_smaller_one_and_more() -> None:
    small, large = ensemble(members=2), ensemble(members=4)
    for m in range(2):
        assert all(torch.equal(value, large.member(m)[name]) for name, value in small.member(m).items())


def test_the_loss_together_has_the_gradients_of_each_apart() -> None:
    stage, one = table(), ensemble(together=True)
    one.step = None
    x, y = side_by_side(stage, 3, torch.arange(10))
    one.loss((x, y), stage).backward()
    for m in range(3):
        own = {name: value.detach().requires_grad_() for name, value in one.member(m).items()}
        loss = stage.criterion(torch.func.functional_call(one.net, own, (x[:, m],)), y[:, m])
        for (name, _), grad in zip(own.items(), torch.autograd.grad(loss, list(own.values())), strict=True):
            torch.testing.assert_close(one.w[name.replace(".", "|")].grad[m], grad)


@pytest.mark.sample(1)
@pytest.mark.parametrize("adversarial", ["none", "sign"])
def test_together_and_apart_train_the_same_nets_on_the_same_batches(adversarial: str, build: Callable) -> None:
    more = ("method.members=3", f"method.adversarial={adversarial}")
    together = build(*TINY, *more, "method.together=true", folder="together").go()
    apart = build(*TINY, *more, "method.together=false", folder="apart").go()
    a, b = together.method.stacked(), apart.method.stacked()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)
    assert together.metrics["trained_together"] == 1 and apart.metrics["trained_together"] == 0


def test_one_member_is_the_first_of_several(build: Callable) -> None:
    one = build(*TINY, "method.members=1", "method.together=false", folder="one").go()
    many = build(*TINY, "method.members=3", "method.together=false", folder="many").go()
    stage = one.stages[0]
    result, _ = evaluate.members(one.method, stage, stage.test)
    assert len(result) == 1 and torch.equal(result[0], evaluate.members(many.method, stage, stage.test)[0][0])
    assert one.metrics["nll"] == pytest.approx(one.metrics["member_nll"], abs=1e-12)
    assert one.metrics["mutual_information"] is None
    rows = [row for row in many.outcome.curves if row["kind"] == "members"]
    assert [row["members"] for row in rows] == [1, 2, 3] and rows[0]["nll"] == one.metrics["nll"]
    assert rows[-1]["nll"] == many.metrics["nll"]


def test_looks_during_training_see_the_member_that_trains(build: Callable) -> None:
    looks = ("method.members=2", "method.together=false", "budget.validate_every=6", "loop.block=1")
    bench = build(*TINY, *looks, "budget.steps=30").go()
    rows = [line.split(",") for line in bench.rows.decode().splitlines()]
    for member in range(2):
        losses = [float(row[-1]) for row in rows if row[1] == f"member {member}" and row[3] == "val_loss"]
        assert len(losses) >= 5 and len(set(losses)) == len(losses) and losses[-1] < losses[0]
    assert bench.method.alone is None


def test_the_members_of_one_regression_net_are_its_own() -> None:
    stage, one = table(), ensemble(members=1)
    x, _ = stage.test.tensors()
    whole = one.predict(x, stage)
    mean, variance = gaussian.mixture_moments(*whole.split(1, -1))
    torch.testing.assert_close(torch.cat([mean, variance], -1), whole[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 128])
def test_predictions_do_not_depend_on_the_batch(size: int) -> None:
    stage, one = table(rows=128), ensemble()
    x, _ = stage.test.tensors()
    parts = torch.cat([one.predict(part, stage) for part in x.split(size)], 1)
    torch.testing.assert_close(parts, one.predict(x, stage), rtol=1e-5, atol=1e-6)


# ---- adversaries


def by_hand(one: DeepEnsembles, stage: Stage, x: Tensor, y: Tensor, sign: Tensor) -> Tensor:
    reach = 0.01 * (stage.train.x.amax(0) - stage.train.x.amin(0))
    return one.plain_loss(x, y, stage) + one.plain_loss(x + reach * sign, y, stage)


def learnt(one: DeepEnsembles, stage: Stage) -> DeepEnsembles:
    one.learn(stage, lambda *_, **__: None)
    return one


def test_the_adversary_moves_each_input_by_one_percent_of_its_range_against_the_net() -> None:
    stage = table()
    one = learnt(ensemble(adversarial="sign"), stage)
    x, y = side_by_side(stage, 3, torch.arange(10))
    moving = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(one.plain_loss(moving, y, stage), moving)
    loss = one.loss((x, y), stage)
    torch.testing.assert_close(loss, by_hand(one, stage, x.detach(), y, slope.sign()))
    assert loss > 2 * one.plain_loss(x.detach(), y, stage), "to first order it can only grow"


def test_the_attack_is_not_differentiated_through() -> None:
    stage = table()
    one = learnt(ensemble(adversarial="sign"), stage)
    x, y = side_by_side(stage, 3, torch.arange(10))
    w = one.w["hidden|0|weight"]
    (result,) = torch.autograd.grad(one.loss((x.clone(), y), stage), w)
    moving = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(one.plain_loss(moving, y, stage), moving)
    (wanted,) = torch.autograd.grad(by_hand(one, stage, x, y, slope.sign().detach()), w)
    torch.testing.assert_close(result, wanted)


def test_the_control_moves_by_lot() -> None:
    stage = table()
    one = learnt(ensemble(adversarial="random"), stage)
    x, y = side_by_side(stage, 3, torch.arange(10))
    torch.manual_seed(1)
    loss = one.loss((x, y), stage)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, by_hand(one, stage, x, y, torch.randint_like(x, 2) * 2 - 1))


# ---- together or apart


def test_small_dense_nets_train_together_and_convolutions_apart() -> None:
    torch.manual_seed(0)
    assert DeepEnsembles(MLP((4,), 2, widths=[3])).together
    assert not DeepEnsembles(MLP((784,), 10, widths=[300, 100])).together, "no faster so"
    conv = DeepEnsembles(LeNet5((1, 28, 28), 10, channels=[2, 2], widths=[4]), members=2)
    assert not conv.together and len(list(conv.trainable_parameters())) == len(list(conv.net.parameters()))


def test_norms_are_each_members_own_when_members_train_together() -> None:
    class Normed(nn.Module):
        init = "torch"

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x))

    torch.manual_seed(0)
    one = DeepEnsembles(Normed(), members=2, together=True).train()
    one.step = None
    stage = Stage.__new__(Stage)
    object.__setattr__(stage, "criterion", nn.functional.cross_entropy)
    x = torch.stack([torch.randn(50, 4), 5 + torch.randn(50, 4)], 1)
    one.loss((x, torch.randint(3, (50, 2))), stage).backward()
    means = one.still["norm.running_mean"]
    torch.testing.assert_close(means, 0.1 * x.mean(0))
    assert one.net.norm.running_mean.eq(0).all() and one.still["norm.num_batches_tracked"].tolist() == [1, 1]
    assert not DeepEnsembles(Normed(), members=2).together, "unless asked, norms train apart"


@pytest.mark.parametrize(
    "knobs, words",
    [
        ({"members": 0}, "members"),
        ({"together": "maybe"}, "together"),
        ({"adversarial": "yes"}, "adversarial"),
        ({"reach": -1}, "reach"),
    ],
)
def test_wrong_knobs_are_refused_in_words(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=f"method.{words}="):
        ensemble(**knobs)


# ---- a run


@pytest.mark.sample(1)
@pytest.mark.parametrize("together", [True, False])
def test_an_interrupted_ensemble_goes_on_bit_for_bit(together: bool, build: Callable, relay: Callable, same: Callable) -> None:
    more = (*TINY, "method.members=3", f"method.together={together}", "loop.block=3", "loop.checkpoint_seconds=0")
    calm = build(*more, folder="calm").go()
    same(calm, relay(*more, folder="resumed", halts=[2, 3] if together else [2, 5, 3]))
