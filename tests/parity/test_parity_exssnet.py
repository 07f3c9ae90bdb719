"""ExSSNeT against its authors' two training functions: masks, what of them is exclusive, scores and weights after two stages."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench.methods.continual.exssnet import ExSSNeT, told_by_neighbours

NAMES = {"a": "a.weight", "b": "head.weight"}


def exclusive(frozen: dict[str, Tensor]) -> ExSSNeT:
    layers = {
        "a": nn.Conv2d(6, 8, 1, bias=False),
        "relu": nn.ReLU(),
        "head": nn.Conv2d(8, 5, 1, bias=False),
        "flat": nn.Flatten(),
    }
    net = nn.Sequential(OrderedDict(layers))
    for letter, name in NAMES.items():
        net.get_parameter(name).data.copy_(frozen[f"w0_{letter}"])
    return ExSSNeT(net, keep=0.3)


def test_two_stages_learn_as_by_the_authors_functions(frozen, stage) -> None:
    method = exclusive(frozen)

    def fit(method: ExSSNeT, stage, **phase: object) -> None:
        number = stage.index
        for letter, name in NAMES.items():
            if not phase:
                method.score(name).data.copy_(frozen[f"scores_{number}_{letter}"])
            else:
                assert torch.equal(method.alive[name].bool(), frozen[f"own_{number}_{letter}"].bool())
        optimizer = torch.optim.Adam(method.trainable_parameters(), lr=0.05)
        for x, y in zip(frozen[f"x_{number}"], frozen[f"y_{number}"], strict=True):
            optimizer.zero_grad()
            F.cross_entropy(method.logits(x, stage), y).backward()
            optimizer.step()

    for number in range(2):
        method.learn(stage(index=number, total=2), fit)
        drawn = method.bank.read(number)
        for letter, name in NAMES.items():
            assert torch.equal(drawn[name], frozen[f"mask_{number}_{letter}"].bool())
            torch.testing.assert_close(method.score(name).detach(), frozen[f"learnt_{number}_{letter}"])
            torch.testing.assert_close(method.w[name].detach(), frozen[f"w_{number}_{letter}"])
    for number in range(2):
        answer = method.logits(frozen["x_0"][0], stage(index=number, total=2)).detach()
        torch.testing.assert_close(answer, frozen[f"out_{number}"])


def test_neighbours_tell_what_the_authors_do(frozen) -> None:
    features, y, told = frozen["features"], frozen["classes"], frozen["told"]
    right = (told == y[-len(told) :]).double().mean().item()
    assert 0.5 < right < 1 and told_by_neighbours(features, y) == right
