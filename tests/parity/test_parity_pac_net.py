"""PAC-Net against the paper's three steps, written out in float64: who stays, the penalty, one step of the target."""

import torch
from torch import nn

from maskbench.methods.transfer.pac_net import PacNet


def pac(ratio: float = 0.8, lam: float = 0.01) -> PacNet:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    steps = {"prune": {"ratio": ratio, "scope": "global", "criterion": "magnitude"}, "allocate": {"share": 0.5}}
    return PacNet(net, **steps, calibrate={"lam": lam, "reset": "zero"}).double()


def test_the_largest_of_the_whole_net_stay() -> None:
    method = pac()
    method.prune()
    magnitudes = torch.cat([w.detach().abs().flatten() for w in method.trunk.values()])
    kept = torch.cat([method.ledger.alive[name].flatten() for name in method.trunk]).bool()
    assert int(kept.sum()) == 56 - round(0.8 * 56)
    assert magnitudes[kept].min() > magnitudes[~kept].max()


def test_target_loss_gradient_and_one_step(stage) -> None:
    """L_T(w) + lam sum (1 - m) w^2, a plain sum without a half; what the source keeps does not move."""
    method = pac(lam=0.3)
    method.prune()
    names = list(method.trunk)
    masks = {name: method.ledger.alive[name].clone() for name in names}
    source = {name: w.detach() * masks[name] for name, w in method.trunk.items()}
    method.stage, method.dense = 1, False
    method.ledger.claim(method.trunk, 0)
    method.ledger.open(method.trunk, 1, method.refill)
    assert all(not w.any() for w in method.trunk.values()), "the free weights start from zero"
    for w in method.trunk.values():
        w.data.normal_(std=0.1)
    free = {name: (w.detach() * (1 - masks[name])).requires_grad_() for name, w in method.trunk.items()}
    bias = [method.net[0].bias.detach(), method.net[2].bias.detach()]
    x, y = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    w0, w1 = (source[name] + free[name] for name in names)
    logits = (x @ w0.T + bias[0]).tanh() @ w1.T + bias[1]
    expected = -logits.log_softmax(-1)[range(6), y].mean() + 0.3 * sum((w**2).sum() for w in free.values())
    loss = method.loss((x, y), stage(index=1))
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    slopes = torch.autograd.grad(expected, list(free.values()))
    loss.backward()
    torch.optim.SGD(method.trainable_parameters(), lr=0.1).step()
    for name, slope in zip(names, slopes, strict=True):
        after = method.ledger.present(method.trunk)[name].detach()
        torch.testing.assert_close(
            after, source[name] + (free[name].detach() - 0.1 * slope) * (1 - masks[name]), rtol=0, atol=1e-12
        )
        assert torch.equal(after * masks[name], source[name])
