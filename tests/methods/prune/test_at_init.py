"""Pruning at initialisation: exact counts from the first weights, what is dead stays 0, controls at equal counts, collapse."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maskbench import masks
from maskbench.backbones.conv import ConvK
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data.stage import Origin, Split, Stage
from maskbench.masks.connectivity import connectivity
from maskbench.masks.distributions import layer_counts
from maskbench.methods.prune.at_init import AtInit
from maskbench.tasks.prune import TICKET

CRITERIA = ("random", "large_init", "snip", "grasp", "synflow")
SMALL = ("data.base=synthetic", "backbone.widths=[24,12]", "budget.epochs=null", "budget.steps=12", "budget.batch_size=32")
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def stage() -> Stage:
    """Images of ten classes, each with a bright patch of its own; corners are always 0."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 10
    x = torch.rand(200, *SHAPE, generator=g)
    x[torch.arange(200), 0, 1 + y // 4, 1 + y % 4] += 3
    x[:, :, :, 0] = 0
    split = Split(x, y)
    parts = {"train": split, "val": split, "test": split}
    return Stage(
        index=0,
        total=1,
        name="patches",
        **parts,
        classes=tuple(range(10)),
        outputs=10,
        shape=SHAPE,
        origin=Origin("patches", "made"),
    )


def method(criterion: str, *, widths: tuple[int, ...] = (24, 12), seed: int = 0, **knobs: object) -> AtInit:
    torch.manual_seed(seed)
    return AtInit(MLP(SHAPE, 10, widths=list(widths)), criterion=criterion, **knobs)


def still(*_: object, **__: object) -> None:
    """A training of no steps."""


def drawn(criterion: str, stage: Stage, **knobs: object) -> AtInit:
    made = method(criterion, **knobs)
    made.learn(stage, still)
    return made


def counts(kept: dict[str, Tensor]) -> list[int]:
    return [int(m.sum()) for m in kept.values()]


# ---- the mask


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("rounds", [1, 7])
def test_counts_are_exact_and_kept_weights_are_the_first_ones(criterion: str, rounds: int, stage: Stage) -> None:
    before = {name: w.clone() for name, w in method(criterion).net.state_dict().items()}
    made = drawn(criterion, stage, keep=0.037, rounds=rounds)
    kept = made.sparse.kept()
    assert sum(counts(kept)) == masks.kept_count(0.037, 64 * 24 + 24 * 12 + 120)
    for name, w in made.net.state_dict().items():
        assert torch.equal(w, before[name] * kept[name] if name in kept else before[name])
    assert made.has_learned(stage) and set(made.masks()) == {f"0/{name}" for name in kept}


def test_layers_and_patterns_have_their_own_counts(stage: Stage) -> None:
    shapes = method("snip").sparse.shapes()
    for rule in ("erk", "uniform"):
        made = drawn("snip", stage, keep=0.1, scope="layer", distribution=rule)
        assert made.sparse.counts() == layer_counts(shapes, 0.1, rule)
    made = drawn("grasp", stage, scope="2:4", dense=["head"])
    for m in made.sparse.kept().values():
        assert (m.unflatten(1, (-1, 4)).sum(2) == 2).all()
    assert made.keep == 0.5 and "head.weight" not in made.sparse.sites


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_inputs_that_are_always_0_keep_nothing(criterion: str, stage: Stage) -> None:
    first = drawn(criterion, stage, keep=0.05).sparse["hidden.0.weight"]
    assert not first.unflatten(1, SHAPE)[..., 0].any() and first.any()


def test_the_draw_is_one_stream_of_the_seed(stage: Stage) -> None:
    """What was drawn elsewhere leaves it alone; another seed has other images and other weights."""
    one, two = method("snip", keep=0.2), method("snip", keep=0.2)
    torch.rand(7)
    one.learn(stage, still)
    torch.manual_seed(5)
    two.learn(stage, still)
    assert all(torch.equal(one.sparse[name], two.sparse[name]) for name in one.sparse.sites)
    other = drawn("snip", stage, keep=0.2, seed=1)
    assert any(not torch.equal(one.sparse[name], other.sparse[name]) for name in one.sparse.sites)


def test_a_mask_is_drawn_once(stage: Stage) -> None:
    made = drawn("random", stage)
    before = made.sparse.kept()
    made.learn(stage, still)
    assert all(torch.equal(m, before[name]) for name, m in made.sparse.kept().items())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_is_dead_stays_exactly_0_in_net_and_optimiser(optimizer: str, build: Callable) -> None:
    more = ("method.kernel=dense", *(["optimizer.momentum=0.9"] if optimizer == "sgd" else []))
    bench = build("method=snip", *SMALL, f"optimizer={optimizer}", "optimizer.weight_decay=0.01", "task.branch_levels=[]", *more)
    states = []
    make = bench.fit.optimizer
    bench.fit.optimizer = lambda groups: states.append(make(groups)) or states[-1]
    bench.go()
    (state,) = states
    for name, kept in bench.method.sparse.kept().items():
        w = bench.method.net.get_parameter(name)
        assert (w[~kept] == 0).all() and (w[kept] != 0).all()
        memories = [value for value in state.state[w].values() if value.shape == w.shape]
        assert memories and all((value[~kept] == 0).all() and (value[kept] != 0).any() for value in memories)


# ---- controls


def test_controls_have_equal_counts_and_start_from_the_same_weights(stage: Stage) -> None:
    plain = drawn("snip", stage, keep=0.1)
    first = {name: plain.sparse.start[name] for name in plain.sparse.start.names()}
    own, total = plain.sparse.kept(), sum(plain.sparse.counts().values())
    with torch.no_grad():
        plain.net.head.bias += 1  # training moved it
    for place in ("shuffle", "shuffle_inputs", "invert", "erk", "uniform"):
        twin = drawn("snip", stage, keep=0.1)
        twin.net.load_state_dict(plain.net.state_dict())
        assert twin.branch(stage, mask=place) is twin
        kept = twin.sparse.kept()
        assert sum(counts(kept)) == total and any(not torch.equal(kept[name], own[name]) for name in own)
        for name, value in twin.net.state_dict().items():
            assert torch.equal(value, first[name] * kept[name] if name in kept else first[name])
        if place.startswith("shuffle"):
            assert counts(kept) == counts(own)
        if place == "shuffle_inputs":
            assert all(torch.equal(kept[name].sum(0), own[name].sum(0)) for name in own)
        if place == "invert":
            assert not any((kept[name] & own[name]).any() for name in own)
        if place in ("erk", "uniform"):
            assert twin.sparse.counts() == layer_counts(twin.sparse.shapes(), 0.1, place)


def test_a_convolutions_columns_are_inputs_at_a_place(stage: Stage) -> None:
    torch.manual_seed(0)
    made = AtInit(ConvK(SHAPE, 10, channels=[6, 8], widths=[12]), criterion="snip", keep=0.1)
    made.learn(stage, still)
    before = made.sparse.kept()
    after = made.branch(stage, mask="shuffle_inputs").sparse.kept()
    assert all(torch.equal(before[name].sum(0), after[name].sum(0)) for name in before)


def test_weights_are_drawn_anew_under_the_same_mask(stage: Stage) -> None:
    made = drawn("snip", stage, keep=0.1)
    own, start = made.sparse.kept(), made.sparse.start["hidden.0.weight"]
    made.branch(stage, start="redraw")
    for name, m in made.sparse.kept().items():
        assert torch.equal(m, own[name])
        assert torch.equal(made.net.get_parameter(name), made.sparse.start[name] * m)
    assert not torch.equal(made.sparse.start["hidden.0.weight"], start)
    assert made.sparse.start["hidden.0.weight"].std() == pytest.approx(float(start.std()), rel=0.1)


def test_a_control_that_changes_nothing_gives_the_tickets_bits(build: Callable) -> None:
    """So a paired difference is the mask's, or the weights', alone: start, batches and their order are the same."""
    words = ("+task.branches.same={mask:same}", "method.keep=0.2", "budget.validate_every=4")
    bench = build("method=snip", *SMALL, *words).go()
    own, shuffled, redrawn, same = (row for row in bench.outcome.curves)
    assert same["branch"] == "same" and same["curve"] == own["curve"] != shuffled["curve"]
    assert redrawn["curve"] != own["curve"]
    density = f"{own['extra_metrics']['density']:.4f}"
    assert bench.metrics[f"difference/same/{density}"] == 0
    gap = own["accuracy"] - shuffled["accuracy"]
    assert bench.metrics[f"difference/shuffled/{density}"] == gap
    assert [line["branch"] for line in bench.outcome.table] == [TICKET, "shuffled", "redrawn", "same"]


# ---- collapse


def lenet(criterion: str, stage: Stage, *, seed: int = 0, fit: Callable = still, **knobs: object) -> AtInit:
    """LeNet-300-100, whose collapse needs no images: by criteria that look at weights alone."""
    torch.manual_seed(seed)
    made = AtInit(MLP((1, 28, 28), 10, widths=[300, 100]), criterion=criterion, **knobs)
    made.learn(replace(stage, shape=(1, 28, 28)), fit)
    return made


@pytest.mark.parametrize("keep", [0.01, 0.001])
def test_synflow_never_collapses_in_a_hundred_rounds(keep: float, stage: Stage) -> None:
    made = lenet("synflow", stage, seed=3, keep=keep, rounds=100)
    found = connectivity(made.net, made.sparse.kept(), (1, 28, 28))
    assert not found.collapsed and found.effective_density == pytest.approx(keep, rel=0.02)
    assert sum(counts(made.sparse.kept())) == masks.kept_count(keep, 266_200)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_synflow_always_collapses_in_one_round(seed: int, stage: Stage) -> None:
    made = lenet("synflow", stage, seed=seed, keep=0.05)
    assert connectivity(made.net, made.sparse.kept(), (1, 28, 28)).empty == ["hidden.0"]


def test_a_collapse_is_refused_before_training_with_remedies(stage: Stage) -> None:
    with pytest.raises(UsageError) as refused:
        lenet("synflow", stage, keep=0.05, collapse="refuse", fit=lambda *_, **__: pytest.fail("it trained"))
    words = str(refused.value)
    assert words.startswith("method.collapse=refuse: nothing is left of hidden.0; 0 of 10 outputs are reached where 13310 of")
    assert "(hidden.0 0 of 235200, hidden.1 " in words and "\n" not in words
    for remedy in ("method.scope=layer method.distribution=erk", "method=synflow", "method.keep"):
        assert remedy in words
    lenet("synflow", stage, keep=0.05)  # reported, and trained
    lenet("synflow", stage, keep=0.5, collapse="refuse", rounds=5)


def test_a_run_notes_and_marks_what_collapsed(build: Callable) -> None:
    words = ("method.rounds=1", "+task.branches.erk={mask:erk}", *SMALL[:1], *SMALL[2:])
    bench = build("method=synflow", *words).go()
    own, shuffled, redrawn, erk = bench.outcome.table
    assert own["collapse"] == shuffled["collapse"] == "nothing is left of hidden.0; 0 of 10 outputs are reached"
    assert erk["collapse"] == "" and own["effective_density"] == 0 and bench.metrics["collapsed"] == 1
    assert redrawn["collapse"] == own["collapse"]
    noted = [note.partition(" has collapsed")[0] for note in bench.outcome.notes]
    assert noted == ["Level 0", "Level 0 of shuffled", "Level 0 of redrawn"]


# ---- what is refused, and what is warned of


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"criterion": "wanda"}, "method=one_shot"),
        ({"criterion": "movement"}, "before one there is nothing to rank"),
        ({"keep": 0.0}, "method.keep"),
        ({"keep": 0.0005}, "fewer than the 3"),
        ({"scope": "2:4", "keep": 0.3}, "contradicts"),
        ({"scope": "2:4", "rounds": 100, "dense": ["head"]}, "method.rounds=1"),
        ({"scope": "3:7"}, "does not divide"),
        ({"rounds": 0}, "method.rounds"),
        ({"collapse": "ignore"}, "method.collapse"),
        ({"distribution": "random"}, "method.distribution"),
        ({"dense": ["tail"]}, "tail"),
    ],
)
def test_what_is_refused_when_it_is_made(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        method(**{"criterion": "snip"} | knobs)


def test_what_is_refused_when_the_data_are_there(stage: Stage) -> None:
    with pytest.raises(UsageError, match=r"method.per_class=21: of class 0 there are 20"):
        drawn("snip", stage, per_class=21)
    drawn("synflow", stage, per_class=21)  # which takes none


def test_synflow_warns_of_what_is_not_linear(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "maskbench"):
        drawn("synflow", stage)
        assert caplog.messages == []
        torch.manual_seed(0)
        made = AtInit(MLP(SHAPE, 10, widths=[24], activation="tanh"), criterion="synflow")
        made.learn(stage, still)
    assert ["tanh" in message for message in caplog.messages] == [True]


# ---- for the record


def test_the_cost_of_training_is_that_of_the_mask_and_of_one_gradient(build: Callable) -> None:
    for criterion, gradients in (("snip", 1), ("random", 0)):
        bench = build("method=snip", f"method.criterion={criterion}", *SMALL, "task.branch_levels=[]", folder=criterion).go()
        numbers = bench.metrics
        share = numbers["macs_sparse"] / numbers["macs_dense"]
        assert share == numbers["density"] and numbers["training_cost"] == pytest.approx(share + gradients / 12)


@pytest.mark.full
def test_a_collapse_is_refused_on_the_command_line(cli: Callable) -> None:
    words = ("method=synflow", "method.rounds=1", "method.collapse=refuse", "data.base=synthetic", "logger=none")
    done = cli(*words, "budget.epochs=null", "budget.steps=5")
    assert done.returncode == 2 and "method.collapse=refuse: nothing is left of hidden.0" in done.stderr


@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("method=snip", "method.criterion=wanda"), "take method=one_shot"),
        (("method=grasp", "method.keep=0.000005"), "leaves 2 of 266200 weights, fewer than the 3 masked layers"),
        (("method=synflow", "method.scope=2:4"), "set method.rounds=1"),
        (("method=snip", "data=cubic"), "method.criterion=snip takes its gradient on images of each class"),
    ],
)
def test_what_is_refused_before_data_are_read(cli: Callable, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    done = cli(*words, "logger=none", f"paths.data={tmp_path / 'nothing'}")
    assert done.returncode == 2 and told in done.stderr and not (tmp_path / "nothing").exists()
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.full
def test_all_controls_on_the_command_line(cli: Callable) -> None:
    done = cli("method=snip", "protocol=controls", "data.base=synthetic", "logger=none", "budget.epochs=null", "budget.steps=5")
    assert done.returncode == 0, done.stderr
    for branch in (TICKET, "shuffled", "shuffled_inputs", "redrawn", "inverted", "erk"):
        assert branch in done.stdout
    assert "ticket - branch" in done.stdout and "effective_density" in done.stdout
