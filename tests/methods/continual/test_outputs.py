"""Which outputs a loss sees: what it does not see is out of the softmax, and gets no gradient."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from maskbench.cli import clashes
from maskbench.common.errors import UsageError
from maskbench.methods.continual import outputs as over
from maskbench.methods.dense import Dense
from maskbench.training.losses import label_smoothing

SHARED = ("ewc", "si", "lwf", "replay", "joint")
KINDS = ("seen", "all", "stage")


@st.composite
def dealt(draw) -> list[tuple[int, ...]]:
    """Six classes in stages of two or three, in any order; one may be in none."""
    order = draw(st.permutations(range(6)))
    sizes = draw(st.sampled_from([(2, 2, 2), (3, 3), (2, 3), (2, 4), (4, 2)]))
    ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [tuple(order[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


@given(groups=dealt(), kind=st.sampled_from(KINDS), seed=st.integers(0, 99))
def test_it_is_the_softmax_with_minus_infinity_elsewhere(groups: list, kind: str, seed: int) -> None:
    from maskbench.data.stage import Origin, Split, Stage, in_order

    empty = Split(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    sizes = {"total": len(groups), "outputs": 6, "shape": (1,), "origin": Origin("none", "synthetic")}
    stages = in_order(
        Stage(index=i, name=str(i), train=empty, val=empty, test=empty, classes=own, labels=own, **sizes)
        for i, own in enumerate(groups)
    )
    draw = torch.Generator().manual_seed(seed)
    known = [label for own in groups for label in own]
    y = torch.tensor(known)[torch.randint(len(known), (9,), generator=draw)]  # rows of all stages
    logits = torch.randn(9, 6, generator=draw, requires_grad=True)
    visible = torch.zeros(9, 6, dtype=torch.bool)
    for row, label in enumerate(y.tolist()):
        own = next(own for own in groups if label in own)
        visible[row, list({"seen": known, "all": range(6), "stage": own}[kind])] = True
    value = over.loss(logits, y, stages[-1], kind)
    assert torch.allclose(value, F.cross_entropy(logits.masked_fill(~visible, -torch.inf), y), atol=1e-6)
    (gradient,) = torch.autograd.grad(value, logits)
    assert not gradient[~visible].any() and gradient[visible].all()


def test_the_criterion_of_the_stage_is_asked_and_spreads_over_what_it_sees(stream: Callable) -> None:
    stages = stream((4, 1), (0, 3, 5))
    last = replace(stages[1], criterion=partial(label_smoothing, smoothing=0.3))
    logits, y = torch.randn(4, 6), torch.tensor([0, 3, 5, 3])
    own = F.cross_entropy(logits[:, [0, 3, 5]], torch.tensor([0, 1, 2, 1]), label_smoothing=0.3)
    assert torch.allclose(over.loss(logits, y, last, "stage"), own)
    seen = F.cross_entropy(logits[:, [0, 1, 3, 4, 5]], torch.tensor([0, 2, 4, 2]), label_smoothing=0.3)
    assert torch.allclose(over.loss(logits, y, last, "seen"), seen)


def test_stages_that_share_their_labels_are_judged_plainly(stream: Callable) -> None:
    *_, last = stream(*[tuple(range(6))] * 3)
    logits, y = torch.randn(4, 6), torch.tensor([0, 5, 2, 2])
    assert all(torch.equal(over.loss(logits, y, last, kind), F.cross_entropy(logits, y)) for kind in KINDS)


def test_a_class_that_no_stage_has_is_no_target(stream: Callable) -> None:
    with pytest.raises(IndexError):
        over.loss(torch.randn(1, 6), torch.tensor([5]), stream((0, 1), (2, 3))[1], "seen")


def test_one_class_alone_is_refused_where_its_loss_would_be_nothing(stream: Callable) -> None:
    stages = stream((0, 1), (2,))
    with pytest.raises(UsageError, match=r"method\.outputs=stage: the one class of stage 2 .* take method\.outputs=seen"):
        over.loss(torch.randn(1, 6), torch.tensor([2]), stages[1], "stage")
    assert over.loss(torch.randn(1, 6), torch.tensor([2]), stages[1], "seen") > 0


@pytest.mark.parametrize("key", ["split=[[0,1],[2],[3,4]]", "sizes=[2,1,7]"])
def test_such_data_are_refused_before_they_are_read(key: str) -> None:
    name, value = key.split("=")
    data = {"name": "splitmnist", name: eval(value)}
    method = {"name": "si", "outputs": "stage"}
    assert "method.outputs=stage" in clashes.outputs_mistake(method, data)
    assert clashes.outputs_mistake(method | {"outputs": "seen"}, data) is None
    assert (
        clashes.outputs_mistake(method, {"name": "splitmnist"} | {name: [[0, 1], [2, 3]] if name == "split" else [5, 5]}) is None
    )


# ---- the commands


@pytest.mark.parametrize(
    "data",
    ["splitmnist", *(pytest.param(name, marks=pytest.mark.full) for name in ("splitfashion", "splitcifar100", "splitimagenet"))],
)
def test_every_class_has_an_output_where_a_loss_chooses_among_them(data: str, compose: Callable) -> None:
    assert {compose(f"method={name}", f"data={data}").data.labels for name in SHARED} == {"kept"}
    assert compose("method=finetune", f"data={data}").data.labels == "shifted"
    assert compose("method=finetune", "method.outputs=seen", f"data={data}").data.labels == "kept"
    assert compose("method=packnet", f"data={data}").data.labels == "shifted"
    assert compose("method=ewc", f"data={data}", "data.labels=shifted").data.labels == "shifted"


def test_strengths_go_with_the_data(compose: Callable) -> None:
    found = {d: (compose("method=ewc", f"data={d}").method.lam, compose("method=si", f"data={d}").method.c)
             for d in ("splitmnist", "splitfashion", "permutedmnist", "rotatedmnist")}  # fmt: skip
    assert list(found.values()) == [(1e4, 100), (1e4, 100), (100, 3), (100, 3)]


@pytest.mark.parametrize(
    "name", ["finetune", *(pytest.param(name, marks=pytest.mark.full if at else ()) for at, name in enumerate(SHARED))]
)
def test_the_loss_of_each_method_sees_what_it_is_told(name: str, build: Callable) -> None:
    words = ("data.base=synthetic", "backbone.widths=[8]", "budget.steps=2", "budget.batch_size=16", "task.probe=5")
    heads = {}
    for kind in KINDS:
        bench = build(f"method={name}", f"method.outputs={kind}", *words, folder=kind)
        start = bench.method.net.head.bias.detach().clone()
        bench.method.learn(bench.stages[0], bench.fit)
        heads[kind] = bench.method.net.head.bias.detach() != start
    first = set(bench.stages[0].own)
    assert {kind: set(moved.nonzero().squeeze(1).tolist()) for kind, moved in heads.items()} == {
        "seen": first, "stage": first, "all": set(range(10)),
    }  # fmt: skip


def test_fine_tuning_without_the_word_is_as_it_was(stream: Callable) -> None:
    from maskbench.backbones.mlp import MLP

    method, stage = Dense(MLP((5,), 6, widths=[4])), stream((0, 1), (2, 3))[1]
    x, y = stage.train.tensors()
    assert torch.equal(method.loss((x, y), stage), F.cross_entropy(method.net(x), y))
