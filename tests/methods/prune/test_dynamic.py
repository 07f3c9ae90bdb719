"""Static masks, SET and RigL: counts that never change, what a move does to weights and moments, when it comes, what it costs."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.methods.prune.dynamic import SET, RigL, StaticSparse
from maskbench.report import spark
from maskbench.training.method import Method, Progress
from maskbench.training.optimizers import moments, state_of

SMALL = (
    "data.base=synthetic", "backbone.widths=[16,12]", "budget.epochs=null", "budget.steps=60", "budget.batch_size=32",
    "loop.log_every=30", "method.keep=0.2",
)  # fmt: skip
MOVING = (*SMALL, "method.every=10")
MOVES = {"rigl": [10, 20, 30, 40], "set": [9, 19, 29, 39]}  # steps, from 0; the end is 45 done
OPTIMIZERS = {
    "adam": ("optimizer=adam", "optimizer.weight_decay=0.01"),
    "momentum": ("optimizer=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9", "optimizer.weight_decay=0.01"),
}


def lenet() -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 28, 28), 10, widths=[300, 100])


def small() -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 8, 8), 10, widths=[16, 12])


class Look:
    """Stands before and after a method's hook: the state then, and what the batch was."""

    def __init__(self, method: Method) -> None:
        self.method, self.seen = method, []
        self.loss, self.after_backward, self.after_step = method.loss, method.after_backward, method.after_step
        method.loss, method.after_backward, method.after_step = self.see_loss, self.see_backward, self.see_step

    def see_loss(self, batch: tuple[Tensor, Tensor], stage: object) -> Tensor:
        self.batch = batch
        self.first = self.state()
        return self.loss(batch, stage)

    def see_backward(self, progress: Progress) -> None:
        self.after_backward(progress)

    def see_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        before = self.state(optimizer)
        self.after_step(progress, optimizer)
        self.seen.append((progress.step, self.batch, self.first, before, self.state(optimizer)))

    def state(self, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Tensor]:
        net, sparse = self.method.net, self.method.sparse
        state = {name: value.clone() for name, value in net.state_dict().items()}
        state |= {f"mask|{name}": sparse[name] for name in sparse.sites}
        for name in sparse.sites if optimizer is not None else ():
            w = net.get_parameter(name)
            state |= {f"moment{i}|{name}": m.clone() for i, m in enumerate(moments(optimizer, w))}
            state[f"steps|{name}"] = torch.as_tensor(state_of(optimizer, w).get("step", 0.0)).clone()
        return state


# ---- counts


@pytest.mark.parametrize("method", [StaticSparse, SET, RigL])
@pytest.mark.parametrize(("keep", "counts"), [(0.1, [18714, 6906, 1000]), (0.05, [9051, 3340, 919]), (0.01, [1810, 668, 184])])
def test_layers_have_the_counts_of_erk(method: type, keep: float, counts: list[int]) -> None:
    made = method(lenet(), keep=keep)
    assert [int(m.sum()) for m in made.masks().values()] == counts
    assert made.extra_metrics()["density"] == sum(counts) / 266_200
    assert all(not made.net.get_parameter(name)[~made.sparse[name]].any() for name in made.sparse.sites)
    assert made.memory() == {"shared": 4 * (sum(counts) + 410), "stage": 33_275}


def test_static_masks_under_every_scope() -> None:
    count = lambda **knobs: [int(m.sum()) for m in StaticSparse(lenet(), **knobs).masks().values()]  # noqa: E731
    assert count(distribution="uniform") == [11760, 1500, 50]
    assert sum(count(scope="global")) == 13_310
    assert count(scope="2:4") == [117_600, 15_000, 500]
    assert {int(n) for n in StaticSparse(lenet(), scope="row").sparse["hidden.0.weight"].sum(1)} == {40}
    units = StaticSparse(lenet(), scope="unit", keep=0.1)
    assert [int(m.any(1).sum()) for m in units.masks().values()] == [30, 10, 10]


def test_all_three_begin_with_the_same_net_and_mask(build: Callable) -> None:
    """So that what differs between runs of one seed is what the methods do."""
    one, *others = (build(f"method={name}", *SMALL, folder=name).method for name in ("static_sparse", "set", "rigl"))
    for other in others:
        assert all(torch.equal(mask, other.masks()[name]) for name, mask in one.masks().items())
        assert all(torch.equal(value, other.net.state_dict()[name]) for name, value in one.net.state_dict().items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["static_sparse", "rigl", "set"])
