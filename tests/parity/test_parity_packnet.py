"""PackNet against its authors' pruner: owners after a stage, ties at the cut, two masked steps, the finished stage's answer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench import masks
from maskbench.methods.continual.packnet import PackNet


def packed(frozen: dict[str, Tensor]) -> PackNet:
    net = nn.Sequential(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 6))
    for number, name in ((0, "a"), (2, "b")):
        net[number].weight.data.copy_(frozen[f"w0_{name}"])
        net[number].bias.data.copy_(frozen[f"bias_{name}"])
    return PackNet(net, prune=[0.5, 0.75], head="packed")


def shrink(method: PackNet, share: float) -> None:
    for name, w in method.trunk.items():
        alive = method.ledger.alive[name]
        alive.copy_(masks.prune(w, alive.bool(), share))


def test_two_stages_are_owned_as_by_the_authors_pruner(frozen, stage) -> None:
    method = packed(frozen)
    weights = dict(zip("ab", method.trunk, strict=True))
    method.ledger.open(method.trunk, 0)
    shrink(method, 0.5)
    method.ledger.claim(method.trunk, 0)
    for letter, name in weights.items():
        assert torch.equal(method.ledger.owner[name].long(), frozen[f"owner0_{letter}"].long())
    method.stage = 1
    method.ledger.open(method.trunk, 1)
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(method.logits(frozen["x"], stage(index=1)), frozen["y"]).backward()
        optimizer.step()
    for letter, name in weights.items():
        torch.testing.assert_close(method.ledger.present(method.trunk)[name].detach(), frozen[f"w1_{letter}"])
    shrink(method, 0.75)
    method.ledger.claim(method.trunk, 1)
    for letter, name in weights.items():
        assert torch.equal(method.ledger.owner[name].long(), frozen[f"owner1_{letter}"].long())
        torch.testing.assert_close(method.ledger.finished(1)[name], frozen[f"pruned1_{letter}"])
    torch.testing.assert_close(method.logits(frozen["x"], stage(index=0)).detach(), frozen["out_first"])


def test_biases_move_in_the_first_stage_only(frozen) -> None:
    method = packed(frozen)
    first = len(list(method.trainable_parameters()))
    method.stage = 1
    assert (first, len(list(method.trainable_parameters()))) == (4, 2)


def test_norm_statistics_stand_still_after_the_first_stage() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    method = PackNet(net, prune=[0.5], head="packed")
    x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    method.train().net(x)
    learnt = net[1].running_mean.clone()
    assert not torch.equal(learnt, torch.zeros(3))
    method.stage = 1
    method.train().net(x)
    assert torch.equal(net[1].running_mean, learnt)
