"""Nets that train as one: net by net, weights and moments are those of the net alone, under each optimiser that is taken."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskbench.common.streams import generator
from maskbench.masks.kernels import Pattern, SparseWeight
from maskbench.training.losses import label_smoothing
from maskbench.training.optimizers import moments
from maskbench.training.stand_in import call
from maskbench.training.wide import ELEMENTWISE, Own, Wide, each

NETS, BATCH, STEPS = 3, 7, 12


class Alone:
    """A net that trains under a mask: its first layer by kept values, its second as w * m, its last without a mask."""

    def __init__(self, seed: int, kind: type, options: dict) -> None:
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
        shapes = {name: self.net.get_parameter(name).shape for name in ("0.weight", "2.weight")}
        self.masks = {name: torch.rand(shape) < 0.3 + 0.1 * seed for name, shape in shapes.items()}
        for name, mask in self.masks.items():
            self.net.get_parameter(name).data *= mask
        self.pattern = Pattern.of(self.masks["0.weight"])
        self.kept = nn.Parameter(self.pattern.gather(self.net.get_parameter("0.weight")).detach())
        rest = [p for name, p in self.net.named_parameters() if name != "0.weight"]
        self.optimizer = kind([self.kept, *rest], **options)
        self.own = Own(self.net, self.stands_in(), self.masks)
        self.rows = torch.randn(STEPS, BATCH, 9), torch.randint(4, (STEPS, BATCH))

    def stands_in(self) -> dict[str, Tensor]:
        w = self.net.get_parameter("2.weight")
        return {"0.weight": SparseWeight(self.kept, self.pattern), "2.weight": w * self.masks["2.weight"]}

    def train(self, first: int, last: int) -> None:
        for x, y in zip(*(rows[first:last] for rows in self.rows), strict=True):
            self.optimizer.zero_grad()
            functional.cross_entropy(call(self.net, self.stands_in(), x), y).backward()
            self.optimizer.step()


def train_together(nets: list[Alone], kind: type, options: dict, first: int, last: int) -> None:
    wide = Wide(nets[0].net, [one.own.part(one.optimizer) for one in nets], lambda params: kind(params, **options))
    for step in range(first, last):
        x = torch.cat([one.rows[0][step] for one in nets], 1)
        wide.step(x, torch.stack([one.rows[1][step] for one in nets], 1), functional.cross_entropy, options["lr"])
    for one, (values, past) in zip(nets, wide.parts(), strict=True):
        one.own.take(values, past, one.optimizer)


OPTIONS = {
    torch.optim.SGD: {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    torch.optim.Adam: {"weight_decay": 0.01, "fused": True},
    torch.optim.RMSprop: {"momentum": 0.5},
}


@pytest.mark.parametrize("kind", sorted(ELEMENTWISE, key=lambda kind: kind.__name__))
def test_weights_and_moments_are_those_of_the_nets_alone(kind: type) -> None:
    """Also where they trained alone before, come together, and go on alone."""
    options = {"lr": 0.01} | OPTIONS.get(kind, {})
    alone, together = ([Alone(seed, kind, options) for seed in range(NETS)] for _ in range(2))
    for one in alone:
        one.train(0, STEPS)
    for one in together:
        one.train(0, 3)
    train_together(together, kind, options, 3, 6)
    train_together(together[1:], kind, options, 6, 9)
    together[0].train(6, 9)
    for one in together:
        one.train(9, STEPS)
    for a, b in zip(alone, together, strict=True):
        held = [*zip([a.kept, *a.net.parameters()], [b.kept, *b.net.parameters()], strict=True)]
        for p, q in held:
            torch.testing.assert_close(q, p, rtol=1e-5, atol=1e-6)
            assert len([*moments(a.optimizer, p)]) == len([*moments(b.optimizer, q)])
            for m, n in zip(moments(a.optimizer, p), moments(b.optimizer, q), strict=True):
                torch.testing.assert_close(n, m, rtol=1e-5, atol=1e-6)
        dead = ~b.masks["2.weight"]
        assert not b.net.get_parameter("2.weight")[dead].any()
        assert not any(m[dead].any() for m in moments(b.optimizer, b.net.get_parameter("2.weight")))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_each_nets_own(smoothing: float) -> None:
    outputs, y = torch.randn(5, 3, 4, generator=generator("o")), torch.randint(4, (5, 3), generator=generator("y"))
    criterion = (lambda o, t: label_smoothing(o, t, smoothing=smoothing)) if smoothing else functional.cross_entropy
    expected = torch.stack([criterion(outputs[:, net], y[:, net]) for net in range(3)])
    torch.testing.assert_close(each(criterion, outputs, y), expected)
    squared = each(functional.mse_loss, outputs, outputs + 2)
    torch.testing.assert_close(squared, torch.full((3,), 4.0))
