"""Joint training is training on the union of the stages, from the first weights, for as long as they take together."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskbench.backbones.mlp import MLP
from maskbench.methods.continual.joint import Joint
from maskbench.methods.dense import Dense

GROUPS = ((0, 1), (2, 3), (4, 5))
TINY = ("data.base=synthetic", "backbone.widths=[8]", "budget.batch_size=16", "task.probe=5")


def net() -> nn.Module:
    torch.manual_seed(3)
    return MLP((5,), 6, widths=[7])


def test_stage_t_has_the_rows_of_1_to_t_and_t_budgets(stream: Callable, hand_fit: Callable) -> None:
    method, fit, stages = Joint(net()), hand_fit(steps=5), stream(*GROUPS)
    for stage in stages:
        method.learn(stage, fit)
    assert [phase.total for phase in fit.phases] == [5, 10, 15]
    for t, phase in enumerate(fit.phases):
        x, y = phase.stage.train.tensors()
        assert torch.equal(x, torch.cat([stage.train.x for stage in stages[: t + 1]]))
        assert torch.equal(y, torch.cat([stage.train.y for stage in stages[: t + 1]]))


def test_every_stage_starts_from_the_first_weights(stream: Callable) -> None:
    method, start, seen = Joint(net()), net().state_dict(), []

    class Look:
        def length(self, rows: int, share: float, stage: int) -> int:
            return round(3 * share)

        def __call__(self, method: Joint, stage: object, share: float) -> None:
            seen.append(all(torch.equal(value, start[name]) for name, value in method.net.state_dict().items()))
            for p in method.net.parameters():
                p.data.add_(1)

    for stage in stream(*GROUPS):
        method.learn(stage, Look())
    assert seen == [True] * 3


@pytest.mark.parametrize("data", ["splitmnist", "permutedmnist"])
def test_it_is_plain_training_on_the_union_bit_for_bit(data: str, build: Callable) -> None:
    """Through the loop itself: the same seed, phase and batches on splits that were copied together."""
    words = (f"data={data}", "data.stages=2", *TINY, "budget.steps=4")
    joint, plain = build("method=joint", *words, folder="joint"), build("method=joint", *words, folder="plain")
    first, second = joint.stages
    dense = Dense(plain.method.net, outputs="seen")
    joint.journal.name = plain.journal.name = "alone"
    joint.method.learn(second, joint.fit)
    object.__setattr__(plain.stages[1], "train", plain.stages[0].train + plain.stages[1].train)
    plain.fit(dense, plain.stages[1], share=2.0)
    assert all(torch.equal(a, b) for a, b in zip(joint.method.net.parameters(), dense.net.parameters(), strict=True))


@pytest.mark.parametrize("epochs", [[2, 2, 2, 2, 2], [3, 1, 2, 1, 4]])
def test_epochs_are_those_of_the_stages(epochs: list[int], build: Callable) -> None:
    told = f"budget.epochs={epochs}".replace(" ", "") if len(set(epochs)) > 1 else "budget.epochs=2"
    bench, asked = build("method=joint", *TINY, "budget.steps=null", told), []
    fit = bench.fit

    class Counting:
        length = staticmethod(fit.length)

        def __call__(self, method: Joint, stage, share: float) -> None:
            asked.append(fit.length(len(stage.train), share, stage.index))

    steps = 0
    for stage, times in zip(bench.stages, epochs, strict=True):
        bench.method.learn(stage, Counting())
        steps += times * -(-len(stage.train) // 16)
        assert asked[-1] == steps


def test_its_bytes_are_the_net_and_all_images(stream: Callable, hand_fit: Callable) -> None:
    method, weights = Joint(net()), sum(p.numel() for p in net().parameters())
    assert method.memory() == {"shared": 4 * weights, "stage": 0}
    for stage in stream(*GROUPS):
        method.learn(stage, hand_fit(steps=1))
        assert method.memory()["shared"] == 4 * weights + 48 * (stage.index + 1) * (4 * 5 + 8)