def test_at_every_step_counts_are_the_first_and_the_dead_are_zero(name: str, optimizer: str, build: Callable) -> None:
    bench = build(f"method={name}", *(SMALL if name == "static_sparse" else MOVING), *OPTIMIZERS[optimizer])
    sparse = bench.method.sparse
    first, kept = sparse.counts(), sparse.kept()
    if name == "static_sparse":
        bench.go()
        assert all(torch.equal(mask, sparse[site]) for site, mask in kept.items())
        assert all(not bench.method.net.get_parameter(site)[~mask].any() for site, mask in kept.items())
        return
    look = Look(bench.method)
    bench.go()
    assert len(look.seen) == 60
    for *_, after in look.seen:
        for site in sparse.sites:
            dead = ~after[f"mask|{site}"]
            assert int((~dead).sum()) == first[site]
            past = [value for key, value in after.items() if key.startswith("moment") and key.endswith(f"|{site}")]
            assert past and not any(tensor[dead].any() for tensor in (after[site], *past))
    gone = sum(int((mask & ~sparse[site]).sum()) for site, mask in kept.items())
    assert bench.metrics["replaced"] == pytest.approx(gone / sum(first.values())) and bench.metrics["replaced"] > 0.1
    history = spark.series(bench.folder)
    for site, mask in kept.items():
        by_layer = history["level 0", "train", f"replaced/{site.removesuffix('.weight')}"]
        assert by_layer[-1] == (60, pytest.approx(int((mask & ~sparse[site]).sum()) / first[site]))
        assert len(by_layer) == len(history["level 0", "train", "loss"]) > 1


# ---- a move


def by_hand(state: dict[str, Tensor], site: str, n: int, score: Tensor) -> tuple[Tensor, Tensor]:
    """(mask of what stays, mask of what grows) by two sorts."""
    mask, w = state[f"mask|{site}"].flatten(), state[site].flatten()
    alive = mask.nonzero()[:, 0]
    stay = torch.zeros_like(mask)
    stay[alive[w[alive].abs().argsort(descending=True)[: len(alive) - n]]] = True
    free = (~stay).nonzero()[:, 0]
    grown = torch.zeros_like(mask)
    grown[free[score.flatten()[free].argsort(descending=True)[:n]]] = True
    return stay.view(state[site].shape), grown.view(state[site].shape)


def exchanged(done: int, count: int, total: int = 60, end: float = 0.75, alpha: float = 0.3) -> int:
    return math.floor(alpha / 2 * (1 + math.cos(math.pi * done / (end * total))) * count)


def assert_moved(before: dict[str, Tensor], after: dict[str, Tensor], site: str, stay: Tensor, grown: Tensor) -> int:
    """Values and moments of what lived and lives are as before, those of the newborn are 0; how many these are."""
    mask = before[f"mask|{site}"]
    assert torch.equal(after[f"mask|{site}"], stay | grown)
    newborn, through = grown & ~mask, mask & (stay | grown)
    assert not (stay & grown).any()
    tensors = [site, *(key for key in before if key.startswith("moment") and key.endswith(f"|{site}"))]
    for key in tensors:
        assert torch.equal(after[key][through], before[key][through])
        assert not after[key][newborn].any()
    assert torch.equal(before[f"steps|{site}"], after[f"steps|{site}"])
    return int(newborn.sum())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rigl_moves_by_the_dense_gradient_in_the_place_of_a_step(optimizer: str, build: Callable) -> None:
    bench = build("method=rigl", *MOVING, *OPTIMIZERS[optimizer])
    look, stage, net = Look(bench.method), bench.stages[0], copy.deepcopy(bench.method.net)
    bench.go()
    moves = {
        step: more for step, *more in look.seen if any(not torch.equal(more[1][k], more[3][k]) for k in more[1] if "mask|" in k)
    }
    assert list(moves) == MOVES["rigl"]
    for step, (batch, first, before, after) in moves.items():
        assert all(torch.equal(first[name], before[name]) for name in net.state_dict()), "the optimiser made no step"
        w = {name: first[name].requires_grad_() for name in bench.method.sparse.sites}
        tensors = {name: first[name] for name in net.state_dict()}
        loss = stage.criterion(functional_call(net, tensors, (batch[0],)), batch[1])
        gradients = dict(zip(w, torch.autograd.grad(loss, list(w.values())), strict=True))
        for site in w:
            n = exchanged(step, int(before[f"mask|{site}"].sum()))
            newborn = assert_moved(before, after, site, *by_hand(before, site, n, gradients[site].abs()))
            assert newborn > 0 or site != "hidden.0.weight"
    for step, _, first, before, _ in look.seen:
        assert step in moves or not torch.equal(first["head.bias"], before["head.bias"])


