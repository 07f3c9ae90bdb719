"""SWAG: moments of what was collected, when; draws that follow them; norms' statistics of each draw's own."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.common.errors import UsageError
from maskbench.data.stage import Split
from maskbench.methods.uncertainty.swag import SWAG, renewed
from maskbench.training.method import Progress


class Stage:
    """All that learning and a prediction ask of one."""

    link = staticmethod(lambda outputs: outputs.softmax(-1))
    criterion = staticmethod(cross_entropy)

    def __init__(self, *shape: int, rows: int = 8) -> None:
        torch.manual_seed(5)
        self.train = Split(torch.randn(rows, *shape), torch.randint(3, (rows,)))


def swag(**knobs) -> SWAG:
    torch.manual_seed(0)
    return SWAG(MLP((6,), 3, widths=[5]), **knobs)


def walk(seen: list[dict[str, torch.Tensor]], steps: int, per_epoch: int) -> Callable:
    """A fit whose every step moves the weights at random; what they were after each goes to `seen`."""

    def fit(method: SWAG, stage: Stage) -> None:
        with torch.no_grad():
            for step in range(steps):
                for p in method.net.parameters():
                    p.add_(torch.randn_like(p))
                seen.append({name: p.clone() for name, p in method.net.named_parameters()})
                rows = len(stage.train) // per_epoch
                method.after_step(Progress(step, steps, "train", stage, (), rows), None)

    return fit


@pytest.mark.parametrize(
    "start, per_epoch, at",
    [
        (0.5, 1, [7, 11, 12]),
        (0.0, 1, [3, 7, 11, 12]),
        (0.5, 2, [7, 9, 11, 12]),
        (0.9, 1, [11, 12]),
        (0.5, 10, list(range(6, 13))),
    ],
)
def test_moments_are_those_of_the_weights_at_ends_of_parts_of_epochs(start: float, per_epoch: int, at: list[int]) -> None:
    """13 steps, 4 to an epoch; `at` counts from 0. The published form: running means of w and of w^2."""
    method, seen = swag(start=start, per_epoch=per_epoch, members=2), []
    method.learn(Stage(6), walk(seen, 13, 4))
    assert method.collected == len(at)
    for name in seen[0]:
        points = torch.stack([seen[step][name] for step in at]).double()
        mean, square = points.mean(0), points.square().mean(0)
        torch.testing.assert_close(method.moments[f"mean/{name}"].double(), mean, rtol=1e-5, atol=1e-5)
        spread = method.moments[f"spread/{name}"].double() / len(at)
        torch.testing.assert_close(spread, square - mean**2, rtol=1e-4, atol=1e-4)


@pytest.mark.sample(2)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_draws_have_the_mean_and_the_scaled_variance(scale: float) -> None:
    method, seen = swag(scale=scale, members=2, start=0), []
    method.learn(Stage(6), walk(seen, 12, 4))
    name, points = "hidden.0.weight", torch.stack([weights["hidden.0.weight"] for weights in seen])
    draws = torch.stack([method.sample(number)[name] for number in range(4000)])
    deviation = (scale * points.var(0, correction=0)).sqrt()
    assert ((draws.mean(0) - points.mean(0)).abs() <= 5 * deviation / 4000**0.5 + 1e-5).all()
    torch.testing.assert_close(draws.std(0), deviation, rtol=0.07, atol=1e-5)
    assert torch.equal(method.sample(1)[name], draws[1])  # named, not drawn in turn


def test_members_are_the_draws_and_before_the_end_the_net_answers() -> None:
    method, x = swag(members=3), torch.randn(4, 6)
    assert torch.equal(method.predict(x, Stage), method.net(x).softmax(-1)[None])
    method.learn(Stage(6), walk([], 12, 4))
    answers = method.predict(x, Stage)
    assert answers.shape == (3, 4, 3)
    net = MLP((6,), 3, widths=[5])
    for number in range(3):
        net.load_state_dict(method.sample(number))
        assert torch.equal(answers[number], net(x).softmax(-1))
    other = swag(members=3)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.predict(x, Stage), answers)
    other.moments["mean/head.bias"].add_(1.0)  # draws that were made are not kept when the moments change
    assert not torch.equal(other.predict(x, Stage), answers)


def test_every_members_norms_have_the_statistics_of_all_training_inputs() -> None:
    torch.manual_seed(0)
    net, stage = ResNet((3, 8, 8), 3, base=4, blocks=[1, 1]), Stage(3, 8, 8, rows=24)
    method = SWAG(net, members=2, start=0)
    method.learn(stage, walk([], 8, 4))
    before = {name: b.clone() for name, b in net.named_buffers()}
    modes = [module.training for module in net.modules()]
    for number in range(2):
        plain = ResNet((3, 8, 8), 3, base=4, blocks=[1, 1])
        plain.load_state_dict(method.sample(number), strict=False)
        seen = []
        plain.norm.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # one batch holds all rows here
        plain.train()(stage.train.tensors()[0])
        mine = method.member(number)
        torch.testing.assert_close(mine["norm.running_mean"], seen[0].mean((0, 2, 3)))
        buffers = {name: value for name, value in plain.named_buffers() if not name.endswith("gain")}
        assert len(buffers) == 3 * 6
        for name, value in buffers.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-5, atol=1e-5)
    renewed(net, method.sample(0), stage)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert modes == [module.training for module in net.modules()]


def test_it_keeps_two_moments_of_each_weight() -> None:
    method = swag()
    assert method.memory()["shared"] == 2 * 4 * sum(p.numel() for p in method.net.parameters())


@pytest.mark.parametrize("knobs, words", [({"members": 0}, "members"), ({"start": 1.0}, "start"), ({"scale": -1}, "scale")])
def test_wrong_knobs_are_refused_in_words(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=f"method.{words}="):
        swag(**knobs)
