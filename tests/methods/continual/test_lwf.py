"""LwF: the teacher is the net before the stage, frozen; its term is the formula, and there is none in the first stage."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskbench.backbones.mlp import MLP
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.lwf import LwF
from maskbench.methods.dense import Dense

GROUPS = ((0, 1), (2, 3), (4, 5))


def net() -> nn.Module:
    torch.manual_seed(3)
    return MLP((5,), 6, widths=[7])


def test_the_first_stage_has_no_teacher(stream: Callable, hand_fit: Callable) -> None:
    first, plain, method = stream(*GROUPS)[0], Dense(net(), outputs="seen"), LwF(net())
    for one in (plain, method):
        one.learn(first, hand_fit())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), method.net.parameters(), strict=True))


def test_the_teacher_is_the_net_before_the_stage_and_stays_so(stream: Callable, hand_fit: Callable) -> None:
    stages, method, fit = stream(*GROUPS), LwF(net()), hand_fit()
    for stage in stages:
        before = {name: value.clone() for name, value in method.net.state_dict().items()}
        method.learn(stage, fit)
        if stage.index > 0:
            assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())
        assert any(not torch.equal(value, before[name]) for name, value in method.net.state_dict().items())
    assert set(method.trainable_parameters()) == set(method.net.parameters())


def test_norms_of_the_teacher_stand_still(build: Callable) -> None:
    words = ("data.base=synthetic", "backbone=resnet20", "backbone.base=2", "backbone.blocks=[1,1]", "budget.steps=3")
    bench = build("method=lwf", *words, "budget.batch_size=16")
    bench.method.learn(bench.stages[0], bench.fit)
    before = {name: value.clone() for name, value in bench.method.net.state_dict().items()}
    bench.journal.name, bench.journal.phases = "next", []
    bench.method.learn(bench.stages[1], bench.fit)
    after, teacher = bench.method.net.state_dict(), bench.method.teacher.state_dict()
    moved = [name for name in before if "running_mean" in name and not torch.equal(before[name], after[name])]
    assert moved and all(torch.equal(before[name], teacher[name]) for name in before)
    assert bench.method.net.training and not any(module.training for module in bench.method.teacher.modules())


@pytest.mark.parametrize(("kind", "sets"), [("seen", [[0, 1, 2, 3]]), ("all", [[0, 1, 2, 3]]), ("stage", [[0, 1], [2, 3]])])
def test_the_term_is_alpha_t_squared_times_the_cross_entropy_of_softened_answers(kind: str, sets: list, stream: Callable) -> None:
    stage, method = stream(*GROUPS)[2], LwF(net(), alpha=1.7, temperature=3.0, outputs=kind)
    for p in method.net.parameters():
        p.data.add_(torch.randn_like(p))
    x, y = stage.train.tensors()
    new, old, term = method.net(x), method.teacher(x), 0.0
    for own in sets:
        p, log_q = F.softmax(old[:, own] / 3, 1), F.log_softmax(new[:, own] / 3, 1)
        term = term - (p * log_q).sum(1).mean()
    wanted = over.loss(new, y, stage, kind) + 1.7 * 9 * term
    found = method.loss((x, y), stage)
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_old_stages_of_the_same_labels_have_one_softmax(stream: Callable) -> None:
    from maskbench.methods.continual.lwf import old

    *_, last = stream(*[tuple(range(6))] * 4)
    assert old(last, "stage") == old(last, "seen") == (tuple(range(6)),)


def test_bytes_are_the_net_and_in_training_its_teacher() -> None:
    assert LwF(MLP((5,), 6, widths=[4])).memory() == {"shared": 2 * 4 * (5 * 4 + 4 + 4 * 6 + 6), "stage": 0}