def test_set_moves_after_the_step_by_lot(build: Callable) -> None:
    bench = build("method=set", *MOVING)
    look = Look(bench.method)
    bench.go()
    stream = None
    for step, _, first, before, after in look.seen:
        assert not torch.equal(first["head.bias"], before["head.bias"]), "the optimiser makes every step"
        moved = any(not torch.equal(before[key], after[key]) for key in before if "mask|" in key)
        assert moved == (step in MOVES["set"])
        for site in bench.method.sparse.sites if moved else ():
            stream = (0, "train", "level 0", 0)
            lots = torch.rand(before[site].shape, generator=Progress(step, 60, "train", None, stream).generator(site))
            n = exchanged(step + 1, int(before[f"mask|{site}"].sum()))
            newborn = assert_moved(before, after, site, *by_hand(before, site, n, lots))
            assert newborn > 0 or site != "hidden.0.weight"
    assert stream


def test_of_weights_that_grow_again_at_once_nothing_is_lost() -> None:
    """Of a full layer as many grow as go, and all of them are the dropped ones."""
    method = RigL(small(), keep=1.0, every=1)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.1)
    method.net(torch.randn(8, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    before = copy.deepcopy((method.net.state_dict(), optimizer.state_dict()["state"]))
    method.weight_gradients = {name: torch.randn(shape) for name, shape in method.sparse.shapes().items()}
    method.after_step(Progress(1, 10, "train", None, ("s",)), optimizer)
    after = (method.net.state_dict(), optimizer.state_dict()["state"])
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert all(torch.equal(v, after[1][i][k]) for i, state in before[1].items() for k, v in state.items())
    assert set(method.moves.replaced(method.sparse).values()) == {0.0}


def test_newborn_weights_may_be_drawn() -> None:
    method = SET(small(), keep=0.2, every=1, grow_init="draw", decay="constant")
    before = method.sparse.kept()
    method.steps = 1
    method.after_step(Progress(0, 10, "train", None, ("s",)), torch.optim.SGD(method.parameters(), lr=0.1))
    for name, mask in before.items():
        newborn, w = method.sparse[name] & ~mask, method.net.get_parameter(name).detach()
        assert newborn.any() and w[newborn].all() and not w[~method.sparse[name]].any()
        if name == "hidden.0.weight":
            assert float(w[newborn].std()) == pytest.approx(math.sqrt(2 / (64 + 16)), rel=0.5)


@pytest.mark.parametrize("method", [SET, RigL])
def test_under_the_scope_row_each_row_keeps_its_count(method: type) -> None:
    made = method(small(), keep=0.25, scope="row", every=1, alpha=0.5, decay="constant")
    before, made.steps = made.sparse.kept(), 1
    made.weight_gradients = {name: torch.randn(shape) for name, shape in made.sparse.shapes().items()}
    made.after_step(Progress(1, 10, "train", None, ("s",)), torch.optim.SGD(made.parameters(), lr=0.1))
    for name, mask in before.items():
        now = made.sparse[name]
        assert torch.equal(now.sum(1), mask.sum(1)) and len(set(now.sum(1).tolist())) == 1
        assert (now & ~mask).any(1).all() or name == "head.weight"


# ---- the schedule


def test_how_much_moves_and_when() -> None:
    moves = RigL(small(), keep=0.2).moves
    due = [done for done in range(2748) if moves.due(done, 100, 2748)]
    assert due == list(range(100, 2061, 100))
    assert [moves.share(done, 2748) for done in (0, 2061)] == [0.3, 0.0]
    assert moves.share(1030.5, 2748) == pytest.approx(0.15)
    assert [done for done in range(101) if RigL(small(), end=0.5).moves.due(done, 25, 100)] == [25]
    constant = SET(small(), keep=0.2, decay="constant", alpha=0.29).moves
    assert constant.exchanged(constant.share(50, 100), torch.ones(100, dtype=bool)) == 29


def test_set_as_published_moves_at_the_end_of_each_epoch(build: Callable) -> None:
    words = ("method.every=epoch", "method.decay=constant", "method.grow_init=draw", "method.distribution=er", "method.end=1")
    bench = build("method=set", *SMALL, *words, "budget.batch_size=300", "budget.steps=null", "budget.epochs=4")
    per_epoch = -(-len(bench.stages[0].train) // 300)
    look = Look(bench.method)
    bench.go()
    moved = [step + 1 for step, _, _, b, a in look.seen if any(not torch.equal(b[k], a[k]) for k in b if "mask|" in k)]
    assert moved == [per_epoch, 2 * per_epoch, 3 * per_epoch]


# ---- the same bits, whatever happens


@pytest.mark.full
@pytest.mark.parametrize("name", ["rigl", "set", "gradual"])
def test_bits_do_not_hang_on_blocks_nor_on_interruptions_between_and_in_moves(
    name: str, build: Callable, relay: Callable, same: Callable
) -> None:
    words = (f"method={name}", *MOVING)
    calm = build(*words, folder="calm").go()
    for block in (1, 7):
        same(calm, build(*words, f"loop.block={block}", folder=str(block)).go())
    for every, halts in ((0, [2, 1, 3, 2]), (1e9, [3, 8])):
        halting = (*words, "loop.block=5", f"loop.checkpoint_seconds={every}")
        same(calm, relay(*halting, folder=f"resumed{every}", halts=halts))


@pytest.mark.sample(1)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["rigl", "set", "gradual"])
def test_steps_that_a_scaler_skips_leave_the_counts_alone(name: str, optimizer: str, build: Callable) -> None:
    """At first every gradient overflows: that of RigL's first moves too, which are left out."""
    bench = build(f"method={name}", *SMALL, "method.every=4", f"optimizer={optimizer}")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=1000)
    bench.fit.trainer = {key: value for key, value in bench.fit.trainer.items() if key != "precision"}
    bench.fit.trainer["plugins"] = [MixedPrecision("16-mixed", "cpu", scaler=scaler)]
    look, first = Look(bench.method), bench.method.sparse.counts()
    bench.go()
    skipped = [step for step, _, start, before, _ in look.seen if torch.equal(start["head.bias"], before["head.bias"])]
    moved = [step for step, _, _, b, a in look.seen if any(not torch.equal(b[k], a[k]) for k in b if "mask|" in k)]
    assert len(skipped) > 12 and 2.0**10 < scaler.get_scale() < 2.0**40
    if name == "rigl":
        assert 4 not in moved and moved and not set(range(4, 45, 4)) - set(moved) - set(skipped)
    for *_, after in look.seen:
        counts = {site: int(after[f"mask|{site}"].sum()) for site in first}
        assert name == "gradual" or counts == first
        assert all(after[site].isfinite().all() and not after[site][~after[f"mask|{site}"]].any() for site in first)
    assert sum(bench.method.sparse.counts().values()) == masks.kept_count(
        0.2, sum(m.numel() for m in bench.method.masks().values())
    )


def test_weights_that_are_nan_move_no_mask() -> None:
    method = SET(small(), keep=0.2, every=1)
    method.steps, before = 1, method.sparse.kept()
    method.net.head.weight.data[method.sparse["head.weight"]] = torch.nan
    with pytest.raises(FloatingPointError, match="training diverged"):
        method.after_step(Progress(0, 10, "train", None, ("s",)), torch.optim.SGD(method.parameters(), lr=0.1))
    assert all(torch.equal(mask, method.sparse[name]) for name, mask in before.items())


# ---- what it costs


@pytest.mark.parametrize(("keep", "cost"), [(0.05, 0.0531), (0.01, 0.0133)])
def test_cost_of_a_training_in_dense_trainings(keep: float, cost: float, build: Callable) -> None:
    assert round(RigL(lenet(), keep=keep).training_cost(keep, 2748), 4) == cost
    words = (*SMALL, "budget.steps=4", "method.every=2", f"method.keep={keep}")
    runs = {name: build(f"method={name}", *words, folder=name).go().metrics for name in ("set", "rigl")}
    density = runs["set"]["density"]
    assert runs["set"]["training_cost"] == pytest.approx(density)
    assert runs["rigl"]["training_cost"] == pytest.approx((8 * density + 1) / 9)
